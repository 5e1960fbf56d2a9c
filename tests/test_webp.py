"""The WebP codec: files that anything opens, gray without a gray format, and the envelope in a chunk."""

import io
import struct

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny import image

from corec.codecs import webp
from corec.errors import CodecError
from corec.pipeline import decompress

ENVELOPE = b"\x14\x01\x90"


def flat(*levels: int) -> np.ndarray:
    return np.broadcast_to(np.array(levels, np.uint8), (32, 32, len(levels)))


def chunk(kind: bytes, content: bytes) -> bytes:
    return kind + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)


def riff(*chunks: bytes) -> bytes:
    content = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(content)) + content


def extended(width: int, height: int, flags: int = 0) -> bytes:
    return chunk(
        b"VP8X", struct.pack("<I", flags) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    )


GRAY = webp.encode(image(24, 40, 1), 20, ())
COLOR = webp.encode(image(24, 40, 3), 20, ())
PARTS = pytest.mark.parametrize("data", [GRAY, COLOR], ids=["gray", "color"])


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 3]), st.floats(1, 250))
@example(1, 1, 1, 16.0)
@example(1, 1, 3, 16.0)
@example(17, 1, 3, 2.0)
@example(1, 33, 1, 165.0)
def test_what_is_written_is_read_at_its_size(height: int, width: int, planes: int, step: float) -> None:
    source = image(height, width, planes)
    data = webp.encode(source, step, ())
    decoded, told = webp.decode(data)
    assert decoded.shape == source.shape
    assert decoded.dtype == np.uint8
    assert told is None
    assert webp.size(data) == (width, height)
    assert webp.accept(data)
    assert len(data) % 2 == 0


@pytest.mark.parametrize("shape", [(1, 5000, 3), (600, 3, 3), (2100, 17, 1)])
def test_strip_like_images(shape: tuple[int, int, int]) -> None:
    decoded, _ = webp.decode(webp.encode(image(*shape), 3, ()))
    assert np.abs(decoded[..., 0].astype(int) - image(*shape)[..., 0]).mean() < 3


def test_the_quality_of_a_step_leads_libwebp_to_its_index() -> None:
    assert len(webp.AC_STEPS) == 128
    for index, step in enumerate(webp.AC_STEPS):
        quality = webp.quality_at(step * webp.LEVELS) / 100
        linear = 2 / 3 * quality if quality < 0.75 else 2 * quality - 1
        assert int(127 * (1 - linear ** (1 / 3))) == index
    assert webp.quality_at(webp.STEPS[1]) == webp.quality_at(999) == 0
    assert webp.quality_at(webp.STEPS[0]) == webp.quality_at(0.1) > 99


def test_steps_are_kept_to_those_of_the_format() -> None:
    finest, coarsest = webp.STEPS
    assert [webp.settle(step) for step in (0.5, finest, 17.3, 999)] == [finest, finest, 17.3, coarsest]
    np.testing.assert_allclose(webp.condition(20, ()), [np.log(20)])
    assert webp.encode(image(24, 40, 1), 0.1, ()) == webp.encode(image(24, 40, 1), finest, ())


@pytest.mark.parametrize("step", [6, 12, 24, 48])
def test_the_step_is_that_of_a_uniform_quantiser(step: float) -> None:
    noise = np.clip(np.random.default_rng(0).normal(128, 30, (128, 128, 1)), 0, 255).astype(np.uint8)
    decoded, _ = webp.decode(webp.encode(noise, step, ()))
    assert 0.85 < np.square(decoded.astype(float) - noise).mean() / (step**2 / 12) < 1.3


@pytest.mark.parametrize("planes", [1, 3])
def test_bytes_fall_with_the_step(planes: int) -> None:
    sizes = [len(webp.encode(image(90, 110, planes), step, ())) for step in np.geomspace(2.4, 165, 12)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > 5 * sizes[-1]


def test_gray_of_every_level_is_gray_for_everybody() -> None:
    for level in range(256):
        data = webp.encode(flat(level), 3, ())
        decoded, _ = webp.decode(data)
        assert decoded.shape == (32, 32, 1)
        assert np.abs(decoded.astype(int) - level).max() <= 2
        shown = np.asarray(Image.open(io.BytesIO(data)))
        assert np.ptp(shown.astype(int), 2).max() <= 1


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 255), st.floats(0, 100), st.floats(2, 170))
def test_gray_stays_gray_whatever_it_shows(height: int, width: int, level: int, spread: float, step: float) -> None:
    source = np.random.default_rng(1).normal(level, spread, (height, width, 1)).clip(0, 255).astype(np.uint8)
    assert webp.decode(webp.encode(source, step, ()))[0].shape == source.shape


