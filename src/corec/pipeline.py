"""The way of a picture: picture -> compact network -> codec -> envelope, and back."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np

from corec import color, tiles
from corec.codecs import jpeg
from corec.codecs.base import Codec, codec_named, codec_of
from corec.envelope import Envelope, pack, step_code, step_of, unpack
from corec.errors import CodecError, EnvelopeError, ModelError, PictureError, RateError
from corec.models import ZOO, Model, model_named, model_numbered, models
from corec.picture import LARGEST, Picture, as_picture
from corec.rate import TRIES, best_within
from corec.runtime import Network, network

Progress = Callable[[float], None]
DEFAULT_QUALITY = 50.0
SAMPLE = 1024
"""Pictures of more pixels than this squared choose their model by a central part of that many pixels."""
TILE, OVERLAP, GRID = 1024, 96, 16
"""In picture pixels. The overlap exceeds the reach of every network (88 pixels for joint.Reconstruct)."""


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

    Every model that fits tries the same number of bytes (a large picture: on its central part), and the
    one whose decoded picture has the highest PSNR is taken. A quality asks for as many bytes as the model at
    full resolution needs at that quantiser. progress is called with the share done.
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
        size = len(embedded(picture, candidates[0], start))
    sample = sample_of(picture)
    if len(candidates) > 1 and sample is not picture:
        share = sample.pixels.size / picture.pixels.size
        try:
            guess, _ = best_of(candidates, sample, max(1, int(size * share)), start, lambda done: report(done / 2))
            return best_of([model_named(guess.model)], picture, size, guess.setting, report)[0]
        except RateError:
            pass  # the sample was dearer or cheaper than the whole; another model may still fit
    return best_of(candidates, picture, size, start, report)[0]


def best_of(
    candidates: list[Model], picture: Picture, size: int, start: float | None, report: Progress
) -> tuple[Compressed, float]:
    """The candidate whose file of at most `size` bytes decodes to the highest PSNR, and minus its MSE.

    A single candidate is not decoded. Raises RateError with the smallest size when none fits.
    """
    close = 0.999 if picture.width * picture.height <= SAMPLE**2 else 0.99  # each try at a large one takes seconds
    results: list[tuple[Compressed, float]] = []
    failures: list[RateError] = []
    for index, model in enumerate(candidates):
        tries = count(1)

        def write(step: float, model: Model = model, index: int = index, tries: Iterator[int] = tries) -> bytes:
            data = embedded(picture, model, step)
            report((index + next(tries) / (TRIES + 1)) / len(candidates))
            return data

        codec = codec_named(model.codec)
        try:
            step, data = best_within(write, size, model.steps[0] / 2, codec.STEPS[1], start, close)
        except RateError as error:
            failures.append(error)
            continue
        result = Compressed(data, model.name, model.codec, step, model.scale, picture.width, picture.height)
        single = len(candidates) == 1
        results.append((result, 0.0 if single else likeness(picture, decompress_picture(data))))
        report((index + 1) / len(candidates))
    if not results:
        raise min(failures, key=lambda error: error.smallest or math.inf)
    return max(results, key=lambda pair: pair[1])


def sample_of(picture: Picture) -> Picture:
    """A central part of a picture above SAMPLE squared pixels, by which its model is chosen."""
    if picture.width * picture.height <= SAMPLE**2:
        return picture
    height = min(picture.height, max(SAMPLE, SAMPLE**2 // picture.width))
    width = min(picture.width, SAMPLE**2 // height)
    top, left = (picture.height - height) // 2, (picture.width - width) // 2
    return Picture(np.ascontiguousarray(picture.pixels[top : top + height, left : left + width]))


def decompress_picture(data: bytes, progress: Progress | None = None) -> Picture:
    """decompress() to a Picture."""
    container, envelope, model, width, height = origin(data)
    compact, condition = container.decode(data)
    if condition is None and envelope.step is not None:
        condition = container.condition(step_of(envelope.step), model.shapes)
    if condition is None or (compact.shape[2] == 3) != model.color or condition.shape != bounds(model)[0].shape:
        raise EnvelopeError(f"the file's components are not those of model {model.name}, which its envelope names")
    net = network(ZOO / model.reconstruct, model.reconstruct_sha256)
    pixels = np.empty((height, width, compact.shape[2]), np.uint8)
    restore = color.rgb_from_ycbcr if model.color else levels
    through(net, compact, np.clip(condition, *bounds(model)), pixels, unit, restore, TILE // model.scale, progress)
    return Picture(pixels if model.color else pixels[..., 0])


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
    net = network(ZOO / row.reconstruct, row.reconstruct_sha256)
    pixels = np.empty_like(decoded)
    convert = color.rgb_from_ycbcr if row.color else levels
    through(net, decoded, np.clip(condition, *bounds(row)), pixels, unit, convert, TILE, progress)
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
        "envelope_bytes": len(container.embed(data, pack(envelope))) - len(data),
        "bpp": 8 * len(data) / (width * height),
    }


def candidates_for(picture: Picture, codec: str, name: str | None) -> list[Model]:
    """The models to try, those of full resolution first."""
    codec = codec_named(codec).NAME
    if name is not None:
        model = model_named(name)
        if model.codec != codec:
            raise ModelError(f"model {name} is for {model.codec}, not {codec}")
        if model.color == picture.gray:
            kind, needs = ("gray", "a colour model") if picture.gray else ("colour", "a gray model")
            raise ModelError(f"the picture is {kind}, and {name} is {needs}")
        if model.restores:
            raise ModelError(f"model {name} is for restore: it compresses nothing")
        rows = [model]
    else:
        fitting = [m for m in models() if m.default and m.codec == codec and m.color != picture.gray]
        rows = [m for m in fitting if not m.restores]
        if not rows:
            raise ModelError(f"there is no {'gray' if picture.gray else 'colour'} model for {codec}")
    largest = codec_named(codec).LARGEST
    held = [m for m in rows if max(picture.width, picture.height) <= largest * m.scale]
    if not held:
        at_most = largest * max(m.scale for m in rows)
        raise CodecError(f"{codec} holds at most {at_most} pixels a side, not {picture.width}x{picture.height}")
    return sorted(held, key=lambda m: m.scale)


def embedded(picture: Picture, model: Model, step: float) -> bytes:
    """The file of a picture at one quantiser step, envelope included."""
    codec = codec_named(model.codec)
    compact = compacted(picture, model, step)
    odd_width, odd_height = (
        model.scale * extent - whole
        for extent, whole in zip(compact.shape[1::-1], (picture.width, picture.height), strict=True)
    )
    code = None if codec.TELLS_STEP else step_code(step)
    envelope = Envelope(model.number, bool(odd_width), bool(odd_height), code)
    return codec.embed(codec.encode(compact, step, model.shapes), pack(envelope))


def bounds(model: Model) -> tuple[np.ndarray, np.ndarray]:
    """The least and the greatest condition that a model's networks were trained for."""
    codec = codec_named(model.codec)
    finest, coarsest = (codec.condition(step, model.shapes) for step in model.steps)
    return finest, coarsest


