"""The finest file that fits is found, in few tries, whatever the sizes look like."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from corec.errors import RateError
from corec.evaluation.search import CLOSE, finest

STEPS = np.geomspace(255, 1, 4096).tolist()


def smooth(step: float) -> int:
    return round(40_000 / step**1.1)


def in_leaps(step: float) -> int:
    """Sizes that rise by 3 % at once, here and there."""
    return round(40_000 * 1.03 ** math.floor(-37 * math.log(step)))


@pytest.mark.parametrize("size_at", [smooth, in_leaps])
@pytest.mark.parametrize("share", [0.0032, 0.01, 0.05, 0.2, 0.5, 0.9, 2.0])
def test_the_finest_that_fits_in_few_tries(size_at: Callable[[float], int], share: float) -> None:
    size = round(40_000 * share)
    asked: list[float] = []

    def write(step: float) -> bytes:
        asked.append(step)
        return bytes(size_at(step))

    step, data = finest(write, size, STEPS)
    best = max(size_at(other) for other in STEPS if size_at(other) <= size)
    assert len(data) == size_at(step) <= size
    assert len(data) == best or len(data) >= CLOSE * size
    assert len(asked) == len(set(asked)) <= (8 if size_at is smooth and share < 1 else 13)


def test_all_sizes_of_a_curve_begin_with_the_same_files() -> None:
    asked: set[float] = set()

    def write(step: float) -> bytes:
        asked.add(step)
        return bytes(smooth(step))

    sizes = [round(40_000 * share) for share in (0.01, 0.02, 0.03, 0.04, 0.06, 0.08, 0.1)]
    first = [finest(write, size, STEPS) for size in sizes]
    assert len(asked) <= 35
    # What was written before changes nothing: a bench that was stopped finds what it would have found.
    assert [finest(write, size, STEPS) for size in reversed(sizes)] == first[::-1]


@pytest.mark.parametrize("count", [1, 2, 3, 5, 63])
def test_few_settings(count: int) -> None:
    sizes = {float(at): 100 * (at + 1) for at in range(count)}
    for at, size in sizes.items():
        assert finest(lambda step: bytes(sizes[step]), size, list(sizes)) == (at, bytes(size))
        assert finest(lambda step: bytes(sizes[step]), size + 50, list(sizes)) == (at, bytes(size))


def test_nothing_fits() -> None:
    tries = 0

    def write(step: float) -> bytes:
        nonlocal tries
        tries += 1
        return bytes(smooth(step))

    with pytest.raises(RateError) as caught:
        finest(write, 20, STEPS)
    assert caught.value.smallest == smooth(STEPS[0]) and tries == 3
