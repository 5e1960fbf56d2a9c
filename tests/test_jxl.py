"""The JPEG XL codec: codestreams that anything opens, and the envelope in their header."""

import io
import math
import struct
import sys

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage.data import astronaut
from tiny import image

from corec.codecs import imageheader, jpeg, jxl, rgb
from corec.errors import CodecError, MissingExtraError

imagecodecs = pytest.importorskip("imagecodecs")

ENVELOPE = b"\x14\x01\x90"


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(np.square(one.astype(float) - other).mean(), 1e-9)))


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", len(content) + 8, kind) + content


def container(*boxes: bytes) -> bytes:
    return jxl.CONTAINER + box(b"ftyp", b"jxl \0\0\0\0jxl ") + b"".join(boxes)


def bits_of(data: bytes) -> str:
    """The bits of a header as the format counts them, the lowest of a byte first."""
    return "".join(f"{byte:08b}"[::-1] for byte in data)


GRAY = jxl.encode(image(24, 40, 1), 20, ())
COLOR = jxl.encode(image(24, 40, 3), 20, ())
SHAPES = jpeg.STANDARD_SHAPES
"""Tables that are far from plain."""
LEVELS = [jxl.encode(image(24, 40, planes), 20, SHAPES[: planes // 2 + 1]) for planes in (1, 3)]
"""Files of a JPEG's levels."""
PARTS = pytest.mark.parametrize("data", [GRAY, COLOR, *LEVELS], ids=["gray", "color", "gray levels", "color levels"])


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 3]), st.floats(1, 1240))
@example(1, 1, 1, 16.0)
@example(1, 1, 3, 16.0)
@example(3, 3, 3, 1.0)
@example(40, 3, 1, 128.0)
@example(1, 33, 3, 128.0)
@example(1, 1, 3, 200.0)
@example(2, 39, 1, 1240.0)
def test_what_is_written_is_read_at_its_size(height: int, width: int, planes: int, step: float) -> None:
    source = image(height, width, planes)
    data = jxl.encode(source, step, ())
    decoded, told = jxl.decode(data)
    assert decoded.shape == source.shape
    assert decoded.dtype == np.uint8
    assert told is None
    assert jxl.size(data) == (width, height)
    assert jxl.accept(data)


@pytest.mark.parametrize("shape", [(1, 5000, 3), (2100, 3, 3), (300, 270, 1), (260, 300, 3)])
def test_strips_and_images_of_many_groups(shape: tuple[int, int, int]) -> None:
    decoded, _ = jxl.decode(jxl.encode(image(*shape), 3, ()))
    assert psnr(decoded[..., 0], image(*shape)[..., 0]) > 38


def test_steps_are_distances() -> None:
    assert [jxl.settle(step) for step in (0.5, 1, 17.3, 999, 1300)] == [1, 1, 17.3, 999, 1240]
    np.testing.assert_allclose(jxl.condition(20, ()), [math.log(20)])
    assert jxl.distance_at(9) == 1
    direct = imagecodecs.jpegxl_encode(image(24, 40, 1)[..., 0], distance=jxl.distance_at(20), effort=6, lossless=False)
    assert direct == GRAY


def test_coarse_steps_are_distances_of_a_smaller_image() -> None:
    halvings, distances = zip(*(jxl.setting_at(step) for step in np.geomspace(*jxl.STEPS, 2000)), strict=True)
    assert set(halvings) == {0, 1, 2}
    assert list(halvings) == sorted(halvings)
    assert max(distances) < 20  # from there on libjxl halves the image by itself
    for stage in range(3):
        inside = [distance for halving, distance in zip(halvings, distances, strict=True) if halving == stage]
        assert inside == sorted(inside)
        assert inside[-1] > 19.5


@pytest.mark.parametrize("planes", [1, 3])
@pytest.mark.parametrize("factor", [2, 4])
def test_a_smaller_image_is_enlarged_by_any_decoder(planes: int, factor: int) -> None:
    step = {2: 130.0, 4: 410.0}[factor]
    assert 1 << jxl.setting_at(step)[0] == factor
    source = image(530, 301, planes)  # more than one group
    data = jxl.encode(source, step, ())
    start = imageheader.header_of(data).end // 8 + 1  # behind one bit more and zeros up to a whole byte
    # Not all default, a regular frame, VarDCT, no flags, and how much it is to be enlarged.
    assert bits_of(data[start:])[:8] == {2: "0 00 0 00 10", 4: "0 00 0 00 01"}[factor].replace(" ", "")
    assert jxl.size(data) == (301, 530)
    assert psnr(jxl.decode(data)[0][..., 0], source[..., 0]) > 33


