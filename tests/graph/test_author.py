"""The author's three layouts, written here from small networks, against those networks; and what is refused."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onebit.errors import OnebitError
from onebit.graph import author
from onebit.graph import nodes as graph

torch = pytest.importorskip("torch")
scipy_io = pytest.importorskip("scipy.io")

from support.published import RECIPES, Values, cells, images, network, published, written  # noqa: E402

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@pytest.mark.parametrize(
    ("layout", "classes", "depth", "width", "starts"),
    [
        ("keras", 10, 20, 0.25, (0, 84)),
        ("keras", 100, 20, 0.25, (40, 105)),
        ("keras", 10, 26, 0.125, (95, 1)),
        ("matlab", 10, 20, 0.25, None),
        ("matlab", 100, 26, 0.125, None),
        ("plain", 100, 20, 0.25, None),
        ("plain", 10, 8, 1, None),
    ],
)
def test_an_imported_network_computes_what_the_network_computes(
    tmp_path: Path, layout: str, classes: int, depth: int, width: float, starts: tuple[int, int] | None
) -> None:
    net = network(layout, classes, depth, width)
    imported = author.read(written(tmp_path, published(net, layout, *(starts or ()))))
    with torch.no_grad():
        expected = net(images(4)).numpy()
    found = graph.run(imported.graph, images(4).numpy())
    assert found.shape == (4, classes)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
    assert imported.classes == (CIFAR10 if classes == 10 else tuple(map(str, range(100))))
    assert imported.accuracy == (81.25 if layout == "matlab" else None)
    assert ("plain" in imported.layout, "Keras" in imported.layout) == (layout == "plain", layout == "keras")
    convs = [n.name for n in imported.graph.nodes if isinstance(n, graph.Conv)]
    assert convs == [n.removesuffix(".1") for n, m in net.named_modules() if isinstance(m, torch.nn.Conv2d)]


@pytest.mark.parametrize("layout", ["matlab", "plain"])
def test_stride_and_padding_may_be_missing(tmp_path: Path, layout: str) -> None:
    net = network(layout, depth=14)
    values = published(net, layout)
    whole = author.read(written(tmp_path, values))
    del values["Stride"], values["Padding"]
    bare = author.read(written(tmp_path, values))
    assert np.array_equal(graph.run(bare.graph, images(2).numpy()), graph.run(whole.graph, images(2).numpy()))


def test_cells_and_vectors_may_lie_either_way_and_numbers_be_of_any_type(tmp_path: Path) -> None:
    values = published(network("matlab"), "matlab")
    expected = graph.run(author.read(written(tmp_path, values)).graph, images(2).numpy())
    for name, value in values.items():
        if isinstance(value, np.ndarray):
            values[name] = value.T
    values["BinaryWeights"] = cells([w.astype(float) for w in values["BinaryWeights"].flat])
    values["BNG"] = cells([g.astype(np.float64).T for g in values["BNG"].flat], True)
    found = graph.run(author.read(written(tmp_path, values, compressed=False)).graph, images(2).numpy())
    assert np.array_equal(found, expected)


# ---- what is refused: a change of a good file, and what is said of it


def changed(name: str, change: Callable[[Any], Any], cell: int | None = None) -> Callable[[Values], None]:
    def apply(values: Values) -> None:
        if cell is None:
            values[name] = change(np.array(values[name]))
        else:
            values[name].flat[cell] = change(np.array(values[name].flat[cell]))

    return apply


def at(index: tuple[int, ...], number: float) -> Callable[[np.ndarray], np.ndarray]:
    def put(array: np.ndarray) -> np.ndarray:
        array = array.astype(np.float64)
        array[index] = number
        return array

    return put


def without(name: str) -> Callable[[Values], None]:
    return lambda values: values.pop(name)


def renamed(old: str, new: str) -> Callable[[Values], None]:
    return lambda values: values.update({new: values.pop(old)})


def both(*changes: Callable[[Values], None]) -> Callable[[Values], None]:
    return lambda values: [change(values) for change in changes]


KERAS = {
    "nothing": (lambda v: v.clear(), "holds no network: none of the variables BinaryWeights"),
    "one missing": (without("conv2d_3"), "conv2d_4 follows conv2d_2: a layer is missing"),
    "last missing": (without("conv2d_7"), "9 batch-norms for 7 convolutions"),
    "norm missing": (without("batch_normalization_v1_86"), "batch_normalization_v1_87 follows .*_v1_85"),
    "norm too few": (without("batch_normalization_v1_92"), "8 batch-norms for 8 convolutions, expected 9"),
    "there twice": (renamed("batch_normalization_v1_84", "batch_normalization_85"), "there twice"),
    "weights alone": (lambda v: [v.pop(n) for n in list(v) if n[0] == "b"], "the file with both is named"),
    "weights 2": (changed("conv2d_3", at((0, 1, 1, 0, 1), 2)), "conv2d_3 holds 2.0, expected weights 0 and 1"),
    "weights nan": (changed("conv2d", at((0, 1, 1, 0, 1), np.nan)), "conv2d holds nan, expected weights 0 and 1"),
    "weights text": (changed("conv2d_2", lambda a: "abc"), "conv2d_2 is no array of real numbers"),
    "weights complex": (changed("conv2d_2", lambda a: a * 1j), "conv2d_2 is no array of real numbers"),
    "weights cell": (changed("conv2d_2", lambda a: cells([a])), "conv2d_2 is no array of real numbers"),
    "weights flat": (changed("conv2d_2", lambda a: a.reshape(1, -1)), "conv2d_2 is 1x36, expected kernel rows"),
    "weights empty": (changed("conv2d_2", lambda a: a[..., :0]), "conv2d_2 is 3x3x2x0, expected kernel rows"),
    "kernel even": (changed("conv2d_2", lambda a: a[:, :2, :2]), "conv2d_2 is 2x2x2x2, .*odd side"),
    "kernel oblong": (changed("conv2d_2", lambda a: a[:, :1]), "conv2d_2 is 1x3x2x2, .*square"),
    "do not chain": (changed("conv2d_2", lambda a: a[:, :, :, :1]), "makes 2 channels, the next one takes 1"),
    "width odd": (
        both(changed("conv2d_3", lambda a: np.tile(a, 2)[..., :7]), changed("conv2d_4", lambda a: a[:, :, :, [0] * 7])),
        r"convolution 3 \(from 0\) makes 7 channels of 2, neither as many nor twice",
    ),
    "moments short": (changed("batch_normalization_v1_86", lambda a: a[..., :-1]), "_86 is 2x1, expected 2x2 or 4x2"),
    "moments rows": (changed("batch_normalization_v1_86", lambda a: a[[0, 0, 1]]), "_86 is 3x2, expected 2x2 or 4x2"),
    "moments nan": (changed("batch_normalization_v1_86", at((0, 1), np.nan)), "_86 holds nan, which is not finite"),
    "moments inf": (changed("batch_normalization_v1_84", at((1, 1), np.inf)), "_84 holds inf, which is not finite"),
    "variance": (changed("batch_normalization_v1_86", at((1, 1), -0.5)), "_86: variance -0.5 of channel 1 is negative"),
    "colours": (
        both(changed("conv2d", lambda a: a[:, :, :, :1]), changed("batch_normalization_v1_84", lambda a: a[:, :1])),
        r"layer 'input_norm': mean has shape \(1,\), the map has 3 channels",
    ),
}  # fmt: skip

MATLAB = {
    "depth": (changed("BinaryWeights", lambda a: a[..., :-1]), "7 convolutions, a wide residual network has 6n"),
    "no cell": (changed("BinaryWeights", lambda a: np.ones((1, 8))), "BinaryWeights is no cell array of one row"),
    "cell square": (changed("BinaryWeights", lambda a: a.reshape(2, 4)), "BinaryWeights is no cell array of one row"),
    "cell text": (changed("BinaryWeights", lambda a: "abc", 2), r"BinaryWeights\{3\} is no array of real numbers"),
    "cell in cell": (changed("BinaryWeights", lambda a: cells([a]), 2), r"BinaryWeights\{3\} is no array of real"),
    "cell empty": (changed("Moments", lambda a: a[:0, :0], 3), r"Moments\{4\} is 0x0, expected 2x2"),
    "no scales": (without("LayerWeights"), "variable LayerWeights is missing"),
    "scales few": (changed("LayerWeights", lambda a: a[:-1]), "LayerWeights is 7x1, expected 8x1 or 1x8"),
    "scale zero": (changed("LayerWeights", at((3, 0), 0)), r"layer 'body.1.conv1': scale 0.0 is not positive"),
    "scale nan": (changed("LayerWeights", at((3, 0), np.nan)), "LayerWeights holds nan, which is not finite"),
    "scale cell": (changed("LayerWeights", lambda a: cells(list(a))), "LayerWeights is no array of real numbers"),
    "no moments": (without("Moments"), "variable Moments is missing"),
    "no gains": (without("BNG"), "variable BNG is missing"),
    "moments few": (changed("Moments", lambda a: a[:-1]), "Moments has 8 cells for 8 convolutions, expected 9"),
    "moments turned": (changed("Moments", lambda a: a.T, 4), r"Moments\{5\} is 2x4, expected 4x2"),
    "deviation": (changed("Moments", at((1, 1), -2), 3), r"Moments\{4\}: deviation -2 of channel 1 is not positive"),
    "deviation zero": (changed("Moments", at((1, 1), 0), 3), r"Moments\{4\}: deviation 0 of channel 1 is not positive"),
    "gain": (changed("BNG", at((1, 0), np.inf), 0), r"BNG\{1\} holds inf, which is not finite"),
    "offset": (changed("BNB", lambda a: a[:-1], 0), r"BNB\{1\} is 2x1, expected 3x1 or 1x3"),
    "stride 3": (changed("Stride", at((0, 3), 3)), r"Stride of convolution 3 \(from 0\) is 3, expected 1 to 2"),
    "stride 1.5": (changed("Stride", at((0, 3), 1.5)), "Stride of convolution 3 .* is 1.5, expected 1 to 2"),
    "stride 1": (changed("Stride", at((0, 3), 1)), "layer 'body.1': cannot add maps"),
    "stride many": (changed("Stride", lambda a: np.tile(a, 2)), "Stride is 1x16, expected 8x1 or 1x8"),
    "padding": (changed("Padding", at((0, 3), 3)), r"Padding of convolution 3 \(from 0\) is 3, expected 0 to 2"),
    "padding 0": (changed("Padding", at((0, 2), 0)), "layer 'body.0': cannot add maps"),
    "accuracy": (changed("PercentCorrectTest", lambda a: a * 2), "PercentCorrectTest does not end with a percentage"),
    "accuracy none": (changed("PercentCorrectTest", lambda a: a[:, :0]), "PercentCorrectTest does not end with"),
}  # fmt: skip

PLAIN = {
    "one": (changed("BooleanSingleBitWeights", lambda a: a[:, :1]), "has 1 cells, fewer than two convolutions"),
    "no scales": (without("LayerScales"), "variable LayerScales is missing"),
    "moments": (without("BN_Moments"), "variable BN_Moments is missing"),
    "offsets": (without("BN_Offsets"), "variable BN_Offsets is missing"),
    "too small": (
        both(changed("Stride", lambda a: a * 0 + 2), changed("Padding", lambda a: a * 0)),
        "a window of 3x3 does not fit",
    ),
}  # fmt: skip

CASES = {
    f"{layout}: {name}": (layout, *case)
    for layout, cases in (("keras", KERAS), ("matlab", MATLAB), ("plain", PLAIN))
    for name, case in cases.items()
}


@pytest.mark.parametrize("case", CASES)
def test_refuses(tmp_path: Path, case: str) -> None:
    layout, change, message = CASES[case]
    values = published(network(layout), layout)
    change(values)
    path = written(tmp_path, values)
    with pytest.raises(OnebitError, match=message) as caught:
        author.read(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ") and "\n" not in text and "fetch the file again" in text


def test_refuses_a_residual_map_that_loses_channels(tmp_path: Path) -> None:
    values = published(network("matlab"), "matlab")
    for i in (3, 4, 5):  # 4 channels become one
        values["BinaryWeights"].flat[i] = values["BinaryWeights"].flat[i][..., :1]
        values["BinaryWeights"].flat[i + 1] = values["BinaryWeights"].flat[i + 1][:, :, :1]
        for name in ("Moments", "BNG", "BNB"):
            values[name].flat[i + 1] = values[name].flat[i + 1][:1]
    with pytest.raises(OnebitError, match=r"layer 'body.1': makes 1 channels of 2, they cannot become fewer"):
        author.read(written(tmp_path, values))


@pytest.mark.parametrize(
    "content", [None, b"", b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM", b"\x80\x04]", b"\0" * 300]
)
def test_refuses_other_files(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "net.mat"
    if content is not None:
        path.write_bytes(content)
    for wrong in (path, tmp_path):
        with pytest.raises(OnebitError) as caught:
            author.read(wrong)
        assert str(caught.value).startswith(f"{wrong}: ")


# ---- damage


def elements(data: bytes) -> list[tuple[int, int]]:
    """Where the elements of an undamaged file begin and end."""
    found, start = [], 128
    while start < len(data):
        end = start + 8 + struct.unpack_from("<I", data, start + 4)[0]
        found.append((start, end))
        start = end
    return found


def packed(data: bytes, where: list[tuple[int, int]]) -> bytes:
    """The same file with its elements deflated, checksums and all."""
    small = [zlib.compress(data[start:end]) for start, end in where]
    return data[:128] + b"".join(struct.pack("<II", 15, len(s)) + s for s in small)


@pytest.fixture(scope="module")
def undamaged(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], bytes]:
    """A file of each layout, not deflated; as a function, since hypothesis prints what it is given."""
    root = tmp_path_factory.mktemp("files")
    return {x: written(root, published(network(x), x), compressed=False).read_bytes() for x in RECIPES}.__getitem__


@settings(max_examples=150)
@given(data=st.data())
def test_damage_never_does_more_than_an_error(
    undamaged: Callable[[str], bytes], tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    good = undamaged(data.draw(st.sampled_from(list(RECIPES))))
    where = elements(good)
    bad = bytearray(good)
    # Headers hold the sizes: they are hit as often as everything else.
    start = st.builds(lambda e, i: e[0] + i, st.sampled_from(where), st.integers(0, 120))
    for position in data.draw(st.lists(st.one_of(start, st.integers(0, len(good) - 1)), max_size=4)):
        bad[min(position, len(bad) - 1)] = data.draw(
            st.sampled_from([0, 1, 14, 15, 127, 128, 255]) | st.integers(0, 255)
        )
    content = bytes(bad)
    if data.draw(st.booleans()):
        content = packed(content, where)
        if data.draw(st.booleans()):
            content = content.replace(content[300:302], data.draw(st.binary(min_size=2, max_size=2)), 1)
    if data.draw(st.integers(0, 3)) == 0:
        content = content[: data.draw(st.integers(0, len(content)))]
    path = tmp_path_factory.getbasetemp() / "damaged.mat"
    path.write_bytes(content)
    try:
        imported = author.read(path)
    except OnebitError as error:
        assert str(error).startswith(f"{path}: ")
    else:
        assert imported.graph.shapes[-1] == (len(imported.classes), 1, 1)


def test_a_file_that_unpacks_without_end_takes_no_memory(tmp_path: Path) -> None:
    many = 1 << 28
    head = struct.pack("<IIII", 6, 8, 9, 0) + struct.pack("<IIIIIIII", 5, 20, 1, 1, 1, 1, many, 0)
    head += struct.pack("<II", 1, 6) + b"conv2d\0\0" + struct.pack("<II", 2, many)
    deflate = zlib.compressobj()
    small = deflate.compress(struct.pack("<II", 14, len(head) + many) + head)
    for _ in range(many >> 20):
        small += deflate.compress(bytes(1 << 20))
    small += deflate.flush()
    path = tmp_path / "bomb.mat"
    path.write_bytes(b"MATLAB 5.0".ljust(124) + b"\0\1IM" + struct.pack("<II", 15, len(small)) + small)
    tracemalloc.start()
    try:
        with pytest.raises(OnebitError, match="unpacks to far more than"):
            author.read(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < (1 << 24) + 34 * len(small) < many / 8
