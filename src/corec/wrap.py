"""A picture through the networks and a codec, and back, for one model and one quantiser step.

    write: picture -> compact network -> codec -> envelope -> bytes
    read:  bytes -> envelope, codec -> reconstruction network -> picture

The plain model has no networks: its files are the codec's own, with an envelope. Networks see large pictures in
tiles, so that memory stays bounded.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from corec import color, tiles
from corec.codecs import jpeg
from corec.codecs.base import Codec
from corec.codecs.registry import codec_named, codec_of
from corec.envelope import Envelope, pack, step_code, step_of, unpack
from corec.errors import CodecError, EnvelopeError, PictureError, RateError
from corec.models import ZOO, Model, model_numbered, plain
from corec.picture import LARGEST, Picture, resized
from corec.runtime import Network, network

Progress = Callable[[float], None]
Net = Callable[[np.ndarray, np.ndarray], np.ndarray]
Turn = Callable[[np.ndarray], np.ndarray]
NO_CONDITION = np.empty(0)
TILE, OVERLAP, GRID = 1024, 96, 16
"""In picture pixels. The overlap exceeds the reach of every network (88 pixels for joint.Reconstruct)."""
LUMAS_SHARE = 0.75
"""Of the time that two networks behind a codec take, where luma has one of its own, that one's."""
BOTH_WAYS_UP_TO = 4_000_000
"""Pixels of a picture. Looking both ways takes twice as long, and at such sizes that is not worth some hundredths."""


def write(picture: Picture, model: Model, step: float, compact: np.ndarray | None = None) -> bytes:
    """The file of a picture at one quantiser step, envelope included. compact: compacted(), if it is there."""
    codec = codec_named(model.codec)
    if compact is None:
        compact = compacted(picture, model, step)
    return codec.embed(codec.encode(compact, step, model.shapes), envelope_of(picture, model, step, compact))


def write_within(picture: Picture, model: Model, step: float, size: int, compact: np.ndarray) -> bytes:
    """The best file of at most `size` bytes, of a codec that fills them itself; its networks are told of a step.

    Raises RateError, with the smallest size.
    """
    codec: Any = codec_named(model.codec)
    envelope = envelope_of(picture, model, step, compact)
    overhead = codec.overhead(envelope, b"")
    try:
        return bytes(codec.embed(codec.within(compact, size - overhead), envelope))
    except RateError as error:
        raise RateError.too_small(size, (error.smallest or 0) + overhead) from error


def fills(model: Model) -> bool:
    """Whether a model's codec knows a better way to a size than a search over steps."""
    return hasattr(codec_named(model.codec), "within")


def envelope_of(picture: Picture, model: Model, step: float, compact: np.ndarray) -> bytes:
    """What the file of a compact image (H, W, C) says of its picture."""
    columns, rows = (
        int(model.scale * extent) - whole
        for extent, whole in zip(compact.shape[1::-1], (picture.width, picture.height), strict=True)
    )
    code = None if codec_named(model.codec).TELLS_STEP or model.is_plain else step_code(step)
    return pack(Envelope(model.number, columns, rows, model.resized, code))


def read(data: bytes, progress: Progress | None = None) -> Picture:
    """The picture of a file of ours. Raises CorecError."""
    container, envelope, model, width, height = origin(data)
    compact, condition = container.decode(data)
    if compact.shape[1::-1] != container.size(data):  # what is decoded would fill a part of the picture only
        raise CodecError(f"the {container.NAME} data is damaged: its header and its image are not of the same size")
    if model.is_plain:
        model = plain(container.NAME, compact.shape[2] == 3, container.STEPS)
        condition = NO_CONDITION
    elif envelope.step is not None:
        condition = container.condition(step_of(envelope.step), model.shapes)
    if condition is None or (compact.shape[2] == 3) != model.color or condition.shape != bounds(model)[0].shape:
        raise EnvelopeError(f"the file's components are not those of model {model.name}, which its envelope names")
    rows, columns = (model.ratio * extent for extent in compact.shape[:2]) if model.resized else (height, width)
    pixels = np.empty((rows, columns, compact.shape[2]), np.uint8)
    reconstruct(compact, condition, model, pixels, progress)
    if model.resized:
        pixels = resized(pixels, width, height)
    return Picture(pixels if model.color else pixels[..., 0])


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
    if envelope.model:
        model = model_numbered(envelope.model, envelope.resized)
    elif envelope.resized:
        raise EnvelopeError("the envelope is damaged: another size without a model")
    else:
        model = plain(container.NAME, False, container.STEPS)
    if model.codec != container.NAME:
        raise EnvelopeError(
            f"the file is {container.NAME}, but its envelope names model {model.name} for {model.codec}"
        )
    if model.restores:
        raise EnvelopeError(f"the envelope is damaged: its model {model.name} compresses nothing")
    if (envelope.step is None) != (container.TELLS_STEP or model.is_plain):
        raise EnvelopeError(f"the envelope is damaged: in {container.NAME} files the step is elsewhere")
    compact = tuple(container.size(data))
    missing = envelope.missing_width, envelope.missing_height
    width, height = (int(extent * model.scale) - less for extent, less in zip(compact, missing, strict=True))
    if compact != tuple(compact_side(extent, model.scale) for extent in (width, height)):
        raise EnvelopeError("the envelope is damaged: it and the image agree on no size of a picture")
    refuse_beyond_largest(width, height)
    return container, envelope, model, width, height