def compacted(picture: Picture, model: Model, step: float) -> np.ndarray:
    """The compact image of a picture before it is coded: uint8 (H, W, 1) luma or (H, W, 3) YCbCr."""
    pixels = picture.pixels if model.color else picture.pixels[..., None]
    height, width = (-(-extent // model.scale) for extent in pixels.shape[:2])
    compact = np.empty((height, width, pixels.shape[2]), np.uint8)
    net = network(ZOO / model.compact, model.compact_sha256)
    convert = color.ycbcr_from_rgb if model.color else unit
    condition = np.clip(codec_named(model.codec).condition(step, model.shapes), *bounds(model))
    through(net, pixels, condition, compact, convert, levels, TILE)
    return compact


def through(
    net: Network,
    source: np.ndarray,
    condition: np.ndarray,
    target: np.ndarray,
    before: Callable[[np.ndarray], np.ndarray],
    after: Callable[[np.ndarray], np.ndarray],
    tile: int,
    progress: Progress | None = None,
) -> None:
    """Fill target from source by a network, tile by tile (tile in source samples).

    before turns a piece of source into the network's input (H, W, C) in 0..1, after its output into a
    piece of target. Target is larger or smaller than source by a factor of 2 or 1, less a ragged edge.
    """
    grid = GRID * tile // TILE
    overlap = OVERLAP * tile // TILE
    pieces = list(tiles.tiles(source.shape[0], source.shape[1], tile, overlap, grid))
    for index, (rows, columns) in enumerate(pieces):
        piece = tiles.pad(before(source[rows.start : rows.stop, columns.start : columns.stop]), grid)
        result = net(piece, condition)
        ratio = result.shape[0] / piece.shape[0]
        top, left = (int((span.core_start - span.start) * ratio) for span in (rows, columns))
        at_row, at_column = (int(span.core_start * ratio) for span in (rows, columns))
        stop_row, stop_column = (
            min(extent, math.ceil(span.core_stop * ratio))
            for span, extent in zip((rows, columns), target.shape[:2], strict=True)
        )
        core = result[top : top + stop_row - at_row, left : left + stop_column - at_column]
        target[at_row:stop_row, at_column:stop_column] = after(core)
        if progress:
            progress((index + 1) / len(pieces))


def origin(data: bytes) -> tuple[Codec, Envelope, Model, int, int]:
    """What wrote a file, and the width and height of its picture; from its headers alone.

    Refuses a file of somebody else's, one whose parts disagree, and one too large to be a picture.
    """
    container = codec_of(data)
    packed = container.extract(data)
    if packed is None:
        repair = "; `corec restore` removes its artefacts" if container.NAME == jpeg.NAME else ""
        raise EnvelopeError(
            f"this {container.NAME} file was not written by Corec: any viewer shows all it holds{repair}"
        )
    envelope = unpack(packed)
    model = model_numbered(envelope.model)
    if model.codec != container.NAME:
        raise EnvelopeError(
            f"the file is {container.NAME}, but its envelope names model {model.name} for {model.codec}"
        )
    if model.restores:
        raise EnvelopeError(f"the envelope is damaged: its model {model.name} compresses nothing")
    if (envelope.step is None) != container.TELLS_STEP:
        raise EnvelopeError(f"the envelope is damaged: in {container.NAME} files the step is elsewhere")
    if model.scale == 1 and (envelope.odd_width or envelope.odd_height):
        raise EnvelopeError("the envelope is damaged: an odd size at full resolution")
    width, height = (extent * model.scale for extent in container.size(data))
    width, height = width - envelope.odd_width, height - envelope.odd_height
    refuse_beyond_largest(width, height)
    return container, envelope, model, width, height


def refuse_beyond_largest(width: int, height: int) -> None:
    """The same limit both ways: no file is written that would be taken for a bomb when it is read."""
    if width * height > LARGEST:
        raise PictureError(
            f"{width} x {height} pixels are too many; Corec holds up to {LARGEST // 1_000_000} megapixels"
        )


def unit(pixels: np.ndarray) -> np.ndarray:
    """uint8 levels as float32 in 0..1."""
    return pixels.astype(np.float32) / 255


def levels(image: np.ndarray) -> np.ndarray:
    """Floats in 0..1 as uint8 levels, clipped."""
    return np.clip(np.rint(image * 255), 0, 255).astype(np.uint8)


def likeness(picture: Picture, other: Picture) -> float:
    """Minus the mean squared error, in strips so that large pictures need little memory."""
    total = 0.0
    for top in range(0, picture.height, 256):
        a, b = (p.pixels[top : top + 256].astype(np.float32) for p in (picture, other))
        total += float(np.square(a - b).sum(dtype=np.float64))
    return -total / picture.pixels.size
