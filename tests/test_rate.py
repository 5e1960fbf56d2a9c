"""The search for a size: never a byte over, close below, and few files written."""

import math
import random
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corec.errors import RateError
from corec.forecast import Forecast
from corec.rate import TRIES, Try, best_within

FINEST, COARSEST = 4.0, 255.0
FORECAST = Forecast(np.log([COARSEST, FINEST]), np.log(500_000 / np.array([COARSEST, FINEST])))
"""Not that of any test: 500,000 bytes over the step."""


class Writer:
    """Writes files whose size is a function of the step, and keeps count."""

    def __init__(self, size_at: Callable[[float], float]) -> None:
        self.size_at, self.steps = size_at, []

    def __call__(self, step: float) -> bytes:
        assert FINEST <= step <= COARSEST
        self.steps.append(step)
        return bytes(round(self.size_at(step)))


def search(write: Callable[[float], bytes], size: int, settle: Callable[[float], float] = float) -> Try:
    return best_within(write, size, FORECAST, FINEST, COARSEST, settle)


def power(scale: float, slope: float, header: float) -> Callable[[float], float]:
    return lambda step: header + scale * step**-slope


@settings(max_examples=500, deadline=None)
@given(st.floats(1e4, 1e7), st.floats(0.6, 1.6), st.floats(100, 700), st.floats(0, 1))
def test_a_smooth_curve_is_met_closely_in_few_files(scale: float, slope: float, header: float, where: float) -> None:
    write = Writer(power(scale, slope, header))
    size = math.ceil(write.size_at(FINEST * (COARSEST / FINEST) ** where)) + 1
    step, data = search(write, size)
    assert len(data) <= size
    assert len(data) == round(write.size_at(step))
    if size > 2 * header + 1000:  # below, the header hides the slope, and files are small
        assert len(data) >= min(0.99 * size, write.size_at(FINEST) - 1)
        assert len(write.steps) <= 10


@settings(max_examples=200, deadline=None)
@given(st.floats(300, 5e3), st.floats(0.6, 1.6), st.floats(200, 700), st.floats(0.02, 1))
def test_small_files_of_large_headers_fill_their_bytes_too(
    scale: float, slope: float, header: float, where: float
) -> None:
    write = Writer(power(scale, slope, header))
    size = math.ceil(write.size_at(COARSEST * (FINEST / COARSEST) ** where)) + 1
    _, data = search(write, size)
    assert 0.97 * size <= len(data) <= size


def test_four_files_are_the_rule() -> None:
    counts = []
    for size in range(4000, 60_000, 500):
        write = Writer(power(800_000, 1.1, 300))
        search(write, size)
        counts.append(len(write.steps))
    assert sum(counts) / len(counts) <= 4


def test_a_forecast_that_is_right_but_for_a_factor_takes_two() -> None:
    for size in range(4000, 60_000, 500):
        write = Writer(power(800_000, 1, 0))
        assert len(search(write, size).data) >= 0.999 * size
        assert len(write.steps) <= 2


@pytest.mark.parametrize("ratio", [1.06, 1.5])
def test_a_codec_of_few_steps_is_asked_for_none_twice_and_for_none_it_lacks(ratio: float) -> None:
    steps = [FINEST * ratio**power for power in range(math.floor(math.log(COARSEST / FINEST, ratio)) + 1)]

    def settle(step: float) -> float:
        return min(steps, key=lambda known: abs(math.log(known / step)))

    counts = []
    for size in range(3000, 60_000, 500):
        write = Writer(power(400_000, 0.9, 300))
        try:
            step, data = search(write, size, settle)
        except RateError as error:
            assert error.smallest == len(write(steps[-1]))
            continue
        assert len(set(write.steps)) == len(write.steps)
        assert set(write.steps) <= set(steps)
        finer = [known for known in steps if known < step]
        assert len(data) <= size
        assert not finer or len(write(finer[-1])) > size
        counts.append(len(write.steps))
    assert sum(counts) / len(counts) <= 5


@settings(max_examples=500, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0, 0.2), st.floats(0.001, 1))
def test_a_curve_with_bumps_is_never_over(seed: int, bumps: float, share: float) -> None:
    heights = random.Random(seed)
    bump = [1 + bumps * heights.uniform(-1, 1) for _ in range(512)]
    write = Writer(lambda step: bump[int(step * 2) % 512] * (300 + 400_000 / step))
    size = math.ceil(share * write.size_at(FINEST))
    try:
        step, data = search(write, size)
    except RateError as error:
        assert error.smallest == len(write(COARSEST))
        assert error.smallest > size
        return
    assert len(data) <= size
    assert len(data) == round(write.size_at(step))
    assert len(write.steps) <= TRIES + 1


def test_a_staircase_ends_on_the_highest_stair_that_fits() -> None:
    write = Writer(lambda step: 1000 * math.ceil(40 / step))
    step, data = search(write, 4999)
    assert len(data) == 4000
    assert step == pytest.approx(10, rel=0.35)


def test_more_than_the_finest_needs_gives_the_finest() -> None:
    write = Writer(power(100_000, 1, 300))
    step, data = search(write, 10**9)
    assert step == FINEST
    assert len(data) == 25_300
    assert len(write.steps) <= 3


def test_the_finest_step_is_the_best_though_a_coarser_file_is_longer() -> None:
    write = Writer(lambda step: 399 + 2 * (step > FINEST))
    assert search(write, 1000).step == FINEST


def test_too_small_a_size_names_the_smallest() -> None:
    write = Writer(power(100_000, 1, 300))
    with pytest.raises(RateError, match=r"100 bytes are too few .* smallest size is about 692 bytes") as caught:
        search(write, 100)
    assert caught.value.smallest == 692
    assert len(write.steps) <= 4


def test_the_smallest_size_itself_is_met() -> None:
    write = Writer(power(100_000, 1, 300))
    _, data = search(write, 692)
    assert len(data) == 692
    with pytest.raises(RateError):
        search(write, 691)


def test_a_constant_size_is_met_or_refused() -> None:
    write = Writer(lambda step: 500)
    assert len(search(write, 500)[1]) == 500
    with pytest.raises(RateError):
        search(write, 499)
