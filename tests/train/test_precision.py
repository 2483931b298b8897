from __future__ import annotations

import warnings

import pytest
import torch

from onebit.errors import OnebitError
from onebit.train import precision
from onebit.train.precision import autocast, native_bf16, resolve

CPU = torch.device("cpu")
AMX = "processor\t: 0\nmodel name\t: Xeon 8481C\nflags\t\t: fpu avx2 amx_bf16 avx512_bf16 amx_tile\n\nprocessor\t: 1\n"
AMX_ALONE = "flags\t\t: fpu avx2 amx_bf16 amx_tile\n"
ZEN4 = "processor\t: 0\nmodel name\t: AMD EPYC 9B14\nflags\t\t: fpu avx2 avx512f avx512_bf16 avx512_vnni\n"
AVX2 = "processor\t: 0\nmodel name\t: AMD EPYC 7763\nflags\t\t: fpu avx2 fma\nbugs\t\t: amx_bf16\n"
ARM = "processor\t: 0\nBogoMIPS\t: 50.00\nFeatures\t: fp asimd bf16 i8mm\n"


@pytest.mark.parametrize(
    ("info", "with_tiles", "without"),
    [(AMX, "amx", "avx512"), (ZEN4, "avx512", "avx512"), (AVX2, "", ""), (ARM, "", ""), ("", "", "")],
)
def test_the_unit_is_read_from_the_flags(info: str, with_tiles: str, without: str) -> None:
    assert native_bf16(info, {}, tile=True) == with_tiles
    assert native_bf16(info, {}, tile=False) == without


@pytest.mark.parametrize(
    ("isa", "amx", "zen4"),
    [
        ("", "amx", "avx512"),
        ("ALL", "amx", "avx512"),
        ("DEFAULT", "amx", "avx512"),
        ("AVX512_CORE_AMX", "amx", "avx512"),
        ("avx10_1_512_amx_fp16", "amx", "avx512"),
        ("AVX512_CORE_BF16", "avx512", "avx512"),
        ("AVX2", "", ""),
        ("SSE41", "", ""),
        ("avx2_vnni_2", "", ""),
        ("avx512_core_vnni", "", ""),
    ],
)
def test_onednn_may_be_held_to_less(isa: str, amx: str, zen4: str) -> None:
    for variable in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
        assert native_bf16(AMX, {variable: isa}, tile=True) == amx
        assert native_bf16(ZEN4, {variable: isa}, tile=False) == zen4


def test_torch_is_asked_for_the_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    for answer in (True, False):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda answer=answer: answer, raising=False)
        assert native_bf16(AMX_ALONE, {}) == ("amx" if answer else "")
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported", raising=False)
    assert native_bf16(AMX_ALONE, {}) == "amx"
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert native_bf16(AMX_ALONE, {}) == ""


@pytest.mark.parametrize(("info", "expected"), [(AMX, "bf16"), (ZEN4, "bf16"), (AVX2, "float32"), ("", "float32")])
def test_auto_follows_the_hardware(info: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "cpuinfo", lambda: info)
    monkeypatch.setattr(precision, "_tile_granted", lambda: True)
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    monkeypatch.delenv("DNNL_MAX_CPU_ISA", raising=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert resolve("auto", CPU) == expected
        assert resolve("float32", CPU) == "float32"
    assert resolve("auto", torch.device("mps")) == "float32"


def test_bf16_without_hardware_warns_and_obeys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "cpuinfo", lambda: AVX2)
    with pytest.warns(UserWarning, match=r"AMD EPYC 7763 .* ten times"):
        assert resolve("bf16", CPU) == "bf16"


@pytest.mark.parametrize(
    ("capability", "expected"), [((7, 5), "float32"), ((8, 0), "bf16"), ((9, 0), "bf16"), ((12, 0), "bf16")]
)
def test_cuda_needs_compute_capability_8(
    capability: tuple[int, int], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.version, "hip", None)
    assert resolve("auto", torch.device("cuda")) == expected


def test_autocast_computes_in_the_precision() -> None:
    a = torch.ones(4, 4)
    with autocast("float32", CPU):
        assert (a @ a).dtype == torch.float32
    with autocast("bf16", CPU):
        assert (a @ a).dtype == torch.bfloat16
    assert (a @ a).dtype == torch.float32


def test_wrong_words_are_refused() -> None:
    with pytest.raises(OnebitError, match=r"training.precision: 'bf61' .* did you mean 'bf16'"):
        resolve("bf61", CPU)
    with pytest.raises(OnebitError, match=r"auto"):
        autocast("auto", CPU)
