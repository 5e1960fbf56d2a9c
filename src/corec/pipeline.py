"""The way of a picture: picture -> compact network -> codec -> envelope, and back."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from corec import color
from corec.choice import Choice, candidates_for, choose
from corec.codecs import jpeg
from corec.codecs.base import codec_of
from corec.envelope import pack
from corec.errors import CodecError, EnvelopeError, ModelError, RateError
from corec.models import Model, model_named, models, plain
from corec.picture import Picture, as_picture
from corec.wrap import NO_CONDITION, Progress, origin, read, reconstruct, refuse_beyond_largest, write

DEFAULT_QUALITY = 50.0
FINE = 4.0
"""Levels. Files whose luma table has a smaller (geometric) mean, libjpeg's qualities from 96 on, are left as they
are: they have nothing to repair, and networks would add more errors than they remove."""


@dataclass(frozen=True)
class Compressed:
    """A file and how it came about."""

    data: bytes
    model: str
    codec: str
    setting: float
    """Mean luma quantiser step, in levels of 255."""
    scale: int
    """Picture size over the size at which an ordinary viewer shows the file: 2 or 1."""
    width: int
    height: int


def compress(
    image: Any,
    *,
    codec: str = "jpeg",
    model: str | None = None,
    quality: float | None = None,
    bpp: float | None = None,
    size: int | None = None,
    gray: bool = False,
    background: str | None = None,
) -> bytes:
    """An ordinary image file that holds a picture in about half the bytes.

    image: array (H, W), (H, W, 3) or (H, W, 4), uint8 or uint16, sRGB; or a PIL image. One of quality (0
    to 100), bpp (bits per pixel of the picture) and size (bytes) may be given; a file is never larger than
    bpp or size allow. model: a name from corec.models(), else the best for the picture. gray: keep only
    luma. background: the colour behind transparent pixels. Raises CorecError.
    """
    picture = as_picture(image, background)
    if gray and not picture.gray:
        picture = Picture(color.luma(picture.pixels))
    return compress_picture(picture, codec=codec, model=model, quality=quality, bpp=bpp, size=size).data


def decompress(data: bytes) -> np.ndarray:
    """The picture of a file that compress wrote: uint8, (H, W) luma or (H, W, 3) sRGB.

    Raises CorecError for damaged files and for files that Corec did not write.
    """
    return decompress_picture(data).pixels


def compress_picture(
    picture: Picture,
    *,
    codec: str = "jpeg",
    model: str | None = None,
    quality: float | None = None,
    bpp: float | None = None,
    size: int | None = None,
    progress: Progress | None = None,
) -> Compressed:
    """compress() for a Picture, with the facts beside the bytes.

    Without a model, the one is taken whose decoded picture has the highest PSNR at the same bytes. A quality asks
    for as many bytes as the model at full resolution needs at that quantiser. progress is called with the share done.
    """
    refuse_beyond_largest(picture.width, picture.height)
    if sum(wish is not None for wish in (quality, bpp, size)) > 1:
        raise RateError("give one of quality, bpp and size")
    if bpp is not None:
        if not 0 < bpp < math.inf:
            raise RateError(f"bpp must be above 0, not {bpp}")
        size = int(bpp * picture.width * picture.height / 8)
    if quality is not None and not 0 <= quality <= 100:
        raise RateError(f"quality must lie in 0..100, not {quality}")
    if size is not None and size < 1:
        raise RateError("a file has at least one byte")
    report = progress or (lambda share: None)
    candidates = candidates_for(picture, codec, model)
    start = None
    if size is None:
        finest, coarsest = candidates[0].steps
        start = coarsest * (finest / coarsest) ** ((DEFAULT_QUALITY if quality is None else quality) / 100)
        chosen = Choice(write(picture, candidates[0], start), candidates[0], start)
        size = len(chosen.data)
    if start is None or len(candidates) > 1:
        chosen = choose(candidates, picture, size, start, report)
    report(1.0)
    data, row, step = chosen
    return Compressed(data, row.name, row.codec, step, row.scale, picture.width, picture.height)


def decompress_picture(data: bytes, progress: Progress | None = None) -> Picture:
    """decompress() to a Picture. progress is called with the share done."""
    return read(data, progress)


def restore(data: bytes, *, model: str | None = None) -> np.ndarray:
    """The picture of any JPEG file, its coding artefacts removed: uint8, (H, W) luma or (H, W, 3) sRGB, upright.

    model: a name from corec.models(), else the one for gray or colour files. Raises CorecError for other files, damaged
    ones, and those that compress wrote, which hold more than they show.
    """
    return restore_picture(data, model).pixels


def restore_picture(data: bytes, model: str | None = None, progress: Progress | None = None) -> Picture:
    """restore() to a Picture."""
    row = restorer_of(data, model)
    decoded, condition = jpeg.decode(data)
    # One table or three instead of two: the networks know luma's and chroma's.
    chroma = condition[1:].mean() if len(condition) > 1 else condition[0]
    condition = np.array([condition[0], chroma] if row.color else condition[:1])
    if condition[0] < np.log(FINE):
        row, condition = plain(jpeg.NAME, row.color, jpeg.STEPS), NO_CONDITION
    pixels = np.empty_like(decoded)
    reconstruct(decoded, condition, row, pixels, progress)
    return as_picture(jpeg.with_metadata_of(data, pixels if row.color else pixels[..., 0]))


def restorer_of(data: bytes, name: str | None) -> Model:
    """The model that restores a JPEG file, of this name or by default; from its headers alone. Raises CorecError."""
    container = codec_of(data)
    if container.NAME != jpeg.NAME:
        raise CodecError(f"restore repairs JPEG files, and this is {container.NAME}")
    if jpeg.extract(data) is not None:
        raise EnvelopeError("the file was written by Corec: decompress gives its picture")
    refuse_beyond_largest(*jpeg.size(data))
    colors = jpeg.colors(data)
    if name is None:
        fitting = [row for row in models() if row.restores and row.default and row.color == colors]
        if not fitting:
            raise ModelError(f"there is no model that restores {'colour' if colors else 'gray'} files")
        return fitting[0]
    row = model_named(name)
    if not row.restores:
        raise ModelError(f"model {name} is for compress: it restores nothing")
    if row.color != colors:
        kind, needs = ("colour", "a gray model") if colors else ("gray", "a colour model")
        raise ModelError(f"the picture is {kind}, and {name} is {needs}")
    return row


def describe(data: bytes) -> dict[str, Any]:
    """What a file of ours says of itself, without decoding its pixels. Raises CorecError."""
    container, envelope, model, width, height = origin(data)
    compact_width, compact_height = container.size(data)
    return {
        "codec": container.NAME,
        "model": model.name,
        "number": model.number,
        "scale": model.scale,
        "width": width,
        "height": height,
        "compact_width": compact_width,
        "compact_height": compact_height,
        "bytes": len(data),
        "envelope_bytes": container.overhead(pack(envelope), data),
        "bpp": 8 * len(data) / (width * height),
    }
