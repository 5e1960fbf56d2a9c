"""Luma is the integer that Pillow computes; YCbCr is JPEG's, and comes back as it went."""

import numpy as np
import pytest
from PIL import Image

from corec.color import CENTRE, luma, rgb_from_ycbcr, ycbcr_from_rgb


@pytest.fixture(scope="module")
def colors() -> np.ndarray:
    """Every fifth level of each channel, 0 and 255 among them, and random colours."""
    steps = np.arange(0, 256, 5, dtype=np.uint8)
    grid = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(-1, 52, 3)
    return np.concatenate([grid, np.random.default_rng(1).integers(0, 256, (2000, 52, 3), np.uint8)])


def test_luma_is_pillows(colors: np.ndarray) -> None:
    assert np.array_equal(luma(colors), np.asarray(Image.fromarray(colors).convert("L")))


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 500, 3), (500, 1, 3), (65, 3, 3)])
def test_luma_of_any_shape(shape: tuple[int, int, int]) -> None:
    rgb = np.random.default_rng(2).integers(0, 256, shape, np.uint8)
    assert np.array_equal(luma(rgb), np.asarray(Image.fromarray(rgb).convert("L")))


def test_ycbcr_is_pillows_within_rounding(colors: np.ndarray) -> None:
    ours = ycbcr_from_rgb(colors)
    assert ours.dtype == np.float32
    theirs = np.asarray(Image.fromarray(colors).convert("YCbCr")).astype(float)
    # Pillow adds up tables of whole 64ths of a level and rounds down; 255.5 of pure blue becomes 255.
    above = ours * 255 - theirs
    assert above.min() > -0.05 and above.max() < 1.05 and 0.4 < above.mean() < 0.6


def test_gray_has_chroma_at_the_centre() -> None:
    gray = np.repeat(np.arange(256, dtype=np.uint8)[:, None, None], 3, axis=2)
    planes = ycbcr_from_rgb(gray)
    assert np.allclose(planes[..., 0] * 255, gray[..., 0], atol=1e-4)
    assert np.allclose(planes[..., 1:], CENTRE, atol=1e-6)


def test_rgb_comes_back_exactly(colors: np.ndarray) -> None:
    assert np.array_equal(rgb_from_ycbcr(ycbcr_from_rgb(colors)), colors)


def test_rgb_is_pillows_within_rounding(colors: np.ndarray) -> None:
    ycbcr = Image.fromarray(colors).convert("YCbCr")
    ours = rgb_from_ycbcr(np.asarray(ycbcr).astype(np.float32) / 255)
    assert np.abs(ours.astype(int) - np.asarray(ycbcr.convert("RGB"))).max() <= 1


def test_impossible_colors_are_clipped() -> None:
    ends = np.array([[[1, 1, 1], [0, 0, 0]]], np.float32)
    assert rgb_from_ycbcr(ends).tolist() == [[[255, 121, 255], [0, 135, 0]]]
