"""Damaged .corec files: each is refused in one line, or gives a picture; benchmarks/damage.py does this at length."""

import tracemalloc
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import picture
from tiny_learned import KINDS, LEVELS, tiny_zoo

from corec.errors import CodecError, CorecError, PictureError
from corec.learned.codec import Latents, read, tables_of
from corec.learned.coder import Encoder
from corec.learned.format import Header, checksum, pack, unpack
from corec.learned.prior import Prior
from corec.models import learned_named
from corec.pipeline import decompress, describe


@pytest.fixture(scope="module", autouse=True)
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with tiny_zoo(tmp_path_factory.mktemp("zoo")) as folder:
        yield folder


@cache
def files() -> list[bytes]:
    """A valid file of every tiny model."""
    return [Latents(picture(60, 70, not color), learned_named(name)).file(4) for name, (color, _) in KINDS.items()]


def attempt(data: bytes) -> list[str]:
    """Read a file in both ways; anything but a CorecError of one line gets through to the test."""
    errors = []
    for call in (describe, decompress):
        try:
            call(data)
        except CorecError as error:
            assert str(error)
            assert "\n" not in str(error)
            errors.append(str(error))
    return errors


def test_a_file_cut_anywhere_is_refused() -> None:
    for data in files():
        for stop in range(len(data)):
            with pytest.raises(CorecError):
                decompress(data[:stop])


def test_every_single_damaged_byte_is_found() -> None:
    for data in files():
        for at in range(len(data)):
            for flip in (1, 16, 128, 255):
                damaged = bytearray(data)
                damaged[at] ^= flip
                assert len(attempt(bytes(damaged))) == 2


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 3), st.data(), st.binary(max_size=6))
def test_replaced_bytes_are_refused_or_give_a_picture(which: int, draw: st.DataObject, new: bytes) -> None:
    data = files()[which]
    start = draw.draw(st.integers(0, len(data)))
    stop = draw.draw(st.integers(start, min(len(data), start + 6)))
    attempt(data[:start] + new + data[stop:])


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 3), st.integers(0, LEVELS + 1), st.integers(0, 90), st.integers(0, 90), st.binary(max_size=120))
def test_a_right_checksum_on_wrong_bytes_is_refused_or_gives_a_picture(
    which: int, level: int, width: int, height: int, coded: bytes
) -> None:
    data = pack(Header(20 + which, level, width, height), coded)
    if not attempt(data):
        assert decompress(data).shape[:2] == (height, width)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 3), st.data())
def test_damaged_symbols_under_a_right_checksum_give_a_picture_or_are_refused(which: int, draw: st.DataObject) -> None:
    header, coded = unpack(files()[which])
    changed = bytearray(coded)
    for _ in range(draw.draw(st.integers(1, 4))):
        changed[draw.draw(st.integers(0, len(changed) - 1))] = draw.draw(st.integers(0, 255))
    attempt(pack(header, bytes(changed)))


@pytest.mark.parametrize("symbol", [2**31 - 1, -(2**31)])
def test_the_largest_symbols_give_a_picture(symbol: int) -> None:
    """As no picture's analysis gives them, but a file may hold them: floats overflow in the synthesis."""
    for name in KINDS:
        model = learned_named(name)
        known = tables_of(model)
        encoder, prior = Encoder(known), Prior(model, known, 0, (known.gain.shape[1], 4, 5))
        for where in prior.places():
            for piece, numbers, _ in prior.pieces(where):
                symbols = np.full(len(numbers), symbol, np.int32)
                encoder.encode(symbols, numbers)
                prior.learn(where, piece, symbols)
        data = pack(Header(model.number, 0, 70, 60), encoder.finish())
        assert read(data).pixels.shape[:2] == (60, 70)


@pytest.mark.parametrize("size", [(2**32 - 1, 2**32 - 1), (30_000, 20_000), (0, 5), (500_000_001, 1), (499_999_999, 1)])
def test_absurd_sizes_are_refused_before_any_memory_is_taken(size: tuple[int, int]) -> None:
    describe(files()[0])  # what is loaded once is no matter of the file
    data = pack(Header(20, 0, *size), b"\x55" * 40)
    tracemalloc.start()
    try:
        for call in (describe, decompress):
            with pytest.raises(PictureError, match=r"no pixels|too many"):
                call(data)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_a_length_that_is_absurd_is_refused() -> None:
    head = b"Cor\x81\x14\x00\x46\x3c\xff\xff\xff\xff\x0f"
    with pytest.raises(CodecError, match="ends too early"):
        decompress(head + checksum(head))
