"""What there is to export to, and what each target is for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """A target of `onebit export`; `weights` says what becomes of the bits there, `same` how far the logits are the model's."""

    name: str
    use: str
    makes: str
    weights: str
    same: str
    needs: str = ""
    page: str = ""


TARGETS = {
    target.name: target
    for target in (
        Target(
            "firmware",
            "microcontrollers: Cortex-M0+ to M55, RISC-V, anything with a C compiler",
            "a folder of C sources, with a Makefile and a self-test",
            "bits in flash, computed as bits",
            "to the last bit",
            page="docs/export-firmware.md",
        ),
        Target(
            "web",
            "a browser, offline: drop a picture, see classes",
            "a folder with one page, which opens from a disk too",
            "bits in the page, computed as bits (WebAssembly)",
            "to the last bit",
            page="docs/export-web.md",
        ),
        Target(
            "onnx",
            "ONNX Runtime, OpenVINO and whatever else reads ONNX; --int8 for their 8-bit kernels",
            "one file, weights packed in it",
            "bits in the file, unpacked in memory when it is loaded",
            "nearly: float32 leaves the rounding of activations out, --int8 rounds nearly as the model does",
            needs="onnx (pip install 'onebit[export]')",
            page="docs/export-onnx.md",
        ),
        Target(
            "qonnx",
            "FPGA and ASIC flows that read QONNX: FINN, hls4ml",
            "one file, BipolarQuant weights and Quant activations",
            "+1 and -1 as float32, marked as one bit",
            "the model's integers, as real numbers",
            needs="onnx (pip install 'onebit[export]')",
            page="docs/export-qonnx.md",
        ),
    )
}
