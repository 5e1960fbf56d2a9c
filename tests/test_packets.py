"""JPEG 2000 codestreams taken apart and put together: the same picture in fewer bytes."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from corec.codecs import jpeg2000, packets
from corec.codecs.codestream import COM, Codestream, segments
from corec.errors import CodecError


def image(height: int, width: int, planes: int) -> np.ndarray:
    """Soft waves, and grain that every code block has something of."""
    rows, columns = np.mgrid[:height, :width]
    soft = [np.sin(rows / (5 + k) + k) + np.cos(columns / (7 - k)) + (rows > columns) for k in range(planes)]
    grain = np.random.default_rng(1).normal(0, 3, (height, width, planes))
    return np.clip(np.rint(110 + 20 * np.stack(soft, 2) + grain), 0, 255).astype(np.uint8)


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.square(one.astype(float) - other).mean()))


def openjpegs_own(source: np.ndarray) -> bytes:
    """OpenJPEG's own file, as Pillow writes it, of the planes as they are."""
    file = io.BytesIO()
    picture = Image.fromarray(source[..., 0] if source.shape[2] == 1 else source)
    options = {"no_jp2": True, "irreversible": True, "num_resolutions": 4, "mct": 0}
    picture.save(file, "JPEG2000", quality_mode="dB", quality_layers=[46], **options)
    return file.getvalue()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), st.data())
def test_what_a_tag_tree_writes_it_reads(rows: int, columns: int, draw: st.DataObject) -> None:
    values = draw.draw(st.lists(st.integers(0, 9), min_size=rows * columns, max_size=rows * columns))
    bits, tree = packets.Writer(), packets.TagTree(rows, columns)
    for index, value in enumerate(values):
        tree.walk(index, value + 1, packets.teller(bits, packets.TagTree(rows, columns).least(values)))
    reader, tree = packets.Reader(bits.done() + b"\0", 0), packets.TagTree(rows, columns)
    assert [tree.walk(index, 99, packets.hearer(reader)) for index in range(len(values))] == values


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 255), st.integers(1, 8)), max_size=40), st.lists(st.integers(1, 164)))
def test_what_a_packet_header_writes_it_reads(numbers: list[tuple[int, int]], counts: list[int]) -> None:
    bits = packets.Writer()
    for number, width in numbers:
        bits.put(number & (1 << width) - 1, width)
    for passes in counts:
        packets.write_passes(bits, passes)
    data = bits.done()
    assert not data.endswith(b"\xff")
    reader = packets.Reader(data, 0)
    assert [reader.take(width) for _, width in numbers] == [number & (1 << width) - 1 for number, width in numbers]
    assert [packets.read_passes(reader) for _ in counts] == counts
    assert reader.end() == len(data)


@pytest.mark.parametrize("shape", [(150, 290, 1), (150, 130, 3), (8, 9, 1)])
def test_openjpegs_packets_are_put_back_as_they_were(shape: tuple[int, int, int]) -> None:
    source = image(*shape)
    file = openjpegs_own(source)
    _, start, stop = next(part for part in segments(file) if part[0] == COM)
    again = Codestream.taken_apart(file, *shape).together()
    colour = again.index(b"\xff\x52") + 8
    assert again[:colour] + b"\0" + again[colour + 1 :] == file[:start] + file[stop:]


def test_layers_become_one() -> None:
    source = image(150, 170, 1)
    layered = jpeg2000.openjpeg(source, "dB", [30, 38, 46])
    before = layered.together()
    assert layered.filled(1 << 30).together() == jpeg2000.openjpeg(source, "dB", [46]).together()
    assert layered.together() == before


def test_derived_steps_change_little_but_the_size() -> None:
    source = image(128, 128, 1)
    stream = jpeg2000.openjpeg(source, "dB", [32])
    whole, derived = (part.together() for part in (stream, stream.derived()))
    assert len(whole) - len(derived) in (17, 18, 19)  # nine bands' steps, less what the planes of zeros cost
    assert psnr(jpeg2000.pixels(derived), source) > psnr(jpeg2000.pixels(whole), source) - 0.15
    tiny = jpeg2000.openjpeg(image(3, 3, 1), "dB", [40])  # one level, whose steps cannot be derived
    assert tiny.derived() is tiny


def test_what_is_cut_from_blocks_does_not_show() -> None:
    source = image(128, 128, 1)
    stream = jpeg2000.openjpeg(source, "dB", [32])
    whole = stream.together()
    shorter = jpeg2000.shortened(stream, source)
    assert len(whole) - 40 < len(shorter) < len(whole)
    np.testing.assert_array_equal(jpeg2000.pixels(shorter), jpeg2000.pixels(whole))


def test_packets_that_are_not_as_expected_are_refused() -> None:
    data = jpeg2000.encode(image(24, 40, 1), 20, ())
    with pytest.raises(CodecError, match="OpenJPEG's packets are not as expected"):
        Codestream.taken_apart(data[:-2] + b"\0\xff\xd9", 24, 40, 1)
