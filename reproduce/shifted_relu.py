"""The follow-up of 2019 (arXiv 1907.06916): shifted ReLU in place of batch-norm, 20-10 with cutout."""

from pathlib import Path

from onebit.report.reproduction import Experiment, Row, main

EXPERIMENT = Experiment(
    name="shifted_relu",
    title="Shifted ReLU in place of batch-norm (2019), 20-10 with cutout",
    picture="curves",
    author=(
        "cifar10-shifted-float-keras",
        "cifar10-shifted-1bit-keras",
        "cifar100-shifted-float-keras",
        "cifar100-shifted-1bit-keras",
    ),
    rows=(
        Row("shifted-relu-cifar10-20-10-float", 4.34, author=("cifar10-shifted-float-keras",)),
        Row("shifted-relu-cifar10-20-10-1bit", 3.48, author=("cifar10-shifted-1bit-keras",)),
        Row("shifted-relu-cifar100-20-10-float", 20.63, author=("cifar100-shifted-float-keras",)),
        Row("shifted-relu-cifar100-20-10-1bit", 21.59, author=("cifar100-shifted-1bit-keras",)),
    ),
    note="The numbers under `paper` are those of the author's notebooks.",
)

if __name__ == "__main__":
    raise SystemExit(main(EXPERIMENT, Path(__file__).resolve().parent))
