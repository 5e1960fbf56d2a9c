"""The way of a picture: picture -> compact network -> codec -> envelope, and back; or through the learned codec."""

import io
import math
import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from corec.choice import Choice, Writer, candidates_for, choose, range_of
from corec.codecs import jpeg
from corec.codecs.registry import codec_of, codecs
from corec.envelope import pack
from corec.errors import CodecError, CorecError, EnvelopeError, ModelError, RateError
from corec.learned import codec as learned
from corec.learned import format as corec_file
from corec.models import PLAIN, Model, model_named, models, plain, rows_named
from corec.models import learned as learned_models
from corec.picture import Picture, as_picture, read_picture
from corec.wrap import Progress, origin, read, reconstruct, refuse_beyond_largest, very_large

Bytes = bytes | bytearray | memoryview
DEFAULT_QUALITY = 50.0
START = 4096
"""Bytes by which a file's format is known."""
USUAL_EFFORT, MOST_EFFORT = 4, 100
ANY = 1e6
"""Bits per pixel, more than any file has."""
FINE = 4.0
"""Levels. Files whose luma table has a smaller (geometric) mean, libjpeg's qualities from 96 on, are left as they
are, unless their chroma has fewer samples: they have nothing to repair, and networks would add more errors than they
remove."""


@dataclass(frozen=True)
class Compressed:
    """A file and how it came about."""

    data: bytes
    model: str
    codec: str
    setting: float
    """Mean luma quantiser step, in levels of 255; of the learned codec, its level, 0 being the coarsest."""
    scale: float
    """Picture size over the size at which an ordinary viewer shows the file: 3, 2, 1.5 or 1."""
    width: int
    height: int
    runs: int = 1
    """How many files the codec wrote for it."""


def compress(
    image: Any,
    *,
    codec: str | None = None,
    model: str | None = None,
    quality: float | None = None,
    bpp: float | None = None,
    size: int | None = None,
    gray: bool = False,
    background: str | None = None,
    effort: int | None = None,
) -> bytes:
    """An ordinary image file that holds a picture in about half the bytes.

    image: array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), uint8, uint16 or bool, sRGB; or a PIL image. One of quality
    (0 to 100, by default 50), bpp (bits per pixel of the picture) and size (bytes) may be given; a file is never larger
    than bpp or size allow. codec: "jpeg", "jpeg2000", "bpg", "heic", "webp", "avif", "jxl", or "learned", which writes
    a .corec file that only Corec opens; if not said, the model's, or "jpeg". model: a name from corec.list_models() or
    list_learned(), or of a method, whose models are then chosen among, or "plain" for the codec alone; else the best
    for the picture. gray: keep only luma. background: the colour behind transparent pixels.
    effort: rounds, 0 to 100, in which a .jpg, .jxl or .corec file is suited to its picture, each of them slow; if not
    said, 4, and none above 4 megapixels. Raises CorecError.
    """
    if isinstance(image, Image.Image):
        refuse_opened(image)
    picture = as_picture(image, background)
    picture = picture.luma() if gray else picture
    return compress_picture(picture, codec=codec, model=model, quality=quality, bpp=bpp, size=size, effort=effort).data


def decompress(data: Bytes) -> np.ndarray:
    """The picture of a file that compress wrote: uint8, (H, W) luma or (H, W, 3) sRGB.

    Raises CorecError for damaged files and for files that Corec did not write.
    """
    return decompress_picture(file_of(data)).pixels


def as_python(number: Any) -> Any:
    """A number as Python has it: NumPy's of few bits overflow."""
    return number.item() if isinstance(number, np.generic) else number


