"""``onebit predict MODEL IMAGE...``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from onebit.examine.predict import Failure, Prediction
    from onebit.model import Model

BAR = 30  # cells of a probability of 100 %
EIGHTHS = " ▏▎▍▌▋▊▉"


@click.command("predict")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--top", type=click.IntRange(1), default=5, show_default=True, help="So many classes; 1: a line a picture."
)
@click.option("--invert", is_flag=True, help="Turn dark strokes on paper into light ones on a dark ground.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(model: Path, images: tuple[Path, ...], top: int, invert: bool, as_json: bool) -> None:
    """Classes of pictures, with probabilities. MODEL is a packed file, or a run folder that holds model.onebit.

    IMAGE is a picture of any size and type, or a folder of them. Pictures are cut and scaled as the model's test pictures
    were. A file that is no picture gives an error line, the others are still done; the exit status is then 2.
    """
    from onebit.examine.predict import Failure, bright_note, find, predict
    from onebit.model import load

    path = find(model)
    network = load(path)
    done: list[Prediction] = []
    failed: list[Failure] = []
    for found in predict(network, images, invert):
        if isinstance(found, Failure):
            failed.append(found)
            click.echo(f"onebit: {found.error}", err=True)
        else:
            done.append(found)
            if not as_json:
                click.echo(_text(network, found, top))
    if as_json:
        errors = [{"file": str(f.file), "error": f.error} for f in failed]
        predictions = [_facts(network, p, top) for p in done]
        click.echo(json.dumps({"model": str(path), "predictions": predictions, "errors": errors}))
    if bright := [p.file for p in done if p.bright]:
        click.echo(f"note: {bright_note(bright, invert)}", err=True)
    if failed:
        sys.exit(2)


def _facts(model: Model, p: Prediction, top: int) -> dict[str, Any]:
    classes = [
        {"class": model.classes[k], "probability": float(p.probabilities[k]), "logit": float(p.logits[k])}
        for k in p.top(top)
    ]
    return {"file": str(p.file), "class": classes[0]["class"], "top": classes, "bright_border": p.bright}


def _text(model: Model, p: Prediction, top: int) -> str:
    shown = [(model.classes[k], float(p.probabilities[k])) for k in p.top(top)]
    file = click.format_filename(p.file)
    if top == 1:
        ((name, share),) = shown
        return f"{file}: {click.style(name, bold=True)} {100 * share:.1f} %"
    wide = max(len(name) for name, _ in shown)
    lines = [file]
    for i, (name, share) in enumerate(shown):
        lines.append(f"  {click.style(f'{name:{wide}}', bold=i == 0)}  {100 * share:5.1f} %  {_bar(share)}".rstrip())
    return "\n".join(lines)


def _bar(share: float) -> str:
    """A bar of `BAR` cells for 1, in eighths of a cell where the terminal can show them."""
    from onebit.cli.terminal import shows

    if not shows("█" + EIGHTHS):
        return "#" * round(BAR * share)
    full, eighths = divmod(round(8 * BAR * share), 8)
    return "█" * full + EIGHTHS[eighths].strip()
