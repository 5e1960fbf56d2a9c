"""What every model of the learned codec must keep to: those that ship, and the tests' own tiny ones."""

import hashlib
from collections.abc import Iterator

import numpy as np
import pytest
from tiny import picture
from tiny_learned import KINDS, farthest, onnx, tiny_zoo

from corec import models
from corec.errors import ModelError
from corec.learned import codec, prior
from corec.learned.codec import Latents, decoded, net, origin, read, tables_of
from corec.models import Learned, learned, learned_named, read_manifest
from corec.pipeline import compress
from corec.runtime import Network


@pytest.fixture(scope="module", params=[*(f"tiny {name}" for name in KINDS), *(row.name for row in learned())])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Learned]:
    if request.param.startswith("tiny "):
        with tiny_zoo(tmp_path_factory.mktemp("zoo")):
            yield learned_named(request.param.removeprefix("tiny "))
    else:
        yield learned_named(request.param)


def parts_of(model: Learned) -> list[str]:
    return [part for part in model.files if part not in ("tables", "slope")]


def overlap_of(part: str) -> int:
    shapes = {"analysis": codec.ANALYSIS, "synthesis": codec.SYNTHESIS}
    return shapes.get(part, prior.CONTEXT)[1]


def steps_for(model: Learned) -> np.ndarray:
    """The logarithms of the steps of a middle level."""
    gain = tables_of(model).gain
    return -np.log(gain[len(gain) // 2])


def example(network: Network, part: str, height: int, width: int, seed: int = 1) -> np.ndarray:
    """Something like what a network sees."""
    random = np.random.default_rng(seed)
    shape = height, width, network.planes
    if part == "analysis":
        return random.random(shape, np.float32)
    return np.rint(random.laplace(0, 4, shape)).astype(np.float32)


def reach_of(model: Learned, part: str, width: int) -> float:
    """How far a sample's influence goes along a row, in samples of what the network sees.

    Columns are changed one after another, and outputs that change at all are those that depend on them.
    """
    network, steps = net(model, part), steps_for(model)
    image = example(network, part, 64 if part == "analysis" else 4, width)
    before, farthest = network(image, steps), 0.0
    scale = image.shape[1] / before.shape[1]
    for at in range(width // 2, width // 2 + max(1, round(scale))):
        changed = image.copy()
        changed[:, at] = example(network, part, len(image), 1, seed=at)[:, 0] + 9
        reached = np.flatnonzero((network(changed, steps) != before).any((0, 2))) * scale
        farthest = max(farthest, at - reached[0], reached[-1] + scale - (at + 1))
    return farthest


def test_tiles_overlap_by_more_than_a_network_looks(model: Learned) -> None:
    for part in parts_of(model):
        overlap = overlap_of(part)
        reach = reach_of(model, part, 4 * overlap)
        assert 0 < reach <= overlap, part


def test_contexts_are_exact(model: Learned) -> None:
    """In ONNX Runtime with one thread and with two, and in NumPy as the onnx package has it."""
    from onnx.reference import ReferenceEvaluator

    for part in model.contexts:
        data = (codec.ZOO / model.files[part]).read_bytes()
        networks = [Network(data, threads) for threads in (1, 2)]
        reference = ReferenceEvaluator(onnx.load_from_string(data))
        for seed, reach in enumerate((1, 20, 2.0**31)):
            known = example(networks[0], part, 3, 5, seed) * np.float32(reach)
            results = [network(known) for network in networks]
            (made,) = reference.run(None, {"image": known.transpose(2, 0, 1)[None]})
            for result in (results[1], made[0].transpose(1, 2, 0)):
                np.testing.assert_array_equal(results[0], result)
            indices = np.split(prior.whole(results[0]), 2, 2)[1]
            assert indices.min() >= 0 and indices.max() < len(tables_of(model).low)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (70, 130)])
def test_files_come_back_in_tiles_too(model: Learned, height: int, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    source = picture(height, width, not model.color)
    latents = Latents(source, model)
    for level in {0, latents.levels // 2, latents.levels - 1}:
        data = latents.file(level)
        assert abs(len(data) - latents.size(level)) <= 4 + 0.01 * len(data) or model.method == "tiny"
        header, coded, _ = origin(data)
        found = decoded(coded, header, model, latents.tables)
        error = (found - latents.at(level)) * latents.tables.gain[level][:, None, None]
        assert np.abs(error).max() <= farthest(latents.tables, model.price) + 0.001
    pixels = read(data).pixels
    assert pixels.shape == source.pixels.shape
    with monkeypatch.context() as patch:
        for module, part in ((codec, "SYNTHESIS"), (prior, "CONTEXT")):
            _, overlap, grid = getattr(module, part)
            patch.setattr(module, part, (grid, overlap, grid))
        np.testing.assert_array_equal(found, decoded(coded, header, model, latents.tables))
        assert np.abs(pixels.astype(int) - read(data).pixels).max() <= 1


def test_gains_rise_with_the_level(model: Learned) -> None:
    rises = np.diff(tables_of(model).gain, axis=0)  # of eleven bits: a gain may be that of the level before
    assert (rises >= 0).all() and (rises > 0).any(1).all() and (rises > 0).mean() > 0.9


def test_shipped_rows_are_whole() -> None:
    rows, _, retired = read_manifest()
    taken = {*retired, *(row.number for row in rows)}
    numbers = [row.number for row in learned()]
    assert numbers == sorted(set(numbers) - taken)
    assert len({row.name for row in (*rows, *learned())}) == len(rows) + len(numbers)
    for color in (True, False):
        assert sum(row.default for row in learned() if row.color == color) <= 1
    for row in learned():
        files = [models.ZOO / name for name in row.files.values()]
        assert [hashlib.sha256(path.read_bytes()).hexdigest() for path in files] == list(row.sha256.values())
        assert sum(path.stat().st_size for path in files) <= 4_000_000, row.name
        assert row.training["seed"] is not None


@pytest.mark.parametrize("name", ["plain", "joint", "jpeg-color-half"])
def test_what_is_for_other_codecs_is_refused(name: str) -> None:
    with pytest.raises(ModelError, match=f"{name} is not for the learned codec"):
        compress(picture(20, 30, False).pixels, codec="learned", model=name)
