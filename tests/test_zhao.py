"""Zhao et al. 2017 and 2018: the networks are the authors' and begin as the bicubic pair, each phase trains one of them
on what it says, and how well the virtual codec stands in for the real one is in the log."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import structural_similarity
from tiny import picture, save_run
from torch import Tensor, nn

from corec import models, wrap
from corec.codecs.registry import codec_named
from corec.methods import zhao2017, zhao2018
from corec.methods.layers import Downscale, Upscale
from corec.methods.zhao2017 import FDNN, PPNN, dssim
from corec.methods.zhao2018 import Method, Settings
from corec.pipeline import compress_picture, decompress_picture
from corec.training import loop
from corec.training.recipe import RECIPES, Recipe, read_recipe

pytestmark = pytest.mark.usefixtures("usual_arithmetic")

STEPS = torch.tensor([12.0, 30.0, 60.0])
SMALL = {"filters": 4, "rounds": 2, "virtual_share": 0.375, "compact_share": 0.375}
SHARES = {"reconstruct": 0.3, "virtual": 0.6, "compact": 0.8}
"""Phase of a run with these settings -> when it is reached."""
TINY = Recipe(method="zhao2018", settings=SMALL, steps=16, batch=2, crop=32, warm_up=2)


def batch(planes: int = 1) -> Tensor:
    """Three crops of 32x48."""
    images = [picture(32, 48, planes == 1, 1 + index).pixels.reshape(32, 48, planes) for index in range(3)]
    return torch.from_numpy(np.stack(images).transpose(0, 3, 1, 2)).float() / 255


@torch.no_grad()
def disturb(method: nn.Module) -> None:
    for parameter in method.parameters():
        parameter += 0.02 * torch.randn_like(parameter)


def small(phase: str = "reconstruct", **settings: Any) -> Method:
    """A method in one phase, with weights a little off those it begins with."""
    torch.manual_seed(1)
    method = Method(Settings(**{**SMALL, **settings}))
    disturb(method)
    method.begin(SHARES[phase] if method.virtual else SHARES[phase] - 0.2)
    assert method.phase == phase
    return method


def test_the_networks_have_the_authors_layers() -> None:
    def sizes(network: FDNN | PPNN) -> list[tuple[Any, ...]]:
        layers = [layer for layer in network.layers if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)]
        return [(m.in_channels, m.out_channels, *m.kernel_size, m.stride[0]) for m in layers]

    same_size = (128, 128, 3, 3, 1)
    assert sizes(FDNN(1, 128, True)) == [
        (1, 128, 9, 9, 1), (128, 128, 3, 3, 2), *[same_size] * 4, (128, 1, 9, 9, 1),
    ]  # fmt: skip
    assert sizes(PPNN(1, 128, True)) == [(1, 128, 9, 9, 1), *[same_size] * 6, (128, 1, 9, 9, 2)]
    assert isinstance(PPNN(1, 128, True).layers[-1], nn.ConvTranspose2d)
    virtual = Method(Settings()).virtual
    assert virtual is not None and sizes(virtual) == sizes(PPNN(1, 128, True))
    assert sizes(FDNN(1, 128, False)) == [(1, 128, 9, 9, 1), *[same_size] * 5, (128, 1, 9, 9, 1)]
    assert sizes(PPNN(1, 128, False)) == [(1, 128, 9, 9, 1), *[same_size] * 6, (128, 1, 9, 9, 1)]
    for network in (FDNN(3, 8, True), PPNN(3, 8, False)):
        assert [type(m).__name__ for m in network.layers if not isinstance(m, nn.Conv2d)] == ["ReLU"] * (
            len(sizes(network)) - 1
        )


@pytest.mark.parametrize("half", [True, False])
def test_they_have_as_many_weights_as_the_authors(half: bool) -> None:
    method = zhao2018.Method(Settings(half=half))
    count = [sum(p.numel() for p in part.parameters()) for part in (method.compact, method.reconstruct)]
    assert count == [758_785, 906_369]
    assert 2 * sum(count) < 4e6  # bytes in fp16


@pytest.mark.parametrize("half", [True, False], ids=["half", "full"])
@pytest.mark.parametrize("planes", [1, 3], ids=["gray", "color"])
def test_they_begin_as_the_bicubic_pair(planes: int, half: bool) -> None:
    torch.manual_seed(1)
    source = batch(planes)
    reduced = Downscale(planes)(source).clamp(0, 1) if half else source
    enlarged = Upscale(planes)(reduced) if half else reduced
    description = FDNN(planes, 8, half)(source, STEPS)
    assert description.shape == reduced.shape
    inner = (..., slice(2, -2), slice(2, -2))  # Downscale mirrors the picture at its edges
    torch.testing.assert_close(description[inner], reduced[inner], atol=1e-5, rtol=0)
    torch.testing.assert_close(PPNN(planes, 8, half)(reduced, STEPS), enlarged, atol=1e-5, rtol=0)


def test_dssim_is_that_of_wang_et_al() -> None:
    one, other = (picture(30, 41, False, seed).pixels.transpose(2, 0, 1)[None] / 255 for seed in (1, 2))
    expected = [
        structural_similarity(
            a, b, data_range=1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        for a, b in zip(one[0], other[0], strict=True)
    ]  # fmt: skip
    found = dssim(torch.from_numpy(one).float(), torch.from_numpy(other).float())
    assert found.shape == (1,) and float(found) > 0.01
    assert float(found) == pytest.approx((1 - np.mean(expected)) / 2, abs=1e-4)
    assert float(dssim(batch(), batch()).abs().max()) < 1e-5


@pytest.mark.parametrize("virtual", [True, False])
def test_a_run_begins_and_ends_with_ppnn_and_gives_each_its_share(virtual: bool) -> None:
    method = Method(
        Settings(filters=4, rounds=4, virtual=virtual, virtual_share=0.25, compact_share=0.125, compact_rate=0.5)
    )
    phases, rates = [], {"reconstruct": [], "virtual": [], "compact": []}
    for step in range(1000):
        method.begin(step / 1000)
        phases.append(method.phase)
        rates[method.phase].append(method.rate)
    changes = [phase for before, phase in zip(["", *phases], phases, strict=False) if phase != before]
    turns = ["virtual", "compact", "reconstruct"] if virtual else ["compact", "reconstruct"]
    assert changes == ["reconstruct", *turns * 3]
    assert phases.count("compact") == pytest.approx(750 / 8, abs=3)
    assert phases.count("virtual") == pytest.approx(750 / 4 if virtual else 0, abs=3)
    assert set(rates["reconstruct"]) == {1.0}
    assert (min(rates["compact"]), max(rates["compact"])) == (pytest.approx(0, abs=0.05), 0.5)
    if virtual:
        assert (min(rates["virtual"]), max(rates["virtual"])) == (pytest.approx(0, abs=0.05), 1.0)
        risen = [rate for rate in rates["virtual"][: 750 // 12] if rate < 1]
        assert risen == sorted(risen) and len(risen) == pytest.approx(0.2 * 750 / 12, abs=2)


@pytest.mark.parametrize("color", [False, True], ids=["gray", "color"])
@pytest.mark.parametrize(
    ("learns", "virtual"),
    [("reconstruct", True), ("virtual", True), ("compact", True), ("reconstruct", False), ("compact", False)],
)
def test_each_phase_trains_one_network_and_leaves_the_others(learns: str, color: bool, virtual: bool) -> None:
    method = small(learns, color=color, virtual=virtual)
    before = {name: value.clone() for name, value in method.state_dict().items()}
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1)
    loss, facts = method(batch(3 if color else 1), STEPS)
    loss.backward()
    optimizer.step()
    changed = {name.split(".")[0] for name, value in method.state_dict().items() if not value.equal(before[name])}
    assert changed == {learns}
    assert all(torch.isfinite(value) for value in facts.values())


def real_path(method: Method) -> tuple[Tensor, Tensor]:
    """The description of batch(), and what the codec itself and PPNN make of it."""
    with torch.no_grad():
        description = method.compact(batch(), STEPS)
        images = (description * 255).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
        files = [method.codec.encode(i.copy(), s, method.shapes()) for i, s in zip(images, STEPS.tolist(), strict=True)]
        decoded = np.stack([method.codec.decode(file)[0] for file in files]).transpose(0, 3, 1, 2)
        restored = method.reconstruct(torch.from_numpy(decoded.copy()).float() / 255, STEPS)
    return description.clamp(0, 1), restored


@pytest.mark.parametrize("codec", ["jpeg", "jpeg2000", "webp"])
def test_ppnn_is_given_what_the_codec_gives_back(codec: str) -> None:
    method = small(codec=codec)
    _, restored = real_path(method)
    loss, facts = method(batch(), STEPS)
    error = (restored - batch()).square().mean((1, 2, 3))
    torch.testing.assert_close(loss, error.mean())
    torch.testing.assert_close(facts["psnr"], -10 * error.log10().mean())


def test_vcnn_imitates_ppnn_behind_the_codec_from_what_no_codec_saw() -> None:
    method = small("virtual")
    description, restored = real_path(method)
    imagined = method.virtual(description, STEPS)
    loss, facts = method(batch(), STEPS)
    error = (imagined - restored).square().mean((1, 2, 3))
    torch.testing.assert_close(loss, error.mean())
    torch.testing.assert_close(facts["stand_in_psnr"], -10 * error.log10().mean())


@pytest.mark.parametrize("virtual", [True, False])
def test_fdnn_learns_through_vcnn_or_else_through_ppnn_without_the_codec(virtual: bool) -> None:
    method = small("compact", virtual=virtual, structure_weight=0.3)
    stand_in = method.virtual if virtual else method.reconstruct
    description = method.compact(batch(), STEPS)
    imagined = stand_in(description.clamp(0, 1), STEPS)
    error = (imagined - batch()).square().mean()
    expected = error + 0.3 * dssim(description, Downscale(1)(batch())).mean()
    wanted = torch.autograd.grad(expected, list(method.compact.parameters()))
    loss, _ = method(batch(), STEPS)
    torch.testing.assert_close(loss, expected)
    found = torch.autograd.grad(loss, list(method.compact.parameters()))
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other)
    assert max(float(gradient.abs().max()) for gradient in found) > 1e-4


def test_training_lets_vcnn_imitate_ever_better() -> None:
    torch.manual_seed(1)
    method = Method(Settings(**SMALL))
    method.begin(SHARES["virtual"])
    nn.init.normal_(method.reconstruct.layers[-1].bias, mean=0.1, std=0.01)
    optimizer = torch.optim.Adam(method.parameters(), lr=1e-3)
    found = []
    for _ in range(20):
        loss, facts = method(batch(), STEPS)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(float(facts["stand_in_psnr"]))
    assert found[-1] > found[0] + 1


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 made-up pictures, so that one is held out."""
    folder = tmp_path_factory.mktemp("photographs")
    for seed in range(20):
        Image.fromarray(picture(40, 48, True, seed).pixels).save(folder / f"{seed:02}.png")
    return folder


