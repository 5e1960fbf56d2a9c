"""One curve of quality over rate against another: Bjontegaard's mean differences.

A curve is a list of points (rate, quality), rate in bits per pixel. Those of the bench are means over all pictures at
the same allowance, as published curves are means at the same setting: first the mean curve, then its difference.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from corec.errors import MissingExtraError

Curve = Sequence[tuple[float, float]]

POINTS = 4
"""Fewest points of a curve, as in Bjontegaard's own proposal (VCEG-M33, 2001)."""


@dataclass(frozen=True)
class Crossing:
    """A rate at which one curve meets a reference."""

    rate: float
    """In bits per pixel."""
    ahead: bool
    """Whether it is the better one above that rate, not below."""


@dataclass(frozen=True)
class Difference:
    """By how much one curve differs from a reference, where both exist."""

    rate: float
    """BD-rate: the mean difference of log rate at equal quality, in percent; negative is better."""
    quality: float
    """BD-PSNR: the mean difference of quality at equal log rate, in the quality's unit; positive is better."""
    rates: tuple[float, float]
    """What `quality` is a mean over, in bits per pixel."""
    qualities: tuple[float, float]
    """What `rate` is a mean over."""
    crossings: tuple[Crossing, ...]
    """Where the curves cross within `rates`."""


def difference(reference: Curve, test: Curve) -> Difference | None:
    """By how much `test` differs from `reference`, with Akima's interpolation; None where that says nothing.

    That is where a curve has fewer than four points, or where the two share no rate or no quality.
    """
    try:
        from bjontegaard import bd_psnr, bd_rate
    except ImportError as error:
        raise MissingExtraError("BD-rate needs the package bjontegaard: pip install 'corec[evaluate]'") from error
    one, other = rising(reference), rising(test)
    if min(len(one), len(other)) < POINTS:
        return None
    rates, qualities = (shared([point[axis] for point in one], [point[axis] for point in other]) for axis in (0, 1))
    if rates is None or qualities is None:
        return None
    points = [[point[axis] for point in curve] for curve in (one, other) for axis in (0, 1)]
    options = {"method": "akima", "require_matching_points": False, "min_overlap": 0}
    means = float(bd_rate(*points, **options)), float(bd_psnr(*points, **options))
    return Difference(*means, rates, qualities, tuple(crossings(reference, test)))


def crossings(reference: Curve, test: Curve) -> list[Crossing]:
    """Where `test` crosses `reference`, both straight over log rate between their points; by rate."""
    one, other = rising(reference), rising(test)
    rates = shared([rate for rate, _ in one], [rate for rate, _ in other]) if one and other else None
    if rates is None:
        return []
    inner = {rate for rate, _ in (*one, *other) if rates[0] <= rate <= rates[1]}
    logs = np.log(sorted(inner))
    ahead = np.interp(logs, *logarithmic(other)) - np.interp(logs, *logarithmic(one))
    found: list[Crossing] = []
    side, since = 0.0, 0  # of the last point where they differed
    for at, value in enumerate(ahead):
        if value * side < 0:
            if at - since == 1:
                place = logs[since] + side / (side - value) * (logs[at] - logs[since])
            else:
                place = (logs[since + 1] + logs[at - 1]) / 2  # the middle of where they are equal
            found.append(Crossing(math.exp(place), bool(value > 0)))
        if value:
            side, since = value, at
    return found


def logarithmic(curve: Curve) -> tuple[list[float], list[float]]:
    """Log rates and qualities."""
    return [math.log(rate) for rate, _ in curve], [quality for _, quality in curve]


def rising(curve: Curve) -> list[tuple[float, float]]:
    """The points by rate, without those that cost as much as another or more and are no better."""
    kept: list[tuple[float, float]] = []
    for rate, quality in sorted(curve, key=lambda point: (point[0], -point[1])):
        if math.isfinite(quality) and (not kept or (rate > kept[-1][0] and quality > kept[-1][1])):
            kept.append((rate, quality))
    return kept


def shared(one: Sequence[float], other: Sequence[float]) -> tuple[float, float] | None:
    """The range that two rising lists of numbers have in common, unless it is empty."""
    low, high = max(one[0], other[0]), min(one[-1], other[-1])
    return (low, high) if low < high else None
