"""What is known of latents before they are decoded: by which table each is coded, and around which mean.

A model without contexts has a table for every array of latents and level, and all means are 0. With contexts, latents
come in groups of arrays, and those of a group place by place: the first group's of even rows and columns, then those of
odd ones, then all between; of every other group even and odd ones together, then all between. Before each of these an
exact network looks at all that is known so far.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from corec import tiles
from corec.errors import ModelError
from corec.learned.tables import Tables
from corec.models import ZOO, Learned
from corec.runtime import Network, network

PIECE = 1 << 20
"""Symbols that are coded together, at most."""
UNIT = 16
"""Integers that make 1, in the means that contexts tell and in what their layers hand on; latents are whole."""
WHOLE = 2047
"""Largest magnitude of the latents that contexts see, to which others are clamped."""
CONTEXT = 128, 2, 1
"""Tile, overlap and grid of contexts, in latents. The overlap is their reach."""
FINER = 4
"""Levels to one of those that contexts are told."""
FIRST = (((0, 0),), ((1, 1),), ((0, 1), (1, 0)))
OTHERS = (((0, 0), (1, 1)), ((0, 1), (1, 0)))
"""Places of a group, by the parities of row and column, before each of which its network is asked again."""
LEVEL, KNOWN, PLANES = 0, 1, 2
"""What contexts see before latents: the level everywhere, and where latents of the group are known."""

Where = tuple[slice, slice, slice]
"""Arrays, rows and columns."""


class Prior:
    """The places of a picture's latents in their order, and what is known of them; learn() what was coded there."""

    def __init__(self, model: Learned, known: Tables, level: int, shape: tuple[int, ...]) -> None:
        """shape: the latents' (N, h, w). Raises ModelError for contexts that cannot be these latents'."""
        self.model, self.tables, self.level, self.shape = model, known, level, shape
        self.contexts = [net(model, part) for part in model.contexts]
        if self.contexts:
            ends = [context.planes - PLANES for context in self.contexts]
            if ends != sorted(set(ends)) or ends[0] < 1 or ends[-1] != shape[0]:
                raise ModelError(f"model {model.name} has contexts that do not fit its latents")
            self.seen = np.zeros((PLANES + shape[0], *shape[1:]), np.int16)
            self.seen[LEVEL] = (level + FINER // 2) // FINER
        self.told: np.ndarray | None = None
        """Means and indices, (2, arrays of a group, h, w)."""

    def places(self) -> Iterator[Where]:
        """Where the symbols are that are coded one after another. What an earlier one holds must have been learnt."""
        if not self.contexts:
            yield slice(0, self.shape[0]), slice(None), slice(None)
        end = 0
        for context in self.contexts:
            group = slice(end, end := context.planes - PLANES)
            self.seen[KNOWN] = 0
            for phase in OTHERS if group.start else FIRST:
                self.ask(context, group)
                for row, column in phase:
                    yield group, slice(row, None, 2), slice(column, None, 2)
                for row, column in phase:
                    self.seen[KNOWN, row::2, column::2] = 1

    def ask(self, context: Network, group: slice) -> None:
        """Have a group's network tell means and indices from all that is known."""
        told = np.empty((2 * (group.stop - group.start), *self.shape[1:]), np.int16)
        source, target = self.seen[: PLANES + group.stop].transpose(1, 2, 0), told.transpose(1, 2, 0)
        tiles.through(context, source, target, whole, CONTEXT)
        self.told = told.reshape(2, -1, *self.shape[1:])
        if self.told[1].min() < 0 or self.told[1].max() >= len(self.tables.low):
            raise ModelError(f"a context of {self.model.name} names tables that there are not")

    def pieces(self, where: Where) -> Iterator[tuple[slice, np.ndarray, Any]]:
        """The symbols there, array by array and row by row, in pieces (n,): the tables' numbers, and the means."""
        if self.told is None:
            size = self.shape[1] * self.shape[2]
            for piece in pieces_of(self.shape[0] * size):
                array = np.arange(piece.start, piece.stop) // size
                yield piece, (self.level * self.shape[0] + array).astype(np.uint16), np.float32(0)
        else:
            means, numbers = self.told[:, :, where[1], where[2]].reshape(2, -1)
            for piece in pieces_of(means.size):
                yield piece, numbers[piece].astype(np.uint16), means[piece] / np.float32(UNIT)

    def learn(self, where: Where, piece: slice, symbols: np.ndarray) -> None:
        """Take note of a piece's symbols."""
        if self.told is None:
            return
        arrays, rows, columns = where
        means = self.told[0][:, rows, columns]
        indices = np.unravel_index(np.arange(piece.start, piece.stop), means.shape)
        whole_means = np.rint(means[indices] / np.float32(UNIT))
        values = (symbols + whole_means.astype(np.int64)).clip(-WHOLE, WHOLE)
        self.seen[PLANES + arrays.start : PLANES + arrays.stop, rows, columns][indices] = values


def net(model: Learned, *parts: str) -> Network:
    """One of a model's networks: of one file, or of several, one behind the other."""
    return network(*((ZOO / model.files[part], model.sha256[part]) for part in parts))


def pieces_of(count: int) -> Iterator[slice]:
    """The pieces of so many symbols."""
    return (slice(at, min(count, at + PIECE)) for at in range(0, count, PIECE))


def whole(values: np.ndarray) -> np.ndarray:
    """Whole numbers of 16 bits, as they are. Raises ModelError for others: both sides must have the same."""
    with np.errstate(invalid="ignore"):
        same = values.astype(np.int16)
    if (same != values).any():
        raise ModelError("a context gave numbers that are not whole: this machine cannot read its files")
    return same
