"""Contenders that choose among models, and the learned codec: which files they write, and what a row depends on."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import fake_codec
import numpy as np
import pytest
import tiny
import tiny_learned
from PIL import Image

from corec import models
from corec.codecs.registry import codec_of
from corec.errors import MissingExtraError, ModelError
from corec.evaluation import contenders
from corec.evaluation.bench import Request, evaluate, tasks_of
from corec.evaluation.targets import Target, target
from corec.pipeline import compress_picture, decompress_picture

GRAY, COLOR = tiny.picture(64, 80, True), tiny.picture(64, 80, False)


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with tiny.tiny_zoo(tmp_path_factory.mktemp("zoo")):
        yield


@pytest.fixture
def learned_zoo(tmp_path: Path) -> Iterator[None]:
    with tiny_learned.tiny_zoo(tmp_path):
        yield


@pytest.mark.usefixtures("zoo")
@pytest.mark.parametrize("codec", ["jpeg", "jpeg2000"])
def test_corec_with_a_codec_writes_files_of_that_codec(codec: str) -> None:
    who = contenders.contender(f"corec:{codec}")
    file = who.write(GRAY, 1500)
    assert codec == codec_of(file.data).NAME and len(file.data) <= 1500
    assert file.data == compress_picture(GRAY, codec=codec, size=1500).data
    assert np.array_equal(who.read(file.data), decompress_picture(file.data).pixels)
    assert [model.name for model in who.models] == ([*tiny.KINDS] if codec == "jpeg" else [])
    assert who.chooses and not contenders.contender(codec).chooses


@pytest.mark.usefixtures("zoo")
def test_a_method_is_its_family() -> None:
    assert contenders.families() == ["joint", "joint:jxl"]
    who = contenders.contender("joint")
    assert [model.name for model in who.models] == [*tiny.KINDS] and who.chooses
    file = who.write(GRAY, 1500)
    assert file.data == compress_picture(GRAY, model="joint", size=1500).data and len(file.data) <= 1500
    for name in ("restore", "joint:webp", "corec:nonsense", "corec:"):
        with pytest.raises(ModelError, match="there are: jpeg, "):
            contenders.contender(name)


@pytest.mark.usefixtures("learned_zoo")
def test_learned_codecs_are_measured_by_the_files_they_write() -> None:
    names = {"learned": "plain-color", "context-color": "context-color", "tiny": "plain-color"}
    for name, model in names.items():
        who = contenders.contender(name)
        file = who.write(COLOR, 4000)
        assert file.model == model and len(file.data) <= 4000 and 0 <= file.setting < tiny_learned.LEVELS
        assert np.array_equal(who.read(file.data), decompress_picture(file.data).pixels)
        assert not who.chooses
    with pytest.raises(ModelError, match=r"there are: .*learned, tiny, plain-gray"):
        contenders.contender("nonsense")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pictures").mkdir()
    Image.fromarray(COLOR.pixels).save(tmp_path / "pictures" / "a.png")
    return tmp_path / "pictures"


def keys(folder: Path, names: list[str], gray: bool = True) -> dict[str, str]:
    request = Request(folder, gray, (Target("", 1.0),), tuple(names))
    return {task.contender: task.key(digest) for task, digest in tasks_of(request)}


@pytest.mark.usefixtures("zoo")
def test_a_row_is_known_by_the_networks_it_may_come_from(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["corec", "corec:jpeg2000", "joint", "gray-half", "jpeg", "jpeg+restore"]
    before, before_in_color = keys(folder, names), keys(folder, ["corec"], gray=False)
    manifest = models.read_manifest()
    rows = manifest.models
    changed = [replace(row, compact_sha256="other") if row.name == "gray-full" else row for row in rows]
    monkeypatch.setattr(models, "read_manifest", lambda: manifest._replace(models=tuple(changed)))
    after = keys(folder, names)
    assert {name for name in names if after[name] != before[name]} == {"corec", "joint"}
    changed = [replace(row, compact_sha256="other") if row.name == "color-full" else row for row in rows]
    assert keys(folder, names) == before and keys(folder, ["corec"], gray=False) != before_in_color
    # What says when a model is used counts as well, and how it was trained does not.
    changed = [replace(row, steps=(7.0, 99.0)) if row.name == "gray-half" else row for row in rows]
    assert {name for name, key in keys(folder, names).items() if key != before[name]} == {"corec", "joint", "gray-half"}
    changed = [replace(row, training={"seed": 3}) for row in rows]
    assert keys(folder, names) == before


def test_a_row_is_known_by_the_learned_models_files(folder: Path, tmp_path: Path) -> None:
    with tiny_learned.tiny_zoo(tmp_path) as zoo:
        before = keys(folder, ["learned", "context-gray", "context-color"])
        manifest = zoo / "manifest.toml"
        digest = models.learned_named("plain-gray").sha256["tables"]
        manifest.write_text(manifest.read_text().replace(digest, "0" * 64))
        models.read_manifest.cache_clear()
        after = keys(folder, ["learned", "context-gray"])
        digest = models.learned_named("context-color").sha256["tables"]  # which takes gray pictures, too
        manifest.write_text(manifest.read_text().replace(digest, "1" * 64))
        models.read_manifest.cache_clear()
        last = keys(folder, ["context-color"])
    assert after["learned"] != before["learned"] and after["context-gray"] == before["context-gray"]
    assert last["context-color"] != before["context-color"]


@pytest.mark.usefixtures("zoo")
def test_packages_are_tried_without_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A codec that is not installed leaves Corec with that codec out, whether it has models or not."""

    def encode(image: np.ndarray, step: float, shapes: object) -> bytes:
        raise MissingExtraError("fake needs a package: pip install 'corec[fake]'")

    fake_codec.install(monkeypatch, encode=encode)
    manifest = models.read_manifest()
    rows = manifest.models
    wrapped = (*rows, replace(rows[0], name="wrapped", codec="fake", compact="nowhere.onnx"))
    told: list[str] = []
    for held in (rows, wrapped):
        monkeypatch.setattr(models, "read_manifest", lambda held=held: manifest._replace(models=held))
        assert contenders.usable(["corec", "corec:fake"], told.append) == ["corec"]
    assert contenders.usable(["wrapped"], told.append) == [] and len(told) == 3
    assert all("corec[fake]" in line for line in told)


def test_the_learned_codecs_package_is_tried_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise MissingExtraError("pip install 'corec[learned]'")

    told: list[str] = []
    with tiny_learned.tiny_zoo(tmp_path):
        assert contenders.usable(["learned"], told.append) == ["learned"]
        monkeypatch.setattr(contenders, "constriction", missing)
        assert contenders.usable(["learned", "context-color"], told.append) == []
    assert len(told) == 2


def test_the_files_of_a_curve_are_written_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []

    def encode(image: np.ndarray, step: float, shapes: object) -> bytes:
        asked.append(step)
        return fake_codec.encode(image, step, shapes)

    fake_codec.install(monkeypatch, encode=encode)
    contenders.latest_files.cache_clear()
    targets = (*(Target("", rate) for rate in (2.0, 2.5, 3.0, 4.0)), target("fake@16"))
    rows = [measured.row for measured in evaluate(Request(folder, True, targets, ("jpeg", "fake")))]
    assert len(asked) == len(set(asked)) <= len(fake_codec.STEPS)
    assert [row.target for row in rows[::2]] == [at.name for at in targets]
