"""The JPEG codec: files that anything opens, coefficients that we chose, and where the envelope rides."""

import contextlib
import io
import struct

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny import image

from corec.codecs import jpeg
from corec.codecs.registry import codec_named, codec_of
from corec.errors import CodecError

ROWS = np.arange(64).reshape(8, 8)


def tables(step: float, count: int = 1) -> np.ndarray:
    """Tables that rise with frequency, faster downwards than to the right: a transposed one would show."""
    rising = step * (1 + 0.09 * (ROWS // 8) + 0.04 * (ROWS % 8)).ravel()
    return np.clip(np.rint([rising, 1.5 * rising][:count]), 1, 255).astype(np.int64)


@pytest.mark.parametrize(("height", "width", "planes"), [(64, 96, 1), (64, 96, 3), (37, 51, 3), (1, 1, 3)])
def test_bits_rise_about_as_those_of_files(height: int, width: int, planes: int) -> None:
    picture, shapes, sizes, bits = image(height, width, planes), np.ones((2, 64)), [], []
    for step in (20.0, 5.0):
        data = jpeg.encode(picture, step, shapes)
        parts = jpeg.bits(jpeg.samples(data), step, shapes)
        assert parts.shape == (-(-height // 16), -(-width // 16))
        sizes.append(8 * len(data))
        bits.append(parts.sum())
    if height == 64:
        assert 0.6 < (bits[1] - bits[0]) / (sizes[1] - sizes[0]) < 1.4


def tables_in(data: bytes) -> np.ndarray:
    """The quantisation tables of a file, as Pillow reads them."""
    with Image.open(io.BytesIO(data)) as picture:
        return np.array([table for _, table in sorted(picture.quantization.items())])


def markers(data: bytes) -> list[int]:
    return [marker for marker, _, _ in jpeg.segments(data)]


def segment(marker: int, payload: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload


GRAY = jpeg.encode(image(24, 40, 1), 1, tables(20))
COLOR = jpeg.encode(image(24, 40, 3), 1, tables(20, 2))
PARTS = pytest.mark.parametrize("data", [GRAY, COLOR], ids=["gray", "color"])


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 3]), st.floats(1, 120))
@example(1, 1, 1, 16.0)
@example(1, 1, 3, 16.0)
@example(1, 33, 3, 255.0)
def test_what_is_written_is_read_at_its_size_with_its_tables(height: int, width: int, planes: int, step: float) -> None:
    source, wanted = image(height, width, planes), tables(step, 1 if planes == 1 else 2)
    data = jpeg.encode(source, 1, wanted)
    decoded, found = jpeg.decode(data)
    assert decoded.shape == source.shape
    assert decoded.dtype == np.uint8
    np.testing.assert_array_equal(tables_in(data), wanted)
    np.testing.assert_allclose(found, np.log(wanted).mean(1))
    np.testing.assert_allclose(jpeg.condition(1, wanted), found)
    assert jpeg.size(data) == (width, height)


def test_a_strip_like_and_a_tall_image() -> None:
    for shape in ((1, 5000, 3), (jpeg.STRIP + 9, 3, 3), (2 * jpeg.STRIP + 1, 17, 1)):
        decoded, _ = jpeg.decode(jpeg.encode(image(*shape), 1, tables(3, 1 if shape[2] == 1 else 2)))
        assert np.abs(decoded[..., 0].astype(int) - image(*shape)[..., 0]).mean() < 3


def test_tables_are_whole_numbers_that_jpeg_can_hold() -> None:
    for step in (0.01, 1, 16.4, 255, 1e6):
        found = jpeg.tables_at(step, np.ones((1, 64)))
        assert found.dtype == np.int64
        assert found.min() >= 1
        assert found.max() <= 255
    assert (jpeg.tables_at(16.4, np.ones((1, 64))) == 16).all()


def test_a_table_of_zeros_in_a_damaged_file_is_taken_for_ones() -> None:
    data = jpeg.encode(image(16, 16, 1), 1, tables(20))
    table = data.index(b"\xff\xdb") + 5
    damaged = data[:table] + bytes(64) + data[table + 64 :]
    with contextlib.suppress(CodecError):
        assert jpeg.decode(damaged)[1] == 0


def test_more_scans_than_any_encoder_makes_are_refused() -> None:
    file = io.BytesIO()
    Image.fromarray(image(64, 64, 1)[..., 0]).save(file, "JPEG", progressive=True)
    data = file.getvalue()
    begins = data.rindex(b"\xff\xda")
    many = data[:begins] + data[begins:-2] * 1000 + data[-2:]
    assert jpeg.decode(data[:begins] + data[begins:-2] * 900 + data[-2:])[0].shape == (64, 64, 1)
    for call in (jpeg.decode, jpeg.size, jpeg.log_steps):
        with pytest.raises(CodecError, match="more than 1000 scans"):
            call(many)
    assert jpeg.size(data + b"\xff\xda" * 2000) == (64, 64)  # what follows the image is none of it


def test_equal_tables_stay_two() -> None:
    flat = np.full((2, 64), 255)
    np.testing.assert_array_equal(tables_in(jpeg.encode(image(16, 16, 3), 1, flat)), flat)


@pytest.mark.parametrize("step", [4, 12, 40, 104])
def test_gray_decodes_to_just_what_was_quantised(step: float) -> None:
    source, wanted = image(128, 136, 1), tables(step)
    levels = np.empty((16 * 17, 64))
    levels[:, jpeg.ZIGZAG] = jpeg.quantised(source[..., 0], wanted[0], 1.0, None, 2)
    blocks = (levels * wanted).reshape(16, 17, 8, 8)
    plane = (jpeg.dct_matrix().T @ blocks @ jpeg.dct_matrix() + 128).transpose(0, 2, 1, 3).reshape(128, 136)
    decoded, _ = jpeg.decode(jpeg.encode(source, 1, wanted))
    difference = np.abs(decoded[..., 0].astype(int) - np.clip(np.rint(plane), 0, 255))
    # libjpeg's transform works in integers: a sample near .5 may round otherwise.
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.04


def test_the_quantiser_favours_zero() -> None:
    step, table = 40, np.full((1, 64), 40)
    wave = jpeg.dct_matrix()[:1].T @ jpeg.dct_matrix()[3:4]  # the coefficient (0, 3) alone
    for share, level in ((0.45, 0), (0.55, 0), (0.9, 1), (1.45, 1), (1.95, 2), (-0.55, 0), (-0.9, -1)):
        block = np.clip(np.rint(128 + share * step * wave), 0, 255).astype(np.uint8)
        decoded, _ = jpeg.decode(jpeg.encode(np.tile(block, (4, 4))[..., None], 1, table))
        found = (wave * (decoded[:8, :8, 0].astype(float) - 128)).sum() / step
        assert found == pytest.approx(level, abs=0.1), share


def test_the_deadzone_saves_bytes() -> None:
    source, wanted = image(128, 128, 1), tables(12)
    file = io.BytesIO()
    Image.fromarray(source[..., 0]).save(file, "JPEG", qtables=[wanted[0].tolist()], optimize=True)
    assert len(jpeg.encode(source, 1, wanted)) < 0.97 * len(file.getvalue())


def test_chroma_is_halved_by_plain_means_and_comes_back() -> None:
    source = image(64, 64, 3)
    source[..., 1:] = source[::2, ::2, 1:].repeat(2, 0).repeat(2, 1)
    decoded, _ = jpeg.decode(jpeg.encode(source, 1, np.ones((2, 64), np.int64)))
    assert np.abs(decoded[..., 0].astype(int) - source[..., 0]).max() <= 3
    assert np.abs(decoded[..., 1:].astype(int) - source[..., 1:]).mean() < 8  # 2x2 upsampling is soft, not shifted


def test_the_planes_are_luma_and_chroma_in_this_order() -> None:
    flat = np.broadcast_to(np.array([90, 60, 200], np.uint8), (16, 16, 3))
    data = jpeg.encode(flat, 1, np.ones((2, 64), np.int64))
    assert np.abs(jpeg.decode(data)[0].astype(int) - flat).max() <= 1
    red, green, blue = np.asarray(Image.open(io.BytesIO(data)))[8, 8].astype(int)
    assert (red, green, blue) == pytest.approx((90 + 1.402 * 72, 90 - 0.3441 * -68 - 0.7141 * 72, 0), abs=2)


def test_pillow_counts_table_entries_in_our_order() -> None:
    # Row order throughout: what is asked for and what Pillow reports; in the file it is zigzag.
    table = np.arange(1, 65)[None]
    data = jpeg.encode(image(16, 16, 1), 1, table)
    assert list(Image.open(io.BytesIO(data)).quantization[0]) == list(range(1, 65))  # type: ignore[attr-defined]
    at = data.index(b"\xff\xdb") + 5
    assert list(data[at : at + 10]) == [1, 2, 9, 17, 10, 3, 4, 11, 18, 25]


@PARTS
def test_the_file_has_no_needless_segments(data: bytes) -> None:
    needed = {0xDB, 0xC4, 0xC0, 0xC2}  # tables, Huffman codes, a baseline or progressive frame
    assert set(markers(data)) <= needed
    assert b"JFIF" not in data


@pytest.mark.parametrize(("height", "width"), [(24, 40), (1, 1), (31, 17)])
@pytest.mark.parametrize("planes", [1, 3])
def test_other_software_opens_the_file(height: int, width: int, planes: int) -> None:
    source = image(height, width, planes)
    data = jpeg.embed(jpeg.encode(source, 1, tables(4, 1 if planes == 1 else 2)), b"\x10\x01")
    with Image.open(io.BytesIO(data)) as opened:
        assert opened.size == (width, height)
        assert opened.mode == ("L" if planes == 1 else "RGB")
        assert np.abs(np.asarray(opened.convert("L")).astype(int) - source[..., 0]).mean() < 4
    cv2 = pytest.importorskip("cv2")
    gray = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert gray.shape == (height, width)
    assert np.abs(gray.astype(int) - source[..., 0]).mean() < 4
    assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape == (height, width, 3)


def test_it_is_known_by_its_first_bytes_and_its_name() -> None:
    assert jpeg.accept(GRAY)
    assert not jpeg.accept(b"\x89PNG\r\n")
    assert not jpeg.accept(b"\xff\xd8")
    assert codec_of(GRAY) is codec_named("jpeg") is jpeg
    with pytest.raises(CodecError, match="the file is empty"):
        codec_of(b"")
    with pytest.raises(CodecError, match="no codec 'tiff'; there are: jpeg"):
        codec_named("tiff")


def test_an_image_that_jpeg_cannot_hold_is_refused() -> None:
    with pytest.raises(CodecError, match="at most 65500 pixels a side, and this image has 65501x1"):
        jpeg.encode(np.zeros((1, 65501, 1), np.uint8), 1, tables(20))


@PARTS
def test_j1_the_envelope_is_a_segment_behind_soi(data: bytes) -> None:
    carrying = jpeg.embed(data, b"\x10\x01")
    assert carrying == b"\xff\xd8" + bytes.fromhex("ff eb 00 06 43 6f 10 01") + data[2:]
    assert len(carrying) - len(data) == 8
    assert jpeg.extract(carrying) == b"\x10\x01"
    for before, after in zip(jpeg.decode(data), jpeg.decode(carrying), strict=True):
        np.testing.assert_array_equal(before, after)


@given(st.binary(max_size=13))
def test_j1_what_is_embedded_is_extracted(envelope: bytes) -> None:
    assert jpeg.extract(jpeg.embed(GRAY, envelope)) == envelope


@PARTS
def test_j2_the_envelope_is_found_behind_what_other_programs_put_before_it(data: bytes) -> None:
    carrying = jpeg.embed(data, b"\x10\x01")
    exif = segment(0xE1, b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0")
    for before in (segment(0xE0, b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0"), exif, segment(0xFE, b"a comment"), b"\xff"):
        assert jpeg.extract(data[:2] + before + carrying[2:]) == b"\x10\x01"


def test_j2_of_two_envelopes_the_first_counts() -> None:
    assert jpeg.extract(jpeg.embed(jpeg.embed(GRAY, b"\x10\x02"), b"\x10\x01")) == b"\x10\x01"


@pytest.mark.parametrize(
    "foreign",
    [
        b"",
        segment(0xE0, b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0"),
        segment(0xE1, b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0"),
        segment(0xEB, b"JP\0\x01\0\0\0\x01\0\0\0\x1ejumbjumdc2pa"),  # JUMBF, as content credentials use it
        segment(0xEB, b"HDR_RI ver=11"),
        segment(0xEB, b"Co" + bytes(14)),  # longer than an envelope can be
        segment(0xEB, b"C"),
        segment(0xEB, b""),
        segment(0xEA, b"Co\x10\x01"),
        segment(0xFE, b"Co\x10\x01"),
    ],
)
def test_j3_a_foreign_file_has_no_envelope(foreign: bytes) -> None:
    data = GRAY[:2] + foreign + GRAY[2:]
    assert jpeg.extract(data) is None
    assert jpeg.decode(data)[0].shape == (24, 40, 1)


def test_j3_an_envelope_behind_the_first_scan_is_not_looked_for() -> None:
    assert jpeg.extract(GRAY[:-2] + segment(0xEB, b"Co\x10\x01") + GRAY[-2:]) is None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\xff\xd8\xff", "a marker is missing"),
        (b"\xff\xd8\xff\xd9", "a marker is missing|cut short"),
        (GRAY[:2] + b"\0" + GRAY[2:], "a marker is missing"),
        (GRAY[:2] + b"\xff" * 50, "a marker is missing"),
        (GRAY[:2] + b"\xff\xeb\x00\x01" + GRAY[2:], "cut short"),
        (GRAY[:2] + b"\xff\xeb\xff\xff" + GRAY[2:], "cut short"),
        (GRAY[:30], "cut short"),
    ],
)
def test_j4_damaged_segments_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(CodecError, match=message):
        jpeg.extract(data)


@PARTS
def test_a_file_cut_anywhere_is_refused(data: bytes) -> None:
    for stop in range(3, len(data) - 2):
        with pytest.raises(CodecError, match="JPEG data is damaged"):
            jpeg.decode(data[:stop])


def test_a_jpeg_of_four_components_is_none_of_ours() -> None:
    file = io.BytesIO()
    Image.new("CMYK", (8, 8)).save(file, "JPEG")
    with pytest.raises(CodecError, match="the JPEG file is CMYK"):
        jpeg.decode(file.getvalue())


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([GRAY, COLOR]), st.data())
def test_damage_is_refused_or_decoded_but_never_another_exception(data: bytes, draw: st.DataObject) -> None:
    damaged = bytearray(data)
    for _ in range(draw.draw(st.integers(1, 3))):
        damaged[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    for read in (jpeg.size, jpeg.extract, jpeg.decode):
        try:
            read(bytes(damaged))
        except CodecError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize("planes", [1, 3])
def test_only_what_moved_is_coded_anew(planes: int) -> None:
    """A decoded image with noise in some parts: the others stay as they were, to the last pixel."""
    width, height = 100, 78  # neither is whole blocks
    data = jpeg.encode(image(height, width, planes), 30.0, ())
    decoded, whole = jpeg.decode(data)[0], jpeg.samples(data)
    assert whole.shape == (80, 104, planes)
    moved = np.zeros((5, 7), bool)
    moved[1:3, 2:4] = True
    noise = np.random.default_rng(1).normal(0, 30, whole.shape)
    where = moved.repeat(16, 0).repeat(16, 1)[:80, :104, None]
    aim = np.clip(whole + where * noise, 0, 255).astype(np.uint8)
    dear, cheap, again = (jpeg.recode(aim, (width, height), 30.0, (), price, moved) for price in (3.0, 0.7, 1.0))
    assert len(dear) < len(cheap)
    far = np.abs(jpeg.decode(again)[0].astype(int) - decoded).max(2)
    # Chroma's samples reach into their neighbours where they are enlarged; of its last blocks one half is not known.
    near = np.zeros((height, width), bool)
    near[14:50, 30:66] = True
    near[:, 94:] = planes == 3
    assert far[~near].max() == 0
    assert far[16:48, 32:64].max() > 10


@pytest.mark.parametrize(("height", "width"), [(64, 80), (43, 57), (33, 47), (17, 2), (2, 2), (1, 9)])
@pytest.mark.parametrize("planes", [1, 3])
def test_samples_are_what_is_stored(height: int, width: int, planes: int) -> None:
    """Coded once more they give the same file, which decoded pixels do not, whose chroma is smoothed."""
    data = jpeg.encode(image(height, width, planes), 20.0, ())
    nowhere = np.zeros((-(-height // 16), -(-width // 16)), bool)
    stored, size = jpeg.samples(data), (width, height)
    assert stored.shape == (-(-height // 8) * 8, -(-width // 8) * 8, planes)
    again = jpeg.recode(stored, size, 20.0, (), 1.0, nowhere)
    np.testing.assert_array_equal(jpeg.samples(again)[..., 0], stored[..., 0])
    cut = planes == 3 and {stored.shape[0] % 16, stored.shape[1] % 16} != {0}  # half a block of chroma
    assert again == data or cut
    if planes == 3 and height == 43:
        assert jpeg.recode(jpeg.decode(data)[0], size, 20.0, (), 1.0, nowhere) != data


def test_samples_of_the_largest_image_are_what_libjpeg_can_show() -> None:
    data = jpeg.encode(image(3, jpeg.LARGEST, 1), 20.0, ())
    assert jpeg.samples(data).shape == (8, jpeg.LARGEST, 1)
