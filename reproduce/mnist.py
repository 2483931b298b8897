"""The MNIST line: test error after each of the first cycles, without augmentation."""

from pathlib import Path

from onebit.report.reproduction import Experiment, Row, main

EXPERIMENT = Experiment(
    name="mnist",
    title="MNIST without augmentation",
    rows=(
        Row("mnist-20-4-float", 0.28, label="20-4, 32-bit weights"),
        Row("mnist-20-4-float", 0.71, label="20-4, 32-bit weights, after 1 epoch", after=1),
        Row("mnist-20-4-1bit", 0.27, label="20-4, 1-bit weights"),
        Row("mnist-20-4-1bit", 0.36, label="20-4, 1-bit weights, after 6 epochs", after=6),
        Row("mnist-20-4-1bit", 0.81, label="20-4, 1-bit weights, after 1 epoch", after=1),
        # What a CPU can train.
        Row("mnist-20-1-float", label="20-1, 32-bit weights"),
        Row("mnist-20-1-1bit", label="20-1, 1-bit weights"),
        Row("mnist-20-1-1bit", label="20-1, 1-bit weights, after 6 epochs", after=6),
        Row("mnist-20-1-1bit", label="20-1, 1-bit weights, after 1 epoch", after=1),
    ),
    note="After 1 and 6 epochs: from the metrics of the longer run, with running batch-norm moments.",
)

if __name__ == "__main__":
    raise SystemExit(main(EXPERIMENT, Path(__file__).resolve().parent))
