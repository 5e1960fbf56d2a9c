"""The paper's codec: what the paper says of them, how they begin, how their training ends."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from learned_recipes import PLAIN, TOLD, smooth
from torch import Tensor

from corec.errors import RecipeError
from corec.methods import balle2017, densities
from corec.methods.densities import log_mass
from corec.methods.klt import klt
from corec.methods.layers import GDN
from corec.training.loop import build

# Ballé et al. 2017: the transforms


@torch.no_grad()
def test_gdn_is_its_formula_and_can_be_inverted() -> None:
    torch.manual_seed(1)
    forward, inverse = GDN(4), GDN(4, inverse=True)
    for parameter in forward.parameters():
        parameter.uniform_(-0.6, 0.6)  # of either sign: what counts are their squares
    for tilt in (forward.gain, forward.strength):
        tilt.terms.mul_(0.05)
    inverse.load_state_dict(forward.state_dict())
    x, place = torch.randn(2, 4, 3, 5), torch.tensor([-1.0, 1.5])
    beta, gamma = (p.double().square().numpy() for p in (forward.root_beta, forward.root_gamma))
    a, b = (
        np.exp(10 * (np.vander(place.double().numpy(), 3, increasing=True) @ tilt.terms.double().numpy()))[
            ..., None, None
        ]
        for tilt in (forward.gain, forward.strength)
    )
    assert (a[0] != a[1]).all() and (b[0] != b[1]).all()

    def root(of: np.ndarray) -> np.ndarray:
        return np.sqrt(beta[:, None, None] + 1e-6 + np.einsum("ij,njhw->nihw", gamma, b * of**2))

    y, exact = forward(x, place).numpy(), x.double().numpy()
    np.testing.assert_allclose(y, a * exact / root(exact), rtol=1e-5)
    np.testing.assert_allclose(inverse(x, place).numpy(), a * exact * root(exact), rtol=1e-5)
    found = inverse(forward(x, place), place).numpy()  # the first step of a fixed-point iteration
    for _ in range(200):
        found = y / a * root(found)
    np.testing.assert_allclose(found, exact, rtol=1e-3)


def test_the_published_sizes() -> None:
    gray, color = (balle2017.Method(balle2017.Settings(color)) for color in (False, True))
    for method, planes, filters in ((gray, 1, 128), (color, 3, 192)):
        stages = [method.analysis.layers[i] for i in (0, 2, 4)] + [method.synthesis.layers[i] for i in (5, 3, 1)]
        shapes = [tuple(stage.weight.shape) for stage in stages]
        assert shapes == 2 * [(filters, planes, 9, 9), (filters, filters, 5, 5), (filters, filters, 5, 5)]
        assert [stage.stride for stage in stages] == 2 * [(4, 4), (2, 2), (2, 2)]


@pytest.mark.parametrize(("height", "width"), [(64, 64), (64, 192), (128, 64)])
@torch.no_grad()
def test_sizes_of_what_goes_between_the_networks(height: int, width: int) -> None:
    parts = build(PLAIN).parts()
    log_step = torch.zeros(1, 6)
    latents = parts["analysis"](torch.rand(1, 1, height, width), log_step)
    assert latents.shape == (1, 6, height // 16, width // 16)
    assert parts["synthesis"](latents, log_step).shape == (1, 1, height, width)


# Ballé et al. 2017: noise instead of rounding (their figure 4)


@pytest.mark.parametrize("scale", [0.05, 0.15, 0.3, 1.0, 3.0, 10.0])
@torch.no_grad()
def test_the_noisy_rate_is_biased_upwards_where_bins_are_coarse(scale: float) -> None:
    random = torch.Generator().manual_seed(1)
    uniform = torch.rand(200_000, generator=random, dtype=torch.float64).clamp(1e-12, 1 - 1e-12)
    values = scale * (uniform / (1 - uniform)).log()  # logistic
    noise = torch.rand(values.shape, generator=random, dtype=torch.float64) - 0.5

    def bits(of: Tensor) -> float:
        one = torch.ones(1, dtype=torch.float64)
        return float(-log_mass(of, 0 * one, scale * one, one).mean()) / math.log(2)

    excess = bits(values + noise) - bits(values.round())
    if scale < 1:
        assert excess > 0.02
    else:
        assert abs(excess) < 0.002 * bits(values.round())


@pytest.mark.parametrize("scale", [0.7, 3.0])
@torch.no_grad()
def test_the_noisy_distortion_is_unbiased_and_varies_little(scale: float) -> None:
    torch.manual_seed(1)
    decoder = balle2017.Synthesis(1, 6, 6)
    latents, gain = scale * torch.randn(600, 6, 1, 1), 10.0
    log_step = torch.full((1, 6), -math.log(gain))
    clean = decoder(latents / gain, log_step)

    def distortion(quantised: Tensor) -> float:
        return float((decoder(quantised / gain, log_step) - clean).square().mean())

    noisy = [distortion(densities.noisy(latents)) for _ in range(6)]
    assert np.mean(noisy) == pytest.approx(distortion(latents.round()), rel=0.06)
    assert np.std(noisy) < 0.04 * np.mean(noisy)


# Where training begins


def test_stages_of_a_klt_are_orthonormal_and_compact_energy() -> None:
    pictures = smooth(8, 3) - 0.5
    matrices, spread = klt(pictures, (4, 2, 2), (48, 100, 60))
    assert [tuple(m.shape) for m in matrices] == [(48, 3, 4, 4), (100, 48, 2, 2), (60, 100, 2, 2)]
    for matrix in matrices:
        rows = matrix.flatten(1)
        torch.testing.assert_close(rows @ rows.T, torch.eye(len(rows)), atol=1e-5, rtol=0)
    assert (spread.diff() <= 1e-6).all()  # principal components, by size
    kept, energy = spread.square().sum() / 256, pictures.square().sum(1).mean()
    assert 0.99 * energy < kept < (1 + 1e-5) * energy


@pytest.mark.parametrize("planes", [1, 3])
@torch.no_grad()
def test_it_begins_as_a_transform_that_gives_pictures_back(planes: int) -> None:
    pictures = smooth(8, planes)
    method = build(replace(PLAIN, settings={**PLAIN.settings, "color": planes == 3, "filters": 90})).eval()
    method.start_with(pictures)
    log_step = -method.levels.gain(torch.full((8,), 4.0)).log()
    error = (method.synthesis(method.analysis(pictures, log_step), log_step) - pictures).square().mean()
    assert error < 1e-4
    coarse, fine = (method(pictures, torch.full((8,), level))[1] for level in (0.0, 7.0))
    assert fine["psnr"] > coarse["psnr"] > 22
    assert fine["bpp"] > coarse["bpp"]


# How it ends


def test_the_end_of_a_run_trains_synthesis_on_rounded_latents_alone() -> None:
    method = build(PLAIN)
    batch, level = torch.rand(2, 1, 64, 64), torch.tensor([1.0, 6.0])
    for share, moves in ((0.5, True), (0.6, False)):
        method.begin(share)
        method.zero_grad()
        losses = []
        for seed in (1, 2):
            torch.manual_seed(seed)
            losses.append(method(batch, level)[0])
        assert (losses[0] != losses[1]) == moves  # noise
        losses[0].backward()
        assert all(
            (p.grad is not None) == moves for part in (method.analysis, method.levels) for p in part.parameters()
        )
        assert all(p.grad is not None for part in (method.synthesis, method.density) for p in part.parameters())


def test_contexts_are_trained_at_the_end_alone() -> None:
    method = build(TOLD)
    batch, level = torch.rand(2, 1, 64, 64), torch.tensor([1.0, 6.0])
    others = method.analysis, method.levels, method.synthesis, method.density, method.width
    for share, settles in ((0.5, False), (0.6, True)):
        method.train().begin(share)
        method.zero_grad()
        loss, facts = method(batch, level)
        loss.backward()
        assert ("psnr" in facts) != settles and "psnr" in method.eval()(batch, level)[1]
        assert all((p.grad is not None) == settles for p in method.contexts.parameters())
        assert all((p.grad is None) == settles for part in others for p in part.parameters())
    assert list(method.parts()) == ["analysis", "synthesis", "context0", "context1", "context2", "context3"]
    method.begin(0.5)
    with pytest.raises(RecipeError, match="not come to its settled part"):
        method.parts()
