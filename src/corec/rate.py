"""From a size in bytes to a codec's own setting, by search over real files."""

import math
from collections.abc import Callable

from corec.errors import RateError

TRIES = 12


def best_within(
    write: Callable[[float], bytes],
    size: int,
    finest: float,
    coarsest: float,
    start: float | None = None,
    close: float = 0.999,
) -> tuple[float, bytes]:
    """The finest quantiser step whose file has at most `size` bytes, and that file.

    write gives the file at a step between finest and coarsest; start is a first guess; a file of
    `close` times the size ends the search. Bytes fall about as 1 / step, so the search interpolates log
    bytes over log step and keeps a bracket; twelve
    files at most, five or six as a rule. Raises RateError, with the smallest size, if even the coarsest is
    too large.
    """
    good: tuple[float, bytes] | None = None
    bad: tuple[float, bytes] | None = None
    step = min(coarsest, max(finest, start or math.sqrt(finest * coarsest)))
    for _ in range(TRIES):
        data = write(step)
        if len(data) <= size:
            good = (step, data) if good is None or len(data) >= len(good[1]) else good
            if len(data) >= close * size or step <= finest:
                break
        else:
            bad = (step, data)
            if step >= coarsest:
                raise RateError.too_small(size, len(data))
        step = next_step(step, len(data), (1 + close) / 2 * size, good, bad, finest, coarsest)
        if good and bad and good[0] / bad[0] < 1.0005:
            break
    if good is None:
        good = (coarsest, write(coarsest))
        if len(good[1]) > size:
            raise RateError.too_small(size, len(good[1]))
    return good


def next_step(
    step: float,
    got: int,
    aim: float,
    good: tuple[float, bytes] | None,
    bad: tuple[float, bytes] | None,
    finest: float,
    coarsest: float,
) -> float:
    """Where to look next: between the bracket's ends by interpolation, else outwards with slope -1.2."""
    if good and bad:
        low, high = math.log(bad[0]), math.log(good[0])
        fall = math.log(len(bad[1]) / len(good[1]))
        share = math.log(len(bad[1]) / aim) / fall if fall > 0 else 0.5
        return math.exp(low + (high - low) * min(0.9, max(0.1, share)))
    guess = step * (got / aim) ** 1.2
    return min(coarsest, max(finest, guess))
