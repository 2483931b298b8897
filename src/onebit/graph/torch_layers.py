"""What each layer, function and tensor method of torch is in a `graph`: one small handler each, found in two tables.

`trace` calls them in the order of execution. A handler takes the builder, the arguments under torch's names (so that
keywords bind) and, for a layer, the layer itself; it returns a `Map`, or refuses.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NoReturn

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from onebit.binary import latent_weight, layer_scale
from onebit.errors import OnebitError
from onebit.graph import nodes as g
from onebit.networks.activations import QuantizedActivation, ShiftedReLU
from onebit.patches import Padding, output_size

Handler = Callable[..., Any]
NONE: Padding = (0, 0, 0, 0)
BATCH = 97  # what a network that asks how many images it was given is told: no layer has that size


@dataclass(frozen=True, eq=False)
class Map:
    """What stands for a torch tensor [N, C, H, W]: a node of the graph and what torch did that is not in it yet."""

    cell: list[int]  # the node; views of one tensor share the list, so that they see what happens in place
    pad: Padding = NONE  # zeros around it, for the convolution that reads it
    flat: bool = False  # [N, C * H * W]


def _copy(x: Map) -> Map:
    """The same numbers in another tensor: what happens to one in place, the other does not see."""
    return replace(x, cell=list(x.cell))


@dataclass
class Builder:
    """A graph in the making. `name` is the layer that is being added; every refusal and error begins with it."""

    name: str
    graph: g.Graph = field(default_factory=g.Graph)

    def refuse(self, why: str) -> NoReturn:
        raise OnebitError(f"layer {self.name!r}: {why}")

    def shape(self, x: Map) -> g.Shape:
        channels, height, width = self.graph.shapes[x.cell[0]]
        return channels, height + x.pad[0] + x.pad[2], width + x.pad[1] + x.pad[3]

    def emit(self, kind: type[g.Node], x: Map, *more: Map, name: str = "", inplace: bool = False, **fields: Any) -> Map:
        """Add a node that reads `x`; in place, every view of x stands for the new node from here on."""
        for a in (x, *more):
            self.unpadded(a)
        index = self.graph.add(kind(name or self.name, (x.cell[0], *(m.cell[0] for m in more)), **fields))
        if inplace:
            x.cell[0] = index
        return x if inplace else replace(x, cell=[index])

    def unpadded(self, x: Map) -> None:
        if any(x.pad):
            self.refuse("zero padding in front of it: only a convolution can read padded maps; pad just before it")

    def unflat(self, x: Map) -> None:
        if x.flat:
            self.refuse("it needs a map [N, C, H, W], not [N, features]; move it in front of flatten")

    def affine(self, x: Map, gain: Any, offset: Any, *, name: str = "", inplace: bool = False) -> Map:
        """``gain * x + offset``, each a number or a `vector`; nothing where that is x itself."""
        gain, offset = (v if isinstance(v, np.ndarray) else np.full(self.shape(x)[0], float(v)) for v in (gain, offset))
        if (gain == 1).all() and (offset == 0).all():
            return x if inplace else _copy(x)
        return self.emit(g.Affine, x, name=name, inplace=inplace, gain=gain, offset=offset)

    def bias(self, x: Map, bias: Tensor | None) -> Map:
        return x if bias is None else self.affine(x, 1, self.array("bias", bias), name=f"{self.name}.bias")

    def vector(self, x: Map, value: Any) -> g.Vector:
        """A constant of torch as one number a channel of `x`."""
        channels, height, width = self.shape(x)
        if not isinstance(value, int | float | Tensor):
            self.refuse(f"constant of type {type(value).__name__}: use a number or a tensor of one number a channel")
        array = self.array("constant", value) if isinstance(value, Tensor) else np.array(float(value))
        if array.size == 1:
            return np.full(channels, array.reshape(()))
        rank = 2 if x.flat else 4
        extents = (1,) * (rank - array.ndim) + array.shape
        if extents != (1, channels, 1, 1)[:rank] or (x.flat and (height, width) != (1, 1)):
            self.refuse(
                f"a constant of shape {list(array.shape)} on a map of {channels} channels: use one number a channel, "
                f"{[1, channels, 1, 1][:rank]}"
            )
        return array.reshape(-1)

    def array(self, what: str, tensor: Tensor) -> NDArray[np.float64]:
        array = tensor.detach().cpu().double().numpy()
        if not np.isfinite(array).all():
            self.refuse(f"its {what} is not finite: training diverged; take an earlier checkpoint")
        return array

    def stride(self, x: Map, kernel: tuple[int, int], strides: tuple[int, int], padding: Padding) -> int:
        """The one stride that makes the same windows: along a side with a single window it does not matter."""
        if strides[0] == strides[1]:
            return strides[0]
        size = self.shape(x)[1:]
        try:
            want = tuple(output_size(size, kernel, s, padding)[axis] for axis, s in enumerate(strides))
            for s in strides:
                same = all(n == 1 or s == t for n, t in zip(want, strides, strict=True))
                if same and output_size(size, kernel, s, padding) == want:
                    return s
        except OnebitError as error:
            self.refuse(str(error))
        self.refuse(f"stride {strides}: use one for height and width")


def _relu(w: Builder, x: Map, inplace: bool = False) -> Map:
    return w.emit(g.Activation, x, inplace=inplace)


def _threshold(w: Builder, x: Map, threshold: float, value: float, inplace: bool = False) -> Map:
    if threshold != value or value not in (0, -1):
        w.refuse(f"threshold({threshold}, {value}): only max(0, x) and max(-1, x) can be packed")
    return w.emit(g.Activation, x, inplace=inplace, low=float(value))


def _clamp(w: Builder, x: Map, min: float | None = None, max: float | None = None, inplace: bool = False) -> Map:
    if max is not None or min not in (0, -1):
        w.refuse(f"clamp(min={min}, max={max}): only max(0, x) and max(-1, x) can be packed")
    return w.emit(g.Activation, x, inplace=inplace, low=float(min))


def _quantized(w: Builder, x: Map, layer: QuantizedActivation) -> Map:
    levels = layer.high - layer.low + 1
    return w.emit(g.Activation, x, low=layer.low * layer.step, step=layer.step, levels=levels)


def _batch_norm(w: Builder, x: Map, layer: Any) -> Map:
    if layer.running_mean is None or layer.running_var is None:
        w.refuse("batch-norm without running statistics: train it with track_running_stats=True")
    channels, height, width = w.shape(x)
    if x.flat != isinstance(layer, nn.BatchNorm1d):
        have, use = ("[N, features]", "BatchNorm1d") if x.flat else ("a map [N, C, H, W]", "BatchNorm2d")
        w.refuse(f"{type(layer).__name__} of {have}: use {use}")
    if x.flat and (height, width) != (1, 1):
        w.refuse("batch-norm after flatten of a map: use BatchNorm2d in front of flatten")
    gain, offset = layer.weight, layer.bias
    return w.emit(
        g.BatchNorm,
        x,
        mean=w.array("running_mean", layer.running_mean),
        deviation=np.sqrt(w.array("running_var", layer.running_var) + layer.eps),
        gain=np.ones(channels) if gain is None else w.array("weight", gain),
        offset=np.zeros(channels) if offset is None else w.array("bias", offset),
    )


def _bits(w: Builder, layer: nn.Module) -> tuple[NDArray[np.bool_], float]:
    """Signs of the latent weight (True: +1), in its shape, and their scale."""
    p = layer_scale(layer)
    if p is None or not p.active:
        w.refuse("its weights are float; binarize it (onebit.binarize) and train it: a packed weight is one bit")
    if len(layer.parametrizations["weight"]) != 1:  # type: ignore[index, arg-type]
        w.refuse("its weight has a second parametrization beside the one bit; remove it")
    if p.scale == "bwn-channel":
        w.refuse("scale 'bwn-channel': a packed layer has one scale; train with 'he' or 'bwn-layer'")
    latent = w.array("weight", latent_weight(layer))
    return latent >= 0, p.constant if p.scale == "he" else float(np.abs(latent).mean())


def _conv(w: Builder, x: Map, layer: nn.Conv2d) -> Map:
    w.unflat(x)
    bits, scale = _bits(w, layer)
    for name, value, only in (
        ("groups", layer.groups, 1),
        ("dilation", layer.dilation, (1, 1)),
        ("padding_mode", layer.padding_mode, "zeros"),
    ):
        if value != only:
            w.refuse(f"{name} {value!r}: only {only!r} can be packed; train the layer with it")
    kernel = (bits.shape[2], bits.shape[3])
    if isinstance(layer.padding, str):  # torch puts the odd one of "same" behind
        total = tuple(k - 1 if layer.padding == "same" else 0 for k in kernel)
        own = (total[0] // 2, total[1] // 2, total[0] - total[0] // 2, total[1] - total[1] // 2)
    else:
        own = (layer.padding[0], layer.padding[1]) * 2
    padding: Any = tuple(a + b for a, b in zip(x.pad, own, strict=True))
    x = replace(x, pad=NONE)
    stride = w.stride(x, kernel, (layer.stride[0], layer.stride[1]), padding)
    x = w.emit(g.Conv, x, bits=bits.transpose(0, 2, 3, 1), scale=scale, stride=stride, padding=padding)
    return w.bias(x, layer.bias)


def _linear(w: Builder, x: Map, layer: nn.Linear) -> Map:
    """After flatten of a map a convolution whose kernel is the whole map."""
    if not x.flat:
        w.refuse("a Linear layer needs [N, features], not a map; flatten(1) in front of it")
    bits, scale = _bits(w, layer)
    shape = w.shape(x)
    if bits.shape[1] != np.prod(shape):
        w.refuse(
            f"{bits.shape[1]} features do not fit a map of {shape} (channels, height, width), {np.prod(shape)} numbers"
        )
    x = w.emit(g.Conv, x, bits=bits.reshape(-1, *shape).transpose(0, 2, 3, 1), scale=scale)
    return w.bias(x, layer.bias)


def _pad(w: Builder, x: Map, pad: Any, mode: str = "constant", value: float | None = None) -> Map:
    w.unflat(x)
    left, right, top, bottom, before, append, *batch = [*pad, 0, 0, 0, 0, 0, 0][:8]
    if mode != "constant" or value not in (None, 0) or min(pad) < 0 or before or any(batch):
        w.refuse(
            f"padding {tuple(pad)}, {mode} {value or 0}: only zeros around a map or behind its channels can be packed"
        )
    old, x = x.pad, _copy(x)
    if append:
        x = w.emit(g.Average, replace(x, pad=NONE), kernel=(1, 1), stride=1, append=append)
    return replace(x, pad=(old[0] + top, old[1] + left, old[2] + bottom, old[3] + right))


def _pool(w: Builder, x: Map, kind: type[g.Node], kernel: Any, stride: Any, padding: Any, ceil: bool) -> Map:
    w.unflat(x)
    size = w.shape(x)[1:]
    kernel, padding = _pair(kernel), _pair(padding)
    strides = _pair(stride) if stride else kernel
    after = list(padding)
    for i, (n, k, s, p) in enumerate(zip(size, kernel, strides, padding, strict=True)):
        if ceil:
            last = -((k - n - 2 * p) // s) * s  # where the last window starts, counted from the padded border
            last -= s if last >= n + p else 0  # it has to start in the map or the padding in front of it
            after[i] = max(p, last + k - n - p)
    if kind is g.Average and kernel == size and not any((*padding, *after)):
        return w.emit(g.Mean, x)
    sides = (*padding, *after)
    return w.emit(kind, x, kernel=kernel, stride=w.stride(x, kernel, strides, sides), padding=sides)


def _pair(value: Any) -> Any:
    return tuple(value) * (2 // len(value)) if isinstance(value, tuple | list) else (value, value)


def _avg_pool(
    w: Builder,
    x: Map,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Map:
    if divisor_override is not None or (count_include_pad and any(_pair(padding))):
        w.refuse("average pooling that counts its padding, or divides otherwise: set count_include_pad=False")
    return _pool(w, x, g.Average, kernel_size, stride, padding, ceil_mode)


def _max_pool(
    w: Builder,
    x: Map,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Map:
    if _pair(dilation) != (1, 1) or return_indices:
        w.refuse("max pooling with dilation or indices cannot be packed; use a plain one")
    return _pool(w, x, g.Max, kernel_size, stride, padding, ceil_mode)


def _adaptive_avg_pool(w: Builder, x: Map, output_size: Any) -> Map:
    size = w.shape(x)[1:]
    to = [n if o is None else o for n, o in zip(size, _pair(output_size), strict=True)]
    if any(n % o for n, o in zip(size, to, strict=True)):
        w.refuse(f"adaptive pooling of {size[0]}x{size[1]} to {to[0]}x{to[1]} has windows of several sizes; pool to 1")
    return _pool(w, x, g.Average, tuple(n // o for n, o in zip(size, to, strict=True)), None, 0, False)


def _mean(w: Builder, x: Map, dim: Any = None, keepdim: bool = False) -> Map:
    w.unflat(x)
    if dim is None or {d % 4 for d in (dim if isinstance(dim, tuple | list) else [dim])} != {2, 3}:
        w.refuse(f"mean over {dim}: only over height and width, (2, 3)")
    return replace(w.emit(g.Mean, x), flat=not keepdim)


def _flatten(w: Builder, x: Map, start_dim: int = 0, end_dim: int = -1) -> Map:
    rank = 2 if x.flat else 4
    if (start_dim % rank, end_dim % rank) != (1, rank - 1):
        w.refuse(f"flatten({start_dim}, {end_dim}): only flatten(1) keeps images apart and makes features of the rest")
    w.unpadded(x)
    return replace(x, flat=True)


def _view(w: Builder, x: Map, *shape: Any) -> Map:
    """Allowed where it is flatten(1), or what undoes it."""
    w.unpadded(x)
    sizes = list(shape[0] if isinstance(shape[0], tuple | list) else shape)
    total = BATCH * int(np.prod(w.shape(x)))
    if sizes.count(-1) == 1:
        sizes[sizes.index(-1)] = total // -int(np.prod(sizes))
    if sizes not in ([BATCH, total // BATCH], [BATCH, *w.shape(x)]):
        w.refuse("only flatten(1) or view(N, -1) can be packed, which makes [N, features]")
    return replace(x, flat=len(sizes) == 2)


def _size(w: Builder, x: Map, dim: int | None = None) -> Any:
    shape = torch.Size((BATCH, int(np.prod(w.shape(x)))) if x.flat else (BATCH, *w.shape(x)))
    return shape if dim is None else shape[dim]


def _attribute(w: Builder, x: Map, name: str) -> Any:
    known = {"shape": _size(w, x), "ndim": len(_size(w, x)), "dtype": torch.float32, "device": torch.device("cpu")}
    if name not in known:
        w.refuse(f"attribute {name!r} of a tensor: only {', '.join(known)} are known when a network is packed")
    return known[name]


def _same(w: Builder, x: Any, *args: Any, **kwargs: Any) -> Any:
    """Copies and changes of the type, of maps and of constants that follow a map."""
    for a in (*args, *kwargs.values()):
        kind = a.dtype if isinstance(a, Tensor) else a
        if isinstance(kind, torch.dtype) and not kind.is_floating_point:
            w.refuse(f"a change to {kind} rounds; a packed model rounds only where QuantizedActivation does")
    return x


def _dropout(w: Builder, x: Map, p: float = 0.5, training: bool = True, inplace: bool = False) -> Map:
    if training:
        w.refuse("dropout that also runs in eval mode: give it training=self.training")
    return x


def _add(w: Builder, x: Any, other: Any, alpha: float = 1, inplace: bool = False) -> Map:
    if alpha != 1:
        w.refuse(f"add with alpha={alpha}: multiply first")
    if isinstance(x, Map) and isinstance(other, Map):
        if x.flat != other.flat:
            w.refuse("cannot add a map [N, C, H, W] and [N, features]")
        return w.emit(g.Add, x, other, inplace=inplace)
    if isinstance(x, Map):
        return w.affine(x, 1, w.vector(x, other), inplace=inplace)
    return w.affine(other, 1, w.vector(other, x))


def _sub(w: Builder, x: Any, other: Any, alpha: float = 1, inplace: bool = False) -> Map:
    if alpha != 1 or (isinstance(x, Map) and isinstance(other, Map)):
        w.refuse("difference of two maps: only their sum can be packed")
    if isinstance(x, Map):
        return w.affine(x, 1, -w.vector(x, other), inplace=inplace)
    return w.affine(other, -1, w.vector(other, x))


def _mul(w: Builder, x: Any, other: Any, inplace: bool = False) -> Map:
    if isinstance(x, Map) and isinstance(other, Map):
        w.refuse("product of two maps: only a product with a constant can be packed")
    if isinstance(x, Map):
        return w.affine(x, w.vector(x, other), 0, inplace=inplace)
    return w.affine(other, w.vector(other, x), 0)


def _div(w: Builder, x: Any, other: Any, rounding_mode: str | None = None, inplace: bool = False) -> Map:
    if rounding_mode or isinstance(other, Map):
        w.refuse("division by a map or with rounding: only a division by a constant can be packed")
    divisor = w.vector(x, other)
    if not divisor.all():
        w.refuse("division by zero")
    return w.affine(x, 1 / divisor, 0, inplace=inplace)


LAYERS: dict[type[nn.Module], Handler] = {
    nn.Conv2d: _conv,
    nn.Linear: _linear,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.ReLU: lambda w, x, m: _relu(w, x, m.inplace),
    nn.Threshold: lambda w, x, m: _threshold(w, x, m.threshold, m.value, m.inplace),
    ShiftedReLU: lambda w, x, m: w.emit(g.Activation, x, low=-1.0),
    QuantizedActivation: _quantized,
    nn.ZeroPad2d: lambda w, x, m: _pad(w, x, m.padding),
    nn.ConstantPad2d: lambda w, x, m: _pad(w, x, m.padding, value=m.value),
    nn.AvgPool2d: lambda w, x, m: _avg_pool(
        w, x, m.kernel_size, m.stride, m.padding, m.ceil_mode, m.count_include_pad, m.divisor_override
    ),
    nn.MaxPool2d: lambda w, x, m: _max_pool(
        w, x, m.kernel_size, m.stride, m.padding, m.dilation, m.ceil_mode, m.return_indices
    ),
    nn.AdaptiveAvgPool2d: lambda w, x, m: _adaptive_avg_pool(w, x, m.output_size),
    nn.Flatten: lambda w, x, m: _flatten(w, x, m.start_dim, m.end_dim),
    **dict.fromkeys(
        (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout, nn.FeatureAlphaDropout),
        lambda w, x, m: x,
    ),
}


def layer_handler(layer: nn.Module) -> Handler | None:
    """The handler of `layer`, also of a class derived from one in the table, unless its forward is its own."""
    for kind in type(layer).__mro__:
        if kind in LAYERS:
            return LAYERS[kind] if type(layer).forward is kind.forward else None
    return None


_INPLACE: dict[str, Handler] = {
    **{"relu": _relu, "threshold": _threshold, "clamp": _clamp, "clamp_min": _clamp},
    **{"add": _add, "sub": _sub, "mul": _mul, "div": _div, "truediv": _div},
}
_NAMED: dict[str, Handler] = {
    **_INPLACE,
    **{f"{name}_": partial(handler, inplace=True) for name, handler in _INPLACE.items()},  # x.relu_()
    **{f"i{name}": partial(handler, inplace=True) for name, handler in _INPLACE.items()},  # x += y
    "subtract": _sub,
    "multiply": _mul,
    "divide": _div,
    "true_divide": _div,
    "neg": lambda w, x: w.affine(x, -1, 0),
    "pad": _pad,
    "avg_pool2d": _avg_pool,
    "max_pool2d": _max_pool,
    "adaptive_avg_pool2d": _adaptive_avg_pool,
    "mean": _mean,
    "flatten": _flatten,
    "view": _view,
    "reshape": _view,
    "size": _size,
    "dim": lambda w, x: len(_size(w, x)),
    **dict.fromkeys(("dropout", "dropout1d", "dropout2d", "alpha_dropout", "feature_alpha_dropout"), _dropout),
    **dict.fromkeys(("float", "double", "to", "type", "type_as", "contiguous", "detach"), _same),
    "clone": lambda w, x, memory_format=None: _copy(x),
}
FUNCTIONS: dict[Any, Handler] = {**_NAMED, getattr: _attribute}  # by a tensor method's name, or the function itself
for _home in (torch, F, operator):
    FUNCTIONS.update({getattr(_home, name): handler for name, handler in _NAMED.items() if hasattr(_home, name)})
MIXED = (_add, _sub, _mul, _div, _same)  # take maps and constants in any place