@pytest.mark.parametrize("source", [flat(99, 128, 128), flat(0, 128, 128), flat(99, 129, 127)])
def test_colour_that_decodes_without_chroma_is_marked(source: np.ndarray) -> None:
    data = webp.encode(source, 160, ())
    assert data.endswith(bytes.fromhex("43 6f 72 63 00 00 00 00"))
    assert webp.extract(data) is None
    for file in (data, webp.embed(data, ENVELOPE)):
        decoded, _ = webp.decode(file)
        assert decoded.shape == source.shape
        assert np.abs(decoded.astype(int) - source).max() <= 3
    assert webp.extract(webp.embed(data, ENVELOPE)) == ENVELOPE
    Image.open(io.BytesIO(data)).load()


def test_the_planes_are_luma_and_chroma_in_this_order() -> None:
    data = webp.encode(flat(90, 60, 200), 3, ())
    assert np.abs(webp.decode(data)[0].astype(int) - flat(90, 90, 180)).max() < 40  # RGB has no such blue
    data = webp.encode(flat(90, 110, 160), 3, ())
    assert np.abs(webp.decode(data)[0].astype(int) - flat(90, 110, 160)).max() <= 2
    red, green, blue = np.asarray(Image.open(io.BytesIO(data)))[8, 8].astype(int)
    assert (red, green, blue) == pytest.approx(
        (90 + 1.402 * 32, 90 - 0.3441 * -18 - 0.7141 * 32, 90 + 1.772 * -18), abs=3
    )


@pytest.mark.parametrize(("height", "width"), [(24, 40), (1, 1), (31, 17)])
@pytest.mark.parametrize("planes", [1, 3])
def test_other_software_opens_the_file(height: int, width: int, planes: int) -> None:
    source = image(height, width, planes)
    bare = webp.encode(source, 4, ())
    data = webp.embed(bare, ENVELOPE)
    with Image.open(io.BytesIO(data)) as opened:
        assert opened.size == (width, height)
        shown = np.asarray(opened)
        assert np.abs(np.asarray(opened.convert("L")).astype(int) - source[..., 0]).mean() < 4
    np.testing.assert_array_equal(shown, np.asarray(Image.open(io.BytesIO(bare))))
    cv2 = pytest.importorskip("cv2")
    np.testing.assert_array_equal(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1], shown)


def test_ffmpeg_opens_the_file() -> None:
    av = pytest.importorskip("av")
    for bare in (GRAY, COLOR):
        with av.open(io.BytesIO(webp.embed(bare, ENVELOPE))) as opened:
            frame = next(opened.decode(video=0))
            assert (frame.width, frame.height) == (40, 24)


def test_it_is_known_by_its_first_bytes() -> None:
    assert webp.accept(GRAY)
    for foreign in (b"", b"RIFF", b"RIFF\0\0\0\0WAVE", b"\xff\xd8\xff", b"\0\0\0\x0cJXL "):
        assert not webp.accept(foreign)


@PARTS
def test_the_file_is_a_frame_and_nothing_else(data: bytes) -> None:
    assert [kind for kind, _, _ in webp.chunks(data)] == [b"VP8 "]


def test_an_image_that_webp_cannot_hold_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CodecError, match="at most 16383 pixels a side, and this image has 16384x1"):
        webp.encode(np.zeros((1, 16384, 1), np.uint8), 20, ())
    assert webp.decode(webp.encode(np.zeros((1, 16383, 1), np.uint8), 20, ()))[0].shape == (1, 16383, 1)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    with pytest.raises(CodecError, match="at most 100 pixels of WebP, not 11x10"):
        webp.encode(np.zeros((10, 11, 1), np.uint8), 20, ())
    assert webp.encode(np.zeros((10, 10, 1), np.uint8), 20, ())
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert webp.encode(np.zeros((10, 11, 1), np.uint8), 20, ())


@PARTS
def test_w1_the_envelope_is_a_chunk_at_the_end(data: bytes) -> None:
    carrying = webp.embed(data, ENVELOPE)
    assert carrying[8:] == data[8:] + bytes.fromhex("43 6f 72 63 03 00 00 00 14 01 90 00")
    assert carrying[:8] == b"RIFF" + struct.pack("<I", len(data) + 4)
    assert webp.extract(carrying) == ENVELOPE
    np.testing.assert_array_equal(webp.decode(carrying)[0], webp.decode(data)[0])


@pytest.mark.parametrize("envelope", [b"\x10\x01", ENVELOPE, b"\x14\x81\x01\x90", b"\x1c\x0a\x81\x01\x90"])
def test_w1_what_is_embedded_is_extracted(envelope: bytes) -> None:
    carrying = webp.embed(GRAY, envelope)
    assert webp.extract(carrying) == envelope
    assert webp.overhead(envelope, carrying) == len(carrying) - len(GRAY)


