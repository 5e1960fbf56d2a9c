"""The learned codec's networks: what the paper says of them, what both ends of a file must agree on, their training."""

import math
import tomllib
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from corec.errors import ModelError, RecipeError
from corec.learned.coder import cost
from corec.learned.tables import Tables, read_tables
from corec.methods import balle2017, hyperprior
from corec.methods.densities import Factorised, Scaled, log_mass
from corec.methods.integers import ACTIVATION, EXACT, INPUT, MEAN, Clamp, Frozen, IntegerSynthesis, Round
from corec.methods.klt import klt
from corec.methods.layers import GDN
from corec.methods.levels import Levels
from corec.methods.similarity import SMALLEST, distortion_of, ms_ssim
from corec.runtime import Network
from corec.training.loop import build, train
from corec.training.recipe import Recipe
from corec.training.tables import TOTAL, integer_cdf, packed, table

PLAIN = Recipe("balle2017", {"filters": 6, "levels": 8, "settled": 0.4}, steps=5, batch=2, crop=64, warm_up=1)
HYPER = Recipe(
    "hyperprior",
    {"color": True, "latents": 6, "hyper_latents": 4, "widths": [4, 6, 8], "hyper_widths": [6, 8], "levels": 8},
    steps=3,
    batch=2,
    crop=64,
    warm_up=1,
)


