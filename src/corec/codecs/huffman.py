"""Huffman codes as JPEG has them (ITU-T T.81, annex C): of at most 16 bits, told by their lengths."""

import heapq

import numpy as np

LONGEST = 16


def cost(counts: np.ndarray) -> int:
    """Bits of symbols (256,) by a table of their own, and of that table."""
    lengths = code_lengths(counts)
    return int(counts @ lengths + 8 * (17 + np.count_nonzero(lengths)))


def code_lengths(counts: np.ndarray) -> np.ndarray:
    """Lengths of a Huffman code for symbols by how often they occur (256,); 0 for those that do not."""
    lengths = np.zeros(256, np.int64)
    used = np.flatnonzero(counts)
    weights = counts[used].tolist()
    while True:
        # One code more, of the longest: that of ones alone may not be used.
        heap: list[tuple[int, int, tuple[int, ...]]] = [
            (weight, index, (index,)) for index, weight in enumerate([*weights, 0])
        ]
        heapq.heapify(heap)
        depths = [0] * len(heap)
        while len(heap) > 1:
            (one, _, rarer), (other, index, common) = heapq.heappop(heap), heapq.heappop(heap)
            for leaf in rarer + common:
                depths[leaf] += 1
            heapq.heappush(heap, (one + other, index + 512, rarer + common))
        if max(depths) <= LONGEST:
            lengths[used] = depths[:-1]
            return lengths
        weights = [-(-weight // 2) for weight in weights]


def codes(lengths: np.ndarray) -> np.ndarray:
    """The codes of these lengths (256,) (T.81, C.2)."""
    found = np.zeros(256, np.int64)
    code = length = 0
    for symbol in in_order(lengths):
        code <<= int(lengths[symbol]) - length
        length = int(lengths[symbol])
        found[symbol] = code
        code += 1
    return found


def table(kind: int, lengths: np.ndarray) -> bytes:
    """A Huffman table of a class, as number 0 (T.81, B.2.4.2)."""
    return bytes([16 * kind, *np.bincount(lengths, minlength=LONGEST + 1)[1:], *in_order(lengths)])


def in_order(lengths: np.ndarray) -> np.ndarray:
    """Symbols that have a code, by its length."""
    order = np.argsort(lengths, kind="stable")
    return order[lengths[order] > 0]
