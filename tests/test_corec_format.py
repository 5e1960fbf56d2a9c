"""The header of a .corec file, rule by rule; docs/format.md numbers them."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tiny import picture
from tiny_learned import tiny_zoo

from corec import models
from corec.errors import CodecError, CorecError, EnvelopeError, ModelError, PictureError
from corec.learned.codec import Latents, describe, read
from corec.learned.coder import LONGEST, Encoder
from corec.learned.format import Header, accept, checksum, pack, unpack
from corec.models import learned_named

HEADER = Header(20, 3, 40, 300)
FILE = pack(HEADER, b"coded")


@pytest.fixture(scope="module", autouse=True)
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with tiny_zoo(tmp_path_factory.mktemp("zoo")) as folder:
        yield folder


def sealed(hexadecimal: str, coded: bytes = b"") -> bytes:
    """A file of a header in hexadecimal, its checksum added, and coded bytes."""
    head = bytes.fromhex(hexadecimal)
    return head + checksum(head, coded) + coded


def test_c1_the_bytes_of_a_file() -> None:
    assert FILE.hex(" ") == "43 6f 72 81 14 03 28 ac 02 05 82 82 63 6f 64 65 64"
    assert accept(FILE)
    assert unpack(FILE) == (HEADER, b"coded")


@pytest.mark.parametrize("data", [b"", b"Cor", b"Corec", "Corée".encode(), b"\xff\xd8\xff\xe0", b"cor\x81"])
def test_c1_other_files_are_not_ours(data: bytes) -> None:
    assert not accept(data)


def test_c2_another_version_is_refused_and_named() -> None:
    with pytest.raises(EnvelopeError, match=r"\.corec version 2; this Corec reads version 1: update it"):
        unpack(b"Cor\x82 whatever")


@pytest.mark.parametrize(
    "numbers",
    [
        "94 00 03 28 ac 02 00",  # 20, longer than it need be
        "80 80 80 80 80 01 03 28 ac 02 00",
        "ff ff ff ff 1f 03 28 ac 02 00",  # above 32 bits
        "14 03 a8 80 00 ac 02 00",
    ],
)
def test_c3_numbers_that_are_not_well_formed_are_refused(numbers: str) -> None:
    with pytest.raises(CodecError, match="a number in its header is not well formed"):
        unpack(sealed(f"43 6f 72 81 {numbers}"))


def test_c4_a_file_cut_anywhere_is_refused() -> None:
    for stop in range(4, len(FILE)):
        with pytest.raises(CodecError, match=r"it ends within its header|it ends too early \(\d+ bytes, not 17\)"):
            unpack(FILE[:stop])


def test_c4_bytes_behind_the_end_are_refused() -> None:
    with pytest.raises(CodecError, match=r"it goes on behind its end \(18 bytes, not 17\)"):
        unpack(FILE + b"\0")


def test_c5_every_single_damaged_byte_is_found() -> None:
    for at in range(4, len(FILE)):
        for flip in range(1, 256):
            damaged = bytearray(FILE)
            damaged[at] ^= flip
            with pytest.raises(CodecError, match="the file is damaged"):
                unpack(bytes(damaged))


def test_c5_the_checksum_is_that_of_the_standard() -> None:
    assert checksum(b"123456789") == checksum(b"1234", b"56789") == bytes.fromhex("29b1")


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (99, "the file needs model 99, which this Corec does not have: update it"),
        (19, r"model, 19 \(early\), was replaced before version 1.0"),
    ],
)
def test_c6_an_unknown_or_retired_model_is_refused(number: int, message: str) -> None:
    for call in (read, describe):
        with pytest.raises(ModelError, match=message):
            call(pack(Header(number, 0, 40, 30), b""))


def test_c6_a_model_of_another_codec_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "models", lambda: (models.plain("jpeg", False, (1, 2)),))
    for call in (read, describe):
        with pytest.raises(ModelError, match="the file is damaged: its model plain writes other files"):
            call(pack(Header(0, 0, 40, 30), b""))


def test_c11_a_gray_picture_needs_no_luma_of_a_gray_model() -> None:
    for call in (read, describe):
        with pytest.raises(CodecError, match="plain-gray is for gray pictures anyway"):
            call(pack(Header(20, 0, 40, 30, True), b""))


def test_c7_a_level_that_the_model_has_not_is_refused() -> None:
    for call in (read, describe):
        with pytest.raises(CodecError, match="model plain-gray has no level 8"):
            call(pack(Header(20, 8, 40, 30), b""))


@pytest.mark.parametrize("size", [(0, 30), (40, 0), (500_001, 1000), (2**32 - 1, 2**32 - 1)])
def test_c8_a_picture_without_pixels_or_too_large_is_refused(size: tuple[int, int]) -> None:
    for call in (read, describe):
        with pytest.raises(PictureError, match=r"no pixels|are too many"):
            call(pack(Header(20, 0, *size), b""))


def test_c9_bytes_that_no_encoder_writes_are_refused() -> None:
    with pytest.raises(CodecError, match="its symbols cannot be decoded"):
        read(pack(Header(20, 0, 40, 30), b"\xff" * 8))


@pytest.mark.parametrize(("ones", "digits"), [(LONGEST + 1, 0), (LONGEST, 1)])
def test_c10_symbols_beyond_32_bits_are_refused(ones: int, digits: int) -> None:
    model = learned_named("plain-gray")
    source = Latents(picture(1, 1, True), model)
    encoder = Encoder(source.tables)
    for number in range(source.tables.gain.shape[1]):
        encoder.encoder.encode(
            np.array([source.tables.symbols[number] * (number == 0)], np.int32), encoder.models.of(number)
        )
    encoder.encoder.encode(np.array([1] * ones + [0] + [digits] * LONGEST, np.int32), encoder.models.fair)
    with pytest.raises(CodecError, match="one of its symbols has more than 32 bits"):
        read(pack(Header(20, 0, 1, 1), encoder.finish()))


NUMBERS = st.integers(0, 2**32 - 1)


@settings(max_examples=300, deadline=None)
@given(NUMBERS, st.integers(0, 255), NUMBERS, NUMBERS, st.booleans(), st.binary(max_size=300))
@example(0, 0, 127, 128, False, b"")
@example(2**32 - 1, 255, 2**32 - 1, 2**32 - 1, True, bytes(200))
def test_a_header_comes_back(model: int, level: int, width: int, height: int, gray: bool, coded: bytes) -> None:
    header = Header(model, level, width, height, gray)
    data = pack(header, coded)
    assert accept(data)
    assert unpack(data) == (header, coded)
    assert len(data) - len(coded) <= 4 + 5 + 1 + 15 + 2


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=9).map(lambda head: head + b"\0"))
@example(bytes(5))
def test_any_bytes_are_refused_or_are_the_one_way_to_say_something(tail: bytes) -> None:
    data = sealed("43 6f 72 81" + tail.hex())
    try:
        header, coded = unpack(data)
    except CorecError as error:
        assert "\n" not in str(error)
    else:
        assert pack(header, coded) == data