def test_w2_the_envelope_is_found_in_an_extended_file() -> None:
    frame, ours = chunk(b"VP8 ", GRAY[20:]), chunk(b"Corc", ENVELOPE)
    exif = chunk(b"EXIF", b"II*\0\x08\0\0\0\0\0")
    for data in (
        riff(extended(40, 24, 8), frame, exif, ours),
        riff(extended(40, 24, 8), frame, ours, exif),
        riff(extended(40, 24), frame, chunk(b"abcd", b"odd"), ours),
        webp.embed(GRAY, ENVELOPE) + b"behind the file's end",
    ):
        assert webp.extract(data) == ENVELOPE
        assert webp.size(data) == (40, 24)
        np.testing.assert_array_equal(webp.decode(data)[0], webp.decode(GRAY)[0])


def test_w2_of_two_envelopes_the_first_counts() -> None:
    assert webp.extract(webp.embed(webp.embed(GRAY, ENVELOPE), b"\x10\x02")) == ENVELOPE


@pytest.mark.parametrize(
    "foreign",
    [
        b"",
        chunk(b"Corc", b"\x10"),
        chunk(b"Corc", b"\x1c\x00\x81\x81\x01\x90"),  # longer than an envelope can be
        chunk(b"CORC", ENVELOPE),
        chunk(b"corc", ENVELOPE),
        chunk(b"EXIF", b"Corc\x03\0\0\0\x14\x01\x90\0"),
    ],
)
def test_w3_a_foreign_file_has_no_envelope(foreign: bytes) -> None:
    data = riff(chunk(b"VP8 ", GRAY[20:]), foreign)
    assert webp.extract(data) is None
    assert webp.decode(data)[0].shape == (24, 40, 1)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"RIFF", "it is cut short"),
        (GRAY[:12], "it is cut short"),
        (riff(b"VP8 \0"), "a chunk is cut short"),
        (riff(b"VP8 \xff\xff\xff\xff" + GRAY[20:]), "a chunk is cut short"),
        (riff(chunk(b"VP8 ", GRAY[20:]), b"Corc\x04\0\0\0\x14\x01\x90"), "a chunk is cut short"),
    ],
)
def test_w4_damaged_chunks_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(CodecError, match=f"the WebP data is damaged: {message}"):
        webp.extract(data)
    with pytest.raises(CodecError, match="the WebP data is damaged"):
        webp.decode(data)


@pytest.mark.parametrize("at", [26, 28])
def test_w4_an_image_without_pixels_is_refused(at: int) -> None:
    data = riff(chunk(b"VP8 ", GRAY[20:at] + bytes(2) + GRAY[at + 2 :]))
    for read in (webp.size, webp.decode):
        with pytest.raises(CodecError, match="the WebP data is damaged: its image has no pixels"):
            read(data)


@PARTS
def test_w5_a_file_cut_anywhere_is_refused(data: bytes) -> None:
    for stop in range(len(data)):
        with pytest.raises(CodecError, match="WebP data is damaged"):
            webp.decode(data[:stop])


def test_w6_other_kinds_of_webp_are_none_of_ours() -> None:
    picture = Image.fromarray(image(24, 40, 3))
    files = [io.BytesIO() for _ in range(3)]
    picture.save(files[0], "WEBP", lossless=True)
    picture.save(files[1], "WEBP", save_all=True, append_images=[picture.transpose(Image.Transpose.ROTATE_180)])
    picture.putalpha(99)
    picture.save(files[2], "WEBP", quality=50)
    for file, message in zip(files, ("without a lossy image", "without a lossy image", "of mode RGBA"), strict=True):
        with pytest.raises(CodecError, match=rf"{message} is none of ours"):
            webp.decode(file.getvalue())
    smaller, larger = files[0].getvalue()[12:], webp.encode(image(99, 98, 3), 20, ())[12:]
    two = riff(smaller, larger, chunk(b"Corc", b"\x10\x00"))
    for read in (webp.decode, decompress):
        with pytest.raises(CodecError, match="without a lossy image is none of ours"):
            read(two)
    with pytest.raises(CodecError, match="its frame has no header"):
        webp.size(riff(chunk(b"VP8 ", bytes(10))))


def test_the_size_of_a_bomb_is_told_without_its_pixels() -> None:
    bomb = GRAY[:26] + struct.pack("<2H", 16383, 16383) + GRAY[30:]
    assert webp.size(bomb) == (16383, 16383)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([webp.embed(GRAY, ENVELOPE), webp.embed(COLOR, ENVELOPE)]), st.data())
def test_damage_is_refused_or_decoded_but_never_another_exception(data: bytes, draw: st.DataObject) -> None:
    damaged = bytearray(data)
    for _ in range(draw.draw(st.integers(1, 3))):
        at = draw.draw(st.integers(0, len(data) - 1).filter(lambda at: at not in (27, 29)))  # not to hundreds of MB
        damaged[at] = draw.draw(st.integers(0, 255))
    try:
        decoded, _ = webp.decode(bytes(damaged))
        assert decoded.shape[1::-1] == webp.size(bytes(damaged))
        webp.extract(bytes(damaged))
    except CodecError as error:
        assert "\n" not in str(error)
