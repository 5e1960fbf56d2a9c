"""What a picture foretells: about how many bytes its files have, what is lost with its details, and if it is drawn.

A coefficient of magnitude a costs about 1.5 log2(4 a / step) bits where that is positive, and little below. Summed
over the 8x8 cosine transform of luma that gives bytes that are right but for a factor, which belongs to a codec and its
networks (single pictures are 10 to 20 % off), and how they change with the step to a few percent.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from corec.codecs.jpeg import dct_matrix
from corec.color import luma
from corec.picture import Picture

CHROMA = 1.25
"""How many times as many bytes as a gray picture's files those of a picture in colour have."""
PIXELS = 1 << 20
"""About so many pixels of larger pictures are looked at, in blocks spread evenly."""
LOG_STEPS = np.log(np.geomspace(4096, 0.25, 256))
EDGES = 2.0 ** np.arange(-3, 11.2, 0.25)
"""Magnitudes are counted between these; all below the first count as that."""


@dataclass(frozen=True)
class Forecast:
    """About how many bytes files have, over the quantiser's step in levels."""

    log_steps: np.ndarray
    """Natural logarithms, falling."""
    log_sizes: np.ndarray
    """Natural logarithms, rising."""

    def size(self, step: float) -> float:
        """Bytes at a step."""
        return math.exp(np.interp(-math.log(step), -self.log_steps, self.log_sizes))

    def step(self, size: float) -> float:
        """The step at which a file has so many bytes; the last one known for more and for fewer."""
        return math.exp(np.interp(math.log(size), self.log_sizes, self.log_steps))

    def times(self, factor: float) -> "Forecast":
        """So many times the bytes."""
        return replace(self, log_sizes=self.log_sizes + math.log(factor))


class Spectrum:
    """The magnitudes of a picture's coefficients."""

    def __init__(self, picture: Picture) -> None:
        every = max(1, round(math.sqrt(picture.width * picture.height / PIXELS)))
        # Blocks at the lower and the right edge are filled up with its pixels.
        rows, columns = (
            np.minimum(np.arange(0, extent, 8 * every)[:, None] + np.arange(8), extent - 1).ravel()
            for extent in (picture.height, picture.width)
        )
        pixels = picture.pixels[rows[:, None], columns]
        cells = pixels.reshape(len(rows) // 8, 8, len(columns) // 8, 8, -1)
        here, below, right = cells[:, :-1, :, :-1], cells[:, 1:, :, :-1], cells[:, :-1, :, 1:]
        self.flat = float(((here == below) & (here == right)).all(-1).mean())
        """The share of pixels that are just as those below and to the right of them."""
        plane = (pixels if picture.gray else luma(pixels)).astype(np.float32)
        blocks = plane.reshape(len(rows) // 8, 8, len(columns) // 8, 8).transpose(0, 2, 1, 3)
        dct = dct_matrix()
        self.magnitudes = np.abs(dct @ blocks @ dct.T).reshape(-1, 8, 8)
        looked_at = 64 * len(self.magnitudes) / (picture.width * picture.height)
        self.times = (1 if picture.gray else CHROMA) / looked_at

    def forecast(self, scale: float) -> Forecast:
        """Of files that hold the picture at 1 / scale of its size, 1 to 4."""
        side = round(8 / scale)
        kept = self.magnitudes[:, :side, :side].reshape(len(self.magnitudes), -1)[:, 1:] / scale
        counts, _ = np.histogram(kept.clip(EDGES[0], EDGES[-1]), EDGES)
        ratios = 4 * np.sqrt(EDGES[1:] * EDGES[:-1]) / np.exp(LOG_STEPS[:, None])
        bits = 0.75 * np.log2(1 + ratios**2) @ counts
        return Forecast(LOG_STEPS, np.log(bits / 8 * self.times))

    def lost(self, scale: float) -> float:
        """The root of the mean squared error, in levels, of a picture at 1 / scale of its size; 0.125 at least."""
        squares = np.square(self.magnitudes)
        side = round(8 / scale)
        kept = squares[:, :side, :side].sum() / max(squares.sum(), np.finfo(np.float32).tiny)
        return max(float(EDGES[0]), math.sqrt(max(0.0, 1 - kept) * squares.mean()))
