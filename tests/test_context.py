"""The context method: its transform, its integer networks, and what latents tell one another."""

import copy
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
from corec.learned.prior import FINER, FIRST, OTHERS, WHOLE, Prior
from corec.learned.tables import Tables
from corec.methods.context import ENDS, PRICE, SIDE, Blocks, Method
from corec.methods.densities import noisy
from corec.methods.groups import Groups, rounded
from corec.methods.integers import ACTIVATION, BENDS, EXACT, LARGEST, MEAN, Clamp, Context, Layer, Round, beside, sizes
from corec.models import Learned
from corec.runtime import Network
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


# Integers


def context_for(strength: float, known: int = 11, outputs: int = 4) -> Context:
    torch.manual_seed(1)
    network = Context(known, outputs, 5, 12, 64)
    with torch.no_grad():
        network.start_with(torch.linspace(10, 40, outputs) + torch.linspace(0, 28, len(BENDS))[:, None])
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter)).mul_(strength)
    return network


def layer_in_int64(layer: Layer, x: np.ndarray) -> np.ndarray:
    weight, bias = (part.detach().numpy().astype(np.int64) for part in layer.integers())
    total = np.einsum("oi,ihw->ohw", weight, x) + bias[:, None, None]
    divisor = 16 * layer.unit
    half, rest, whole = divisor // 2, total % divisor, total // divisor
    return whole + ((rest > half) | ((rest == half) & (whole % 2 == 1)))  # halves to even


def around_in_int64(x: np.ndarray) -> np.ndarray:
    height, width = x.shape[1:]
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    return np.concatenate([padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)])


def in_int64(network: Context, known: np.ndarray) -> np.ndarray:
    """The network in 64-bit integers, multiplication by multiplication: known (2 + latents, h, w)."""
    near = around_in_int64(known[: 2 + network.signed].clip(-WHOLE, WHOLE))
    level = known[:1].clip(-WHOLE, WHOLE)
    near = np.concatenate([near, *((level - 8 * at).clip(0, WHOLE) for at in range(8))])
    size = abs(known[2:])
    x = layer_in_int64(network.near, near)
    size = np.where(size < 3, 4 * size + 3 * (size > 0), size.clip(max=30) + 12)
    x += layer_in_int64(network.sizes, size)
    next_to = around_in_int64(size).reshape(9, *size.shape).sum(0) - size
    x = layer_in_int64(network.second, around_in_int64(x.clip(0, ACTIVATION)))
    x = layer_in_int64(network.third, x.clip(0, ACTIVATION))
    x = layer_in_int64(network.linear, near) + layer_in_int64(network.last, x.clip(0, ACTIVATION))
    x += layer_in_int64(network.direct, np.concatenate([size[: network.earlier], next_to]))
    means, indices = np.split(x, 2)
    return np.concatenate([means.clip(-MEAN, MEAN), indices.clip(0, network.count - 1)])