def test_frames_that_are_not_known_are_not_enlarged() -> None:
    modular = imagecodecs.jpegxl_encode(image(24, 40, 1)[..., 0], lossless=True)
    with pytest.raises(CodecError, match="not coded as a JPEG's levels are"):
        jxl.decode(modular)
    with pytest.raises(CodecError, match="in a way that Corec does not know"):
        jxl.enlarged(modular, 80, 48, 1)


@pytest.mark.parametrize("planes", [1, 3])
def test_bytes_fall_with_the_step(planes: int) -> None:
    source = image(90, 110, planes)
    sizes = [len(jxl.encode(source, step, ())) for step in np.geomspace(2, 1240, 12)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > 5 * sizes[-1]


def test_gray_is_stored_as_gray() -> None:
    assert imagecodecs.jpegxl_decode(GRAY).shape == (24, 40)
    assert imagecodecs.jpegxl_decode(COLOR).shape == (24, 40, 3)


@pytest.mark.parametrize(("height", "width"), [(24, 40), (1, 1), (31, 17), (300, 280)])
@pytest.mark.parametrize("planes", [1, 3])
def test_libjxl_shows_the_file_with_its_envelope(height: int, width: int, planes: int) -> None:
    source = image(height, width, planes)
    bare = jxl.encode(source, 6, ())
    data = jxl.embed(bare, ENVELOPE)
    found = imagecodecs.jpegxl_decode(data)
    np.testing.assert_array_equal(found, imagecodecs.jpegxl_decode(bare))
    if planes == 3:
        wanted = np.asarray(Image.frombytes("YCbCr", (width, height), source.tobytes()).convert("RGB"))
        assert np.abs(found.astype(int) - wanted).mean() < 6
        red, green, blue = np.moveaxis(found.reshape(-1, 3).astype(float), 1, 0)
        decoded = jxl.decode(data)[0].reshape(-1, 3).astype(float)
        np.testing.assert_allclose(decoded[:, 0], 0.299 * red + 0.587 * green + 0.114 * blue, atol=0.51)
        np.testing.assert_allclose(decoded[:, 1], 128 + (blue - decoded[:, 0]) / 1.772, atol=0.9)
    else:
        np.testing.assert_array_equal(found[..., None], jxl.decode(data)[0])


@pytest.mark.parametrize("planes", [1, 3])
@pytest.mark.parametrize(("height", "width"), [(24, 40), (1, 1), (31, 17), (300, 280)])
def test_it_holds_the_levels_of_a_jpeg(height: int, width: int, planes: int) -> None:
    source, shapes = image(height, width, planes), SHAPES[: planes // 2 + 1]
    data = jxl.embed(jxl.encode(source, 25, shapes), ENVELOPE)
    file = jpeg.encode(source, 25, jxl.plainer(shapes))
    np.testing.assert_array_equal(jxl.samples(data), jpeg.samples(file))
    assert jxl.size(data) == (width, height)
    decoded, told = jxl.decode(data)
    assert told is None
    # libjxl takes levels of 1 and 2 for somewhat less, which is what they are on average.
    assert decoded.shape == source.shape and psnr(decoded, jpeg.decode(file)[0]) > 35
    shown = imagecodecs.jpegxl_decode(data)
    wanted = np.asarray(Image.open(io.BytesIO(file)))
    assert shown.shape == wanted.shape and psnr(shown, wanted) > 33


def test_levels_take_fewer_bytes_than_in_a_jpeg() -> None:
    source, shapes = np.ascontiguousarray(astronaut()[:, :, :1]), np.ones((1, 64))
    for step in (15, 30):
        assert len(jxl.encode(source, step, shapes)) < 0.95 * len(jpeg.encode(source, step, shapes))


def test_samples_of_levels_are_not_clipped_to_colours_that_rgb_has() -> None:
    source = np.full((16, 16, 3), (230, 230, 60), np.uint8)
    np.testing.assert_allclose(jxl.decode(jxl.encode(source, 2, SHAPES))[0].astype(int), source, atol=1)
    assert imagecodecs.jpegxl_decode(jxl.encode(source, 2, SHAPES))[8, 8, 2] == 255


def test_samples_that_are_no_numbers_are_some_levels() -> None:
    samples = np.array([[[np.nan, 0.5, 0.5], [np.inf, -np.inf, 0.5], [60000, -60000, 0], [0.5, 0.5, 0.5]]], np.float16)
    np.testing.assert_array_equal(rgb.ycbcr_of(samples)[0, 3], [128, 128, 128])
    assert rgb.levels(samples).min() == -255 and rgb.levels(samples).max() == 510


def test_chromas_table_is_plain_and_networks_are_told_of_the_learned_ones() -> None:
    (luma, chroma), (_, learned) = jxl.plainer(SHAPES), SHAPES
    np.testing.assert_allclose(luma, SHAPES[0])
    assert chroma[0] == pytest.approx(learned[0]) and (chroma[1:] == chroma[1]).all()
    assert chroma[1] == pytest.approx(np.exp(np.log(learned.reshape(8, 8)[:4, :4].ravel()[1:]).mean()))
    np.testing.assert_array_equal(jxl.condition(20, SHAPES), jpeg.condition(20, SHAPES))


def test_levels_are_moved_as_a_jpegs_are() -> None:
    source, shapes = image(40, 56, 3), SHAPES
    held = jxl.samples(jxl.encode(source, 20, shapes))
    changed, moved = held.copy(), np.zeros((3, 4), bool)
    moved[1, 1] = True
    changed[16:32, 16:32] = 255 - changed[16:32, 16:32]
    facts = changed, (56, 40), 20, shapes, 1.0, moved
    found = jxl.samples(jxl.recode(*facts))
    np.testing.assert_array_equal(found, jpeg.samples(jpeg.recode(*facts[:3], jxl.plainer(shapes), *facts[4:])))
    assert (found != held).any()
    np.testing.assert_array_equal(jxl.bits(held, 20, shapes), jpeg.bits(held, 20, jxl.plainer(shapes)))


def test_an_image_that_is_too_large_is_refused() -> None:
    for shape in ((1, 65501, 1), ((1 << 14) + 1, 1 << 14, 1)):
        source = np.broadcast_to(np.uint8(0), shape)
        with pytest.raises(CodecError, match="at most 65500 pixels a side and 268435456 in all here, not"):
            jxl.encode(source, 20, ())


def test_without_imagecodecs_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    for call in (lambda: jxl.encode(image(8, 8, 1), 20, ()), lambda: jxl.decode(GRAY)):
        with pytest.raises(MissingExtraError, match=r"pip install 'corec\[jxl\]'"):
            call()
    assert jxl.size(GRAY) == (40, 24)
    assert jxl.extract(jxl.embed(GRAY, ENVELOPE)) == ENVELOPE


def test_l1_the_envelope_is_an_extension_of_a_gray_images_header() -> None:
    bare, carrying = bits_of(GRAY[:24]), bits_of(jxl.embed(GRAY, ENVELOPE)[:30])
    size = "1" + "01000" + "000" + "00100"  # height 8 * (2 + 1), no ratio, width 8 * (4 + 1)
    gray = "0" + "0" + "0" + "00" + "1" + "00" + "1" + "0" + "0" + "10" + "10" + "0" + "01" + "1101" + "10"
    signature = bits_of(b"\xff\x0a")
    assert bare.startswith(signature + size + gray + "00")
    extension = "01" + "11110111" + "01" + "10110000" + bits_of(ENVELOPE) + "000000"  # 17 + 239: 8; 17 + 13: 30 bits
    rest = bare[len(signature + size + gray) + 2 :]
    assert carrying == (signature + size + gray + extension + rest)[: len(carrying)]
    assert len(jxl.embed(GRAY, ENVELOPE)) - len(GRAY) == 6


def test_l1_the_envelope_is_an_extension_of_a_colour_images_header() -> None:
    bare, carrying = bits_of(COLOR[:24]), bits_of(jxl.embed(COLOR, ENVELOPE)[:31])
    before = bits_of(b"\xff\x0a") + "1" + "01000" + "000" + "00100"
    assert bare.startswith(before + "1")
    told = "0" + "0" + "0" + "00" + "1" + "00" + "1" + "1"
    extension = "01" + "11110111" + "01" + "01010000" + bits_of(ENVELOPE) + "000"
    assert carrying == (before + told + extension + bare[len(before) + 1 :])[: len(carrying)]
    assert len(jxl.embed(COLOR, ENVELOPE)) - len(COLOR) == 7


@given(st.sampled_from([GRAY, COLOR, *LEVELS]), st.binary(min_size=2, max_size=4))
def test_l1_what_is_embedded_is_extracted_and_all_else_stays(data: bytes, envelope: bytes) -> None:
    carrying = jxl.embed(data, envelope)
    assert jxl.extract(carrying) == envelope
    assert carrying[-(len(data) - 24) :] == data[24:]
    assert jxl.embed(carrying, ENVELOPE) == jxl.embed(data, ENVELOPE)


@PARTS
def test_l2_the_envelope_is_found_in_a_container(data: bytes) -> None:
    carrying = jxl.embed(data, ENVELOPE)
    parts = box(b"jxlp", b"\0\0\0\0" + carrying[:30]) + box(b"jxlp", b"\x80\0\0\1" + carrying[30:])
    exif = box(b"Exif", b"\0\0\0\0II*\0\x08\0\0\0\0\0")
    for file in (container(box(b"jxlc", carrying)), container(exif, box(b"jxlc", carrying)), container(exif, parts)):
        assert jxl.accept(file)
        assert jxl.extract(file) == ENVELOPE
        assert jxl.size(file) == (40, 24)
        np.testing.assert_array_equal(jxl.decode(file)[0], jxl.decode(data)[0])
    assert jxl.extract(container(box(b"jxlc", data))) is None


def u64(value: int) -> str:
    """A U64 in its shortest form."""
    if value <= 16:
        return "00" if value == 0 else "10" + lowest_first(value - 1, 4)
    if value <= 272:
        return "01" + lowest_first(value - 17, 8)
    bits = "11" + lowest_first(value % 4096, 12)
    place = 12
    while value >> place:
        width = min(8, 64 - place)
        bits += "1" + lowest_first((value >> place) % (1 << width), width)
        place += width
    return bits if place == 64 else bits + "0"


def lowest_first(value: int, width: int) -> str:
    return f"{value:0{width}b}"[::-1]


def extended(*extensions: tuple[int, int, int]) -> bytes:
    """The gray file's header with extensions: number, bits, value."""
    bits = bits_of(GRAY)[:54] + u64(sum(1 << number for number, _, _ in extensions))
    bits += "".join(u64(width) for _, width, _ in extensions)
    bits += "".join(lowest_first(value, min(width, 300)) for _, width, value in extensions) + 300 * "0"
    return bytes(int(bits[at : at + 8][::-1], 2) for at in range(0, len(bits) - 7, 8))


OURS = int.from_bytes(ENVELOPE, "little")


@pytest.mark.parametrize(
    ("extensions", "envelope"),
    [
        ([(8, 30, OURS)], ENVELOPE),
        ([(8, 24, OURS)], ENVELOPE),
        ([(3, 11, 2047), (8, 27, OURS)], ENVELOPE),
        ([(8, 27, OURS), (63, 20, 99)], ENVELOPE),
        ([(8, 27, OURS), (20, 300, 99)], ENVELOPE),
        ([(3, 24, OURS)], None),
        ([(9, 24, OURS)], None),
        ([(63, 24, OURS)], None),
        ([(8, 30, OURS | 1 << 29)], None),  # something where zeros fill up
        ([(8, 8, 0x14)], None),
        ([(8, 40, OURS)], ENVELOPE + bytes(2)),
        ([(8, 48, OURS)], None),  # longer than an envelope can be
        ([(8, 0, 0)], None),
    ],
)
def test_l3_other_extensions_are_none_of_ours(extensions: list[tuple[int, int, int]], envelope: bytes | None) -> None:
    assert jxl.extract(extended(*extensions)) == envelope
    assert jxl.size(extended(*extensions)) == (40, 24)


@pytest.mark.parametrize("kind", ["L", "RGB", "RGBA", "16 bits", "float", "lossless"])
def test_l3_a_foreign_file_has_no_envelope(kind: str) -> None:
    shapes = {"L": (8, 9), "RGB": (8, 9, 3), "RGBA": (8, 9, 4)}
    types = {"16 bits": np.uint16, "float": np.float32}
    pixels = np.zeros(shapes.get(kind, (8, 9)), types.get(kind, np.uint8))
    data = imagecodecs.jpegxl_encode(pixels, distance=0.0 if kind == "lossless" else 2.0, lossless=kind == "lossless")
    assert jxl.extract(data) is None
    assert jxl.size(data) == (9, 8)
    if kind in ("RGBA", "float"):
        with pytest.raises(CodecError, match="none of ours"):
            jxl.embed(data, ENVELOPE)


def test_l4_a_header_that_is_cut_short_is_refused() -> None:
    data = jxl.embed(GRAY, ENVELOPE)
    for stop in range(2, 12):
        for read in (jxl.size, jxl.extract):
            with pytest.raises(CodecError, match="its header is cut short"):
                read(data[:stop])
    with pytest.raises(CodecError, match="its header is cut short"):
        jxl.extract(extended((8, 1 << 40, 0)))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (container(), "it has no codestream"),
        (container(box(b"jxlc", b"what else")), "it has no codestream"),
        (container(box(b"jxlc", GRAY))[:-1], "a box is cut short"),
        (container(b"\0\0\0\7jxlc"), "a box is cut short"),
        (container(b"\0\0\0\1jxlc\0\0"), "a box is cut short"),
        (container(b"\0\0"), "a box is cut short"),
    ],
)
def test_l4_damaged_boxes_are_refused(data: bytes, message: str) -> None:
    for read in (jxl.size, jxl.extract, jxl.decode):
        with pytest.raises(CodecError, match=message):
            read(data)


