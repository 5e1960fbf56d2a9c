"""What a decoder makes of latents, beside the picture that they are of: the error, and its slope at every latent."""

from typing import NamedTuple

import numpy as np

from corec import tiles
from corec.learned.prior import net
from corec.learned.tables import Tables
from corec.models import Learned
from corec.wrap import rows_as_columns

STRIDE = 16
"""Pixels a latent, along each side."""
SYNTHESIS = 64, 6, 1
"""Tile, overlap and grid of a synthesis, in latents. The overlap exceeds its reach."""
SLOPE = 32, 8, 1
"""The same where it tells slopes, for which all that it computes is kept. They need not be exact."""
SQUARED_LEVELS = 255.0**2


class Seen(NamedTuple):
    """All in bits, as many as a squared error is worth."""

    error: float
    slope: np.ndarray
    """A bin: (N, h, w)."""


class View:
    """The view of latents of one level; a decoder that looks both ways shows the mean of what it sees."""

    def __init__(self, pixels: np.ndarray, model: Learned, known: Tables, level: int, both: bool) -> None:
        """pixels: (H, W, C) in 0..1, as large as all latents are."""
        self.pixels, self.known, self.both = pixels, known, both
        self.synthesis, self.slope = net(model, "synthesis"), net(model, "synthesis", "slope")
        self.gain = known.gain[level]
        self.worth = float(known.worth[level]) * SQUARED_LEVELS
        """Bits for a squared error of 1 at a pixel, on the mean of its planes."""

    @property
    def plain(self) -> np.ndarray:
        """What an error of one bin at a latent would be, if the synthesis changed no distances: (N, 1, 1)."""
        return (self.worth / self.gain**2)[:, None, None]

    def __call__(self, received: np.ndarray) -> Seen:
        """What is seen of latents (N, h, w) in bins."""
        latents, log_step = received.transpose(1, 2, 0) / self.gain, -np.log(self.gain)
        other = self.otherwise(latents, log_step) if self.both else self.pixels
        slope, error = np.empty(latents.shape, np.float32), 0.0
        height, width = latents.shape[:2]
        for rows, columns in tiles.tiles(height, width, *SLOPE):
            read = np.s_[rows.start : rows.stop, columns.start : columns.stop]
            core = np.s_[rows.core_start : rows.core_stop, columns.core_start : columns.core_stop]
            # Half of what this way is off from there is what the mean of both ways is off from the picture.
            wanted = 2 * self.pixels[fine(read)] - other[fine(read)]
            result, slopes = self.slope.every(latents[read], log_step, wanted)
            inner = tuple(slice(c.start - r.start, c.stop - r.start) for c, r in zip(core, read, strict=True))
            slope[core] = slopes[inner]
            off = result[fine(inner)] - wanted[fine(inner)]
            error += float(np.square(off, dtype=np.float64).sum()) / off.shape[2]
        share = 0.5 if self.both else 1.0
        slope *= share * self.worth / self.gain
        return Seen(share**2 * error * self.worth, slope.transpose(2, 0, 1))

    def otherwise(self, latents: np.ndarray, log_step: np.ndarray) -> np.ndarray:
        """The picture (H, W, C) that comes of latents (h, w, N) looked at the other way."""
        exchanged = self.known.exchanged(latents)
        image = np.empty(rows_as_columns(self.pixels).shape, np.float32)
        tiles.through(lambda piece: self.synthesis(piece, log_step), exchanged, image, np.asarray, SYNTHESIS)
        return rows_as_columns(image)


def fine(place: tuple[slice, ...]) -> tuple[slice, ...]:
    """The pixels of some rows and columns of latents."""
    return tuple(slice(STRIDE * part.start, STRIDE * part.stop) for part in place)
