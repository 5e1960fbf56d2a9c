"""The HEIC codec: files that HEIF readers open, and the envelope in a box."""

import io
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tiny import image

from corec.codecs import avif, bpg, heic, hevc, isobmff
from corec.codecs.boxes import boxes
from corec.errors import CodecError, MissingExtraError

pillow_heif = pytest.importorskip("pillow_heif", reason="needs the extra heic")

ENVELOPE = b"\x14\x01\x90"


def properties(data: bytes) -> dict[bytes, bytes]:
    """The properties of the image: kind -> content."""
    held = isobmff.content(data, b"meta", b"iprp", b"ipco")
    return {kind: held[start:stop] for kind, start, stop in boxes(held)}


GRAY = heic.encode(image(24, 40, 1), 20, ())
COLOR = heic.encode(image(24, 40, 3), 20, ())
PARTS = pytest.mark.parametrize("data", [GRAY, COLOR], ids=["gray", "color"])


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 80), st.integers(1, 80), st.sampled_from([1, 3]), st.floats(0.5, 250))
@example(1, 1, 1, 16.0)
@example(1, 1, 3, 16.0)
@example(17, 1, 3, 1.0)
@example(64, 64, 3, 10.0)
@example(1, 66, 1, 228.5)
def test_what_is_written_is_read_at_its_size(height: int, width: int, planes: int, step: float) -> None:
    source = image(height, width, planes)
    data = heic.encode(source, step, ())
    decoded, told = heic.decode(data)
    assert decoded.shape == source.shape
    assert decoded.dtype == np.uint8
    assert told is None
    assert heic.size(data) == (width, height)
    assert heic.accept(data)


@pytest.mark.parametrize("shape", [(1, 3000, 3), (2100, 3, 1), (130, 67, 3)])
def test_strip_like_images(shape: tuple[int, int, int]) -> None:
    decoded, _ = heic.decode(heic.encode(image(*shape), 3, ()))
    assert np.abs(decoded[..., 0].astype(int) - image(*shape)[..., 0]).mean() < 3


def test_steps_are_those_of_hevc() -> None:
    finest, coarsest = heic.STEPS
    assert [heic.settle(step) for step in (0.5, 1, 17.3, 999)] == [finest, 1, 17.3, coarsest]
    assert [hevc.parameter(step) for step in (1, 2, 64)] == [4, 10, 40]
    assert [hevc.step_of(hevc.parameter(step)) for step in (0.7, 3, 100)] == pytest.approx([0.7, 3, 100])
    np.testing.assert_allclose(heic.condition(20, ()), [np.log(20)])


@pytest.mark.parametrize("step", [3, 6, 12, 24, 48])
def test_the_step_is_that_of_a_uniform_quantiser(step: float) -> None:
    noise = np.clip(np.random.default_rng(0).normal(128, 30, (128, 128, 1)), 0, 255).astype(np.uint8)
    decoded, _ = heic.decode(heic.encode(noise, step, ()))
    assert 0.9 < np.square(decoded.astype(float) - noise).mean() / (step**2 / 12) < 1.45


@pytest.mark.parametrize("planes", [1, 3])
def test_bytes_fall_with_the_step(planes: int) -> None:
    sizes = [len(heic.encode(image(90, 110, planes), step, ())) for step in np.geomspace(1, 228, 12)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > 5 * sizes[-1]


def test_a_fraction_of_a_quantiser_parameter_counts() -> None:
    steps = [2 ** (parameter / 6) for parameter in (20, 20.5, 21)]
    first, between, last = (len(heic.encode(image(256, 256, 1), step, ())) for step in steps)
    assert first > between > last


def test_the_same_image_gives_the_same_bytes_whatever_else_is_coded_meanwhile() -> None:
    pytest.importorskip("av")
    tasks = [(codec, step) for step in (10.3, 45.6) for codec in (heic, bpg)] * 2
    alone = [codec.encode(image(70, 90, 1), step, ()) for codec, step in tasks[:4]]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda task: task[0].encode(image(70, 90, 1), task[1], ()), tasks))
    assert together == alone * 2


