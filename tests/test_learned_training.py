"""Runs of the learned codec's methods, what they export, and that the codec then does what training expected."""

import math
import tomllib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from learned_recipes import CONTEXT, PLAIN, TOLD
from PIL import Image
from tiny import picture

from corec import models, wrap
from corec.errors import ModelError
from corec.learned import codec, prior
from corec.learned.codec import Latents, read
from corec.learned.format import header_bytes
from corec.learned.prior import FINER
from corec.learned.tables import read_tables
from corec.methods.context import PRICE, WRITTEN
from corec.methods.integers import EXACT, Context
from corec.models import Learned, learned
from corec.training.loop import build, train
from corec.training.manifest import entered, manifest_of, written
from corec.training.recipe import Recipe

pytestmark = pytest.mark.usefixtures("usual_arithmetic")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, random = tmp_path_factory.mktemp("pictures"), np.random.default_rng(1)
    for index in range(4):
        rough = Image.fromarray(random.integers(0, 256, (12, 12, 3), np.uint8))
        rough.resize((96, 96), Image.Resampling.BICUBIC).save(folder / f"{index}.png")
    return folder


@pytest.fixture(scope="module", params=[PLAIN, TOLD, CONTEXT], ids=["plain", "told", "context"])
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
    method.begin(1.0)
    return method.eval()


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


def test_what_is_taken_over_comes_last(run: tuple[Recipe, Path], pictures: Path) -> None:
    recipe, folder = run
    second = folder.with_name(f"{folder.name}-second")
    train(replace(recipe, start_from=folder.name, learning_rate=0.0, steps=1), pictures, second)
    taken, whole = state_of(second)["method"], state_of(folder)["average"]
    assert all(torch.equal(value, taken[name]) for name, value in whole.items())


def test_what_cannot_be_taken_over_begins_as_without(pictures: Path, tmp_path: Path) -> None:
    recipe = replace(PLAIN, learning_rate=0.0, steps=1)
    train(recipe, pictures, tmp_path / "first")
    other = {**recipe.settings, "filters": 8}
    train(replace(recipe, settings=other, start_from="first"), pictures, tmp_path / "second")
    rows = state_of(tmp_path / "second")["method"]["analysis.layers.0.weight"].flatten(1)
    torch.testing.assert_close(rows @ rows.T, torch.eye(8), atol=1e-4, rtol=0)  # as klt.py has it


