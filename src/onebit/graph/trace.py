"""From a torch network to a `graph` in real numbers, by the record of operations that torch.fx makes of it.

Nothing here knows a network: `torch_layers` says what each operation is in the graph, and everything else is refused by
name. These two are the only modules of this package that need torch.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NoReturn

import torch
from torch import Tensor, fx, nn
from torch.nn.utils import parametrize

from onebit.binary import BinaryWeight
from onebit.errors import OnebitError, reason
from onebit.graph import nodes as g
from onebit.graph.torch_layers import FUNCTIONS, MIXED, Builder, Map, layer_handler

SUPPORTED = (
    "a packed model is made of Conv2d and Linear (binarized), BatchNorm, ReLU, ShiftedReLU, QuantizedActivation, "
    "zero padding, average and max pooling, flatten, sums of maps and arithmetic with constants"
)
REMEDIES = {  # a part of the refused name: the remedy
    "norm": "use BatchNorm2d",
    "cat": "add maps instead, or append zero channels with F.pad",
    "conv": "use a Conv2d layer, binarized by onebit.binarize",
    "linear": "use a Linear layer, binarized by onebit.binarize",
    **dict.fromkeys(
        ("elu", "gelu", "silu", "mish", "swish", "sigmoid", "tanh", "relu6"),
        "use ReLU, or ShiftedReLU of onebit.networks.activations",
    ),
}


def trace(module: nn.Module, *, channels: int, size: int | tuple[int, int]) -> g.Graph:
    """The graph of what `module` computes in eval mode of pixels 0..255, given as float [N, channels, height, width].

    `size` is the side of square images, or (height, width). The module is not changed. Nodes are named after their
    layers; what a layer's forward calls itself (``x + y``) after the layer and the call. Forward hooks are not seen.

    Raises:
        OnebitError: a layer or operation that a packed model cannot hold, or a network that does not fit the images;
            names the layer, the reason and the remedy.

    >>> from onebit import binarize
    >>> net = binarize(nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 2, bias=False)))
    >>> graph = trace(net, channels=1, size=8)
    >>> [(type(node).__name__, node.name) for node in graph.nodes]
    [('Input', 'input'), ('Conv', '0'), ('Affine', '0.bias'), ('Activation', '1'), ('Conv', '3')]
    >>> graph.shapes[-1]
    (2, 1, 1)
    """
    height, width = (size, size) if isinstance(size, int) else size
    with _evaluating(module), torch.no_grad():
        return _Walk(module, (channels, height, width)).run()


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    training = [(m, m.training) for m in module.modules()]
    try:
        module.eval()
        yield
    finally:
        for m, flag in training:
            m.training = flag


class _Proxy(fx.Proxy):
    """A proxy that does not take ``x += y`` for ``x = x + y``: other names of x see the sum, too."""


def _in_place(sign: Callable[[Any, Any], Any]) -> Callable[[fx.Proxy, Any], fx.Proxy]:
    return lambda x, y: x.tracer.create_proxy("call_function", sign, (x, y), {})


for _sign in (operator.iadd, operator.isub, operator.imul, operator.itruediv):
    setattr(_Proxy, f"__{_sign.__name__}__", _in_place(_sign))


class _Tracer(fx.Tracer):
    """Stops at the layers with a handler, and writes nothing into the module."""

    def __init__(self) -> None:
        super().__init__()
        self.constants: dict[str, Tensor] = {}

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        own = layer_handler(m) is not None or parametrize.is_parametrized(m) or isinstance(m, BinaryWeight)
        return own or super().is_leaf_module(m, module_qualified_name)

    def create_arg(self, a: Any) -> Any:
        if isinstance(a, Tensor):  # torch would set it as an attribute of the module
            name = f"constant_{len(self.constants)}"
            self.constants[name] = a
            return self.create_node("get_attr", name, (), {})
        return super().create_arg(a)

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        try:
            return super().call_module(m, forward, args, kwargs)
        except OnebitError:
            raise
        except Exception as error:
            raise _untraceable(f"layer {self.path_of_module(m)!r}", error) from error


def _untraceable(where: str, error: Exception) -> OnebitError:
    if isinstance(error, fx.proxy.TraceError):
        return OnebitError(
            f"{where}: its forward decides by the data ({reason(error)}), and a packed model does the same for every "
            "image; take the decision out of forward"
        )
    return OnebitError(f"{where}: its forward cannot be recorded by torch.fx: {reason(error)}; simplify it")


class _Walk:
    """Goes through the record of fx in the order of execution; `values` is what each operation gave."""

    def __init__(self, module: nn.Module, shape: g.Shape) -> None:
        self.module = module
        self.shape = shape
        self.builder = Builder(type(module).__name__)
        self.values: dict[fx.Node, Any] = {}

    def run(self) -> g.Graph:
        tracer = _Tracer()
        parameters = list(inspect.signature(self.module.forward).parameters.values())[1:]
        defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
        try:
            record = tracer.trace(self.module, concrete_args=defaults or None)
        except OnebitError:
            raise
        except Exception as error:
            raise _untraceable(f"network {self.builder.name}", error) from error
        for node in record.nodes:
            args, kwargs = fx.map_arg((node.args, dict(node.kwargs)), self.values.__getitem__)
            if node.op == "placeholder":
                self.values[node] = self.argument(str(node.target), args)
            elif node.op == "get_attr":
                name = str(node.target)
                known = tracer.constants
                self.values[node] = known[name] if name in known else operator.attrgetter(name)(self.module)
            elif node.op == "output":
                return _tidy(self.builder.graph, self.output(args[0]))
            else:
                stack = list(node.meta.get("nn_module_stack", {}).values())
                name = f"{stack[-1][0]}.{node.name}" if stack else node.name
                self.builder.name = str(node.target) if node.op == "call_module" else name
                self.values[node] = self.call(node, args, kwargs)
        raise AssertionError("a record of fx ends with its output")

    def argument(self, name: str, default: tuple[Any, ...]) -> Any:
        if not self.values:
            return Map([self.builder.graph.add(g.Input("input", (), self.shape))])
        if not default:
            raise OnebitError(
                f"network {self.builder.name}: its forward takes {name!r} beside the images; a packed model takes "
                "images alone, so give it a default value"
            )
        return default[0]

    def call(self, node: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        w = self.builder
        target: Any = node.target
        layer = self.module.get_submodule(target) if node.op == "call_module" else None
        maps = [n for n in node.all_input_nodes if isinstance(self.values[n], Map)]
        if not maps:  # arithmetic of constants and sizes
            function = layer or (
                operator.methodcaller(target, *args[1:], **kwargs) if isinstance(target, str) else target
            )
            try:
                return function(args[0]) if node.op == "call_method" else function(*args, **kwargs)
            except Exception as error:
                w.refuse(f"{reason(error)}; mend the arithmetic of its constants")
        handler = FUNCTIONS.get(target) if layer is None else layer_handler(layer)
        if "input" in kwargs:
            args = (kwargs.pop("input"), *args)
        mixed = getattr(handler, "func", handler) in MIXED
        if handler is None or not (mixed or (len(maps) == 1 and args and isinstance(args[0], Map))):
            self.unsupported(node, target if layer is None else layer)
        if layer is not None:
            args = (*args, layer)
        try:
            inspect.signature(handler).bind(w, *args, **kwargs)
        except TypeError as error:
            w.refuse(f"{node.name}: {reason(error)}: leave this argument out")
        return handler(w, *args, **kwargs)

    def unsupported(self, node: fx.Node, what: Any) -> NoReturn:
        kind = what if isinstance(what, str) else getattr(what, "__name__", type(what).__name__)
        kind = kind.removeprefix("Parametrized")
        if "softmax" in kind.lower() and all(user.op == "output" for user in node.users):
            self.builder.refuse(f"{kind} at the end: leave it out, a packed model returns logits, in the same order")
        remedy = next((text for part, text in REMEDIES.items() if part in kind.lower()), SUPPORTED)
        self.builder.refuse(f"{kind} cannot be packed: {remedy}")

    def output(self, value: Any) -> int:
        w = self.builder
        if not isinstance(value, Map):
            kind = (
                "several outputs" if isinstance(value, tuple | list | dict) else "something else than a tensor of them"
            )
            w.refuse(f"the network returns {kind}; return the logits [N, classes] alone")
        shape = w.shape(value)
        if not value.flat or shape[1:] != (1, 1):
            features = "the features of " if value.flat else ""
            w.refuse(
                f"the network returns {features}a map of {shape} (channels, height, width), "
                "not logits [N, classes]; end it with global average pooling and flatten(1), or with a Linear layer"
            )
        return value.cell[0]


def _tidy(graph: g.Graph, output: int) -> g.Graph:
    """The nodes that the output needs; channels appended to an average pooling with no other reader become its own."""
    needed = {output}
    for i in range(output, -1, -1):
        if i in needed:
            needed.update(graph.nodes[i].inputs)
    result = g.Graph()
    new: dict[int, int] = {}
    for i in sorted(needed):
        node = graph.nodes[i]
        if i in new:
            continue
        new[i] = len(result.nodes)
        readers = [j for j in graph.users(i) if j in needed]
        after = graph.nodes[readers[0]] if len(readers) == 1 else None
        if isinstance(node, g.Average) and isinstance(after, g.Average) and after.append:
            node = replace(node, append=node.append + after.append)
            new[readers[0]] = new[i]
        result.add(replace(node, inputs=tuple(new[j] for j in node.inputs)))
    return result