@pytest.fixture(autouse=True, scope="module")
def on_cpu() -> Any:
    """A GPU adds up in no fixed order."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: False)
        yield


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, random = tmp_path_factory.mktemp("pictures"), np.random.default_rng(1)
    for index in range(4):
        rough = Image.fromarray(random.integers(0, 256, (12, 12, 3), np.uint8))
        rough.resize((96, 96), Image.Resampling.BICUBIC).save(folder / f"{index}.png")
    return folder


@pytest.fixture(scope="module", params=[PLAIN, HYPER], ids=lambda recipe: recipe.method)
def run(
    request: pytest.FixtureRequest, pictures: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Recipe, Path]:
    """A tiny recipe and the folder of its run, trained without a stop."""
    folder = tmp_path_factory.mktemp(request.param.method)
    train(request.param, pictures, folder)
    return request.param, folder


def state_of(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "checkpoint.pt", weights_only=True)


def trained(run: tuple[Recipe, Path]) -> Any:
    method = build(run[0])
    method.load_state_dict(state_of(run[1])["average"])
    return method.eval()


# Ballé et al. 2017: the transforms


@torch.no_grad()
def test_gdn_is_its_formula_and_can_be_inverted() -> None:
    torch.manual_seed(1)
    forward, inverse = GDN(4), GDN(4, inverse=True)
    for parameter in forward.parameters():
        parameter.uniform_(-0.6, 0.6)  # of either sign: what counts are their squares
    inverse.load_state_dict(forward.state_dict())
    x = torch.randn(2, 4, 3, 5, dtype=torch.float32)
    beta, gamma = (p.double().square().numpy() for p in (forward.root_beta, forward.root_gamma))

    def root(of: np.ndarray) -> np.ndarray:
        return np.sqrt(beta[:, None, None] + 1e-6 + np.einsum("ij,njhw->nihw", gamma, of**2))

    y, exact = forward(x).numpy(), x.double().numpy()
    np.testing.assert_allclose(y, exact / root(exact), rtol=1e-5)
    np.testing.assert_allclose(inverse(x).numpy(), exact * root(exact), rtol=1e-5)
    found = inverse(forward(x)).numpy()  # the first step of a fixed-point iteration
    for _ in range(200):
        found = y * root(found)
    np.testing.assert_allclose(found, exact, rtol=1e-3)


def test_the_published_sizes() -> None:
    gray, color = (balle2017.Method(balle2017.Settings(color)) for color in (False, True))
    for method, planes, filters in ((gray, 1, 128), (color, 3, 192)):
        stages = [method.analysis.layers[i] for i in (0, 2, 4)] + [method.synthesis.layers[i] for i in (5, 3, 1)]
        shapes = [tuple(stage.weight.shape) for stage in stages]
        assert shapes == 2 * [(filters, planes, 9, 9), (filters, filters, 5, 5), (filters, filters, 5, 5)]
        assert [stage.stride for stage in stages] == 2 * [(4, 4), (2, 2), (2, 2)]


@pytest.mark.parametrize("kind", ["balle2017", "hyperprior"])
@pytest.mark.parametrize(("height", "width"), [(64, 64), (64, 192), (128, 64)])
@torch.no_grad()
def test_sizes_of_what_goes_between_the_networks(kind: str, height: int, width: int) -> None:
    method = build(PLAIN if kind == "balle2017" else HYPER)
    parts, planes = method.parts(), 1 if kind == "balle2017" else 3
    latents = parts["analysis"](torch.rand(1, planes, height, width))
    assert latents.shape == (1, 6, height // 16, width // 16)
    assert parts["synthesis"](latents).shape == (1, planes, height, width)
    if kind == "hyperprior":
        z = parts["hyper_analysis"](latents)
        assert z.shape == (1, 4, height // 64, width // 64)
        assert parts["hyper_synthesis"](z.round()).shape == (1, 12, height // 16, width // 16)


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
    clean = decoder(latents / gain)

    def distortion(noisy: bool) -> float:
        return float((decoder(balle2017.quantised(latents, noisy) / gain) - clean).square().mean())

    noisy = [distortion(True) for _ in range(6)]
    assert np.mean(noisy) == pytest.approx(distortion(False), rel=0.06)
    assert np.std(noisy) < 0.04 * np.mean(noisy)


# Where training begins


def smooth(count: int, planes: int) -> Tensor:
    """Pictures in 0..1 whose energy is in their low frequencies, with a cast of colour."""
    random = torch.Generator().manual_seed(3)
    rough = torch.rand(count, planes, 16, 16, generator=random)
    cast = torch.tensor([1.0, 0.8, 0.5])[:planes, None, None]
    return cast * torch.nn.functional.interpolate(rough, scale_factor=8, mode="bicubic").clamp(0, 1)


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
def test_both_methods_begin_as_a_transform_that_gives_pictures_back(planes: int) -> None:
    pictures = smooth(8, planes)
    hyper = {**HYPER.settings, "color": planes == 3, "widths": [24, 60, 80], "latents": 90}
    plain = {**PLAIN.settings, "color": planes == 3, "filters": 90}
    for recipe in (replace(HYPER, settings=hyper), replace(PLAIN, settings=plain)):
        method = build(recipe).eval()
        method.start_with(pictures)
        error = (method.synthesis(method.analysis(pictures)) - pictures).square().mean()
        assert error < 1e-4
        coarse, fine = (method(pictures, torch.full((8,), level))[1] for level in (0.0, 7.0))
        assert fine["psnr"] > coarse["psnr"] > 22
        assert fine["bpp"] > coarse["bpp"]


# Densities


@torch.no_grad()
def test_a_density_is_a_difference_of_distributions_and_sums_to_one() -> None:
    torch.manual_seed(1)
    density = Factorised(3, nodes=2)
    for parameter in density.parameters():
        parameter.add_(0.05 * torch.randn_like(parameter))
    gain, share = torch.tensor([[2.0, 5.0, 1.0]]), torch.tensor([0.3])
    location, scale, logit = (p[0].double().numpy() for p in density.parameters_at(gain, share))
    weights = np.exp(logit) / np.exp(logit).sum(1, keepdims=True)

    def distribution(x: np.ndarray) -> np.ndarray:
        return (weights[:, None] / (1 + np.exp((location[:, None] - x[..., None]) / scale[:, None]))).sum(-1)

    values = torch.linspace(-9, 9, 37).reshape(1, 1, 1, -1).expand(1, 3, 1, -1)
    exact = values[0, :, 0].double().numpy()
    expected = distribution(exact + 0.5) - distribution(exact - 0.5)
    np.testing.assert_allclose(density.bits(values, gain, share)[0, :, 0], -np.log2(expected), rtol=1e-4, atol=1e-4)
    for masses, first in density.tables(gain, share):
        assert masses.sum() == pytest.approx(1, abs=1e-5)
        assert first < 0 < first + len(masses)
    far = density.bits(torch.full((1, 3, 1, 1), 1e4), gain, share)
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
    wide, narrow = (np.stack([m for m, _ in density.tables(g * torch.ones(1, 2), torch.zeros(1))]) for g in (3.0, 9.0))
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
    for settings_of in (balle2017.Settings, hyperprior.Settings):
        with pytest.raises(RecipeError, match="mse, ms-ssim, not 'psnr'"):
            settings_of(distortion="psnr")
    method = build(replace(PLAIN, settings={**PLAIN.settings, "distortion": "ms-ssim"}))
    with pytest.raises(RecipeError, match="crops of 176"):
        method(torch.rand(1, 1, 64, 64), torch.zeros(1))


# Integers


def integer_network(strength: float) -> IntegerSynthesis:
    torch.manual_seed(1)
    network = IntegerSynthesis(5, (7, 9), 6, 64)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(strength).add_(0.02 * strength * torch.randn_like(parameter))
    return network


def in_int64(network: Frozen, z: np.ndarray) -> np.ndarray:
    """The network in 64-bit integers, multiplication by multiplication: z (inputs, h, w)."""
    x, layers = np.clip(z, -INPUT, INPUT).astype(np.int64), network.layers()
    for number, layer in enumerate(layers):
        weight, bias = (part.numpy().astype(np.int64) for part in layer[:2])
        if weight.shape[-1] == 1:
            total = np.einsum("oi,ihw->ohw", weight[:, :, 0, 0], x)
        else:
            height, width = x.shape[1:]
            total = np.zeros((weight.shape[1], 2 * height + 2, 2 * width + 2), np.int64)
            for row in range(4):
                for column in range(4):
                    part = np.einsum("io,ihw->ohw", weight[:, :, row, column], x)
                    total[:, row : row + 2 * height : 2, column : column + 2 * width : 2] += part
            total = total[:, 1:-1, 1:-1]
        total += bias[:, None, None]
        half, rest = layer.divisor // 2, total % layer.divisor
        x = total // layer.divisor
        x += (rest > half) | ((rest == half) & (x % 2 == 1))  # halves to even
        if number < len(layers) - 1:
            x = np.clip(x, 0, ACTIVATION)
    half = len(x) // 2
    return np.concatenate([np.clip(x[:half], -MEAN, MEAN), np.clip(x[half:], 0, network.count - 1)])


@pytest.mark.parametrize("strength", [1.0, 30.0], ids=["as begun", "at its limits"])
@torch.no_grad()
def test_integers_are_the_same_in_torch_in_onnx_runtime_and_in_int64(strength: float) -> None:
    pytest.importorskip("onnx")
    from corec.training.export import narrowed, to_onnx

    trained_one = integer_network(strength)
    network = Frozen(trained_one)
    assert EXACT / 1000 < network.largest() < EXACT
    z = torch.randn(1, 5, 6, 9, generator=torch.Generator().manual_seed(1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's, about its own exporter
        data = narrowed(to_onnx(network, z), np.int16)
    assert len(data) < sum(p.numel() for p in network.parameters()) * 2 + 6000
    loaded = [Network(data, threads) for threads in (1, 2)]
    for spread in (2, 40, 400):
        whole = (spread * z).round()
        expected = in_int64(network, whole[0].numpy())
        np.testing.assert_array_equal(network(whole)[0].numpy(), expected)
        np.testing.assert_array_equal(trained_one(whole)[0].numpy(), expected)
        for one in loaded:
            np.testing.assert_array_equal(one(whole[0].permute(1, 2, 0).numpy()).transpose(2, 0, 1), expected)
    assert len(np.unique(expected)) > 50


def test_rounding_has_the_slope_one_and_clamping_none_that_leads_out() -> None:
    x = torch.tensor([-2.6, 0.4, 0.5, 1.5, 9.0], requires_grad=True)
    assert Round.apply(x).tolist() == [-3, 0, 0, 2, 9]
    for sign, expected in ((1.0, [0, 1, 1, 1, 1]), (-1.0, [-1, -1, -1, -1, 0])):
        (slope,) = torch.autograd.grad((sign * Clamp.apply(Round.apply(x), 0, 8)).sum(), x)
        assert slope.tolist() == expected


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


# Runs and their export


def test_a_resumed_run_is_bit_identical(run: tuple[Recipe, Path], pictures: Path, tmp_path: Path) -> None:
    recipe, folder = run
    assert [train(recipe, pictures, tmp_path, minutes=0) for _ in range(recipe.steps)][-1] == recipe.steps
    whole, stopped = state_of(folder), state_of(tmp_path)
    for part in ("method", "average"):
        assert all(torch.equal(value, stopped[part][name]) for name, value in whole[part].items())


def test_every_weight_is_trained(run: tuple[Recipe, Path]) -> None:
    torch.manual_seed(run[0].seed)
    start = build(run[0]).state_dict()
    still = [name for name, value in state_of(run[1])["method"].items() if torch.equal(start[name], value)]
    assert still == []


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


@pytest.fixture(scope="module")
def exported(run: tuple[Recipe, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A trained method, and the zoo that it was exported to."""
    pytest.importorskip("onnx")
    from corec.training.export import export

    zoo = tmp_path_factory.mktemp("zoo")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's, about its own exporter
        export(run[1], "first", zoo=zoo)
    return trained(run), zoo


