"""The integer tables of a learned codec's model, by which both sides know how likely each symbol is.

They are computed once, after training, and ship with the model: what is looked up is the same on every machine.
A table cuts 0 to 2^16 into intervals, one for each symbol of a run of integers from `low` on, and a last one, the
escape, for all other integers; an interval's length over 2^16 is its probability.
"""

import io
import zipfile
from dataclasses import dataclass, field, fields
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from corec.errors import ModelError
from corec.runtime import checked

TOTAL = 1 << 16
NUMBERS = 1 << 16
"""Most tables: their numbers have 16 bits."""
LEVELS = 256
"""Most levels: a level is a byte of the file."""


@dataclass(frozen=True, eq=False)
class Tables:
    """The gains of N channels of latents at L levels, and T tables, one after another in cdf."""

    gain: np.ndarray
    """float32 (L, N), above 0: what latents are multiplied by before they are rounded. Level 0 is the coarsest."""
    cdf: np.ndarray
    """uint32: where the intervals begin and end; each table goes from 0 to TOTAL and rises strictly."""
    start: np.ndarray
    """int64 (T + 1,): where each table begins in cdf, and the end of the last."""
    low: np.ndarray
    """int32 (T,): the symbol of each table's first interval."""
    transposed: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    """int64 (N,): which latent takes the place of each where a picture's rows and columns are exchanged; empty where
    latents know nothing of that."""
    worth: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))
    """float32 (L,), above 0: the bits a pixel that a squared error of one level of 255 is worth at each level; empty
    where that is not known."""

    def __post_init__(self) -> None:
        kinds = (("gain", np.float32, 2), ("cdf", np.uint32, 1), ("start", np.int64, 1), ("low", np.int32, 1))
        optional = (("transposed", np.int64, 1), ("worth", np.float32, 1))
        for name, kind, rank in (*kinds, *optional):
            array = getattr(self, name)
            if array.dtype != kind or array.ndim != rank or not (array.size or (name, kind, rank) in optional):
                raise ModelError(f"the tables' {name} is {array.dtype} of shape {array.shape}")
        pairs = self.transposed
        if len(pairs) and not np.array_equal(pairs[pairs.clip(0, len(pairs) - 1)], np.arange(self.gain.shape[1])):
            raise ModelError("the tables exchange rows and columns of a picture, and twice that is another one")
        if len(self.gain) > LEVELS or not (np.isfinite(self.gain) & (self.gain > 0)).all():
            raise ModelError(f"the tables have gains that are not positive numbers, or more than {LEVELS} levels")
        if len(self.worth) not in (0, len(self.gain)) or not (np.isfinite(self.worth) & (self.worth > 0)).all():
            raise ModelError("the tables do not say of every level what a squared error is worth")
        if not 1 <= len(self.low) == len(self.start) - 1 <= NUMBERS:
            raise ModelError(f"there are {len(self.low)} tables of symbols, and {len(self.start)} limits of them")
        if self.start[0] != 0 or self.start[-1] != len(self.cdf) or (np.diff(self.start) < 3).any():
            raise ModelError("the tables do not follow each other, or one has no symbol")
        first, last = self.start[:-1], self.start[1:] - 1
        rises = np.diff(self.cdf.astype(np.int64)) > 0
        rises[first[1:] - 1] = True  # from the end of a table to the beginning of the next
        if self.cdf[first].any() or (self.cdf[last] != TOTAL).any() or not rises.all():
            raise ModelError(f"a table does not rise from 0 to {TOTAL}")
        if (self.low.astype(np.int64) + self.symbols > 1 << 31).any():
            raise ModelError("a table has symbols beyond 32 bits")

    @cached_property
    def symbols(self) -> np.ndarray:
        """int64 (T,): how many symbols each table has, the escape not counted."""
        return np.diff(self.start) - 2

    @cached_property
    def bits(self) -> np.ndarray:
        """float64, as long as cdf: what each interval costs, at the place where it begins."""
        lengths = np.diff(self.cdf.astype(np.float64), append=0.0)
        lengths[self.start[1:] - 1] = 1  # the end of a table begins no interval
        return np.log2(TOTAL / lengths)

    def exchanged(self, latents: np.ndarray) -> np.ndarray:
        """Latents (h, w, N) as they are where a picture's rows and columns are exchanged: (w, h, N)."""
        return latents.transpose(1, 0, 2)[..., self.transposed]

    def lengths(self, number: int) -> np.ndarray:
        """int64: the lengths of a table's intervals, the escape's last; TOTAL together."""
        return np.diff(self.cdf[self.start[number] : self.start[number + 1]].astype(np.int64))

    def intervals(self, symbols: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """The intervals of int32 symbols (n,) in the tables of these numbers (n,): int64 (n,), from 0 on."""
        places = symbols.astype(np.int64) - self.low[numbers]
        sizes = self.symbols[numbers]
        return np.where((places < 0) | (places > sizes), sizes, places)


@lru_cache(maxsize=4)
def tables(path: Path, sha256: str) -> Tables:
    """The tables of a file whose checksum must agree. Raises ModelError."""
    return read_tables(checked(path, sha256))


def read_tables(data: bytes) -> Tables:
    """The tables in the bytes of a file, NumPy's .npz with the arrays by their names. Raises ModelError."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as parts:
            return Tables(**{each.name: parts[each.name] for each in fields(Tables) if each.name in parts})
    except (OSError, ValueError, TypeError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise ModelError(f"the tables cannot be read: {error}") from error
