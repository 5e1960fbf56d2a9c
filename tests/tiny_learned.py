"""Tiny models of the learned codec with random weights and tables, in a zoo of their own."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from corec import models
from corec.learned import codec, prior
from corec.learned.coder import bits_of
from corec.learned.tables import TOTAL, Tables

onnx = pytest.importorskip("onnx")
pytest.importorskip("constriction")

KINDS = {
    "plain-gray": (False, False),
    "plain-color": (True, False),
    "context-gray": (False, True),
    "context-color": (True, True),
}
"""Name of a tiny model -> color, with contexts. They get the numbers 20 to 23; the first two are default ones."""
CHANNELS, LEVELS, SCALES = 6, 8, 5
ENDS = 1, 3, CHANNELS
"""Where the groups of a model with contexts end."""
PRICE = 0.1
"""Of a bit, with contexts; else symbols are rounded."""


@contextmanager
def tiny_zoo(folder: Path) -> Iterator[Path]:
    """Four tiny models in place of those that ship."""
    rows = [write_model(folder, number, name) for number, name in enumerate(KINDS, 20)]
    (folder / "manifest.toml").write_text("\n".join(rows) + '\n[[retired]]\nnumber = 19\nname = "early"\n')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "ZOO", folder)
        patch.setattr(codec, "ZOO", folder)
        patch.setattr(prior, "ZOO", folder)
        models.read_manifest.cache_clear()
        yield folder
    models.read_manifest.cache_clear()


def write_model(folder: Path, number: int, name: str) -> str:
    """Write a model's files; its row of the manifest."""
    color, contexts = KINDS[name]
    random = np.random.default_rng(number)
    planes = 3 if color else 1
    told = 0.2 if contexts else 0.0
    parts = {
        "analysis": network(random, [(planes, 5, 9, 4), (5, 5, 5, 2), (5, CHANNELS, 5, 2)], 4.0, gain=told),
        "synthesis": network(random, [(CHANNELS, 5, 5, -2), (5, 5, 5, -2), (5, planes, 9, -4)], 0.2, 0.5, -told),
    }
    if contexts:
        for at, (first, end) in enumerate(pairwise((0, *ENDS))):
            parts[f"context{at}"] = exact_network(random, end, end - first)
    files = {part: f"{name}.{part}.onnx" for part in parts} | {"tables": f"{name}.tables.npz"}
    for part, data in parts.items():
        (folder / files[part]).write_bytes(data)
    made = tables(random, contexts)
    np.savez_compressed(folder / files["tables"], gain=made.gain, cdf=made.cdf, start=made.start, low=made.low)
    digests = {part: hashlib.sha256((folder / file).read_bytes()).hexdigest() for part, file in files.items()}
    lines = [
        "[[learned]]",
        f'name = "{name}"',
        f"number = {number}",
        'method = "tiny"',
        f"color = {str(color).lower()}",
        f"default = {str(not contexts).lower()}",
        f"price = {PRICE * contexts}",
        "[learned.files]",
        *(f'{k} = "{v}"' for k, v in files.items()),
    ]
    lines += ["[learned.sha256]", *(f'{k} = "{v}"' for k, v in digests.items()), "[learned.training]", "seed = 1"]
    return "\n".join(lines)


def tables(random: np.random.Generator, contexts: bool) -> Tables:
    """Gains, and tables of exponential tails, so short that symbols fall outside some of them."""
    gain = (np.arange(1, LEVELS + 1)[:, None] * random.uniform(0.5, 1.5, CHANNELS)).astype(np.float32)
    scales = 2.0 ** np.arange(SCALES) if contexts else np.repeat(np.arange(1.0, LEVELS + 1), CHANNELS)
    return tables_of([table(scale, int(random.integers(1, 4 * scale + 2))) for scale in scales], gain)


def table(scale: float, reach: int) -> tuple[int, np.ndarray]:
    """Symbols -reach..reach that are exp(-|s| / scale) as likely as 0, and an escape: low, and cdf."""
    masses = np.exp(-abs(np.arange(-reach, reach + 1)) / scale)
    lengths = np.maximum(1, (masses / masses.sum() * (TOTAL - 100)).astype(int))
    return -reach, np.concatenate([[0], np.cumsum(lengths), [TOTAL]])


def tables_of(rows: list[tuple[int, np.ndarray]], gain: np.ndarray | None = None) -> Tables:
    """Tables from their lows and cdfs."""
    start = np.cumsum([0, *(len(cdf) for _, cdf in rows)])
    cdf = np.concatenate([cdf for _, cdf in rows]).astype(np.uint32)
    low = np.array([low for low, _ in rows], np.int32)
    return Tables(np.ones((1, len(rows)), np.float32) if gain is None else gain, cdf, start.astype(np.int64), low)


class Watched:
    """A network whose results are changed, and what it was asked with which steps."""

    def __init__(self, network: Any, change: Callable[[np.ndarray], np.ndarray] = np.asarray) -> None:
        self.network, self.change, self.asked, self.told = network, change, [], []

    def __call__(self, image: np.ndarray, log_step: np.ndarray | None = None) -> np.ndarray:
        self.asked.append(image.copy())
        self.told.append(log_step)
        return self.change(self.network(image, log_step))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.network, name)


