"""The slope of a network's error: what is made for ONNX Runtime against what torch derives."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from corec.errors import ModelError
from corec.methods.context import Blocks, Synthesis
from corec.methods.joint import Reconstruct
from corec.runtime import Network
from corec.training.export import check_slope, to_onnx
from corec.training.slope import Backwards, slope_of

pytestmark = pytest.mark.filterwarnings("ignore")  # PyTorch's, about its own exporter


def random_synthesis(planes: int) -> Synthesis:
    """One whose networks do something."""
    torch.manual_seed(planes)
    reconstruct = Reconstruct(planes, False, (8, 12, 16), planes // 2 + 1)
    with torch.no_grad():
        for parameter in reconstruct.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return Synthesis(Blocks(planes), reconstruct).eval()


def slopes(network: nn.Module, image: Tensor, log_step: Tensor, picture: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """ONNX Runtime's and torch's, (H, W, C)."""
    data = to_onnx(network, image, log_step)
    arrays = (part[0].permute(1, 2, 0).numpy() for part in (image, picture))
    result, told = Network(data + slope_of(data), 1).every(next(arrays), log_step[0].numpy(), next(arrays))
    leaf = image.clone().requires_grad_()
    expected = network(leaf, log_step)
    np.testing.assert_allclose(result, expected[0].detach().permute(1, 2, 0), atol=1e-4)
    (expected - picture).square().mean(1).sum().backward()
    assert leaf.grad is not None
    return told, leaf.grad[0].permute(1, 2, 0).numpy()


@pytest.mark.parametrize("planes", [1, 3])
@pytest.mark.parametrize(("height", "width"), [(4, 6), (1, 1)])
def test_a_synthesis_has_the_slope_that_torch_derives(planes: int, height: int, width: int) -> None:
    network = random_synthesis(planes)
    count = len(network.blocks.order)
    image, log_step = 0.2 * torch.randn(1, count, height, width), torch.full((1, count), -3.0)
    told, expected = slopes(network, image, log_step, torch.rand(1, planes, 16 * height, 16 * width))
    assert np.abs(told - expected).max() < 1e-4 * np.abs(expected).max()


class Made(nn.Module):
    """A network of a function of an image and a vector."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, image: Tensor, log_step: Tensor) -> Tensor:
        return self.function(image, log_step[:, :1, None, None])


@pytest.mark.parametrize(
    "function",
    [
        lambda x, v: F.relu(x - v) + (v - x) * v,
        lambda x, v: v * x * (x + v) + x * (x * x + v).sqrt(),
        lambda x, v: torch.cat([x[:, 2:], x[:, :1], v * x[:, 1:2]], 1),
        lambda x, v: F.conv2d(x, torch.arange(81.0).reshape(3, 3, 3, 3) / 40 - 1, padding=1) + v,
        lambda x, v: F.conv2d(x, torch.arange(36.0).reshape(3, 3, 2, 2) / 20 - 1, stride=2) + v,
        lambda x, v: F.pixel_unshuffle(F.pixel_shuffle(torch.cat([x, x * v, x, v + x], 1), 2), 2)[:, 4:7],
    ],
)
def test_every_kind_of_node(function: Callable[[Tensor, Tensor], Tensor]) -> None:
    torch.manual_seed(1)
    image, log_step = torch.randn(1, 3, 6, 8), torch.full((1, 1), 0.3)
    picture = torch.rand_like(function(image, log_step[:, :, None, None]))
    told, expected = slopes(Made(function).eval(), image, log_step, picture)
    np.testing.assert_allclose(told, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x, v: torch.exp(x + v), "of Exp"),
        (lambda x, v: x * (x[:, :1] + v), "of other channels"),
        (lambda x, v: x[:, :, 1:] + v, "Slice but where"),
        (lambda x, v: x[:, [0, 1]] + v, "Gather but where"),
    ],
)
def test_what_is_not_known_is_refused(function: Callable[[Tensor, Tensor], Tensor], message: str) -> None:
    data = to_onnx(Made(function).eval(), torch.randn(1, 3, 6, 8), torch.full((1, 1), 0.3))
    with pytest.raises(ModelError, match=message):
        slope_of(data)


def test_few_steep_latents_do_not_hide_a_slope_that_is_right() -> None:
    torch.manual_seed(1)
    image, log_step, picture = torch.randn(1, 3, 6, 8), torch.full((1, 1), 0.3), torch.rand(1, 3, 6, 8)
    weight = torch.eye(3)[:, :, None, None]
    weight[0] *= 300

    def function(x: Tensor, v: Tensor) -> Tensor:
        y = F.conv2d(x, weight)
        return y * (y * y + v).sqrt()

    data = to_onnx(Made(function).eval(), image, log_step)
    check_slope(data + slope_of(data), (image, log_step), picture)


def test_a_slope_that_is_wrong_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    image, log_step, picture = torch.randn(1, 3, 6, 8), torch.full((1, 1), 0.3), torch.rand(1, 3, 6, 8)
    data = to_onnx(Made(lambda x, v: F.relu(x) + v).eval(), image, log_step)
    check_slope(data + slope_of(data), (image, log_step), picture)
    monkeypatch.setattr(Backwards, "back_relu", lambda self, node, slopes, given: slopes)
    with pytest.raises(ModelError, match="than it says"):
        check_slope(data + slope_of(data), (image, log_step), picture)
