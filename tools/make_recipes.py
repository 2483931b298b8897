"""Write the recipe files of the paper's tables and ablations (src/onebit/recipes/); tests check that they are current.

python tools/make_recipes.py
"""

from __future__ import annotations

from pathlib import Path

TARGET = Path(__file__).resolve().parent.parent / "src" / "onebit" / "recipes"
KINDS = {"float": "32-bit weights", "1bit": "1-bit weights"}

# weights, network, epochs, {data: error %}: table 1. "++" is with cutout.
TABLE_1 = [
    ("float", (20, 4), 126, {"C10+": 5.02, "C100+": 21.53, "C10++": 4.39, "C100++": 20.48}),
    ("float", (20, 10), 254, {"C10+": 4.22, "C100+": 18.76, "C10++": 3.46, "C100++": 17.19}),
    ("float", (26, 10), 254, {"C10+": 4.23, "C100+": 18.63, "C10++": 3.54, "C100++": 17.22}),
    ("float", (20, 20), 126, {"C100+": 18.14}),
    ("1bit", (20, 4), 126, {"C10+": 6.13, "C100+": 23.87, "C10++": 5.34, "C100++": 23.74}),
    ("1bit", (20, 10), 254, {"C10+": 4.72, "C100+": 19.35, "C10++": 3.92, "C100++": 18.51}),
    ("1bit", (26, 10), 254, {"C10+": 4.46, "C100+": 18.94, "C10++": 3.41, "C100++": 18.50}),
    ("1bit", (20, 20), 126, {"C100+": 18.81}),
]
# weights, depth, width, epochs, top-1, top-5: ImageNet32 of table 2.
IMAGENET32 = [
    ("float", 20, 4, 30, 46.61, 22.91),
    ("float", 20, 10, 30, 39.96, 17.89),
    ("float", 20, 15, 30, 38.90, 17.03),
    ("1bit", 20, 4, 30, 56.08, 30.88),
    ("1bit", 20, 10, 30, 44.27, 21.09),
    ("1bit", 26, 10, 62, 41.36, 18.93),
    ("1bit", 20, 15, 30, 41.26, 19.08),
]


def recipe(comment: str, title: str, base: str, tables: dict[str, dict[str, object]]) -> str:
    """One file: comment, title, base and the fields that differ."""

    def value(v: object) -> str:
        return str(v).lower() if isinstance(v, bool) else f'"{v}"' if isinstance(v, str) else str(v)

    lines = [f"# {comment}", f'title = "{title}"', f'base = "{base}"']
    for table, fields in tables.items():
        if fields:
            lines += ["", f"[{table}]", *(f"{k} = {value(v)}" for k, v in fields.items())]
    return "\n".join(lines) + "\n"


