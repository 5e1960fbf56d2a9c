"""The AVIF codec: small files that anything opens, and the envelope in a box."""

import io
import struct
import sys

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny import image

from corec.codecs import avif, isobmff
from corec.codecs.boxes import boxes
from corec.errors import CodecError, MissingExtraError

try:
    avif.plugin()
except MissingExtraError as error:
    pytest.skip(str(error), allow_module_level=True)

ENVELOPE = b"\x14\x01\x90"


def kinds(data: bytes) -> list[bytes]:
    return [kind for kind, _, _ in boxes(data)]


def quantiser_index(data: bytes) -> int:
    """base_q_idx of an image of at most 64 x 64 pixels (AV1, 5.9.2).

    The frame header begins with four flags, none of them set but the last: uniform tiles.
    """
    sequence = isobmff.content(data, b"mdat")
    frame = sequence[2 + sequence[1] :]
    assert sequence[0] == 0x0A  # a sequence header with its size
    assert frame[0] == 0x32  # a frame with its size
    start = 2 + (frame[1] > 127)
    head = int.from_bytes(frame[start : start + 2])
    assert head >> 12 == 1
    return head >> 4 & 255


GRAY = avif.encode(image(24, 40, 1), 20, ())
COLOR = avif.encode(image(24, 40, 3), 20, ())
PARTS = pytest.mark.parametrize("data", [GRAY, COLOR], ids=["gray", "color"])


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 3]), st.floats(1, 250))
@example(1, 1, 1, 16.0)
@example(1, 1, 3, 16.0)
@example(17, 1, 3, 1.0)
@example(1, 33, 1, 228.5)
def test_what_is_written_is_read_at_its_size(height: int, width: int, planes: int, step: float) -> None:
    source = image(height, width, planes)
    data = avif.encode(source, step, ())
    decoded, told = avif.decode(data)
    assert decoded.shape == source.shape
    assert decoded.dtype == np.uint8
    assert told is None
    assert avif.size(data) == (width, height)
    assert avif.accept(data)


@pytest.mark.parametrize("shape", [(1, 3000, 3), (2100, 3, 1)])
def test_strip_like_images(shape: tuple[int, int, int]) -> None:
    decoded, _ = avif.decode(avif.encode(image(*shape), 3, ()))
    assert np.abs(decoded[..., 0].astype(int) - image(*shape)[..., 0]).mean() < 3


@pytest.mark.parametrize("quantiser", [1, 2, 31, 61, 62, 63])
def test_a_step_is_that_of_its_quantiser(quantiser: int) -> None:
    step = avif.AC_STEPS[quantiser - 1] / 8
    assert avif.settle(1.01 * step) == avif.settle(step) == step
    wanted = {62: 249, 63: 255}.get(quantiser, 4 * quantiser)
    assert quantiser_index(avif.encode(image(24, 40, 1), step, ())) == wanted
    assert quantiser_index(avif.encode(image(24, 40, 3), step, ())) == wanted


def test_between_quantisers_files_grow_by_sharpness() -> None:
    coarse, *between, fine = avif.AC_STEPS[30] / 8, *avif.FINER[3 * 30 + 1 : 3 * 30 + 3], avif.AC_STEPS[29] / 8
    assert coarse > between[0] > between[1] > fine
    steps = coarse, *between, fine
    assert [quantiser_index(avif.encode(image(24, 40, 3), step, ())) for step in steps] == [124, 124, 124, 120]
    sizes = [len(avif.encode(image(256, 256, 1), step, ())) for step in steps]
    assert sizes[0] < min(sizes[1:3]) and max(sizes[1:3]) < 1.1 * sizes[0]
    assert [float(np.exp(avif.condition(step, ())[0])) for step in between] == pytest.approx([coarse, fine])


