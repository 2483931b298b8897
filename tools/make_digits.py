"""Make src/onebit/data/digits.npz from the digits that scikit-learn ships; its split is drawn here, once, with seed 0.

pip install scikit-learn && python tools/make_digits.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits  # type: ignore[import-not-found]

from onebit.data.dataset import stratified

TARGET = Path(__file__).resolve().parent.parent / "src" / "onebit" / "data" / "digits.npz"

digits = load_digits()
labels = digits.target.astype(np.uint8)
test = np.flatnonzero(stratified(labels.astype(np.int64), 360, seed=0)).astype(np.int16)
np.savez_compressed(TARGET, images=digits.images.astype(np.uint8), labels=labels, test=test)
print(f"{TARGET}: {len(labels)} images, {len(test)} for testing, {TARGET.stat().st_size:,} bytes")
