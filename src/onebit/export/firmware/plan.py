"""Where everything lies in the one piece of memory that firmware has, the arena, and in what order layers run.

Two schedules. The fast one runs layer after layer. The low-memory one runs some successive layers together, row by row,
where that lowers the most memory in use at any time; their kernels build their tables anew for each row, which takes time.
In both, maps share memory wherever their lifetimes allow, sums are added in place, and a map may be written over the one
that it is made of where each row is read before it is overwritten. `proof.prove` runs the plan with every byte labelled.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache

from onebit.errors import OnebitError
from onebit.export.firmware import layouts, schedule
from onebit.export.firmware.layers import Layers, fuse
from onebit.export.firmware.layouts import Family
from onebit.packed.program import Program

MOST_ROWS = 4  # at a time of layers that run together
MOST_GAP = 3  # rows by which a map may begin before the one that it is written over; costs memory at other times
LONGEST = 6  # layers that run together; more save nothing in residual networks
ALIGN = 8
TRIES = 300  # orders in which to lay out buffers
GENEROUS, SPARING = 16, 128  # one part in so many, by which larger chunks may raise the memory: fast, low
LARGEST = 1 << 31
KERNEL_FILES: dict[Family, tuple[str, ...]] = {
    "any": ("conv_any.c",),
    "few": ("conv_few.c",),
    "nibble": ("conv_nibble.c", "nibble_thumb1.c", "nibble_thumb2.c"),
    "helium": ("conv_helium.c",),
}


@dataclass(frozen=True, eq=False)
class Plan:
    """A program laid out.

    Attributes:
        segments: layers that run together, in order; one alone runs whole.
        together: how many rows at a time the layers of a segment make; one alone makes all.
        kernels: of each layer that is a convolution its kernel family and its chunk of channels (layouts.chunks).
        rows: of each map how many rows are kept.
        at: where each map begins, in bytes from the start of the arena.
        scratch_at, scratch: where each layer's scratch memory begins, and its bytes.
        arena: bytes of it all.
    """

    layers: Layers
    segments: tuple[range, ...]
    together: tuple[int, ...]
    kernels: tuple[tuple[Family, int] | None, ...]
    rows: tuple[int, ...]
    at: tuple[int, ...]
    scratch_at: tuple[int, ...]
    scratch: tuple[int, ...]
    arena: int
    bound: int  # no arrangement of these buffers needs less

    @property
    def sources(self) -> list[str]:
        """The C files that it needs, of those that all networks share."""
        kinds = {f"layer_{layer.kind}.c" for layer in self.layers.layers}
        kernels = {file for kernel in self.kernels if kernel for file in KERNEL_FILES[kernel[0]]}
        return ["run.c", "numbers.c", *sorted(kinds), *sorted(kernels)]

    def bytes_of(self, map_: int) -> int:
        """Bytes that a map takes."""
        return self.rows[map_] * self.layers.maps[map_].row_bytes


def plan(program: Program, families: Sequence[Family] = ("few", "nibble", "any"), low_memory: bool = False) -> Plan:
    """Lay a program out for the kernel families that a core has, the preferred first.

    Raises OnebitError where a number is beyond what firmware stores of it.
    """
    layers = fuse(program)
    if "nibble" in families and "helium" not in families:  # which wants channels together
        layers = layers.in_tuples()
    found = []
    for gaps in (0, MOST_GAP):
        planner = _Planner(layers, families, gaps)
        found.append(planner.arrange(planner.partition(False), GENEROUS))
        if low_memory:
            found.append(planner.arrange(planner.partition(True), SPARING))
    best = min(found, key=lambda laid: laid.arena)
    if best.arena >= LARGEST:
        raise OnebitError(f"firmware would need {best.arena:,} bytes of memory; 2 GiB is the most that it addresses")
    return best


@dataclass(frozen=True)
class _Piece:
    """Bytes [at, at + size) of a unit are in use while segments first..last run."""

    first: int
    last: int
    at: int
    size: int
    what: int  # a map, or ~layer for scratch


class _Planner:
    def __init__(self, layers: Layers, families: Sequence[Family], gaps: int) -> None:
        self.layers = layers
        self.gaps = gaps
        self.families = families
        count = len(layers.maps)
        self.born, self.dies = [0] * count, [0] * count
        for k, layer in enumerate(layers.layers):
            if layer.out is not None:
                self.born[layer.out] = k
            for m in layer.reads:
                self.dies[m] = k
        self.family = [self._family(k) for k in range(len(layers.layers))]

    def _family(self, k: int) -> Family | None:
        layer = self.layers.layers[k]
        if layer.kind != "conv":
            return None
        shape = self.layers.conv_shape(layer)
        return next((f for f in self.families if layouts.takes(f, shape)), "any")

    def chunks(self, k: int, by_row: bool) -> list[int]:
        family = self.family[k]
        if family is None:
            return [0]
        return layouts.chunks(family, self.layers.conv_shape(self.layers.layers[k]), by_row)

    def least(self, segment: range) -> int:
        """Scratch bytes that a segment cannot do without."""
        return _aligned(max(self.scratch(k, self.chunks(k, len(segment) > 1)[0]) for k in segment))

    def scratch(self, k: int, chunk: int) -> int:
        layer, family = self.layers.layers[k], self.family[k]
        if layer.kind == "logits":  # sums of the channels, where one weight serves all positions
            return 4 * layer.value.shape[0] if layer.kernel == (1, 1) else 0
        return 0 if family is None else layouts.scratch(family, self.layers.conv_shape(layer), chunk)

    # -- which layers run together -----------------------------------------------------------------------------------

    def partition(self, low_memory: bool) -> tuple[range, ...]:
        count = len(self.layers.layers)
        if not low_memory:
            return tuple(range(k, k + 1) for k in range(count))
        choices = [
            segment
            for first in range(count)
            for end in range(first + 1, min(first + LONGEST, count) + 1)
            if schedule.streams(self.layers, segment := range(first, end))
        ]
        need = {segment: self._need(segment) for segment in choices}
        most = self._best(choices, lambda segment: need[segment], max)[0]
        fitting = [segment for segment in choices if need[segment] <= most]
        # Of all that get by with so little, the one with the least work row by row.
        return self._best(fitting, lambda s: self._work(s) if len(s) > 1 else 0, lambda a, b: a + b)[1]

    def _best(
        self, segments: Sequence[range], cost: Callable[[range], int], join: Callable[[int, int], int]
    ) -> tuple[int, tuple[range, ...]]:
        """The cheapest way to cut the layers into some of `segments`; of equals, that with the fewest together."""
        by_end: dict[int, list[range]] = {}
        for segment in segments:
            by_end.setdefault(segment.stop, []).append(segment)

        @cache
        def until(end: int) -> tuple[int, int, tuple[range, ...]] | None:
            if end == 0:
                return 0, 0, ()
            found = []
            for segment in by_end.get(end, ()):
                before = until(segment.start)
                if before:
                    found.append((join(before[0], cost(segment)), before[1] + len(segment) - 1, (*before[2], segment)))
            return min(found, key=lambda f: f[:2]) if found else None

        best = None
        for end in range(1, len(self.layers.layers) + 1):  # from the front: no deep recursion
            best = until(end)
        assert best is not None
        return best[0], best[2]

    def _work(self, segment: range) -> int:
        return sum(self.layers.program.macs(self.layers.layers[k].operation) for k in segment)

    def _need(self, segment: range) -> int:
        """Bytes in use while a segment runs, with the smallest chunks."""
        return self._in_use(segment, self._choices(segment)[0]) + self.least(segment)

    def _choices(self, segment: range) -> range:
        """How many rows at a time a segment may make."""
        if len(segment) > 1:
            return range(1, MOST_ROWS + 1)
        rows = schedule.height(self.layers, segment[0])
        return range(rows, rows + 1)

    def _in_use(self, segment: range, rows: int) -> int:
        """Bytes of maps in use while a segment runs."""
        return sum(high - low for low, high in self._segment_units(segment, rows))

    def _segment_units(self, segment: range, rows: int) -> list[tuple[int, int]]:
        """The extents of maps in use while a segment runs, `rows` rows at a time; those that share memory make one."""
        kept = schedule.rows_kept(self.layers, segment, rows)
        over = self._overwrites(segment, rows, kept)
        extents = []
        shared = {new for new, _ in over.values()}
        for m in range(len(self.layers.maps)):
            if m in kept:
                extents.append((0, _aligned(kept[m] * self.layers.maps[m].row_bytes)))
            elif m not in shared and self._alive(m, segment):
                low, high = 0, self._whole(m)
                if m in over:
                    new, gap = over[m]
                    low, high = -gap, max(high, self._whole(new) - gap)
                extents.append((low, high))
        return extents

    def _alive(self, m: int, segment: range) -> bool:
        born = self.born[m] if self.layers.maps[m].value >= 0 else -1
        return born < segment.stop and self.dies[m] >= segment.start

    def _whole(self, m: int) -> int:
        return _aligned(self.layers.maps[m].height * self.layers.maps[m].row_bytes)

    def _overwrites(self, segment: range, rows: int, kept: dict[int, int]) -> dict[int, tuple[int, int]]:
        """Whole maps that die in a segment -> the whole map that is written over it, and how many bytes before it begins."""
        found: dict[int, tuple[int, int]] = {}
        new_maps = [self.layers.layers[k].out for k in segment]
        dying = [
            m for m in range(len(self.layers.maps))
            if m not in kept and m not in new_maps and self._alive(m, segment) and self.dies[m] < segment.stop
        ]  # fmt: skip
        for new in new_maps:
            if new is None or new in kept:
                continue
            best: tuple[int, int, int] | None = None
            for old in dying:
                if old in found:
                    continue
                gap = self._gap(segment, rows, old, new)
                if gap is not None:
                    saved = min(self._whole(old), self._whole(new)) - gap
                    if saved > 0 and (best is None or saved > best[0]):
                        best = (saved, old, gap)
            if best:
                found[best[1]] = (new, best[2])
        return found

    def _gap(self, segment: range, rows: int, old: int, new: int) -> int | None:
        row = self.layers.maps[new].row_bytes
        for before in range(self.gaps + 1):
            gap = before * row
            if gap % ALIGN == 0 and schedule.may_overwrite(self.layers, segment, rows, old, new, gap):
                return gap
        return None

    # -- where everything lies ---------------------------------------------------------------------------------------

    def arrange(self, segments: tuple[range, ...], part: int) -> Plan:
        count = len(self.layers.maps)
        of_layer = {k: s for s, segment in enumerate(segments) for k in segment}
        rows = [m.height for m in self.layers.maps]
        together, chunks = self._largest(segments, part)
        scratch = [self.scratch(k, chunk) for k, chunk in enumerate(chunks)]
        chain: dict[
            int, tuple[int, int]
        ] = {}  # map -> the map that it overwrites, how many bytes before that it begins
        use = []
        for segment, at_once in zip(segments, together, strict=True):
            kept = schedule.rows_kept(self.layers, segment, at_once)
            for m, n in kept.items():
                rows[m] = n
            for old, (new, gap) in self._overwrites(segment, at_once, kept).items():
                chain[new] = (old, gap)
            use.append(self._in_use(segment, at_once))
        units: dict[int, list[_Piece]] = {}
        for m in range(count):
            root, at = m, 0
            while root in chain:
                root, gap = chain[root]
                at -= gap
            born = of_layer[self.born[m]] if self.layers.maps[m].value >= 0 else 0
            size = _aligned(rows[m] * self.layers.maps[m].row_bytes)
            units.setdefault(root, []).append(_Piece(born, of_layer[self.dies[m]], at, size, m))
        for k in range(len(self.layers.layers)):
            if scratch[k]:
                s = of_layer[k]
                units[-1 - k] = [_Piece(s, s, 0, _aligned(scratch[k]), ~k)]
        bound = max(n + _aligned(max(scratch[k] for k in s)) for n, s in zip(use, segments, strict=True))
        places, arena = _pack(list(units.values()), bound)
        return Plan(
            self.layers, segments, together,
            tuple(None if f is None else (f, c) for f, c in zip(self.family, chunks, strict=True)), tuple(rows),
            tuple(places[m] for m in range(count)), tuple(places.get(~k, 0) for k in range(len(self.layers.layers))),
            tuple(scratch), arena, bound,
        )  # fmt: skip

    def _largest(self, segments: tuple[range, ...], part: int) -> tuple[tuple[int, ...], list[int]]:
        """Rows at a time of each segment and chunks of each layer, for the least work in little memory."""
        most = max(self._need(segment) for segment in segments)
        most += most // part
        together, chunks = [], []
        for segment in segments:
            choices = []
            for rows in self._choices(segment):
                left = most - self._in_use(segment, rows)
                if left < self.least(segment):
                    break
                fitting = [
                    [c for c in self.chunks(k, len(segment) > 1) if _aligned(self.scratch(k, c)) <= left][-1]
                    for k in segment
                ]
                tables = sum(self._tables(k, rows, chunk) for k, chunk in zip(segment, fitting, strict=True))
                choices.append((tables, rows, fitting))
            _, rows, fitting = min(choices, key=lambda choice: choice[:2])
            together.append(rows)
            chunks += fitting
        return tuple(together), chunks

    def _tables(self, k: int, rows: int, chunk: int) -> int:
        """How many tables a layer builds, as a measure of the work that depends on rows and chunk."""
        if self.family[k] != "nibble":
            return 0
        return layouts.tables(self.layers.conv_shape(self.layers.layers[k]), chunk, rows)


def _aligned(size: int) -> int:
    return -(-size // ALIGN) * ALIGN


def _pack(units: list[list[_Piece]], bound: int) -> tuple[dict[int, int], int]:
    """Places of all pieces, and the bytes needed: the best of some orders, at most `TRIES`; `bound` ends the search."""
    best: tuple[int, dict[int, int]] | None = None
    # The largest first is often right; scratch at the bottom leaves room for what is written over something above it.
    order = sorted(units, key=lambda unit: (-_extent(unit), unit[0].first))
    starts = [sorted(order, key=lambda unit: unit[0].what >= 0), order]
    kept, rng = order, random.Random(0)
    for _ in range(TRIES):
        order = starts.pop() if starts else order
        placed: list[_Piece] = []
        for unit in order:
            shift = _lowest(unit, placed)
            placed += [replace(piece, at=piece.at + shift) for piece in unit]
        arena = max(piece.at + piece.size for piece in placed)
        if best is None or arena <= best[0]:
            best, kept = (arena, {piece.what: piece.at for piece in placed}), order
        if arena <= bound:
            break
        if starts:
            continue
        order = kept.copy()
        order.insert(rng.randrange(len(order)), order.pop(rng.randrange(len(order))))
    assert best is not None
    return best[1], best[0]


def _extent(unit: list[_Piece]) -> int:
    return max(piece.at + piece.size for piece in unit) - min(piece.at for piece in unit)


def _lowest(unit: list[_Piece], placed: list[_Piece]) -> int:
    """The least shift at which no piece of a unit meets a placed one in time and memory."""
    lowest = -min(p.at for p in unit)
    taken = [
        (p, q) for p in unit for q in placed if p.first <= q.last and q.first <= p.last and not (p.what < 0 and q.what < 0)
    ]  # fmt: skip
    candidates = sorted({lowest, *(s for p, q in taken if (s := q.at + q.size - p.at) >= lowest)})
    for shift in candidates:
        if all(p.at + shift >= q.at + q.size or q.at >= p.at + shift + p.size for p, q in taken):
            return shift
    raise AssertionError("above everything there is room")
