"""The BPG codec: files of Bellard's format around an HEVC picture, and where the envelope rides."""

import contextlib
import hashlib
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tiny import image

from corec.codecs import bpg, hevc
from corec.errors import CodecError, MissingExtraError

av = pytest.importorskip("av", reason="needs the extra bpg")

GOLDEN = Path(__file__).parent / "golden-bpg"


def with_bytes(data: bytes, at: int, new: str) -> bytes:
    """The file with other bytes at a place."""
    replacement = bytes.fromhex(new)
    return data[:at] + replacement + data[at + len(replacement) :]


def extended(data: bytes, *extensions: tuple[int, bytes]) -> bytes:
    """A file of ours, which has no extension, with these ones, written out by hand; all lengths below 128."""
    content = b"".join(bytes([tag, len(payload)]) + payload for tag, payload in extensions)
    start = 6 + sum(len(bpg.ue7(number)) for number in (*bpg.size(data), len(bpg.opened(data).picture)))
    return data[:5] + bytes([data[5] | 8]) + data[6:start] + bytes([len(content)]) + content + data[start:]


def halved(luma: np.ndarray, chroma: list[np.ndarray], width: int, height: int) -> bytes:
    """A BPG file of 4:2:0, which the codec reads but does not write; luma is of whole blocks."""
    encoder: Any = av.CodecContext.create("libx265", "w")
    encoder.width, encoder.height, encoder.pix_fmt = luma.shape[1], luma.shape[0], "yuv420p"
    encoder.time_base = Fraction(1, 25)
    options = bpg.ENCODER | {"qp": 4, "ctu": 16, "max-tu-size": 16, "tu-intra-depth": 1, "tu-inter-depth": 1}
    encoder.options = {"x265-params": ":".join(f"{name}={value}" for name, value in options.items())}
    frame = av.VideoFrame(luma.shape[1], luma.shape[0], "yuv420p")
    for plane, samples in zip(frame.planes, [luma, *chroma], strict=True):
        np.frombuffer(plane, np.uint8).reshape(plane.height, -1)[:, : plane.width] = samples
    stream = b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])
    units = hevc.units_of(stream)
    tools = hevc.header_of_tools(hevc.tools_of_sps(hevc.first_of(units, (hevc.SPS,))))
    picture = bpg.ue7(len(tools)) + tools + b"\0\0\1".join(hevc.picture_units(units))
    return bpg.written(bpg.Header(bpg.HALVED, 8, 0, 0, width, height, (), picture))


GRAY = bpg.encode(image(24, 40, 1), 20, ())
COLOR = bpg.encode(image(24, 40, 3), 20, ())
PARTS = pytest.mark.parametrize("data", [GRAY, COLOR], ids=["gray", "color"])


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.sampled_from([1, 3]), st.floats(0.5, 300))
@example(1, 1, 1, 16.0)
@example(1, 1, 3, 16.0)
@example(8, 9, 3, 300.0)
@example(1, 200, 1, 0.1)
def test_what_is_written_is_read_at_its_size_with_its_step(height: int, width: int, planes: int, step: float) -> None:
    source = image(height, width, planes)
    data = bpg.encode(source, step, ())
    decoded, found = bpg.decode(data)
    assert decoded.shape == source.shape
    assert decoded.dtype == np.uint8
    np.testing.assert_array_equal(bpg.condition(step, ()), found)
    assert bpg.size(data) == (width, height)
    assert np.abs(decoded.astype(int) - source).mean() < 1 + step / 3


def test_a_long_and_a_tall_image() -> None:
    for shape in ((1, 9000, 3), (9000, 3, 1), (600, 17, 1)):
        decoded, _ = bpg.decode(bpg.encode(image(*shape), 4, ()))
        assert np.abs(decoded.astype(int) - image(*shape)).mean() < 3


@pytest.mark.parametrize("planes", [1, 3])
def test_a_larger_step_gives_fewer_bytes_and_levels_farther_off(planes: int) -> None:
    source = image(96, 104, planes)
    files = [bpg.encode(source, step, ()) for step in (0.7, 2, 6, 18, 54, 162)]
    errors = [np.square(bpg.decode(data)[0].astype(float) - source).mean() for data in files]
    assert [len(data) for data in files] == sorted((len(data) for data in files), reverse=True)
    assert errors == sorted(errors)
    assert errors[0] < 0.3


def test_between_two_quantiser_parameters_bytes_go_on_falling() -> None:
    source = image(160, 160, 1)
    sizes = [len(bpg.encode(source, 2 ** (power / 6), ())) for power in np.arange(20, 22.01, 0.25)]
    assert len(set(sizes)) > 5
    assert sizes[0] > sizes[4] > sizes[8]