def test_steps_settle_to_those_that_there_are() -> None:
    finest, coarsest = avif.STEPS
    assert avif.settle(0.1) == finest
    assert avif.settle(999) == coarsest
    steps = [avif.settle(step) for step in np.geomspace(1, 250, 2000)]
    assert steps == sorted(steps)
    assert len(set(steps)) == 3 * 63 - 2 and {step / 8 for step in avif.AC_STEPS} <= set(steps)
    assert [avif.settle(step) for step in steps] == steps
    np.testing.assert_allclose(avif.condition(20, ()), [np.log(159 / 8)], rtol=0.03)


@pytest.mark.parametrize("step", [6, 12, 24, 48])
def test_the_step_is_that_of_a_uniform_quantiser(step: float) -> None:
    noise = np.clip(np.random.default_rng(0).normal(128, 30, (64, 64, 1)), 0, 255).astype(np.uint8)
    decoded, _ = avif.decode(avif.encode(noise, step, ()))
    assert 0.8 < np.square(decoded.astype(float) - noise).mean() / (step**2 / 12) < 1.3


@pytest.mark.parametrize("planes", [1, 3])
def test_bytes_fall_with_the_step(planes: int) -> None:
    sizes = [len(avif.encode(image(70, 90, planes), step, ())) for step in np.geomspace(1.4, 228, 8)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > 5 * sizes[-1]


def test_gray_is_monochrome_and_colour_has_all_its_chroma() -> None:
    flags = [isobmff.content(data, b"meta", b"iprp", b"ipco", b"av1C")[2] & 0b11100 for data in (GRAY, COLOR)]
    assert flags == [0b11100, 0]  # monochrome (which counts as halved both ways), and 4:4:4


def test_gray_that_the_plugin_shows_as_rgb_is_gray(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = avif.decode(GRAY)[0]
    reader = avif.plugin().AvifImageFile
    load = reader.load

    def load_as_rgb(self: Image.Image) -> object:
        result = load(self)
        if self.mode == "L":
            self.im, self._mode = self.im.convert("RGB"), "RGB"
        return result

    monkeypatch.setattr(reader, "load", load_as_rgb)
    np.testing.assert_array_equal(avif.decode(GRAY)[0], wanted)


def test_large_images_are_coded_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = avif.encode(image(64, 64, 1), 5, ())
    monkeypatch.setattr(avif, "LARGE", 64 * 64 - 1)
    assert avif.encode(image(64, 64, 1), 5, ()) != slow


def test_the_planes_are_luma_and_chroma_in_this_order() -> None:
    source = np.broadcast_to(np.array([90, 110, 160], np.uint8), (32, 32, 3))
    data = avif.encode(source, 2, ())
    assert np.abs(avif.decode(data)[0].astype(int) - source).max() <= 2
    red, green, blue = np.asarray(Image.open(io.BytesIO(data)))[8, 8].astype(int)
    assert (red, green, blue) == pytest.approx(
        (90 + 1.402 * 32, 90 - 0.3441 * -18 - 0.7141 * 32, 90 + 1.772 * -18), abs=3
    )


@pytest.mark.parametrize(("height", "width"), [(24, 40), (1, 1), (31, 17)])
@pytest.mark.parametrize("planes", [1, 3])
def test_other_software_opens_the_file(height: int, width: int, planes: int) -> None:
    source = image(height, width, planes)
    bare = avif.encode(source, 4, ())
    data = avif.embed(bare, ENVELOPE)
    with Image.open(io.BytesIO(data)) as opened:
        assert opened.size == (width, height)
        shown = np.asarray(opened.convert("RGB"))
        assert np.abs(np.asarray(opened.convert("L")).astype(int) - source[..., 0]).mean() < 4
    np.testing.assert_array_equal(shown, np.asarray(Image.open(io.BytesIO(bare)).convert("RGB")))
    cv2 = pytest.importorskip("cv2")
    found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if found is None and "avif" not in cv2.getBuildInformation().lower():
        pytest.skip("this OpenCV has no AVIF")
    np.testing.assert_allclose(found[..., ::-1].astype(int), shown, atol=1)


def test_libheif_finds_the_image() -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    for bare, mode in ((GRAY, "L"), (COLOR, "RGB")):
        found = pillow_heif.open_heif(avif.embed(bare, ENVELOPE))  # it has no decoder of AV1
        assert (found.size, found.mode, len(found)) == ((40, 24), mode, 1)


def test_ffmpeg_opens_the_file_in_its_colours() -> None:
    av = pytest.importorskip("av")
    for bare, kind in ((GRAY, "gray"), (COLOR, "yuv444p")):
        with av.open(io.BytesIO(avif.embed(bare, ENVELOPE))) as opened:
            frame = next(opened.decode(video=0))
            assert (frame.width, frame.height, frame.format.name) == (40, 24, kind)
            assert (frame.color_range, frame.colorspace) == (2, 6)  # full range, BT.601


def test_it_is_known_by_its_brand() -> None:
    assert avif.accept(GRAY)
    assert avif.accept(isobmff.box(b"ftyp", b"mif1", bytes(4), b"miaf", b"avif"))
    for foreign in (
        b"",
        b"\0\0\0\x18ftyp",
        b"\xff\xd8\xff",
        isobmff.box(b"ftyp", b"heic", bytes(4), b"mif1", b"heic"),
        isobmff.box(b"ftyp", b"jp2 ", bytes(4), b"jp2 "),
        isobmff.box(b"ftyp", b"avif"),
        isobmff.box(b"ftyp", b"avif", bytes(4))[:-1],
        isobmff.box(b"styp", b"avif", bytes(4), b"avif"),
    ):
        assert not avif.accept(foreign)


@pytest.mark.parametrize(("data", "length"), [(GRAY, 244), (COLOR, 246)], ids=["gray", "color"])
def test_the_file_has_no_needless_boxes(data: bytes, length: int) -> None:
    assert kinds(data) == [b"ftyp", b"meta", b"mdat"]
    meta = isobmff.content(data, b"meta")
    assert kinds(meta) == [b"hdlr", b"pitm", b"iloc", b"iinf", b"iprp"]
    assert kinds(isobmff.content(meta, b"iprp", b"ipco")) == [b"ispe", b"pixi", b"av1C"]
    payload = isobmff.content(data, b"mdat")
    assert payload[0] >> 3 == 1  # a sequence header (AV1, 6.2.2)
    assert len(data) - len(payload) == length
    offset, extent = struct.unpack(">2I", isobmff.content(meta, b"iloc")[-8:])
    assert data[offset:] == payload
    assert len(payload) == extent


def test_an_image_that_avif_cannot_hold_is_refused() -> None:
    with pytest.raises(CodecError, match="at most 16384 pixels a side, and this image has 16385x1"):
        avif.encode(np.zeros((1, 16385, 1), np.uint8), 20, ())


def test_without_the_plugin_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(avif.plugin(), "SUPPORTED", False)
    for use in (lambda: avif.encode(image(4, 4, 1), 20, ()), lambda: avif.decode(GRAY), lambda: avif.size(GRAY)):
        with pytest.raises(MissingExtraError, match=r"pip install 'pillow>=11.3'"):
            use()
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "PIL.AvifImagePlugin", None)
    monkeypatch.delattr(sys.modules["PIL"], "AvifImagePlugin")
    with pytest.raises(MissingExtraError, match=r"pip install 'pillow>=11.3'"):
        avif.plugin()


@PARTS
def test_a1_the_envelope_is_a_box_at_the_end(data: bytes) -> None:
    carrying = avif.embed(data, ENVELOPE)
    assert carrying == data + bytes.fromhex("00 00 00 0b 43 6f 72 63 14 01 90")
    assert avif.extract(carrying) == ENVELOPE
    np.testing.assert_array_equal(avif.decode(carrying)[0], avif.decode(data)[0])


@pytest.mark.parametrize("envelope", [b"\x10\x01", ENVELOPE, b"\x14\x81\x01\x90", b"\x1c\x0a\x81\x01\x90"])
def test_a1_what_is_embedded_is_extracted(envelope: bytes) -> None:
    carrying = avif.embed(GRAY, envelope)
    assert avif.extract(carrying) == envelope
    assert avif.overhead(envelope, carrying) == len(carrying) - len(GRAY)


def test_a2_the_envelope_is_found_among_other_boxes() -> None:
    ours, other = isobmff.box(b"Corc", ENVELOPE), isobmff.box(b"free", bytes(9))
    long = struct.pack(">I4sQ", 1, b"Corc", 19) + ENVELOPE
    last = b"\0\0\0\0Corc" + ENVELOPE
    for data in (GRAY + other + ours, GRAY + ours + other, GRAY + long, GRAY + other + last):
        assert avif.extract(data) == ENVELOPE
        np.testing.assert_array_equal(avif.decode(data)[0], avif.decode(GRAY)[0])


def test_a2_of_two_envelopes_the_first_counts() -> None:
    assert avif.extract(avif.embed(avif.embed(GRAY, ENVELOPE), b"\x10\x02")) == ENVELOPE


@pytest.mark.parametrize(
    "foreign",
    [
        b"",
        isobmff.box(b"free", b"Corc" + ENVELOPE),
        isobmff.box(b"uuid", bytes(16), b"Corc" + ENVELOPE),
        isobmff.box(b"corc", ENVELOPE),
        isobmff.box(b"Corc"),
        isobmff.box(b"Corc", b"\x14"),
        isobmff.box(b"Corc", b"\x1c\x00\x81\x81\x01\x90"),  # longer than an envelope can be
        isobmff.box(b"mdat", isobmff.box(b"Corc", ENVELOPE)),
    ],
)
def test_a3_a_foreign_file_has_no_envelope(foreign: bytes) -> None:
    assert avif.extract(GRAY + foreign) is None
    assert avif.decode(GRAY + foreign)[0].shape == (24, 40, 1)


def test_a3_pillows_own_file_has_no_envelope() -> None:
    file = io.BytesIO()
    Image.fromarray(image(24, 40, 3)).save(file, "AVIF", speed=9)
    assert avif.extract(file.getvalue()) is None
    assert avif.decode(file.getvalue())[0].shape == (24, 40, 3)


@pytest.mark.parametrize(
    "end", [b"\0\0\0", b"\0\0\0\x07Corc", b"\0\0\0\x0cCorc\x14\x01\x90", b"\0\0\0\x01Corc\0\0\0\0"]
)
def test_a4_damaged_boxes_are_refused(end: bytes) -> None:
    with pytest.raises(CodecError, match="a box is cut short"):
        avif.extract(GRAY + end)


def test_a4_a_file_without_an_image_is_refused() -> None:
    with pytest.raises(CodecError, match="the file is damaged: it has no box meta"):
        avif.decode(GRAY[:28])
    with pytest.raises(CodecError, match="the file is damaged: it has no box av1C"):
        avif.decode(GRAY.replace(b"av1C", b"hvcC"))


@PARTS
def test_a5_a_file_cut_anywhere_is_refused(data: bytes) -> None:
    for stop in [*range(0, len(data), 3), len(data) - 1]:
        with pytest.raises(CodecError, match="damaged"):
            avif.decode(data[:stop])


def test_a6_an_image_with_transparency_is_none_of_ours() -> None:
    file = io.BytesIO()
    Image.new("RGBA", (8, 8), (9, 99, 9, 99)).save(file, "AVIF", speed=9)
    with pytest.raises(CodecError, match="mode RGBA is none of ours"):
        avif.decode(file.getvalue())


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([avif.embed(GRAY, ENVELOPE), avif.embed(COLOR, ENVELOPE)]), st.data())
def test_damage_is_refused_or_decoded_but_never_another_exception(data: bytes, draw: st.DataObject) -> None:
    damaged = bytearray(data)
    for _ in range(draw.draw(st.integers(1, 3))):
        damaged[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    try:
        decoded, _ = avif.decode(bytes(damaged))
        assert decoded.shape[1::-1] == avif.size(bytes(damaged))
        avif.extract(bytes(damaged))
    except CodecError as error:
        assert "\n" not in str(error)
