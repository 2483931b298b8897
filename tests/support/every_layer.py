"""A small network with every kind of layer that firmware knows."""

from __future__ import annotations

import numpy as np

from onebit.packed.file import Packed
from onebit.packed.program import Average, Conv, Logits, Max, Norm, Operation, Program, Table


def every_layer() -> Packed:
    """Convolutions of all kernels, a batch-norm that stands alone, average and maximum pooling, a classifier."""
    rng = np.random.default_rng(0)

    def bits(outputs: int, inputs: int) -> np.ndarray:
        rows = rng.integers(0, 256, (outputs, -(-inputs // 8)), np.uint8)
        if inputs % 8:
            rows[:, -1] &= (1 << inputs % 8) - 1
        return rows

    def norm(source: int, channels: int, zero: int = 0) -> Norm:
        mean, multiplier = rng.integers(-50, 50, channels), rng.integers(3000, 9000, channels)
        return Norm(source, mean.astype(np.int16), multiplier.astype(np.int16), np.zeros(channels, np.int16), zero)

    around = (1, 1, 1, 1)
    divisors = np.arange(1, 10)
    found: list[Operation] = [
        Table(12, 12, rng.integers(-4000, 4000, (3, 256)).astype(np.int16)),
        Conv(0, bits(8, 27), (3, 3), 5, padding=around),  # few
        norm(1, 8, zero=32),  # no kernel but nibble takes that
        Max(2, (2, 2), 2),
        Conv(3, bits(8, 72), (3, 3), 2, padding=around),  # nibble
        Average(4, 16, (3, 3), 2, around, np.zeros(9, np.int16), (32767 // divisors).astype(np.int16)),
        norm(5, 16),
        Conv(6, bits(16, 16 * 25), (5, 5), 2, padding=(2, 2, 2, 2), base=5),  # any
        Average(7, 16, (1, 1), 1, (0, 0, 0, 0), np.zeros(1, np.int16), np.full(1, 32767, np.int16)),
        norm(8, 16),  # read by pooling: stands alone
        Max(9, (2, 2), 1, around),
        Logits(10, bits(4, 16), (1, 1), 0, np.full(4, 10, np.int32), np.arange(4, dtype=np.int32), fraction=8),
    ]
    return Packed(Program(found), ("a", "b", "c", "d"), {"data": "noise"})