def farthest(known: Tables, price: float) -> float:
    """How far a symbol may be from its residual, in bins.

    The neighbour towards zero is as good as the nearest symbol where its squared error, larger by 2 (how far it is)
    - 1, is larger by the price of the bits that it saves.
    """
    saved = 0.0
    for number, (low, count) in enumerate(zip(known.low, known.symbols, strict=True)):
        symbols = np.arange(low - 3, low + count + 4)
        lower = symbols - np.sign(symbols)
        numbers = np.full(len(symbols), number)
        saved = max(saved, float((bits_of(known, symbols, numbers) - bits_of(known, lower, numbers)).max()))
    return 0.5 + price * saved / 2


def network(
    random: np.random.Generator,
    layers: list[tuple[int, int, int, int]],
    scale: float,
    offset: float = 0.0,
    gain: float = 0.0,
) -> bytes:
    """Convolutions (from, to, size, stride; of a negative stride upwards) with soft saturation between them.

    gain: if not 0, the network is told the steps, and multiplies latents by their powers of -gain.
    """
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    nodes, weights, name = [], [numpy_helper.from_array(np.float32(offset), "offset")], "image"
    if gain:
        weights += [
            numpy_helper.from_array(np.float32(-gain), "power"),
            numpy_helper.from_array(np.array([2, 3]), "axes"),
        ]
        nodes += [
            helper.make_node("Mul", ["log_step", "power"], ["powers"]),
            helper.make_node("Exp", ["powers"], ["factors"]),
            helper.make_node("Unsqueeze", ["factors", "axes"], ["told"]),
        ]
    if gain and layers[0][3] < 0:
        nodes.append(helper.make_node("Mul", [name, "told"], ["latents"]))
        name = "latents"
    for index, (before, after, size, stride) in enumerate(layers):
        last = index == len(layers) - 1
        shape = (after, before, size, size) if stride > 0 else (before, after, size, size)
        step = abs(stride)
        # On the way up a sample gets about (size / step)^2 of the weights.
        spread = (before * size * size / (1 if stride > 0 else step * step)) ** -0.5
        values = random.normal(0, spread * (scale if last else 1.5), shape).astype(np.float32)
        weights.append(numpy_helper.from_array(values, f"weight{index}"))
        how: dict[str, Any] = {"kernel_shape": [size, size], "pads": [size // 2] * 4, "strides": [step, step]}
        if stride < 0:
            how["output_padding"] = [step - 1] * 2
        nodes.append(
            helper.make_node("Conv" if stride > 0 else "ConvTranspose", [name, f"weight{index}"], [f"s{index}"], **how)
        )
        name = f"s{index}"
        if not last:
            nodes.append(helper.make_node("Softsign", [name], [f"t{index}"]))
            name = f"t{index}"
    if gain and layers[0][3] > 0:
        nodes.append(helper.make_node("Mul", [name, "told"], ["latents"]))
        name = "latents"
    nodes.append(helper.make_node("Add", [name, "offset"], ["result"]))
    return model_of(nodes, weights, layers[0][0], layers[-1][1], CHANNELS if gain else 0)


def exact_network(random: np.random.Generator, known: int, count: int) -> bytes:
    """A context of small whole numbers, for `count` latents: clip, 3x3, 3x3, then means and indices, clipped."""
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    whole = {
        "least": -15,
        "most": 15,
        "first": random.integers(-3, 4, (8, prior.PLANES + known, 3, 3)),
        "second": random.integers(-2, 3, (2 * count, 8, 3, 3)),
        "divisor": np.array([8] * count + [256] * count).reshape(1, -1, 1, 1),
        "middle": np.array([0] * count + [2] * count).reshape(1, -1, 1, 1),
        "bottom": np.array([-900] * count + [0] * count).reshape(1, -1, 1, 1),
        "top": np.array([900] * count + [SCALES - 1] * count).reshape(1, -1, 1, 1),
    }
    around = {"kernel_shape": [3, 3], "pads": [1] * 4}
    nodes = [
        helper.make_node("Clip", ["image", "least", "most"], ["clipped"]),
        helper.make_node("Conv", ["clipped", "first"], ["sums"], **around),
        helper.make_node("Relu", ["sums"], ["active"]),
        helper.make_node("Conv", ["active", "second"], ["totals"], **around),
        helper.make_node("Div", ["totals", "divisor"], ["shared"]),
        helper.make_node("Floor", ["shared"], ["floor"]),
        helper.make_node("Add", ["floor", "middle"], ["moved"]),
        helper.make_node("Max", ["moved", "bottom"], ["raised"]),
        helper.make_node("Min", ["raised", "top"], ["result"]),
    ]
    weights = [numpy_helper.from_array(np.asarray(value, np.float32), key) for key, value in whole.items()]
    return model_of(nodes, weights, prior.PLANES + known, 2 * count)


def model_of(nodes: list[Any], weights: list[Any], planes: int, result: int, steps: int = 0) -> bytes:
    """A network with free height and width as a file; steps: of how many it is told the logarithms."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    inputs = [helper.make_tensor_value_info("image", kind, [1, planes, "height", "width"])]
    if steps:
        inputs.append(helper.make_tensor_value_info("log_step", kind, [1, steps]))
    made = helper.make_tensor_value_info("result", kind, [1, result, "out_height", "out_width"])
    graph = helper.make_graph(nodes, "tiny", inputs, [made], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
