"""Write tests/golden/: packed models, pictures and their logits, which every target must give to the last bit.

    python tools/make_golden.py DIGITS.onebit CIFAR10.onebit        (ONEBIT_DATA holds CIFAR-10)

For each model: NAME.onebit and NAME-logits.npy, the integers of all pictures in order. Pictures: the 360 test pictures of
digits are in the package; 64 test pictures of CIFAR-10, and 64 made ones (noise, all 0, all 255, one bright pixel, ...) of
either shape, are written beside the models as uint8 [N, H, W, C].
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from onebit.data import catalog
from onebit.model import load

GOLDEN = Path(__file__).resolve().parent.parent / "tests" / "golden"


def made(height: int, width: int, channels: int) -> NDArray[np.uint8]:
    """64 pictures [64, H, W, C]: black, white, single pixels, ramps, checkers, and noise of several kinds."""
    noise = np.random.Generator(np.random.PCG64(0))
    shape = (height, width, channels)
    pictures = [np.zeros(shape), np.full(shape, 255)]
    for y, x in ((0, 0), (0, width - 1), (height - 1, 0), (height - 1, width - 1), (height // 2, width // 2)):
        for low, high in ((0, 255), (255, 0)):
            picture = np.full(shape, low)
            picture[y, x] = high
            pictures.append(picture)
    for c in range(channels):  # one channel full
        picture = np.zeros(shape)
        picture[..., c] = 255
        pictures.append(picture)
    rows, columns = np.indices((height, width))
    for ramp in (rows * 255 // (height - 1), columns * 255 // (width - 1), (rows + columns) % 2 * 255, rows % 2 * 255):
        pictures.append(np.repeat(ramp[..., None], channels, -1))
    while len(pictures) < 64:
        kind = len(pictures) % 3
        low, high = ((0, 256), (0, 2), (112, 144))[kind]
        pictures.append(noise.integers(low, high, shape) * (255 if kind == 1 else 1))
    return np.stack(pictures).astype(np.uint8)


def main(digits: Path, cifar: Path) -> None:
    GOLDEN.mkdir(parents=True, exist_ok=True)
    real = {
        "digits": catalog.load("digits").test.images.transpose(0, 2, 3, 1),  # type: ignore[union-attr]
        "cifar10-20-1": catalog.load("cifar10").test.images[:64].transpose(0, 2, 3, 1),  # type: ignore[union-attr]
    }
    np.save(GOLDEN / "cifar10-test-64.npy", np.ascontiguousarray(real["cifar10-20-1"]))
    np.save(GOLDEN / "cifar10-test-64-labels.npy", catalog.load("cifar10").test.labels[:64])
    for name, source in (("digits", digits), ("cifar10-20-1", cifar)):
        shutil.copyfile(source, GOLDEN / f"{name}.onebit")
        model = load(source, isa="reference")
        channels, height, width = model.shape
        pictures = made(height, width, channels)
        np.save(GOLDEN / f"{name}-made-64.npy", pictures)
        np.save(GOLDEN / f"{name}-logits.npy", model.integers(np.concatenate([real[name], pictures])))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
