"""Files of earlier versions decode to the pixels they had then. tests/golden/make.py writes them."""

import runpy
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from corec.codecs.registry import codec_of, codecs
from corec.errors import MissingExtraError
from corec.files import read_bytes
from corec.models import PLAIN, learned, models
from corec.picture import read_picture
from corec.pipeline import decompress, describe

GOLDEN = Path(__file__).parent / "golden"
latents_sha256 = runpy.run_path(str(GOLDEN / "make.py"))["latents_sha256"]
TOLERANCE = 1
"""Levels. Networks sum in another order on another processor."""
ROUNDED = 2
"""Levels, for formats whose decoders may round in more than one way: in real numbers, or on the way to RGB."""
EXACT = ("jpeg", "bpg", "learned")
"""Codecs whose decoders give the same image everywhere."""


def expected() -> list[dict[str, Any]]:
    return tomllib.loads((GOLDEN / "expected.toml").read_text(encoding="utf-8"))["golden"]


def shipped() -> set[str]:
    return {model.name for model in (*models(), *learned()) if not getattr(model, "restores", False)}


@pytest.mark.parametrize("row", expected(), ids=lambda row: row["file"])
def test_a_golden_file_gives_the_pixels_it_always_gave(row: dict[str, Any]) -> None:
    data = read_bytes(GOLDEN / row["file"])
    try:
        facts, pixels = describe(data), decompress(data)
    except MissingExtraError as error:
        pytest.skip(str(error))
    assert (facts["number"], facts["width"], facts["height"]) == (row["number"], row["width"], row["height"])
    wanted = read_picture(GOLDEN / row["pixels"]).pixels
    assert pixels.shape == wanted.shape == (row["height"], row["width"], *wanted.shape[2:])
    assert np.abs(pixels.astype(int) - wanted).max() <= (TOLERANCE if facts["codec"] in EXACT else ROUNDED)
    assert "latents" not in row or latents_sha256(data) == row["latents"]  # to the bit, on every machine


def test_latents_of_every_corec_file_are_pinned() -> None:
    assert {row["number"] for row in expected() if "latents" in row} == {model.number for model in learned()}


def test_every_shipped_model_has_golden_files() -> None:
    found = {describe(read_bytes(GOLDEN / row["file"]))["model"] for row in expected()}
    assert found - {PLAIN} == shipped(), "run tests/golden/make.py"


def test_every_codec_has_plain_golden_files_gray_and_colour() -> None:
    plain = [row for row in expected() if row["number"] == 0]
    kinds = [(codec_of(read_bytes(GOLDEN / r["file"])).NAME, read_picture(GOLDEN / r["pixels"]).gray) for r in plain]
    assert sorted(kinds) == sorted((c.NAME, gray) for c in codecs() for gray in (True, False)), (
        "run tests/golden/make.py"
    )


def test_no_golden_file_is_left_out() -> None:
    listed = {row[key] for row in expected() for key in ("file", "pixels")}
    assert {path.name for path in GOLDEN.iterdir() if path.is_file()} == {*listed, "make.py", "expected.toml"}
