"""Rate-distortion optimised quantisation of JPEG's AC coefficients.

Each block takes the levels of least squared error + WEIGHT * bits, found by dynamic programming over the
zigzag order (Viterbi, as in Ramchandran and Vetterli 1994). A level is the nearest whole number, one
less, or zero; bits are those of the image's own Huffman statistics after a plain first quantisation.
"""

import numpy as np

ZIGZAG = np.array(sorted(range(64), key=lambda i: (i // 8 + i % 8, i // 8 if (i // 8 + i % 8) % 2 else i % 8)))
"""Row-order index of each coefficient in the order of the file (T.81, figure A.6)."""
WEIGHT = 0.09
"""Squared error, in squared steps, that a bit is worth. Measured best on held-out photographs; a uniform
quantiser's slope at high rates is 0.116."""
SIGNIFICANT, DOUBLED = 4.0, 1.6
"""Bits that a level takes which is not 0, and more for every time that it and 1 is doubled."""
LISTED = 8.0
"""Bits that a code takes in the table: what is rare had better not be there at all."""
FIRST = 0.45
"""Fractions from 1 - FIRST are rounded up in the first quantisation."""


def quantise(exact: np.ndarray, price: float = 1.0, weighed: np.ndarray | None = None) -> np.ndarray:
    """Levels (B, 63), whole numbers, of AC coefficients (B, 63) in units of their steps, in zigzag order.

    price: by how much more than usually bits are worth. weighed: bool (B,), blocks whose bits count; levels of others
    are the nearest.
    """
    size = np.abs(exact)
    lengths, end = code_lengths(np.floor(size + FIRST).astype(np.int64))
    price *= WEIGHT
    if weighed is None:
        return np.copysign(cheapest(size, price * lengths, price * end), exact)
    levels = np.floor(size + 0.5)
    levels[weighed] = cheapest(size[weighed], price * lengths, price * end)
    return np.copysign(levels, exact)


def code_lengths(levels: np.ndarray) -> tuple[np.ndarray, float]:
    """What coding costs with tables made for these levels (B, 63), all of them 0 or more.

    Returns bits (63, 12) by run of zeros and by category, the level's own bits included, and the bits
    of an end of block.
    """
    blocks, positions = np.nonzero(levels)
    before = np.where(np.diff(blocks, prepend=-1) != 0, -1, np.concatenate([[-1], positions[:-1]]))
    runs = positions - before - 1
    counts = np.zeros((16, 12))
    np.add.at(counts, (runs % 16, category(levels[blocks, positions])), 1)
    long_runs = (runs // 16).sum()
    last = np.full(len(levels), -1)
    last[blocks] = positions
    ends = (last < 62).sum()
    total = counts.sum() + long_runs + ends + 20

    def length(count: np.ndarray) -> np.ndarray:
        return np.clip(np.log2(total / (count + 0.2)), 1, 16) + LISTED / (count + 1)

    run = np.arange(63)
    table = length(counts)[run % 16] + length(long_runs) * (run // 16)[:, None] + np.arange(12)
    return table, float(length(ends))


def bits(levels: np.ndarray) -> np.ndarray:
    """About what blocks (..., 64) of levels of 0 or more cost in a file that has mostly zeros: (...)."""
    return np.asarray(SIGNIFICANT * (levels > 0).sum(-1) + DOUBLED * np.log2(1 + levels).sum(-1))


def category(levels: np.ndarray) -> np.ndarray:
    """Number of binary digits of whole numbers from 0 (T.81, table F.2), 11 at most."""
    return np.minimum(np.frexp(levels)[1], 11)


def cheapest(size: np.ndarray, lengths: np.ndarray, end: float) -> np.ndarray:
    """The levels (B, 63) of least cost for coefficients of these sizes, given the costs of codes.

    best[k] is the least cost of a block whose k-th coefficient is its last significant one (0: none),
    counted from what zeroing the first k would cost; came[k] is the significant one before.
    """
    count = len(size)
    zeroed = np.zeros((64, count), np.float32)
    np.cumsum(np.square(size.T), 0, out=zeroed[1:])
    best = np.full((64, count), np.inf, np.float32)
    best[0] = 0
    came = np.zeros((64, count), np.int8)
    value = np.zeros((64, count), np.int16)
    for k in range(63):
        active = np.flatnonzero(size[:, k] >= 0.5)
        exact = size[active, k]
        saved = zeroed[k, active] - zeroed[k + 1, active]
        earlier = best[: k + 1, active]
        runs = k - np.arange(k + 1)
        nearest = np.floor(exact + 0.5)
        for level in (nearest, np.maximum(nearest - 1, 1)):
            costs = earlier + lengths[runs][:, category(level)]
            source = costs.argmin(0)
            cost = costs[source, np.arange(len(active))] + np.square(exact - level) + saved
            better = cost < best[k + 1, active]
            chosen = active[better]
            best[k + 1, chosen] = cost[better]
            came[k + 1, chosen] = source[better]
            value[k + 1, chosen] = level[better]
    best[:63] += end
    return traced(best.argmin(0), came, value)


def traced(last: np.ndarray, came: np.ndarray, value: np.ndarray) -> np.ndarray:
    """The levels (B, 63) on the way back from each block's last significant coefficient."""
    levels = np.zeros((len(last), 63), np.float32)
    block = np.flatnonzero(last)
    at = last[block]
    while len(block):
        levels[block, at - 1] = value[at, block]
        at = came[at, block]
        block, at = block[at > 0], at[at > 0]
    return levels