@torch.no_grad()
def test_tables_cost_what_training_estimates(run: tuple[Recipe, Path]) -> None:
    method = trained(run)
    if run[0] is HYPER:  # three steps teach no scale: take one that is wide enough for every level
        method.hyper_synthesis.layers[-1].bias[6:] = 3.2
    tables = Tables(**packed(method.levels.gains().numpy(), method.tables()))
    random = torch.Generator().manual_seed(1)
    planes = 3 if method.settings.color else 1
    rough = 0.25 + 0.5 * torch.rand(1, planes, 40, 40, generator=random)
    picture = torch.nn.functional.interpolate(rough, 256, mode="bilinear")

    def bits_of(values: Tensor, numbers: Tensor) -> float:
        return cost(tables, values.round().int().numpy().ravel(), numbers.int().expand(values.shape).numpy().ravel())

    def channels(like: Tensor, level: int) -> Tensor:
        return (level * like.shape[1] + torch.arange(like.shape[1]))[:, None, None]

    parts = method.parts()
    y = parts["analysis"](picture)
    for level in (0, 4, 7):
        scaled = torch.from_numpy(tables.gain[level])[:, None, None] * y
        if "hyper_synthesis" in parts:
            z = parts["hyper_analysis"](scaled).round()
            means, index = parts["hyper_synthesis"](z).chunk(2, 1)
            first = len(tables.gain) * z.shape[1]
            bits = bits_of(z, channels(z, level)) + bits_of(scaled - means / 16, first + index)
        else:
            bits = bits_of(scaled, channels(scaled, level))
        estimate = float(method(picture, torch.tensor([float(level)]))[1]["bpp"]) * 256 * 256
        assert bits == pytest.approx(estimate, rel=0.01)
        assert bits > 100


