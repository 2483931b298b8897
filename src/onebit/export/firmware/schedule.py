"""In what order rows are computed, and what that allows: how few rows of a map are kept, which maps may share memory.

Layers run one after the other, each whole, or some successive ones together, some rows at a time: then the last of them
makes its next rows, and before that the others make what rows it lacks, no more. The runtime (c/run.c) goes by the same
rule, so that what is found here by running it without numbers holds there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from onebit.export.firmware.layers import Layer, Layers


@dataclass(frozen=True)
class Step:
    """Rows [first, end) of a layer's output are made, out of rows [source_first, source_end) of its source."""

    layer: int
    first: int
    end: int
    source_first: int
    source_end: int


def steps(layers: Layers, segment: range, rows: int) -> Iterator[Step]:
    """The calls of the layers of a segment, in order, with up to `rows` rows in each."""
    done = dict.fromkeys(segment, 0)
    maker = {out: k for k in segment if (out := layers.layers[k].out) is not None}
    last = segment[-1]
    k, goal = last, height(layers, last)  # of layer k rows before `goal` are wanted now
    while k >= segment[0]:
        layer, y = layers.layers[k], done[k]
        if y == height(layers, k):  # then what nobody wants of those before, if anything
            k -= 1
            goal = height(layers, k)
            continue
        end = min(y + rows, goal)
        _, need = layer.rows_needed(end - 1, layers.maps[layer.source].height)
        for map_, wanted in ((layer.source, need), (layer.base, end)):
            if map_ in maker and done[maker[map_]] < wanted:
                k, goal = maker[map_], wanted
                break
        else:
            yield _step(layers, k, y, end)
            done[k] = end
            k, goal = last, height(layers, last)


def calls(layers: Layers, segment: range, rows: int) -> Iterator[Step]:
    """`steps`, with those split by rows whose functions read and write row by row; a convolution's may go by columns."""
    for step in steps(layers, segment, rows):
        if layers.layers[step.layer].kind == "conv" or layers.layers[step.layer].out is None:
            yield step
        else:
            yield from (_step(layers, step.layer, y, y + 1) for y in range(step.first, step.end))


def streams(layers: Layers, segment: range) -> bool:
    """Can the layers of a segment run row by row together? The classifier needs its whole map."""
    return len(segment) == 1 or all(layers.layers[k].kind != "logits" for k in segment)


def rows_kept(layers: Layers, segment: range, rows: int) -> dict[int, int]:
    """Of every map that is made and used up within the segment, how many rows must be kept."""
    if len(segment) == 1:
        return {}
    made_here = {out for k in segment if (out := layers.layers[k].out) is not None}
    inside = made_here & _only_read_in(layers, segment)
    made = dict.fromkeys(inside, 0)
    kept = dict.fromkeys(inside, 1)
    order = list(steps(layers, segment, rows))
    # The oldest row of a map that some later step reads, step by step, from behind.
    oldest: list[dict[int, int]] = [{}] * (len(order) + 1)
    for i in range(len(order) - 1, -1, -1):
        needed = dict(oldest[i + 1])
        for map_, first, end in _reads(layers, order[i]):
            if end > first:
                needed[map_] = min(needed.get(map_, first), first)
        oldest[i] = needed
    for i, step in enumerate(order):
        out = layers.layers[step.layer].out
        if out is not None and out in made:
            made[out] = step.end
        for map_ in inside:
            if map_ in oldest[i]:  # rows that this step still reads or writes beside
                kept[map_] = max(kept[map_], made[map_] - oldest[i][map_])
    return {m: min(n, layers.maps[m].height) for m, n in kept.items()}


def may_overwrite(layers: Layers, segment: range, rows: int, old: int, new: int, gap: int) -> bool:
    """May whole map `new`, made in the segment, begin `gap` bytes before whole map `old`, which nothing reads afterwards?

    A step that overwrites bytes must not read them, nor may a later one; but a base may be overwritten by its own sum.
    """
    one, other = layers.maps[old], layers.maps[new]
    overwritten = 0  # bytes of `old` from its start that are gone: a map is written from its first row to its last
    for step in calls(layers, segment, rows):
        layer = layers.layers[step.layer]
        gone = max(overwritten, step.end * other.row_bytes - gap) if layer.out == new else overwritten
        in_place = layer.base == old and layer.source != old and layer.out == new and gap == 0 and other.type == "i16"
        if layer.base == old and layer.out == new and not in_place:
            return False  # a kernel may read the rows of its base and write its own in any order
        for map_, first, end in _reads(layers, step):
            if map_ == old and end > first and first * one.row_bytes < (overwritten if in_place else gone):
                return False
        overwritten = gone
    return True


def _reads(layers: Layers, step: Step) -> Iterator[tuple[int, int, int]]:
    layer = layers.layers[step.layer]
    yield layer.source, step.source_first, step.source_end
    if layer.base is not None:
        yield layer.base, step.first, step.end


def _only_read_in(layers: Layers, segment: range) -> set[int]:
    outside = {m for k, layer in enumerate(layers.layers) if k not in segment for m in layer.reads}
    return {m for m in range(len(layers.maps)) if m not in outside}


def height(layers: Layers, k: int) -> int:
    """Rows that a layer makes."""
    out = layers.layers[k].out
    return 1 if out is None else layers.maps[out].height


def _step(layers: Layers, k: int, first: int, end: int) -> Step:
    layer: Layer = layers.layers[k]
    height = layers.maps[layer.source].height
    if layer.kind == "logits":
        return Step(k, 0, 1, 0, height)
    return Step(k, first, end, layer.rows_needed(first, height)[0], layer.rows_needed(end - 1, height)[1])