def test_the_step_is_hevcs() -> None:
    assert np.exp(bpg.condition(1, ())) == pytest.approx(1)  # H.265, 8.6.4.2: QP 4
    assert np.exp(bpg.condition(2, ())) == pytest.approx(2)
    assert np.exp(bpg.condition(2.1, ())) == pytest.approx(2)
    assert np.exp(bpg.condition(2.2, ())) == pytest.approx(2 ** (7 / 6))
    assert np.exp(bpg.condition(1e9, ())) == pytest.approx(bpg.settle(1e9)) == pytest.approx(2 ** (47 / 6))
    assert np.exp(bpg.condition(1e-9, ())) == pytest.approx(bpg.settle(1e-9)) == pytest.approx(2 ** (-4 / 6))
    assert bpg.settle(21.7) == 21.7


@pytest.mark.parametrize("qp", [0, 7, 25, 26, 27, 40, 51])
def test_the_quantiser_is_read_from_the_slice(qp: int) -> None:
    step = 2 ** ((qp - 4) / 6)
    np.testing.assert_allclose(bpg.decode(bpg.encode(image(20, 20, 3), step, ()))[1], [np.log(step)])


def test_the_planes_are_luma_and_chroma_in_this_order_at_full_size() -> None:
    source = image(64, 64, 3)
    source[:, ::2, 1] ^= 64
    decoded, _ = bpg.decode(bpg.encode(source, 0.7, ()))
    assert np.abs(decoded.astype(int) - source).max() <= 3


def test_a_gray_image_is_one_plane() -> None:
    assert GRAY[4] >> 5 == 0
    assert COLOR[4] >> 5 == 3
    assert bpg.decode(GRAY)[0].shape == (24, 40, 1)


def test_the_bytes_of_a_small_file() -> None:
    data = bpg.encode(np.full((1, 2, 1), 77, np.uint8), 16, ())
    head, picture = data[:9], data[9:]
    assert head == bytes.fromhex("42 50 47 fb  00 00  02 01") + bytes([len(picture)])
    # hevc_header, two bytes: blocks of 16 (010), no larger ones (1), transforms of 4 to 16 (1, 011), depth 2 (011),
    # SAO (1), no PCM (0), strong smoothing (1), no extension (0), one bit to spare (0).
    assert picture[:3] == bytes([2]) + int("0101101101110100", 2).to_bytes(2)
    assert picture[3:5] == bytes.fromhex("44 01")  # PPS, without a start code
    assert picture[9:14] == bytes.fromhex("00 00 01 28 01")  # IDR_N_LP
    assert len(data) < 36


def test_a_file_has_22_bytes_before_its_slice() -> None:
    data = bpg.encode(image(256, 256, 1), 150, ())
    assert len(data) < 300
    assert data.index(b"\0\0\1") == 22  # magic, formats, sizes, HEVC header and PPS


