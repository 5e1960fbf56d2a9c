"""The list of models: what it refuses, and what every model that ships must keep to."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from corec import models as models_module
from corec.codecs.registry import codec_named
from corec.errors import ModelError
from corec.models import ZOO, learned, model_named, model_numbered, models, read_manifest
from corec.runtime import network
from corec.wrap import bounds

FLAT = [1.0] * 64
ROW = f"""
[[model]]
name = "small"
number = 3
method = "joint"
codec = "jpeg"
color = false
ratio = 2
default = true
steps = [8.0, 80.0]
shapes = [{FLAT}]
compact = "small.compact.onnx"
compact_sha256 = "00"
reconstruct = "small.reconstruct.onnx"
reconstruct_sha256 = "00"
[model.training]
seed = 1
"""
RETIRED = """
[[retired]]
number = 2
name = "early"
"""


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A zoo of one model without files."""
    monkeypatch.setattr(models_module, "ZOO", tmp_path)
    (tmp_path / "manifest.toml").write_text(ROW + RETIRED)
    read_manifest.cache_clear()
    yield tmp_path
    read_manifest.cache_clear()


def test_a_model_is_found_by_name_and_number(zoo: Path) -> None:
    (model,) = models()
    assert model is model_named("small") is model_numbered(3)
    assert (model.scale, model.color, model.steps, model.training) == (2, False, (8.0, 80.0), {"seed": 1})


def test_an_unknown_name_is_refused(zoo: Path) -> None:
    with pytest.raises(ModelError, match="no model 'large'; `corec models` lists them"):
        model_named("large")


def test_an_unknown_number_asks_for_an_update(zoo: Path) -> None:
    with pytest.raises(ModelError, match="needs model 99, which this Corec does not have: update"):
        model_numbered(99)


def test_a_retired_number_is_named(zoo: Path) -> None:
    with pytest.raises(ModelError, match=r"model, 2 \(early\), was replaced"):
        model_numbered(2)


@pytest.mark.parametrize(
    "damaged",
    [
        b"[[model",
        b"\xff\xfe\x00",
        b"model = 3",
        b"[[model]]\nname = 'small'",
        ROW.replace("number = 3", "").encode(),
        ROW.replace("number = 3", "number = 3\nshade = 1").encode(),
        ROW.replace("[8.0, 80.0]", "8").encode(),
        b"[[retired]]\nnumber = 1",
    ],
)
def test_a_damaged_list_is_refused_in_one_line(zoo: Path, damaged: bytes) -> None:
    (zoo / "manifest.toml").write_bytes(damaged)
    with pytest.raises(ModelError, match=r"the list of models cannot be read: .*; reinstall Corec") as caught:
        models()
    assert "\n" not in str(caught.value)


def test_a_missing_list_is_refused(zoo: Path) -> None:
    (zoo / "manifest.toml").unlink()
    with pytest.raises(ModelError, match="the list of models cannot be read"):
        models()


def test_a_missing_model_file_is_named(zoo: Path) -> None:
    with pytest.raises(ModelError, match=r"small\.compact\.onnx is missing or unreadable: reinstall"):
        network((zoo / "small.compact.onnx", "00"))


def test_an_altered_model_file_is_refused(zoo: Path) -> None:
    (zoo / "small.compact.onnx").write_bytes(b"something else")
    with pytest.raises(ModelError, match=r"small\.compact\.onnx was altered"):
        network((zoo / "small.compact.onnx", "00"))


def test_a_file_that_is_no_network_is_refused_in_one_line(zoo: Path) -> None:
    data = b"no network"
    (zoo / "small.compact.onnx").write_bytes(data)
    with pytest.raises(ModelError, match="a network cannot be loaded") as caught:
        network((zoo / "small.compact.onnx", hashlib.sha256(data).hexdigest()))
    assert "\n" not in str(caught.value)


def test_networks_are_told_the_step_within_the_trained_range(zoo: Path) -> None:
    finest, coarsest = bounds(model_named("small"))
    np.testing.assert_allclose(finest, np.log([8]))
    np.testing.assert_allclose(coarsest, np.log([80]))


def test_shipped_numbers_and_names_are_unique_and_never_reused() -> None:
    rows, _, retired = read_manifest()
    numbers = [model.number for model in rows if not model.resized]
    assert numbers == sorted(set(numbers) - set(retired))
    assert all(number >= 0 for number in numbers)
    assert len({model.name for model in rows}) == len(rows)


def test_models_may_stand_in_sets() -> None:
    assert len({*models()}) == len(models()) and len({*learned()}) == len(learned())


def test_shipped_files_are_whole_and_small() -> None:
    for model in models():
        assert model.compact or model.scale == 1
        sizes = []
        for name, checksum in ((model.compact, model.compact_sha256), (model.reconstruct, model.reconstruct_sha256)):
            if name == model.compact == "":
                continue
            data = (ZOO / name).read_bytes()
            assert hashlib.sha256(data).hexdigest() == checksum, name
            sizes.append(len(data))
        assert sum(sizes) <= 4_000_000, model.name
    assert sum(path.stat().st_size for path in ZOO.iterdir()) <= 40 << 20


def test_nothing_else_lies_in_the_zoo() -> None:
    named = {name for model in models() for name in (model.compact, model.reconstruct, model.slope) if name}
    named |= {name for model in learned() for name in model.files.values()}
    assert {path.name for path in ZOO.iterdir()} == named | {"manifest.toml"}


def test_shipped_rows_agree_with_their_codec() -> None:
    for model in models():
        assert model.ratio in (1, 2)
        finest, coarsest = codec_named(model.codec).STEPS
        assert finest <= model.steps[0] < model.steps[1]
        if model.codec == "jpeg":
            assert np.array(model.shapes).shape == (2 if model.color else 1, 64)
        # A restorer's range is over the steps before they were cut off at the format's largest.
        assert model.steps[1] <= coarsest or model.restores
        assert model.training["seed"] is not None
