"""Figures that are right by hand-made inputs: PSNR, SSIM, MS-SSIM, and how far one curve lies from another."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from skimage import data, metrics

from corec.errors import PictureError
from corec.evaluation.curves import Crossing, crossings, difference
from corec.evaluation.metrics import ms_ssim, psnr, ssim

bjontegaard = pytest.importorskip("bjontegaard")
pytest.importorskip("pytorch_msssim")


def noisy(picture: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(1).normal(0, 12, picture.shape)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


def test_psnr_by_hand() -> None:
    black = np.zeros((10, 10), np.uint8)
    spot = black.copy()
    spot[3, 4] = 255
    assert psnr(black, spot) == pytest.approx(20)  # a hundredth of the energy of white
    assert psnr(black, black + 1) == pytest.approx(20 * math.log10(255))
    assert psnr(black + 1, black) == psnr(black, black + 1)
    assert psnr(black, black) == math.inf


def test_psnr_of_colour_is_over_all_samples() -> None:
    black = np.zeros((300, 4, 3), np.uint8)
    red = black.copy()
    red[..., 0] = 255
    assert psnr(black, red) == pytest.approx(10 * math.log10(3))
    picture = data.astronaut()
    assert psnr(picture, noisy(picture)) == pytest.approx(metrics.peak_signal_noise_ratio(picture, noisy(picture)))


def test_ssim_by_hand() -> None:
    """Flat pictures have no structure to lose: only the term of the means is left."""
    one, other = np.full((20, 16), 100, np.uint8), np.full((20, 16), 110, np.uint8)
    c1 = (0.01 * 255) ** 2
    assert ssim(one, other) == pytest.approx((2 * 100 * 110 + c1) / (100**2 + 110**2 + c1))
    assert ssim(one, one) == 1


def test_ssim_is_that_of_the_definition() -> None:
    """Wang et al. 2004, equation 13, window by window."""
    picture = data.camera()[200:230, 200:225]
    one, other = picture.astype(float), noisy(picture).astype(float)
    bell = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window = np.outer(bell, bell) / np.outer(bell, bell).sum()
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    values = []
    for row in range(picture.shape[0] - 10):
        for column in range(picture.shape[1] - 10):
            a, b = (p[row : row + 11, column : column + 11] for p in (one, other))
            mean_a, mean_b = (window * a).sum(), (window * b).sum()
            variances = (window * a * a).sum() - mean_a**2 + (window * b * b).sum() - mean_b**2
            covariance = (window * a * b).sum() - mean_a * mean_b
            brightness = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
            values.append(brightness * (2 * covariance + c2) / (variances + c2))
    assert ssim(picture, noisy(picture)) == pytest.approx(np.mean(values), abs=1e-6)


def test_ms_ssim_by_hand() -> None:
    """Of flat pictures the term of the means is left, which counts at the coarsest scale alone."""
    one, other = np.full((176, 192), 100, np.uint8), np.full((176, 192), 110, np.uint8)
    c1 = (0.01 * 255) ** 2
    expected = ((2 * 100 * 110 + c1) / (100**2 + 110**2 + c1)) ** 0.1333
    assert ms_ssim(one, other) == pytest.approx(expected)
    assert ms_ssim(one, one) == pytest.approx(1)


def test_ms_ssim_is_that_of_the_definition() -> None:
    """Wang et al. 2003, equation 7: contrast and structure at five scales, the means at the last, by scikit-image."""
    picture = data.camera()[100:276, 100:308]
    one, other = picture.astype(float), noisy(picture).astype(float)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    expected = 1.0
    for weight in (0.0448, 0.2856, 0.3001, 0.2363):
        # With so large a constant the term of the means is 1, and the rest is left.
        expected *= metrics.structural_similarity(one, other, K1=1e6, **options) ** weight
        one, other = (p.reshape(p.shape[0] // 2, 2, p.shape[1] // 2, 2).mean((1, 3)) for p in (one, other))
    expected *= metrics.structural_similarity(one, other, **options) ** 0.1333
    assert ms_ssim(picture, noisy(picture)) == pytest.approx(expected, abs=1e-6)


def test_a_picture_without_a_coarsest_scale_has_no_ms_ssim() -> None:
    picture = np.zeros((175, 300), np.uint8)
    assert math.isnan(ms_ssim(picture, picture))


def test_every_scale_of_ms_ssim_halves_the_one_before() -> None:
    picture = data.camera()[100:276, 100:308]
    larger = [
        np.pad(pixels, ((0, 15), (0, 3)), constant_values=level)
        for pixels, level in ((picture, 0), (noisy(picture), 99))
    ]
    assert ms_ssim(*larger) == ms_ssim(picture, noisy(picture))


@pytest.mark.parametrize("metric", [ssim, ms_ssim])
def test_similarity_of_colour_is_the_mean_of_the_planes(metric: Callable[[np.ndarray, np.ndarray], float]) -> None:
    picture = data.astronaut()[:176, :176]
    other = noisy(picture)
    planes = [metric(picture[..., k].copy(), other[..., k].copy()) for k in range(3)]
    assert metric(picture, other) == pytest.approx(np.mean(planes))


@pytest.mark.parametrize("metric", [psnr, ssim, ms_ssim])
def test_pictures_that_cannot_be_compared_are_refused(metric: Callable[[np.ndarray, np.ndarray], float]) -> None:
    picture = np.zeros((16, 16), np.uint8)
    for other in (picture[:15], picture.astype(float), np.zeros((16, 16, 3), np.uint8)):
        with pytest.raises(PictureError, match="cannot be compared"):
            metric(picture, other)
    with pytest.raises(PictureError, match="11x11"):
        ssim(picture[:10], picture[:10])


CURVE = [(0.1, 25.0), (0.2, 28.5), (0.4, 31.0), (0.8, 34.5), (1.6, 37.0)]


def test_half_the_rate_is_minus_50_percent() -> None:
    found = difference(CURVE, [(rate / 2, quality) for rate, quality in CURVE])
    assert found is not None
    assert found.rate == pytest.approx(-50)
    assert found.qualities == (25.0, 37.0)
    assert found.rates == (0.1, 0.8)


def test_a_decibel_more_is_a_decibel() -> None:
    found = difference(CURVE, [(rate, quality + 1) for rate, quality in CURVE])
    assert found is not None
    assert found.quality == pytest.approx(1)
    assert found.rates == (0.1, 1.6)
    assert found.qualities == (26.0, 37.0)


def test_straight_curves_differ_by_the_closed_form() -> None:
    """Quality a + b log2(rate): the mean difference of straight lines is that in the middle of the range."""
    rates = [0.125, 0.25, 0.5, 1.0]
    one = [(rate, 30 + 3 * math.log2(rate)) for rate in rates]
    other = [(rate, 32 + 4 * math.log2(rate)) for rate in rates]
    found = difference(one, other)
    assert found is not None
    assert found.quality == pytest.approx(2 - 1.5)  # log2(rate) is -1.5 in the middle
    low, high = 21.0, 30.0
    middle = (low + high) / 2
    assert found.qualities == pytest.approx((low, high))
    assert found.rate == pytest.approx(100 * (2 ** ((middle - 32) / 4 - (middle - 30) / 3) - 1))


def test_the_difference_is_that_of_the_package() -> None:
    other = [(0.08, 25.5), (0.17, 28.0), (0.5, 33.0), (0.9, 35.5)]
    found = difference(CURVE, other)
    assert found is not None
    lists = [list(axis) for curve in (CURVE, other) for axis in zip(*curve, strict=True)]
    options = {"method": "akima", "require_matching_points": False, "min_overlap": 0}
    assert found.rate == bjontegaard.bd_rate(*lists, **options)
    assert found.quality == bjontegaard.bd_psnr(*lists, **options)


def test_curves_that_cannot_be_compared_have_no_difference() -> None:
    assert difference(CURVE, CURVE[:3]) is None
    assert difference(CURVE, [(rate, quality + 20) for rate, quality in CURVE]) is None
    assert difference(CURVE, [(rate * 100, quality) for rate, quality in CURVE]) is None
    assert difference(CURVE, [(rate, math.nan) for rate, _ in CURVE]) is None


def test_points_that_cost_more_and_give_no_more_do_not_count() -> None:
    jagged = [*CURVE, (0.3, 27.0), (0.8, 30.0), (0.2, 28.5)]
    assert difference(CURVE, jagged) == difference(CURVE, CURVE)


def test_curves_cross_where_straight_lines_over_log_rate_meet() -> None:
    flat = [(0.1, 30.0), (1.0, 32.0)]
    steep = [(0.1, 29.0), (1.0, 33.0)]
    (found,) = crossings(flat, steep)
    assert found.rate == pytest.approx(10**-0.5) and found.ahead
    (other,) = crossings(steep, flat)
    assert other.rate == pytest.approx(found.rate) and not other.ahead


def test_curves_may_cross_twice_or_at_a_point_that_both_have() -> None:
    wave = [(rate, quality + at) for (rate, quality), at in zip(CURVE, (1, -1, -1, 0, 2), strict=True)]
    first, second = crossings(CURVE, wave)
    assert first.rate == pytest.approx(0.1 * 2**0.5) and not first.ahead
    assert second == Crossing(pytest.approx(0.8), True)


def test_curves_that_touch_or_share_nothing_do_not_cross() -> None:
    assert crossings(CURVE, CURVE) == []
    assert crossings(CURVE, [(rate, quality + (rate != 0.4)) for rate, quality in CURVE]) == []
    assert crossings(CURVE, [(rate, quality + 1) for rate, quality in CURVE]) == []
    assert crossings(CURVE, [(rate * 100, quality) for rate, quality in CURVE]) == []
    assert crossings(CURVE, []) == crossings(CURVE[:1], CURVE) == []
    # Where both exist alone: further down they would meet.
    assert crossings([(0.4, 30.0), (0.8, 31.0)], [(0.1, 29.0), (0.6, 33.0)]) == []
