"""A picture through a learned codec's networks into a .corec file, and back, for one model and one level.

    write: picture -> analysis -> latents, times the level's gains, rounded -> range coder -> bytes
    read:  bytes -> range coder -> latents, divided by the gains -> synthesis -> picture

What is known of the latents before they are decoded, their tables and means, is told by prior.py. Networks see large
pictures in tiles, so that memory stays bounded; the file knows nothing of them.
"""

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from corec import color, tiles
from corec.errors import CodecError, ModelError, PictureError, RateError
from corec.learned.coder import Decoder, Encoder, bits_of, constriction, cost
from corec.learned.format import NAME, Header, header_bytes, pack, unpack
from corec.learned.prior import Prior, Where, net
from corec.learned.refine import Coded, refined
from corec.learned.tables import Tables, tables
from corec.models import ZOO, Learned, learned, learned_named, learned_numbered
from corec.picture import Picture
from corec.view import View
from corec.wrap import Net, Progress, both_ways, levels, refuse_beyond_largest, rows_as_columns, unit, very_large

STRIDE = 16
"""Pixels a latent, along each side."""
ANALYSIS = 1024, 64, 64
SYNTHESIS = 64, 6, 1
"""Tile, overlap and grid in samples of what each network sees. The overlaps exceed their reach."""
RANGE = 4.0
"""Of the natural logarithm of a file's size, from the coarsest level to the finest: about what models have."""


def read(data: bytes, progress: Progress | None = None) -> Picture:
    """The picture of a .corec file. Raises CorecError."""
    header, coded, model = origin(data)
    known = tables_of(model)
    latents = decoded(coded, header, model, known)
    gray = header.gray or not model.color
    pixels = np.empty((header.height, header.width, 1 if gray else 3), np.uint8)
    synthesis = looking(model, "synthesis", known, looks_both_ways(known, header.height, header.width))
    after = shown_gray if header.gray else shown
    log_step = -np.log(known.gain[header.level])
    tiles.through(
        lambda piece: synthesis(piece, log_step), latents.transpose(1, 2, 0), pixels, after, SYNTHESIS, progress
    )
    return Picture(pixels[..., 0] if gray else pixels)


