"""What a decoder's network makes of an image, beside the picture that it is of: the error, and its slope.

The slope says of every sample of the image how the error changes with it: corec.training.slope makes the network that
tells it. Encoders move samples by it, and then look where that made things better: better().
"""

from typing import NamedTuple

import numpy as np

from corec import tiles
from corec.color import RGB_OF_YCBCR
from corec.runtime import Network
from corec.wrap import GRID, OVERLAP, TILE, Turn, rows_as_columns

SLOPE_TILE, SLOPE_OVERLAP = 512, 128
"""In picture pixels. All that a network computes is kept for its slope, so tiles are smaller; it need not be exact."""


class Seen(NamedTuple):
    """An image's error: squared, of pixels in 0..1, on the mean of their planes, summed over pixels."""

    errors: np.ndarray
    """Its parts (h, w): of the pixels in the place of each of the image's samples."""
    slope: np.ndarray
    """How much it rises with every sample: of the image's shape. None has been looked for: zeros."""


def better(change: np.ndarray) -> np.ndarray:
    """Where changes were for the better, by what they did to each place (h, w) and around it: bool (h, w)."""
    rows = np.pad(change, 1)
    rows = rows[:-2] + 2 * rows[1:-1] + rows[2:]
    return np.asarray(rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:] < 0)


class View:
    """The view of images of a picture; a decoder that looks both ways shows the mean of what it sees."""

    def __init__(
        self,
        pixels: np.ndarray,
        network: Network,
        slope: Network,
        log_step: np.ndarray,
        ratio: int,
        exchanged: Turn | None,
        ycbcr: bool = False,
    ) -> None:
        """pixels (H, W, C), in 0..1: the picture, H and W multiples of ratio.

        network: image (H / ratio, W / ratio, N) and log_step -> (H, W, C); slope: the same, and how that depends on the
        image. exchanged: what rows and columns of an image are exchanged by, if the decoder looks both ways. ycbcr:
        whether planes are YCbCr, whose errors count as those of RGB.
        """
        self.pixels, self.network, self.slope = pixels, network, slope
        self.log_step, self.ratio, self.exchanged, self.ycbcr = log_step, ratio, exchanged, ycbcr

    def __call__(self, image: np.ndarray, sloped: bool = True) -> Seen:
        """What is seen of an image (h, w, N), its slope only where it is asked for: that takes longer."""
        if not sloped:
            return Seen(self.errors(self.shown(image) - self.pixels), np.zeros_like(image, np.float32))
        other = self.pixels if self.exchanged is None else self.otherwise(image, self.exchanged)
        height, width = image.shape[:2]
        tile, overlap, grid = (extent // self.ratio for extent in (SLOPE_TILE, SLOPE_OVERLAP, GRID))
        slope, errors = np.empty(image.shape, np.float32), np.empty((height, width))
        for rows, columns in tiles.tiles(height, width, tile, overlap, grid):
            read = np.s_[rows.start : rows.stop, columns.start : columns.stop]
            core = np.s_[rows.core_start : rows.core_stop, columns.core_start : columns.core_stop]
            # Half of what this way is off from there is what the mean of both ways is off from the picture.
            wanted = 2 * self.pixels[self.fine(read)] - other[self.fine(read)]
            piece, wanted = tiles.pad(image[read], grid), tiles.pad(wanted, GRID)
            result, slopes = self.slope.every(piece, self.log_step, wanted)
            inner = tuple(slice(c.start - r.start, c.stop - r.start) for c, r in zip(core, read, strict=True))
            slope[core] = slopes[inner]
            errors[core] = self.errors(result[self.fine(inner)] - wanted[self.fine(inner)])
        return Seen(errors, slope) if self.exchanged is None else Seen(errors / 4, slope / 2)

    def errors(self, off: np.ndarray) -> np.ndarray:
        """Of differences (H, W, C), by the image's samples (h, w)."""
        if self.ycbcr:
            off = off @ RGB_OF_YCBCR.T.astype(np.float32)
        rows, columns = (extent // self.ratio for extent in off.shape[:2])
        squares = np.square(off, dtype=np.float64).reshape(rows, self.ratio, columns, self.ratio, -1)
        return np.asarray(squares.sum((1, 3)).mean(2))

    def shown(self, image: np.ndarray) -> np.ndarray:
        """The picture (H, W, C) that the decoder makes of an image."""
        one_way = self.one_way(image)
        return one_way if self.exchanged is None else (one_way + self.otherwise(image, self.exchanged)) / 2

    def otherwise(self, image: np.ndarray, exchanged: Turn) -> np.ndarray:
        """The picture (H, W, C) that comes of an image looked at the other way."""
        return rows_as_columns(self.one_way(exchanged(image)))

    def one_way(self, image: np.ndarray) -> np.ndarray:
        """What the network makes of an image."""
        result = np.empty((*(self.ratio * extent for extent in image.shape[:2]), self.pixels.shape[2]), np.float32)
        shape = TILE // self.ratio, OVERLAP // self.ratio, GRID // self.ratio
        tiles.through(lambda piece: self.network(piece, self.log_step), image, result, np.asarray, shape)
        return result

    def fine(self, place: tuple[slice, ...]) -> tuple[slice, ...]:
        """The pixels of some rows and columns of an image."""
        return tuple(slice(self.ratio * part.start, self.ratio * part.stop) for part in place)
