"""Files that are damaged or not ours: each is refused in one line, or gives a picture."""

import io
import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny import KINDS, picture, tiny_zoo

from corec import wrap
from corec.codecs import jpeg
from corec.errors import CodecError, CorecError, EnvelopeError, ModelError, PictureError
from corec.pipeline import compress_picture, decompress, describe, restore

DAMAGED = Path(__file__).parent / "damaged"


@pytest.fixture(scope="module", autouse=True)
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with tiny_zoo(tmp_path_factory.mktemp("zoo")) as folder:
        yield folder


@cache
def files() -> list[bytes]:
    """A valid file of every tiny model, odd sizes where there are any."""
    return [compress_picture(picture(23, 37, name.startswith("gray")), model=name, quality=20).data for name in KINDS]


def attempt(data: bytes) -> list[str]:
    """Read a file in all ways; anything but a CorecError of one line gets through to the test."""
    errors = []
    for read in (describe, decompress, restore):
        try:
            read(data)
        except CorecError as error:
            assert str(error)
            assert "\n" not in str(error)
            errors.append(str(error))
    return errors


def test_a_file_cut_anywhere_is_refused() -> None:
    for data in files():
        for stop in [*range(0, len(data) - 2, 7), len(data) - 3]:
            with pytest.raises(CorecError):
                decompress(data[:stop])


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 3), st.data())
def test_flipped_bits_are_refused_or_give_a_picture(which: int, draw: st.DataObject) -> None:
    damaged = bytearray(files()[which])
    for _ in range(draw.draw(st.integers(1, 4))):
        damaged[draw.draw(st.integers(0, len(damaged) - 1))] ^= 1 << draw.draw(st.integers(0, 7))
    attempt(bytes(damaged))


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 3), st.data(), st.binary(max_size=6))
def test_replaced_bytes_are_refused_or_give_a_picture(which: int, draw: st.DataObject, new: bytes) -> None:
    data = files()[which]
    start = draw.draw(st.integers(0, len(data)))
    stop = draw.draw(st.integers(start, min(len(data), start + 6)))
    attempt(data[:start] + new + data[stop:])


@settings(max_examples=100, deadline=None)
@given(st.one_of(st.binary(max_size=200), st.binary(max_size=200).map(lambda tail: b"\xff\xd8\xff" + tail)))
def test_any_bytes_are_refused(data: bytes) -> None:
    assert len(attempt(data)) == 3


@pytest.mark.parametrize("path", sorted(p for p in DAMAGED.glob("*") if p.suffix != ".md"), ids=lambda p: p.name)
def test_what_once_broke_something_is_refused_or_gives_a_picture(path: Path) -> None:
    attempt(path.read_bytes())


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (b"", CodecError, "the file is empty"),
        (b"Dear reader,\n", CodecError, "of no format that Corec writes: jpeg, .* and .corec"),
        (b"\x89PNG\r\n\x1a\n", CodecError, "of no format that Corec writes: jpeg, .* and .corec"),
    ],
)
def test_a_foreign_format_is_refused(data: bytes, error: type[CorecError], message: str) -> None:
    for read in (describe, decompress):
        with pytest.raises(error, match=message):
            read(data)


def test_a_foreign_jpeg_is_refused() -> None:
    file = io.BytesIO()
    Image.fromarray(picture(20, 30, False).pixels).save(file, "JPEG")
    with pytest.raises(EnvelopeError, match="this jpeg file was not written by Corec"):
        decompress(file.getvalue())


def with_envelope(data: bytes, envelope: str) -> bytes:
    """A file of ours, of an envelope of two bytes, with another one."""
    return jpeg.embed(data[:2] + data[10:], bytes.fromhex(envelope))


@pytest.mark.parametrize(
    ("envelope", "error", "message"),
    [
        ("20 01", EnvelopeError, "envelope version 2; this Corec reads version 1: update it"),
        ("10 63", ModelError, "needs model 99, which this Corec does not have: update it"),
        ("18 00 00", EnvelopeError, "another size without a model"),
        ("18 00 03", ModelError, "its model gray-full is not for such a size"),
        ("18 10 01", ModelError, "its model gray-half is not for such a size"),
        ("14 01", EnvelopeError, "not well formed"),
        ("14 01 40", EnvelopeError, "in jpeg files the step is elsewhere"),
        ("10 09", EnvelopeError, "restore-gray compresses nothing"),
        ("10 81", EnvelopeError, "not well formed"),
        ("10 05", EnvelopeError, "components are not those of model color-half"),
        ("11 03", EnvelopeError, "agree on no size of a picture"),
        ("11 00", EnvelopeError, "agree on no size of a picture"),
        ("14 00 40", EnvelopeError, "in jpeg files the step is elsewhere"),
    ],
)
def test_an_envelope_that_is_wrong_or_from_later_is_refused(
    envelope: str, error: type[CorecError], message: str
) -> None:
    with pytest.raises(error, match=message):
        decompress(with_envelope(files()[0], envelope))


def test_a_colour_file_of_a_gray_model_is_refused() -> None:
    with pytest.raises(EnvelopeError, match="components are not those of model gray-half"):
        decompress(with_envelope(files()[2], "10 01"))


def test_a_file_of_another_codecs_model_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jpeg, "NAME", "other")
    with pytest.raises(EnvelopeError, match="the file is other, but its envelope names model gray-half for jpeg"):
        decompress(files()[0])


def test_a_bomb_is_refused_before_it_is_decoded() -> None:
    data = files()[0]
    frames = [(start, stop) for marker, start, stop in jpeg.segments(data) if marker in (0xC0, 0xC2)]
    at = frames[0][0] + 5
    bomb = data[:at] + struct.pack(">HH", 40_000, 60_000) + data[at + 4 :]
    for read in (describe, decompress):
        with pytest.raises(
            PictureError, match=r"1[12]\d{4} x (80000|79999) pixels are too many; Corec holds up to 500"
        ):
            read(bomb)


def test_a_side_that_jpeg_cannot_hold_is_halved_or_refused() -> None:
    long = picture(1, 70_000, True)
    assert compress_picture(long, bpp=2).scale > 1
    with pytest.raises(CodecError, match="at most 65500 pixels a side"):
        compress_picture(long, bpp=2, model="gray-full")


def test_a_missing_or_altered_model_file_is_refused(zoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = files()[0]
    for name, content in (("gone", None), ("altered", b"something else")):
        folder = zoo / name
        folder.mkdir()
        if content:
            (folder / "gray-half.reconstruct.onnx").write_bytes(content)
        monkeypatch.setattr(wrap, "ZOO", folder)
        with pytest.raises(ModelError, match=r"gray-half\.reconstruct\.onnx (is missing|was altered).*reinstall"):
            decompress(data)
