"""The slope of a network's squared error, as ONNX nodes behind the network's own.

    picture, result -> 2 (result - picture) / C -> back through every node, last to first -> slope, of the image's shape

C is the number of planes, so that slopes are those of the sum over pixels of what an error is on the mean of planes;
of planes of RGB, if a network's own are YCbCr.
Nodes refer to weights and to what nodes in front of them compute by name. Files of ONNX are protocol buffers, of which
two joined are one: the network's bytes with these behind them are a network with one input, "picture", and one output
more. So weights are stored once.

Known are the nodes that the Synthesis of corec.methods.context and of balle2017 has, and Reconstruct in
corec.methods.joint; others raise ModelError.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from corec.color import RGB_OF_YCBCR
from corec.errors import ModelError


def slope_of(data: bytes, ycbcr: bool = False) -> bytes:
    """What makes, behind the bytes of a network "image" (1, N, h, w) -> "result" (1, C, H, W), a "slope" of it.

    ycbcr: whether its result is, and the error that of RGB.
    """
    backwards = Backwards(data, RGB_OF_YCBCR.T @ RGB_OF_YCBCR if ycbcr else None)
    model = onnx.ModelProto()
    model.graph.node.extend(backwards.nodes)
    planes = backwards.channels["result"]
    image = next(given for given in backwards.graph.input if given.name == "image")
    picture = helper.make_tensor_value_info("picture", onnx.TensorProto.FLOAT, [1, planes, None, None])
    model.graph.input.append(picture)
    model.graph.output.append(onnx.ValueInfoProto(name="slope", type=image.type))
    return model.SerializeToString()


class Backwards:
    """The nodes from a network's result, and a picture, back to its image."""

    def __init__(self, data: bytes, metric: np.ndarray | None) -> None:
        """metric: (C, C), by which errors of planes are multiplied from both sides; None: their squares count."""
        self.graph = onnx.shape_inference.infer_shapes(onnx.load_from_string(data)).graph
        known = [*self.graph.value_info, *self.graph.input, *self.graph.output]
        sides = {each.name: each.type.tensor_type.shape.dim for each in known}
        self.channels = {name: dims[1].dim_value for name, dims in sides.items() if len(dims) == 4}
        """Of every array of four axes."""
        self.constants = {each.name: numpy_helper.to_array(each) for each in self.graph.initializer}
        for node in self.graph.node:
            if node.op_type == "Constant":
                self.constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
        self.nodes: list[onnx.NodeProto] = []
        self.slopes: dict[str, list[str]] = {}
        """Of what nodes give: parts that sum to it."""
        self.open = {"image"}
        """What the image has a part in."""
        for node in self.graph.node:
            if self.open & set(node.input):
                self.open |= set(node.output)
        error = self.add("Sub", "result", "picture")
        if metric is not None:
            error = self.add("Conv", error, self.constant(metric[:, :, None, None].astype(np.float32)))
        self.slopes["result"] = [self.add("Mul", error, self.constant(np.float32(2 / self.channels["result"])))]
        for node in reversed(self.graph.node):
            if self.open & set(node.input):
                for name, part in zip(*self.back(node), strict=True):
                    if name in self.open:
                        self.slopes.setdefault(name, []).append(part)
        self.add("Identity", self.slope("image"), output="slope")

    def add(self, kind: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Another node; the name of what it gives."""
        output = output or f"slope_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def constant(self, value: Any) -> str:
        """A constant's name."""
        return self.add("Constant", value=numpy_helper.from_array(np.asarray(value)))

    def slope(self, name: str) -> str:
        """The slope of what a node gave, all its parts added."""
        first, *others = self.slopes[name]
        for part in others:
            first = self.add("Add", first, part)
        return first

    def back(self, node: onnx.NodeProto) -> tuple[list[str], list[str]]:
        """Inputs of a node, and the parts that it has in their slopes."""
        rule = getattr(self, f"back_{node.op_type.lower()}", None)
        if rule is None:
            raise ModelError(f"nothing is known of the slope of {node.op_type}")
        given = {each.name: helper.get_attribute_value(each) for each in node.attribute}
        parts = list(rule(node, [self.slope(name) for name in node.output], given))
        return list(node.input)[: len(parts)], parts

    def back_add(self, node: onnx.NodeProto, slopes: list[str], given: dict[str, Any]) -> list[str]:
        return [slopes[0], slopes[0]]

    def back_sub(self, node: onnx.NodeProto, slopes: list[str], given: dict[str, Any]) -> list[str]:
        return [slopes[0], self.add("Neg", slopes[0])]

    def back_mul(self, node: onnx.NodeProto, slopes: list[str], given: dict[str, Any]) -> list[str]:
        left, right = node.input
        if {left, right} <= self.open and self.channels[left] != self.channels[right]:
            raise ModelError("nothing is known of the slope of a product of two things of other channels")
        pairs = (left, right), (right, left)
        return [self.add("Mul", slopes[0], other) if own in self.open else "" for own, other in pairs]

    def back_sqrt(self, node: onnx.NodeProto, slopes: list[str], given: dict[str, Any]) -> list[str]:
        half = self.add("Mul", slopes[0], self.constant(np.float32(0.5)))
        return [self.add("Div", half, node.output[0])]

    def back_cast(self, node: onnx.NodeProto, slopes: list[str], given: dict[str, Any]) -> list[str]:
        return slopes

    def back_reshape(self, node: onnx.NodeProto, slopes: list[str], given: dict[str, Any]) -> list[str]:
        return [self.add("Reshape", slopes[0], self.add("Shape", node.input[0]))]

    back_squeeze = back_unsqueeze = back_reshape

    def back_transpose(self, node: onnx.NodeProto, slopes: list[str], given: dict[str, Any]) -> list[str]:
        return [self.add("Transpose", slopes[0], perm=np.argsort(given["perm"]).tolist())]

    def back_relu(self, node: onnx.NodeProto, slopes: list[str], given: dict[str, Any]) -> list[str]:
        return [self.add("Mul", slopes[0], self.add("Sign", node.output[0]))]

    def back_conv(self, node: onnx.NodeProto, slopes: list[str], given: dict[str, Any]) -> list[str]:
        sides, weight = given["kernel_shape"], node.input[1]
        if given["strides"] != [1, 1] or sides == [1, 1] or given["group"] != 1:
            same = {name: given[name] for name in ("strides", "pads", "group")}
            return [self.add("ConvTranspose", slopes[0], weight, **same)]
        # The same as another convolution, which runtimes are quicker at: inputs as outputs, turned by half a circle.
        turned = self.add("Transpose", weight, perm=[1, 0, 2, 3])
        first, last, axes = (self.constant(np.array(v, np.int64)) for v in ([-1, -1], [-9, -9], [2, 3]))
        turned = self.add("Slice", turned, first, last, axes, first)
        pads = [side - 1 - pad for side, pad in zip(2 * sides, given["pads"], strict=True)]
        return [self.add("Conv", slopes[0], turned, pads=pads)]

    def back_convtranspose(self, node: onnx.NodeProto, slopes: list[str], given: dict[str, Any]) -> list[str]:
        return [self.add("Conv", slopes[0], node.input[1], strides=given["strides"], pads=given["pads"])]

    def back_depthtospace(self, node: onnx.NodeProto, slopes: list[str], given: dict[str, Any]) -> list[str]:
        side, planes = given["blocksize"], self.channels[node.output[0]]
        cells = self.add("SpaceToDepth", slopes[0], blocksize=side)  # place by place; wanted is plane by plane
        order = np.arange(side * side * planes).reshape(side * side, planes).T.flatten()
        return [self.add("Gather", cells, self.constant(order), axis=1)]

    def back_gather(self, node: onnx.NodeProto, slopes: list[str], given: dict[str, Any]) -> list[str]:
        order = self.constants.get(node.input[1], np.empty(0))
        if given["axis"] != 1 or not np.array_equal(np.sort(order), np.arange(self.channels[node.input[0]])):
            raise ModelError("nothing is known of the slope of Gather but where it reorders channels")
        return [self.add("Gather", slopes[0], self.constant(np.argsort(order)), axis=1)]

    def back_split(self, node: onnx.NodeProto, slopes: list[str], given: dict[str, Any]) -> list[str]:
        return [self.add("Concat", *slopes, axis=1)]

    def back_concat(self, node: onnx.NodeProto, slopes: list[str], given: dict[str, Any]) -> Iterator[str]:
        end = 0
        for name in node.input:
            start, end = end, end + self.channels[name]
            yield self.add("Slice", slopes[0], *(self.constant(np.array([at], np.int64)) for at in (start, end, 1)))

    def back_slice(self, node: onnx.NodeProto, slopes: list[str], given: dict[str, Any]) -> list[str]:
        start, end, axis, step = (int(self.constants[name][0]) for name in node.input[1:])
        if (axis, step) != (1, 1):
            raise ModelError("nothing is known of the slope of Slice but where it takes channels")
        behind = max(0, self.channels[node.input[0]] - end)
        return [self.add("Pad", slopes[0], self.constant(np.array([0, start, 0, 0, 0, behind, 0, 0], np.int64)))]

    def back_pad(self, node: onnx.NodeProto, slopes: list[str], given: dict[str, Any]) -> list[str]:
        # What a continued edge has of the slope is left out: pixels there are few.
        return [self.add("Pad", slopes[0], self.add("Neg", node.input[1]))]

    def back_resize(self, node: onnx.NodeProto, slopes: list[str], given: dict[str, Any]) -> list[str]:
        factors = self.constants[node.input[2]].tolist()
        if given["mode"] != b"linear" or factors != [1, 1, 2, 2] or self.channels[node.input[0]] != 1:
            raise ModelError("nothing is known of the slope of Resize but where it makes one plane twice as large")
        taps = np.array([0.25, 0.75, 0.75, 0.25], np.float32)
        pads = self.constant(np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64))
        padded = self.add("Pad", slopes[0], pads, mode="edge")  # beyond its edge the plane is continued
        return [self.add("Conv", padded, self.constant(np.outer(taps, taps)[None, None]), strides=[2, 2])]
