"""From a size in bytes to a codec's own setting, by search over real files."""

import math
from collections.abc import Callable
from typing import NamedTuple

from corec.errors import RateError
from corec.forecast import Forecast

TRIES = 12
NEAR, NARROW = 1.004, 1.1
"""Ratios of two steps: between which no better file is looked for, and between which sizes are no smooth curve."""
NEXT = 1.01
"""Ratio by which a codec's next step is looked for."""
FLATTEST = 0.1
"""Least share of what was foretold by which log bytes are taken to change: of small files headers are the most."""
HALVES = 6
"""Files of which none fits, after which what is left of the range of steps is halved."""


class Care(NamedTuple):
    """When a search ends."""

    close: float
    """Share of the size that is enough of the first file."""
    patience: float
    """With every file written, so much less is."""


FULL = Care(0.999, 0.001)
"""The sizes of small files have a noise of half a percent: to meet one more closely takes many."""
HASTY = Care(0.97, 0.02)
"""For files that take long to write: two or three."""


class Try(NamedTuple):
    """A file at a step."""

    step: float
    data: bytes


def best_within(
    write: Callable[[float], bytes],
    size: int,
    forecast: Forecast,
    finest: float,
    coarsest: float,
    settle: Callable[[float], float],
    care: Care = FULL,
) -> Try:
    """The largest file found of at most `size` bytes, and its quantiser step.

    write gives the file at a step between finest and coarsest, which settle makes one that the codec can express; none
    is written twice. The search begins where the forecast has the size, corrects the forecast by what it finds, and
    keeps a bracket. A file that is large enough ends it, and so does a bracket without a step in it: thirteen files at
    most, four or five as a rule. Raises RateError, with the smallest size, if even the coarsest is too large.
    """
    best: Try | None = None
    good: Try | None = None  # the finest that fits, and the coarsest that does not: a bracket
    bad: Try | None = None
    last: Try | None = None
    finest, coarsest = settle(finest), settle(coarsest)
    step = forecast.step(size)
    seen = set()
    for count in range(TRIES):
        wanted, step = step, settle(min(coarsest, max(finest, step)))
        while step in seen and not (good and bad):  # the codec's steps are farther apart: outwards to the next
            wanted *= NEXT if bad else 1 / NEXT
            step = settle(min(coarsest, max(finest, wanted)))
        if step in seen and good and bad:
            step = settle(math.sqrt(good.step * bad.step))  # nearer to any step between them than they are
            if step in seen:
                break
        seen.add(step)
        new = Try(step, write(step))
        enough = care.close - care.patience * count
        if len(new.data) > size:
            bad = max(bad or new, new)
            if step >= coarsest:
                raise RateError.too_small(size, len(new.data))
        else:
            good = min(good or new, new)
            if step <= finest:
                best = new  # nothing is finer, though a coarser one may be longer
                break
            best = max(best or new, new, key=lambda found: len(found.data))
            if len(best.data) >= enough * size:
                break
        if good and bad and good.step < NEAR * bad.step:
            break
        step = next_step(forecast, (1 + enough) / 2 * size, new, last, good, bad)
        if bad and not good and count >= HALVES:
            step = math.sqrt(bad.step * coarsest)
        last = new
    if best is None:
        best = Try(coarsest, write(coarsest))
        if len(best.data) > size:
            raise RateError.too_small(size, len(best.data))
    return best


def next_step(forecast: Forecast, aim: float, new: Try, last: Try | None, good: Try | None, bad: Try | None) -> float:
    """Where to look for a file of `aim` bytes: between the bracket's ends, else outwards from the last two files.

    Log bytes are taken for a straight line over those of the forecast, and through a single file for just as steep.
    A narrow bracket of which the same end has moved twice is halved: sizes rise in leaps there, and it may creep up to
    one.
    """
    if good and bad and last and good.step < NARROW * bad.step and not bad.step <= last.step <= good.step:
        return math.sqrt(good.step * bad.step)
    if good and bad:
        (x, y), (far, above) = (place(forecast, found) for found in (good, bad))
        share = (math.log(aim) - y) / (above - y)
        return forecast.step(math.exp(x + (far - x) * min(0.9, max(0.1, share))))
    x, y = place(forecast, new)
    slope = 1.0
    if last is not None:
        before, had = place(forecast, last)
        slope = min(2.0, max(FLATTEST, (y - had) / (x - before)))
    return forecast.step(math.exp(x + (math.log(aim) - y) / slope))


def place(forecast: Forecast, found: Try) -> tuple[float, float]:
    """The natural logarithms of the bytes that a file was to have and of those it has."""
    return math.log(forecast.size(found.step)), math.log(len(found.data))