def all_recipes() -> dict[str, str]:
    """File stem -> text."""
    files: dict[str, str] = {}
    for kind, (depth, width), epochs, row in TABLE_1:
        for column, error in row.items():
            data, cutout = ("cifar10" if column.startswith("C10+") else "cifar100"), column.endswith("++")
            name = f"{data}-{depth}-{width}{'-cutout' if cutout else ''}-{kind}"
            text = f"{'CIFAR-10' if data == 'cifar10' else 'CIFAR-100'}, {depth}-{width}, {KINDS[kind]}{', cutout' if cutout else ''}"
            fields: dict[str, object] = {"name": data}
            if cutout:
                fields["cutout"] = 18
            files[name] = recipe(
                f'Table 1, column "{column}": {depth}-{width}, {KINDS[kind]}, {epochs} epochs, one run.', text, "_cifar",
                {
                    "published": {"where": f"table 1, {column}", "error": error},
                    "network": {"depth": depth, "width": width, "weights": kind},
                    "data": fields,
                    "training": {"epochs": epochs},
                },
            )  # fmt: skip
    for kind, depth, width, epochs, top1, top5 in IMAGENET32:
        files[f"imagenet32-{depth}-{width}-{kind}"] = recipe(
            f"Table 2: ImageNet32, {depth}-{width}, {KINDS[kind]}, {epochs} epochs; batch-norm learned, weight decay 1e-4.",
            f"ImageNet32, {depth}-{width}, {KINDS[kind]}", "_cifar",
            {
                "published": {"where": "table 2", "error": top1, "top5_error": top5},
                "network": {"depth": depth, "width": width, "weights": kind, "norm": "learned"},
                "data": {"name": "imagenet32"},
                "training": {"epochs": epochs, "weight_decay": 1e-4},
            },
        )  # fmt: skip
    for kind, error in (("float", 1.75), ("1bit", 1.93)):
        files[f"svhn-20-4-{kind}"] = recipe(
            f"Table 2: SVHN (train + extra), 20-4, {KINDS[kind]}, 30 epochs; shifted crops, no flip.",
            f"SVHN, 20-4, {KINDS[kind]}", "_cifar",
            {
                "published": {"where": "table 2", "error": error},
                "network": {"width": 4, "weights": kind},
                "data": {"name": "svhn", "flip": False},
                "training": {"epochs": 30},
            },
        )  # fmt: skip
    for kind, single, single5, multi, multi5 in (
        ("float", 26.92, 9.20, 22.99, 6.91),
        ("1bit", 31.03, 11.51, 26.04, 8.48),
    ):
        files[f"imagenet-18-2.5-{kind}"] = recipe(
            f"Table 2: ImageNet, 18-2.5, {KINDS[kind]}, 62 epochs; error of one centre crop (of 25 crops: error_25).",
            f"ImageNet, 18-2.5, {KINDS[kind]}", "_cifar",
            {
                "published": {
                    "where": "table 2", "error": single, "top5_error": single5, "error_25": multi, "top5_error_25": multi5,
                },
                "network": {"family": "imagenet", "depth": 18, "width": 2.5, "weights": kind, "norm": "learned"},
                "data": {"name": "imagenet", "size": 224, "pad": 0},
                "training": {"epochs": 62, "weight_decay": 1e-4},
            },
        )  # fmt: skip
    for kind in KINDS:
        for restarts in (True, False):
            for learned in (True, False):
                name = f"ablation-cifar100-{'restarts' if restarts else 'steps'}-{'learned' if learned else 'fixed'}-{kind}"
                training: dict[str, object] = {"epochs": 254}
                if not restarts:
                    training |= {"schedule": "steps", "step_epochs": [85, 170]}
                files[name] = recipe(
                    f"Figure 6, CIFAR-100, 20-4: {'warm restarts' if restarts else 'lr 0.1, 0.01, 0.001 (drops after 85 and 170)'},"
                    f" batch-norm {'learned' if learned else 'not learned'}.",
                    f"Ablation: {'restarts' if restarts else 'steps'}, batch-norm {'learned' if learned else 'fixed'}, {KINDS[kind]}",
                    "_cifar",
                    {
                        "network": {"width": 4, "weights": kind, "norm": "learned" if learned else "fixed"},
                        "data": {"name": "cifar100"},
                        "training": training,
                    },
                )  # fmt: skip
    for scale in ("bwn-layer", "bwn-channel"):
        files[f"ablation-cifar100-{scale}"] = recipe(
            f"Section 5.2: the scale of BWN (mean |W| a {scale[4:]}, with its gradient) in place of the constant.",
            f"Ablation: {scale} scale, 20-4, CIFAR-100", "_cifar",
            {
                "network": {"width": 4, "scale": scale},
                "data": {"name": "cifar100"},
                "training": {"epochs": 126},
            },
        )  # fmt: skip
    for kind in KINDS:
        for depth in (20, 26):
            files[f"plain-cifar100-{depth}-4-{kind}"] = recipe(
                "Appendix B: no skip connections; initial deviation and scale 2 / sqrt(fan-in).",
                f"Plain network {depth}-4, CIFAR-100, {KINDS[kind]}", "_cifar",
                {
                    "network": {"family": "plain", "depth": depth, "width": 4, "weights": kind},
                    "data": {"name": "cifar100"},
                    "training": {"epochs": 126},
                },
            )  # fmt: skip
        for data, divisor, accuracy in (
            ("cifar10", 40.0 if kind == "1bit" else 80.0, 96.52 if kind == "1bit" else 95.66),
            ("cifar100", 25.0, 78.41 if kind == "1bit" else 79.37),
        ):
            files[f"shifted-relu-{data}-20-10-{kind}"] = recipe(
                "The 2019 follow-up (arXiv 1907.06916): max(-1, x) and no batch-norm but the input's; one cosine of 300 epochs.",
                f"Shifted ReLU 20-10, {data}, {KINDS[kind]}, cutout", "_cifar",
                {
                    "published": {"where": "author's notebooks, 2019", "error": round(100 - accuracy, 2)},
                    "network": {
                        "width": 10, "weights": kind, "norm": "none", "activation": "shifted-relu", "logit_divisor": divisor,
                        "padding": "bottom-right", "input_relu": False,
                    },
                    "data": {"name": data, "cutout": 18},
                    "training": {"epochs": 300, "schedule": "cosine", "lr_end": 1e-5},
                },
            )  # fmt: skip
    return files


if __name__ == "__main__":
    for stem, text in all_recipes().items():
        (TARGET / f"{stem}.toml").write_text(text, encoding="utf-8")
    print(f"{len(all_recipes())} recipes written")
