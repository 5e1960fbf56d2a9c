"""The JPEG 2000 codec: codestreams that anything opens, smaller than OpenJPEG's, and where the envelope rides."""

import io
import math
import struct

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny import image

from corec.codecs import jpeg2000
from corec.codecs.codestream import COD, COM, QCD, SIZ, SOT, segments
from corec.errors import CodecError, RateError

ENVELOPE = b"\x14\x01\x90"


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.square(one.astype(float) - other).mean()))


def ordinary(source: np.ndarray, decibels: float) -> bytes:
    """OpenJPEG's own file, as Pillow writes it, of the planes as they are."""
    file = io.BytesIO()
    picture = Image.fromarray(source[..., 0] if source.shape[2] == 1 else source)
    options = {"no_jp2": True, "irreversible": True, "num_resolutions": 4, "mct": 0}
    picture.save(file, "JPEG2000", quality_mode="dB", quality_layers=[decibels], **options)
    return file.getvalue()


def shown(data: bytes) -> np.ndarray:
    """What Pillow shows of a gray file."""
    return np.asarray(Image.open(io.BytesIO(data)))[..., None]


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", len(content) + 8, kind) + content


def jp2(stream: bytes, last: bytes | None = None) -> bytes:
    """A JP2 file around a codestream; last: the codestream's box, if it is to be another."""
    height, width = 24, 40
    planes = 3 if stream[41] == 3 else 1
    header = box(b"ihdr", struct.pack(">IIHBBBB", height, width, planes, 7, 7, 0, 0))
    header += box(b"colr", struct.pack(">BBBI", 1, 0, 0, 16 if planes == 3 else 17))
    before = jpeg2000.JP2 + box(b"ftyp", b"jp2 \0\0\0\0jp2 ") + box(b"jp2h", header)
    return before + (box(b"jp2c", stream) if last is None else last)


def comment(payload: bytes, registration: int = 0) -> bytes:
    return struct.pack(">BBHH", 0xFF, COM, len(payload) + 4, registration) + payload


def with_segment(stream: bytes, segment: bytes) -> bytes:
    """The codestream with a segment behind SIZ."""
    at = next(stop for marker, _, stop in segments(stream) if marker == SIZ)
    return stream[:at] + segment + stream[at:]


GRAY = jpeg2000.encode(image(24, 40, 1), 20, ())
COLOR = jpeg2000.encode(image(24, 40, 3), 20, ())
PARTS = pytest.mark.parametrize("data", [GRAY, COLOR], ids=["gray", "color"])


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.sampled_from([1, 3]), st.floats(1, 2048))
@example(1, 1, 1, 16.0)
@example(1, 1, 3, 16.0)
@example(2, 3, 3, 1.0)
@example(1, 65, 3, 2048.0)
def test_what_is_written_is_read_at_its_size(height: int, width: int, planes: int, step: float) -> None:
    source = image(height, width, planes)
    data = jpeg2000.encode(source, step, ())
    decoded, told = jpeg2000.decode(data)
    assert decoded.shape == source.shape
    assert decoded.dtype == np.uint8
    assert told is None
    assert jpeg2000.size(data) == (width, height)
    assert jpeg2000.accept(data)


@pytest.mark.parametrize("shape", [(1, 5000, 3), (2100, 3, 3), (300, 270, 1), (130, 260, 3)])
def test_strips_and_images_of_many_blocks(shape: tuple[int, int, int]) -> None:
    decoded, _ = jpeg2000.decode(jpeg2000.encode(image(*shape), 3, ()))
    assert psnr(decoded, image(*shape)) > 44


@pytest.mark.parametrize("step", [4, 8, 16])
def test_the_error_is_that_of_the_formula(step: float) -> None:
    assert jpeg2000.psnr_at(step) == pytest.approx(10 * math.log10(255**2 * 12 / step**2 * (1 + step / 36) ** 1.3))
    source = image(128, 128, 1)
    decoded, _ = jpeg2000.decode(jpeg2000.encode(source, step, ()))
    assert psnr(decoded, source) == pytest.approx(jpeg2000.psnr_at(step), abs=0.7)


