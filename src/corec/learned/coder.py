"""Symbols <-> bytes, by the range coder of the package constriction and a model's integer tables.

Symbols come in pieces, each with the numbers of its tables. Within a piece those of the lowest table come first, which
is what makes it quick: all symbols of a table are one call. Integers that have no interval in their table are coded as
its escape, and follow the piece in Exp-Golomb bits.

constriction takes floating-point probabilities and quantises them to 24 bits. It gives every interval one unit, and
distributes the other 2^24 - n as they are distributed in the probabilities: floor(cumulative sum * scale). They are
whole numbers here and sum to 2^24 - n, so that scale is 1 and every sum is exact in any order: nothing is rounded.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np

from corec.errors import CodecError, MissingExtraError
from corec.learned.tables import TOTAL, Tables

UNIT = (1 << 24) // TOTAL
"""constriction's units in one of ours."""
LONGEST = 33
"""Bits behind the first one of the largest Exp-Golomb number: of an escape from one end of 32 bits to the other."""
WORD = 4
"""Bytes that the range coder writes at a time."""


class Encoder:
    """Pieces of symbols -> bytes."""

    def __init__(self, tables: Tables) -> None:
        package = constriction()
        self.models = Models(tables, package)
        self.encoder = package.stream.queue.RangeEncoder()

    def encode(self, symbols: np.ndarray, numbers: np.ndarray) -> None:
        """One piece: symbols int32 (n,), in tables of these numbers (n,)."""
        order = np.argsort(numbers, kind="stable")
        symbols, numbers = symbols[order], numbers[order]
        tables = self.models.tables
        intervals = tables.intervals(symbols, numbers)
        for number, run in runs(numbers):
            self.encoder.encode(intervals[run].astype(np.int32), self.models.of(number))
        escaped = intervals == tables.symbols[numbers]
        for bits in exp_golomb(distances(tables, symbols[escaped], numbers[escaped])):
            self.encoder.encode(bits.astype(np.int32), self.models.fair)

    def finish(self) -> bytes:
        """The bytes of all pieces: as few as name, with zeros behind them, a number in the range coder's interval."""
        words = self.encoder.get_compressed()
        if not len(words):
            return b""
        # The interval's last 64 bits, modulo 2^64. The coder takes the first number of a whole word in it.
        at, (lower, extent) = self.encoder.pos()
        chosen = first = rounded_up(lower, 32)
        for zeros in (40, 48, 56):
            shorter = rounded_up(lower, zeros)
            if shorter < lower + extent and shorter >> 64 == first >> 64:  # no other carry into the words before
                chosen = shorter
        words[at] = chosen >> 32 & 0xFFFFFFFF
        return bytes(words[: at + 1].astype(">u4").tobytes().rstrip(b"\0"))


class Decoder:
    """Bytes -> pieces of symbols."""

    def __init__(self, tables: Tables, data: bytes) -> None:
        package = constriction()
        self.models = Models(tables, package)
        words = np.frombuffer(data + bytes(-len(data) % WORD), ">u4").astype(np.uint32)
        self.decoder = package.stream.queue.RangeDecoder(words)

    def decode(self, numbers: np.ndarray) -> np.ndarray:
        """One piece: int32 symbols (n,), in tables of these numbers (n,). Raises CodecError for bytes of no encoder."""
        order = np.argsort(numbers, kind="stable")
        numbers = numbers[order]
        tables = self.models.tables
        intervals = np.empty(len(numbers), np.int64)
        for number, run in runs(numbers):
            intervals[run] = self._decoded(self.models.of(number), run.stop - run.start)
        found = intervals + tables.low[numbers]
        escaped = intervals == tables.symbols[numbers]
        if escaped.any():
            found[escaped] = symbols_at(tables, self._exp_golomb(int(escaped.sum())), numbers[escaped])
        symbols = np.empty(len(numbers), np.int32)
        symbols[order] = found
        return symbols

    def _decoded(self, model: Any, count: int) -> np.ndarray:
        try:
            return np.asarray(self.decoder.decode(model, count))
        except AssertionError as error:
            raise CodecError("the file is damaged: its symbols cannot be decoded") from error

    def _exp_golomb(self, count: int) -> np.ndarray:
        """So many numbers from 0 on, the inverse of exp_golomb()."""
        lengths = np.zeros(count, np.int64)
        going = np.arange(count)
        while len(going):
            going = going[self._decoded(self.models.fair, len(going)) == 1]
            lengths[going] += 1
            if lengths.max() > LONGEST:
                raise CodecError("the file is damaged: one of its symbols has more than 32 bits")
        values = np.ones(count, np.int64)
        for place in reversed(range(lengths.max())):
            longer = np.flatnonzero(lengths > place)
            values[longer] = values[longer] << 1 | self._decoded(self.models.fair, len(longer))
        return values - 1


