"""The levels that the JPEG encoder chooses: the cheapest of all, by brute force."""

import itertools

import numpy as np
import pytest

from corec.codecs import trellis


def random_blocks(count: int, significant: int, seed: int) -> np.ndarray:
    """Coefficients in units of their steps (B, 63), a few of which may become significant."""
    random = np.random.default_rng(seed)
    exact = random.uniform(-0.49, 0.49, (count, 63))
    for block in exact:
        at = random.choice(63, significant, replace=False)
        block[at] = random.laplace(scale=1.5, size=significant)
    return exact.astype(np.float32)


def cost(exact: np.ndarray, levels: np.ndarray, lengths: np.ndarray, end: float) -> float:
    """What one block costs, added up along the zigzag."""
    total = float(np.square(np.abs(exact) - np.abs(levels)).sum())
    before = -1
    for k in np.flatnonzero(levels):
        total += lengths[k - before - 1, int(np.abs(levels[k])).bit_length()]
        before = k
    return total + (end if before < 62 else 0)


@pytest.mark.parametrize("seed", range(5))
def test_no_other_choice_of_levels_is_cheaper(seed: int) -> None:
    exact = random_blocks(6, 5, seed)
    lengths, end = trellis.code_lengths(np.floor(np.abs(random_blocks(50, 9, seed + 100)) + 0.5).astype(np.int64))
    found = trellis.cheapest(np.abs(exact), 0.1 * lengths, 0.1 * end)
    for block, levels in zip(exact, found, strict=True):
        nearest = np.floor(np.abs(block) + 0.5)
        choices = [{0.0, n, max(n - 1, 1.0)} if n else {0.0} for n in nearest]
        least = min(cost(block, np.array(c), 0.1 * lengths, 0.1 * end) for c in itertools.product(*choices))
        assert cost(block, levels, 0.1 * lengths, 0.1 * end) == pytest.approx(least, rel=1e-4)


def test_levels_keep_their_signs_and_stay_near() -> None:
    exact = random_blocks(200, 12, 7)
    levels = trellis.quantise(exact)
    assert np.all(levels * exact >= 0)
    assert np.all(np.abs(levels) <= np.floor(np.abs(exact) + 0.5))
    assert np.any(levels) and np.array_equal(levels, np.rint(levels))


def test_free_bits_leave_plain_rounding() -> None:
    exact = random_blocks(50, 20, 3)
    levels = trellis.cheapest(np.abs(exact), np.zeros((63, 12)), 0.0)
    assert np.array_equal(levels, np.floor(np.abs(exact) + 0.5))


def test_an_empty_block_and_a_full_one() -> None:
    exact = np.stack([np.zeros(63), np.full(63, 9.0)]).astype(np.float32)
    assert np.array_equal(trellis.quantise(exact), exact)


def test_code_lengths_follow_the_statistics() -> None:
    levels = np.zeros((100, 63), np.int64)
    levels[:, 0] = 1  # every block: run 0, category 1, then the end
    levels[0, 40] = 5  # one run of 39 zeros: two of sixteen, then seven; category 3
    lengths, end = trellis.code_lengths(levels)
    assert lengths[0, 1] == pytest.approx(1 + np.log2((101 + 2 + 100 + 20) / 100.2) + trellis.LISTED / 101)
    assert lengths[39, 3] > lengths[7, 3] > lengths[0, 1]
    assert end == pytest.approx(np.log2((101 + 2 + 100 + 20) / 100.2) + trellis.LISTED / 101)


def test_the_zigzag_is_that_of_the_standard() -> None:
    assert trellis.ZIGZAG[:10].tolist() == [0, 1, 8, 16, 9, 2, 3, 10, 17, 24]
    assert trellis.ZIGZAG[-4:].tolist() == [47, 55, 62, 63]
    assert sorted(trellis.ZIGZAG) == list(range(64))
