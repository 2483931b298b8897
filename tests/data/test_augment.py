"""Augmentation against closed-form distributions and a second implementation by padding, slicing and pasting."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from onebit.data.augment import Augment, Draw, apply, augment, draw
from onebit.errors import OnebitError

DEVICES = ["cpu"] + ["cuda"] * torch.cuda.is_available()
MANY = 40_000


def generator(seed: int = 0, device: str = "cpu") -> torch.Generator:
    return torch.Generator(device).manual_seed(seed)


def assert_uniform(counts: np.ndarray) -> None:
    """Pearson's statistic stays below what a uniform distribution exceeds once in a million draws."""
    stats = pytest.importorskip("scipy.stats")
    expected = counts.sum() / counts.size
    assert expected > 20
    assert ((counts - expected) ** 2 / expected).sum() < stats.chi2.ppf(1 - 1e-6, counts.size - 1)


def second(images: np.ndarray, drawn: Draw, spec: Augment) -> np.ndarray:
    """One image after the other: mirror it, pad it by hand, cut out the window, paste the patch."""
    out = []
    for i, image in enumerate(images):
        noise = drawn.noise[i].numpy() if drawn.noise is not None else None
        _, height, width = image.shape
        picture = np.flip(image, 2) if drawn.flip is not None and drawn.flip[i] else image
        if drawn.shift is not None:
            dy, dx = drawn.shift[i].tolist()
            padded = np.pad(picture.astype(int), ((0, 0), (spec.pad,) * 2, (spec.pad,) * 2), constant_values=-1)
            window = padded[:, spec.pad + dy :, spec.pad + dx :][:, :height, :width]
            filling = 0 if spec.pad_fill == "zero" else noise
            picture = np.where(window < 0, filling, window)
        picture = picture.astype(np.uint8)
        if drawn.corner is not None:
            top, left = drawn.corner[i].tolist()
            part = np.s_[:, max(top, 0) : top + spec.cutout, max(left, 0) : left + spec.cutout]
            picture[part] = 0 if spec.cutout_fill == "zero" else noise[part]
        out.append(picture)
    return np.stack(out)


SPECS = st.builds(
    Augment,
    flip=st.booleans(),
    pad=st.integers(0, 12),
    pad_fill=st.sampled_from(["random", "zero"]),
    cutout=st.integers(0, 12),
    cutout_fill=st.sampled_from(["random", "zero"]),
)


@given(SPECS, st.integers(1, 5), st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32))
def test_equals_the_second_implementation(
    spec: Augment, count: int, channels: int, height: int, width: int, seed: int
) -> None:
    shape = (count, channels, height, width)
    images = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    before = images.copy()
    drawn = draw(shape, spec, generator(seed))
    out = apply(torch.from_numpy(images), drawn, spec)
    assert out.dtype == torch.uint8 and np.array_equal(out.numpy(), second(images, drawn, spec))
    assert np.array_equal(images, before)
    assert torch.equal(augment(torch.from_numpy(images), spec, generator(seed)), out)


@given(SPECS, st.integers(1, 7), st.data())
def test_a_slice_of_the_draw_gives_a_slice_of_the_result(spec: Augment, count: int, data: st.DataObject) -> None:
    part = slice(*sorted(data.draw(st.tuples(st.integers(0, count), st.integers(0, count)))))
    images = torch.randint(0, 256, (count, 2, 6, 5), dtype=torch.uint8, generator=generator(1))
    drawn = draw((count, 2, 6, 5), spec, generator(2))
    assert torch.equal(apply(images[part], drawn[part], spec), apply(images, drawn, spec)[part])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("height", "width", "side"), [(9, 13, 5), (32, 32, 18), (4, 3, 7)])
