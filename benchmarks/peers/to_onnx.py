"""The layers of `network` as an ONNX graph: opset 13, float32, any batch; input "x" [N, C, H, W], output "y" [N, classes]."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from network import Layer
from onnx import TensorProto, helper, numpy_helper


def to_onnx(layers: list[Layer], shape: tuple[int, int, int]) -> onnx.ModelProto:
    """`shape`: channels, height, width of a picture."""
    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []
    names = ["x"]  # of the input and every layer's result; [-1 + 1] is the input

    def constant(name: str, array: Any) -> str:
        constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def node(kind: str, inputs: list[str], name: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    for i, layer in enumerate(layers):
        sources = [names[s + 1] for s in layer.sources]
        at, window = f"{layer.kind}{i}", dict(strides=[layer.stride] * 2, pads=list(layer.pads))
        if layer.kind == "affine":
            scale, bias = (constant(f"{at}.{k}", a[:, None, None]) for k, a in (("s", layer.scale), ("b", layer.bias)))
            x = node("Add", [node("Mul", [*sources, scale], f"{at}.mul"), bias], at)
        elif layer.kind == "conv":
            inputs = [*sources, constant(f"{at}.w", layer.weight)]
            if layer.bias is not None:
                inputs.append(constant(f"{at}.b", layer.bias))
            x = node("Conv", inputs, at, kernel_shape=list(layer.weight.shape[2:]), **window)
        elif layer.kind == "add":
            x = node("Add", sources, at)
        elif layer.kind == "average":
            x = node("AveragePool", sources, at, kernel_shape=list(layer.kernel), **window)
            if layer.more:
                pads = constant(f"{at}.pads", np.array([0, 0, 0, 0, 0, layer.more, 0, 0], np.int64))
                x = node("Pad", [x, pads], f"{at}.pad")
        elif layer.kind == "max":
            x = node("MaxPool", sources, at, kernel_shape=list(layer.kernel), **window)
        else:
            x = node("GlobalAveragePool", sources, f"{at}.mean") if layer.pooled else sources[0]
            flat = node("Flatten", [x], f"{at}.flat")
            x = node("Gemm", [flat, constant(f"{at}.w", layer.weight), constant(f"{at}.b", layer.bias)], "y", transB=1)
        if layer.low == 0:
            x = node("Relu", [x], f"{at}.relu")
        elif layer.low is not None:
            x = node("Clip", [x, constant(f"{at}.low", np.float32(layer.low))], f"{at}.clip")
        names.append(x)
    graph = helper.make_graph(
        nodes, "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *shape])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", len(layers[-1].weight)])],
        constants,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    return model
