"""One engine with one network in one process, to be measured in turn with others.

    python benchmarks/peers/worker.py ENGINE MODEL.onebit BATCH THREADS [--isa ISA] [--cpus 1] [--folder FOLDER] [--loads N]

ENGINE: onebit, reference, openvino, openvino-int8, ort, ort-int8, torch, torch-bf16, torch-int8. Peers read FOLDER, which
prepare.py made. One JSON line tells that the engine is ready, with its load time and memory; then every line read is a
number of seconds to compute for, and every line written the calls' times. Ends with its input.

Memory is the peak of this process after ten pictures, less what it was after `import numpy`: VmHWM rather than ru_maxrss,
because that begins with the parent's. Before and after a slice a burst of vector additions in L1 is timed: slices with a
slow burst shared their core with somebody.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

# What limits a peer: oneDNN (OpenVINO, torch) and ATen read these. ONNX Runtime's own kernels cannot be limited.
LIMITS = {
    "avx2": {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"},
    "avx512vnni": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI", "ATEN_CPU_CAPABILITY": "avx512"},
}

HERE = Path(__file__).resolve().parent
Run = Callable[[Any], Any]


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine")
    parser.add_argument("model", type=Path)
    parser.add_argument("batch", type=int)
    parser.add_argument("threads", type=int)
    parser.add_argument("--isa", help="onebit: any of its own; peers: avx2 or avx512vnni; default: the best")
    parser.add_argument("--cpus", default="", help="pin to these, as 0,1")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--loads", type=int, default=1, help="load so often, and give the median")
    return parser.parse_args()


def onebit(o: argparse.Namespace) -> tuple[Run, Any]:
    import onebit  # as installed: the library lies there

    model = onebit.load(o.model, isa=o.isa, threads=o.threads)
    if not model.engine:
        raise SystemExit("the engine is not installed")
    return model.integers, {"isa": model.engine.isa, **Counter(layer.kernel for layer in model.engine.layers)}


def reference(o: argparse.Namespace) -> tuple[Run, Any]:
    sys.path.insert(0, str(HERE.parent.parent / "src"))
    from onebit.packed import file, reference

    program = file.load(o.model).program
    return lambda images: reference.run(program, images), "numpy"


def openvino(o: argparse.Namespace) -> tuple[Run, Any]:
    import openvino as ov

    core = ov.Core()
    model = core.read_model(o.folder / ("openvino.xml" if o.engine == "openvino-int8" else "float.onnx"))
    shape = model.input(0).partial_shape
    model.reshape([o.batch, *(int(str(d)) for d in list(shape)[1:])])  # dynamic shapes are slower
    settings = {"INFERENCE_NUM_THREADS": o.threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
    if o.isa == "avx2":  # else it wants bfloat16, as on the CPU that it sees, and finds no kernel
        settings["INFERENCE_PRECISION_HINT"] = "f32"
    compiled = core.compile_model(model, "CPU", settings)
    kinds = ("Convolution", "FullyConnected", "Pooling")
    info = [op.get_rt_info() for op in compiled.get_runtime_model().get_ops()]
    texts = [(i["layerType"].astype(str), i["primitiveType"].astype(str)) for i in info]
    request = compiled.create_infer_request()
    return lambda x: request.infer([x], share_inputs=True, share_outputs=True), dict(
        Counter(f"{kind} {primitive}" for kind, primitive in texts if kind in kinds)
    )


def ort(o: argparse.Namespace) -> tuple[Run, Any]:
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads, settings.inter_op_num_threads = o.threads, 1
    settings.add_free_dimension_override_by_name("N", o.batch)
    model = o.folder / ("int8.onnx" if o.engine == "ort-int8" else "float.onnx")
    session = onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {"x": x}), "not limited, not told"


def torch(o: argparse.Namespace) -> tuple[Run, Any]:
    sys.path.insert(0, str(HERE.parent.parent / "src"))
    import torch
    from network import layers
    from to_torch import Network

    from onebit.packed import file

    torch.set_num_threads(o.threads)
    program = file.load(o.model).program
    net = Network(layers(program)).eval()
    example = torch.zeros(o.batch, *program.input.shape).contiguous(memory_format=torch.channels_last)
    dtype = torch.bfloat16 if o.engine == "torch-bf16" else torch.float32
    int8 = o.engine == "torch-int8"
    net = torch_int8(net, example) if int8 else net.to(dtype).to(memory_format=torch.channels_last)

    def run(x: Any) -> Any:
        with torch.no_grad():
            return net(torch.from_numpy(x).to(dtype).contiguous(memory_format=torch.channels_last))

    return run, torch.backends.cpu.get_cpu_capability()


def torch_int8(net: Any, example: Any) -> Any:
    """PT2E with the quantizer for x86, compiled by inductor with frozen weights."""
    import torch
    from prepare import as_input, pictures
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    torch._inductor.config.freezing = True
    x = torch.from_numpy(as_input(pictures()))
    exported = torch.export.export(net, (example,)).module()
    quantizer = x86.X86InductorQuantizer().set_global(x86.get_default_x86_inductor_quantization_config())
    observed = prepare_pt2e(exported, quantizer)
    with torch.no_grad():
        for part in x.split(len(example)):
            if len(part) == len(example):
                observed(part)
        compiled = torch.compile(convert_pt2e(observed))
        compiled(example)
    return compiled


ENGINES = {
    "onebit": onebit, "reference": reference, "openvino": openvino, "openvino-int8": openvino, "ort": ort, "ort-int8": ort,
    "torch": torch, "torch-bf16": torch, "torch-int8": torch,
}  # fmt: skip


def peak() -> float:
    """MB."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def main() -> None:
    o = options()
    if o.cpus:
        os.sched_setaffinity(0, {int(c) for c in o.cpus.split(",")})
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(o.threads)
    if o.engine not in ("onebit", "reference") and o.isa:
        os.environ.update(LIMITS[o.isa])
    out, sys.stdout = sys.stdout, sys.stderr  # what engines print is no answer
    warnings.simplefilter("ignore")
    sys.path.insert(0, str(HERE))
    import numpy as np

    bare = peak()
    images = np.load(HERE.parent.parent / "tests" / "golden" / "cifar10-test-64.npy")[: o.batch]
    ours = o.engine in ("onebit", "reference")
    x = images if ours else np.ascontiguousarray(images.transpose(0, 3, 1, 2), np.float32)
    begun = time.perf_counter()
    run, kernels = ENGINES[o.engine](o)
    loads = [time.perf_counter() - begun]  # the first has the imports in it
    begun = time.perf_counter()
    for _ in range(-(-10 // o.batch)):
        run(x)
    first = time.perf_counter() - begun
    memory = peak() - bare
    for _ in range(o.loads - 1):
        begun = time.perf_counter()
        ENGINES[o.engine](o)
        loads.append(time.perf_counter() - begun)
    a, b = np.ones((2, 4096), np.int16)

    def burst() -> float:
        begun = time.perf_counter()
        for _ in range(2000):
            np.add(a, b, out=a)
        return time.perf_counter() - begun

    def say(**facts: Any) -> None:
        print(json.dumps(facts), file=out, flush=True)

    say(
        engine=o.engine, isa=o.isa, batch=o.batch, threads=o.threads, kernels=kernels, import_and_load_s=loads[0],
        load_s=statistics.median(loads[1:]) if loads[1:] else None, loads=len(loads) - 1, ten_pictures_s=first,
        memory_mb=memory,
    )  # fmt: skip
    for line in sys.stdin:
        seconds, wall, cpu = float(line), [], []
        before = burst()
        end = time.perf_counter() + seconds
        while not wall or time.perf_counter() < end:
            c, t = time.process_time(), time.perf_counter()
            run(x)
            wall.append(time.perf_counter() - t)
            cpu.append(time.process_time() - c)
        say(
            calls=len(wall), wall=statistics.median(wall), best=min(wall), cpu=statistics.median(cpu),
            total_wall=sum(wall), total_cpu=sum(cpu), bursts=[before, burst()],
        )  # fmt: skip


if __name__ == "__main__":
    main()
