"""Every integer of one picture's way through a packed model, as files that a test bench can read.

A folder holds the picture's pixels, of each operation the map that it makes (.npy for NumPy, .hex for Verilog's $readmemh)
and its weights and constants (.hex), README.txt for people and trace.json for programs.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onebit import __version__
from onebit.errors import OnebitError, reason
from onebit.examine.inspect import constants, describe
from onebit.model import Model
from onebit.packed import reference
from onebit.packed.calibration import softmax
from onebit.packed.program import Average, Conv, Logits, Max, Norm, Program, Table, sources

FORMAT = "onebit trace 1"
INDEX = "trace.json"
DTYPES: dict[str, np.dtype[Any]] = {"u8": np.dtype("u1"), "i16": np.dtype("i2"), "i32": np.dtype("i4")}

README = """\
Every integer of one picture's way through a packed network of one-bit weights.

  model    {model}
  picture  {picture}

input.npy, input.hex     the picture as the network takes it
NN-kind.npy, NN-kind.hex what operation NN makes, [height, width, channels]
NN-kind.weights.hex      one line an output channel; bit 0, the last of the line, is weight 0: the input channel changes
                         fastest, then the column, then the row of the kernel; 1 is +1, 0 is -1
NN-kind.NAME.hex         its constants NAME, in the order of the channels (table: 256 a channel)
trace.json               all that stands below, for programs

