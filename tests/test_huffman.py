"""Huffman codes: as short as Huffman's, and as JPEG allows them."""

from fractions import Fraction

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from corec.codecs import huffman


def lengths_of(*counts: int) -> list[int]:
    return huffman.code_lengths(np.bincount(range(len(counts)), counts, 256)).tolist()[: len(counts)]


def test_codes_are_huffmans_without_that_of_ones_alone() -> None:
    assert lengths_of(5) == [1]
    assert lengths_of(1, 1) == [2, 1] or lengths_of(1, 1) == [1, 2]
    assert lengths_of(8, 4, 2, 1) == [1, 2, 3, 4]
    assert lengths_of(4, 0, 1, 1, 1, 1) == [1, 0, 3, 3, 3, 4] or sorted(lengths_of(4, 0, 1, 1, 1, 1)) == [
        0,
        1,
        3,
        3,
        3,
        4,
    ]


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=256).filter(any))
@example([2**power for power in range(40)])
@example([1] * 256)
def test_codes_are_no_longer_than_jpeg_allows_and_can_be_told_apart(counts: list[int]) -> None:
    lengths = lengths_of(*counts)
    assert [length > 0 for length in lengths] == [count > 0 for count in counts]
    assert max(lengths) <= 16
    assert sum(Fraction(1, 1 << length) for length in lengths if length) <= 1 - Fraction(1, 1 << max(lengths))
    total, weights = sum(counts), np.array([count for count in counts if count])
    taken = sum(count * length for count, length in zip(counts, lengths, strict=True))
    assert (
        taken <= (weights * np.log2(total / weights)).sum() * 1.02 + total
    )  # a bit more than the entropy each, at most


def test_codes_count_up_by_length_as_decoders_count() -> None:
    lengths = np.zeros(256, np.int64)
    lengths[[7, 3, 0, 200]] = 1, 3, 3, 2
    assert [f"{huffman.codes(lengths)[symbol]:0{lengths[symbol]}b}" for symbol in (7, 200, 0, 3)] == [
        "0",
        "10",
        "110",
        "111",
    ]
    assert huffman.table(1, lengths) == bytes([0x10, 1, 1, 2, *[0] * 13, 7, 200, 0, 3])
    assert huffman.cost(np.bincount([7] * 5 + [200], minlength=256)) == 5 * 1 + 1 * 2 + 8 * (17 + 2)
