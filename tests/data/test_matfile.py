"""MATLAB 5 files against scipy's writer, and against one written by hand from the format's description."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onebit.data import matfile, readers

DTYPES = ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"]


def every(path: Path) -> dict[str, np.ndarray]:
    return {v.name: v.read(int(np.prod(v.shape))).reshape(v.shape, order="F").copy() for v in matfile.variables(path)}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    st.sampled_from(DTYPES),
    st.lists(st.integers(0, 5), min_size=2, max_size=4),
    st.booleans(),
    st.integers(0, 2**32),
)
def test_reads_what_scipy_writes(
    tmp_path_factory: pytest.TempPathFactory, dtype: str, shape: list[int], compressed: bool, seed: int
) -> None:
    scipy_io = pytest.importorskip("scipy.io")
    generator = np.random.default_rng(seed)
    a, b = ((generator.random(shape) * 100).astype(dtype) for _ in range(2))
    others = {"text": "abc", "cell": np.array([1, "a"], object), "struct": {"x": 1}, "complex": np.ones(2) * 1j}
    path = tmp_path_factory.getbasetemp() / "scipy.mat"
    scipy_io.savemat(path, {"first": a, **others, "second": b}, do_compression=compressed)
    found = every(path)
    assert list(found) == ["first", "second"]
    for array, read in ((a, found["first"]), (b, found["second"])):
        assert read.dtype == array.dtype and np.array_equal(read, array)


def by_hand(order: str, packed: bool, numbers: list[int]) -> bytes:
    """int16 numbers in a row vector named "row"."""

    def element(kind: int, content: bytes) -> bytes:
        if 0 < len(content) <= 4:  # the small form: length and kind in one word
            return struct.pack(f"{order}I", len(content) << 16 | kind) + content.ljust(4, b"\0")
        return struct.pack(f"{order}II", kind, len(content)) + content + bytes(-len(content) % 8)

    body = element(6, struct.pack(f"{order}II", 10, 0)) + element(5, struct.pack(f"{order}ii", 1, len(numbers)))
    body += element(1, b"row") + element(3, struct.pack(f"{order}{len(numbers)}h", *numbers))
    array = struct.pack(f"{order}II", 14, len(body)) + body
    if packed:
        small = zlib.compress(array)
        array = struct.pack(f"{order}II", 15, len(small)) + small
    return b"by hand".ljust(124) + struct.pack(f"{order}H", 0x0100) + struct.pack(f"{order}H", 0x4D49) + array


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 40_000])
def test_reads_both_byte_orders_and_small_elements(tmp_path: Path, order: str, packed: bool, count: int) -> None:
    numbers = np.random.default_rng(0).integers(-(2**15), 2**15, count)
    (tmp_path / "a.mat").write_bytes(by_hand(order, packed, numbers.tolist()))
    assert np.array_equal(every(tmp_path / "a.mat")["row"], numbers[None])


@pytest.mark.parametrize("packed", [False, True])
def test_damage_is_noticed(tmp_path: Path, packed: bool) -> None:
    good = by_hand("<", packed, list(range(1000)))
    for bad in (b"", good[:127], good[:-1], good[:200], good[:124] + b"\0\2IM" + good[128:]):
        (tmp_path / "a.mat").write_bytes(bad)
        with pytest.raises((ValueError, EOFError, zlib.error, struct.error)):
            every(tmp_path / "a.mat")
    if packed:  # the checksum stands at the very end
        (tmp_path / "a.mat").write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
        with pytest.raises(zlib.error):
            for v in matfile.variables(tmp_path / "a.mat"):
                v.read(1000)
                v.stream.finish()


@pytest.mark.parametrize("compressed", [False, True])
def test_svhn_needs_its_pictures_in_memory_once(tmp_path: Path, compressed: bool) -> None:
    scipy_io = pytest.importorskip("scipy.io")
    x = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 3001), dtype=np.uint8)
    y = np.arange(3001)[:, None] % 10 + 1
    scipy_io.savemat(tmp_path / "a.mat", {"X": x, "y": y.astype(np.uint8)}, do_compression=compressed)
    tracemalloc.start()
    try:
        got = readers.svhn([tmp_path / "a.mat", tmp_path / "a.mat"])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2.6 * x.nbytes + 6_000_000  # both files, and what a part needs
    assert np.array_equal(got.images, np.concatenate([x, x], 3).transpose(3, 2, 0, 1))
    assert np.array_equal(got.labels, np.tile(y[:, 0] % 10, 2))


@pytest.mark.parametrize("compressed", [False, True])
def test_loads_what_is_wanted_whole(tmp_path: Path, compressed: bool) -> None:
    scipy_io = pytest.importorskip("scipy.io")
    logical, numbers = np.random.default_rng(0).random((3, 3, 2, 5)) < 0.5, np.arange(6.0).reshape(2, 3)
    cell = np.empty((2, 3), object)
    cell.flat[:] = [logical, numbers, "text", np.ones(2) * 1j, np.zeros((0, 4)), np.uint8([[7]])]
    others = {"text": "abc", "struct": {"x": cell}, "complex": np.ones(2) * 1j, "left": numbers}
    path = tmp_path / "a.mat"
    scipy_io.savemat(
        path, {**others, "logical": logical, "cell": cell, "f4": numbers.astype("f4")}, do_compression=compressed
    )
    found = matfile.load(path, lambda name: name != "left")
    assert list(found) == ["text", "struct", "complex", "logical", "cell", "f4"]
    assert found["text"] is found["struct"] is found["complex"] is None
    read = found["cell"]
    assert isinstance(read, matfile.Cell) and read.shape == (2, 3)
    expected = [logical, None, numbers, np.zeros((0, 4)), None, np.uint8([[7]])]  # column after column
    pairs = [(found["logical"], logical), (found["f4"], numbers), *zip(read.items, expected, strict=True)]
    for array, original in pairs:
        if original is None:
            assert array is None
        else:
            assert isinstance(array, np.ndarray) and np.array_equal(array, original)
    assert found["f4"].dtype == np.float32


def test_load_notices_a_wrong_checksum_and_too_many_cells(tmp_path: Path) -> None:
    good = by_hand("<", True, list(range(1000)))
    (tmp_path / "a.mat").write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(zlib.error):
        matfile.load(tmp_path / "a.mat", lambda name: True)
    assert matfile.load(tmp_path / "a.mat", lambda name: name == "other") == {}
    for shape in ((1 << 20, 1 << 11), (100, 101), (-1, 1)):
        head = struct.pack("<IIII", 6, 8, matfile.CELL, 0) + struct.pack("<IIii", 5, 8, *shape)
        array = head + struct.pack("<I", 1 << 16 | 1) + b"c\0\0\0"
        (tmp_path / "a.mat").write_bytes(good[:128] + struct.pack("<II", 14, len(array)) + array)
        with pytest.raises(ValueError, match="'c' announces"):
            matfile.load(tmp_path / "a.mat", lambda name: True)


def test_announced_size_is_checked_before_allocation(tmp_path: Path) -> None:
    plain = struct.pack("<IIIIII", 14, 1000, 6, 8, 9, 0) + struct.pack("<IIii", 5, 8, 2, 2_000_000_000)
    plain += struct.pack("<I", 1 << 16 | 1) + b"y\0\0\0" + struct.pack("<II", 2, 4_000_000_000)
    small = zlib.compress(plain)
    (tmp_path / "a.mat").write_bytes(by_hand("<", True, [1])[:128] + struct.pack("<II", 15, len(small)) + small)
    tracemalloc.start()
    try:
        with pytest.raises(readers.OnebitError, match=r"a\.mat.*no y of a possible size"):
            readers.svhn([tmp_path / "a.mat"])
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