Files .hex hold one number a line in hexadecimal (two's complement: 2 digits of u8, 4 of i16, 8 of i32), maps row by row,
in a row column by column, in a column channel by channel. Verilog reads them with $readmemh:

  reg [15:0] expected [0:{last}];
  initial $readmemh("{example}", expected);

Below, xN is what operation N makes, w a weight +1 or -1, c a channel; sums run over the kernel and the input channels,
and outside the map x - zero is 0.

  sat16(x)      = min(32767, max(-32768, x))
  rsh(x, k)     = (x + ((1 << k) >> 1)) >> k
  q15mulr(x, m) = (x * m + 0x4000) >> 15

"""


def record(
    model: Model,
    pixels: NDArray[np.uint8],
    folder: Path,
    *,
    only: int | None = None,
    about: dict[str, str] | None = None,
) -> dict[str, Any]:
    """Write what every operation of `model` makes of a picture uint8 [H, W, C] into `folder`; returns trace.json.

    With `only`, an operation, just this one and what it reads. `about` says in the index where model and picture are from
    ("model", "picture", ...). The folder is written whole or not at all, and only an earlier trace is replaced.

    Raises OnebitError: a picture that does not fit, no such operation, a folder that holds something else or cannot
    be written.

    >>> import tempfile
    >>> from onebit.packed.file import Packed
    >>> one = np.ones(2, np.int32)
    >>> table = Table(1, 1, np.arange(256, dtype=np.int16)[None] - 128)
    >>> model = Model(Packed(
    ...     Program([table, Logits(0, np.array([[1], [0]], np.uint8), (1, 1), 0, one, one, 0)]), ("cat", "dog"), {}))
    >>> with tempfile.TemporaryDirectory() as d:
    ...     index = record(model, np.full((1, 1, 1), 100, np.uint8), Path(d, "t"))
    ...     print(Path(d, "t", "0-table.hex").read_text())
    // operation 0, table of pixels: i16, 1 x 1 x 1 (row, column, channel)
    ffe4
    <BLANKLINE>
    >>> index["logits"], index["class"]
    ([-27, 29], 'dog')
    """
    program, about = model.program, about or {}
    count = len(program.operations)
    if only is not None and not 0 <= only < count:
        raise OnebitError(f"operation {only}: the model has 0 to {count - 1}; `onebit inspect` lists them")
    wanted = set(range(count)) if only is None else {only, *sources(program.operations[only])}
    with _whole(folder) as place:
        files: list[str] = []

        def write(name: str, content: bytes) -> str:
            (place / name).write_bytes(content)
            files.append(name)
            return name

        given = {"numbers": "u8", "shape": list(pixels.shape), **_map(write, "input", "the picture", "u8", pixels)}
        entries: dict[int, dict[str, Any]] = {}

        def watch(i: int, x: NDArray[np.int32]) -> None:
            if i in wanted:
                entries[i] = _operation(write, program, i, x[0])

        logits = reference.run(program, pixels[None], watch=watch)
        probabilities = softmax(logits.astype(np.float64) * (model.scale / model.temperature))[0]
        index = {
            "format": FORMAT,
            "onebit": __version__,
            **about,
            "input": given,
            "operations": [entries[i] for i in sorted(entries)],
            "logits": logits[0].tolist(),
            "logits_scale": model.scale,
            "temperature": model.temperature,
            "probabilities": probabilities.tolist(),
            "classes": list(model.classes),
            "class": model.classes[int(logits[0].argmax())],
            "files": [*files, "README.txt", INDEX],
        }
        write("README.txt", _readme(index).encode(errors="backslashreplace"))  # names of files may be no text
        write(INDEX, json.dumps(index, indent=1).encode())
    return index


def equation(program: Program, i: int) -> str:
    """Operation `i` as a formula in the words of `onebit.packed.program`, with its numbers filled in.

    >>> equation(Program([Table(1, 1, np.zeros((1, 256), np.int16)), Logits(
    ...     0, np.array([[1]], np.uint8), (1, 1), 2, np.ones(1, np.int32), np.ones(1, np.int32), 0)]), 1)
    'rsh(sum of w * x0 over the whole map, 2) * gain[c] + offset[c]'
    """
    op = program.operations[i]
    if isinstance(op, Table):
        return "values[c, pixel]"
    x = f"x{op.source}"
    if isinstance(op, Norm):
        added = " + ".join(([str(op.zero)] if op.zero else []) + (["offset[c]"] if op.offset.any() else []) + [""])
        return f"min({op.limit}, max(0, {added}q15mulr(sat16({x} - mean[c]), multiplier[c])))"
    if isinstance(op, Max):
        return f"max of {x} over the part of the window that lies in the map"
    if isinstance(op, Average):
        mean = f"q15mulr(sat16(rsh(sum of {x}, shift[d - 1])), multiplier[d - 1])"
        kept = program.values[op.source].shape[0]
        zero = program.values[op.source].zero
        more = f"; {zero} in channels from {kept} on" if op.channels > kept else ""
        return f"{mean}, d positions of the window lie in the map{more}"
    zero = program.values[op.source].zero
    term = f"w * {f'({x} - {zero})' if zero else x}"
    if isinstance(op, Logits):
        return f"rsh(sum of {term} over the whole map, {op.shift}) * gain[c] + offset[c]"
    total = f"rsh(sum of {term}, {op.shift})"
    return f"sat16(x{op.base} + sat16({total}))" if op.base >= 0 else f"sat16({total})"


def hex_lines(x: NDArray[Any]) -> str:
    """One number a line, two's complement, as many digits as its type is wide.

    >>> hex_lines(np.array([-2, 255], np.int16)).split()
    ['fffe', '00ff']
    """
    return x.astype(x.dtype.newbyteorder(">")).tobytes().hex("\n", x.dtype.itemsize) + "\n"


def hex_rows(bits: NDArray[np.uint8]) -> str:
    """One row of bits a line, as one number: weight 0 is its lowest bit.

    >>> hex_rows(np.array([[0x01, 0x02]], np.uint8))
    '0201\\n'
    """
    return np.ascontiguousarray(bits[:, ::-1]).tobytes().hex("\n", bits.shape[1]) + "\n"


Write = Callable[[str, bytes], str]


def _map(write: Write, stem: str, title: str, kind: str, x: NDArray[Any]) -> dict[str, str]:
    """Write a map [H, W, C] for NumPy and for Verilog; the names of the files."""
    x = np.ascontiguousarray(x.astype(DTYPES[kind]))

    array = io.BytesIO()
    np.save(array, x)
    shape = " x ".join(map(str, x.shape))
    head = f"// {title}: {kind}, {shape} (row, column, channel)\n"
    return {
        "npy": write(f"{stem}.npy", array.getvalue()),
        "hex": write(f"{stem}.hex", (head + hex_lines(x)).encode()),
    }


def _operation(write: Write, program: Program, i: int, x: NDArray[np.int32]) -> dict[str, Any]:
    """Write the files of operation `i`, which made x [H, W, C]; its entry of the index."""
    op, value = program.operations[i], program.values[i]
    stem = f"{i:0{len(str(len(program.operations) - 1))}d}-{type(op).__name__.lower()}"
    title = f"operation {i}, {describe(program, i)}"
    entry: dict[str, Any] = {
        "number": i,
        "kind": type(op).__name__.lower(),
        "what": describe(program, i),
        "sources": list(sources(op)),
        "equation": equation(program, i),
        "numbers": value.kind,
        "shape": list(x.shape),
        "zero": value.zero,
    }
    if isinstance(op, Conv | Average | Max | Logits):
        entry["kernel"] = list(op.kernel)
    if isinstance(op, Conv | Average | Max):
        entry["stride"] = op.stride
        entry["padding"] = dict(zip(("top", "left", "bottom", "right"), op.padding, strict=True))
    if isinstance(op, Conv | Logits):
        entry["shift"] = op.shift
    if isinstance(op, Norm):
        entry["limit"] = op.limit
    if isinstance(op, Logits):
        entry["fraction"] = op.fraction
    entry |= _map(write, stem, title, value.kind, x)
    if isinstance(op, Conv | Logits):
        rows, bits = len(op.bits), program.fan_in(op)
        head = f"// {title}: weights, {rows} x {bits} bits, weight 0 lowest\n"
        entry["weights"] = write(f"{stem}.weights.hex", (head + hex_rows(op.bits)).encode())
    for name, numbers in constants(op).items():
        if name == "offset" and isinstance(op, Norm) and not numbers.any():
            continue  # absent from the equation, too
        head = f"// {title}: {name}, {' x '.join(map(str, numbers.shape))}\n"
        entry[name] = write(f"{stem}.{name}.hex", (head + hex_lines(numbers)).encode())
    return entry


def _readme(index: dict[str, Any]) -> str:
    example = next((e for e in index["operations"] if e["numbers"] == "i16"), None) or index["operations"][0]
    text = README.format(
        model=index.get("model", "-"),
        picture=index.get("picture", "-"),
        last=int(np.prod(example["shape"])) - 1,
        example=example["hex"],
    )
    if example["numbers"] != "i16":
        text = text.replace("[15:0]", {"u8": "[7:0]", "i32": "[31:0]"}[example["numbers"]])
    for e in index["operations"]:
        shape = " x ".join(map(str, e["shape"]))
        text += f"{e['number']}: {e['what']}, {e['numbers']} {shape}"
        if "stride" in e:
            sides = ", ".join(f"{side} {n}" for side, n in e["padding"].items() if n)
            text += f"; stride {e['stride']}" + (f"; padding {sides}" if sides else "")
        text += f"\n  x{e['number']} = {e['equation']}\n"
    text += "\nlogit, probability, class\n"
    for logit, share, name in zip(index["logits"], index["probabilities"], index["classes"], strict=True):
        text += f"{logit:12d}  {100 * share:6.2f} %  {name}\n"
    return text + f"\nclass: {index['class']}\n"


@contextlib.contextmanager
def _whole(folder: Path) -> Iterator[Path]:
    """A temporary folder that becomes `folder` at the end; an error or a signal leaves what was there before."""
    folder = folder.resolve()
    _check_free(folder)
    place, old = (folder.with_name(f".{folder.name}.{os.getpid()}.{end}") for end in ("tmp", "old"))
    try:
        place.mkdir(parents=True)
        yield place
        if folder.exists():
            folder.rename(old)
        place.rename(folder)
    except OSError as error:
        raise OnebitError(
            f"{folder}: cannot be written ({reason(error)}); free space, or name another folder"
        ) from error
    finally:
        if old.exists() and not folder.exists():
            old.rename(folder)
        for rest in (place, old):
            shutil.rmtree(rest, ignore_errors=True)


def _check_free(folder: Path) -> None:
    """OnebitError where `folder` holds anything but the files of an earlier trace."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise OnebitError(f"{folder}: is a file; name a folder for the trace")
    if folder == Path.cwd():
        raise OnebitError(f"{folder}: is the folder you are in, and would be replaced; name another one")
    there = list(folder.iterdir())
    if not there:
        return
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        known = {str(name) for name in index["files"]} if index["format"] == FORMAT else set()
    except (OSError, ValueError, KeyError, TypeError):
        known = set()
    if not known:
        raise OnebitError(f"{folder}: is not empty and holds no trace; name a new or an empty folder")
    if foreign := sorted(path.name for path in there if path.name not in known or not path.is_file()):
        raise OnebitError(f"{folder}: holds {foreign[0]}, which is of no trace; move it away, or name another folder")