def test_luma_has_about_the_same_error_in_colour() -> None:
    source = image(96, 96, 3)
    source[..., 1:] = 128 + (source[..., 1:].astype(int) - 128) // 6
    gray, colour = (jpeg2000.decode(jpeg2000.encode(part, 12, ()))[0] for part in (source[..., :1], source))
    assert psnr(colour[..., 0], source[..., 0]) == pytest.approx(psnr(gray[..., 0], source[..., 0]), abs=1.5)


@pytest.mark.parametrize("planes", [1, 3])
def test_bytes_fall_with_the_step(planes: int) -> None:
    source = image(90, 110, planes)
    sizes = [len(jpeg2000.encode(source, step, ())) for step in np.geomspace(2, 300, 25)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > 20 * sizes[-1]


def test_the_step_is_kept_to_its_bounds() -> None:
    assert [jpeg2000.settle(step) for step in (0.5, 1, 17.3, 2048, 9999)] == [1, 1, 17.3, 2048, 2048]
    assert jpeg2000.encode(image(20, 20, 1), 0.2, ()) == jpeg2000.encode(image(20, 20, 1), 1, ())
    np.testing.assert_allclose(jpeg2000.condition(20, ()), [math.log(20)])


@PARTS
def test_the_file_has_no_needless_bytes(data: bytes) -> None:
    planes = 1 if data is GRAY else 3
    assert [marker for marker, _, _ in segments(data)] == [SIZ, COD, QCD, SOT]
    lengths = [stop - start for _, start, stop in segments(data)]
    assert lengths == [40 + 3 * planes, 14, 7, 12]  # quantisation: one step for all bands
    assert b"OpenJPEG" not in data


def test_it_is_smaller_than_openjpegs_own_file_and_as_good() -> None:
    source = image(128, 128, 1)
    plain = ordinary(source, jpeg2000.psnr_at(30))
    data = jpeg2000.encode(source, 30, ())
    assert len(data) < len(plain) - 39 - 18  # the comment, and nine bands' steps
    assert (
        psnr(jpeg2000.decode(data)[0], source)
        > psnr(np.asarray(Image.open(io.BytesIO(plain)))[..., None], source) - 0.1
    )


def test_the_planes_are_luma_and_chroma_in_this_order() -> None:
    flat = np.broadcast_to(np.array([90, 60, 200], np.uint8), (16, 16, 3))
    data = jpeg2000.encode(flat, 1, ())
    assert np.abs(jpeg2000.decode(data)[0].astype(int) - flat).max() <= 1
    red, green, blue = np.asarray(Image.open(io.BytesIO(data)))[8, 8].astype(int)
    assert (red, green, blue) == pytest.approx((90 + 1.402 * 72, 90 - 0.3441 * -68 - 0.7141 * 72, 0), abs=2)


def test_colours_beyond_rgb_come_back() -> None:
    flat = np.broadcast_to(np.array([20, 240, 15], np.uint8), (16, 16, 3))
    assert np.abs(jpeg2000.decode(jpeg2000.encode(flat, 1, ()))[0].astype(int) - flat).max() <= 1


@pytest.mark.parametrize("shape", [(1, 64, 1), (1, 8, 3), (300, 1, 1)])
def test_a_line_has_its_levels(shape: tuple[int, int, int]) -> None:
    for level in (255, 90):
        flat = np.full(shape, level, np.uint8)
        assert np.abs(jpeg2000.decode(jpeg2000.encode(flat, 16.0, ()))[0].astype(int) - level).max() <= 1


@pytest.mark.parametrize(("height", "width"), [(24, 40), (1, 1), (31, 17), (130, 150)])
@pytest.mark.parametrize("planes", [1, 3])
def test_other_software_opens_the_file(height: int, width: int, planes: int) -> None:
    source = image(height, width, planes)
    data = jpeg2000.embed(jpeg2000.encode(source, 6, ()), ENVELOPE)
    decoded = jpeg2000.decode(data)[0]
    if planes == 1:
        wanted = decoded[..., 0]
    else:
        wanted = np.asarray(Image.frombytes("YCbCr", (width, height), decoded.tobytes()).convert("RGB"))
    with Image.open(io.BytesIO(data)) as opened:
        assert opened.size == (width, height)
        assert opened.mode == ("L" if planes == 1 else "RGB")
        assert np.abs(np.asarray(opened).astype(int) - wanted).max() <= 3
    cv2 = pytest.importorskip("cv2")
    found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    found = found.reshape(height, width, planes)[..., ::-1].reshape(wanted.shape)
    assert np.abs(found.astype(int) - wanted).max() <= 3


def test_an_image_that_is_too_large_is_refused() -> None:
    with pytest.raises(CodecError, match="at most 32768 pixels a side here, not 32769x1"):
        jpeg2000.encode(np.zeros((1, 32769, 1), np.uint8), 20, ())


@pytest.mark.parametrize("planes", [1, 3])
@pytest.mark.parametrize("size", [150, 400, 900, 5000])
def test_within_fills_a_size_and_never_exceeds_it(size: int, planes: int) -> None:
    source = image(128, 150, planes, seed=3)
    data = jpeg2000.within(source, size)
    assert 0.7 * size < len(data) <= size  # the grain lies in blocks whose next pass may be large
    smaller = jpeg2000.within(source, size * 2 // 3 + 40)
    assert psnr(jpeg2000.decode(data)[0], source) > psnr(jpeg2000.decode(smaller)[0], source) - 0.01


def test_what_shortening_spares_is_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    source = image(160, 150, 1)
    sizes = range(700, 900, 20)
    filled = [jpeg2000.within(source, size) for size in sizes]
    monkeypatch.setattr(jpeg2000, "REFILLS", 0)
    once = [jpeg2000.within(source, size) for size in sizes]
    left = [size - len(data) for size, data in zip(sizes, filled, strict=True)]
    assert min(left) >= 0 and sum(left) < 0.7 * sum(size - len(data) for size, data in zip(sizes, once, strict=True))
    gains = [psnr(shown(data), source) - psnr(shown(before), source) for data, before in zip(filled, once, strict=True)]
    assert min(gains) > -0.005 and np.mean(gains) > 0.01


@pytest.mark.parametrize("side", [8, 9, 12, 16])
def test_within_few_bytes_tiny_noise_in_colour_fits(side: int) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (side, side, 3), np.uint8)
    for size in (200, 300, 450):
        data = jpeg2000.within(noise, size)
        assert len(data) <= size and jpeg2000.decode(data)[0].shape == noise.shape


def test_within_is_better_than_openjpegs_own_file_of_that_size() -> None:
    source = image(128, 128, 1, seed=4)
    for decibels in (28, 32, 36):
        plain = ordinary(source, decibels)
        assert psnr(shown(jpeg2000.within(source, len(plain))), source) > psnr(shown(plain), source)


def test_a_size_that_nothing_fits_is_refused_with_the_smallest() -> None:
    with pytest.raises(RateError) as caught:
        jpeg2000.within(image(64, 64, 1), 60)
    smallest = caught.value.smallest
    assert smallest is not None and smallest < 200
    assert len(jpeg2000.within(image(64, 64, 1), smallest)) <= smallest


@PARTS
def test_k1_the_envelope_is_a_comment_at_the_end_of_the_main_header(data: bytes) -> None:
    carrying = jpeg2000.embed(data, ENVELOPE)
    at = data.index(b"\xff\x90\x00\x0a")
    assert carrying == data[:at] + bytes.fromhex("ff 64 00 08 00 00 43 14 01 90") + data[at:]
    assert len(carrying) - len(data) == 10
    assert jpeg2000.extract(carrying) == ENVELOPE
    np.testing.assert_array_equal(jpeg2000.decode(carrying)[0], jpeg2000.decode(data)[0])


@given(st.binary(min_size=2, max_size=4))
def test_k1_what_is_embedded_is_extracted(envelope: bytes) -> None:
    assert jpeg2000.extract(jpeg2000.embed(COLOR, envelope)) == envelope


def test_k2_the_envelope_is_found_among_other_programs_comments() -> None:
    carrying = jpeg2000.embed(GRAY, ENVELOPE)
    for other in (comment(b"Kakadu-v8.4", 1), comment(b"C\x14", 0), comment(b"", 0), b"\xff\x55\x00\x04\x00\x00"):
        assert jpeg2000.extract(with_segment(carrying, other)) == ENVELOPE
    assert jpeg2000.extract(with_segment(carrying, comment(b"C\x14\x02\x03"))) == b"\x14\x02\x03"


@pytest.mark.parametrize("end", ["to the end", "long length", "trailing box", "plain"])
def test_k3_the_envelope_is_found_in_a_jp2_file(end: str) -> None:
    for stream in (GRAY, COLOR):
        carrying = jpeg2000.embed(stream, ENVELOPE)
        files = {
            "to the end": [jp2(part, b"\0\0\0\0jp2c" + part) for part in (stream, carrying)],
            "long length": [jp2(p, b"\0\0\0\1jp2c" + (len(p) + 16).to_bytes(8) + p) for p in (stream, carrying)],
            "trailing box": [jp2(part) + box(b"xml ", b"<x/>") for part in (stream, carrying)],
            "plain": [jp2(part) for part in (stream, carrying)],
        }
        bare, wanted = files[end]
        assert jpeg2000.accept(bare)
        assert jpeg2000.extract(bare) is None
        assert jpeg2000.extract(wanted) == ENVELOPE
        assert jpeg2000.size(wanted) == (40, 24)
        np.testing.assert_array_equal(jpeg2000.decode(wanted)[0], jpeg2000.decode(stream)[0])
        with Image.open(io.BytesIO(wanted)) as opened:
            assert opened.mode == ("L" if stream is GRAY else "RGB")
            opened.load()


@pytest.mark.parametrize(
    "foreign",
    [
        b"",
        comment(b"Created by OpenJPEG version 2.5.4", 1),
        comment(b"C\x14\x01\x90", 1),  # text
        comment(b"C\x14\x01\x90", 0x436F),
        comment(b"D\x14\x01\x90"),
        comment(b"C\x14\x01\x90\x00\x00\x00"),  # longer than an envelope can be
        comment(b"C\x14"),
        comment(b"C"),
        comment(b""),
        b"\xff\x55\x00\x06C\x14\x01\x90",  # TLM
    ],
)
def test_k4_a_foreign_file_has_no_envelope(foreign: bytes) -> None:
    data = with_segment(GRAY, foreign)
    assert jpeg2000.extract(data) is None
    assert jpeg2000.size(data) == (40, 24)


def test_k4_a_foreign_jp2_has_none_either() -> None:
    for mode in ("L", "RGB"):
        file = io.BytesIO()
        Image.new(mode, (40, 24)).save(file, "JPEG2000")
        assert jpeg2000.accept(file.getvalue())
        assert jpeg2000.extract(file.getvalue()) is None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (GRAY[:40], "cut short"),
        (GRAY[:2], "cut short|no codestream"),
        (GRAY[:45] + b"\0" + GRAY[46:], "a segment is missing"),
        (with_segment(GRAY, b"\xff\x64\x00\x01"), "cut short"),
        (with_segment(GRAY, b"\xff\x64\xff\xff"), "cut short"),
        (GRAY[:2] + GRAY[45:], "no codestream|cut short"),
        (jp2(GRAY)[:-1], "a box is cut short"),
        (jp2(GRAY)[:85], "a box is cut short|no codestream"),
        (jp2(GRAY, box(b"jp2c", b"what else")), "no codestream"),
        (jpeg2000.JP2, "no codestream"),
    ],
)
def test_k5_damaged_boxes_and_segments_are_refused(data: bytes, message: str) -> None:
    for read in (jpeg2000.size, jpeg2000.extract, jpeg2000.decode):
        with pytest.raises(CodecError, match=message):
            read(data)


