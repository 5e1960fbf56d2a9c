"""The packets of a JPEG 2000 codestream (T.800, Annex B): code blocks taken out of them, and put back.

For codestreams of one tile, one precinct a resolution, and code blocks of one segment each, as jpeg2000.py has
them written. They are read from any number of quality layers and written in one.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise

LBLOCK = 3
"""Bits of a block's first length, beside those for its number of passes (B.10.7.1)."""
FAR = 1 << 20
"""Above any value of a tag tree."""


@dataclass
class Block:
    """One code block's part of the file."""

    zeros: int
    """Bit planes above its first one, of those that its band can have."""
    passes: int
    """Coding passes that it has, 1 or more."""
    data: bytes
    layers: list[tuple[int, int, int]] = field(default_factory=list)
    """(layer, passes, bytes) after each quality layer that it was in, as read."""

    def until(self, layer: int) -> "Block | None":
        """The block as it is after this layer."""
        cuts = [(passes, length) for number, passes, length in self.layers if number <= layer]
        return Block(self.zeros, cuts[-1][0], self.data[: cuts[-1][1]]) if cuts else None


@dataclass
class Band:
    """One subband's blocks in one packet."""

    number: int
    """Its place in the quantisation segment: 0 for LL, then HL, LH, HH from the deepest level on."""
    level: int
    """Decomposition level: 1 is the finest. 0 if there is none."""
    rows: int
    columns: int
    """Blocks of the band."""
    blocks: list[Block | None]
    """In row order; None for one that is not in the file."""

    def with_zeros(self, more: int) -> "Band":
        """The same, with so many more bit planes of zeros in each block."""
        return replace(self, blocks=[block and replace(block, zeros=block.zeros + more) for block in self.blocks])


Packet = list[Band]