def test_the_same_image_gives_the_same_bytes_whatever_else_is_coded_meanwhile() -> None:
    steps = [10.3, 11.1, 12.2, 45.6] * 2
    alone = [bpg.encode(image(70, 90, 1), step, ()) for step in steps[:4]]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda step: bpg.encode(image(70, 90, 1), step, ()), steps))
    assert together == alone * 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_process_that_is_forked_meanwhile_writes_the_same_bytes() -> None:
    # In an interpreter of its own, whose children must not end in pytest.
    code = """
import os, signal, threading
import numpy as np
from corec.codecs import bpg

image = np.random.default_rng(1).integers(0, 256, (64, 64, 1), np.uint8)
alone = bpg.encode(image, 20.7, ())

def others():
    while True:
        bpg.encode(image, 35.2, ())

threading.Thread(target=others, daemon=True).start()
for _ in range(4):
    child = os.fork()
    if not child:
        signal.alarm(60)
        os._exit(bpg.encode(image, 20.7, ()) != alone)
    assert os.waitpid(child, 0)[1] == 0
os._exit(0)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_x265_writes_for_others_does_not_change() -> None:
    def others() -> bytes:
        options = {"qp": 33, "keyint": 1, "log-level": "none", "pools": "none"}
        encoder = bpg.encoder_of("gray", 96, 96, options)
        return b"".join(
            bytes(p) for frame in (bpg.frame_of(image(96, 96, 1), "gray"), None) for p in encoder.encode(frame)
        )

    before = others()
    bpg.encode(image(40, 40, 1), 23.4, ())
    assert others() == before
    with pytest.raises(CodecError, match="x265 cannot code this image"):
        bpg.coded(image(16, 16, 1), "gray", 30.3, 7)
    assert others() == before


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    bpg.decode(bpg.encode(image(20, 20, 3), 20, ()))
    for at in range(15, len(COLOR)):
        with contextlib.suppress(CodecError):
            bpg.decode(with_bytes(COLOR, at, "a5"))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("name", "shape", "qp", "digest"),
    [
        ("gray-40x24.bpg", (24, 40, 1), 30, "7ea8b060911233b1de9692a53ff404f2edb3f47d750637f0acd32bfd6dff9757"),
        ("gray-1x1.bpg", (1, 1, 1), 30, "5ee0dd4d4840229fab4a86438efbcaf1b9571af94f5ace5acc94de19e98ea9ab"),
        ("color-37x23.bpg", (23, 37, 3), 36, "b86c5cf23a6371b98c67fb7eda25102ba441f4f77c7e0f7471f50b2bbc4d9712"),
        ("color-420-37x23.bpg", (23, 37, 3), 4, "b05e932ab7264ac1aa3a891da99439cd43ea6b5b4c5cc05f354d5e4775b3ada0"),
    ],
)
def test_a_golden_file_gives_the_pixels_it_always_gave(name: str, shape: tuple[int, ...], qp: int, digest: str) -> None:
    decoded, found = bpg.decode((GOLDEN / name).read_bytes())
    assert decoded.shape == shape
    np.testing.assert_allclose(found, [(qp - 4) / 6 * np.log(2)])
    assert hashlib.sha256(decoded.tobytes()).hexdigest() == digest


@pytest.mark.parametrize(("width", "height"), [(48, 32), (47, 31), (41, 25)])
def test_chroma_at_half_size_is_enlarged_smoothly_and_without_a_shift(width: int, height: int) -> None:
    rows, columns = np.mgrid[:32, :48]
    luma = image(32, 48, 1)[..., 0]
    chroma = [(40 + 3 * columns)[::2, ::2] + 1.5, (200 - 4 * rows)[::2, ::2] - 2.0]  # linear, at the pixels' middle
    data = halved(luma, [np.rint(plane).astype(np.uint8) for plane in chroma], width, height)
    decoded = bpg.decode(data)[0].astype(int)
    assert decoded.shape == (height, width, 3)
    assert np.abs(decoded[..., 0] - luma[:height, :width]).max() <= 2
    inner = (slice(6, height - 6), slice(6, width - 6))
    assert np.abs(decoded[..., 1] - (40 + 3 * columns)[:height, :width])[inner].max() <= 2
    assert np.abs(decoded[..., 2] - (200 - 4 * rows)[:height, :width])[inner].max() <= 2


def test_enlarging_is_a_sum_of_64ths_and_the_same_in_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    impulse = np.zeros((15, 15), np.uint8)
    impulse[7, 7] = 255
    target = np.empty((30, 30), np.uint8)
    bpg.enlarge(impulse, target)
    line = np.zeros(30)
    line[8:22] = [-1, 2, 4, -6, -10, 18, 57, 57, 18, -10, -6, 4, 2, -1]
    expected = np.clip(np.floor(255 * np.outer(line, line) / 4096 + 0.5), 0, 255)
    np.testing.assert_array_equal(target, expected)
    monkeypatch.setattr(bpg, "STRIP", 4)
    plane = image(15, 11, 1)[..., 0]
    whole, strips = np.empty((2, 29, 22), np.uint8)
    bpg.enlarge(plane, strips)
    monkeypatch.undo()
    bpg.enlarge(plane, whole)
    np.testing.assert_array_equal(whole, strips)
    assert np.abs(whole[::2, ::2].astype(int) - plane).mean() < 12


@PARTS
def test_b1_the_envelope_is_an_extension_behind_the_sizes(data: bytes) -> None:
    carrying = bpg.embed(data, b"\x10\x01")
    numbers = 2 + len(bpg.ue7(len(bpg.opened(data).picture)))
    expected = data[:5] + b"\x08" + data[6 : 6 + numbers] + bytes.fromhex("04  43 02 10 01") + data[6 + numbers :]
    assert carrying == expected
    assert len(carrying) - len(data) == 5
    assert bpg.extract(carrying) == b"\x10\x01"
    for before, after in zip(bpg.decode(data), bpg.decode(carrying), strict=True):
        np.testing.assert_array_equal(before, after)


@settings(deadline=None)
@given(st.binary(min_size=2, max_size=4))
def test_b1_what_is_embedded_is_extracted(envelope: bytes) -> None:
    assert bpg.extract(bpg.embed(GRAY, envelope)) == envelope


def test_b2_the_envelope_is_found_among_other_extensions_and_they_stay() -> None:
    exif, profile = (1, b"\0Exif"), (2, b"a profile")
    data = extended(GRAY, exif, (bpg.TAG, b"\x10\x01"), profile)
    assert bpg.extract(data) == b"\x10\x01"
    again = bpg.embed(data, b"\x10\x02")
    assert bpg.extract(again) == b"\x10\x02"
    assert bpg.opened(again).extensions == ((bpg.TAG, b"\x10\x02"), exif, (bpg.TAG, b"\x10\x01"), profile)
    np.testing.assert_array_equal(bpg.decode(again)[0], bpg.decode(GRAY)[0])


@pytest.mark.parametrize(
    "extensions",
    [
        (),
        ((1, b"\0Exif"),),
        ((2, b"profile"), (3, b"<xmp/>")),
        ((bpg.TAG, b"\x10"), (bpg.TAG, b"\x1c\x00\x80\x80\x01\x90")),  # shorter and longer than an envelope can be
        ((bpg.TAG - 1, b"\x10\x01"), (6, b"")),
    ],
)
def test_b3_a_foreign_file_has_no_envelope(extensions: tuple[tuple[int, bytes], ...]) -> None:
    data = extended(GRAY, *extensions) if extensions else GRAY
    assert bpg.extract(data) is None
    np.testing.assert_array_equal(bpg.decode(data)[0], bpg.decode(GRAY)[0])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"BPG\xfb", "header is cut short"),
        (b"\xff\xd8\xff\xe0\0\0\0", "header is cut short"),
        (GRAY[:7], "not well formed"),
        (with_bytes(GRAY, 6, "80 18"), "not well formed"),  # a number that is longer than it need be
        (with_bytes(GRAY, 6, "90 80 80 80 00"), "not well formed"),  # above 32 bits
        (with_bytes(GRAY, 6, "ff ff ff ff ff ff"), "not well formed"),
        (with_bytes(GRAY, 6, "00"), "claims 0x24 pixels; Corec reads 1 to 30000 a side"),
        (with_bytes(GRAY, 7, "00"), "claims 40x0 pixels"),
        (GRAY[:6] + bytes.fromhex("81 ea 31") + GRAY[7:], "claims 30001x24 pixels"),
        (extended(GRAY, (9, b"abc")).replace(b"\x09\x03abc", b"\x09\x04abc"), "extension is cut short"),
        (extended(GRAY, (9, b"abc")).replace(b"\x09\x03abc", b"\x09\x01abc"), "extension|not well formed"),
        (GRAY[:5] + b"\x08" + GRAY[6:], "damaged"),
        (GRAY[:-1], "it is cut short"),
    ],
)
def test_b4_a_damaged_container_is_refused(data: bytes, message: str) -> None:
    for read in (bpg.size, bpg.extract, bpg.decode):
        with pytest.raises(CodecError, match=message):
            read(data)


@PARTS
def test_b5_a_file_cut_anywhere_is_refused(data: bytes) -> None:
    for stop in range(len(data)):
        with pytest.raises(CodecError, match="BPG data is damaged"):
            bpg.decode(data[:stop])


@pytest.mark.parametrize(
    ("at", "new", "what"),
    [
        (4, "40", "pixel format 2"),
        (4, "80", "pixel format 4"),
        (4, "02", "10 bits a sample"),
        (4, "10", "transparency"),
        (5, "04", "transparency"),  # with the flag before it 0: CMYK
        (5, "02", "limited range"),
        (5, "01", "animation"),
        (5, "10", "colour space 1"),
        (5, "30", "colour space 3"),
    ],
)
def test_b6_what_is_none_of_ours_is_refused_but_its_header_is_read(at: int, new: str, what: str) -> None:
    foreign = with_bytes(GRAY, at, new)
    with pytest.raises(CodecError, match=rf"^a BPG file (of|with) {what} is none of ours$"):
        bpg.decode(foreign)
    assert bpg.size(foreign) == (40, 24)
    assert bpg.extract(foreign) is None


def test_a_length_of_zero_means_up_to_the_end() -> None:
    numbers = len(bpg.ue7(len(bpg.opened(GRAY).picture)))
    open_ended = GRAY[:8] + b"\0" + GRAY[8 + numbers :]
    np.testing.assert_array_equal(bpg.decode(open_ended)[0], bpg.decode(GRAY)[0])


def test_parameter_sets_in_the_picture_data_do_not_count() -> None:
    header = bpg.opened(GRAY)
    stop = 1 + header.picture[0]
    others = hevc.parameter_sets(hevc.tools_of_header(header.picture[1:stop]), 4096, 4096, 3)
    picture = header.picture[:stop] + b"\0\0\1".join([*others, header.picture[stop:]])
    data = bpg.written(bpg.Header(header.pixel_format, 8, 0, 0, 40, 24, (), picture))
    np.testing.assert_array_equal(bpg.decode(data)[0], bpg.decode(GRAY)[0])


def test_bytes_behind_the_picture_are_left_alone() -> None:
    np.testing.assert_array_equal(bpg.decode(GRAY + b"and more")[0], bpg.decode(GRAY)[0])


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([GRAY, COLOR, bpg.embed(GRAY, b"\x10\x01")]), st.data())
def test_damage_is_refused_or_decoded_but_never_another_exception(data: bytes, draw: st.DataObject) -> None:
    damaged = bytearray(data)
    for _ in range(draw.draw(st.integers(1, 3))):
        damaged[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    for read in (bpg.size, bpg.extract, bpg.decode):
        try:
            read(bytes(damaged))
        except CodecError as error:
            assert "\n" not in str(error)


def test_it_is_known_by_its_first_bytes() -> None:
    assert bpg.accept(GRAY)
    assert not bpg.accept(b"BPG")
    assert not bpg.accept(b"\xff\xd8\xff\xe0")


def test_an_image_that_is_too_large_is_refused() -> None:
    with pytest.raises(CodecError, match="at most 30000 pixels a side here, and this image has 30001x1"):
        bpg.encode(np.zeros((1, 30001, 1), np.uint8), 20, ())


def test_without_pyav_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    for use in (lambda: bpg.encode(image(8, 8, 1), 20, ()), lambda: bpg.decode(GRAY)):
        with pytest.raises(MissingExtraError, match=re.escape("pip install 'corec[bpg]'")):
            use()
    assert bpg.size(GRAY) == (40, 24)


def test_a_pyav_without_x265_and_a_full_disk_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def create(name: str, mode: str) -> None:
        raise av.codec.codec.UnknownCodecError(name)

    with monkeypatch.context() as patch:
        bare = SimpleNamespace(CodecContext=SimpleNamespace(create=create), FFmpegError=av.FFmpegError)
        patch.setattr(bpg, "library", lambda: bare)
        with pytest.raises(CodecError, match="this PyAV has no x265"):
            bpg.encode(image(8, 8, 1), 20, ())
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(CodecError, match="x265 needs a temporary file"):
        bpg.encode(image(8, 8, 1), 20, ())


def test_a_temporary_folder_of_any_name_will_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / "it's = odd, isn't it"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    assert bpg.encode(image(24, 40, 1), 20, ()) == GRAY
    assert not list(folder.iterdir())


@pytest.mark.parametrize(
    ("encoded", "number"), [("08", 8), ("84 1e", 542), ("ac be 17", 728855), ("8f ff ff ff 7f", 2**32 - 1)]
)
def test_numbers_are_those_of_the_specification(encoded: str, number: int) -> None:
    assert bpg.ue7(number) == bytes.fromhex(encoded)
    assert bpg.read_ue7(b"!" + bytes.fromhex(encoded) + b"!", 1) == (number, 1 + len(bytes.fromhex(encoded)))


@settings(deadline=None)
@given(st.integers(0, 2**32 - 2))
def test_any_number_is_read_as_it_was_written(number: int) -> None:
    assert bpg.read_ue7(bpg.ue7(number), 0) == (number, len(bpg.ue7(number)))
    bits = hevc.BitWriter()
    bits.ue(number)
    bits.u(1, 1)
    reader = hevc.BitReader(bits.bytes())
    assert (reader.ue(), reader.u(1)) == (number, 1)


def test_of_a_header_as_long_as_a_file_only_the_first_bytes_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    read = hevc.tools_of_header
    monkeypatch.setattr(hevc, "tools_of_header", lambda data: seen.append(len(data)) or read(data))
    header = bpg.opened(GRAY)
    long = bytes([0x80 | 7, 0x80 | 127, 127])  # 131,071 bytes
    with pytest.raises(CodecError):
        bpg.decode(bpg.written(replace(header, picture=long + bytes(1 << 17))))
    assert seen and max(seen) <= 64