@PARTS
def test_l5_a_file_cut_anywhere_is_refused(data: bytes) -> None:
    for stop in range(len(data)):
        with pytest.raises(CodecError, match="damaged"):
            jxl.decode(data[:stop])


def test_l6_another_kind_of_image_is_none_of_ours() -> None:
    pages = imagecodecs.jpegxl_encode(np.zeros((2, 8, 9), np.uint8), distance=1.0)
    deep = imagecodecs.jpegxl_encode(np.zeros((8, 9), np.uint16), distance=1.0)
    alpha = imagecodecs.jpegxl_encode(np.zeros((8, 9, 4), np.uint8), distance=1.0)
    for data in (pages, deep, alpha):
        with pytest.raises(CodecError, match="none of ours"):
            jxl.decode(data)


def test_l6_levels_that_are_said_to_be_of_more_bits_are_none_of_ours() -> None:
    data = jxl.encode(image(24, 40, 3), 20, SHAPES)
    start, _ = imageheader.header_of(data).depth
    assert jxl.decode(data)[0].shape == (24, 40, 3)
    bits = int.from_bytes(data, "little") | 1 << start + 1  # behind the bit for floats, which of four depths
    with pytest.raises(CodecError, match="none of ours"):
        jxl.decode(bits.to_bytes(len(data), "little"))