def origin(data: bytes) -> tuple[Header, bytes, Learned]:
    """What a file's header says, its range-coded bytes and the model that wrote it; nothing is decoded.

    Refuses damage, unknown models, and a picture too large to be one.
    """
    header, coded = unpack(data)
    model = learned_numbered(header.model)
    if not header.width * header.height:
        raise PictureError("the file is damaged: its picture has no pixels")
    refuse_beyond_largest(header.width, header.height, padded)
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

    def __init__(self, picture: Picture, model: Learned, rounds: int = 0, progress: Progress | None = None) -> None:
        """rounds: of refining them for a file, by a model that can."""
        self.picture, self.model, self.tables = picture, model, tables_of(model)
        self.pixels = picture.pixels[..., None] if picture.gray else picture.pixels
        self.both = looks_both_ways(self.tables, picture.height, picture.width)
        self.rounds = rounds
        self.progress = progress or (lambda share: None)
        refuse_beyond_largest(picture.width, picture.height, padded)
        constriction()  # if it is missing, that should not come to light behind all the work
        self.analysed: int | None = None
        """The level that values are for."""
        self.values = np.empty(shape_of(self.tables, picture.height, picture.width), np.float32)
        """(N, h, w)"""
        self.files = 0
        """How many have been made."""

    def at(self, level: int) -> np.ndarray:
        """The latents, not yet times their gains, (N, h, w): an analysis may be told the level."""
        told = net(self.model, "analysis").takes_steps
        if self.analysed == level or (self.analysed is not None and not told):
            return self.values
        analysis = looking(self.model, "analysis", self.tables, self.both)
        log_step = -np.log(self.tables.gain[level])
        first = self.analysed is None and not self.rounds
        tiles.through(
            lambda piece: analysis(self.shown(piece), log_step),
            self.pixels,
            self.values.transpose(1, 2, 0),
            np.asarray,
            ANALYSIS,
            self.progress if first else None,
        )
        self.analysed = level
        return self.values

    def shown(self, pixels: np.ndarray) -> np.ndarray:
        """Pixels as the model's networks see them: (H, W, 3 or 1) in 0..1."""
        return np.broadcast_to(unit(pixels), (*pixels.shape[:2], 3 if self.model.color else 1))

    def scaled(self, level: int) -> np.ndarray:
        """The latents in bins of a level."""
        return self.tables.gain[level][:, None, None] * self.at(level)

    def refined(self, level: int) -> np.ndarray:
        """The latents that a level's file is made of, in bins, (N, h, w)."""
        wanted = self.scaled(level)
        if not self.rounds:
            return wanted
        view = View(
            self.shown(tiles.pad(self.pixels, STRIDE)),
            net(self.model, "synthesis"),
            net(self.model, "synthesis", "slope"),
            -np.log(self.tables.gain[level]),
            STRIDE,
            self.tables.exchanged if self.both else None,
        )
        gain, worth = self.tables.gain[level], 255**2 * float(self.tables.worth[level])
        code, bits = partial(self.coded, level), partial(bits_of, self.tables)
        return refined(wanted, gain, worth, view, code, bits, self.rounds, self.progress)

    def coded(self, level: int, wanted: np.ndarray) -> Coded:
        """What latents in bins, (N, h, w), are coded as."""
        symbols, numbers = np.empty(wanted.shape, np.int32), np.empty(wanted.shape, np.uint16)
        means = np.empty(wanted.shape, np.float32)
        for where, piece, *parts in self.pieces(level, wanted):
            here = np.unravel_index(np.arange(piece.start, piece.stop), symbols[where].shape)
            symbols[where][here], numbers[where][here], means[where][here] = parts
        return symbols, numbers, means

    @property
    def levels(self) -> int:
        """How many levels there are."""
        return len(self.tables.gain)

    def file(self, level: int) -> bytes:
        """The file of a level."""
        return self.file_of(level, self.refined(level))

    def file_of(self, level: int, wanted: np.ndarray) -> bytes:
        """The file of a level, made of latents in bins (N, h, w)."""
        self.files += 1
        encoder = Encoder(self.tables)
        for _, _, symbols, numbers, _ in self.pieces(level, wanted):
            encoder.encode(symbols, numbers)
        return pack(self.header(level), encoder.finish())

    def size(self, level: int) -> float:
        """The bytes of a level's file without refined latents, to within 0.1 % and 4, without making it."""
        pieces = self.pieces(level, self.scaled(level))
        coded = sum(cost(self.tables, symbols, numbers) for _, _, symbols, numbers, _ in pieces) / 8
        return header_bytes(self.header(level), int(coded)) + coded

    def within(self, size: int) -> tuple[bytes, int]:
        """The file of at most `size` bytes at about the finest level possible, and that level.

        Raises RateError, with the smallest size, if even the coarsest is too large.
        """
        level, too_fine = max(0, self.finest_within(size)), self.levels
        while len(data := self.file(level)) > size:
            if level == 0:  # refined latents may take more
                data = self.file_of(0, self.scaled(0))
                if len(data) > size:
                    raise RateError.too_small(size, len(data))
                break
            too_fine = level
            level = min(level - 1, max(0, self.finest_within(size * self.size(level) / len(data))))
        further = min(too_fine - 1, self.finest_within(size * self.size(level) / len(data)))  # they may take less, too
        if further > level and len(finer := self.file(further)) <= size:
            return finer, further
        return data, level

    def finest_within(self, size: float) -> int:
        """The finest level whose file would have at most `size` bytes; -1 if there is none.

        Sizes grow about as powers of the level, so that two or three are enough to know which to look at.
        """
        fits, does_not, level = -1, self.levels, self.levels // 2
        usual = RANGE / self.levels
        known: dict[int, float] = {}
        while does_not - fits > 1:
            known[level] = math.log(self.size(level))
            fits, does_not = (level, does_not) if known[level] <= math.log(size) else (fits, level)
            rise = usual
            if fits in known and does_not in known:
                rise = (known[does_not] - known[fits]) / (does_not - fits)
            nearer = level + math.floor((math.log(size) - known[level]) / max(rise, usual / 2))
            level = min(max(nearer, fits + 1), does_not - 1)
        return fits

    def header(self, level: int) -> Header:
        """The header of a level's file."""
        gray = self.picture.gray and self.model.color
        return Header(self.model.number, level, self.picture.width, self.picture.height, gray)

    def pieces(self, level: int, wanted: np.ndarray) -> Iterator[tuple[Where, slice, np.ndarray, np.ndarray, Any]]:
        """Of latents in bins (N, h, w), as they are coded: the places of a piece, the symbols there, int32 (n,), their
        tables' numbers (n,) and means."""
        prior = Prior(self.model, self.tables, level, wanted.shape)
        for where in prior.places():
            here = wanted[where].reshape(-1)
            for piece, numbers, means in prior.pieces(where):
                symbols = chosen(self.tables, here[piece] - means, numbers, self.model.price)
                yield where, piece, symbols, numbers, means
                prior.learn(where, piece, symbols)