def test_exported_rows_and_files_are_those_of_the_learned_codec(exported: tuple[Any, Path]) -> None:
    from corec.models import Learned

    method, zoo = exported
    (row,) = tomllib.loads((zoo / "manifest.toml").read_text())["learned"]
    learned = Learned(**row)
    assert (learned.number, learned.color, learned.default) == (1, method.settings.color, False)
    assert learned.files["tables"] == "first.tables.npz"
    tables = read_tables((zoo / "first.tables.npz").read_bytes())
    assert np.array_equal(tables.gain, method.levels.gains().numpy())
    assert len(tables.low) == 8 * 6 if learned.method == "balle2017" else 8 * 4 + 64
    assert set(learned.files) == {*method.parts(), "tables"}
    assert learned.training["steps"] == learned.training["seed"] + (4 if learned.method == "balle2017" else 2)


def test_numbers_are_shared_with_other_models_and_retire(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    from corec.training.export import enter

    def entered(name: str, default: bool = False, number: int | None = None) -> int:
        files = {"analysis": f"{name}.analysis.onnx"}
        row = {"name": name, "number": number, "color": True, "default": default, "files": files}
        return enter("learned", row, tmp_path)

    other = '[[model]]\nname = "other"\nnumber = 4\n[model.training]\nseed = 1\n'
    (tmp_path / "manifest.toml").write_text(other)
    assert [entered("a", default=True), entered("b", default=True), entered("a")] == [5, 6, 7]
    with pytest.raises(ModelError, match="number 5 is taken"):
        entered("c", number=5)
    manifest = tomllib.loads((tmp_path / "manifest.toml").read_text())
    assert manifest["model"] == [{"name": "other", "number": 4, "training": {"seed": 1}}]
    assert [(r["name"], r["number"], r["default"]) for r in manifest["learned"]] == [("b", 6, True), ("a", 7, False)]
    assert manifest["learned"][0]["files"] == {"analysis": "b.analysis.onnx"}
    assert manifest["retired"] == [{"number": 5, "name": "a"}]
    assert enter("model", {"name": "b", "number": None}, tmp_path) == 8
    assert tomllib.loads((tmp_path / "manifest.toml").read_text())["retired"][1] == {"number": 6, "name": "b"}


def test_a_hyperprior_that_is_not_exact_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnx")
    from corec.training import export as exporter

    monkeypatch.setattr(Frozen, "largest", lambda self: float(EXACT))
    with pytest.raises(ModelError, match="float32 is not exact"):
        exporter.write_learned(build(HYPER).eval(), "name", tmp_path)
    assert not list(tmp_path.iterdir())


def test_tables_are_packed_in_their_order() -> None:
    gain = np.ones((2, 1))
    arrays = packed(gain, [(np.array([0.5, 0.5]), 3), (np.array([1.0]), -1)])
    assert arrays["start"].tolist() == [0, 4, 7] and arrays["low"].tolist() == [3, -1]
    assert arrays["cdf"].tolist() == [0, 32768, 65535, 65536, 0, 65535, 65536]
