"""The finest file that fits, in few tries: encoders are slow, and curves ask them for many sizes."""

import math
from collections.abc import Callable, Sequence

from corec.errors import RateError

CLOSE = 0.999
"""Share of the bytes at which a search ends: the rest is worth 0.005 dB."""
PARTS = 4
"""Into one of so many the search goes by halving, which for all sizes of a curve begins with the same files."""
FEW = 4
"""So near each other the ends are halved again: file sizes rise in leaps, which interpolation cannot see."""


def finest(write: Callable[[float], bytes], size: int, settings: Sequence[float]) -> tuple[float, bytes]:
    """The last setting whose file has at most `size` bytes, and that file.

    settings: in the order in which files grow. Between a file that fits and one that does not, the search interpolates
    log bytes. It ends where these are neighbours, or with a file of CLOSE times the size. Raises RateError, with the
    smallest size, if none fits.
    """
    aim = math.log((1 + CLOSE) / 2 * size)
    low, high = -1, len(settings)
    fits, beyond = b"", b""
    stayed = 0  # how often in a row the upper end has (the lower one, if negative)
    while high - low > 1 and len(fits) < CLOSE * size:
        at = (low + high) // 2
        if not fits and high <= len(settings) / PARTS:
            at = 0  # before long: perhaps nothing fits
        elif fits and beyond and FEW < high - low <= len(settings) / PARTS:
            # Regula falsi; an end that stays loses weight (the "Illinois" rule), or the other would creep up to it.
            under = (aim - math.log(len(fits))) * 0.5 ** max(0, -stayed - 1)
            over = (math.log(len(beyond)) - aim) * 0.5 ** max(0, stayed - 1)
            at = min(high - 1, max(low + 1, low + round((high - low) * under / (under + over))))
        data = write(settings[at])
        if len(data) <= size:
            low, fits, stayed = at, data, max(0, stayed) + 1
        else:
            high, beyond, stayed = at, data, min(0, stayed) - 1
    if not fits:
        raise RateError.too_small(size, len(beyond))
    return settings[low], fits
