"""A photograph as plain JPEG and through Corec, at the same bytes."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from corec.errors import MissingExtraError, RateError
from corec.evaluation import jpegs
from corec.evaluation.metrics import psnr
from corec.files import aside, check_target
from corec.picture import Picture, read_picture, write_picture
from corec.pipeline import compress_picture, decompress_picture

ORIGINAL, FILE, RESTORED, COMPARISON = "photo.png", "photo.jpg", "restored.png", "comparison.png"
MARGIN, CAPTION, LETTERS = 16, 72, 22
"""Of the comparison, in pixels."""


@dataclass(frozen=True)
class Row:
    """What one way of storing the photograph costs and gives."""

    name: str
    size: int
    """Bytes."""
    bpp: float
    psnr: float
    """Over RGB, in dB."""


def photograph() -> Picture:
    """The astronaut Eileen Collins, 512x512: a photograph of NASA's in the public domain."""
    try:
        from skimage.data import astronaut
    except ImportError:
        raise MissingExtraError("the demo's photograph comes with scikit-image: pip install 'corec[demo]'") from None
    return Picture(np.ascontiguousarray(astronaut()))


def run_demo(folder: Path, bpp: float, force: bool) -> tuple[Row, Row]:
    """Fill the folder; the rows of plain JPEG and of Corec. Raises CorecError."""
    for name in (ORIGINAL, FILE, RESTORED, COMPARISON):
        check_target(folder / name, frozenset(), force)
    picture = photograph()
    size = max(1, int(bpp * picture.width * picture.height / 8))
    try:
        quality, plain_data = jpegs.best(picture, size)
    except RateError as error:
        raise RateError(f"plain JPEG cannot hold the photograph in {size} bytes: ask for more") from error
    if quality == jpegs.TWENTIETHS[-1]:
        raise RateError(f"plain JPEG has use for {len(plain_data)} bytes at most, not for {size}: ask for fewer")
    plain = read_picture(plain_data)
    data = compress_picture(picture, size=len(plain_data)).data
    restored = decompress_picture(data)
    rows = (row("plain JPEG", plain_data, picture, plain), row("Corec", data, picture, restored))
    with aside(folder / ORIGINAL) as path:
        write_picture(picture, path)
    with aside(folder / FILE) as path:
        path.write_bytes(data)
    with aside(folder / RESTORED) as path:
        write_picture(restored, path)
    with aside(folder / COMPARISON) as path:
        stored = (folder / ORIGINAL).stat().st_size
        captions = [("Original", f"{stored:,} bytes as PNG")]
        captions += [(r.name, f"{r.size:,} bytes, PSNR {r.psnr:.1f} dB") for r in rows]
        write_picture(side_by_side([picture, plain, restored], captions), path)
    return rows


def row(name: str, data: bytes, picture: Picture, decoded: Picture) -> Row:
    """The figures of one file of the picture."""
    bpp = 8 * len(data) / (picture.width * picture.height)
    return Row(name, len(data), bpp, psnr(picture.pixels, decoded.pixels))


def side_by_side(pictures: list[Picture], captions: list[tuple[str, str]]) -> Picture:
    """Pictures of one size in a row on white, two lines of text below each."""
    width, height = pictures[0].width, pictures[0].height
    sheet = Image.new("RGB", (MARGIN + len(pictures) * (width + MARGIN), MARGIN + height + CAPTION), "white")
    draw = ImageDraw.Draw(sheet)
    for index, (picture, lines) in enumerate(zip(pictures, captions, strict=True)):
        left = MARGIN + index * (width + MARGIN)
        sheet.paste(Image.fromarray(picture.pixels), (left, MARGIN))
        draw.text((left, MARGIN + height + 8), "\n".join(lines), "black", ImageFont.load_default(LETTERS))
    return Picture(np.array(sheet))
