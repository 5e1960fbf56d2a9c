"""Integer tables and the range coder: nothing is rounded, nothing lost, the bytes are as docs/format.md has them."""

import io
from fractions import Fraction
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tiny import picture
from tiny_learned import KINDS, table, tables_of, tiny_zoo

from corec import models
from corec.errors import CodecError, ModelError
from corec.learned import prior
from corec.learned.codec import Latents, decoded
from corec.learned.codec import tables_of as tables_of_model
from corec.learned.coder import Decoder, Encoder, cost, distances, exp_golomb, symbols_at
from corec.learned.format import unpack
from corec.learned.tables import TOTAL, Tables, read_tables
from corec.models import Learned, learned_named
from corec.runtime import Network

FEW = tables_of([table(0.2, 1), table(3, 10), table(40, 2), table(100, 300)])
"""One of them nearly certain, one of which most symbols fall outside, one of many symbols."""
UNEVEN = tables_of(
    [
        (0, np.array([0, 1, TOTAL])),
        (-5, np.array([0, TOTAL - 1, TOTAL])),
        (7, np.arange(TOTAL + 1)),
        (2**31 - 2, np.array([0, 3, 40_000, TOTAL])),
        (-(2**31), np.array([0, 3, TOTAL])),
    ]
)
"""The limits: lengths of 1 and all but 1, as many intervals as there can be, symbols at both ends of 32 bits."""
INT32 = st.integers(-(2**31), 2**31 - 1)
SYMBOLS = st.one_of(st.integers(-12, 12), st.integers(-400, 400), INT32, st.sampled_from([-(2**31), 2**31 - 1]))


def there_and_back(tables: Tables, pieces: list[tuple[np.ndarray, np.ndarray]]) -> bytes:
    encoder = Encoder(tables)
    for symbols, numbers in pieces:
        encoder.encode(symbols, numbers)
    data = encoder.finish()
    decoder = Decoder(tables, data)
    for symbols, numbers in pieces:
        got = decoder.decode(numbers)
        assert got.dtype == np.int32
        np.testing.assert_array_equal(got, symbols)
    return data


