"""The plain reduction and enlargement under the networks are Pillow's, and untrained networks add nothing to them."""

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data
from torch import nn

from corec.methods.joint import Compact, Reconstruct
from corec.methods.layers import Downscale, Upscale

INTERIOR = (slice(4, -4), slice(4, -4))
"""Pillow leaves the kernel's taps beyond the picture out; here the picture is continued. Only edges differ."""


@pytest.fixture
def photograph() -> np.ndarray:
    """Gray, float32 in 0..1, with an odd half size."""
    return (data.camera()[100:238, 150:312] / 255).astype(np.float32)


def resized(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    """Pillow's bicubic resizing of floats, unrounded."""
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC))


def test_downscale_is_pillows_antialiased_bicubic_reduction(photograph: np.ndarray) -> None:
    height, width = photograph.shape
    found = Downscale(1)(torch.from_numpy(photograph)[None, None])[0, 0].numpy()
    assert found.shape == (height // 2, width // 2)
    assert np.abs(found - resized(photograph, width // 2, height // 2))[INTERIOR].max() < 1e-5


def test_upscale_is_pillows_bicubic_enlargement(photograph: np.ndarray) -> None:
    height, width = photograph.shape
    found = Upscale(1)(torch.from_numpy(photograph)[None, None])[0, 0].numpy()
    assert found.shape == (2 * height, 2 * width)
    assert np.abs(found - resized(photograph, 2 * width, 2 * height))[INTERIOR].max() < 1e-5


def test_planes_do_not_mix() -> None:
    planes = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(1))
    for many, one in ((Downscale(3), Downscale(1)), (Upscale(3), Upscale(1))):
        together = many(planes)
        for plane in range(3):
            assert torch.allclose(together[:, plane : plane + 1], one(planes[:, plane : plane + 1]), atol=1e-6)


@pytest.mark.parametrize("layer", [Downscale(1), Upscale(1)], ids=["downscale", "upscale"])
def test_an_even_picture_stays_even(layer: nn.Module) -> None:
    assert torch.allclose(layer(torch.full((1, 1, 16, 16), 0.3)), torch.tensor(0.3), atol=1e-6)


@pytest.mark.parametrize("half", [False, True], ids=["full", "half"])
@pytest.mark.parametrize("planes", [1, 3], ids=["gray", "color"])
@torch.no_grad()
def test_untrained_networks_are_the_plain_maps(planes: int, half: bool) -> None:
    torch.manual_seed(1)
    log_step = torch.full((2, 1 if planes == 1 else 2), 3.0)
    picture = torch.rand(2, planes, 32, 64)
    compact = Compact(planes, half, width=8, blocks=1, steps=log_step.shape[1])(picture, log_step)
    assert torch.equal(compact, Downscale(planes)(picture) if half else picture)
    restored = Reconstruct(planes, half, (8, 8, 8), log_step.shape[1])(compact, log_step)
    assert torch.equal(restored, Upscale(planes)(compact) if half else compact)
    assert restored.shape == picture.shape


@torch.no_grad()
def test_the_quantiser_step_changes_what_trained_networks_do() -> None:
    torch.manual_seed(1)
    picture = torch.rand(1, 1, 32, 32)
    for network in (Compact(1, True, 8, 1, 1), Reconstruct(1, True, (8, 8, 8), 1)):
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.2)
        fine, coarse = (network(picture, torch.full((1, 1), s)) for s in (2.0, 4.5))
        assert not torch.allclose(fine, coarse, atol=1e-3)
