"""JPEG files of levels: they hold just these, in every way that is tried, and are smaller than others' files."""

import io
import tempfile
from collections.abc import Sequence
from pathlib import Path

import av
import cv2
import jpeglib
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage import data
from tiny import image

from corec.codecs import jpeg, scans
from corec.codecs.scans import Planned, Scan

TABLES = np.array([[9] * 64, [7] * 64])


def sizes_of(width: int, height: int, count: int) -> list[tuple[int, int]]:
    """Rows and columns of each component's blocks."""
    luma, chroma = ((-(-height // side), -(-width // side)) for side in (8, 16))
    return [luma, chroma, chroma][:count]


def drawn(width: int, height: int, count: int, share: float, largest: int, seed: int) -> list[np.ndarray]:
    """Levels of an image's components, of which about such a share is not 0; low ones are more often."""
    random = np.random.default_rng(seed)
    levels = []
    for rows, columns in sizes_of(width, height, count):
        size = np.floor(largest ** random.random((rows * columns, 64))).astype(np.int16)
        kept = random.random(size.shape) < share * random.random((len(size), 1)) * 2
        levels.append(np.where(kept, random.choice([-1, 1], size.shape) * size, 0).astype(np.int16))
    return levels


def told(data: bytes) -> list[np.ndarray]:
    """The levels (B, 64) of a file's components in zigzag order, by libjpeg."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "file.jpg")
        path.write_bytes(data)
        found = jpeglib.read_dct(str(path))
    components = [found.Y] if found.Cb is None else [found.Y, found.Cb, found.Cr]
    return [component.reshape(-1, 64)[:, jpeg.ZIGZAG] for component in components]


def check(plan: Planned, levels: Sequence[np.ndarray], width: int, height: int) -> bytes:
    """That a plan's file holds its levels, and as many bits as it was to have; the file."""
    size = width, height
    data = scans.written(plan, scans.parted(levels, size), size, TABLES[: len(levels) // 2 + 1])
    for found, wanted in zip(told(data), levels, strict=True):
        np.testing.assert_array_equal(found, wanted)
    frame = 2 + 4 + 65 * (len(levels) // 2 + 1) + 10 + 3 * len(levels) + 2
    surplus = len(data) - data.count(b"\xff\x00") - frame - plan.bits / 8
    assert 0 <= surplus <= len(plan.scans)  # each ends with a whole byte
    assert data.count(b"\xff\xda") == len(plan.scans)
    # Decoders of many Rust programs do not read colour in several scans that are not progressive.
    assert plan.progressive or len(plan.scans) == 1
    assert (b"\xff\xc2" in data) == plan.progressive and (b"\xff\xc0" in data) != plan.progressive
    return data


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 70),
    st.integers(1, 70),
    st.sampled_from([1, 3]),
    st.sampled_from([0, 0.01, 0.1, 0.4, 1.0]),
    st.sampled_from([1, 3, 40, 900]),
    st.integers(0, 99),
)
@example(1, 1, 3, 0, 1, 0)
@example(64, 64, 3, 1.0, 900, 0)
@example(64, 64, 1, 0.4, 40, 0)
def test_every_way_that_is_tried_holds_the_levels(
    width: int, height: int, count: int, share: float, largest: int, seed: int
) -> None:
    levels = drawn(width, height, count, share, largest, seed)
    files = [check(plan, levels, width, height) for plan in scans.plans(scans.parted(levels, (width, height)))]
    assert len(files) == 2
    assert scans.write(levels, (width, height), TABLES[: count // 2 + 1]) in files


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 3), st.lists(st.integers(1, 62), max_size=3, unique=True), st.floats(0, 1), st.integers(0, 99))
@example(3, [], 1.0, 0)
@example(1, [1, 2, 62], 0.05, 0)
def test_bits_can_be_left_for_later_scans(low: int, bounds: list[int], share: float, seed: int) -> None:
    levels = drawn(48, 40, 1, share, 60, seed)
    bands = list(zip([1, *(bound + 1 for bound in sorted(bounds))], [*sorted(bounds), 63], strict=True))
    order = [Scan((0,), 0, 0), *(Scan((0,), *band, 0, low) for band in bands)]
    order += [Scan((0,), *band, bit, bit - 1) for bit in range(low, 0, -1) for band in bands]
    check(scans.planned(order, True, scans.parted(levels, (48, 40))), levels, 48, 40)


def test_long_runs_of_zeros_before_and_behind_known_levels() -> None:
    levels = [np.zeros((6, 64), np.int16)]
    for block, place, level in [
        (0, 40, 1),  # two codes for 16 zeros each before it
        (1, 10, 4),  # known when the next one is coded, before and
        (1, 30, -5),  # behind the 16th zero
        (1, 50, 1),
        (1, 60, 2),
        (3, 17, 3),  # nothing new: its bit goes with an end
        (4, 63, -1),
    ]:
        levels[0][block, place] = level
    order = [Scan((0,), 0, 0), Scan((0,), 1, 63, 0, 1), Scan((0,), 1, 63, 1, 0)]
    check(scans.planned(order, True, scans.parted(levels, (48, 8))), levels, 48, 8)


@pytest.mark.parametrize("empty", [True, False], ids=["empty", "not empty"])
def test_more_blocks_than_one_run_may_have(empty: bool) -> None:
    rows = 70
    levels = [np.zeros((rows * 1000, 64), np.int16)]
    assert len(levels[0]) > 2 * scans.CHUNK
    if empty:
        levels[0][-1, 1] = 1  # which comes out only if the runs before it have their lengths
    else:
        levels[0][::7, [0, 3, 9]] = 2
        levels[0][::3, 5] = -1
    for plan in scans.plans(scans.parted(levels, (8000, 8 * rows))):
        check(plan, levels, 8000, 8 * rows)


def test_one_table_for_several_scans_where_that_is_smaller() -> None:
    few, alike, unlike = (np.zeros((count, 256), np.int64) for count in (2, 2, 2))
    few[:, 1] = 3
    alike[:, :9] = 400
    unlike[:, 100:109] = 400
    for other, groups in ((few, 1), (alike, 1), (unlike, 2)):
        found = scans.grouped([alike[0], other[0], few[1]])
        assert len(found) == groups
        assert [first for first, _, _ in found] == [0, 1][:groups]
        np.testing.assert_array_equal(sum(counts for _, counts, _ in found), alike[0] + other[0] + few[1])
    assert scans.grouped([np.zeros(256, np.int64), few[0]])[0][0] == 1  # one without symbols needs none


def test_luma_beyond_an_edge_costs_no_dc_step() -> None:
    blocks = np.arange(1, 16)[:, None] * np.ones(64, np.int16)  # 3 rows, 5 columns
    turns = scans.squares(blocks, 3, 5)
    assert turns[..., 0].tolist() == [
        [1, 2, 6, 7],
        [3, 4, 8, 9],
        [5, 5, 10, 10],
        *([11, 12, 12, 12], [13, 14, 14, 14], [15, 15, 15, 15]),
    ]
    assert (turns[..., 1] > 0).sum() == 15


@pytest.mark.parametrize(("name", "step", "lows"), [("chelsea", 3, [3, 3]), ("chelsea", 8, [0, 0]), ("coins", 8, [3])])
def test_ac_levels_are_split_and_their_low_bits_left_for_later_where_that_is_smaller(
    name: str, step: int, lows: list[int]
) -> None:
    picture = Image.fromarray(getattr(data, name)()).convert("L").crop((0, 0, 256, 256))
    parts = scans.parted([jpeg.quantised(np.array(picture), jpeg.tables_at(step, ())[0], 1.0, None, 2)], (256, 256))
    whole = scans.planned([Scan((0,), 0, 0), Scan((0,), 1, 63)], True, parts)
    *_, found = scans.plans(parts)
    assert found.bits < 0.98 * whole.bits
    assert [scan.low for scan in found.scans if scan.first and not scan.high] == lows


def test_empty_blocks_on_end_are_one_code() -> None:
    levels = np.zeros((1600, 64), np.int16)
    levels[::400, 1] = 1
    sequential, progressive = scans.plans(scans.parted([levels], (320, 320)))
    # 1,600 ends of a bit and a DC step of a bit each, or eight codes.
    assert sequential.bits > 2 * 1600 and progressive.bits < 1600 + 8 * (2 * (10 + 4 + 17) + 20)


def test_scans_end_with_ones() -> None:
    for count in range(1, 9):
        end = scans.Codes(*(np.array([number]) for number in (0, -1, 0, count)))
        (byte,) = scans.packed(iter([iter([end])]), np.zeros(512, np.int64), np.zeros(512, np.int64))
        assert byte == 255 >> count


@pytest.mark.parametrize("planes", [1, 3])
@pytest.mark.parametrize("step", [8, 30, 90])
def test_files_are_smaller_than_pillows_of_the_same_levels(planes: int, step: int) -> None:
    data = jpeg.encode(image(120, 200, planes), step, ())
    pixels = jpeg.samples(data)
    picture = Image.fromarray(pixels[..., 0]) if planes == 1 else Image.frombytes("YCbCr", (200, 120), pixels.tobytes())
    tables = [table.tolist() for table in jpeg.tables_at(step, ())[: planes // 2 + 1]]
    parts = scans.parted(told(data), (200, 120))
    ours = [scans.written(plan, parts, (200, 120), TABLES[: planes // 2 + 1]) for plan in scans.plans(parts)]
    for progressive in (False, True):
        file = io.BytesIO()
        options = {"optimize": True, "progressive": progressive, "subsampling": 2 if planes == 3 else -1}
        picture.save(file, "JPEG", qtables=tables, **options)
        theirs = file.getvalue()
        same = [(one == other).mean() for one, other in zip(told(data), told(theirs), strict=True)]
        assert min(same) > 0.99
        assert len(data) < len(theirs) - 18  # of which JFIF's segment has 18
        # Colour in one scan has one table: that is for small files.
        assert len(ours[progressive]) < len(theirs) - 10 or (planes == 3 and not progressive)


@pytest.mark.parametrize("planes", [1, 3])
@pytest.mark.parametrize("step", [2, 25])
def test_other_decoders_show_the_same(planes: int, step: int) -> None:
    source, tables, size = image(75, 133, planes), jpeg.tables_at(step, ())[: planes // 2 + 1], (133, 75)
    components = [source[..., 0], *(jpeg.halve(source[..., plane]) for plane in range(1, planes))]
    levels = [jpeg.quantised(plane, tables[min(index, 1)], 1.0, None, 1) for index, plane in enumerate(components)]
    parts = scans.parted(levels, size)
    for plan in scans.plans(parts):
        data = scans.written(plan, parts, size, tables[:, jpeg.ZIGZAG])
        shown = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
        theirs = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1].astype(int)
        assert np.abs(shown - theirs).max() <= 1
        with av.open(io.BytesIO(data), format="jpeg_pipe") as container:
            frame = next(container.decode(video=0)).to_ndarray(format="gray" if planes == 1 else "rgb24").astype(int)
        assert np.abs((shown[..., 0] if planes == 1 else shown) - frame).mean() < 3
