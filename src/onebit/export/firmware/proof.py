"""A plan run without numbers: is every row that is read still there?"""

from __future__ import annotations

import numpy as np

from onebit.export.firmware import schedule
from onebit.export.firmware.plan import ALIGN, Plan
from onebit.packed.program import MAX_SIDE


def prove(plan: Plan) -> None:
    """Run a plan with every byte of the arena labelled by what was written there last.

    Raises AssertionError where a row that is read is not, whole, the row that its layer has made, where a kernel's scratch
    memory lies over a map that is still needed, where a sum is written over its base but not in place, and where anything
    lies outside the arena.
    """
    layers = plan.layers
    marks = np.full(plan.arena, -1, np.int32)

    def span(m: int, y: int) -> slice:
        row = layers.maps[m].row_bytes
        first = plan.at[m] + y % plan.rows[m] * row
        _require(
            plan.at[m] % ALIGN == 0 and first >= 0 and first + row <= plan.arena, f"map {m} lies outside the arena"
        )
        return slice(first, first + row)

    def write(m: int, y: int) -> None:
        marks[span(m, y)] = m * MAX_SIDE + y

    def check(m: int, rows: range) -> None:
        for y in rows:
            _require((marks[span(m, y)] == m * MAX_SIDE + y).all(), f"row {y} of map {m} is gone")

    def apart(one: int, other: int) -> bool:
        low, high = sorted((one, other), key=lambda m: plan.at[m])
        return plan.at[low] + plan.bytes_of(low) <= plan.at[high]

    for y in range(layers.maps[0].height):
        write(0, y)
    for segment, together in zip(plan.segments, plan.together, strict=True):
        for step in schedule.calls(layers, segment, together):
            layer, size = layers.layers[step.layer], plan.scratch[step.layer]
            source = range(step.source_first, step.source_end)
            if size:
                first = plan.scratch_at[step.layer]
                _require(first % ALIGN == 0 and first + size <= plan.arena, "scratch lies outside the arena")
                marks[first : first + size] = -1
            check(layer.source, source)
            if layer.base is not None:
                check(layer.base, range(step.first, step.end))
                assert layer.out is not None
                in_place = (plan.at[layer.base], plan.rows[layer.base]) == (plan.at[layer.out], plan.rows[layer.out])
                _require(apart(layer.base, layer.out) or in_place, f"map {layer.out} lies askew over its base")
            if layer.out is not None:
                for y in range(step.first, step.end):
                    write(layer.out, y)
            check(layer.source, source)  # kernels may read it until they write the last number


def _require(holds: bool | np.bool_, message: str) -> None:
    """As assert, but also where Python is told to leave assertions out: an export must not go on."""
    if not holds:
        raise AssertionError(message)
