"""RGB <-> luma and YCbCr: full-range BT.601, as JPEG has it (JFIF 1.02). Pure functions on arrays.

Written out channel by channel: a matrix product may sum in another order on another machine.
"""

import numpy as np

CENTRE = 128 / 255
"""Chroma of a gray pixel. JPEG's is 128 of 255, not the middle."""

RGB_OF_YCBCR = np.array([[1, 0, 1.402], [1, -0.114 * 1.772 / 0.587, -0.299 * 1.402 / 0.587], [1, 1.772, 0]])
"""What rgb_from_ycbcr multiplies by."""

_ROWS = 64


def luma(rgb: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3) -> uint8 (H, W), the same integers as Pillow's convert("L")."""
    gray = np.empty(rgb.shape[:2], np.uint8)
    for top in range(0, len(rgb), _ROWS):
        # 32-bit sums of a few rows at a time: those of a whole picture would be larger than the picture.
        red, green, blue = np.moveaxis(rgb[top : top + _ROWS].astype(np.uint32), 2, 0)
        gray[top : top + _ROWS] = (19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16
    return gray


def ycbcr_from_rgb(rgb: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3) -> float32 (H, W, 3), Y in 0..1, Cb and Cr in 0..1 around CENTRE, unrounded.

    Pure blue and pure red are half a level above 1 in Cb and Cr; they are not clipped, so that nothing is lost.
    """
    red, green, blue = (rgb[..., channel].astype(np.float32) / np.float32(255) for channel in range(3))
    planes = np.empty(rgb.shape, np.float32)
    planes[..., 0] = y = 0.299 * red + 0.587 * green + 0.114 * blue
    planes[..., 1] = (blue - y) / 1.772 + CENTRE
    planes[..., 2] = (red - y) / 1.402 + CENTRE
    return planes


def rgb_from_ycbcr(ycbcr: np.ndarray) -> np.ndarray:
    """float32 (H, W, 3) as above -> uint8 (H, W, 3), rounded, clipped."""
    y, cb, cr = ycbcr[..., 0], ycbcr[..., 1] - np.float32(CENTRE), ycbcr[..., 2] - np.float32(CENTRE)
    rgb = np.empty(ycbcr.shape, np.uint8)
    (_, _, red), (_, green, also_green), (_, blue, _) = RGB_OF_YCBCR.tolist()
    rgb[..., 0] = _levels(y + red * cr)
    rgb[..., 1] = _levels(y + green * cb + also_green * cr)
    rgb[..., 2] = _levels(y + blue * cb)
    return rgb


def _levels(plane: np.ndarray) -> np.ndarray:
    levels: np.ndarray = np.rint(plane * np.float32(255)).clip(0, 255)
    return levels
