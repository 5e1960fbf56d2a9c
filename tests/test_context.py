"""The context method: its transform, its training, and what latents tell one another."""

import hashlib
import math
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from learned_recipes import CONTEXT, smooth
from torch.nn import functional as F

from corec.learned import prior
from corec.learned.codec import chosen
from corec.learned.coder import bits_of
from corec.learned.prior import FINER, FIRST, OTHERS, Prior
from corec.learned.tables import Tables
from corec.methods.context import ENDS, PRICE, SIDE, Blocks, Method
from corec.models import Learned
from corec.training.loop import build
from corec.training.proxies import enlarge_chroma
from corec.training.tables import packed


def method_for(color: bool, rounds: int = 0, strength: float = 0.02) -> Method:
    """One whose contexts have much to say."""
    torch.manual_seed(1)
    method: Method = build(replace(CONTEXT, settings={**CONTEXT.settings, "color": color, "rounds": rounds})).eval()
    method.start_with(smooth(8, 3 if color else 1))
    with torch.no_grad():
        for parameter in method.contexts.parameters():
            parameter.add_(strength * torch.randn_like(parameter))
    return method


# The transform


@torch.no_grad()
def test_blocks_of_luma_are_orthonormal_and_come_back() -> None:
    blocks = Blocks(1)
    basis = blocks.luma_basis[:, :, 0, 0].double()
    torch.testing.assert_close(basis @ basis.T, torch.eye(256, dtype=torch.float64), atol=1e-6, rtol=0)
    picture = torch.rand(2, 1, 48, 32)
    latents = blocks(picture)
    assert latents.shape == (2, 256, 3, 2)
    assert float(latents.square().sum()) == pytest.approx(float((picture - 0.5).square().sum()), rel=1e-5)
    torch.testing.assert_close(blocks.inverse(latents), picture, atol=1e-5, rtol=0)


@torch.no_grad()
def test_blocks_of_colour_lose_only_what_subsampling_takes() -> None:
    blocks, picture = Blocks(3), torch.rand(2, 3, 32, 64)
    basis = blocks.chroma_basis[:, :, 0, 0].double()
    torch.testing.assert_close(basis @ basis.T, torch.eye(64, dtype=torch.float64), atol=1e-6, rtol=0)
    latents = blocks(picture)
    assert latents.shape == (2, 384, 2, 4)
    made = blocks.inverse(latents)
    torch.testing.assert_close(made[:, :1], picture[:, :1], atol=1e-5, rtol=0)
    torch.testing.assert_close(made[:, 1:], enlarge_chroma(F.avg_pool2d(picture[:, 1:], 2)), atol=1e-5, rtol=0)


@torch.no_grad()
def test_latents_are_frequencies_the_lowest_first() -> None:
    middle = math.pi / SIDE * (torch.arange(SIDE) + 0.5)
    for planes in (1, 3):
        blocks, radii = Blocks(planes), []
        assert int(blocks.luma.sum()) == 256 and len(blocks.luma) == (256 if planes == 1 else 384)
        for at in np.flatnonzero(blocks.luma):
            row, column = divmod(int(blocks.order[at]), SIDE)
            wave = torch.outer((row * middle).cos(), (column * middle).cos())
            latents = blocks(0.5 + 0.1 * wave.expand(1, planes, SIDE, SIDE))[0, :, 0, 0]
            assert int((latents.abs() * blocks.luma).argmax()) == at
            radii.append(math.hypot(row, column))
        assert radii == sorted(radii)
    gray = torch.full((1, 3, 16, 16), 0.7)
    gray[:, 1:] = 128 / 255
    assert blocks(gray)[0, :, 0, 0].abs().gt(1e-4).nonzero().flatten().tolist() == [0]


