"""``onebit trace MODEL IMAGE``."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("trace")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("image", type=click.Path(path_type=Path))
@click.option("-o", "--out", required=True, metavar="DIR", type=click.Path(path_type=Path), help="Folder to write.")
@click.option("--op", type=int, metavar="N", help="Only operation N, and what it reads.")
@click.option("--invert", is_flag=True, help="Turn dark strokes on paper into light ones on a dark ground.")
def command(model: Path, image: Path, out: Path, op: int | None, invert: bool) -> None:
    """Write every integer that the packed MODEL computes of IMAGE, to check gates or code against.

    Maps lie in DIR as .npy and .hex (Verilog's $readmemh), with weights and constants; README.txt says what is what, with
    every operation's equation, and trace.json says it to programs. An earlier trace in DIR is replaced, nothing else.
    """
    from onebit.data.pictures import check_fit
    from onebit.examine.predict import bright_note, find, is_bright, read_picture
    from onebit.examine.record import record
    from onebit.model import load

    path = find(model)
    network = load(path)
    check_fit(network.shape, network.about.get("fit", "square"))
    pixels = read_picture(network, image, invert)
    about = {"model": str(path), "picture": f"{image}{' (inverted)' if invert else ''}"}
    index = record(network, pixels, out, only=op, about=about)
    click.echo(
        f"{out}: {len(index['operations'])} operations in {len(index['files'])} files; README.txt says what is what\n"
        f"class: {index['class']}, {100 * max(index['probabilities']):.1f} %"
    )
    if is_bright(network, pixels):
        click.echo(f"note: {bright_note([image], invert)}", err=True)