class Models:
    """The tables as constriction's models, each made when it is first used."""

    def __init__(self, tables: Tables, package: Any) -> None:
        self.tables = tables
        self.fair = package.stream.model.Uniform(2)
        """Of single bits."""
        self._categorical = package.stream.model.Categorical
        self._made: dict[int, Any] = {}

    def of(self, number: int) -> Any:
        """The model of the table of this number."""
        if number not in self._made:
            weights = UNIT * self.tables.lengths(number) - 1
            self._made[number] = self._categorical(weights.astype(np.float64), lazy=False, perfect=False)
        return self._made[number]


def constriction() -> Any:
    """The package. Raises MissingExtraError."""
    try:
        import constriction as package
    except ImportError as error:
        raise MissingExtraError("constriction is not installed: pip install 'corec[learned]'") from error
    return package


def bits_of(tables: Tables, symbols: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """What each symbol costs, float64, of the shape that symbols and numbers have."""
    intervals = tables.intervals(symbols, numbers)
    bits = tables.bits[tables.start[numbers] + intervals]
    escaped = intervals == tables.symbols[numbers]
    bits[escaped] += 2 * bit_lengths(distances(tables, symbols[escaped], numbers[escaped]) + 1) - 1
    return bits


def cost(tables: Tables, symbols: np.ndarray, numbers: np.ndarray) -> float:
    """The bits of a piece, to within what the range coder adds: less than 0.1 % and 4 bytes."""
    return float(bits_of(tables, symbols, numbers).sum())


def runs(numbers: np.ndarray) -> Iterator[tuple[int, slice]]:
    """The numbers that occur in a rising array, and where."""
    limits = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(numbers)]
    for begin, end in pairwise(limits):
        yield int(numbers[begin]), slice(begin, end)


def distances(tables: Tables, symbols: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """How far int32 symbols (n,) lie outside their tables: even above it (0 is next to it), odd below; int64 (n,)."""
    below = tables.low[numbers].astype(np.int64)
    above = below + tables.symbols[numbers]
    return np.where(symbols >= above, 2 * (symbols - above), 2 * (below - 1 - symbols) + 1)


def symbols_at(tables: Tables, distances: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """The inverse of distances(). Raises CodecError for symbols that int32 cannot hold."""
    below = tables.low[numbers].astype(np.int64)
    above = below + tables.symbols[numbers]
    found = np.where(distances % 2, below - 1 - distances // 2, above + distances // 2)
    if (found != found.astype(np.int32)).any():
        raise CodecError("the file is damaged: one of its symbols has more than 32 bits")
    return found


def exp_golomb(values: np.ndarray) -> Iterator[np.ndarray]:
    """The bits of numbers from 0 on, int64 (n,), in the order in which they are coded.

    A number v has as many ones as v + 1 has binary digits behind its first one, a zero, and those digits. First come
    the first bits of all numbers, then the second ones of those that go on, and so on to the last zero; then the
    digits of each place, from the highest, of the numbers that have one there.
    """
    values = values + 1
    lengths = bit_lengths(values) - 1
    longest = int(lengths.max(initial=-1))
    for place in range(longest + 1):
        yield lengths[lengths >= place] > place
    for place in reversed(range(longest)):
        yield values[lengths > place] >> place & 1


def bit_lengths(values: np.ndarray) -> np.ndarray:
    """Binary digits of numbers from 1 to 2^52."""
    return np.frexp(values.astype(np.float64))[1].astype(np.int64)


def rounded_up(value: int, zeros: int) -> int:
    """The least number from value on whose lowest bits are so many zeros."""
    return -(-value >> zeros) << zeros