def test_a_run_logs_how_well_vcnn_stands_in_and_goes_on_where_it_was_stopped(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "LOG_STEPS", 1)
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0)
    assert loop.train(TINY, photographs, tmp_path / "whole") == 16
    lines = [json.loads(line) for line in (tmp_path / "whole/log.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    assert ["stand_in_psnr" in line for line in steps] == [False] * 8 + [True] * 6 + [False] * 2
    assert ["promised_psnr" in line for line in steps] == [False] * 11 + [True] * 3 + [False] * 2
    assert all("validation_stand_in_psnr" in line and "validation_psnr" in line for line in lines if line not in steps)
    for _ in range(16):
        loop.train(TINY, photographs, tmp_path / "stopped", minutes=0)
    whole, stopped = (torch.load(tmp_path / run / "checkpoint.pt", weights_only=True) for run in ("whole", "stopped"))
    assert all(
        torch.equal(value, stopped[part][name]) for part in ("method", "average") for name, value in whole[part].items()
    )


@pytest.mark.parametrize("name", sorted(path.stem for path in RECIPES.glob("zhao*.toml")))
def test_a_recipe_is_long_enough_to_log_the_stand_in_in_each_round(name: str) -> None:
    recipe = read_recipe(name)
    method = loop.build(recipe)
    s = method.settings
    if s.virtual:
        assert min(s.virtual_share, s.compact_share) * recipe.steps / s.rounds >= loop.LOG_STEPS


def test_the_two_to_be_compared_differ_in_the_virtual_codec_alone() -> None:
    virtual, alternating = read_recipe("zhao2017-jpeg-half-gray"), read_recipe("zhao2017-jpeg-half-gray-alternating")
    assert alternating == replace(virtual, name=alternating.name, settings={**virtual.settings, "virtual": False})
    assert "virtual" not in virtual.settings and zhao2017.Settings().virtual


@pytest.mark.filterwarnings("ignore")  # PyTorch's, about its own exporter
@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("zhao2017", {}),
        ("zhao2017", {"codec": "jpeg2000"}),
        ("zhao2018", {"half": True, "color": True}),
        ("zhao2018", {"half": False}),
    ],
)
def test_a_trained_run_is_exported_and_used(
    method: str, settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from corec.training.export import export

    torch.manual_seed(1)
    settings = {"filters": 4, **settings}
    built = loop.build(Recipe(method, settings, 1))
    disturb(built)
    save_run(tmp_path, method, settings, built)
    monkeypatch.setattr(models, "ZOO", tmp_path)
    monkeypatch.setattr(wrap, "ZOO", tmp_path)
    models.read_manifest.cache_clear()
    try:
        export(tmp_path, "zhao", zoo=tmp_path)
        (row,) = models.models()
        assert (row.method, row.scale) == (method, 1 if settings.get("half") is False else 2)
        assert {path.name for path in tmp_path.glob("*.onnx")} == {row.compact, row.reconstruct}
        source = picture(61, 75, not settings.get("color"))
        data = compress_picture(source, model="zhao", codec=row.codec, quality=70).data
        restored = decompress_picture(data).pixels
        assert restored.shape == source.pixels.shape
        decoded = codec_named(row.codec).decode(data)[0].transpose(2, 0, 1)[None] / 255
        with torch.no_grad():
            expected = built.picture(built.reconstruct(torch.from_numpy(decoded).float(), STEPS))[0].permute(1, 2, 0)
        pixels = restored.reshape(*restored.shape[:2], -1)
        difference = pixels - 255 * expected[:61, :75].clamp(0, 1).numpy()
        assert np.abs(difference)[24:-26, 24:-26].max() <= 1  # beyond the reach of the edges, continued otherwise
        assert pixels.std() > 10
    finally:
        models.read_manifest.cache_clear()
