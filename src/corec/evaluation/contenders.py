"""What the bench compares: ways to store a picture in at most so many bytes, and to see it again.

    jpeg                JPEG as libjpeg writes it: default tables and Huffman codes
    jpeg-best           the best plain JPEG: optimised Huffman codes, baseline or progressive
    mozjpeg             MozJPEG, with its trellis
    jpeg2000, webp ...  any other codec of corec.codecs, coding the picture itself
    corec               Corec with JPEG, the model its own choice; corec:webp and so on with another codec
    METHOD              the same among the models of one method alone: joint, joint:bpg
    plain               Corec's JPEG encoder alone, without networks
    MODEL               one of `corec models`
    MODEL+bicubic       the same file as any viewer has it, enlarged without the reconstruction network
    learned             the learned codec, its default model; its method or MODEL for others
    JPEG+restore        the file of one of the first three, restored by Corec, the model its own choice
    JPEG+MODEL          the same by one model
    JPEG+bm3d           the same by BM3D

The first three and the codecs are anchors: they owe nothing to Corec's networks.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
from PIL import Image

from corec import pipeline
from corec.codecs import rgb
from corec.codecs.base import Codec
from corec.codecs.registry import codec_named, codecs
from corec.errors import MissingExtraError, ModelError
from corec.evaluation import jpegs
from corec.evaluation.bm3d import deblocked
from corec.evaluation.search import finest
from corec.learned.coder import constriction
from corec.learned.format import NAME as LEARNED
from corec.models import PLAIN, Learned, Model, learned, models
from corec.picture import Picture
from corec.wrap import origin

JPEGS = {"jpeg": jpegs.default, "jpeg-best": jpegs.best, "mozjpeg": jpegs.trellis}
CHOICE = "corec"
GRID = 4096
"""Quantiser steps that a codec's best file is looked for among: 0.15 % apart where the format has so many."""


@dataclass(frozen=True)
class File:
    """What a contender made of a picture."""

    data: bytes
    setting: float
    """JPEG quality for the three JPEG anchors, level of the learned codec, else the quantiser step in levels of 255;
    nan where none is meant."""
    model: str = ""


@dataclass(frozen=True)
class Contender:
    """One way to store and show pictures."""

    name: str
    write: Callable[[Picture, int], File]
    """The best file of at most so many bytes. Raises RateError where none is so small."""
    read: Callable[[bytes], np.ndarray]
    """The picture of such a file: uint8 (H, W) luma or (H, W, 3) RGB."""
    models: tuple[Model | Learned, ...] = ()
    """Those that it may use."""
    codec: str = "jpeg"
    """Name of the anchor whose package it needs, or LEARNED."""

    @property
    def chooses(self) -> bool:
        """Whether Corec chooses among models for each picture."""
        return self.name.partition(":")[0] == CHOICE or self.name in families()


def contender(name: str) -> Contender:
    """The contender of this name. Raises ModelError."""
    for kind in (jpeg_file, codec_alone, chosen, one_model, learned_codec):
        found = kind(name)
        if found:
            return found
    known = [*anchors(), CHOICE, f"{CHOICE}:CODEC", *families(), PLAIN, *(m.name for m in models() if not m.restores)]
    known += [*dict.fromkeys(name for m in learned() for name in (LEARNED, m.method, m.name)), "MODEL+bicubic"]
    known += ["jpeg+restore", *(f"jpeg+{m.name}" for m in models() if m.restores), "jpeg+bm3d"]
    raise ModelError(f"nothing called {name!r} can be measured; there are: {', '.join(known)}")


def jpeg_file(name: str) -> Contender | None:
    """A JPEG file of others, as it is or repaired."""
    before, plus, after = name.partition("+")
    if before not in JPEGS:
        return None
    write = partial(plain_jpeg, before)
    if not plus:
        return Contender(name, write, jpegs.shown, codec=before)
    if after == "bm3d":
        return Contender(name, write, deblocked, codec=before)
    restorers = tuple(m for m in models() if m.restores and (m.name == after or (after == "restore" and m.default)))
    if not restorers:
        return None
    read = partial(restored, model=None if after == "restore" else after)
    return Contender(name, write, read, restorers, before)


def codec_alone(name: str) -> Contender | None:
    """Another codec, without Corec."""
    if name not in anchors():
        return None
    codec = codec_named(name)
    return Contender(name, partial(coded, codec), partial(decoded, codec), codec=name)


