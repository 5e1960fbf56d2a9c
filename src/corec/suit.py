"""A file of JPEG's levels that suits its picture: its image is moved to where the decoder's network makes less error.

    round:  file -> decoded image -> network -> error, and its slope at every sample
            decoded image - slope / (2 curvature), coded again with the same tables -> another file

A decoded image's coefficients are whole multiples of the quantiser's steps. Coded again they are what they were, but
where the slope moves them by about half a step; there the trellis weighs bits. The network in front of the codec knows
what is best for pictures on average, this looks at one. Where a round made things worse it is undone, part by part, and
if it did on the whole, those after it are more careful.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from corec.codecs.base import Shapes
from corec.codecs.registry import codec_named
from corec.codecs.trellis import WEIGHT
from corec.color import ycbcr_from_rgb
from corec.models import Model
from corec.picture import Picture
from corec.tiles import pad
from corec.view import Seen, View, better
from corec.wrap import looks_both_ways, networks_behind, rows_as_columns, seen_by, told, unit

STEEP = {1: 0.9, 2: 4.6}
"""By a model's ratio: how many times a sample's squared change the error grows by, in pixels of the picture."""
BLOCK = 16
"""Pixels a side: two blocks of luma, one of chroma."""
BOLD, CAREFUL = 0.9, 0.7
"""In each round a share of the parts, drawn at random, is moved, at first all: by what it is multiplied after a round
that made things better, and worse."""
DEARER = 10.0
"""Power of a file's share of its allowed size that is the price of a bit in the next round."""
CHEAPEST, DEAREST = 0.7, 3.0
"""Of that price."""
FITTINGS, STRICTEST, FULL = 6, 100.0, 0.99
"""Files that are written to meet the size in the end, if the rounds made it too large: with all bits at a higher price,
and with parts of the first file instead of those that save too little; the highest price for that; and the share of the
size below which parts of the first file fill it."""
Written = Callable[[bytes], bytes]


class Tried(NamedTuple):
    """A file, and what a decoder makes of it."""

    data: bytes
    image: np.ndarray
    """Decoded, in whole blocks, chroma's samples repeated: uint8 (H, W, C)."""
    errors: np.ndarray
    """Squared, in levels, summed over the picture's pixels in the place of each of the image's: (H, W)."""
    slope: np.ndarray
    """Of the error, a level: (H, W, C)."""

    @property
    def error(self) -> float:
        """Of the whole picture."""
        return float(self.errors.sum())