def test_k5_a_header_without_coding_style_is_refused() -> None:
    for read in (jpeg2000.size, jpeg2000.decode):
        with pytest.raises(CodecError, match="main header is not whole"):
            read(GRAY[:45] + GRAY[59:])


@PARTS
def test_k6_a_file_cut_anywhere_is_refused(data: bytes) -> None:
    for stop in range(len(data)):
        with pytest.raises(CodecError, match=r"damaged"):
            jpeg2000.decode(data[:stop])
    assert jpeg2000.decode(data + b"more")[0].shape[:2] == (24, 40)


def test_k6_a_file_of_which_tiles_are_missing_is_refused() -> None:
    at = GRAY.index(b"\xff\x51") + 6  # SIZ: of the tile of 40 columns, one of four now
    for wider, tile, wrong in ((160, 40, "cut short"), (41, 40, "cut short"), (40, 0, "tiles have no pixels")):
        data = GRAY[:at] + struct.pack(">I", wider) + GRAY[at + 4 : at + 16] + struct.pack(">I", tile) + GRAY[at + 20 :]
        with pytest.raises(CodecError, match=f"damaged: .*{wrong}"):
            jpeg2000.decode(data)


def test_k6_the_last_tile_part_may_reach_to_the_end() -> None:
    at = GRAY.index(b"\xff\x90\x00\x0a")
    data = GRAY[: at + 6] + bytes(4) + GRAY[at + 10 :]
    np.testing.assert_array_equal(jpeg2000.decode(data)[0], jpeg2000.decode(GRAY)[0])
    with pytest.raises(CodecError, match="cut short"):
        jpeg2000.decode(data[:-1])


