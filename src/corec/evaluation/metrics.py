"""How near one picture is to another: figures over uint8 arrays, (H, W) luma or (H, W, 3) RGB, of the same shape."""

import math

import numpy as np

from corec.errors import MissingExtraError, PictureError

WINDOW = 11
"""Side of SSIM's window."""
WHOLE = 2**4
"""Of MS-SSIM's five scales each halves the one before: what sides are to be multiples of."""


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB, over all samples together (RGB: not the mean of three); inf if equal."""
    check(one, other)
    total = 0.0
    for top in range(0, len(one), 256):  # strips, so that large pictures need little memory
        a, b = (array[top : top + 256].astype(np.float32) for array in (one, other))
        total += float(np.square(a - b).sum(dtype=np.float64))
    return 10 * math.log10(255**2 * one.size / total) if total else math.inf


def ssim(one: np.ndarray, other: np.ndarray) -> float:
    """Structural similarity as in MATLAB and in Wang et al. 2004: Gaussian window of 11x11 with sigma 1.5.

    Only windows that lie wholly in the picture count. RGB: the mean of the three planes. Raises PictureError for
    pictures smaller than the window.
    """
    try:
        from skimage.metrics import structural_similarity
    except ImportError as error:
        raise MissingExtraError("SSIM needs scikit-image: pip install 'corec[evaluate]'") from error
    check(one, other)
    if min(one.shape[:2]) < WINDOW:
        raise PictureError(f"SSIM needs pictures of {WINDOW}x{WINDOW} pixels at least")
    return float(
        structural_similarity(
            one,
            other,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=255,
            channel_axis=2 if one.ndim == 3 else None,
        )
    )


def ms_ssim(one: np.ndarray, other: np.ndarray) -> float:
    """Multi-scale structural similarity of Wang et al. 2003, linear: five scales, the window of ssim().

    RGB: the mean of the three planes, as in published curves. Rows and columns beyond a multiple of 16 are left out, so
    that every scale halves the one before. nan for pictures of fewer than 176 pixels a side, in which the window has no
    place at the coarsest scale.
    """
    check(one, other)
    height, width = (extent // WHOLE * WHOLE for extent in one.shape[:2])
    if min(height, width) < WINDOW * WHOLE:
        return math.nan
    try:
        import torch
        from pytorch_msssim import ms_ssim as similarity
    except ImportError as error:
        raise MissingExtraError("MS-SSIM needs torch and pytorch-msssim: pip install 'corec[evaluate]'") from error
    planes = [
        np.atleast_3d(array[:height, :width]).transpose(2, 0, 1)[None].astype(np.float64) for array in (one, other)
    ]
    with torch.inference_mode():
        return float(similarity(*(torch.from_numpy(array) for array in planes), data_range=255))


def check(one: np.ndarray, other: np.ndarray) -> None:
    """Refuse pictures that cannot be compared. Raises PictureError."""
    if one.shape != other.shape or one.dtype != np.uint8 or other.dtype != np.uint8:
        raise PictureError(
            f"{one.dtype} of shape {one.shape} and {other.dtype} of shape {other.shape} cannot be compared"
        )
