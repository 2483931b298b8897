"""A packed model beside the network it was made from."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from onebit import recipe
from onebit.data import catalog
from onebit.errors import OnebitError
from onebit.packed import file
from onebit.packed.program import Conv, Norm, Program
from onebit.train.trainer import train
from onebit.verify import verify
from support.models import left_or_right


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "small"
    train(recipe.load("digits").replace(["width=0.5", "depth=8", "epochs=3"]), out, quiet=True, threads=1)
    return out


def test_a_good_model_is_good(run: Path) -> None:
    seen = []
    result = verify(run, run / "model.onebit", progress=lambda done, of: seen.append((done, of)))
    assert result.good and result.comparison.images == 360 and seen[-1] == (360, 360)
    assert not result.equal and not result.exact
    assert 0 < result.comparison.rms < 0.03 and result.comparison.agreed >= 354
    ten = verify(run / "model.onebit", run / "model.pt", images=10)  # in any order
    assert ten.comparison.images == 10 and [side.kind for side in ten.sides] == ["checkpoint, float32", "packed model"]
    facts = ten.facts()
    assert facts["float_wrong"] == facts["sides"][0]["wrong"] and facts["packed_wrong"] == facts["sides"][1]["wrong"]


def test_integers_must_be_equal_to_the_last_bit(run: Path, tmp_path: Path) -> None:
    """One logit off by one in 2^fraction: rounding would explain it, yet two packed models must not differ."""
    packed = file.load(run / "model.onebit")
    file.save(tmp_path / "same.onebit", packed._replace(about={"data": "digits"}))
    same = verify(run / "model.onebit", tmp_path / "same.onebit")
    assert same.equal and same.exact and same.good and "float_wrong" not in same.facts()
    logits = packed.program.logits
    offset = logits.offset.copy()
    offset[3] += 1
    operations = [*packed.program.operations[:-1], dataclasses.replace(logits, offset=offset)]
    file.save(tmp_path / "off.onebit", packed._replace(program=Program(operations)))
    off = verify(run / "model.onebit", tmp_path / "off.onebit")
    assert off.comparison.good and not off.equal and not off.good
    assert off.facts()["good"] is False


def test_a_checkpoint_beside_itself_is_equal(run: Path) -> None:
    result = verify(run, run / "model.pt", images=20)
    assert result.equal and result.good and not result.exact and result.comparison.rms == 0


def test_a_model_with_other_weights_is_not(run: Path, tmp_path: Path) -> None:
    """A quarter of one layer's weights turned round: the file is valid, the answers are not the network's."""
    packed = file.load(run / "model.onebit")
    operations = list(packed.program.operations)
    at = next(i for i, op in enumerate(operations) if isinstance(op, Conv) and not packed.program.fan_in(op) % 8)
    conv = operations[at]
    assert isinstance(conv, Conv)
    operations[at] = dataclasses.replace(conv, bits=conv.bits ^ np.uint8(0x11))
    file.save(tmp_path / "wrong.onebit", packed._replace(program=Program(operations)))
    assert not verify(run, tmp_path / "wrong.onebit").good


def test_a_small_fault_of_one_constant_is_seen(run: Path, tmp_path: Path) -> None:
    """All means of one batch-norm off by half a deviation."""
    packed = file.load(run / "model.onebit")
    operations = list(packed.program.operations)
    at = next(i for i, op in enumerate(operations) if isinstance(op, Norm))
    norm = operations[at]
    assert isinstance(norm, Norm)
    half = (1 << 19) // np.maximum(norm.multiplier.astype(np.int64), 1)  # 16 steps of 2^-5
    shifted = (norm.mean + half).astype(np.int16)
    operations[at] = dataclasses.replace(norm, mean=shifted)
    file.save(tmp_path / "off.onebit", packed._replace(program=Program(operations)))
    result = verify(run, tmp_path / "off.onebit")
    assert result.comparison.rms > 0.03 and not result.good


def test_what_does_not_fit_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(OnebitError, match="no test picture"):
        verify(run, run / "model.onebit", images=0)
    with pytest.raises(OnebitError, match=r"gone.onebit: cannot be read"):
        verify(run, tmp_path / "gone.onebit")
    other = tmp_path / "wide"
    train(recipe.load("digits").replace(["width=0.5", "depth=8", "epochs=1"]), other, quiet=True, threads=1)
    assert not verify(other, run / "model.onebit").good  # another network of the same shape
    with pytest.raises(OnebitError, match=r"takes 1 channels and knows 10 classes"):
        folder = tmp_path / "pictures"
        from PIL import Image

        for half in ("train", "test"):
            for name in ("a", "b"):
                (folder / half / name).mkdir(parents=True)
                for i in range(2):
                    Image.new("L", (8, 8), i).save(folder / half / name / f"{i}.png")
        verify(run, run / "model.onebit", data=str(folder))
    assert len(catalog.load("digits").test) == 360
    with pytest.raises(OnebitError, match="they are not one network"):
        file.save(tmp_path / "sides.onebit", left_or_right())
        verify(run, tmp_path / "sides.onebit")