@pytest.mark.parametrize("mode", ["RGB", "LA", "I;16", "RGBA"])
def test_k7_another_kind_of_image_is_none_of_ours(mode: str) -> None:
    file = io.BytesIO()
    Image.new(mode, (8, 8)).save(file, "JPEG2000", irreversible=True, no_jp2=True)
    with pytest.raises(CodecError, match="none of ours"):
        jpeg2000.decode(file.getvalue())


def test_k7_a_file_without_size_or_of_too_large_a_size_is_refused() -> None:
    for width, message in ((0, "it has no size"), (40000, "none of ours")):
        with pytest.raises(CodecError, match=message):
            jpeg2000.decode(GRAY[:8] + struct.pack(">I", width) + GRAY[12:])


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([GRAY, COLOR, jp2(jpeg2000.embed(GRAY, ENVELOPE))]), st.data())
def test_damage_is_refused_or_decoded_but_never_another_exception(data: bytes, draw: st.DataObject) -> None:
    damaged = bytearray(data)
    for _ in range(draw.draw(st.integers(1, 3))):
        damaged[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    try:
        jpeg2000.extract(bytes(damaged))
        if math.prod(jpeg2000.size(bytes(damaged))) < 1_000_000:  # as the pipeline, which asks before it decodes
            jpeg2000.decode(bytes(damaged))
    except CodecError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("planes", [1, 3])
@pytest.mark.parametrize("size", [200, 400, 5000])
def test_the_smallest_images_fill_their_bytes_too(planes: int, size: int) -> None:
    for height, width in [(1, 1), (2, 3), (3, 2), (40, 2), (4, 4), (8, 8), (16, 16), (1, 40)]:
        source = image(height, width, planes)
        data = jpeg2000.within(source, size)
        assert len(data) <= size and jpeg2000.decode(data)[0].shape == source.shape


@pytest.mark.parametrize("level", [0, 1, 127, 200, 255])
def test_within_few_bytes_a_flat_image_is_shown_or_refused(level: int) -> None:
    source = np.full((50, 100, 1), level, np.uint8)
    for size in range(85, 130, 5):
        try:
            shown = jpeg2000.decode(jpeg2000.within(source, size))[0]
        except RateError as error:
            assert error.smallest and size < error.smallest <= 105
            continue
        assert np.abs(shown.astype(int) - level).max() <= 3


@pytest.mark.parametrize("planes", [1, 3])
def test_a_small_size_is_made_use_of(planes: int) -> None:
    """Headers of its many layers must not take the bytes of what is in them."""
    source = image(256, 256, planes)
    for size in (600, 900, 1600, 3000):
        assert 0.9 * size <= len(jpeg2000.within(source, size)) <= size
