"""Appendix B: the same networks without skip connections, CIFAR-100, beside those with them."""

from pathlib import Path

from onebit.report.reproduction import NO_NUMBER, Experiment, Row, main

EXPERIMENT = Experiment(
    name="plain",
    title="Appendix B: plain networks, CIFAR-100",
    picture="curves",
    rows=(
        Row("plain-cifar100-20-4-float", NO_NUMBER),
        Row("plain-cifar100-20-4-1bit", NO_NUMBER),
        Row("plain-cifar100-26-4-float", NO_NUMBER),
        Row("plain-cifar100-26-4-1bit", NO_NUMBER),
        Row("cifar100-20-4-float", 21.53, label="with skip connections: 20-4, 32-bit weights"),
        Row("cifar100-20-4-1bit", 23.87, label="with skip connections: 20-4, 1-bit weights"),
    ),
)

if __name__ == "__main__":
    raise SystemExit(main(EXPERIMENT, Path(__file__).resolve().parent))