def test_cutout_covers_every_pixel_equally_often(height: int, width: int, side: int, device: str) -> None:
    """A corner uniform over 1-c..H-1 takes H+c-1 values, of which c cover a given row: c/(H+c-1), whatever the row."""
    spec = Augment(cutout=side, cutout_fill="zero")
    count = MANY if height < 32 else 10_000
    white = torch.full((count, 1, height, width), 255, dtype=torch.uint8, device=device)
    covered = (augment(white, spec, generator(3, device)) == 0)[:, 0].double()
    p = side / (height + side - 1) * side / (width + side - 1)
    bound = 5.5 * (p * (1 - p) / count) ** 0.5  # standard deviations: once in 25 million pixels by chance
    assert float((covered.mean(0) - p).abs().max()) < bound
    assert float(covered.sum((1, 2)).min()) >= 1  # never wholly outside
    whole = max(0, height - side + 1) / (height + side - 1) * max(0, width - side + 1) / (width + side - 1)
    share = float((covered.sum((1, 2)) == side * side).double().mean())
    assert abs(share - whole) <= 5.5 * (whole * (1 - whole) / count) ** 0.5


@pytest.mark.parametrize("device", DEVICES)
def test_draws_are_uniform_and_independent(device: str) -> None:
    drawn = draw((MANY, 1, 5, 7), Augment(flip=True, pad=2, cutout=3), generator(4, device))
    assert drawn.flip is not None and drawn.shift is not None and drawn.corner is not None
    flip, shift, corner = drawn.flip.cpu().numpy(), drawn.shift.cpu().numpy() + 2, drawn.corner.cpu().numpy() + 2
    assert shift.min() == 0 and shift.max() == 4 and corner.min() == 0 and corner.max(0).tolist() == [6, 8]
    # All at once in one table: each is uniform, and none depends on another.
    table = np.zeros((2, 5, 5, 7, 9))
    np.add.at(table, (flip.astype(int), *shift.T, *corner.T), 1)
    assert_uniform(table.sum((3, 4)))
    assert_uniform(table.sum((0, 1, 2)))
    assert_uniform(table.sum((2, 4)))
    assert_uniform(table.sum((1, 3)))


@pytest.mark.parametrize("device", DEVICES)
def test_noise_is_uniform_and_differs_between_pixels_and_channels(device: str) -> None:
    noise = draw((2000, 2, 8, 8), Augment(cutout=15), generator(5, device)).noise
    assert noise is not None
    values = noise.cpu().numpy().astype(int)
    assert_uniform(np.bincount(values.ravel(), minlength=256))
    pairs = [(values[:, 0], values[:, 1]), (values[..., :-1], values[..., 1:]), (values[:-1], values[1:])]
    pairs += [(values[..., :-1, :], values[..., 1:, :])]
    for a, b in pairs:  # the upper and the lower bits of neighbours
        assert_uniform(np.bincount((a // 16 * 16 + b // 16).ravel(), minlength=256))
        assert_uniform(np.bincount((a % 16 * 16 + b % 16).ravel(), minlength=256))


def test_what_is_off_draws_nothing_and_changes_nothing() -> None:
    images = torch.randint(0, 256, (4, 3, 6, 6), dtype=torch.uint8, generator=generator(6))
    g = generator(7)
    state = g.get_state()
    assert torch.equal(augment(images, Augment(), g), images) and torch.equal(g.get_state(), state)
    assert not Augment(pad=1, pad_fill="zero", cutout=2, cutout_fill="zero").noise
    assert Augment(cutout=2, pad_fill="zero").noise and not Augment().noise


def test_flip_mirrors_half_of_the_pictures_whole() -> None:
    images = torch.randint(0, 256, (MANY, 1, 2, 3), dtype=torch.uint8, generator=generator(8))
    out = augment(images, Augment(flip=True), generator(9))
    same = (out == images).flatten(1).all(1)
    mirrored = (out == images.flip(3)).flatten(1).all(1)
    assert bool((same | mirrored).all())
    assert abs(int((mirrored & ~same).sum()) / MANY - 0.5) < 5.5 * 0.5 / MANY**0.5


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"pad": -1}, "data.pad: -1"),
        ({"cutout": -2}, "data.cutout: -2"),
        ({"pad_fill": "noise"}, "data.pad_fill"),
        ({"cutout_fill": "zeros"}, "'zero'"),
    ],
)
def test_wrong_fields_are_named(fields: dict[str, object], words: str) -> None:
    with pytest.raises(OnebitError, match=words):
        Augment(**fields)  # type: ignore[arg-type]
