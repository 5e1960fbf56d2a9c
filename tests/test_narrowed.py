"""Weights stored in fewer bits: what they are when they are loaded."""

import numpy as np
import pytest
import torch

from corec.runtime import Network

pytest.importorskip("onnx")
import onnx

from corec.training.export import to_onnx
from corec.training.weights import fewest_bits, large, narrowed

pytestmark = pytest.mark.filterwarnings("ignore")  # PyTorch's, about its own exporter


def test_weights_as_int8_are_off_by_half_a_step_of_their_row() -> None:
    torch.manual_seed(1)
    network = torch.nn.Conv2d(24, 24, 3, padding=1)
    with torch.no_grad():
        network.weight *= torch.logspace(-3, 1, 24)[:, None, None, None]  # rows of very different size
    image = torch.rand(1, 24, 16, 16)
    whole = to_onnx(network, image)
    data = narrowed(whole, large(whole))
    assert len(data) < len(whole) - 2 * network.weight.numel()
    steps = (network.weight.detach().abs().amax((1, 2, 3)) / 127).half().float()
    with torch.no_grad():
        network.weight.copy_((network.weight / steps[:, None, None, None]).round() * steps[:, None, None, None])
        expected = network(image)[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(Network(data, 1)(image[0].permute(1, 2, 0).numpy()), expected, atol=1e-4)


def test_kernels_of_the_largest_weights_have_steps_of_their_own() -> None:
    torch.manual_seed(1)
    network = torch.nn.Sequential(torch.nn.Conv2d(16, 144, 5, padding=2), torch.nn.Conv2d(144, 160, 5, padding=2))
    weight = network[1].weight
    with torch.no_grad():
        weight *= torch.logspace(-4, 0, 144)[None, :, None, None]  # each row has kernels of very different size
    image = torch.rand(1, 16, 16, 16)
    whole = to_onnx(network, image)
    data = narrowed(whole, large(whole)[:1])
    assert len(whole) - len(data) == pytest.approx((3 - 2 / 25) * weight.numel() + 2 * network[0].weight.numel(), 0.01)
    with torch.no_grad():
        steps = (weight.abs().amax((2, 3), keepdim=True) / 127).half().float()
        weight.copy_((weight / steps).round().clip(-127, 127) * steps)
        network[0].weight.copy_(network[0].weight.half())
        expected = network(image)[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(Network(data, 1)(image[0].permute(1, 2, 0).numpy()), expected, atol=1e-4)


def test_as_many_weights_are_int8_as_are_good() -> None:
    torch.manual_seed(1)
    layers = [torch.nn.Conv2d(16, 32, 3), torch.nn.Conv2d(32, 64, 3), torch.nn.Conv2d(64, 16, 3)]
    whole = to_onnx(torch.nn.Sequential(*layers), torch.rand(1, 16, 16, 16))
    names = large(whole)
    assert names == ["1.weight", "2.weight", "0.weight"]
    for refused in ([], names[1:2], names[:2], names):
        others = [name for name in names if name not in refused]

        def good(data: bytes, refused: list[str] = refused) -> bool:
            return not any(f"{name}_scales".encode() in data for name in refused)

        assert fewest_bits(whole, good) == narrowed(whole, others)
    assert fewest_bits(whole, lambda data: data == whole) == whole


def test_networks_come_with_short_names_and_constants_once() -> None:
    class Twice(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Conv2d(2, 2, 1)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return self.layer(image * 0.375) * 0.375 + image[:, 1:] * 0.625

    network, image = Twice(), torch.rand(1, 2, 8, 8)
    data = to_onnx(network, image)
    graph = onnx.load_from_string(data).graph
    values = [node.attribute[0].SerializeToString() for node in graph.node if node.op_type == "Constant"]
    assert len(values) == len(set(values)) > 2
    assert {tensor.name for tensor in graph.initializer} == {"layer.weight", "layer.bias"}
    assert all(len(name) < 4 or name == "result" for node in graph.node for name in (node.name, *node.output))
    with torch.no_grad():
        expected = network(image)[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(Network(data, 1)(image[0].permute(1, 2, 0).numpy()), expected, atol=1e-5)


def test_small_weights_are_never_int8() -> None:
    torch.manual_seed(1)
    network, image = torch.nn.Conv2d(8, 40, 3), torch.rand(1, 8, 16, 16)
    whole = to_onnx(network, image)
    assert narrowed(whole, large(whole)) == narrowed(whole) and len(narrowed(whole)) < len(whole) - 5000


@pytest.mark.parametrize(("largest", "size"), [(127, 1), (300, 2), (40_000, 4)])
def test_whole_weights_stay_what_they_are(largest: int, size: int) -> None:
    network = torch.nn.Conv2d(16, 32, 1)
    with torch.no_grad():
        network.weight.copy_(torch.linspace(-largest, largest, 512).round().view_as(network.weight))
        image = torch.rand(1, 16, 8, 8).round()
        expected = network(image)[0].permute(1, 2, 0).numpy()
    whole = to_onnx(network, image)
    data = narrowed(whole, integers=True)
    assert (4 - size) * 512 - 200 < len(whole) - len(data) <= (4 - size) * 512
    assert np.array_equal(Network(data, 1)(image[0].permute(1, 2, 0).numpy()), expected)


def test_constants_are_never_int8() -> None:
    class Transform(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("basis", torch.randn(16, 32, 1, 1), persistent=False)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.conv2d(image, self.basis)

    image = torch.rand(1, 32, 8, 8)
    whole = to_onnx(Transform(), image)
    assert len(narrowed(whole, large(whole))) == len(narrowed(whole)) < len(whole) - 2 * 16 * 32 + 200
    made, expected = (Network(d, 1)(image[0].permute(1, 2, 0).numpy()) for d in (narrowed(whole, large(whole)), whole))
    np.testing.assert_allclose(made, expected, atol=0.02)