@torch.no_grad()
def test_networks_are_told_mean_steps_of_luma_and_of_chroma() -> None:
    for planes in (1, 3):
        blocks = Blocks(planes)
        step = torch.where(blocks.luma, 5.0, 9.0)[None] / 255
        assert blocks.told(step.log()).exp()[0].tolist() == pytest.approx([5.0, 9.0][: planes // 2 + 1])


@pytest.mark.parametrize("color", [False, True])
@torch.no_grad()
def test_sizes_of_what_goes_between_the_networks(color: bool) -> None:
    method, planes, count = method_for(color), 3 if color else 1, 384 if color else 256
    parts = method.parts()
    log_step = -method.levels.gains()[3].log()[None]
    latents = parts["analysis"](torch.rand(1, planes, 64, 96), log_step)
    assert latents.shape == (1, count, 4, 6)
    assert parts["synthesis"](latents, log_step).shape == (1, planes, 64, 96)
    assert list(parts) == ["analysis", "synthesis", *(f"context{at}" for at in range(7))]
    begin = 0
    for at, end in enumerate(ENDS[planes]):
        told = parts[f"context{at}"](torch.zeros(1, 2 + end, 4, 6))
        assert told.shape == (1, 2 * (end - begin), 4, 6)
        begin = end
    assert end == count


@pytest.mark.parametrize("planes", [1, 3])
@torch.no_grad()
def test_it_begins_as_a_transform_that_gives_pictures_back(planes: int) -> None:
    pictures = smooth(8, planes)
    method = build(replace(CONTEXT, settings={**CONTEXT.settings, "color": planes == 3})).eval()
    without = method(pictures, torch.full((8,), 5.0))[1]
    method.start_with(pictures)
    log_step = -method.levels.gains()[:1].log().expand(8, -1)
    error = (method.synthesis(method.analysis(pictures, log_step), log_step) - pictures).square().mean()
    assert error < 2e-4
    coarse, middle, fine = (method(pictures, torch.full((8,), level))[1] for level in (0.0, 5.0, 7.0))
    assert fine["psnr"] > middle["psnr"] > coarse["psnr"] > 18
    assert fine["bpp"] > middle["bpp"] > coarse["bpp"]
    assert middle["bpp"] < 0.8 * without["bpp"]


def test_training_tells_the_facts_of_finished_networks() -> None:
    """Noise is for slopes alone."""
    method, batch, level = method_for(False), smooth(2, 1), torch.tensor([1.0, 6.0])
    with torch.no_grad():
        finished = method(batch, level)
    loss, facts = method.train()(batch, level)
    assert float(loss.detach()) == pytest.approx(float(finished[0]), rel=1e-4)
    for name, fact in finished[1].items():
        assert float(facts[name]) == pytest.approx(float(fact), rel=1e-4)


@pytest.mark.parametrize("color", [True, False])
def test_every_other_crop_is_refined(color: bool) -> None:
    planes = 3 if color else 1
    grain = torch.randn(3, planes, 128, 128, generator=torch.Generator().manual_seed(1))
    batch = (smooth(3, planes) + 0.05 * grain).clamp(0, 1)
    level = torch.tensor([4.0, 4.0, 6.0])
    losses = []
    for rounds in (0, 2):
        method = method_for(color, rounds)
        with torch.no_grad():
            torch.nn.init.normal_(method.reconstruct.tail.weight, std=0.02)
            losses.append([float(method(batch[at:], level[at:])[0]) for at in range(3)])
            changed = method.changes(torch.full((3, ENDS[planes][-1], 8, 8), 0.7), batch, level)
    assert [bool(change.any()) for change in changed] == [True, False, True]
    assert all(after < before for before, after in zip(*losses, strict=True))
    method.train()(batch, level)[0].backward()
    assert all(parameter.grad is not None for parameter in method.parameters())


def test_the_end_of_a_run_trains_contexts_and_density_alone() -> None:
    method = build(replace(CONTEXT, settings={**CONTEXT.settings, "settled": 0.4})).train()
    planes = 3 if method.settings.color else 1
    batch, level = smooth(2, planes), torch.tensor([1.0, 6.0])
    for share, moves in ((0.5, True), (0.6, False)):
        method.begin(share)
        method.zero_grad()
        loss, facts = method(batch, level)
        loss.backward()
        assert ("psnr" in facts) == moves and "psnr" in method.eval()(batch, level)[1]
        method.train()
        for part in (method.compact, method.reconstruct, method.levels):
            assert all((p.grad is not None) == moves for p in part.parameters())
        assert all(p.grad is not None for p in method.contexts.parameters())


# What latents tell one another


def passes(method: Method) -> Iterator[tuple[slice, tuple[int, ...]]]:
    """Groups, and the places in them of which a network tells at once."""
    for group in method.contexts.groups:
        for phase in OTHERS if group.start else FIRST:
            yield group, tuple(2 * row + column for row, column in phase)


@pytest.mark.parametrize("level", [0.0, 5.0])
@torch.no_grad()
def test_no_latent_is_told_by_itself_or_by_later_ones(level: float) -> None:
    method, at = method_for(False, strength=0.1), torch.tensor([level])
    random = torch.Generator().manual_seed(1)
    scaled = 5 * torch.randn(1, 256, 4, 6, generator=random)
    means, indices = method.contexts.expected(scaled, at, method.chosen)
    places = 2 * (torch.arange(4) % 2)[:, None] + torch.arange(6) % 2
    told = torch.zeros(256, 4, 6, dtype=torch.bool)  # by then
    for group, phase in passes(method):
        now = torch.isin(places, torch.tensor(phase))
        later = ~told
        told[group] |= now
        other = torch.where(later, scaled + 30 * torch.randn(scaled.shape, generator=random), scaled)
        for one, first in zip(method.contexts.expected(other, at, method.chosen), (means, indices), strict=True):
            assert torch.equal(one[0][told], first[0][told])
            assert told.all() or not torch.equal(one[0][~told], first[0][~told])
    assert told.all()


@pytest.mark.parametrize("color", [False, True])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (4, 5)])
@torch.no_grad()
def test_exported_networks_tell_the_same(color: bool, height: int, width: int, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    from corec.training.export import learned_parts

    method = method_for(color)
    scaled = 4 * torch.randn(
        1, method.contexts.groups[-1].stop, height, width, generator=torch.Generator().manual_seed(1)
    )
    levels = {level: method.contexts.expected(scaled, torch.tensor([float(level)]), method.chosen) for level in (0, 5)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's, about its own exporter
        row, parts = learned_parts(method)
    for part, data in parts.items():
        (tmp_path / part).write_bytes(data)
    row |= {"files": {part: part for part in parts}}
    row |= {"sha256": {part: hashlib.sha256(data).hexdigest() for part, data in parts.items()}}
    model = Learned(name="name", number=1, method="context", default=True, training={}, **row)
    tables = Tables(**packed(method.gains().numpy(), method.tables()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prior, "ZOO", tmp_path)
        for level, (means, indices) in levels.items():
            symbols = method.chosen(scaled - means / 16, indices)[0].numpy()
            known = Prior(model, tables, FINER * level, tuple(scaled.shape[1:]))
            for where in known.places():
                for piece, numbers, told in known.pieces(where):
                    np.testing.assert_array_equal(numbers, indices[0].numpy()[where].reshape(-1)[piece])
                    np.testing.assert_array_equal(16 * told, means[0].numpy()[where].reshape(-1)[piece])
                    known.learn(where, piece, symbols[where].reshape(-1)[piece].astype(np.int32))
            assert height == 1 or (len(indices.unique()) > 20 and len(means.unique()) > 50)


@torch.no_grad()
def test_symbols_are_chosen_as_the_codec_chooses_them() -> None:
    method: Any = build(CONTEXT)
    known = Tables(**packed(method.gains().numpy(), method.tables()))
    random = np.random.default_rng(1)
    numbers = np.repeat(np.arange(64), 300)
    scales = np.geomspace(0.2, 100, 64)[numbers]
    residuals = random.laplace(0, scales).astype(np.float32)
    ours = method.chosen(torch.from_numpy(residuals), torch.from_numpy(numbers).float()).numpy().astype(np.int32)
    theirs = chosen(known, residuals, numbers, PRICE)
    assert np.mean(theirs != np.rint(residuals)) > 0.04 and np.mean(ours == theirs) > 0.995
    costs = [(residuals - each) ** 2 + PRICE * bits_of(known, each, numbers) for each in (ours, theirs)]
    assert costs[0].sum() < 1.0005 * costs[1].sum()


@torch.no_grad()
def test_what_is_received_is_as_near_as_symbols_are() -> None:
    method: Any = build(CONTEXT)
    residuals = torch.linspace(-20, 20, 4001)
    for index in (0.0, 20.0, 63.0):
        symbols = method.chosen(residuals, torch.full_like(residuals, index))
        assert torch.equal(symbols, -symbols.flip(0)) and (symbols.diff() >= 0).all()
        assert (symbols[residuals.abs() < 0.5] == 0).all()
        assert ((symbols - residuals.round()).abs() <= 1).all()


@pytest.mark.parametrize("planes", [1, 3])
def test_latents_know_where_rows_and_columns_are_exchanged(planes: int) -> None:
    blocks = Blocks(planes)
    image = torch.rand(1, planes, 32, 64, generator=torch.Generator().manual_seed(1))
    turn = blocks.transposed()
    assert sorted(turn) == list(range(len(turn))) and turn != sorted(turn)
    torch.testing.assert_close(blocks(image.transpose(2, 3)), blocks(image).transpose(2, 3)[:, turn], atol=1e-5, rtol=0)
