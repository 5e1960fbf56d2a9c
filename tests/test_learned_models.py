"""The models of the learned codec: how one is found, whom it suits, and what is refused as damaged."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tiny import picture
from tiny_learned import tiny_zoo

import corec
from corec import models, runtime
from corec.color import luma
from corec.errors import ModelError
from corec.learned import codec, prior
from corec.learned.codec import Latents, origin, read, tables_of
from corec.learned.tables import Tables
from corec.models import learned, learned_named, learned_numbered, model_named, model_numbered
from corec.picture import Picture
from corec.pipeline import compress_picture, describe


@pytest.fixture(scope="module", autouse=True)
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with tiny_zoo(tmp_path_factory.mktemp("zoo")) as folder:
        yield folder


def test_a_model_is_found_by_name_by_method_and_by_the_kind_of_picture() -> None:
    gray, color = picture(20, 30, True), picture(20, 30, False)
    for source, name, expected in (
        (gray, None, "plain-gray"),
        (color, None, "plain-color"),
        (color, "tiny", "plain-color"),
        (gray, "context-gray", "context-gray"),
        (gray, "plain-color", "plain-color"),
    ):
        made = compress_picture(source, codec="learned", model=name)
        assert made.model == describe(made.data)["model"] == expected
    assert corec.decompress(corec.compress(color.pixels, codec="learned", gray=True)).shape == (20, 30)


@pytest.mark.parametrize("name", ["plain-color", "context-color"])
def test_a_model_for_colour_takes_gray_pictures(name: str) -> None:
    gray, model = picture(70, 90, True), learned_named(name)
    color = Picture(np.repeat(gray.pixels[..., None], 3, 2))
    data, other = Latents(gray, model).file(5), Latents(color, model).file(5)
    assert origin(data)[1] == origin(other)[1]
    assert read(data).gray and not read(other).gray
    np.testing.assert_array_equal(read(data).pixels, luma(read(other).pixels))


def test_a_model_that_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    gray, photo = picture(20, 30, True), picture(20, 30, False)
    for name, message in (
        ("plain-gray", "plain-gray has no model for colour pictures"),
        (
            "large",
            "the learned codec has no model 'large'; there are: plain-gray, plain-color, context-gray, context-color",
        ),
    ):
        with pytest.raises(ModelError, match=message):
            compress_picture(photo, codec="learned", model=name)
    with pytest.raises(ModelError, match="plain-gray is for the learned codec alone"):
        compress_picture(gray, codec="jpeg", model="plain-gray")
    monkeypatch.setattr(codec, "learned", lambda: ())
    with pytest.raises(ModelError, match="the learned codec has no model for gray pictures"):
        compress_picture(gray, codec="learned")


def test_learned_models_share_their_numbers_with_the_others() -> None:
    assert [(row.number, len(row.contexts)) for row in learned()] == [(20, 0), (21, 0), (22, 3), (23, 3)]
    assert learned_numbered(21) == learned_named("plain-color")
    with pytest.raises(ModelError, match="the file is damaged: its model plain-color writes other files"):
        model_numbered(21)
    with pytest.raises(ModelError, match="no model 'large'; `corec models` lists them"):
        model_named("large")


@pytest.mark.parametrize(
    "damage",
    [
        ("context1 = ", "kontext1 = "),
        ("context2 = ", "context3 = "),
        ("analysis = ", "analyses = "),
        ("default = true", ""),
        ("number = 20", "number = 20\nshade = 1"),
        ("[learned.sha256]", "[learned.sha]"),
    ],
)
def test_a_damaged_list_is_refused(
    zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: tuple[str, str]
) -> None:
    text = (zoo / "manifest.toml").read_text()
    assert damage[0] in text
    (tmp_path / "manifest.toml").write_text(text.replace(*damage, 1))
    monkeypatch.setattr(models, "ZOO", tmp_path)
    models.read_manifest.cache_clear()
    try:
        with pytest.raises(ModelError, match="the list of models cannot be read"):
            learned()
    finally:
        models.read_manifest.cache_clear()


def test_tables_that_are_not_the_models_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model, foreign = learned_named("plain-gray"), tables_of(learned_named("plain-color"))
    fewer = Tables(foreign.gain, foreign.cdf[: foreign.start[9]], foreign.start[:10], foreign.low[:9])
    monkeypatch.setattr(codec, "tables", lambda path, sha256: fewer)
    with pytest.raises(ModelError, match="model plain-gray has 9 tables, not 8 x 6"):
        tables_of(model)


@pytest.mark.parametrize(
    ("order", "arrays"),
    [((1, 0, 2), 6), ((0, 1, 1), 6), ((0, 0, 2), 6), ((0, 2), 5), ((0, 1), 6), ((2,), 7)],
    ids=str,
)
def test_contexts_that_do_not_fit_the_latents_are_refused(order: tuple[int, ...], arrays: int) -> None:
    model = learned_named("context-gray")
    other = {part: file for part, file in model.files.items() if not part.startswith("context")}
    files = other | {f"context{at}": model.files[f"context{of}"] for at, of in enumerate(order)}
    digests = {part: model.sha256[file.split(".")[1]] for part, file in files.items()}
    with pytest.raises(ModelError, match="model context-gray has contexts that do not fit its latents"):
        prior.Prior(replace(model, files=files, sha256=digests), tables_of(model), 0, (arrays, 2, 2))


def test_a_context_that_sees_no_latents_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = learned_named("context-gray")
    monkeypatch.setattr(prior, "net", lambda row, part: SimpleNamespace(planes=prior.PLANES + 3 * int(part[-1])))
    with pytest.raises(ModelError, match="contexts that do not fit its latents"):
        prior.Prior(model, tables_of(model), 0, (6, 2, 2))


@pytest.mark.parametrize(("name", "part"), [("plain-gray", "tables.npz"), ("context-gray", "context1.onnx")])
def test_an_altered_file_of_a_model_is_refused(
    zoo: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, part: str
) -> None:
    data = Latents(picture(20, 30, True), learned_named(name)).file(3)
    shutil.copytree(zoo, tmp_path, dirs_exist_ok=True)
    for module in (codec, prior):
        monkeypatch.setattr(module, "ZOO", tmp_path)
    read(data)
    file = tmp_path / f"{name}.{part}"
    codec.tables.cache_clear()
    monkeypatch.setattr(runtime, "CACHE", runtime.Cache(16))
    file.unlink()
    with pytest.raises(ModelError, match=f"{name}.{part} is missing"):
        read(data)
    file.write_bytes(b"")
    with pytest.raises(ModelError, match=f"{name}.{part} was altered"):
        read(data)
