"""What the bench compares: ways to store a picture in at most so many bytes, and to see it again.

    jpeg                JPEG as libjpeg writes it: default tables and Huffman codes
    jpeg-best           the best plain JPEG: optimised Huffman codes, baseline or progressive
    mozjpeg             MozJPEG, with its trellis
    jpeg2000, webp ...  any other codec of corec.codecs, coding the picture itself
    corec               Corec, the model its own choice
    plain               Corec's JPEG encoder alone, without networks
    MODEL               one of `corec models`
    MODEL+bicubic       the same file as any viewer has it, enlarged without the reconstruction network
    JPEG+restore        the file of one of the first three, restored by Corec, the model its own choice
    JPEG+MODEL          the same by one model
    JPEG+bm3d           the same by BM3D

The first three and the codecs are anchors: they owe nothing to Corec's networks.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np
from PIL import Image

from corec import pipeline
from corec.codecs.base import Codec, codec_named, codecs
from corec.color import rgb_from_ycbcr, ycbcr_from_rgb
from corec.errors import MissingExtraError, ModelError
from corec.evaluation import jpegs
from corec.evaluation.bm3d import deblocked
from corec.models import PLAIN, Model, models
from corec.picture import Picture
from corec.wrap import levels, origin, unit

JPEGS = {"jpeg": jpegs.default, "jpeg-best": jpegs.best, "mozjpeg": jpegs.trellis}
CHOICE = "corec"
GRID = 4096
"""Quantiser steps that a codec's best file is looked for among: 0.15 % apart where the format has so many."""


@dataclass(frozen=True)
class File:
    """What a contender made of a picture."""

    data: bytes
    setting: float
    """JPEG quality for the three JPEG anchors, else the quantiser step in levels of 255; nan where neither is meant."""
    model: str = ""


@dataclass(frozen=True)
class Contender:
    """One way to store and show pictures."""

    name: str
    write: Callable[[Picture, int], File]
    """The best file of at most so many bytes. Raises RateError where none is so small."""
    read: Callable[[bytes], np.ndarray]
    """The picture of such a file: uint8 (H, W) luma or (H, W, 3) RGB."""


def contender(name: str) -> Contender:
    """The contender of this name. Raises ModelError."""
    before, plus, after = name.partition("+")
    model = next((m for m in models() if m.name in (before, after)), None)
    if before in JPEGS:
        write = partial(plain_jpeg, before)
        if not plus:
            return Contender(name, write, jpegs.shown)
        if after == "bm3d":
            return Contender(name, write, deblocked)
        if after == "restore" or (model and model.restores):
            return Contender(name, write, partial(restored, model=model.name if model else None))
    elif before in (CHOICE, PLAIN) and not plus:
        return Contender(
            name, partial(compressed, codec="jpeg", model=None if before == CHOICE else PLAIN), decompressed
        )
    elif before in anchors() and not plus:
        codec = codec_named(before)
        return Contender(name, partial(coded, codec), partial(decoded, codec))
    elif model and not model.restores and after in ("", "bicubic"):
        write = partial(compressed, codec=model.codec, model=model.name)
        return Contender(name, write, enlarged if plus else decompressed)
    known = [*anchors(), CHOICE, PLAIN, *(m.name for m in models() if not m.restores)]
    known += ["MODEL+bicubic", "jpeg+restore", *(f"jpeg+{m.name}" for m in models() if m.restores), "jpeg+bm3d"]
    raise ModelError(f"nothing called {name!r} can be measured; there are: {', '.join(known)}")


def anchors() -> list[str]:
    """Names of all anchors, whether their packages are installed or not."""
    return [*JPEGS, *(codec.NAME for codec in codecs() if codec.NAME not in JPEGS)]


def models_of(name: str) -> list[Model]:
    """The models that a contender may use."""
    if name == CHOICE:
        return [model for model in models() if model.default and not model.restores]
    before, _, after = name.partition("+")
    if after == "restore":
        return [model for model in models() if model.default and model.restores]
    return [model for model in models() if model.name in (before, after)]


def usable(names: Iterable[str], leave_out: Callable[[str], object] | None = None) -> list[str]:
    """The names, of contenders whose packages are installed: told by trying.

    leave_out is told of each that lacks one; without it that is an error. Raises MissingExtraError, ModelError.
    """
    found = []
    for name in names:
        who = contender(name)
        try:
            if not models_of(name):
                who.read(who.write(Picture(np.zeros((64, 64), np.uint8)), 1 << 16).data)
        except MissingExtraError as error:
            if leave_out is None:
                raise
            leave_out(f"{name} is left out: {error}")
        else:
            found.append(name)
    return found


def plain_jpeg(name: str, picture: Picture, size: int) -> File:
    quality, data = JPEGS[name](picture, size)
    return File(data, quality)


def coded(codec: Codec, picture: Picture, size: int) -> File:
    """The finest file by a codec alone. A codec may know a better way to a size than a search over steps: within()."""
    image = planes(picture)
    within = getattr(codec, "within", None)
    if within is not None:
        return File(within(image, size), float("nan"))
    files: dict[float, bytes] = {}

    def write(step: float) -> bytes:
        step = codec.settle(step)
        if step not in files:
            files[step] = codec.encode(image, step, ())
        return files[step]

    finest, coarsest = codec.STEPS
    step, data = jpegs.highest(write, size, np.geomspace(coarsest, finest, GRID).tolist())
    return File(data, codec.settle(step))


def decoded(codec: Codec, data: bytes) -> np.ndarray:
    image = codec.decode(data)[0]
    return pixels_of(image)


def compressed(picture: Picture, size: int, codec: str, model: str | None) -> File:
    made = pipeline.compress_picture(picture, codec=codec, model=model, size=size)
    return File(made.data, made.setting, made.model)


def decompressed(data: bytes) -> np.ndarray:
    return pipeline.decompress_picture(data).pixels


def enlarged(data: bytes) -> np.ndarray:
    """The compact image as any viewer has it, enlarged to the picture's size by Pillow's bicubic filter."""
    container, _, model, width, height = origin(data)
    compact = pixels_of(container.decode(data)[0])
    if model.scale == 1:
        return compact
    size = model.scale * compact.shape[1], model.scale * compact.shape[0]
    with Image.fromarray(compact) as image:
        return np.array(image.resize(size, Image.Resampling.BICUBIC))[:height, :width]


def restored(data: bytes, model: str | None) -> np.ndarray:
    return pipeline.restore_picture(data, model).pixels


def planes(picture: Picture) -> np.ndarray:
    """A picture as codecs take it: uint8 (H, W, 1) luma or (H, W, 3) YCbCr."""
    return picture.pixels[..., None] if picture.gray else levels(ycbcr_from_rgb(picture.pixels))


def pixels_of(image: np.ndarray) -> np.ndarray:
    """The reverse: uint8 (H, W) or (H, W, 3) RGB."""
    return rgb_from_ycbcr(unit(image)) if image.shape[2] == 3 else np.ascontiguousarray(image[..., 0])