def compress_picture(
    picture: Picture,
    *,
    codec: str | None = None,
    model: str | None = None,
    quality: float | None = None,
    bpp: float | None = None,
    size: int | None = None,
    effort: int | None = None,
    progress: Progress | None = None,
) -> Compressed:
    """compress() for a Picture, with the facts beside the bytes.

    Without a model, the one is taken whose decoded picture is foretold to have the highest PSNR at the same bytes. A
    quality asks for as many bytes as the picture needs at full resolution with a quantiser step that is the same for
    every codec. progress is called with the share done.
    """
    refuse_beyond_largest(picture.width, picture.height)
    quality, bpp, size = map(as_python, (quality, bpp, size))
    wishes = {name: wish for name, wish in (("quality", quality), ("bpp", bpp), ("size", size)) if wish is not None}
    if len(wishes) > 1:
        raise RateError("give one of quality, bpp and size")
    for name, wish in wishes.items():
        if not isinstance(wish, Real) or isinstance(wish, bool):
            raise RateError(f"{name} must be a number, not {wish!r}")
    if bpp is not None:
        if not 0 < bpp < math.inf:
            raise RateError(f"bpp must be a number above 0, not {bpp}")
        size = max(1, int(float(min(bpp, ANY)) * picture.width * picture.height / 8))
    whole = isinstance(effort, Integral) and not isinstance(effort, bool)
    if effort is not None and not (whole and effort in range(MOST_EFFORT + 1)):
        raise RateError(f"effort must be a whole number in 0..{MOST_EFFORT}, not {effort!r}")
    if quality is not None and not 0 <= quality <= 100:
        raise RateError(f"quality must lie in 0..100, not {quality}")
    if size is not None:
        if not size >= 1:
            raise RateError(f"size must be at least 1, a byte, not {size}")
        size = int(min(size, sys.maxsize))
    if not isinstance(model, str | None):
        raise ModelError(f"a model is given by its name, not as {type(model).__name__}")
    report = progress or (lambda share: None)
    codec = (codec_of_model(model) or jpeg.NAME) if codec is None else codec
    if not isinstance(codec, str) or codec not in endings():
        raise CodecError(f"no codec {codec!r}; there are: {', '.join(endings())}")
    if codec == corec_file.NAME:
        return compress_learned(picture, model, quality, size, effort, report)
    candidates = candidates_for(picture, codec, model)
    if effort and not any(row.slope for row in candidates):
        raise ModelError(f"a file of {codec} takes no effort here: that is for networks in .jpg, .jxl and .corec files")
    writer, known = Writer(report, usual_effort(picture) if effort is None else effort), None
    if size is None:
        full = next((row for row in candidates if row.scale == 1), candidates[0])
        finest, coarsest = range_of(full)
        step = min(coarsest, max(finest, step_at(DEFAULT_QUALITY if quality is None else quality)))
        known = Choice(writer.write(picture, full, step), full, step)
        size = len(known.data)
    if known and len(candidates) == 1:
        made = writer.suited(known, picture, size)
    else:
        made = choose(candidates, picture, size, writer, known)
    report(1.0)
    row = made.model
    facts = row.name, row.codec, made.step, row.scale, picture.width, picture.height
    return Compressed(made.data, *facts, writer.runs)


def usual_effort(picture: Picture) -> int:
    """Rounds in which a file is suited to its picture, if nobody says how many."""
    return 0 if very_large(picture.height, picture.width) else USUAL_EFFORT


def step_at(quality: float) -> float:
    """The quantiser step of a quality, for every codec: 256 levels at 0, halved six times up to 4 at 100."""
    return float(256 * 2 ** (-6 * float(quality) / 100))


def compress_learned(
    picture: Picture, model: str | None, quality: float | None, size: int | None, effort: int | None, report: Progress
) -> Compressed:
    """compress_picture() by the learned codec, whose quality says how fine a level of the model's."""
    row = learned.model_for(picture, model)
    if effort and not row.refines:
        raise ModelError(f"model {row.name} cannot suit its files to a picture: it takes no effort")
    usual = usual_effort(picture) if row.refines else 0

    def told(share: float) -> None:
        # How many files a size takes is not known.
        report(0.9 * share if size is None else 1 - 0.5 ** (latents.files + share))

    latents = learned.Latents(picture, row, usual if effort is None else effort, told)
    if size is None:
        level = round((DEFAULT_QUALITY if quality is None else quality) / 100 * (latents.levels - 1))
        data = latents.file(level)
    else:
        data, level = latents.within(size)
    report(1.0)
    return Compressed(data, row.name, corec_file.NAME, level, 1, picture.width, picture.height, latents.files)


def decompress_picture(data: bytes, progress: Progress | None = None) -> Picture:
    """decompress() to a Picture. progress is called with the share done."""
    return learned.read(data, progress) if corec_file.accept(data) else read(data, progress)


def restore(data: Bytes, *, model: str | None = None) -> np.ndarray:
    """The picture of any JPEG file, its coding artefacts removed: uint8, (H, W) luma or (H, W, 3) sRGB, upright.

    data: a file in gray or colour, not CMYK. model: a name from corec.list_models(), else the one for gray or colour
    files. Files that have nothing to repair are left as they are. Raises CorecError for other files, damaged ones, and
    those that compress wrote, which hold more than they show.
    """
    return restore_picture(file_of(data), model).pixels


