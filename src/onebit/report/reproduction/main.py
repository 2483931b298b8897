"""The command line that the scripts of reproduce/ share."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from onebit.errors import OnebitError
from onebit.files import write_text
from onebit.report.reproduction.experiment import Experiment, read_curves
from onebit.report.reproduction.found import search
from onebit.report.reproduction.plan import Planned, carry_out, plan
from onebit.report.reproduction.table import lines, markdown


def main(experiment: Experiment, home: Path, arguments: Sequence[str] | None = None) -> int:
    """Run an experiment's script; returns the exit status: 0, 1 after an error, 130 after Ctrl-C.

    `home` is the folder of the scripts; the author's curves lie in it, and the published runs beside it, in results/.
    """
    options = _options(experiment, home).parse_args(arguments)
    out: Path = options.out
    try:
        planned = plan(
            experiment, out, only=options.only, seeds=options.seed, epochs=options.epochs, settings=options.settings
        )
        if options.dry_run:
            for p in planned:
                print(p.describe())
            return 0
        status = 0
        if not options.collect_only:
            status = _train(planned, options)
        out.mkdir(parents=True, exist_ok=True)
        _write(experiment, home, [out, *options.also], out)
    except OnebitError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {error.filename or out}: {error.strerror}; choose another --out", file=sys.stderr)
        return 1
    return status


def _train(planned: Sequence[Planned], options: argparse.Namespace) -> int:
    from onebit.train.trainer import Interrupted

    try:
        problems = carry_out(planned, root=options.data, device=options.device, threads=options.threads)
    except (Interrupted, KeyboardInterrupt):
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    for problem in problems:
        print(f"not made: {problem}", file=sys.stderr)
    return 1 if problems else 0


def _write(experiment: Experiment, home: Path, folders: Sequence[Path], out: Path) -> None:
    from onebit.report.reproduction.pictures import draw

    curves = read_curves(home / "author" / "test_errors.json")
    found = search(folders, (row.recipe for row in experiment.rows))
    listed = lines(experiment, found)
    page = markdown(experiment, listed, curves)
    draw(experiment, listed, found, curves, out / f"{experiment.name}.png")
    write_text(out / f"{experiment.name}.md", page)
    print(page)
    print(f"{out / experiment.name}.md, {out / experiment.name}.png", file=sys.stderr)


def _options(experiment: Experiment, home: Path) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=f"{experiment.title}. Trains what is missing, resumes what is unfinished, skips what is done; "
        "then writes a table and a picture into the folder --out."
    )
    parser.add_argument(
        "--out", type=Path, default=Path("runs"), help="folder of the runs, and of the table (default: runs)"
    )
    parser.add_argument("--data", type=Path, help="folder of the data sets (default: $ONEBIT_DATA)")
    parser.add_argument("--only", nargs="+", default=[], metavar="PATTERN", help="only recipes whose names fit")
    parser.add_argument("--seed", nargs="+", type=int, default=[0], help="seeds (default: 0)")
    parser.add_argument(
        "--epochs",
        type=int,
        help="train as far as this, and go on when asked for more; fewer than the recipe says are marked in the table, never mixed",
    )
    parser.add_argument(
        "--set", dest="settings", action="append", default=[], metavar="FIELD=VALUE", help="another setting; marked too"
    )
    parser.add_argument("--device", help="cpu, cuda, mps (default: the best one present)")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument(
        "--also", nargs="*", type=Path, default=[home.parent / "results"], metavar="FOLDER",
        help="further folders of runs to collect (default: results/ of the repository)",
    )  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="print the plan, do nothing")
    parser.add_argument("--collect-only", action="store_true", help="train nothing: only the table and the picture")
    return parser