def test_gray_is_monochrome_and_colour_is_what_any_reader_of_heic_takes() -> None:
    assert heic.BRANDS & isobmff.brands(COLOR) == {b"heic"}
    # HEVCDecoderConfigurationRecord (ISO/IEC 14496-15, 8.3.3.1.2): the profile, and chroma_format_idc
    configurations = [properties(data)[b"hvcC"] for data in (GRAY, COLOR)]
    assert [configuration[1] & 31 for configuration in configurations] == [4, 3]  # range extensions, main still picture
    assert [configuration[16] & 3 for configuration in configurations] == [0, 1]


def test_the_colours_are_told() -> None:
    for data in (GRAY, COLOR):
        assert properties(data)[b"colr"] == b"nclx" + struct.pack(">3HB", 1, 13, 6, 128)  # sRGB, BT.601, full range


@PARTS
def test_the_file_holds_one_image_and_no_metadata(data: bytes) -> None:
    assert [kind for kind, _, _ in boxes(data)] == [b"ftyp", b"meta", b"mdat"]
    (opened,) = pillow_heif.open_heif(data)
    assert not opened.info["exif"]
    assert not opened.info["metadata"]
    assert not opened.info["thumbnails"]


def test_the_planes_are_luma_and_chroma_in_this_order() -> None:
    source = np.broadcast_to(np.array([90, 110, 160], np.uint8), (32, 32, 3))
    data = heic.encode(source, 2, ())
    assert np.abs(heic.decode(data)[0].astype(int) - source).max() <= 3
    red, green, blue = np.asarray(pillow_heif.open_heif(data).to_pillow())[8, 8].astype(int)
    assert (red, green, blue) == pytest.approx(
        (90 + 1.402 * 32, 90 - 0.3441 * -18 - 0.7141 * 32, 90 + 1.772 * -18), abs=3
    )


@pytest.mark.parametrize(("height", "width"), [(24, 40), (1, 1), (70, 91)])
@pytest.mark.parametrize("planes", [1, 3])
def test_libheif_shows_the_file_with_its_envelope(height: int, width: int, planes: int) -> None:
    bare = heic.encode(image(height, width, planes), 4, ())
    shown = pillow_heif.open_heif(heic.embed(bare, ENVELOPE)).to_pillow()
    assert shown.size == (width, height)
    assert shown.mode == ("L" if planes == 1 else "RGB")
    np.testing.assert_array_equal(np.asarray(shown), np.asarray(pillow_heif.open_heif(bare).to_pillow()))


def test_ffmpeg_opens_the_file() -> None:
    av = pytest.importorskip("av")
    for planes in (1, 3):
        source = image(80, 96, planes)
        data = heic.embed(heic.encode(source, 4, ()), ENVELOPE)
        with av.open(io.BytesIO(data)) as opened:
            frame = next(opened.decode(video=0))
            assert (frame.width, frame.height) == (96, 80)
            luma = np.frombuffer(frame.planes[0], np.uint8).reshape(-1, frame.planes[0].line_size)[:80, :96]
            assert np.abs(luma.astype(int) - source[..., 0]).mean() < 4


