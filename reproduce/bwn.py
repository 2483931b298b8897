"""Section 5.2: the scale of BWN (mean |W|, with its gradient) beside the constant scale, CIFAR-100, 20-4."""

from pathlib import Path

from onebit.report.reproduction import NO_NUMBER, Experiment, Row, main

EXPERIMENT = Experiment(
    name="bwn",
    title="Section 5.2: scales of BWN beside the constant scale, CIFAR-100, 20-4",
    picture="curves",
    rows=(
        Row("cifar100-20-4-1bit", 23.87, label="constant scale sqrt(2 / fan-in)"),
        Row("ablation-cifar100-bwn-layer", NO_NUMBER, label="BWN, mean |W| of a layer"),
        Row("ablation-cifar100-bwn-channel", NO_NUMBER, label="BWN, mean |W| of a channel"),
        Row("cifar100-20-4-float", 21.53, label="32-bit weights"),
    ),
)

if __name__ == "__main__":
    raise SystemExit(main(EXPERIMENT, Path(__file__).resolve().parent))
