"""JPEG files of quantised coefficients: their scans (ITU-T T.81, annexes B, F and G).

Of two orders that of fewest bits becomes the file: all that belongs to a block in one place, or progressive. In the
latter luma has scans of its own, so that DC levels are told from those of the block to the left; where luma and chroma
take turns its blocks come in squares of four. All scans use the same table, which is written anew where that pays.

Colour in three scans of all that belongs to a block would often be smaller yet, but decoders of the image crate that
many Rust programs use make stripes of that (zune-jpeg 0.5.15).
"""

import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from corec.codecs import huffman

SOF0, SOF2, DHT, SOI, EOI, SOS, DQT = 0xC0, 0xC2, 0xC4, 0xD8, 0xD9, 0xDA, 0xDB
CHUNK = (1 << 15) - 1
"""Blocks that are coded at a time: bounds the memory for large images. No run of blocks may be longer."""
SAMPLED = 4
"""Chunks of a component that are looked at for an order of scans."""
HEADER = 8 * 10
"""Bits of a scan's header, of one component."""
SPLITS = (2, 5, 8, 12, 18)
"""Last coefficients of the lower of two bands that are tried."""
AC = 256
"""Added to symbols of AC tables."""
SMALL = 8 * 300
"""Bits of a component for which no more than one AC scan has been seen to pay."""
LOWEST = 3
"""Of the lowest bits that a component's first scans have."""
JUMP = 16
"""Zeros that have a symbol of their own."""
ORDER, TURN, END = 1024, 8, 1000
"""What a scan is coded of is sorted by block, level that is coded in it (at most 63), and jump (at most 3, with what
follows each); last comes a block's end, with what follows it."""


class Scan(NamedTuple):
    """Some bits of components' coefficients, of the zigzag order from first to last; AC ones, if progressive, of one
    component's."""

    components: tuple[int, ...]
    first: int
    last: int
    high: int = 0
    """Lowest bit of those before it, plus 1 if there are any: T.81's Ah."""
    low: int = 0
    """Lowest bit that it has: Al."""


class Codes(NamedTuple):
    """What scans are coded of, each (N,): symbols, AC's 256 higher, or -1 for none, and the bits behind each."""

    order: np.ndarray
    symbols: np.ndarray
    bits: np.ndarray
    widths: np.ndarray
    """How many bits."""


class Chunk(NamedTuple):
    """Some blocks of a scan, one after the other."""

    steps: np.ndarray
    """What DC levels differ by from those before of their component (B,)."""
    block: np.ndarray
    """Of AC levels that are not 0, in their order, the block (N,),"""
    place: np.ndarray
    """the place in zigzag order, from 1 (N,),"""
    level: np.ndarray
    """and what they are (N,)."""


Parts = dict[tuple[int, ...], list[Chunk]]
"""An image's levels by the components of a scan."""


class Planned(NamedTuple):
    """A file's scans, the tables that are written before each, (256,) lengths of codes by class, and bits of it all."""

    progressive: bool
    scans: list[Scan]
    tables: list[dict[int, np.ndarray]]
    bits: int


class Tallied(NamedTuple):
    """A scan's symbols, counted (2, 256) by class, and all bits behind them."""

    symbols: np.ndarray
    bits: int


def write(levels: Sequence[np.ndarray], size: tuple[int, int], tables: np.ndarray) -> bytes:
    """The smallest file that is found.

    levels: of each component, luma and maybe Cb and Cr at half size, int16 (B, 64) in zigzag order, as 8-bit samples
    have them, its blocks row by row; size: width and height; tables: of luma and of chroma, whole numbers in 1..255
    (1 or 2, 64) in zigzag order.
    """
    parts = parted(levels, size)
    return written(min(plans(parts), key=lambda plan: plan.bits), parts, size, tables)