@pytest.mark.parametrize("strength", [1.0, 300.0], ids=["as begun", "at its limits"])
@torch.no_grad()
def test_integers_are_the_same_in_torch_in_onnx_runtime_and_in_int64(strength: float) -> None:
    pytest.importorskip("onnx")
    from corec.training.export import to_onnx
    from corec.training.weights import narrowed

    trained = context_for(strength)
    network = copy.deepcopy(trained)
    network.freeze()
    known = torch.randn(1, 13, 6, 9, generator=torch.Generator().manual_seed(1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # PyTorch's are about its own exporter
        data = to_onnx(network, known)
    assert len(narrowed(data, integers=True)) < len(data) - 4000
    data = narrowed(data, integers=True)
    loaded = [Network(data, threads) for threads in (1, 2)]
    for spread in (2, 40, 4000, 2.0**40):
        whole = (spread * known).round()
        expected = in_int64(network, whole[0].numpy().astype(np.int64))
        np.testing.assert_array_equal(network(whole)[0].numpy(), expected)
        np.testing.assert_array_equal(trained(whole)[0].numpy(), expected)
        for one in loaded:
            np.testing.assert_array_equal(one(whole[0].permute(1, 2, 0).numpy()).transpose(2, 0, 1), expected)
        assert len(np.unique(expected)) > (30 if strength == 1 else 2)


@pytest.mark.parametrize("strength", [1.0, 300.0], ids=["as begun", "at its limits"])
@torch.no_grad()
def test_no_sum_leaves_what_float32_holds(strength: float) -> None:
    network = context_for(strength, known=384)
    largest = []
    for layer in network.layers():
        weight, bias = (part.double() for part in layer.integers())
        inputs = layer.limit * weight.sign()  # the worst for each output
        assert layer.largest() == float(((inputs * weight).sum(1) + bias.abs()).max())
        largest.append(layer.largest())
    assert network.largest() == max(largest) < EXACT
    assert (max(largest) > EXACT / 2) == (strength > 1)
    limits = [layer.limit for layer in network.layers()]
    assert limits == [WHOLE, 8 * LARGEST, WHOLE, LARGEST, ACTIVATION, ACTIVATION, ACTIVATION]


def test_beside_is_the_sum_of_the_eight_neighbours() -> None:
    x = torch.arange(12.0).reshape(1, 1, 3, 4)
    assert beside(x).flatten().tolist() == [10, 17, 22, 15, 23, 40, 48, 32, 18, 33, 38, 23]


def test_sizes_grow_ever_more_slowly() -> None:
    values = sizes(torch.cat([torch.arange(-60.0, 61), torch.tensor([1e9])]))
    assert values[60:66].tolist() == [0, 7, 11, 15, 16, 17]
    assert values.flip(0)[1:].equal(values[:-1]) and values.max() == LARGEST


def test_rounding_has_the_slope_one_and_clamping_none_that_leads_out() -> None:
    x = torch.tensor([-2.6, 0.4, 0.5, 1.5, 9.0], requires_grad=True)
    assert Round.apply(x).tolist() == [-3, 0, 0, 2, 9]
    for sign, expected in ((1.0, [0, 1, 1, 1, 1]), (-1.0, [-1, -1, -1, -1, 0])):
        (slope,) = torch.autograd.grad((sign * Clamp.apply(Round.apply(x), 0, 8)).sum(), x)
        assert slope.tolist() == expected


@torch.no_grad()
def test_contexts_begin_with_the_scales_that_latents_have() -> None:
    groups, spread = Groups((1, 4), 3, 5, 64), torch.tensor([12.0, 6.0, 3.0, 1.0])
    for context in groups.each:
        context.last.weight.zero_()  # by itself it moves them a little
    growth = torch.linspace(0, 2, len(BENDS)).exp() * torch.linspace(0, 1, len(BENDS)).square().exp()
    groups.start_with(spread * growth[:, None])
    for at, level in enumerate(BENDS):
        _, index = groups.expected(torch.zeros(1, 4, 3, 3), torch.tensor([float(level)]), rounded)
        expected = groups.density.index_of(growth[at] * spread)
        assert (index[0, :, 1, 1] - expected).abs().max() < 1


def test_what_latents_and_contexts_learn_from() -> None:
    """Latents from noise, by densities as they are, and as if they came through; contexts from symbols and noise."""
    torch.manual_seed(1)
    groups, level = Groups((1, 4), 3, 5, 64), torch.tensor([3.0])
    groups.start_with(torch.full((len(BENDS), 4), 3.0))
    scaled = (4 * torch.randn(1, 4, 6, 6)).requires_grad_()
    bits, received = groups(scaled, level, rounded)
    assert (received - scaled).abs().max() <= 0.5
    assert torch.autograd.grad(received.sum(), scaled, retain_graph=True)[0].eq(1).all()
    means, index = groups.expected(scaled.detach(), level, rounded)
    torch.manual_seed(1)
    torch.randn(1)
    slope = torch.autograd.grad(bits.sum(), scaled, retain_graph=True)[0]
    near = (scaled.detach() - means.detach() / 16).requires_grad_()
    torch.manual_seed(2)
    smooth_slopes = [
        torch.autograd.grad(groups.density.bits(noisy(near), index.detach()).sum(), near)[0] for _ in range(400)
    ]
    typical = torch.stack(smooth_slopes)
    assert ((slope - typical.mean(0)).abs() < 6 * typical.std(0) + 1e-3).all() and slope.abs().mean() > 0.05
    exact = groups.density.bits((scaled.detach() - means / 16).round(), index)
    torch.testing.assert_close(bits, exact)
    bits.sum().backward()
    assert all(parameter.grad is not None for parameter in groups.parameters())
    with torch.no_grad():
        torch.testing.assert_close(groups.eval()(scaled, level, rounded)[0], exact)


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
