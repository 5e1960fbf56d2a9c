"""What every standard codec offers.

A codec turns a compact image (H, W, C) into the bytes of an ordinary file and back, and knows where
in such a file the envelope rides. Images are uint8, luma or full-range BT.601 YCbCr.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

MODELS = 1 << 14
"""Models' numbers are below it, which is two bytes in an envelope (corec.envelope)."""
ENVELOPE_SIZES = range(2, 6)
"""Bytes that their envelopes may have; others are somebody else's."""
Shapes = Sequence[Sequence[float]] | np.ndarray
"""Multipliers of the step, one row of 64 a quantisation table; codecs without such tables take an empty one."""


class Codec(Protocol):
    """One image format; a module of this package.

    The coarseness of the quantiser is one number, the step, in levels of 255: about the mean step of its
    luma coefficients. Bytes fall about as 1 / step.
    """

    NAME: str
    SUFFIXES: tuple[str, ...]
    """File name endings, with the dot, the usual one first."""
    LARGEST: int
    """Most pixels a side."""
    PIXELS: int
    """Most pixels."""
    STEPS: tuple[float, float]
    """The finest and the coarsest step of the format."""
    TELLS_STEP: bool
    """Whether the step can be read from a file's header."""

    def accept(self, data: bytes) -> bool:
        """Whether the bytes begin like a file of this format."""
        ...

    def settle(self, step: float) -> float:
        """The nearest step that the format can express."""
        ...

    def condition(self, step: float, shapes: Shapes) -> np.ndarray:
        """What the networks are told of a file coded at this step: natural logarithms of steps, (1 or 2,)."""
        ...

    def encode(self, image: np.ndarray, step: float, shapes: Shapes) -> bytes:
        """A file from an image (H, W, 1 or 3)."""
        ...

    def decode(self, data: bytes) -> tuple[np.ndarray, np.ndarray | None]:
        """The image of a file, and what condition() says of it: None where the header does not tell the step,
        which the envelope then carries. Raises CodecError."""
        ...

    def size(self, data: bytes) -> tuple[int, int]:
        """Width and height that the file's header gives, its pixels not decoded. Raises CodecError."""
        ...

    def embed(self, data: bytes, envelope: bytes) -> bytes:
        """The file with the envelope in it."""
        ...

    def extract(self, data: bytes) -> bytes | None:
        """The envelope in the file, or None where there is none. Raises CodecError."""
        ...

    def overhead(self, envelope: bytes, data: bytes) -> int:
        """Bytes by which a file is longer because this envelope, which is in it, was embedded."""
        ...


def within_range(
    steps: tuple[float, float],
) -> tuple[Callable[[float], float], Callable[[float, Shapes], np.ndarray]]:
    """settle() and condition() of a format that has any step between two."""

    def settle(step: float) -> float:
        return min(max(step, steps[0]), steps[1])

    def condition(step: float, shapes: Shapes) -> np.ndarray:
        return np.log([settle(step)])

    return settle, condition