@pytest.mark.parametrize(
    ("side", "way", "length"),
    [(1, 0, 9), (512, 0, 9), (513, 1, 13), (8192, 1, 13), (8193, 2, 18), (65500, 2, 18), (1 << 30, 3, 30)],
)
def test_sides_of_any_length_are_read(side: int, way: int, length: int) -> None:
    number = (side - 1) << 3 | way << 1 | 6 << length + 8  # not small, the way, the height, no ratio, the width 7
    bits = imageheader.Bits(number.to_bytes(8, "little"))
    assert imageheader.dimensions(bits) == (7, side) and bits.at == 17 + length
    assert imageheader.joined(imageheader.size_bits(7, side)) == (number, 17 + length)


def test_l6_a_size_above_level_5_is_refused() -> None:
    bits = bits_of(b"\xff\x0a") + "0" + "11" + lowest_first((1 << 18), 30) + "000" + "00" + lowest_first(7, 9) + "1"
    data = int(bits[::-1], 2).to_bytes(40, "little")
    assert jxl.size(data) == (8, (1 << 18) + 1)
    with pytest.raises(CodecError, match="8x262145 pixels is none of ours"):
        jxl.decode(data)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([GRAY, COLOR, *LEVELS, container(box(b"jxlc", jxl.embed(GRAY, ENVELOPE)))]), st.data())
def test_damage_is_refused_or_decoded_but_never_another_exception(data: bytes, draw: st.DataObject) -> None:
    damaged = bytearray(data)
    for _ in range(draw.draw(st.integers(1, 3))):
        damaged[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    try:
        jxl.extract(bytes(damaged))
        if math.prod(jxl.size(bytes(damaged))) < 1_000_000:  # as the pipeline, which asks before it decodes
            jxl.decode(bytes(damaged))
    except CodecError as error:
        assert "\n" not in str(error)
