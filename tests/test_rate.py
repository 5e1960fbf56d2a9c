"""The search for a size: never a byte over, close below, and few files written."""

import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corec.errors import RateError
from corec.rate import TRIES, best_within

FINEST, COARSEST = 4.0, 255.0


class Writer:
    """Writes files whose size is a function of the step, and keeps count."""

    def __init__(self, size_at: Callable[[float], float]) -> None:
        self.size_at, self.steps = size_at, []

    def __call__(self, step: float) -> bytes:
        assert FINEST <= step <= COARSEST
        self.steps.append(step)
        return bytes(round(self.size_at(step)))


def power(scale: float, slope: float, header: float) -> Callable[[float], float]:
    return lambda step: header + scale * step**-slope


@settings(max_examples=500, deadline=None)
@given(st.floats(1e4, 1e7), st.floats(0.6, 1.6), st.floats(100, 700), st.floats(0, 1))
def test_a_smooth_curve_is_met_closely_in_few_files(scale: float, slope: float, header: float, where: float) -> None:
    write = Writer(power(scale, slope, header))
    size = math.ceil(write.size_at(FINEST * (COARSEST / FINEST) ** where)) + 1
    step, data = best_within(write, size, FINEST, COARSEST)
    assert len(data) <= size
    assert len(data) == round(write.size_at(step))
    if size > 2 * header + 1000:  # below, the header hides the slope, and files are small
        assert len(data) >= min(0.99 * size, write.size_at(FINEST) - 1)
        assert len(write.steps) <= 10


def test_five_or_six_files_are_the_rule() -> None:
    counts = []
    for size in range(2000, 60_000, 500):
        write = Writer(power(500_000, 1.1, 300))
        best_within(write, size, FINEST, COARSEST)
        counts.append(len(write.steps))
    assert sum(counts) / len(counts) <= 6


@settings(max_examples=500, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0, 0.2), st.floats(0.001, 1))
def test_a_curve_with_bumps_is_never_over(seed: int, bumps: float, share: float) -> None:
    heights = random.Random(seed)
    bump = [1 + bumps * heights.uniform(-1, 1) for _ in range(512)]
    write = Writer(lambda step: bump[int(step * 2) % 512] * (300 + 400_000 / step))
    size = math.ceil(share * write.size_at(FINEST))
    try:
        step, data = best_within(write, size, FINEST, COARSEST)
    except RateError as error:
        assert error.smallest == len(write(COARSEST))
        assert error.smallest > size
        return
    assert len(data) <= size
    assert len(data) == round(write.size_at(step))
    assert len(write.steps) <= TRIES + 1


def test_a_staircase_ends_on_the_highest_stair_that_fits() -> None:
    write = Writer(lambda step: 1000 * math.ceil(40 / step))
    step, data = best_within(write, 4999, FINEST, COARSEST)
    assert len(data) == 4000
    assert step == pytest.approx(10, rel=0.35)


def test_more_than_the_finest_needs_gives_the_finest() -> None:
    write = Writer(power(100_000, 1, 300))
    step, data = best_within(write, 10**9, FINEST, COARSEST)
    assert step == FINEST
    assert len(data) == 25_300
    assert len(write.steps) <= 3


def test_too_small_a_size_names_the_smallest() -> None:
    write = Writer(power(100_000, 1, 300))
    with pytest.raises(RateError, match=r"100 bytes are too few .* smallest size is 692 bytes") as caught:
        best_within(write, 100, FINEST, COARSEST)
    assert caught.value.smallest == 692
    assert len(write.steps) <= 4


def test_the_smallest_size_itself_is_met() -> None:
    write = Writer(power(100_000, 1, 300))
    _, data = best_within(write, 692, FINEST, COARSEST)
    assert len(data) == 692
    with pytest.raises(RateError):
        best_within(write, 691, FINEST, COARSEST)


def test_a_constant_size_is_met_or_refused() -> None:
    write = Writer(lambda step: 500)
    assert len(best_within(write, 500, FINEST, COARSEST)[1]) == 500
    with pytest.raises(RateError):
        best_within(write, 499, FINEST, COARSEST)
