"""Integer tables for the range coder, made from trained probabilities: what both ends of a file share."""

from collections.abc import Iterable, Sequence

import numpy as np

from corec.learned.tables import TOTAL


def integer_cdf(masses: np.ndarray) -> np.ndarray:
    """Cumulated intervals, (n + 1,) uint32 from 0 to 2^16, as near as can be to n probabilities that add up to 1.

    Every interval is 1 at least; what is left over by rounding down goes where most was lost.
    """
    shares = masses * (TOTAL - len(masses))
    intervals = np.floor(shares).astype(np.int64)
    missing = TOTAL - len(masses) - int(intervals.sum())
    intervals[np.argsort(intervals - shares, kind="stable")[:missing]] += 1
    return np.concatenate([[0], np.cumsum(intervals + 1)]).astype(np.uint32)


def table(masses: np.ndarray, first: int) -> tuple[np.ndarray, int]:
    """A table of the probabilities (n,) of the symbols first, first + 1, …: its cdf and its lowest symbol.

    Symbols get an interval while they deserve half of one; those further out share the last one, the escape.
    """
    likely = np.flatnonzero(masses >= 0.5 / TOTAL)
    low, high = int(likely[0]), int(likely[-1])
    kept = masses[low : high + 1]
    return integer_cdf(np.append(kept, max(0.0, 1 - kept.sum())) / max(1.0, kept.sum())), first + low


def packed(
    gain: np.ndarray,
    probabilities: Iterable[tuple[np.ndarray, int]],
    transposed: Sequence[int] = (),
    worth: Sequence[float] = (),
) -> dict[str, np.ndarray]:
    """The arrays of a model's tables file: gain (levels, channels), every table of `probabilities`, in order,
    Tables.transposed and Tables.worth.

    Gains keep eleven bits, which halves their part of the file.
    """
    tables = [table(masses, first) for masses, first in probabilities]
    return {
        "gain": gain.astype(np.float16).astype(np.float32),
        "cdf": np.concatenate([cdf for cdf, _ in tables]),
        "start": np.cumsum([0, *(len(cdf) for cdf, _ in tables)], dtype=np.int64),
        "low": np.array([low for _, low in tables], np.int32),
        "transposed": np.array(transposed, np.int64),
        "worth": np.array(worth, np.float32),
    }