class Suit:
    """A file on its way to suit its picture."""

    def __init__(
        self,
        codec: Any,
        data: bytes,
        view: Callable[[np.ndarray, bool], Seen],
        step: float,
        scale: int,
        shapes: Shapes,
        written: Written = lambda data: data,
    ) -> None:
        """codec: one that has recode(), bits() and samples(). data: by it, at a step and with such shapes, of a picture
        `scale` times as large as its image.

        view: what is seen of a decoded image (H, W, C), in 0..1, with the slope if it is wanted. written: makes a whole
        file of one of the codec's.
        """
        self.codec, self.view, self.written = codec, view, written
        self.step, self.scale, self.shapes = step, scale, shapes
        self.bit = WEIGHT * step**2 * STEEP[scale]
        """The error that a bit is worth."""
        self.extent = codec.size(data)
        self.random, self.share = np.random.default_rng(0), 1.0
        self.first = self.best = self.tried(data)
        height, width = self.best.image.shape[:2]
        self.parts = -(-height // BLOCK), -(-width // BLOCK)

    def rounds(self, count: int, size: int) -> None:
        """Go so many rounds, with a file of about so many bytes in view. Once: of the last one no slope is left."""
        for turn in range(count):
            best, moved = self.best, self.random.random(self.parts) < self.share
            aim = best.image - self.within(moved) * best.slope / (2 * STEEP[self.scale])
            price = min(DEAREST, max(CHEAPEST, (len(best.data) / size) ** DEARER))
            new = self.tried(self.coded(np.clip(np.rint(aim), 0, 255).astype(np.uint8), price, moved), turn < count - 1)
            self.share *= BOLD if self.change(new, best, price).sum() < 0 else CAREFUL
            self.best = self.mixed(new, best, price)

    def fitted(self, size: int) -> bytes:
        """The best file of at most so many bytes that is found now: the first one, at worst."""
        everywhere = np.ones(self.parts, bool)

        def mixed(price: float) -> bytes:
            return self.mixed(self.best, self.first, price).data

        files = [self.best.data]
        if len(self.best.data) > size:
            dearer = self.fitting(size, lambda price: self.coded(self.best.image, price, everywhere), 1, DEAREST)
            files = [dearer, self.fitting(size, mixed, 1, STRICTEST)]
        elif len(self.best.data) < FULL * size:
            files.append(self.fitting(size, mixed, 1 / STRICTEST, 1))
        tried = [self.first, *(self.tried(file, False) for file in files)]
        return min(tried, key=lambda one: one.error).data

    def fitting(self, size: int, write: Callable[[float], bytes], low: float, high: float) -> bytes:
        """What is written at about the lowest price of a bit at which it fits; the first file if nothing does."""
        found = self.first.data
        for _ in range(FITTINGS):
            price = (low * high) ** 0.5
            smaller = write(price)
            if len(smaller) > size:
                low = price
            else:
                high, found = price, smaller
        return found

    def coded(self, image: np.ndarray, price: float, moved: np.ndarray) -> bytes:
        """A file of an image that has changed in some parts; bits are worth so much more than usually there."""
        return self.written(self.codec.recode(image, self.extent, self.step, self.shapes, price, moved))

    def tried(self, data: bytes, sloped: bool = True) -> Tried:
        """A file, decoded and seen."""
        seen, image = self.view(unit(self.codec.decode(data)[0]), sloped), self.codec.samples(data)
        beyond = [(0, whole - extent) for whole, extent in zip(image.shape, seen.errors.shape, strict=False)]
        errors, slope = np.pad(seen.errors, beyond), np.pad(seen.slope, [*beyond, (0, 0)])
        return Tried(data, image, 255**2 * errors, 255 * slope)

    def change(self, new: Tried, old: Tried, price: float) -> np.ndarray:
        """What becomes of parts, in bits, from one file to another."""
        more, less = (self.codec.bits(one.image, self.step, self.shapes) for one in (new, old))
        return by_part(new.errors - old.errors) / self.bit + price * (more - less)

    def mixed(self, new: Tried, old: Tried, price: float) -> Tried:
        """A file that is the new one where that is better, if bits are worth so much more, and else the old one; and
        about what becomes of it."""
        where = self.within(better(self.change(new, old, price)))
        image, slope = (np.where(where, *pair) for pair in ((new.image, old.image), (new.slope, old.slope)))
        nowhere = np.zeros(self.parts, bool)
        return Tried(self.coded(image, 1.0, nowhere), image, np.where(where[..., 0], new.errors, old.errors), slope)

    def within(self, parts: np.ndarray) -> np.ndarray:
        """Which pixels of the image lie in some of its parts: bool (H, W, 1)."""
        height, width = self.best.image.shape[:2]
        return np.asarray(parts.repeat(BLOCK, 0).repeat(BLOCK, 1)[:height, :width, None])


def suited(data: bytes, picture: Picture, model: Model, step: float, size: int, rounds: int, counted: Written) -> bytes:
    """A file at most as large as `size` bytes whose picture is nearer than that of `data`, or `data` itself.

    data: of the picture, by the model, at a step. counted is given every file that is written, and gives it back.
    """
    codec: Any = codec_named(model.codec)
    envelope, view = codec.extract(data) or b"", view_of(picture, model, step)
    suit = Suit(codec, data, view, step, model.ratio, model.shapes, lambda file: counted(codec.embed(file, envelope)))
    suit.rounds(rounds, size)
    return suit.fitted(size)


def by_part(errors: np.ndarray) -> np.ndarray:
    """Their sums over the image's parts."""
    padded = np.pad(errors, [(0, -extent % BLOCK) for extent in errors.shape])
    rows, columns = (extent // BLOCK for extent in padded.shape)
    return np.asarray(padded.reshape(rows, BLOCK, columns, BLOCK).sum((1, 3)))


def view_of(picture: Picture, model: Model, step: float) -> View:
    """What the decoder's network of a model's files makes of their images, beside what it is to make of them."""
    picture = seen_by(model, picture)
    pixels = ycbcr_from_rgb(picture.pixels) if model.color else unit(picture.pixels[..., None])
    both = looks_both_ways(model, picture.height, picture.width)
    log_step = told(codec_named(model.codec).condition(step, model.shapes), model)
    exchanged = rows_as_columns if both else None
    network, slope = networks_behind(model)
    return View(pad(pixels, model.ratio), network, slope, log_step, model.ratio, exchanged, model.color)