def layout(height: int, width: int, levels: int, components: int, side: int) -> list[Packet]:
    """The packets of an image in the order of the file, by resolution, then by component, without blocks (B.5 to B.7).

    levels: of the wavelet transform; side: that of a code block.
    """
    packets = []
    for resolution in range(levels + 1):
        level = levels - max(0, resolution - 1)
        halves = [(0, 0)] if resolution == 0 else [(0, 1), (1, 0), (1, 1)]  # high-pass (down, across): LL; HL, LH, HH
        first = 0 if resolution == 0 else 3 * resolution - 2
        for _ in range(components):
            bands = []
            for number, (down, across) in enumerate(halves, first):
                rows, columns = (
                    -(-extent_of(extent, level, high) // side) for extent, high in ((height, down), (width, across))
                )
                bands.append(Band(number, level, rows, columns, [None] * (rows * columns)))
            packets.append(bands)
    return packets


def extent_of(extent: int, level: int, high: int) -> int:
    """Samples a side of a low-pass or high-pass (1) band, the image's corner lying at 0 (B-15)."""
    half = high << level - 1 if level else 0
    return max(0, -(-(extent - half) // (1 << level)))


def read(data: bytes, packets: list[Packet], layers: int = 1) -> int:
    """Put the blocks of a tile's packets into these; gives how many bytes they have."""
    trees = [[(TagTree(band.rows, band.columns), TagTree(band.rows, band.columns)) for band in p] for p in packets]
    widths: dict[int, int] = {}
    at = 0
    for layer in range(layers):
        for packet, pairs in zip(packets, trees, strict=True):
            bits = Reader(data, at)
            parts = []
            for band, (entry, planes) in zip(packet, pairs, strict=True) if bits.take(1) else ():
                for index, block in enumerate(band.blocks):
                    if block is None:
                        if entry.walk(index, layer + 1, hearer(bits)) > layer:
                            continue
                        band.blocks[index] = block = Block(planes.walk(index, FAR, hearer(bits)), 0, b"")
                        widths[id(block)] = LBLOCK
                    elif not bits.take(1):
                        continue
                    passes = read_passes(bits)
                    while bits.take(1):
                        widths[id(block)] += 1
                    parts.append((block, passes, bits.take(widths[id(block)] + passes.bit_length() - 1)))
            at = bits.end()
            for block, passes, length in parts:
                block.passes += passes
                block.data += data[at : at + length]
                block.layers.append((layer, block.passes, len(block.data)))
                at += length
    return at


def write(packet: Packet) -> bytes:
    """The bytes of a packet."""
    included = [block for band in packet for block in band.blocks if block]
    bits = Writer()
    bits.put(bool(included), 1)
    for band in packet if included else ():
        absent = TagTree(band.rows, band.columns)
        planes = TagTree(band.rows, band.columns)
        absence = absent.least([block is None for block in band.blocks])
        zeros = planes.least([block.zeros if block else FAR for block in band.blocks])
        for index, block in enumerate(band.blocks):
            absent.walk(index, 1, teller(bits, absence))
            if block is None:
                continue
            planes.walk(index, block.zeros + 1, teller(bits, zeros))
            write_passes(bits, block.passes)
            more = block.passes.bit_length() - 1
            width = max(LBLOCK, len(block.data).bit_length() - more)
            bits.put((2 << width - LBLOCK) - 2, width - LBLOCK + 1)
            bits.put(len(block.data), width + more)
    return bits.done() + b"".join(block.data for block in included)


def hearer(bits: "Reader") -> Callable[[int, int, int], int]:
    """What a tag tree in the file says at any node: the next bit."""
    return lambda depth, node, low: bits.take(1)


def teller(bits: "Writer", least: list[list[int]]) -> Callable[[int, int, int], int]:
    """What a tag tree of these values says at a node: 1 if its value is as low as that, else 0; also written."""

    def say(depth: int, node: int, low: int) -> int:
        said = int(least[depth][node] <= low)
        bits.put(said, 1)
        return said

    return say


class TagTree:
    """A tag tree (B.10.2): whole numbers of a grid, each told as far as one asks."""

    def __init__(self, rows: int, columns: int) -> None:
        self.shapes = [(rows, columns)]
        while rows * columns > 1:
            rows, columns = (rows + 1) // 2, (columns + 1) // 2
            self.shapes.append((rows, columns))
        self.low = [[0] * (rows * columns) for rows, columns in self.shapes]
        self.known = [[False] * (rows * columns) for rows, columns in self.shapes]

    def least(self, values: list[int] | list[bool]) -> list[list[int]]:
        """The values of all nodes, leaves first: the least of those below each."""
        tree = [[int(value) for value in values]]
        for (_, columns), (rows_above, columns_above) in pairwise(self.shapes):
            nodes = [FAR] * (rows_above * columns_above)
            for index, value in enumerate(tree[-1]):
                row, column = divmod(index, columns)
                node = row // 2 * columns_above + column // 2
                nodes[node] = min(nodes[node], value)
            tree.append(nodes)
        return tree

    def walk(self, index: int, below: int, says: Callable[[int, int, int], int]) -> int:
        """The value of a leaf, or `below` where it is no lower; says(depth, node, low) is asked for each bit."""
        row, column = divmod(index, self.shapes[0][1])
        low = 0
        for depth in reversed(range(len(self.shapes))):
            node = (row >> depth) * self.shapes[depth][1] + (column >> depth)
            low = max(low, self.low[depth][node])
            while low < below and not self.known[depth][node]:
                if says(depth, node, low):
                    self.known[depth][node] = True
                else:
                    low += 1
            self.low[depth][node] = low
        return low


def read_passes(bits: "Reader") -> int:
    """A number of coding passes (table B.4)."""
    if not bits.take(1):
        return 1
    if not bits.take(1):
        return 2
    for first, width in ((3, 2), (6, 5)):
        number = bits.take(width)
        if number < (1 << width) - 1:
            return first + number
    return 37 + bits.take(7)


def write_passes(bits: "Writer", passes: int) -> None:
    """A number of coding passes, 1 to 164 (table B.4)."""
    if passes <= 2:
        bits.put(2 * passes - 2, passes)
    elif passes <= 5:
        bits.put(0b1100 + passes - 3, 4)
    elif passes <= 36:
        bits.put(0b1111_00000 + passes - 6, 9)
    else:
        bits.put(0b1111_11111_0000000 + passes - 37, 16)


class Reader:
    """The bits of a packet header: behind a byte 255 stands one with seven (B.10.1)."""

    def __init__(self, data: bytes, at: int) -> None:
        self.data, self.at, self.byte, self.left = data, at, 0, 0

    def take(self, count: int) -> int:
        """A number of so many bits."""
        number = 0
        for _ in range(count):
            if not self.left:
                self.left = 7 if self.byte == 255 else 8
                self.byte = self.data[self.at]
                self.at += 1
            self.left -= 1
            number = number << 1 | self.byte >> self.left & 1
        return number

    def end(self) -> int:
        """Where the header's last byte is followed by the first block."""
        return self.at + (self.byte == 255)


class Writer:
    """The same, to be written."""

    def __init__(self) -> None:
        self.data, self.byte, self.left = bytearray(), 0, 8

    def put(self, number: int, count: int) -> None:
        """A number of so many bits."""
        for place in reversed(range(count)):
            self.left -= 1
            self.byte |= (number >> place & 1) << self.left
            if not self.left:
                self.data.append(self.byte)
                self.left = 7 if self.byte == 255 else 8
                self.byte = 0

    def done(self) -> bytes:
        """The header, filled up to a whole byte other than 255."""
        after_255 = bool(self.data) and self.data[-1] == 255
        if after_255 or self.left < 8:
            self.data.append(self.byte)
        return bytes(self.data)
