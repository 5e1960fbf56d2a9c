"""A network's weights in fewer bits, as they are stored in the zoo."""

import math
from collections.abc import Callable, Collection

import numpy as np
import onnx

LARGE, LARGEST = 256, 4096
"""Numbers of a weight from which on storing it in fewer bits is worth it, and from which on int8 is: a network's first
and last layers have fewer, as a rule, and are what matters most."""
TAPS = 25
"""Those of a kernel from which on a scale of its own is no more than a tenth of what it is stored in."""


def large(network: bytes) -> list[str]:
    """The names of weights that are worth int8, the largest first."""
    sizes = {tensor.name: math.prod(tensor.dims) for tensor in onnx.load_from_string(network).graph.initializer}
    return sorted((name for name in sizes if sizes[name] >= LARGEST), key=lambda name: -sizes[name])


def fewest_bits(whole: bytes, good: Callable[[bytes], bool]) -> bytes:
    """A network with as many of its weights as int8 as are good together, taken from the largest on, and the others as
    fp16; as it is, in fp32, if even that is not good."""
    names = large(whole)
    if good(data := narrowed(whole, names)):
        return data
    best, taken = narrowed(whole), list[str]()
    if not good(best):
        return whole
    for name in names:
        if good(data := narrowed(whole, [*taken, name])):
            best = data
            taken.append(name)
    return best


def narrowed(data: bytes, int8: Collection[str] = (), integers: bool = False) -> bytes:
    """The same network with its large weights stored in fewer bits, and made fp32 when it is loaded.

    int8: names of those that become that, each row with a scale of its own, or each of its kernels, if these are large:
    a row may have very weak ones. The others become fp16; or, if all are integers, int8 or int16, where they fit. What
    a network is not taught, such as a transform's basis, becomes fp16.
    """
    model = onnx.load_from_string(data)
    kept, nodes, rest = [], [], []
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        first = 2 if math.prod(values.shape[2:]) >= TAPS else 1
        largest = abs(values).max(axis=tuple(range(first, values.ndim)), keepdims=True)
        if values.dtype != np.float32 or values.size < LARGE or largest.max() > 32767:
            kept.append(tensor)
            continue
        stored, whole, scales = f"{tensor.name}_stored", f"{tensor.name}_whole", f"{tensor.name}_scales"
        if tensor.name in int8:
            scale = np.maximum(largest / 127, np.finfo(np.float16).smallest_subnormal).astype(np.float16)
            values = np.rint(values / scale.astype(np.float32)).clip(-127, 127).astype(np.int8)
            kept.append(onnx.numpy_helper.from_array(scale, scales))
            for narrow, wide in ((stored, whole), (scales, f"{tensor.name}_unit")):
                nodes.append(onnx.helper.make_node("Cast", [narrow], [wide], to=onnx.TensorProto.FLOAT))
            nodes.append(onnx.helper.make_node("Mul", [whole, f"{tensor.name}_unit"], [tensor.name]))
        else:
            kind = np.int8 if largest.max() <= 127 else np.int16
            values = values.astype(kind if integers else np.float16)
            nodes.append(onnx.helper.make_node("Cast", [stored], [tensor.name], to=onnx.TensorProto.FLOAT))
        kept.append(onnx.numpy_helper.from_array(values, stored))
    for node in model.graph.node:
        values = onnx.numpy_helper.to_array(node.attribute[0].t) if node.op_type == "Constant" else np.empty(0)
        if values.dtype != np.float32 or values.size < LARGE:
            rest.append(node)
            continue
        stored = f"{node.output[0]}_stored"
        kept.append(onnx.numpy_helper.from_array(values.astype(np.float16), stored))
        nodes.append(onnx.helper.make_node("Cast", [stored], node.output, to=onnx.TensorProto.FLOAT))
    nodes += rest
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.initializer.extend(kept)
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model)
    return model.SerializeToString()
