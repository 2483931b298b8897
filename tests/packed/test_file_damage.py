"""Random damage to a packed file: OnebitError, or a valid model whose bytes say just that; nothing else, whatever is read."""

from __future__ import annotations

import json
import struct
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onebit.errors import OnebitError
from onebit.packed import file
from support.packed_files import Opened, example, sealed
from support.programs import programs

GOOD = file.encode(*example())
LENGTH = 8 + struct.unpack_from("<Q", GOOD)[0]
PATIENT = timedelta(seconds=20)  # what hangs takes longer, what the machine delays does not


def survives(content: bytes) -> bool:
    """Is it a valid model? Then its bytes behind the header are the only ones for it."""
    try:
        packed = file.decode(content)
    except OnebitError as error:
        assert str(error).isprintable() and len(str(error)) < 400
        return False
    written = file.encode(*packed)
    assert file.encode(*file.decode(written)) == written
    start, end = (8 + struct.unpack_from("<Q", bytes_)[0] for bytes_ in (content, written))
    assert written[end:-4] == content[start:-4]
    return True


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """The good file with bytes flipped, cut out or put in, at one to four places."""
    content = GOOD
    for _ in range(draw(st.integers(1, 4))):
        # half of the places in the header, whose text has more ways to be wrong
        at = draw(st.one_of(st.integers(0, min(LENGTH, len(content)) - 1), st.integers(0, len(content) - 1)))
        how = draw(st.sampled_from(("flip", "flip", "cut", "end", "insert", "double")))
        if how == "flip":
            content = content[:at] + bytes([content[at] ^ draw(st.integers(1, 255))]) + content[at + 1 :]
        elif how == "cut":
            content = content[:at] + content[at + draw(st.integers(1, 64)) :]
        elif how == "end":
            content = content[: at + 1]
        elif how == "insert":
            content = content[:at] + draw(st.binary(min_size=1, max_size=16)) + content[at:]
        else:
            content = content[:at] + content[at : at + draw(st.integers(1, 64))] + content[at:]
        if not content:
            break
    return content


@settings(max_examples=300, deadline=PATIENT)
@given(damaged())
def test_the_checksum_finds_damage(content: bytes) -> None:
    if content != GOOD:
        with pytest.raises(OnebitError):
            file.decode(content)


@settings(max_examples=400, deadline=PATIENT)
@given(damaged())
def test_damage_with_a_fitting_checksum(content: bytes) -> None:
    survives(sealed(content))
    if len(content) > LENGTH:  # and with a header length that fits what is left of the header
        end = content.rfind(b"}", 0, LENGTH + 64) + 1
        text = content[8:end] + b" " * (-end % 8)
        survives(sealed(struct.pack("<Q", len(text)) + text + GOOD[LENGTH:]))


NUMBERS = st.one_of(
    st.integers(-3, 10),
    st.integers(-(2**31), 2**31 - 1),
    st.builds(lambda k, d, sign: max(-(2**31), min(2**31 - 1, sign * ((1 << k) + d))), st.integers(0, 31),
              st.integers(-1, 1), st.sampled_from((-1, 1))),
)  # fmt: skip


@settings(max_examples=120, deadline=PATIENT)
@given(programs(operations=5), st.data())
def test_other_numbers_in_the_records(program: file.Program, data: st.DataObject) -> None:
    opened = Opened(file.encode(program, [str(k) for k in range(program.classes)]))
    for _ in range(data.draw(st.integers(1, 3))):
        operation = data.draw(st.integers(0, len(program.operations) - 1))
        column = data.draw(st.sampled_from(file.COLUMNS))
        opened.set(operation, **{column: data.draw(NUMBERS)})
    survives(opened.close())


@settings(max_examples=80, deadline=PATIENT)
@given(programs(operations=5), st.data())
def test_other_numbers_in_the_rows(program: file.Program, data: st.DataObject) -> None:
    opened = Opened(file.encode(program, [str(k) for k in range(program.classes)]))
    name = data.draw(st.sampled_from(sorted(opened.tensors)))
    array = opened.tensors[name]
    how = data.draw(st.sampled_from(("number", "number", "rows", "fewer", "columns")))
    if how == "number":
        ends = np.iinfo(array.dtype)
        array.reshape(-1)[data.draw(st.integers(0, array.size - 1))] = data.draw(st.integers(ends.min, ends.max))
    elif how == "columns" and array.ndim == 2:
        array = np.concatenate([array, array[:, :1]], 1)
    else:
        array = np.concatenate([array, array])[: data.draw(st.integers(0, 2 * len(array)))]
    opened.tensors[name] = array
    opened.lay_out()
    survives(opened.close())


JSON = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.integers(0, 1000), st.floats(), st.text(max_size=4),
        st.sampled_from(["U8", "I16", "I32", "F32", "onebit 1", "onebit 2", '["a","b"]', "\ud800"]),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["dtype", "shape", "a"]), inner),
    max_leaves=5,
)  # fmt: skip


@settings(max_examples=300, deadline=PATIENT)
@given(st.data())
def test_other_values_in_the_header(data: st.DataObject) -> None:
    opened = Opened(GOOD)
    inner: Any = opened.header
    while True:  # walk to a place at random
        places = list(inner) if isinstance(inner, dict) else list(range(len(inner)))
        place = data.draw(st.sampled_from(places))
        if not (isinstance(inner[place], dict | list) and inner[place] and data.draw(st.booleans())):
            break
        inner = inner[place]
    how = data.draw(st.sampled_from(("replace", "replace", "remove", "rename")))
    if how == "replace":
        inner[place] = data.draw(JSON)
    else:
        value = inner.pop(place)
        if how == "rename" and isinstance(inner, dict):
            inner[data.draw(st.text(max_size=6))] = value
    survives(opened.close())


@settings(max_examples=150, deadline=PATIENT)
@given(
    st.lists(st.text(max_size=8), min_size=2, max_size=2), st.dictionaries(st.text(max_size=5), st.text(max_size=20))
)
def test_any_names_and_notes(classes: list[str], about: dict[str, str]) -> None:
    """What the writer takes the reader gives back; what the writer refuses the reader refuses in a foreign file."""
    opened = Opened(GOOD)
    opened.header["__metadata__"] = {**about, "format": file.FORMAT, "classes": json.dumps(classes)}
    if {"format", "classes"} & about.keys():
        return
    try:
        written = file.encode(example().program, classes, about)
    except OnebitError:
        assert not survives(opened.close())
        return
    assert survives(opened.close())
    assert file.decode(written)[1:] == (tuple(classes), about) == file.decode(opened.close())[1:]
