"""A picture through a learned codec's networks into a .corec file, and back, for one model and one level.

    write: picture -> analysis -> latents, times the level's gains, rounded -> range coder -> bytes
    read:  bytes -> range coder -> latents, divided by the gains -> synthesis -> picture

A model with a hyperprior sends a little picture of the latents ahead, from which an exact network tells the mean and
the table of each. Networks see large pictures in tiles, so that memory stays bounded; the file knows nothing of them.
"""

from bisect import bisect_right
from collections.abc import Iterator
from typing import Any

import numpy as np

from corec import color, tiles
from corec.errors import CodecError, ModelError, PictureError, RateError
from corec.learned.coder import Decoder, Encoder, constriction, cost
from corec.learned.format import NAME, Header, header_bytes, pack, unpack
from corec.learned.tables import Tables, tables
from corec.models import ZOO, Learned, learned, learned_named, learned_numbered
from corec.picture import Picture
from corec.runtime import Network, network
from corec.wrap import Progress, levels, refuse_beyond_largest, unit

STRIDE = 16
"""Pixels a latent, along each side."""
SIDE_STRIDE = 4
"""Latents a number of the hyperprior, along each side."""
PIECE = 1 << 20
"""Symbols that are coded together."""
MEANS = 16
"""The hyperprior tells means in sixteenths."""
ANALYSIS = 1024, 64, 64
SYNTHESIS = 64, 4, 1
HYPER_ANALYSIS = 256, 32, 4
HYPER_SYNTHESIS = 64, 8, 1
"""Tile, overlap and grid in samples of what each network sees. The overlaps exceed their reach."""


def write(picture: Picture, model: Learned, level: int) -> bytes:
    """The file of a picture at one level, 0 being the coarsest."""
    return Latents(picture, model).file(level)


def read(data: bytes, progress: Progress | None = None) -> Picture:
    """The picture of a .corec file. Raises CorecError."""
    header, coded, model = origin(data)
    known = tables_of(model)
    latents = decoded(coded, header, model, known)
    gray = header.gray or not model.color
    pixels = np.empty((header.height, header.width, 1 if gray else 3), np.uint8)
    synthesis, after = net(model, "synthesis"), shown_gray if header.gray else shown
    tiles.through(synthesis, latents.transpose(1, 2, 0), pixels, after, SYNTHESIS, progress)
    return Picture(pixels[..., 0] if gray else pixels)


def origin(data: bytes) -> tuple[Header, bytes, Learned]:
    """What a file's header says, its range-coded bytes and the model that wrote it; nothing is decoded.

    Refuses damage, unknown models, and a picture too large to be one.
    """
    header, coded = unpack(data)
    model = learned_numbered(header.model)
    if not header.width * header.height:
        raise PictureError("the file is damaged: its picture has no pixels")
    refuse_beyond_largest(header.width, header.height)
    if header.level >= len(tables_of(model).gain):
        raise CodecError(f"the file is damaged: model {model.name} has no level {header.level}")
    if header.gray and not model.color:
        raise CodecError(f"the file is damaged: model {model.name} is for gray pictures anyway")
    return header, coded, model


def describe(data: bytes) -> dict[str, Any]:
    """What a .corec file says of itself, without decoding it. Raises CorecError."""
    header, coded, model = origin(data)
    return {
        "codec": NAME,
        "model": model.name,
        "number": model.number,
        "level": header.level,
        "width": header.width,
        "height": header.height,
        "bytes": len(data),
        "header_bytes": len(data) - len(coded),
        "bpp": 8 * len(data) / (header.width * header.height),
    }


def model_for(picture: Picture, name: str | None) -> Learned:
    """The model for a picture: the default one, or that of a name or a method's name. Raises ModelError.

    Where there is none for gray, gray pictures are taken by one for colour.
    """
    if name is None:
        rows = [row for row in learned() if row.default]
    else:
        rows = [row for row in learned() if row.method == name] or [learned_named(name)]
    for row in sorted(rows, key=lambda row: row.color == picture.gray):
        if row.color or picture.gray:
            return row
    raise ModelError(f"{name or 'the learned codec'} has no model for {'gray' if picture.gray else 'colour'} pictures")


