"""Test error by epoch: 1-bit beside 32-bit weights, ours and the author's (his with cutout)."""

from pathlib import Path

from onebit.report.reproduction import Experiment, Row, main

EXPERIMENT = Experiment(
    name="curves",
    title="Test error by epoch: 1-bit (solid) and 32-bit weights (dashed)",
    picture="curves",
    author=(
        "cifar10-float-keras",
        "cifar10-1bit-keras",
        "cifar10-1bit-matlab",
        "cifar100-float-keras",
        "cifar100-1bit-keras",
        "cifar100-1bit-matlab",
    ),
    rows=(
        Row("cifar10-20-10-cutout-float", 3.46, author=("cifar10-float-keras",)),
        Row("cifar10-20-10-cutout-1bit", 3.92, author=("cifar10-1bit-keras", "cifar10-1bit-matlab")),
        Row("cifar100-20-10-cutout-float", 17.19, author=("cifar100-float-keras",)),
        Row("cifar100-20-10-cutout-1bit", 18.51, author=("cifar100-1bit-keras", "cifar100-1bit-matlab")),
        # What a CPU can train.
        Row("cifar10-20-1-float", label="CIFAR-10, 20-1, 32-bit weights, no cutout"),
        Row("cifar10-20-1-1bit", label="CIFAR-10, 20-1, 1-bit weights, no cutout"),
        Row("cifar10-20-1-cutout-float"),
        Row("cifar10-20-1-cutout-1bit"),
        Row("cifar10-14-1-cutout-1bit"),
        Row("cifar10-20-1.5-cutout-1bit"),
        Row("cifar10-20-2-cutout-float"),
        Row("cifar10-20-2-cutout-1bit"),
    ),
)

if __name__ == "__main__":
    raise SystemExit(main(EXPERIMENT, Path(__file__).resolve().parent))
