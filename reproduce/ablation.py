"""Figure 6: warm restarts on and off, batch-norm learned and not, on CIFAR-100."""

from pathlib import Path

from onebit.report.reproduction import NO_NUMBER, Experiment, Row, main

EXPERIMENT = Experiment(
    name="ablation",
    title="Figure 6: warm restarts and learned batch-norm, CIFAR-100, 20-4",
    picture="curves",
    panels="weights",
    rows=tuple(
        Row(f"ablation-cifar100-{schedule}-{norm}-{weights}", NO_NUMBER)
        for weights in ("float", "1bit")
        for schedule in ("restarts", "steps")
        for norm in ("fixed", "learned")
    ),
    note="Without restarts (steps) the learning rate is 0.1, then 0.01 after 85 epochs and 0.001 after 170.",
)

if __name__ == "__main__":
    raise SystemExit(main(EXPERIMENT, Path(__file__).resolve().parent))
