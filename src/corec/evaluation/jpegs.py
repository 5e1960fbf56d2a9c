"""JPEG files as others write them: libjpeg's defaults, the best plain ones, and MozJPEG's.

Each writer gives the file of highest quality that has at most so many bytes, and that quality. Raises RateError, with
the smallest size, if none fits.
"""

import io
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from corec.codecs.jpeg import STANDARD, opened
from corec.errors import MissingExtraError
from corec.evaluation.search import finest
from corec.picture import Picture

WHOLE = range(1, 96)
"""Qualities of libjpeg's own scale; above 95 files grow and pictures do not."""
TWENTIETHS = [quality / 20 for quality in range(20, 95 * 20 + 1)]
"""At low rates whole qualities leave so many bytes unused that plain JPEG would look worse than it is."""
MOZJPEG = "mozjpeg403"
"""Version 4.0.3, the newest in jpeglib."""


def best(picture: Picture, size: int) -> tuple[float, bytes]:
    """The best plain JPEG: the smaller of a baseline and a progressive file, Huffman codes optimised."""
    return finest(lambda quality: optimised(picture, quality), size, TWENTIETHS)


def default(picture: Picture, size: int) -> tuple[float, bytes]:
    """What Pillow writes if told nothing but a whole quality: default tables and Huffman codes, 4:2:0 for colour."""
    return finest(lambda quality: jpeg(picture, round(quality)), size, WHOLE)


def trellis(picture: Picture, size: int) -> tuple[float, bytes]:
    """MozJPEG's: its own tables and trellis, the smaller of its progressive file and the same levels as baseline."""
    return finest(lambda quality: mozjpeg(picture, quality), size, TWENTIETHS)


def jpeg(picture: Picture, quality: int) -> bytes:
    """The file that Pillow writes: default tables, default Huffman codes, 4:2:0 for colour."""
    return written(picture, quality=quality)


def optimised(picture: Picture, quality: float) -> bytes:
    """The smaller of a baseline and a progressive file with optimised Huffman codes; quality may be a fraction."""
    planes = STANDARD[: 1 if picture.gray else 2]
    tables = [scaled(np.array(table), quality).tolist() for table in planes]
    options: dict[str, Any] = {"qtables": tables, "optimize": True, "subsampling": -1 if picture.gray else 2}
    return min((written(picture, progressive=progressive, **options) for progressive in (False, True)), key=len)


def mozjpeg(picture: Picture, quality: float) -> bytes:
    """MozJPEG's file at a quality that may be a fraction, with its defaults: tuned for PSNR-HVS, 4:2:0 for colour.

    jpeglib has no way to turn its scan search off, and for small files that search is too dear; so the same
    coefficients are stored as a baseline file too, and the smaller of the two is taken.
    """
    jpeglib = imported()
    tables = np.stack([scaled(table, quality) for table in tables_of_mozjpeg(picture.gray)]).astype(np.uint16)
    with tempfile.TemporaryDirectory() as folder:
        first, second = (Path(folder, name) for name in ("progressive.jpg", "baseline.jpg"))
        with jpeglib.version(MOZJPEG):
            jpeglib.from_spatial(np.atleast_3d(picture.pixels)).write_spatial(str(first), qt=tables)
        with jpeglib.version("turbo210"):
            coefficients = jpeglib.read_dct(str(first))
            coefficients.progressive_mode = False
            coefficients.write_dct(str(second), flags=["+OPTIMIZE_CODING", "-PROGRESSIVE_MODE"])
        return min(first.read_bytes(), second.read_bytes(), key=len)


@cache
def tables_of_mozjpeg(gray: bool) -> list[np.ndarray]:
    """MozJPEG's tables at quality 50, where they are as they are: 8x8 each, one for gray, two for colour."""
    jpeglib = imported()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "tables.jpg")
        with jpeglib.version(MOZJPEG):
            jpeglib.from_spatial(np.zeros((16, 16, 1 if gray else 3), np.uint8)).write_spatial(str(path), qt=50)
        with Image.open(path) as image:
            tables = list(image.quantization.values())  # type: ignore[attr-defined]
    return [np.array(table).reshape(8, 8) for table in (tables if gray else (tables[0], tables[-1]))]


def imported() -> Any:
    """jpeglib, which has MozJPEG in it. Raises MissingExtraError."""
    try:
        import jpeglib
    except ImportError as error:
        raise MissingExtraError("MozJPEG comes with jpeglib: pip install 'corec[mozjpeg]'") from error
    return jpeglib


def scaled(table: np.ndarray, quality: float) -> np.ndarray:
    """A table at a quality, 1 to 100, as libjpeg does it (jcparam.c: jpeg_quality_scaling), within 1 to 255."""
    scale = 50 / quality if quality < 50 else 2 - quality / 50
    return np.clip(np.floor(scale * table + 0.5), 1, 255).astype(int)


def written(picture: Picture, **options: Any) -> bytes:
    """A JPEG file by Pillow."""
    file = io.BytesIO()
    Image.fromarray(picture.pixels).save(file, "JPEG", **options)
    return file.getvalue()


def shown(data: bytes) -> np.ndarray:
    """The pixels that any viewer makes of a JPEG file: uint8 (H, W) or (H, W, 3) RGB."""
    with opened(data) as image:
        return np.array(image)
