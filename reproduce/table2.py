"""Table 2: test error on SVHN, ImageNet32 and ImageNet, 1-bit against 32-bit weights."""

from pathlib import Path

from onebit.report.reproduction import Experiment, Row, main

EXPERIMENT = Experiment(
    name="table2",
    title="Table 2: SVHN, ImageNet32 and ImageNet",
    rows=(
        Row("svhn-20-4-float", 1.75),
        Row("svhn-20-4-1bit", 1.93),
        Row("imagenet32-20-4-float", 46.61, top5=22.91),
        Row("imagenet32-20-4-1bit", 56.08, top5=30.88),
        Row("imagenet32-20-10-float", 39.96, top5=17.89),
        Row("imagenet32-20-10-1bit", 44.27, top5=21.09),
        Row("imagenet32-20-15-float", 38.90, top5=17.03),
        Row("imagenet32-20-15-1bit", 41.26, top5=19.08),
        Row("imagenet32-26-10-1bit", 41.36, top5=18.93),
        Row("imagenet-18-2.5-float", 26.92, top5=9.20, label="ImageNet, 18-2.5, 32-bit weights, centre crop"),
        Row("imagenet-18-2.5-float", 22.99, top5=6.91, label="ImageNet, 18-2.5, 32-bit weights, 25 crops", crops="25"),
        Row("imagenet-18-2.5-1bit", 31.03, top5=11.51, label="ImageNet, 18-2.5, 1-bit weights, centre crop"),
        Row("imagenet-18-2.5-1bit", 26.04, top5=8.48, label="ImageNet, 18-2.5, 1-bit weights, 25 crops", crops="25"),
    ),
    note="Behind a stroke: top-5 error. SVHN trains on train + extra.",
)

if __name__ == "__main__":
    raise SystemExit(main(EXPERIMENT, Path(__file__).resolve().parent))
