from __future__ import annotations

from onebit.machine import cpu_model

AVX2 = "processor\t: 0\nmodel name\t: AMD EPYC 7763\nflags\t\t: fpu avx2 fma\nbugs\t\t: amx_bf16\n"
ARM = "processor\t: 0\nBogoMIPS\t: 50.00\nFeatures\t: fp asimd bf16 i8mm\n"


def test_cpu_model_is_never_empty() -> None:
    assert cpu_model(AVX2) == "AMD EPYC 7763"
    assert cpu_model("cpu family : 6\nmodel : 143\nmodel name : Xeon") == "Xeon (family 6, model 143)"
    assert cpu_model("Model : Raspberry Pi 4 Model B Rev 1.4\n") == "Raspberry Pi 4 Model B Rev 1.4"
    assert cpu_model(ARM) and cpu_model("") and cpu_model()
