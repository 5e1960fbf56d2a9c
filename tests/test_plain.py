"""The codec alone: an ordinary file with an envelope, where networks do not pay, or there are none."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import picture, tiny_zoo

from corec import choice, models
from corec.codecs import jpeg
from corec.envelope import unpack
from corec.pipeline import compress_picture, decompress_picture, describe


@pytest.fixture(scope="module", autouse=True)
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with tiny_zoo(tmp_path_factory.mktemp("zoo")) as folder:
        yield folder


@pytest.mark.parametrize("gray", [True, False])
def test_what_comes_back_is_what_viewers_show(gray: bool) -> None:
    made = compress_picture(picture(41, 30, gray), model="plain", quality=80)
    envelope = jpeg.extract(made.data)
    assert envelope is not None
    assert unpack(envelope).model == 0
    assert (made.model, made.scale, describe(made.data)["model"]) == ("plain", 1, "plain")
    restored = decompress_picture(made.data).pixels.astype(int)
    with Image.open(io.BytesIO(made.data)) as image:
        assert np.abs(np.asarray(image) - restored).max() <= 2  # of the colour transform's rounding
    assert np.abs(restored - picture(41, 30, gray).pixels).mean() < 4


@pytest.mark.parametrize("gray", [True, False])
def test_it_is_chosen_where_bytes_are_plenty_and_it_is_better(gray: bool) -> None:
    source = picture(60, 72, gray)
    made = compress_picture(source, size=20_000)
    assert made.model == "plain"  # networks of random weights are no good at any rate
    error = np.abs(decompress_picture(made.data).pixels.astype(int) - source.pixels)
    assert error.mean() < (1 if gray else 3)  # chroma is halved at every rate


def test_it_is_not_even_tried_where_bytes_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []
    write = choice.write
    monkeypatch.setattr(choice, "write", lambda p, model, *how: tried.append(model.name) or write(p, model, *how))
    assert compress_picture(picture(60, 72, True), size=400).model != "plain"
    assert "plain" not in tried


def test_without_models_every_picture_has_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "models", lambda: ())
    for wish in ({"quality": 30.0}, {"size": 1500}, {"bpp": 2.0}, {}):
        assert compress_picture(picture(50, 50, False), **wish).model == "plain"  # type: ignore[arg-type]


def test_no_model_of_the_manifest_has_its_number(zoo: Path) -> None:
    assert all(model.number for model in models.models())