def restore_picture(data: bytes, model: str | None = None, progress: Progress | None = None) -> Picture:
    """restore() to a Picture."""
    row = restorer_of(data, model)
    if row.is_plain:
        return read_picture(data)
    decoded, condition = jpeg.decode(data)
    # One table or three instead of two: the networks know luma's and chroma's.
    chroma = condition[1:].mean() if len(condition) > 1 else condition[0]
    condition = np.array([condition[0], chroma] if row.color else condition[:1])
    pixels = np.empty_like(decoded)
    reconstruct(decoded, condition, row, pixels, progress)
    return as_picture(jpeg.with_metadata_of(data, pixels if row.color else pixels[..., 0]))


def restorer_of(data: bytes, name: str | None) -> Model:
    """The model that restores a JPEG file, of this name or by default; plain for one that has nothing to repair.

    From its headers alone. Raises CorecError.
    """
    if corec_file.accept(data):
        raise CodecError("restore repairs JPEG files, and this is Corec's own: decompress gives its picture")
    if not jpeg.accept(data):
        kind = next((codec.NAME for codec in codecs() if codec.accept(data)), "none" if data else "empty")
        raise CodecError(f"restore repairs JPEG files, and this is {kind}")
    if jpeg.extract(data) is not None:
        raise EnvelopeError("the file was written by Corec: decompress gives its picture")
    refuse_beyond_largest(*jpeg.size(data))
    colors = jpeg.colors(data)
    if name is None:
        fitting = [row for row in models() if row.restores and row.default and row.color == colors]
        if not fitting:
            raise ModelError(f"there is no model that restores {'colour' if colors else 'gray'} files")
        row = fitting[0]
    else:
        row = model_named(name)
    if not row.restores:
        raise ModelError(f"model {name} is for compress: it restores nothing")
    if row.color != colors:
        kind, needs = ("colour", "a gray model") if colors else ("gray", "a colour model")
        raise ModelError(f"the picture is {kind}, and {name} is {needs}")
    fine = jpeg.log_steps(data)[0] < math.log(FINE) and not jpeg.halves_chroma(data)
    return plain(jpeg.NAME, row.color, jpeg.STEPS) if fine else row


def describe(data: Bytes) -> dict[str, Any]:
    """What a file of ours says of itself, without decoding its pixels.

    codec, model, number (the model's), width and height (of the picture, in pixels), bytes, and bpp. Of an ordinary
    file also scale (picture over image, 1 to 3), compact_width and compact_height (of the image that viewers show), and
    envelope_bytes; of a .corec file level (of the quantiser, 0 the coarsest) and header_bytes. Raises CorecError.
    """
    data = file_of(data)
    if corec_file.accept(data):
        return learned.describe(data)
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


def file_of(data: Bytes) -> bytes:
    """What a caller gives as a file's bytes. Raises CodecError for anything else."""
    if not isinstance(data, bytes | bytearray | memoryview):
        raise CodecError(f"what is read must be the bytes of a file, not {type(data).__name__}")
    return bytes(data)


def refuse_opened(image: Image.Image) -> None:
    """Refuse an image that Pillow opened from a file of ours: while it is open by that, then by the file's name, at
    which there may be another one by now. Raises EnvelopeError."""
    stream, name = getattr(image, "fp", None), getattr(image, "filename", None)
    with suppress(OSError, ValueError):  # a closed one
        if stream is not None:
            place = stream.tell()
            stream.seek(0)
            try:
                refuse_ours(stream.read())
            finally:
                stream.seek(place)
        elif isinstance(name, str | bytes) and os.path.isfile(name):
            refuse_ours(Path(os.fsdecode(name)))


def is_ours(source: Path | bytes) -> bool:
    """Whether compress wrote a file, whatever its name, or these bytes. Raises OSError where it cannot be read."""
    with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
        start = file.read(START)
        try:
            # A picture of another format, perhaps a large one, is not read whole.
            return corec_file.accept(start) or codec_of(start).extract(start + file.read()) is not None
        except CorecError:
            return False


def refuse_ours(source: Path | bytes) -> None:
    """Refuse to take what a viewer shows of a file that compress wrote, often half its size, for its picture.

    Raises EnvelopeError.
    """
    with suppress(OSError):  # reading the picture tells
        if is_ours(source):
            raise EnvelopeError("the file was written by Corec: decompress gives its picture")


def endings() -> dict[str, tuple[str, ...]]:
    """The codecs by name, the learned one too, and how their files end, the usual ending first."""
    return {codec.NAME: codec.SUFFIXES for codec in codecs()} | {corec_file.NAME: corec_file.SUFFIXES}


def codec_of_model(name: str | None) -> str | None:
    """The codec of a model or of all models of a method; None where these may be several. Raises ModelError."""
    if name is None or name == PLAIN:
        return None
    if any(name in (row.name, row.method) for row in learned_models()):
        return corec_file.NAME
    known = {row.codec for row in rows_named(name)}
    return known.pop() if len(known) == 1 else None
