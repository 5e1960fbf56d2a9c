"""YCbCr planes for libraries that take and give RGB; a strip at a time, so that large images need little memory."""

from collections.abc import Callable

import numpy as np

from corec import color

ROWS = 256


def rgb_of(image: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3) full-range BT.601 YCbCr -> uint8 RGB; colours that RGB does not have are clipped."""
    return strip_by_strip(image, lambda rows: color.rgb_from_ycbcr(rows.astype(np.float32) / np.float32(255)))


def ycbcr_of(pixels: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3) RGB, or floats around 0..1, -> uint8 full-range BT.601 YCbCr, rounded and clipped."""
    as_levels = levels if pixels.dtype != np.uint8 else np.asarray
    return strip_by_strip(pixels, lambda rows: np.clip(np.rint(color.ycbcr_from_rgb(as_levels(rows)) * 255), 0, 255))


def levels(samples: np.ndarray) -> np.ndarray:
    """Floats around 0..1 as levels, float32, not rounded; infinities and worse, of damaged files, as any."""
    return 255 * np.nan_to_num(samples.astype(np.float32)).clip(-1, 2)


def strip_by_strip(image: np.ndarray, convert: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """uint8 (H, W, 3) in other colours."""
    result = np.empty(image.shape, np.uint8)
    for top in range(0, len(image), ROWS):
        result[top : top + ROWS] = convert(image[top : top + ROWS])
    return result
