"""Tile geometry: a large picture goes through a network in overlapping pieces, in bounded memory.

A network's output pixel depends on inputs at most some reach away. Each tile is read with that much
around it and only its core is kept, so the joined output is that of the untiled network, but for
the order of floating-point sums. Tile corners lie on the network's grid.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Span:
    """One axis of one tile, in samples: [start, stop) is read, [core_start, core_stop) is kept."""

    start: int
    stop: int
    core_start: int
    core_stop: int


def spans(length: int, tile: int, overlap: int, grid: int) -> list[Span]:
    """Split an axis into cores of `tile` samples, read with `overlap` more on either side.

    tile and overlap are multiples of grid. Every start is one too; a stop may be the axis' ragged end. An
    axis that fits into one piece with its overlaps is not split.
    """
    if tile % grid or overlap % grid:
        raise ValueError(f"tile {tile} and overlap {overlap} must be multiples of the grid {grid}")
    if length <= tile + 2 * overlap:
        return [Span(0, length, 0, length)]
    return [
        Span(max(0, at - overlap), min(length, at + tile + overlap), at, min(length, at + tile))
        for at in range(0, length, tile)
    ]


def tiles(height: int, width: int, tile: int, overlap: int, grid: int) -> Iterator[tuple[Span, Span]]:
    """The tiles (rows, columns) of a picture, row by row."""
    for rows in spans(height, tile, overlap, grid):
        for columns in spans(width, tile, overlap, grid):
            yield rows, columns


def pad(array: np.ndarray, grid: int) -> np.ndarray:
    """Continue an array (H, W, C) by mirroring at its lower and right edge, to multiples of grid."""
    missing = [-extent % grid for extent in array.shape[:2]]
    if not any(missing):
        return array
    return np.pad(array, [(0, missing[0]), (0, missing[1]), (0, 0)], mode="symmetric")


def through(
    work: Callable[[np.ndarray], np.ndarray],
    source: np.ndarray,
    target: np.ndarray,
    after: Callable[[np.ndarray], np.ndarray],
    shape: tuple[int, int, int],
    progress: Callable[[float], None] | None = None,
) -> None:
    """Fill target (H', W', C') from source (H, W, C), tile by tile.

    work turns a piece of source, mirrored to multiples of the grid, into a piece larger or smaller by a whole
    factor; after turns the core of that into a piece of target, which may lack a ragged edge. shape: tile, overlap and
    grid, in source samples. progress is called with the share done.
    """
    tile, overlap, grid = shape
    pieces = list(tiles(source.shape[0], source.shape[1], tile, overlap, grid))
    for index, (rows, columns) in enumerate(pieces):
        piece = pad(source[rows.start : rows.stop, columns.start : columns.stop], grid)
        result = work(piece)
        ratio = result.shape[0] / piece.shape[0]
        top, left = (int((span.core_start - span.start) * ratio) for span in (rows, columns))
        at_row, at_column = (int(span.core_start * ratio) for span in (rows, columns))
        stop_row, stop_column = (
            min(extent, math.ceil(span.core_stop * ratio))
            for span, extent in zip((rows, columns), target.shape[:2], strict=True)
        )
        core = result[top : top + stop_row - at_row, left : left + stop_column - at_column]
        target[at_row:stop_row, at_column:stop_column] = after(core)
        if progress:
            progress((index + 1) / len(pieces))