def compacted(picture: Picture, model: Model, step: float) -> np.ndarray:
    """The compact image of a picture before it is coded: uint8 (H, W, 1) luma or (H, W, 3) YCbCr."""
    pixels = seen_by(model, picture).pixels
    pixels = pixels if model.color else pixels[..., None]
    height, width = (-(-extent // model.ratio) for extent in pixels.shape[:2])
    compact = np.empty((height, width, pixels.shape[2]), np.uint8)
    convert = color.ycbcr_from_rgb if model.color else unit
    condition = NO_CONDITION if model.is_plain else codec_named(model.codec).condition(step, model.shapes)
    net = net_of(model.compact, model.compact_sha256, looks_both_ways(model, *pixels.shape[:2]))
    through(net, pixels, told(condition, model), compact, convert, levels, TILE)
    return compact


def seen_by(model: Model, picture: Picture) -> Picture:
    """What of a picture a model's networks see: itself, or what at their half size is of the model's other one."""
    if not model.resized:
        return picture
    width, height = (model.ratio * compact_side(extent, model.scale) for extent in (picture.width, picture.height))
    return Picture(resized(picture.pixels, width, height))


def compact_side(extent: int, scale: float) -> int:
    """Samples along a side of the compact image, for so many pixels of the picture."""
    return math.ceil(extent / scale)


def reconstruct(
    decoded: np.ndarray, condition: np.ndarray, model: Model, pixels: np.ndarray, progress: Progress | None
) -> None:
    """Fill pixels, uint8 (H, W, 1) luma or (H, W, 3) sRGB, from a decoded image by a model's second network."""
    net = net_of(model.reconstruct, model.reconstruct_sha256, looks_both_ways(model, *pixels.shape[:2]))
    before, after = as_it_is if model.luma else unit, color.rgb_from_ycbcr if model.color else levels
    report, image, first = progress or (lambda share: None), decoded, 0.0
    if model.luma:
        first = LUMAS_SHARE
        image = with_luma(decoded, condition, model_numbered(model.luma), lambda share: report(first * share))

    def rest(share: float) -> None:
        report(first + (1 - first) * share)

    through(net, image, told(condition, model), pixels, before, after, TILE // model.ratio, rest)


def with_luma(decoded: np.ndarray, condition: np.ndarray, gray: Model, progress: Progress | None = None) -> np.ndarray:
    """A decoded image, uint8 (H, W, 3) YCbCr, with luma as a gray model of full size restores it: float16 in 0..1."""
    image = decoded / np.float16(255)
    net = net_of(gray.reconstruct, gray.reconstruct_sha256, looks_both_ways(gray, *decoded.shape[:2]))
    through(net, decoded[..., :1], told(condition[:1], gray), image[..., :1], unit, as_it_is, TILE, progress)
    return image


def looks_both_ways(model: Model, height: int, width: int) -> bool:
    """Whether a model's networks do, for a picture of this size."""
    return model.both_ways and not very_large(height, width)


def very_large(height: int, width: int) -> bool:
    """Whether a picture is so large that the time which looking both ways takes is not worth it."""
    return height * width > BOTH_WAYS_UP_TO


def net_of(file: str, sha256: str, both: bool) -> Net:
    """A network of the zoo, looking both ways or not; what leaves its image as it is, if there is none."""
    if not file:
        return lambda image, condition: image
    net = network((ZOO / file, sha256))
    return both_ways(net) if both else net


def networks_behind(model: Model) -> tuple[Network, Network]:
    """A model's network behind the codec, and that with its slope."""
    own = ZOO / model.reconstruct, model.reconstruct_sha256
    return network(own), network(own, (ZOO / model.slope, model.slope_sha256))


def rows_as_columns(image: np.ndarray) -> np.ndarray:
    """An image (H, W, C) with rows and columns exchanged."""
    return image.transpose(1, 0, 2)


def both_ways(net: Net, before: Turn = rows_as_columns, after: Turn = rows_as_columns) -> Net:
    """The mean of what a network makes of an image and of the same with rows and columns exchanged.

    before and after exchange those of what the network takes, and of what it gives.
    """

    def mean(image: np.ndarray, condition: np.ndarray) -> np.ndarray:
        exchanged = after(net(before(image), condition))
        return (net(image, condition) + exchanged) / 2

    return mean


def told(condition: np.ndarray, model: Model) -> np.ndarray:
    """What a model's networks are told of a file: its condition, within what they were trained for, and which codec's
    it is, if they are for several."""
    return np.append(np.clip(condition, *bounds(model)), model.which)


def bounds(model: Model) -> tuple[np.ndarray, np.ndarray]:
    """The least and the greatest condition that a model's networks were trained for."""
    if model.is_plain:
        return NO_CONDITION, NO_CONDITION
    codec = codec_named(model.codec)
    finest, coarsest = (codec.condition(step, model.shapes) for step in model.steps)
    return finest, coarsest


def through(
    net: Net,
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
    shape = tile, OVERLAP * tile // TILE, GRID * tile // TILE
    tiles.through(lambda piece: net(before(piece), condition), source, target, after, shape, progress)


def refuse_beyond_largest(width: int, height: int, counted: Callable[[int], int] = int) -> None:
    """The same limit both ways: no file is written that would be taken for a bomb when it is read. Sides may count for
    more than they are. Raises PictureError."""
    if counted(width) * counted(height) > LARGEST:
        raise PictureError(
            f"{width} x {height} pixels{'' if counted is int else ', in whole blocks,'} are too many; "
            f"Corec holds up to {LARGEST // 1_000_000} megapixels"
        )


def unit(pixels: np.ndarray) -> np.ndarray:
    """uint8 levels as float32 in 0..1."""
    return pixels.astype(np.float32) / 255


def as_it_is(image: np.ndarray) -> np.ndarray:
    """An image that is floats in 0..1 already."""
    return image


def levels(image: np.ndarray) -> np.ndarray:
    """Floats in 0..1 as uint8 levels, clipped."""
    return np.clip(np.rint(image * 255), 0, 255).astype(np.uint8)
