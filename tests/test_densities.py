"""What learned codecs share: densities and integer tables of latents, levels of rates, distortions."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from learned_recipes import PLAIN

from corec.errors import RecipeError
from corec.learned.tables import TOTAL
from corec.methods import balle2017, context
from corec.methods.densities import Factorised, Scaled, log_mass
from corec.methods.levels import Levels
from corec.methods.similarity import SMALLEST, distortion_of, ms_ssim
from corec.training.loop import build
from corec.training.tables import integer_cdf, packed, table

# Densities


@torch.no_grad()
def test_a_density_is_a_difference_of_distributions_and_sums_to_one() -> None:
    torch.manual_seed(1)
    density = Factorised(3)
    for parameter in density.parameters():
        parameter.add_(0.05 * torch.randn_like(parameter))
    gain = torch.tensor([[2.0, 5.0, 1.0]])
    locations, scales, logits = density.parameters_at(gain)
    location, scale, logit = (p.double().numpy() for p in (locations[0], scales[0], logits))
    weights = np.exp(logit) / np.exp(logit).sum(1, keepdims=True)

    def distribution(x: np.ndarray) -> np.ndarray:
        return (weights[:, None] / (1 + np.exp((location[:, None] - x[..., None]) / scale[:, None]))).sum(-1)

    values = torch.linspace(-9, 9, 37).reshape(1, 1, 1, -1).expand(1, 3, 1, -1)
    exact = values[0, :, 0].double().numpy()
    expected = distribution(exact + 0.5) - distribution(exact - 0.5)
    np.testing.assert_allclose(density.bits(values, gain)[0, :, 0], -np.log2(expected), rtol=1e-4, atol=1e-4)
    for masses, first in density.tables(gain):
        assert masses.sum() == pytest.approx(1, abs=1e-5)
        assert first < 0 < first + len(masses)
    far = density.bits(torch.full((1, 3, 1, 1), 1e4), gain)
    assert far.isfinite().all() and (far > 100).all()


def test_a_scale_that_has_shrunk_to_nothing_can_grow_again() -> None:
    scale = torch.zeros(1, requires_grad=True)
    near, far = (log_mass(torch.tensor([v]), torch.zeros(1), scale, torch.zeros(1)) for v in (0.0, 3.0))
    assert float(near.detach()) == pytest.approx(0, abs=1e-6)
    assert float(far.detach()) == pytest.approx(-250, rel=0.01)
    (slope,) = torch.autograd.grad(-far.sum(), scale)  # what a descent goes against
    assert slope < 0 and slope.isfinite()


@torch.no_grad()
def test_one_density_serves_all_widths_of_bins() -> None:
    """A bin of a third of the gain holds what three bins hold."""
    density = Factorised(2)
    wide, narrow = (np.stack([m for m, _ in density.tables(g * torch.ones(1, 2))]) for g in (3.0, 9.0))
    middle, reach = narrow.shape[1] // 2, 5
    thirds = narrow[:, middle - 3 * reach - 1 : middle + 3 * reach + 2].reshape(2, -1, 3).sum(2)
    centre = wide.shape[1] // 2
    np.testing.assert_allclose(wide[:, centre - reach : centre + reach + 1], thirds, rtol=1e-5)


@torch.no_grad()
def test_scales_widen_with_their_index_and_reach_from_one_bin_to_many() -> None:
    spreads = []
    for masses, first in Scaled(64).tables():
        symbols = first + np.arange(len(masses))
        assert masses.sum() == pytest.approx(1, abs=1e-5)
        np.testing.assert_allclose(masses, masses[::-1], rtol=1e-6)
        spreads.append(float((masses * symbols**2).sum()) ** 0.5)
    assert spreads == sorted(spreads)
    assert spreads[0] < 0.05 and spreads[-1] > 60


# Levels


@torch.no_grad()
def test_gains_rise_from_level_to_level_whatever_is_learned() -> None:
    levels = Levels(5, (0.002, 0.2), 16, start=3.0)
    gains = levels.gains()
    assert gains.shape == (16, 5)
    assert torch.allclose(gains[-1] / gains[0], torch.tensor(10.0))  # the square root of lambda's ratio
    assert torch.allclose((gains[0] * gains[-1]).sqrt(), torch.tensor(3.0))
    assert levels.weight(torch.tensor([0.0, 15.0])).tolist() == pytest.approx([0.002, 0.2])
    for seed in range(5):
        torch.manual_seed(seed)
        for parameter in levels.parameters():
            parameter.normal_(std=0.5)
        assert (levels.gains().diff(dim=0) > 0).all()


def test_the_loss_is_rate_and_lambda_times_distortion_at_every_level() -> None:
    levels = Levels(1, (0.01, 0.09), 3, start=1.0)
    rate, distortion = torch.tensor([0.5, 1.0]), torch.tensor([80.0, 20.0])
    one = levels.loss(rate[:1], distortion[:1], torch.tensor([0.0]))
    other = levels.loss(rate[1:], distortion[1:], torch.tensor([2.0]))
    assert float(one / other) == pytest.approx((0.5 + 0.01 * 80) / 0.1 / ((1 + 0.09 * 20) / 0.3))
    assert levels.draw(500, torch.Generator().manual_seed(1)).unique().tolist() == [0, 1, 2]


# Distortions


@pytest.mark.parametrize("planes", [1, 3])
def test_ms_ssim_is_that_of_the_package_used_for_measuring(planes: int) -> None:
    package = pytest.importorskip("pytorch_msssim")
    random = torch.Generator().manual_seed(1)
    one = torch.nn.functional.interpolate(torch.rand(2, planes, 24, 24, generator=random), SMALLEST, mode="bilinear")
    other = (one + 0.1 * torch.randn(one.shape, generator=random)).requires_grad_()
    found = ms_ssim(one, other)
    assert torch.allclose(found, package.ms_ssim(one, other, data_range=1, size_average=False), atol=1e-5)
    (slope,) = torch.autograd.grad(found.sum(), other)
    assert slope.isfinite().all() and slope.abs().max() > 0
    assert torch.allclose(ms_ssim(one, one), torch.tensor(1.0))
    assert distortion_of(other, one, "ms-ssim")[0].tolist() == pytest.approx((1300 * (1 - found)).tolist())


def test_what_cannot_be_a_distortion_is_refused() -> None:
    for settings_of in (balle2017.Settings, context.Settings):
        with pytest.raises(RecipeError, match="mse, ms-ssim, not 'psnr'"):
            settings_of(distortion="psnr")
    method = build(replace(PLAIN, settings={**PLAIN.settings, "distortion": "ms-ssim"}))
    with pytest.raises(RecipeError, match="crops of 176"):
        method(torch.rand(1, 1, 64, 64), torch.zeros(1))


# Tables


@given(st.lists(st.floats(0, 1), min_size=2, max_size=300), st.integers(-1000, 1000))
@settings(max_examples=60, deadline=None)
def test_tables_rise_from_nothing_to_all(shares: list[float], first: int) -> None:
    masses = np.array(shares) + 1e-9
    masses /= masses.sum()
    cdf = integer_cdf(masses).astype(np.int64)
    assert cdf[0] == 0 and cdf[-1] == TOTAL and (np.diff(cdf) >= 1).all()
    assert np.abs(np.diff(cdf) - masses * (TOTAL - len(masses)) - 1).max() < 1
    kept, low = table(masses, first)
    assert first <= low and low + len(kept) - 2 <= first + len(masses)


def test_a_table_leaves_to_its_escape_what_deserves_no_interval() -> None:
    masses = 0.5 ** np.abs(np.arange(-40, 41).astype(float))
    masses /= masses.sum()
    cdf, low = table(masses, -40)
    assert low == -15 and len(cdf) == 31 + 2  # 2^-15 / 3 is more than half of 2^-16
    intervals = np.diff(cdf.astype(int))
    assert intervals[15] == intervals.max() == pytest.approx(TOTAL / 3, abs=30)
    assert intervals[-1] == 2
    sure, low = table(np.array([0.0, 1.0, 0.0]), 7)
    assert low == 8 and sure.tolist() == [0, TOTAL - 1, TOTAL]


def test_tables_are_packed_in_their_order() -> None:
    gain = np.ones((2, 1))
    arrays = packed(gain, [(np.array([0.5, 0.5]), 3), (np.array([1.0]), -1)])
    assert arrays["start"].tolist() == [0, 4, 7] and arrays["low"].tolist() == [3, -1]
    assert arrays["cdf"].tolist() == [0, 32768, 65535, 65536, 0, 65535, 65536]
