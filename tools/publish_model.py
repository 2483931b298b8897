"""Put the trained network of a run folder into the package, with its card.

    python tools/publish_model.py RUN NAME [--data DATA]

Packs RUN, runs the network in float32 and the packed one on all test pictures, and writes src/onebit/zoo/NAME.onebit and
NAME.json. The run must be published in results/ (tools/update_results.py), for its card names its log.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from onebit import __version__, zoo
from onebit import recipe as recipes
from onebit.cli.progress import counting
from onebit.examine.compare import logits_of, score
from onebit.examine.evaluate import open_split
from onebit.machine import cpu_model
from onebit.model import load
from onebit.report.tables import result, run_recipe
from onebit.train.evaluate import run_root
from onebit.train.pack import pack_run
from onebit.verify import verify

ROOT = Path(__file__).resolve().parent.parent
LICENCES = {
    "digits": "E. Alpaydin and C. Kaynak (UCI), CC BY 4.0",
    "mnist": "Y. LeCun, C. Cortes, C. Burges; CC BY-SA 3.0 as widely given; the publishers' page names no licence",
    "cifar10": "A. Krizhevsky, V. Nair, G. Hinton; no licence is published, free for research by custom",
    "cifar100": "A. Krizhevsky, V. Nair, G. Hinton; no licence is published, free for research by custom",
}
USES = {
    "digits": "demonstrations and tests: scanned digits of 8x8 pixels, light strokes on a dark ground",
    "mnist": "demonstrations and benchmarks: single handwritten digits, light strokes on a dark ground, cut out and centred as MNIST's are",
    "cifar10": "research, benchmarks, a start for fine-tuning: pictures that show one of the ten classes and little else",
}
LIMITS = {
    "digits": "knows ten digits and answers one of them whatever it is shown; trained on 1,437 pictures",
    "mnist": "knows ten digits and answers one of them whatever it is shown; not for forms, cheques or other decisions about people",
    "cifar10": "answers one of ten classes whatever it is shown; pictures are scaled to 32x32 pixels; photographs of other "
    "origin are harder than its test set; not for decisions about people or safety",
}


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("name")
@click.option(
    "--data", "root", type=click.Path(path_type=Path), help="Folder of the data sets. Default: the run's own."
)
def main(run: Path, name: str, root: Path | None) -> None:
    """Publish RUN as NAME."""
    if not (ROOT / "results" / run.name / "result.json").is_file():
        raise click.ClickException(f"results/{run.name} is missing: python tools/update_results.py {run}")
    file = zoo.FOLDER / f"{name}.onebit"
    root = root or run_root(run)
    count = pack_run(run, root=root).save(file)
    with counting(name) as progress:
        verdict = verify(run, file, root=root, progress=progress)
    if not verdict.good:
        raise click.ClickException(f"{name}: not verified, {verdict.facts()}")
    facts = card(run, file, count, verdict.comparison.facts(), root)
    (zoo.FOLDER / f"{name}.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    click.echo(json.dumps(facts, indent=1))


def card(run: Path, file: Path, count: int, compared: dict[str, Any], root: Path | None) -> dict[str, Any]:
    """What `onebit models NAME` prints."""
    model, trained, recipe = load(file), result(run), run_recipe(run)
    split, data, _ = open_split(model, file, None, root, None)
    tested = score(model, logits_of(model, split), split.labels)
    program = model.program
    where = "" if data == "digits" else " --data DATA"
    if trained["epochs"] != recipes.load(trained["recipe"]).training.epochs:
        where = f" --set epochs={trained['epochs']}{where}"
    return {
        "data": data,
        "classes": list(model.classes),
        "network": trained["label"],
        "recipe": trained["recipe"],
        "epochs": trained["epochs"],
        "seed": trained["seed"],
        "command": f"onebit train {trained['recipe']} --seed {trained['seed']}{where} --out {run.name}",
        "log": f"results/{run.name}",
        "test_pictures": compared["images"],
        "float_error": compared["float_error"],
        "packed_error": compared["packed_error"],
        "calibration_error": round(100 * tested.calibration, 2),
        "temperature": round(model.temperature, 4),
        "weights": sum(program.weights(op) for _, op in program.convolutions()),
        "bytes": count,
        "macs": sum(program.macs(i) for i in range(len(program.operations))),
        "microcontroller": microcontroller(model),
        "activations": f"{recipe.network.activation_bits if recipe.network.activation_bits < 32 else 8} bits",
        "data_licence": LICENCES[data],
        "intended_use": USES[data],
        "limits": LIMITS[data],
        "trained_on": trained["cpu"] if trained["device"] == "cpu" else trained["device"],
        "packed_on": cpu_model(),
        "onebit": __version__,
    }


def microcontroller(model: Any) -> dict[str, int]:
    """Bytes of flash and RAM on a Cortex-M4."""
    from onebit.export import firmware

    found = firmware.footprint(model.packed, core="cortex-m4")
    small = firmware.footprint(model.packed, core="cortex-m4", low_memory=True)
    return {"flash": found.flash, "RAM": found.ram, "RAM_low_memory": small.ram}


if __name__ == "__main__":
    main()
