"""Files of earlier versions decode to the pixels they had then. tests/golden/make.py writes them."""

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from corec.errors import ModelError
from corec.models import models
from corec.picture import read_picture
from corec.pipeline import decompress, describe

GOLDEN = Path(__file__).parent / "golden"
TOLERANCE = 1
"""Levels. Networks sum in another order on another processor."""


def expected() -> list[dict[str, Any]]:
    path = GOLDEN / "expected.toml"
    return tomllib.loads(path.read_text(encoding="utf-8"))["golden"] if path.exists() else []


def shipped_numbers() -> set[int]:
    try:
        return {model.number for model in models() if not model.restores}
    except ModelError:
        return set()


@pytest.mark.parametrize("row", expected(), ids=lambda row: row["file"])
def test_a_golden_file_gives_the_pixels_it_always_gave(row: dict[str, Any]) -> None:
    data = (GOLDEN / row["file"]).read_bytes()
    facts = describe(data)
    assert (facts["number"], facts["width"], facts["height"]) == (row["number"], row["width"], row["height"])
    pixels, wanted = decompress(data), read_picture(GOLDEN / row["pixels"]).pixels
    assert pixels.shape == wanted.shape == (row["height"], row["width"], *wanted.shape[2:])
    assert np.abs(pixels.astype(int) - wanted).max() <= TOLERANCE


@pytest.mark.skipif(not shipped_numbers(), reason="the zoo has no models yet")
def test_every_shipped_model_has_golden_files() -> None:
    assert {row["number"] for row in expected()} == shipped_numbers(), "run tests/golden/make.py"


def test_no_golden_file_is_left_out() -> None:
    listed = {row[key] for row in expected() for key in ("file", "pixels")}
    assert {path.name for path in GOLDEN.iterdir() if path.suffix in (".jpg", ".png")} == listed