def chosen(known: Tables, residuals: np.ndarray, numbers: np.ndarray, price: float) -> np.ndarray:
    """The symbols of residuals (n,), in bins, in tables of these numbers (n,): int32 (n,).

    Each is rounded, or its neighbour towards zero if that costs less: squared error plus price times bits.
    """
    symbols = quantised(residuals)
    if not price:
        return symbols
    open_to = np.flatnonzero(symbols)
    near, exact, numbers = symbols[open_to], residuals[open_to], numbers[open_to]
    lower = near - np.sign(near)
    saved = bits_of(known, near, numbers) - bits_of(known, lower, numbers)
    cheaper = (exact - lower) ** 2 - (exact - near) ** 2 < price * saved
    symbols[open_to[cheaper]] = lower[cheaper]
    return symbols


def decoded(coded: bytes, header: Header, model: Learned, known: Tables) -> np.ndarray:
    """The latents of a file, (N, h, w) float32. Raises CodecError."""
    decoder = Decoder(known, coded)
    latents = np.empty(shape_of(known, header.height, header.width), np.float32)
    prior, gain = Prior(model, known, header.level, latents.shape), known.gain[header.level]
    for where in prior.places():
        found = np.empty(latents[where].shape, np.float32)
        for piece, numbers, means in prior.pieces(where):
            symbols = decoder.decode(numbers)
            found.reshape(-1)[piece] = symbols + means
            prior.learn(where, piece, symbols)
        latents[where] = found / gain[where[0], None, None]
    return latents


def looks_both_ways(known: Tables, height: int, width: int) -> bool:
    """Whether a model of these tables can, and the picture is not very large."""
    return len(known.transposed) > 0 and not very_large(padded(height), padded(width))


def looking(model: Learned, part: str, known: Tables, both: bool) -> Net:
    """A model's analysis or synthesis, looking both ways or not."""
    turns = (rows_as_columns, known.exchanged) if part == "analysis" else (known.exchanged, rows_as_columns)
    return both_ways(net(model, part), *turns) if both else net(model, part)


def tables_of(model: Learned) -> Tables:
    """A model's tables. Raises ModelError for a number of them that cannot be."""
    known = tables(ZOO / model.files["tables"], model.sha256["tables"])
    levels, arrays = known.gain.shape
    if not model.contexts and len(known.low) != levels * arrays:
        raise ModelError(f"model {model.name} has {len(known.low)} tables, not {levels} x {arrays}")
    return known


def shape_of(known: Tables, height: int, width: int) -> tuple[int, int, int]:
    """The latents' (N, h, w) of a picture."""
    return known.gain.shape[1], padded(height) // STRIDE, padded(width) // STRIDE


def padded(extent: int) -> int:
    """Pixels along a side as the networks see it, whole latents: what time and memory are for."""
    return -(-extent // STRIDE) * STRIDE


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