@pytest.fixture(scope="module")
def exported(run: tuple[Recipe, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A trained method whose factors go with the level, and the zoo that it was exported to."""
    pytest.importorskip("onnx")
    from corec.training.export import export

    zoo, moved = (tmp_path_factory.mktemp(name) for name in ("zoo", run[0].method))
    state = state_of(run[1])
    for name, weight in state["average"].items():
        if name.endswith(".terms"):
            weight += 0.03 if name == "width.terms" else 0.001
    torch.save(state, moved / "checkpoint.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's, about its own exporter
        export(moved, "first", zoo=zoo)
    return trained((run[0], moved)), zoo


@contextmanager
def shipped(zoo: Path) -> Iterator[Learned]:
    """The only model of a zoo, as if it had come with Corec."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (models, codec, prior):
            patch.setattr(module, "ZOO", zoo)
        models.read_manifest.cache_clear()
        (row,) = learned()
        yield row
    models.read_manifest.cache_clear()


@pytest.mark.parametrize("level", [0, 4, 7])
@torch.no_grad()
def test_files_are_what_training_estimates(
    exported: tuple[Any, Path], level: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("constriction")
    monkeypatch.setattr(wrap, "BOTH_WAYS_UP_TO", 0)  # training looks one way, at a price of its own
    method, zoo = exported
    source = picture(256, 320, not method.settings.color)
    pixels = source.pixels.reshape(256, 320, -1)
    batch = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
    told = method(batch, torch.tensor([float(level)]))[1]
    with shipped(zoo) as model:
        level *= FINER if model.contexts else 1
        latents = Latents(source, replace(model, price=PRICE if model.price else 0.0))
        data = latents.file(level)
        header = header_bytes(latents.header(level), len(data))
        for size in (len(data), latents.size(level)):
            assert 8 * (size - header) == pytest.approx(256 * 320 * float(told["bpp"]), rel=0.01, abs=16)
        assert len(data) > 300
        error = np.square(read(data).pixels.reshape(pixels.shape) / 255 - pixels / 255).mean()
    assert -10 * math.log10(error) == pytest.approx(float(told["psnr"]), abs=0.1)


def test_exported_rows_and_files_are_those_of_the_learned_codec(exported: tuple[Any, Path]) -> None:
    method, zoo = exported
    (row,) = tomllib.loads((zoo / "manifest.toml").read_text())["learned"]
    learned = Learned(**row)
    assert (learned.number, learned.color, learned.default) == (1, method.settings.color, False)
    assert learned.price == method.price == (0 if learned.method == "balle2017" else WRITTEN)
    counts = {"balle2017": 4 if method.contexts else 0, "context": 7}
    assert len(learned.contexts) == counts[learned.method]
    assert learned.files["tables"] == "first.tables.npz"
    tables = read_tables((zoo / "first.tables.npz").read_bytes())
    gains = tables.gain[:: FINER if learned.contexts else 1]
    np.testing.assert_allclose(gains, method.levels.gains().numpy(), rtol=2**-11)
    assert (np.diff(tables.gain, axis=0) > 0).all()
    assert len(tables.low) == (64 if learned.contexts else 8 * 6)
    assert set(learned.files) == {*method.parts(), "tables", "slope"}
    assert learned.refines
    np.testing.assert_allclose(tables.worth[[0, -1]], method.settings.lambdas, rtol=1e-6)
    assert (np.diff(tables.worth) > 0).all()
    assert learned.training["steps"] == learned.training["seed"] + (4 if learned.method == "balle2017" else 2)


def test_numbers_are_shared_with_other_models_and_retire(tmp_path: Path) -> None:
    def enter(kind: str, name: str, default: bool = False, number: int | None = None, **more: Any) -> int:
        row = {"name": name, "number": number, "color": True, "default": default, **more}
        (tmp_path / "manifest.toml").write_text(written(entered(kind, [row], manifest_of(tmp_path), force=True)))
        return row["number"]

    other = '[[model]]\nname = "other"\nnumber = 4\ncompact = "shared.onnx"\n[model.training]\nseed = 1\n'
    (tmp_path / "manifest.toml").write_text(other)
    files = {name: {"analysis": f"{name}.analysis.onnx"} for name in "ab"}
    assert enter("learned", "a", default=True, files=files["a"]) == 5
    assert enter("learned", "b", default=True, files=files["b"]) == 6
    assert enter("learned", "a", files=files["a"]) == 7
    for number in (0, 5):
        with pytest.raises(ModelError, match=f"number {number} is taken"):
            enter("learned", "c", number=number)
    with pytest.raises(ModelError, match="begin at 1, and -3 is none"):
        enter("learned", "c", number=-3)
    with pytest.raises(ModelError, match=r"shared\.onnx is a file of model other too"):
        enter("model", "c", compact="shared.onnx")
    manifest = tomllib.loads((tmp_path / "manifest.toml").read_text())
    told = {"name": "other", "number": 4, "compact": "shared.onnx", "training": {"seed": 1}}
    assert manifest["model"] == [told]
    assert [(r["name"], r["number"], r["default"]) for r in manifest["learned"]] == [("b", 6, True), ("a", 7, False)]
    assert manifest["learned"][0]["files"] == files["b"]
    assert manifest["retired"] == [{"number": 5, "name": "a"}]
    assert enter("model", "b") == 8
    assert tomllib.loads((tmp_path / "manifest.toml").read_text())["retired"][1] == {"number": 6, "name": "b"}


def test_contexts_beyond_what_float32_holds_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnx")
    from corec.training import export as exporter

    monkeypatch.setattr(Context, "largest", lambda self: float(EXACT))
    with warnings.catch_warnings(), pytest.raises(ModelError, match=r"context0: .* float32 is not exact"):
        warnings.simplefilter("ignore")  # PyTorch's, about its own exporter
        exporter.learned_parts(build(CONTEXT).eval())