def parted(levels: Sequence[np.ndarray], size: tuple[int, int]) -> Parts:
    """Components' levels and size, see write(), by the components of a scan."""
    parts: Parts = {(index,): chunks(blocks, differences(blocks[:, 0])) for index, blocks in enumerate(levels)}
    if len(levels) == 3:
        parts[1, 2] = chunks(*taking_turns([blocks[:, None] for blocks in levels[1:]]))
        if len(levels[0]) <= CHUNK:  # it pays for small images alone
            columns, rows = (-(-extent // 8) for extent in size)
            parts[0, 1, 2] = chunks(
                *taking_turns([squares(levels[0], rows, columns), *(c[:, None] for c in levels[1:])])
            )
    return parts


def squares(blocks: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Luma's levels (rows * columns, 64) by squares (B, 4, 64): blocks beyond an edge have the DC level before them."""
    inside = np.arange(rows * columns).reshape(rows, columns)
    grid = np.pad(inside, [(0, rows % 2), (0, columns % 2)], constant_values=-1)
    index = grid.reshape(len(grid) // 2, 2, -1, 2).transpose(0, 2, 1, 3).ravel()
    taken = blocks[index]
    taken[index < 0, 1:] = 0
    before = np.maximum.accumulate(np.where(index < 0, 0, np.arange(len(index))))
    taken[:, 0] = taken[before, 0]
    return taken.reshape(-1, 4, 64)


def taking_turns(components: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Levels (B, blocks a turn, 64) of components that take turns: blocks (N, 64) in that order, and their DC steps."""
    steps = [differences(turns[..., 0].ravel()).reshape(turns.shape[:2]) for turns in components]
    return np.concatenate(components, 1).reshape(-1, 64), np.concatenate(steps, 1).ravel()


def differences(dc: np.ndarray) -> np.ndarray:
    """What DC levels (B,) differ by from those before."""
    return np.diff(dc.astype(np.int64), prepend=0)


def plans(parts: Parts) -> Iterator[Planned]:
    """The ways to code an image that are tried, in one scan and progressive."""
    count = sum(len(components) == 1 for components in parts)
    whole = tuple(range(count))
    if whole in parts:
        yield planned([Scan(whole, 0, 63)], False, parts)
    scans = [Scan(components, 0, 0) for components in parts if components in ((0,), (1, 2))]
    for index in range(count):
        scans += ac_scans((index,), parts)
    yield planned(scans, True, parts)


def ac_scans(one: tuple[int], parts: Parts) -> list[Scan]:
    """A component's AC scans in a progressive file: how many bits are left for later ones, and where they are split."""
    some = parts[one][:: -(-len(parts[one]) // SAMPLED)]
    known: dict[Scan, Tallied] = {}

    def price(scans: list[Scan]) -> int:
        for scan in scans:
            if scan not in known:
                known[scan] = tally(some, scan, True)
        tallied = [known[scan] for scan in scans]
        tables = sum(bits for _, _, bits in grouped([scan.symbols[1] for scan in tallied]))
        return tables + sum(HEADER + scan.bits for scan in tallied)

    best = whole = [Scan(one, 1, 63)]
    if price(whole) < SMALL:
        return whole
    for low in range(1, LOWEST + 1):
        later = [Scan(one, 1, 63, bit, bit - 1) for bit in range(low, 0, -1)]
        found = [Scan(one, 1, 63, 0, low), *later]
        if price(found) > price(best):
            break
        best = found
    tried = [best]
    for first, *later in [whole] if best is whole else [whole, best]:
        tried += [[first._replace(last=last), first._replace(first=last + 1), *later] for last in SPLITS]
    return min(tried, key=price)


def planned(scans: list[Scan], progressive: bool, parts: Parts) -> Planned:
    """Scans with tables for them."""
    tables: list[dict[int, np.ndarray]] = [{} for _ in scans]
    tallied = [tally(parts[scan.components], scan, progressive) for scan in scans]
    total = sum(HEADER + 16 * (len(scan.components) - 1) for scan in scans) + sum(scan.bits for scan in tallied)
    for kind in range(2):
        for first, counts, bits in grouped([scan.symbols[kind] for scan in tallied]):
            tables[first][kind] = huffman.code_lengths(counts)
            total += bits
    return Planned(progressive, scans, tables, total + 32 * sum(map(bool, tables)))


def grouped(counted: list[np.ndarray]) -> list[tuple[int, np.ndarray, int]]:
    """Which of the symbols of scans (256,) share a table, which goes on from one to the next: its first scan, all its
    symbols, and their cost."""
    groups: list[tuple[int, np.ndarray, int]] = []
    for index, counts in enumerate(counted):
        if not counts.any():
            continue
        alone = huffman.cost(counts)
        if groups:
            first, others, before = groups[-1]
            together = huffman.cost(others + counts)
            if together <= before + alone:
                groups[-1] = first, others + counts, together
                continue
        groups.append((index, counts, alone))
    return groups


def chunks(levels: np.ndarray, steps: np.ndarray) -> list[Chunk]:
    """Blocks (B, 64) and their DC steps (B,) in chunks."""
    return [
        Chunk(steps[start : start + CHUNK], *significant(levels[start : start + CHUNK]))
        for start in range(0, len(levels), CHUNK)
    ]


def significant(blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """See Chunk."""
    block, place = np.nonzero(blocks[:, 1:])
    place += 1
    return block.astype(np.int16), place.astype(np.int8), blocks[block, place]


def tally(part: Sequence[Chunk], scan: Scan, progressive: bool) -> Tallied:
    """What a scan of chunks would take, but for its tables."""
    symbols, bits = np.zeros(2 * AC, np.int64), 0
    for chunk in part:
        for codes in coded(chunk, scan, progressive):
            bits += int(codes.widths.sum())
            if len(codes.symbols) and codes.symbols[0] >= 0:
                symbols += np.bincount(codes.symbols, minlength=2 * AC)
    return Tallied(symbols.reshape(2, AC), bits)


def coded(chunk: Chunk, scan: Scan, progressive: bool) -> Iterator[Codes]:
    """What a scan of a chunk is coded of, in no order."""
    if scan.first == 0:
        widths = categories(chunk.steps)
        yield Codes(ORDER * np.arange(len(widths)), widths, digits(chunk.steps, widths), widths)
    if scan.last:
        yield from ac(chunk, scan, progressive)


def ac(chunk: Chunk, scan: Scan, progressive: bool) -> Iterator[Codes]:
    """A scan of AC levels, or of one more bit of them (T.81, F.1.2.2, G.1.2.2 and G.1.2.3)."""
    size = np.abs(chunk.level) >> scan.low
    within = np.flatnonzero((chunk.place >= scan.first) & (chunk.place <= scan.last) & (size > 0))
    size, block, place = (part[within].astype(np.int64) for part in (size, chunk.block, chunk.place))
    zeros = place - max(1, scan.first) - (np.arange(len(within)) - first_of(block))  # before each in its block
    fresh = size == 1 if scan.high else np.ones(len(within), bool)

    # One code for each that was 0 in earlier scans, behind one for every 16 zeros before it.
    begun, passed = block[fresh], zeros[fresh]
    opens = np.diff(begun, prepend=-1) != 0
    runs = passed - np.where(opens, 0, np.roll(passed, 1))
    jumps = runs // JUMP
    order = ORDER * begun + TURN * (np.arange(len(begun)) - first_of(begun)) + 1
    index = np.arange(len(begun)).repeat(jumps)
    nth = np.arange(len(index)) - (np.cumsum(jumps) - jumps)[index]
    yield symbols_alone(order[index] + 2 * nth, AC + 0xF0)
    values = np.where(chunk.level[within[fresh]] < 0, -size[fresh], size[fresh])
    widths = categories(values)
    yield Codes(order + 2 * jumps, AC + 16 * (runs % JUMP) + widths, digits(values, widths), widths)

    # One bit for each of the others, behind the code that passes it.
    if scan.high:
        known = ~fresh
        block = block[known]
        ahead = np.cumsum(fresh)[known]  # index of the next fresh one
        same = np.append(begun, -1)[ahead] == block
        later = np.roll(np.append(begun, -1), 1)[ahead] == block
        before = np.where(later, np.roll(np.append(passed, 0), 1)[ahead], 0)
        nth = (zeros[known] - before) // JUMP
        order = np.where(same, np.append(order, 0)[ahead] + 2 * nth + 1, ORDER * block + END + 1)
        yield Codes(order, np.full(len(order), -1), size[known] & 1, np.ones(len(order), np.int64))

    # One code where nothing follows in a block, in a progressive file for all blocks on end.
    last = np.zeros(len(chunk.steps), np.int64)
    last[begun] = place[fresh]
    ends = np.flatnonzero(last < scan.last)
    if progressive:
        begins = np.flatnonzero((np.diff(ends, prepend=-2) > 1) | (last[ends] > 0))
        runs = np.diff(begins, append=len(ends))
        widths = categories(runs) - 1
        yield Codes(ORDER * ends[begins] + END, AC + 16 * widths, runs - (1 << widths), widths)
    else:
        yield symbols_alone(ORDER * ends + END, AC)


def first_of(groups: np.ndarray) -> np.ndarray:
    """Of each of a sorted array's numbers, where the first one that equals it stands."""
    index = np.arange(len(groups))
    return np.maximum.accumulate(np.where(np.diff(groups, prepend=-1) != 0, index, 0))


def symbols_alone(order: np.ndarray, symbol: int) -> Codes:
    """A symbol in so many places, with no bits behind it."""
    nothing = np.zeros(len(order), np.int64)
    return Codes(order, nothing + symbol, nothing, nothing)


def categories(values: np.ndarray) -> np.ndarray:
    """Number of binary digits of the magnitudes (T.81, tables F.1 and F.2)."""
    return np.frexp(np.abs(values))[1].astype(np.int64)


def digits(values: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """The bits that tell values of known categories: of negative ones those of one less."""
    return np.where(values < 0, values + (1 << widths) - 1, values)


def written(plan: Planned, parts: Parts, size: tuple[int, int], tables: np.ndarray) -> bytes:
    """The file of a plan: see write()."""
    count = sum(len(components) == 1 for components in parts)
    file = [
        bytes([0xFF, SOI]),
        segment(DQT, b"".join(bytes([number, *table]) for number, table in enumerate(tables.tolist()))),
    ]
    layout = [(1, 0x22 if count == 3 else 0x11, 0), (2, 0x11, 1), (3, 0x11, 1)][:count]
    frame = struct.pack(">BHHB", 8, *reversed(size), count) + b"".join(map(bytes, layout))
    file.append(segment(SOF2 if plan.progressive else SOF0, frame))
    codes = np.zeros((2, 2 * AC), np.int64)  # the codes in force, and their lengths
    for scan, fresh in zip(plan.scans, plan.tables, strict=True):
        for kind, lengths in fresh.items():
            codes[:, AC * kind : AC * (kind + 1)] = huffman.codes(lengths), lengths
        if fresh:
            file.append(segment(DHT, b"".join(huffman.table(kind, lengths) for kind, lengths in fresh.items())))
        told = b"".join(bytes([index + 1, 0]) for index in scan.components)
        last = bytes([scan.first, scan.last, 16 * scan.high + scan.low])
        file.append(segment(SOS, bytes([len(scan.components)]) + told + last))
        file.append(packed((coded(chunk, scan, plan.progressive) for chunk in parts[scan.components]), *codes))
    return b"".join([*file, bytes([0xFF, EOI])])


def segment(marker: int, payload: bytes) -> bytes:
    """A marker, the length of what follows, and that."""
    return struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload


def packed(scan: Iterator[Iterator[Codes]], codes: np.ndarray, lengths: np.ndarray) -> bytes:
    """A scan's bits by the codes of symbols (512,) and their lengths, filled up with ones; 0 follows bytes of ones."""
    parts, held, count = [], 0, 0  # bits that do not fill a byte yet, and how many
    for chunk in scan:
        some = Codes(*(np.concatenate(part) for part in zip(*chunk, strict=True)))
        order = np.argsort(some.order, kind="stable")
        some = Codes(*(part[order] for part in some))
        told = some.symbols >= 0
        behind = np.where(told, codes[some.symbols], 0) << some.widths | some.bits
        width = np.where(told, lengths[some.symbols], 0) + some.widths
        behind, width = np.append(held, behind), np.append(count, width)
        stop = np.cumsum(width)
        start = stop - width
        window = behind << (40 - start % 8 - width)  # of five bytes
        filled = np.zeros(int(stop[-1]) // 8 + 6)
        for place in range(5):
            filled += np.bincount(start // 8 + place, window >> (32 - 8 * place) & 255, len(filled))
        whole, count = divmod(int(stop[-1]), 8)
        parts.append(filled[:whole].astype(np.uint8))
        held = int(filled[whole]) >> (8 - count)
    if count:
        parts.append(np.array([(held << (8 - count)) | (255 >> count)], np.uint8))
    return np.concatenate(parts).tobytes().replace(b"\xff", b"\xff\x00")
