"""The models that ship, a few times there and back. Most is tested with tiny ones (test_pipeline.py)."""

import io
from itertools import pairwise

import numpy as np
import pytest
import skimage.data
from PIL import Image
from tiny import picture, reach_of

from corec import wrap
from corec.models import models
from corec.picture import Picture
from corec.pipeline import compress, compress_picture, decompress, restore

pytestmark = pytest.mark.parametrize("gray", [True, False], ids=["gray", "color"])


@pytest.mark.parametrize(("height", "width"), [(1, 1), (67, 45), (100, 131)])
def test_there_and_back(gray: bool, height: int, width: int) -> None:
    source = picture(height, width, gray)
    result = compress_picture(source, size=1500)
    assert len(result.data) <= 1500
    assert decompress(result.data).shape == source.pixels.shape


def test_more_bytes_never_make_it_worse(gray: bool) -> None:
    photo = skimage.data.coffee()[100:228, 200:328]
    source = Picture(np.ascontiguousarray(photo[..., 1] if gray else photo))
    found = [compress_picture(source, bpp=bpp, effort=0).data for bpp in (1.5, 4, 8, 16)]
    errors = [error_of(source, decompress(data)) for data in found]
    assert all(more <= 1.01 * less for less, more in pairwise(errors)), errors


def test_the_restored_picture_beats_plain_jpeg_of_as_many_bytes(gray: bool) -> None:
    source = picture(128, 192, gray)
    plain = io.BytesIO()
    Image.fromarray(source.pixels).save(plain, "JPEG", quality=10, optimize=True)
    data = compress(source.pixels, size=len(plain.getvalue()))
    assert error_of(source, decompress(data)) < error_of(source, np.asarray(Image.open(plain)))


def test_tiles_do_not_show(gray: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [
        compress_picture(picture(300, 449, gray), model=model.name, quality=20, effort=0).data
        for model in models()
        if model.color != gray and not model.restores and not model.resized  # its networks are those of another
    ]
    whole = [decompress(data).astype(int) for data in files]
    monkeypatch.setattr(wrap, "TILE", 256)
    for data, expected in zip(files, whole, strict=True):
        assert np.abs(decompress(data) - expected).max() <= 1


def test_tiles_overlap_by_more_than_a_network_looks(gray: bool) -> None:
    for model in models():
        if model.color != gray and not model.resized:
            parts = ["compact", "reconstruct"] if model.compact else ["reconstruct"]
            assert max(reach_of(model, part) for part in parts) <= wrap.OVERLAP, model.name


@pytest.mark.parametrize("photograph", ["astronaut", "chelsea", "coffee"])
def test_restoring_repairs_files_and_leaves_fine_ones_alone(gray: bool, photograph: str) -> None:
    image = (
        Image.fromarray(getattr(skimage.data, photograph)()).crop((40, 40, 296, 296)).convert("L" if gray else "RGB")
    )
    source = Picture(np.asarray(image).copy())
    for quality, least in ((5, 0.5), (10, 0.5), (30, 0.3), (75, 0.1), (90, -0.05), (96, -0.05), (100, -0.05)):
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality)
        shown = np.asarray(Image.open(file))
        gain = 10 * np.log10(error_of(source, shown) / error_of(source, restore(file.getvalue())))
        assert gain >= least, quality


def error_of(source: Picture, pixels: np.ndarray) -> float:
    return float(np.square(source.pixels.astype(float) - pixels).mean())
