"""What a learned codec can be trained to keep small: squared error, or 1 - MS-SSIM (Wang et al. 2003)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from corec.errors import RecipeError

SHARES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the scales, finest first; after each the sides are halved."""
WINDOW, SIGMA = 11, 1.5
SMALLEST = WINDOW * 2 ** (len(SHARES) - 1)
"""Pixels a side at which the window still fits into the coarsest scale."""

DISTORTIONS = ("mse", "ms-ssim")
SIMILARITY_LEVELS = 1300.0
"""Squared levels of 255 that 1 - MS-SSIM counts as when it is 1: about the ratio of CompressAI's lambdas for both."""


def check_distortion(kind: str) -> None:
    """Refuse an unknown one. Raises RecipeError."""
    if kind not in DISTORTIONS:
        raise RecipeError(f"distortion must be one of {', '.join(DISTORTIONS)}, not {kind!r}")


def distortion_of(restored: Tensor, picture: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    """Of batches (N, C, H, W) in 0..1: what the loss counts, in squared levels of 255, and the squared error; (N,)."""
    error = (restored - picture).square().mean((1, 2, 3))
    if kind == "mse":
        return 255**2 * error, error
    return SIMILARITY_LEVELS * (1 - ms_ssim(restored, picture)), error


def ms_ssim(one: Tensor, other: Tensor) -> Tensor:
    """Of batches (N, C, H, W) in 0..1, sides of 176 pixels at least: (N,), the mean of the planes' values.

    Raises RecipeError for smaller ones.
    """
    if min(one.shape[-2:]) < SMALLEST:
        raise RecipeError(f"MS-SSIM needs crops of {SMALLEST} pixels at least, not {min(one.shape[-2:])}")
    product = torch.ones(one.shape[:2], device=one.device)
    for scale, share in enumerate(SHARES):
        luminance, structure = terms(one, other)
        last = scale == len(SHARES) - 1
        value = (luminance * structure if last else structure).mean((2, 3))
        # Below 0 a power has no value, at 0 no slope.
        product = product * value.clamp(min=1e-4) ** share
        one, other = F.avg_pool2d(one, 2), F.avg_pool2d(other, 2)
    return product.mean(1)


def terms(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """SSIM's two factors at every place of the window: (N, C, H - 10, W - 10) each."""
    mean, mean_other = blurred(one), blurred(other)
    square, product, square_other = mean * mean, mean * mean_other, mean_other * mean_other
    variances = blurred(one * one) - square + blurred(other * other) - square_other
    covariance = blurred(one * other) - product
    c1, c2 = 0.01**2, 0.03**2
    return (2 * product + c1) / (square + square_other + c1), (2 * covariance + c2) / (variances + c2)


def blurred(x: Tensor) -> Tensor:
    """Every plane under the Gaussian window, without its border."""
    planes = x.shape[1]
    taps = torch.exp(-((torch.arange(WINDOW, device=x.device) - WINDOW // 2) ** 2) / (2 * SIGMA**2))
    taps = (taps / taps.sum()).to(x.dtype).expand(planes, 1, WINDOW)
    rows = F.conv2d(x, taps[..., None], groups=planes)
    return F.conv2d(rows, taps[:, :, None], groups=planes)
