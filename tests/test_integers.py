"""Networks of integers: the same numbers in torch, in ONNX Runtime and in Python."""

import copy
import warnings

import numpy as np
import pytest
import torch

from corec.learned.prior import WHOLE
from corec.methods.integers import ACTIVATION, BENDS, EXACT, LARGEST, MEAN, Clamp, Context, Layer, Round, beside, sizes
from corec.runtime import Network


def context_for(strength: float, known: int = 11, outputs: int = 4) -> Context:
    torch.manual_seed(1)
    network = Context(known, outputs, 5, 12, 64)
    with torch.no_grad():
        network.start_with(torch.linspace(10, 40, outputs) + torch.linspace(0, 28, len(BENDS))[:, None])
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter)).mul_(strength)
    return network


def layer_in_int64(layer: Layer, x: np.ndarray) -> np.ndarray:
    weight, bias = (part.detach().numpy().astype(np.int64) for part in layer.integers())
    total = np.einsum("oi,ihw->ohw", weight, x) + bias[:, None, None]
    divisor = 16 * layer.unit
    half, rest, whole = divisor // 2, total % divisor, total // divisor
    return whole + ((rest > half) | ((rest == half) & (whole % 2 == 1)))  # halves to even


def around_in_int64(x: np.ndarray) -> np.ndarray:
    height, width = x.shape[1:]
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    return np.concatenate([padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)])


def in_int64(network: Context, known: np.ndarray) -> np.ndarray:
    """The network in 64-bit integers, multiplication by multiplication: known (2 + latents, h, w)."""
    near = around_in_int64(known[: 2 + network.signed].clip(-WHOLE, WHOLE))
    level = known[:1].clip(-WHOLE, WHOLE)
    near = np.concatenate([near, *((level - 8 * at).clip(0, WHOLE) for at in range(8))])
    size = abs(known[2:])
    x = layer_in_int64(network.near, near)
    size = np.where(size < 3, 4 * size + 3 * (size > 0), size.clip(max=30) + 12)
    x += layer_in_int64(network.sizes, size)
    next_to = around_in_int64(size).reshape(9, *size.shape).sum(0) - size
    x = layer_in_int64(network.second, around_in_int64(x.clip(0, ACTIVATION)))
    x = layer_in_int64(network.third, x.clip(0, ACTIVATION))
    x = layer_in_int64(network.linear, near) + layer_in_int64(network.last, x.clip(0, ACTIVATION))
    x += layer_in_int64(network.direct, np.concatenate([size[: network.earlier], next_to]))
    means, indices = np.split(x, 2)
    return np.concatenate([means.clip(-MEAN, MEAN), indices.clip(0, network.count - 1)])


@pytest.mark.parametrize("strength", [1.0, 300.0], ids=["as begun", "at its limits"])
@torch.no_grad()
def test_integers_are_the_same_in_torch_in_onnx_runtime_and_in_int64(strength: float) -> None:
    pytest.importorskip("onnx")
    from corec.training.export import to_onnx
    from corec.training.weights import narrowed

    trained = context_for(strength)
    network = copy.deepcopy(trained)
    network.freeze()
    known = torch.randn(1, 13, 6, 9, generator=torch.Generator().manual_seed(1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # PyTorch's are about its own exporter
        data = to_onnx(network, known)
    assert len(narrowed(data, integers=True)) < len(data) - 4000
    data = narrowed(data, integers=True)
    loaded = [Network(data, threads) for threads in (1, 2)]
    for spread in (2, 40, 4000, 2.0**40):
        whole = (spread * known).round()
        expected = in_int64(network, whole[0].numpy().astype(np.int64))
        np.testing.assert_array_equal(network(whole)[0].numpy(), expected)
        np.testing.assert_array_equal(trained(whole)[0].numpy(), expected)
        for one in loaded:
            np.testing.assert_array_equal(one(whole[0].permute(1, 2, 0).numpy()).transpose(2, 0, 1), expected)
        assert len(np.unique(expected)) > (30 if strength == 1 else 2)


@pytest.mark.parametrize("strength", [1.0, 300.0], ids=["as begun", "at its limits"])
@torch.no_grad()
def test_no_sum_leaves_what_float32_holds(strength: float) -> None:
    network = context_for(strength, known=384)
    largest = []
    for layer in network.layers():
        weight, bias = (part.double() for part in layer.integers())
        inputs = layer.limit * weight.sign()  # the worst for each output
        assert layer.largest() == float(((inputs * weight).sum(1) + bias.abs()).max())
        largest.append(layer.largest())
    assert network.largest() == max(largest) < EXACT
    assert (max(largest) > EXACT / 2) == (strength > 1)
    limits = [layer.limit for layer in network.layers()]
    assert limits == [WHOLE, 8 * LARGEST, WHOLE, LARGEST, ACTIVATION, ACTIVATION, ACTIVATION]


def test_beside_is_the_sum_of_the_eight_neighbours() -> None:
    x = torch.arange(12.0).reshape(1, 1, 3, 4)
    assert beside(x).flatten().tolist() == [10, 17, 22, 15, 23, 40, 48, 32, 18, 33, 38, 23]


def test_sizes_grow_ever_more_slowly() -> None:
    values = sizes(torch.cat([torch.arange(-60.0, 61), torch.tensor([1e9])]))
    assert values[60:66].tolist() == [0, 7, 11, 15, 16, 17]
    assert values.flip(0)[1:].equal(values[:-1]) and values.max() == LARGEST


def test_rounding_has_the_slope_one_and_clamping_none_that_leads_out() -> None:
    x = torch.tensor([-2.6, 0.4, 0.5, 1.5, 9.0], requires_grad=True)
    assert Round.apply(x).tolist() == [-3, 0, 0, 2, 9]
    for sign, expected in ((1.0, [0, 1, 1, 1, 1]), (-1.0, [-1, -1, -1, -1, 0])):
        (slope,) = torch.autograd.grad((sign * Clamp.apply(Round.apply(x), 0, 8)).sum(), x)
        assert slope.tolist() == expected
