"""Table 1: test error of wide residual networks on CIFAR-10 and CIFAR-100, 1-bit against 32-bit weights."""

from pathlib import Path

from onebit.report.reproduction import Experiment, Row, main

# + : flip and shifted crops; ++ : cutout too.
EXPERIMENT = Experiment(
    name="table1",
    title="Table 1: CIFAR-10 and CIFAR-100",
    rows=(
        Row("cifar10-20-4-float", 5.02),
        Row("cifar10-20-4-1bit", 6.13),
        Row("cifar10-20-10-float", 4.22),
        Row("cifar10-20-10-1bit", 4.72),
        Row("cifar10-26-10-float", 4.23),
        Row("cifar10-26-10-1bit", 4.46),
        Row("cifar10-20-4-cutout-float", 4.39),
        Row("cifar10-20-4-cutout-1bit", 5.34),
        Row("cifar10-20-10-cutout-float", 3.46, author=("cifar10-float-keras",)),
        Row("cifar10-20-10-cutout-1bit", 3.92, author=("cifar10-1bit-keras", "cifar10-1bit-matlab")),
        Row("cifar10-26-10-cutout-float", 3.54),
        Row("cifar10-26-10-cutout-1bit", 3.41),
        Row("cifar100-20-4-float", 21.53),
        Row("cifar100-20-4-1bit", 23.87),
        Row("cifar100-20-10-float", 18.76),
        Row("cifar100-20-10-1bit", 19.35),
        Row("cifar100-26-10-float", 18.63),
        Row("cifar100-26-10-1bit", 18.94),
        Row("cifar100-20-20-float", 18.14),
        Row("cifar100-20-20-1bit", 18.81),
        Row("cifar100-20-4-cutout-float", 20.48),
        Row("cifar100-20-4-cutout-1bit", 23.74),
        Row("cifar100-20-10-cutout-float", 17.19, author=("cifar100-float-keras",)),
        Row("cifar100-20-10-cutout-1bit", 18.51, author=("cifar100-1bit-keras", "cifar100-1bit-matlab")),
        Row("cifar100-26-10-cutout-float", 17.22),
        Row("cifar100-26-10-cutout-1bit", 18.50),
        # What a CPU can train.
        Row("cifar10-20-1-float"),
        Row("cifar10-20-1-1bit"),
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