def arrays(pairs: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Symbols and numbers of tables."""
    return np.array([s for s, _ in pairs], np.int32), np.array([n for _, n in pairs], np.uint16)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(st.tuples(SYMBOLS, st.integers(0, 3)), min_size=1, max_size=60), max_size=3))
@example([[(-(2**31), 0), (2**31 - 1, 0)]])
@example([[(0, 0)] * 2000])
@example([])
def test_any_integers_come_back(pieces: list[list[tuple[int, int]]]) -> None:
    there_and_back(FEW, [arrays(piece) for piece in pieces])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(SYMBOLS, st.integers(0, 4)), min_size=1, max_size=40))
@example([(2**31 - 2, 3), (2**31 - 1, 3), (2**31 - 1, 4), (-(2**31), 4), (-(2**31), 3)])
def test_any_integers_come_back_by_tables_at_the_limits(pairs: list[tuple[int, int]]) -> None:
    there_and_back(UNEVEN, [arrays(pairs)])


@pytest.mark.parametrize("tables", [FEW, UNEVEN])
def test_every_interval_is_exactly_the_tables(tables: Tables) -> None:
    """After one symbol the coder's interval is that of whole numbers: 24 bits of 64, our 16 shifted by 8."""
    random = np.random.default_rng(1)
    for number in range(len(tables.low)):
        cdf = tables.cdf[tables.start[number] : tables.start[number + 1]].astype(object)
        count = len(cdf) - 1
        for interval in {0, count - 1, *random.integers(0, count, 40).tolist()}:
            encoder = Encoder(tables)
            encoder.encoder.encode(np.array([interval], np.int32), encoder.models.of(number))
            unit = (2**64 - 1 >> 24) * 256
            lower, extent = unit * cdf[interval], unit * (cdf[interval + 1] - cdf[interval])
            while extent < 2**32:
                lower, extent = lower << 32 & 2**64 - 1, extent << 32
            assert encoder.encoder.pos()[1] == (lower, extent)


class Reference:
    """A decoder written from docs/format.md alone, in Python's unlimited integers."""

    def __init__(self, data: bytes) -> None:
        self.words = list(np.frombuffer(data + bytes(8 + -len(data) % 4), ">u4").astype(object))
        self.low, self.range = 0, 2**64 - 1
        self.value = self.words.pop(0) << 32 | self.words.pop(0)

    def interval(self, cdf: list[int]) -> int:
        """The next symbol's interval; cdf goes from 0 to 2^24."""
        unit = self.range >> 24
        place = (self.value - self.low) % 2**64 // unit
        found = next(i for i, (begin, end) in enumerate(pairwise(cdf)) if begin <= place < end)
        self.low = (self.low + unit * cdf[found]) % 2**64
        self.range = unit * (cdf[found + 1] - cdf[found])
        if self.range < 2**32:
            self.low, self.range = self.low << 32 & 2**64 - 1, self.range << 32
            self.value = self.value << 32 & 2**64 - 1 | (self.words.pop(0) if self.words else 0)
        return found

    def bit(self) -> int:
        return self.interval([0, 2**23, 2**24])

    def piece(self, tables: Tables, numbers: list[int]) -> list[int]:
        order = sorted(range(len(numbers)), key=lambda place: numbers[place])
        found: dict[int, Any] = {}
        escaped = []
        for place in order:
            number = numbers[place]
            cdf = [256 * int(c) for c in tables.cdf[tables.start[number] : tables.start[number + 1]]]
            interval = self.interval(cdf)
            found[place] = int(tables.low[number]) + interval
            if interval == len(cdf) - 2:
                escaped.append(place)
        lengths = dict.fromkeys(escaped, 0)
        going = escaped
        while going:
            going = [place for place in going if self.bit()]
            for place in going:
                lengths[place] += 1
        values = dict.fromkeys(escaped, 1)
        for digit in reversed(range(max(lengths.values(), default=0))):
            for place in escaped:
                if lengths[place] > digit:
                    values[place] = 2 * values[place] + self.bit()
        for place in escaped:
            number, distance = numbers[place], values[place] - 1
            low, count = int(tables.low[number]), int(tables.symbols[number])
            found[place] = low - 1 - distance // 2 if distance % 2 else low + count + distance // 2
        return [found[place] for place in range(len(numbers))]

    def run(self, tables: Tables, numbers: list[int], size: int) -> list[int]:
        """Symbols one after another, in pieces of a size."""
        return [q for at in range(0, len(numbers), size) for q in self.piece(tables, numbers[at : at + size])]

    def latents(self, model: Learned, level: int, height: int, width: int, size: int) -> np.ndarray:
        """A file's latents, (N, height, width), coded in pieces of a size."""
        tables = read_tables((models.ZOO / model.files["tables"]).read_bytes())
        gain = tables.gain[level][:, None, None]
        count = len(gain)
        if "context0" not in model.files:
            numbers = [level * count + array for array in range(count) for _ in range(height * width)]
            return np.array(self.run(tables, numbers, size), np.float32).reshape(count, height, width) / gain
        found, rounded = np.zeros((2, count, height, width))
        end = group = 0
        while end < count:
            network = Network((models.ZOO / model.files[f"context{group}"]).read_bytes(), 1)
            begin, end = end, network.planes - 2
            known = np.zeros((height, width))
            for turn in ["ee oo", "eo oe"] if group else ["ee", "oo", "eo oe"]:
                image = np.stack([np.full((height, width), (level + 2) // 4), known, *rounded[:end]], 2)
                means, indices = np.split(network(image).astype(int), 2, 2)
                for parities in turn.split():
                    row, column = ("eo".index(parity) for parity in parities)
                    places = product(range(end - begin), range(row, height, 2), range(column, width, 2))
                    order = [(y, x, array) for array, y, x in places]
                    symbols = self.run(tables, [int(indices[place]) for place in order], size)
                    for (y, x, array), symbol in zip(order, symbols, strict=True):
                        mean = Fraction(int(means[y, x, array]), 16)
                        found[begin + array, y, x] = symbol + mean
                        rounded[begin + array, y, x] = max(-2047, min(2047, symbol + round(mean)))
                    known[row::2, column::2] = 1
            group += 1
        return found.astype(np.float32) / gain


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.tuples(SYMBOLS, st.integers(0, 3)), min_size=1, max_size=50), min_size=1, max_size=2))
def test_an_independent_decoder_reads_the_same(pieces: list[list[tuple[int, int]]]) -> None:
    made = [arrays(piece) for piece in pieces]
    reference = Reference(there_and_back(FEW, made))
    for symbols, numbers in made:
        assert reference.piece(FEW, numbers.tolist()) == symbols.tolist()


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 5), (6, 5)])
@pytest.mark.parametrize("size", [1 << 20, 7])
@pytest.mark.parametrize("name", KINDS)
def test_an_independent_decoder_reads_the_same_latents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, size: int, height: int, width: int
) -> None:
    assert prior.PIECE == 1 << 20
    monkeypatch.setattr(prior, "PIECE", size)
    with tiny_zoo(tmp_path):
        model = learned_named(name)
        for level in (0, 5):
            data = Latents(picture(16 * height - 3, 16 * width - 9, not model.color), model).file(level)
            header, coded = unpack(data)
            expected = Reference(coded).latents(model, level, height, width, size)
            np.testing.assert_array_equal(decoded(coded, header, model, tables_of_model(model)), expected)


