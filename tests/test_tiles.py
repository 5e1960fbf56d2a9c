"""A picture that goes through a network in tiles comes out as if it had gone through whole."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from corec import wrap
from corec.models import model_named
from corec.tiles import Span, pad, spans, tiles

GRIDS = st.sampled_from([1, 2, 4, 8, 16])


@settings(max_examples=2000, deadline=None)
@given(st.integers(1, 20_000), st.integers(1, 12), st.integers(0, 6), GRIDS)
@example(1, 1, 0, 1)
@example(5000, 64, 6, 16)
def test_cores_cover_an_axis_once_and_are_read_with_their_overlap(
    length: int, tile: int, around: int, grid: int
) -> None:
    tile, overlap = tile * 8 * grid, around * grid
    found = spans(length, tile, overlap, grid)
    assert found[0].core_start == 0
    assert found[-1].core_stop == length
    for span, following in pairwise(found):
        assert span.core_stop == following.core_start
    for span in found:
        assert span.core_stop > span.core_start
        assert span.start % grid == span.core_start % grid == 0
        assert span.stop % grid == 0 or span.stop == length
        assert span.start == max(0, span.core_start - overlap) or len(found) == 1
        assert span.stop == length or span.stop >= span.core_stop + overlap
        assert span.stop - span.start <= tile + 2 * overlap


def test_an_axis_that_fits_is_not_split() -> None:
    assert spans(100, 64, 32, 16) == [Span(0, 100, 0, 100)]
    assert len(spans(129, 64, 32, 16)) == 3


@pytest.mark.parametrize(("tile", "overlap"), [(100, 16), (128, 9)])
def test_tiles_off_the_grid_are_a_programming_error(tile: int, overlap: int) -> None:
    with pytest.raises(ValueError, match="multiples of the grid 16"):
        spans(500, tile, overlap, 16)


def test_tiles_come_row_by_row() -> None:
    corners = [(rows.core_start, columns.core_start) for rows, columns in tiles(150, 300, 128, 0, 16)]
    assert corners == [(0, 0), (0, 128), (0, 256), (128, 0), (128, 128), (128, 256)]


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 3), GRIDS)
@example(1, 1, 1, 16)
@example(1, 40, 3, 16)
def test_padding_mirrors_at_the_lower_and_right_edge(height: int, width: int, planes: int, grid: int) -> None:
    array = np.arange(height * width * planes).reshape(height, width, planes)
    padded = pad(array, grid)
    assert padded.shape[:2] == (-(-height // grid) * grid, -(-width // grid) * grid)

    def mirrored(at: int, extent: int) -> int:
        """Walk to and fro between the ends, each sample at a turn twice."""
        at %= 2 * extent
        return at if at < extent else 2 * extent - 1 - at

    rows = [mirrored(y, height) for y in range(padded.shape[0])]
    columns = [mirrored(x, width) for x in range(padded.shape[1])]
    np.testing.assert_array_equal(padded, array[rows][:, columns])


class Blur:
    """In a network's place: a mean over (2 reach + 1) squared samples, then the size halved, kept or doubled.

    Like a network, it continues its input with zeros, so a tile with too little around it shows.
    """

    def __init__(self, reach: int, ratio: float = 1) -> None:
        self.reach, self.ratio, self.largest = reach, ratio, 0

    def __call__(self, image: np.ndarray, log_step: np.ndarray) -> np.ndarray:
        self.largest = max(self.largest, image.shape[0] * image.shape[1])
        reach = self.reach
        sums = np.pad(image, [(reach + 1, reach), (reach + 1, reach), (0, 0)]).cumsum(0).cumsum(1)
        across = 2 * reach + 1
        result = sums[across:, across:] - sums[:-across, across:] - sums[across:, :-across] + sums[:-across, :-across]
        result = result / across**2
        if self.ratio == 0.5:
            return result[::2, ::2]
        return result.repeat(2, 0).repeat(2, 1) if self.ratio == 2 else result


def run(net: Blur, source: np.ndarray, tile: int, drop: tuple[int, int] = (0, 0)) -> np.ndarray:
    """Source through net in tiles that are `tile` picture pixels wide; drop: rows and columns left out at the end."""
    shape = [int(np.ceil(extent * net.ratio)) - less for extent, less in zip(source.shape[:2], drop, strict=True)]
    target = np.full((*shape, source.shape[2]), np.nan)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wrap, "TILE", tile)
        tile = tile // 2 if net.ratio == 2 else tile
        wrap.through(net, source, np.zeros(1), target, np.copy, np.copy, tile)  # type: ignore[arg-type]
    return target


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 600),
    st.integers(1, 600),
    st.sampled_from([0.5, 1, 2]),
    st.tuples(st.integers(0, 1), st.integers(0, 1)),
    st.integers(0, 2**32 - 1),
)
@example(1, 700, 0.5, (0, 0), 0)
@example(1, 1, 2, (1, 1), 0)
@example(385, 385, 0.5, (0, 0), 0)
def test_tiled_is_as_untiled(height: int, width: int, ratio: float, odd: tuple[int, int], seed: int) -> None:
    source = np.random.default_rng(seed).random((height, width, 1))
    drop = odd if ratio == 2 else (0, 0)
    overlap = wrap.OVERLAP // 2 if ratio == 2 else wrap.OVERLAP
    whole, pieces = Blur(overlap, ratio), Blur(overlap, ratio)
    expected = run(whole, source, 1024, drop)
    got = run(pieces, source, 128, drop)
    assert not np.isnan(expected).any()
    np.testing.assert_allclose(got, expected, atol=1e-9)
    assert pieces.largest <= ((64 if ratio == 2 else 128) + 2 * overlap) ** 2


def test_a_reach_beyond_the_overlap_would_show() -> None:
    source = np.random.default_rng(1).random((400, 400, 1)) + 1
    net = Blur(wrap.OVERLAP + 16)
    assert np.abs(run(net, source, 128) - run(net, source, 1024)).max() > 1e-3


def test_a_small_picture_is_one_piece_continued_to_the_grid() -> None:
    seen = []

    def net(image: np.ndarray, log_step: np.ndarray) -> np.ndarray:
        seen.append(image.shape)
        return image

    source = np.arange(6.0).reshape(2, 3, 1)
    target = np.empty_like(source)
    wrap.through(net, source, np.zeros(1), target, np.copy, np.copy, wrap.TILE)  # type: ignore[arg-type]
    assert seen == [(16, 16, 1)]
    np.testing.assert_array_equal(target, source)


def test_progress_ends_at_one() -> None:
    shares: list[float] = []
    source = np.zeros((200, 300, 1))
    through = wrap.through
    through(Blur(0), source, np.zeros(1), source.copy(), np.copy, np.copy, 128, shares.append)  # type: ignore[arg-type]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert len(shares) > 1


def test_looking_both_ways_prefers_neither() -> None:
    random = np.random.default_rng(1)
    image, slopes = random.random((8, 12, 1), np.float32), np.arange(12, dtype=np.float32)
    net = wrap.both_ways(lambda image, step: image * step * slopes[: image.shape[1], None])
    one, other = net(image, np.float32(2)), net(image.transpose(1, 0, 2), np.float32(2)).transpose(1, 0, 2)
    np.testing.assert_array_equal(one, other)
    np.testing.assert_allclose(one, image * (slopes[:12, None] + slopes[:8, None, None]), rtol=1e-6)


def test_large_pictures_are_looked_at_one_way() -> None:
    model = model_named("jpeg-color-half")
    assert wrap.looks_both_ways(model, 2000, 2000)
    assert not wrap.looks_both_ways(model, 2000, 2001)
    assert not wrap.looks_both_ways(replace(model, both_ways=False), 8, 8)