def chosen(name: str) -> Contender | None:
    """Corec's choice with a codec, among all its default models or those of one method; or no model at all."""
    if name == PLAIN:
        return Contender(name, partial(compressed, codec="jpeg", model=PLAIN), decompressed)
    before, colon, codec = name.partition(":")
    codec = codec if colon else "jpeg"
    every = before == CHOICE and any(codec == other.NAME for other in codecs())
    if not every and name not in families():
        return None
    held = [m for m in models() if m.codec == codec and not m.restores]
    held = [m for m in held if (m.default if every else m.method == before)]
    write = partial(compressed, codec=codec, model=None if every else before)
    return Contender(name, write, decompressed, tuple(held), codec)


def one_model(name: str) -> Contender | None:
    """A model, with its reconstruction network or without."""
    before, plus, after = name.partition("+")
    model = next((m for m in models() if m.name == before and not m.restores), None)
    if model is None or after not in ("", "bicubic"):
        return None
    write = partial(compressed, codec=model.codec, model=model.name)
    return Contender(name, write, enlarged if plus else decompressed, (model,), model.codec)


def learned_codec(name: str) -> Contender | None:
    """The learned codec, its model the default one or of a name or a method."""
    held = tuple(m for m in learned() if name in (m.name, m.method) or (name == LEARNED and m.default))
    write = partial(compressed, codec=LEARNED, model=None if name == LEARNED else name)
    return Contender(name, write, decompressed, held, LEARNED) if held else None


def anchors() -> list[str]:
    """Names of all anchors, whether their packages are installed or not."""
    return [*JPEGS, *(codec.NAME for codec in codecs() if codec.NAME not in JPEGS)]


def families() -> list[str]:
    """Names of methods that have models for JPEG, and METHOD:CODEC of those for other codecs."""
    held = [m for m in models() if not m.restores]
    return list(dict.fromkeys(m.method if m.codec == "jpeg" else f"{m.method}:{m.codec}" for m in held))


def facts_of_models(name: str, gray: bool) -> list[dict[str, Any]]:
    """What a contender's files depend on: all facts of models that it may use but how they were trained, digests of the
    networks among them. gray: for luma alone, which networks in front of a codec need one of their own for."""
    held = [model for model in contender(name).models if isinstance(model, Learned) or not (gray and model.color)]
    return [{key: value for key, value in vars(model).items() if key != "training"} for model in held]


def usable(names: Iterable[str], leave_out: Callable[[str], object] | None = None) -> list[str]:
    """The names, of contenders whose packages are installed: told by trying.

    leave_out is told of each that lacks one; without it that is an error. Raises MissingExtraError, ModelError.
    """
    found = []
    for name in names:
        who = contender(name)
        try:
            if who.codec == LEARNED:
                constriction()
            else:
                alone = contender(who.codec) if who.models or who.chooses else who  # networks need no trial
                alone.read(alone.write(Picture(np.zeros((64, 64), np.uint8)), 1 << 16).data)
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
    within = getattr(codec, "within", None)
    if within is not None:
        return File(within(planes(picture), size), float("nan"))
    finest_step, coarsest = codec.STEPS
    steps = list(dict.fromkeys(map(codec.settle, np.geomspace(coarsest, finest_step, GRID).tolist())))
    step, data = finest(lambda step: coded_at(codec, picture, step).data, size, steps)
    return File(data, step)


def coded_at(codec: Codec, picture: Picture, step: float) -> File:
    """The file by a codec alone at a step."""
    step = codec.settle(step)
    files = files_of(codec, picture)
    if step not in files:
        files[step] = codec.encode(planes(picture), step, ())
    return File(files[step], step)


def files_of(codec: Codec, picture: Picture) -> dict[float, bytes]:
    """Files of a picture by a codec alone, by step: what the search for one size wrote serves that for the next."""
    return latest_files(codec.NAME, picture.pixels.shape, hashlib.sha256(picture.pixels.tobytes()).digest())


@lru_cache(maxsize=2)
def latest_files(codec: str, shape: tuple[int, ...], digest: bytes) -> dict[float, bytes]:
    """Those of the last pictures alone."""
    return {}


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
    size = (width, height) if model.resized else (model.ratio * compact.shape[1], model.ratio * compact.shape[0])
    with Image.fromarray(compact) as image:
        return np.array(image.resize(size, Image.Resampling.BICUBIC))[:height, :width]


def restored(data: bytes, model: str | None) -> np.ndarray:
    return pipeline.restore_picture(data, model).pixels


def planes(picture: Picture) -> np.ndarray:
    """A picture as codecs take it: uint8 (H, W, 1) luma or (H, W, 3) YCbCr."""
    return picture.pixels[..., None] if picture.gray else rgb.ycbcr_of(picture.pixels)


def pixels_of(image: np.ndarray) -> np.ndarray:
    """The reverse: uint8 (H, W) or (H, W, 3) RGB."""
    return rgb.rgb_of(image) if image.shape[2] == 3 else np.ascontiguousarray(image[..., 0])