def test_the_bytes_are_these_for_ever() -> None:
    symbols = np.array([0, 0, -3, 5, 70, -71, 0, 299, 0, 11], np.int32)
    numbers = np.array([0, 1, 1, 1, 2, 2, 2, 3, 3, 1], np.uint16)
    assert there_and_back(FEW, [(symbols, numbers), (symbols[::-1], numbers)]).hex() == (
        "72c5aa33322932a0aa5512497d9ebdbb8ebfa1237d570db14fb65f9c45"
    )


def sampled(tables: Tables, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Symbols that are distributed as their tables say, and where they escape, anywhere above."""
    random = np.random.default_rng(seed)
    numbers = random.integers(0, len(tables.low), count).astype(np.uint16)
    symbols = np.empty(count, np.int32)
    for number in range(len(tables.low)):
        at = np.flatnonzero(numbers == number)
        lengths = tables.lengths(number)
        intervals = random.choice(len(lengths), len(at), p=lengths / TOTAL)
        beyond = np.where(intervals == tables.symbols[number], random.integers(0, 1000, len(at)), 0)
        symbols[at] = tables.low[number] + intervals + beyond
    return symbols, numbers


@pytest.mark.parametrize("count", [1, 10, 300, 30_000])
def test_the_cost_is_the_size_to_within_a_thousandth_and_four_bytes(count: int) -> None:
    symbols, numbers = sampled(FEW, count, count)
    told = cost(FEW, symbols, numbers) / 8
    assert told - 4 < len(there_and_back(FEW, [(symbols, numbers)])) <= 1.001 * told + 4


def test_the_cost_is_the_sum_of_logarithms() -> None:
    tables = tables_of([(-1, np.array([0, TOTAL // 4, TOTAL // 2, TOTAL - 2048, TOTAL]))])
    assert cost(tables, *arrays([(-1, 0), (0, 0)])) == 4
    # The escape takes 5 bits; 2 is the nearest symbol above (1 bit), -2 the nearest below, 3 the next (3 bits each).
    assert cost(tables, *arrays([(2, 0)])) == 6
    assert cost(tables, *arrays([(-2, 0)])) == cost(tables, *arrays([(3, 0)])) == 8


def test_the_end_takes_as_few_bytes_as_it_can() -> None:
    first = tables_of([(0, np.array([0, TOTAL - 1, TOTAL]))])
    assert there_and_back(first, [arrays([(0, 0)] * 1000)]) == b""
    random = np.random.default_rng(1)
    fair = tables_of([(0, np.array([0, TOTAL // 2, TOTAL - 1, TOTAL]))])
    sizes = [len(there_and_back(fair, [arrays([(int(s), 0) for s in random.integers(0, 2, 800)])])) for _ in range(50)]
    assert max(sizes) <= 101


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(INT32, st.integers(0, 4)), min_size=1, max_size=20))
def test_distances_and_symbols_are_each_others_inverse(pairs: list[tuple[int, int]]) -> None:
    symbols, numbers = arrays(pairs)
    outside = UNEVEN.intervals(symbols, numbers) == UNEVEN.symbols[numbers]
    symbols, numbers = symbols[outside], numbers[outside]
    found = distances(UNEVEN, symbols, numbers)
    assert (found >= 0).all()
    np.testing.assert_array_equal(symbols_at(UNEVEN, found, numbers), symbols)


def test_exp_golomb_bits_come_in_rounds() -> None:
    # 1 = 0, 2 = 10 0, 5 = 110 01: ones and zeros by rounds, then digits from the highest place.
    assert [bits.astype(int).tolist() for bits in exp_golomb(np.array([0, 1, 4]))] == [
        [0, 1, 1],
        [0, 1],
        [0],
        [0],
        [0, 1],
    ]


def test_a_symbol_beyond_32_bits_is_refused() -> None:
    with pytest.raises(CodecError, match="more than 32 bits"):
        symbols_at(FEW, np.array([2**32]), np.array([0]))


RIGHT = {"gain": FEW.gain, "cdf": FEW.cdf, "start": FEW.start, "low": FEW.low}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("gain", FEW.gain.astype(np.float64), "the tables' gain is float64"),
        ("gain", FEW.gain[0], "gain is float32 of shape"),
        ("gain", -FEW.gain, "gains that are not positive"),
        ("gain", FEW.gain * np.float32(np.nan), "gains that are not positive"),
        ("gain", np.ones((257, 4), np.float32), "more than 256 levels"),
        ("cdf", FEW.cdf.astype(np.int64), "cdf is int64"),
        ("cdf", FEW.cdf[:-1], "do not follow each other"),
        ("cdf", np.where(FEW.cdf == TOTAL, TOTAL - 1, FEW.cdf).astype(np.uint32), "does not rise from 0 to 65536"),
        ("cdf", np.where(np.arange(len(FEW.cdf)) == 8, FEW.cdf[7], FEW.cdf).astype(np.uint32), "does not rise"),
        ("cdf", FEW.cdf + np.uint32(1), "does not rise"),
        ("start", FEW.start[:-1], "4 tables of symbols, and 4 limits"),
        ("start", FEW.start + 1, "do not follow each other"),
        ("start", np.array([0, 2, *FEW.start[2:]]), "one has no symbol"),
        ("low", FEW.low[:0], "low is int32 of shape"),
        ("transposed", np.array([1, 2, 0]), "twice that is another one"),
        ("transposed", np.array([0]), "twice that is another one"),
        ("transposed", np.array([1.0, 0.0]), "transposed is float64"),
        ("low", FEW.low + np.int32(2**31 - 300), "symbols beyond 32 bits"),
    ],
)
def test_tables_that_cannot_be_are_refused(name: str, value: np.ndarray, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Tables(**RIGHT | {name: value})


def test_tables_are_read_from_a_file_and_nothing_else() -> None:
    file = io.BytesIO()
    np.savez_compressed(file, **RIGHT)
    read = read_tables(file.getvalue())
    for name, array in RIGHT.items():
        np.testing.assert_array_equal(getattr(read, name), array)
    pickled = io.BytesIO()
    np.savez(pickled, **RIGHT | {"low": np.array([print])})
    fewer = io.BytesIO()
    np.savez(fewer, gain=FEW.gain)
    for data in (b"", b"no tables", file.getvalue()[:200], pickled.getvalue(), fewer.getvalue()):
        with pytest.raises(ModelError, match="the tables cannot be read"):
            read_tables(data)