class Latents:
    """The latents of a picture, of which files of every level are made."""

    def __init__(self, picture: Picture, model: Learned, progress: Progress | None = None) -> None:
        self.picture, self.model, self.tables = picture, model, tables_of(model)
        refuse_beyond_largest(picture.width, picture.height)
        constriction()  # if it is missing, that should not come to light behind all the work
        self.values = np.empty(shape_of(self.tables, picture.height, picture.width), np.float32)
        """(N, h, w)"""
        pixels = picture.pixels[..., None] if picture.gray else picture.pixels
        planes, analysis = 3 if model.color else 1, net(model, "analysis")
        target = self.values.transpose(1, 2, 0)

        def analysed(piece: np.ndarray) -> np.ndarray:
            return analysis(np.broadcast_to(unit(piece), (*piece.shape[:2], planes)))

        tiles.through(analysed, pixels, target, np.asarray, ANALYSIS, progress)

    @property
    def levels(self) -> int:
        """How many levels there are."""
        return len(self.tables.gain)

    def file(self, level: int) -> bytes:
        """The file of a level."""
        encoder = Encoder(self.tables)
        for symbols, numbers in self.pieces(level):
            encoder.encode(symbols, numbers)
        return pack(self.header(level), encoder.finish())

    def size(self, level: int) -> float:
        """The bytes of a level's file, to within 0.1 % and 4, without making it."""
        coded = sum(cost(self.tables, symbols, numbers) for symbols, numbers in self.pieces(level)) / 8
        return header_bytes(self.header(level), int(coded)) + coded

    def within(self, size: int) -> tuple[bytes, int]:
        """The file of at most `size` bytes at the finest level possible, and that level.

        Raises RateError, with the smallest size, if even the coarsest is too large.
        """
        level = max(0, bisect_right(range(self.levels), float(size), key=self.size) - 1)
        while len(data := self.file(level)) > size:
            if level == 0:
                raise RateError.too_small(size, len(data))
            level -= 1
        return data, level

    def header(self, level: int) -> Header:
        """The header of a level's file."""
        gray = self.picture.gray and self.model.color
        return Header(self.model.number, level, self.picture.width, self.picture.height, gray)

    def pieces(self, level: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The symbols of a level, int32 (n,), and their tables' numbers (n,), as they are coded."""
        side = None
        if self.model.hyper:
            side = self.side(level)
            for piece in pieces_of(side.size):
                yield side.reshape(-1)[piece], channel_numbers(piece, side.shape, level)
        prior = Prior(self.model, self.tables, level, self.values.shape, side)
        for piece in pieces_of(self.values.size):
            numbers, means, gains = prior.at(piece)
            yield quantised(gains * self.values.reshape(-1)[piece] - means), numbers

    def side(self, level: int) -> np.ndarray:
        """The numbers that the hyperprior sends ahead: int32 (M, h / 4, w / 4), rounded up."""
        gain, hyper_analysis = self.tables.gain[level], net(self.model, "hyper_analysis")
        side = np.empty(side_shape(self.model, self.values.shape), np.int32)
        source, target = self.values.transpose(1, 2, 0), side.transpose(1, 2, 0)
        tiles.through(lambda piece: hyper_analysis(gain * piece), source, target, quantised, HYPER_ANALYSIS)
        return side


class Prior:
    """By which table each latent of a level is coded, and around which mean."""

    def __init__(
        self, model: Learned, known: Tables, level: int, shape: tuple[int, ...], side: np.ndarray | None
    ) -> None:
        """shape: the latents' (N, h, w); side: what was sent ahead, with a hyperprior."""
        self.gain, self.level, self.shape = known.gain[level], level, shape
        self.told: np.ndarray | None = None
        if side is None:
            return
        first = len(known.gain) * len(side)
        told = np.empty((2, *shape), np.int16)
        source, target = side.transpose(1, 2, 0), told.reshape(-1, *shape[1:]).transpose(1, 2, 0)
        tiles.through(net(model, "hyper_synthesis"), source, target, whole, HYPER_SYNTHESIS)
        if told[1].min() < 0 or told[1].max() >= len(known.low) - first:
            raise ModelError(f"the hyperprior of {model.name} names tables that there are not")
        self.told, self.first = told.reshape(2, -1), first

    def at(self, piece: slice) -> tuple[np.ndarray, np.ndarray | float, np.ndarray]:
        """Of the latents of a piece (n,): their tables' numbers, their means after the gain, and their gains."""
        gains = self.gain[channels(piece, self.shape)]
        if self.told is None:
            return channel_numbers(piece, self.shape, self.level), 0.0, gains
        means, indices = self.told[:, piece]
        return (indices + np.int32(self.first)).astype(np.uint16), means / np.float32(MEANS), gains


def decoded(coded: bytes, header: Header, model: Learned, known: Tables) -> np.ndarray:
    """The latents of a file, (N, h, w) float32. Raises CodecError."""
    decoder = Decoder(known, coded)
    shape, side = shape_of(known, header.height, header.width), None
    if model.hyper:
        side = np.empty(side_shape(model, shape), np.int32)
        for piece in pieces_of(side.size):
            side.reshape(-1)[piece] = decoder.decode(channel_numbers(piece, side.shape, header.level))
    prior = Prior(model, known, header.level, shape, side)
    latents = np.empty(shape, np.float32)
    for piece in pieces_of(latents.size):
        numbers, means, gains = prior.at(piece)
        latents.reshape(-1)[piece] = (decoder.decode(numbers) + means) / gains
    return latents


def net(model: Learned, part: str) -> Network:
    """One of a model's networks."""
    return network(ZOO / model.files[part], model.sha256[part])


def tables_of(model: Learned) -> Tables:
    """A model's tables. Raises ModelError for a number of them that cannot be."""
    known = tables(ZOO / model.files["tables"], model.sha256["tables"])
    levels, channels = known.gain.shape
    count = len(known.low)
    if not model.hyper and count != levels * channels:
        raise ModelError(f"model {model.name} has {count} tables, not {levels} x {channels}")
    if model.hyper and count <= levels * net(model, "hyper_synthesis").planes:
        raise ModelError(f"model {model.name} has {count} tables, which are too few")
    return known


def shape_of(known: Tables, height: int, width: int) -> tuple[int, int, int]:
    """The latents' (N, h, w) of a picture."""
    return known.gain.shape[1], -(-height // STRIDE), -(-width // STRIDE)


def side_shape(model: Learned, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """The shape of what a hyperprior sends ahead of latents (N, h, w)."""
    return net(model, "hyper_synthesis").planes, -(-shape[1] // SIDE_STRIDE), -(-shape[2] // SIDE_STRIDE)


def pieces_of(count: int) -> Iterator[slice]:
    """The pieces of so many symbols: channel after channel, row after row."""
    return (slice(at, min(count, at + PIECE)) for at in range(0, count, PIECE))


def channels(piece: slice, shape: tuple[int, ...]) -> np.ndarray:
    """The channel of each symbol of a piece of an array (N, h, w)."""
    return np.arange(piece.start, piece.stop) // (shape[1] * shape[2])


def channel_numbers(piece: slice, shape: tuple[int, ...], level: int) -> np.ndarray:
    """The numbers of tables that depend on the level and the channel alone: uint16 (n,)."""
    return (level * shape[0] + channels(piece, shape)).astype(np.uint16)


def shown(image: np.ndarray) -> np.ndarray:
    """A synthesis' result as uint8 levels; overflow, which latents from a damaged file may lead to, included."""
    return levels(np.nan_to_num(image.clip(0, 1)))


def shown_gray(image: np.ndarray) -> np.ndarray:
    """The luma of a synthesis' result in colour, as uint8 levels (H, W, 1)."""
    return color.luma(shown(image))[..., None]


def quantised(values: np.ndarray) -> np.ndarray:
    """The nearest int32. Raises ModelError for what is no number."""
    if not np.isfinite(values).all():
        raise ModelError("a network gave something that is no number")
    return np.rint(values.astype(np.float64)).clip(-(1 << 31), (1 << 31) - 1).astype(np.int32)


def whole(values: np.ndarray) -> np.ndarray:
    """Whole numbers of 16 bits, as they are. Raises ModelError for others: both sides must have the same."""
    with np.errstate(invalid="ignore"):
        same = values.astype(np.int16)
    if (same != values).any():
        raise ModelError("a hyperprior's network gave numbers that are not whole: this machine cannot read its files")
    return same