def test_pillow_is_left_as_it_is() -> None:
    # In an interpreter of its own: other packages, such as imageio, register what they find installed.
    code = """
import numpy as np
from PIL import Image
from corec.codecs import heic
heic.decode(heic.encode(np.zeros((16, 16, 1), np.uint8), 20.0, ()))
assert "HEIF" not in Image.OPEN and "HEIF" not in Image.SAVE
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_it_is_known_by_its_brand() -> None:
    assert heic.accept(GRAY)
    assert heic.accept(isobmff.box(b"ftyp", b"mif1", bytes(4), b"miaf", b"heic"))
    for foreign in (
        b"",
        b"\xff\xd8\xff",
        isobmff.box(b"ftyp", b"avif", bytes(4), b"mif1", b"avif"),
        isobmff.box(b"ftyp", b"isom", bytes(4), b"hvc1"),
    ):
        assert not heic.accept(foreign)
    assert not avif.accept(GRAY)


def test_an_image_that_heic_cannot_hold_is_refused() -> None:
    with pytest.raises(CodecError, match="at most 16384 pixels a side here, and this image has 16385x1"):
        heic.encode(np.zeros((1, 16385, 1), np.uint8), 20, ())


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    for use in (lambda: heic.encode(image(4, 4, 1), 20, ()), lambda: heic.decode(GRAY), lambda: heic.size(GRAY)):
        with pytest.raises(MissingExtraError, match=r"pip install 'corec\[heic\]'"):
            use()


@PARTS
def test_h1_the_envelope_is_a_box_at_the_end(data: bytes) -> None:
    carrying = heic.embed(data, ENVELOPE)
    assert carrying == data + bytes.fromhex("00 00 00 0b 43 6f 72 63 14 01 90")
    assert heic.extract(carrying) == ENVELOPE
    np.testing.assert_array_equal(heic.decode(carrying)[0], heic.decode(data)[0])


@pytest.mark.parametrize("envelope", [b"\x10\x01", ENVELOPE, b"\x14\x81\x01\x90", b"\x1c\x0a\x81\x01\x90"])
def test_h1_what_is_embedded_is_extracted(envelope: bytes) -> None:
    carrying = heic.embed(GRAY, envelope)
    assert heic.extract(carrying) == envelope
    assert heic.overhead(envelope, carrying) == len(carrying) - len(GRAY)


def test_h2_the_envelope_is_found_among_other_boxes() -> None:
    ours, other = isobmff.box(b"Corc", ENVELOPE), isobmff.box(b"free", bytes(9))
    for data in (GRAY + other + ours, GRAY + ours + other, GRAY + ours + isobmff.box(b"Corc", b"\x10\x02")):
        assert heic.extract(data) == ENVELOPE
        np.testing.assert_array_equal(heic.decode(data)[0], heic.decode(GRAY)[0])


@pytest.mark.parametrize(
    "foreign",
    [
        b"",
        isobmff.box(b"free", b"Corc" + ENVELOPE),
        isobmff.box(b"uuid", bytes(16), b"Corc" + ENVELOPE),
        isobmff.box(b"Corc", b"\x14"),
        isobmff.box(b"Corc", b"\x1c\x00\x81\x81\x01\x90"),  # longer than an envelope can be
    ],
)
def test_h3_a_foreign_file_has_no_envelope(foreign: bytes) -> None:
    assert heic.extract(GRAY + foreign) is None
    assert heic.decode(GRAY + foreign)[0].shape == (24, 40, 1)


@pytest.mark.parametrize("end", [b"\0\0\0", b"\0\0\0\x07Corc", b"\0\0\0\x0cCorc\x14\x01\x90"])
def test_h4_damaged_boxes_are_refused(end: bytes) -> None:
    with pytest.raises(CodecError, match="a box is cut short"):
        heic.extract(GRAY + end)


@PARTS
def test_h5_a_file_cut_anywhere_is_refused(data: bytes) -> None:
    for stop in [*range(0, len(data), 5), len(data) - 1]:
        with pytest.raises(CodecError, match="HEIC data is damaged"):
            heic.decode(data[:stop])


def test_h5_a_size_that_is_not_the_images_is_refused() -> None:
    aperture = properties(GRAY)[b"clap"]
    damaged = GRAY.replace(aperture, struct.pack(">8I", 999, 1, 999, 1, 0, 2, 0, 2))
    with pytest.raises(CodecError, match="not of the same size"):
        heic.decode(damaged)


def test_h5_an_image_without_a_size_is_refused() -> None:
    damaged = heic.encode(image(64, 64, 1), 20, ()).replace(b"ispe", b"ispy")
    for part in (heic.size, heic.decode):
        with pytest.raises(CodecError, match="damaged"):
            part(damaged)


def test_h6_an_image_with_transparency_is_none_of_ours() -> None:
    file = io.BytesIO()
    pillow_heif.encode("RGBA", (64, 64), bytes(64 * 64 * 4), file)
    with pytest.raises(CodecError, match="mode RGBA is none of ours"):
        heic.decode(file.getvalue())


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([heic.embed(GRAY, ENVELOPE), heic.embed(COLOR, ENVELOPE)]), st.data())
def test_damage_is_refused_or_decoded_but_never_another_exception(data: bytes, draw: st.DataObject) -> None:
    damaged = bytearray(data)
    for _ in range(draw.draw(st.integers(1, 3))):
        damaged[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    try:
        decoded, _ = heic.decode(bytes(damaged))
        assert decoded.shape[1::-1] == heic.size(bytes(damaged))
        heic.extract(bytes(damaged))
    except CodecError as error:
        assert "\n" not in str(error)
