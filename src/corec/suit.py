"""A JPEG file that suits its picture: its image is moved to where the decoder's network makes less error.

    round:  file -> decoded image -> network -> error, and its slope at every sample
            decoded image - slope / (2 curvature), coded again with the same tables -> another file

A decoded image's coefficients are whole multiples of the quantiser's steps. Coded again they are what they were, but
where the slope moves them by about half a step; there the trellis weighs bits. The network in front of the codec knows
what is best for pictures on average, this looks at one. A round that made things worse is undone, and those after it
are more careful.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from corec.codecs import jpeg
from corec.codecs.trellis import WEIGHT
from corec.color import ycbcr_from_rgb
from corec.models import Model
from corec.picture import Picture
from corec.tiles import pad
from corec.view import View
from corec.wrap import bounds, envelope_of, looks_both_ways, networks_behind, rows_as_columns, unit

STEEP = {1: 0.95, 2: 5.0}
"""By scale: how many times a sample's squared change the error grows by, in pixels of the picture."""
BLOCK = 16
"""Pixels a side: two blocks of luma, one of chroma."""
BOLD, CAREFUL = 0.9, 0.7
"""In each round a share of the blocks, drawn at random, is moved, at first all: by what it is multiplied after a round
that made things better, and worse."""
DEARER = 10.0
"""Power of a file's share of its allowed size that is the price of a bit in the next round."""
CHEAPEST, DEAREST = 0.7, 3.0
"""Of that price."""
FITTINGS = 5
"""Files that are written to meet the size in the end, if the rounds made it too large."""
Counted = Callable[[bytes], bytes]


class Tried(NamedTuple):
    """A file, and what a decoder makes of it."""

    data: bytes
    image: np.ndarray
    """Decoded, chroma's samples repeated: uint8 (H, W, C)."""
    error: float
    """Squared, in levels, summed over the picture's pixels."""
    slope: np.ndarray
    """Of the error, a level: (H, W, C)."""


def suited(data: bytes, picture: Picture, model: Model, step: float, size: int, rounds: int, counted: Counted) -> bytes:
    """A file at most as large as `size` bytes whose picture is nearer than that of `data`, or `data` itself.

    data: of the picture, by the model, at a step. counted is given every file that is written, and gives it back.
    """
    view, random = view_of(picture, model, step), np.random.default_rng(0)
    bit = WEIGHT * step**2 * STEEP[model.scale]
    """The error that a bit is worth."""

    def coded(image: np.ndarray, price: float, moved: np.ndarray) -> bytes:
        data = jpeg.recode(image, step, model.shapes, price, moved)
        return counted(jpeg.embed(data, envelope_of(picture, model, step, image)))

    def tried(data: bytes) -> Tried:
        seen = view(unit(jpeg.decode(data)[0]))
        return Tried(data, jpeg.samples(data), 255**2 * seen.error, 255 * seen.slope)

    def cost(one: Tried) -> float:
        return one.error / bit + 8 * len(one.data)

    first = best = tried(data)
    height, width = best.image.shape[:2]
    parts = [-(-extent // BLOCK) for extent in (height, width)]
    share = 1.0
    for _ in range(rounds):
        moved = random.random(parts) < share
        where = moved.repeat(BLOCK, 0).repeat(BLOCK, 1)[:height, :width, None]
        aim = best.image - where * best.slope / (2 * STEEP[model.scale])
        price = min(DEAREST, max(CHEAPEST, (len(best.data) / size) ** DEARER))
        new = tried(coded(np.clip(np.rint(aim), 0, 255).astype(np.uint8), price, moved))
        better = cost(new) < cost(best)
        best = new if better else best
        share *= BOLD if better else CAREFUL
    if len(best.data) <= size:
        return best.data if best.error < first.error else data
    low, high = 1.0, DEAREST
    fitting = data
    for _ in range(FITTINGS):
        price = (low * high) ** 0.5
        smaller = coded(best.image, price, np.ones(parts, bool))
        if len(smaller) > size:
            low = price
        else:
            high, fitting = price, smaller
    return fitting if tried(fitting).error < first.error else data


def view_of(picture: Picture, model: Model, step: float) -> View:
    """What the decoder of a model's files makes of their images."""
    pixels = ycbcr_from_rgb(picture.pixels) if model.color else unit(picture.pixels[..., None])
    both = looks_both_ways(model, picture.height, picture.width)
    log_step = np.clip(jpeg.condition(step, model.shapes), *bounds(model))
    exchanged = rows_as_columns if both else None
    network, slope = networks_behind(model)
    return View(pad(pixels, model.scale), network, slope, log_step, model.scale, exchanged, model.color)
