"""What a JPEG XL codestream begins with (ISO/IEC 18181-1, image headers), bit by bit."""

from collections.abc import Iterable
from dataclasses import dataclass

from corec.errors import CodecError

LONGEST = 4096
"""Bytes that a header may have; ours have about twenty."""
EXTENTS = 9, 13, 18, 30
"""Bits that a side may have in a SizeHeader."""


@dataclass(frozen=True)
class Header:
    """What an image header says, and where its extensions stand."""

    width: int
    height: int
    planes: int
    """1 or 3; 0 for an image of another kind than ours."""
    default: bool
    """Whether a single bit says that all metadata are the default ones."""
    begin: int | None
    """First bit of what an extension replaces; None for an image of another kind than ours."""
    end: int
    xyb: bool
    """Whether its colours are XYB, as libjxl's own coding has them; those of a JPEG file's levels are YCbCr."""
    depth: tuple[int, int]
    """First bit of what says how samples are stored, and first bit behind it."""
    extensions: dict[int, tuple[int, int]]
    """Number -> the extension's bits, the first lowest, and how many."""


def header_of(stream: bytes) -> Header:
    """The image header of a codestream. Raises CodecError where it is cut short."""
    bits = Bits(stream[:LONGEST])
    bits.take(16)
    width, height = dimensions(bits)
    begin = bits.at
    if bits.take(1):
        return Header(width, height, 3, True, begin, bits.at, True, (0, 0), {})
    extra, start = bits.take(1), bits.at  # orientation, preview, animation
    floating = bits.take(1)
    deep = bits.u32((8, 0), (10, 0), (12, 0), (1, 6)) != 8
    depth = start, bits.at
    bits.take(1)  # whether 16-bit buffers do
    channels, xyb = bits.u32((0, 0), (1, 0), (2, 4), (1, 12)), bool(bits.take(1))
    if extra or floating or deep or channels or not (planes := planes_of(bits)):
        return Header(width, height, 0, False, None, bits.at, xyb, depth, {})
    begin = bits.at
    present = bits.u64()
    lengths = {number: bits.u64() for number in range(64) if present >> number & 1}
    extensions = {number: (bits.take(length), length) for number, length in lengths.items()}
    return Header(width, height, planes, False, begin, bits.at, xyb, depth, extensions)


def with_floats(stream: bytes, header: Header) -> bytes:
    """The same codestream for a decoder that is neither to round samples nor to clip them: those of an image of 16-bit
    floats, without extensions. Raises CodecError where more than our own files have stands behind the header.
    """
    bits = Bits(stream[:LONGEST])
    bits.at = header.end
    if header.begin is None or header.default or not bits.take(1):  # CustomTransformData is all default
        raise CodecError("the JPEG XL file is none of ours: its header has more than an image needs")
    begin = -(-bits.at // 8)
    bits.at = 8 * begin
    usual, _, modular = bits.take(1), bits.take(2), bits.take(1)  # whether all default, what for, modular or VarDCT
    if modular and not usual:
        raise CodecError("the JPEG XL file is none of ours: it is not coded as a JPEG's levels are")
    start, stop = header.depth
    low = bits.number & (1 << start) - 1, start
    floats = 0b0100_01_1, 7  # floating point, of 16 bits, of which 5 are the exponent
    between = bits.number >> stop & (1 << header.begin - stop) - 1, header.begin - stop
    head, length = joined([low, floats, between, (0b1_00, 3)])
    return head.to_bytes(-(-length // 8), "little") + stream[begin:]


def dimensions(bits: "Bits") -> tuple[int, int]:
    """Width and height: SizeHeader."""
    small = bits.take(1)
    sizes = [(1, width) for width in EXTENTS]
    height = 8 * bits.take(5) + 8 if small else bits.u32(*sizes)
    ratio = bits.take(3)
    if ratio:
        over, under = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))[ratio - 1]
        return height * over // under, height
    return 8 * bits.take(5) + 8 if small else bits.u32(*sizes), height


def size_bits(width: int, height: int) -> list[tuple[int, int]]:
    """The SizeHeader of an image, without a ratio: numbers, and the bits of each."""
    parts = [(0, 1)]
    for extent, ratio in ((height, [(0, 3)]), (width, [])):
        way = next(way for way, bits in enumerate(EXTENTS) if extent <= 1 << bits)
        parts += [(way, 2), (extent - 1, EXTENTS[way]), *ratio]
    return parts


def planes_of(bits: "Bits") -> int:
    """Read ColourEncoding: 1 for gray, 3 for the white and the primaries of sRGB, 0 for others."""
    if bits.take(1):  # sRGB
        return 3
    if bits.take(1):  # ICC profile
        return 0
    space = bits.enumerated()
    if space > 1 or bits.enumerated() != 1:  # neither RGB nor gray, or another white than D65
        return 0
    if space == 0 and bits.enumerated() != 1:  # primaries other than sRGB's
        return 0
    if bits.take(1):  # gamma
        return 0
    bits.enumerated()  # transfer function
    bits.enumerated()  # rendering intent
    return 1 if space else 3


class Bits:
    """Numbers in the bits of a header, the lowest bit of a byte first."""

    def __init__(self, data: bytes) -> None:
        self.number, self.at, self.end = int.from_bytes(data, "little"), 0, 8 * len(data)

    def take(self, count: int) -> int:
        """A number of so many bits. Raises CodecError behind the end."""
        if self.at + count > self.end:
            raise CodecError("the JPEG XL data is damaged: its header is cut short")
        self.at += count
        return self.number >> self.at - count & (1 << count) - 1

    def u32(self, *choices: tuple[int, int]) -> int:
        """One of four ways, each an offset and a number of bits."""
        offset, width = choices[self.take(2)]
        return offset + self.take(width)

    def enumerated(self) -> int:
        """An Enum."""
        return self.u32((0, 0), (1, 0), (2, 4), (18, 6))

    def u64(self) -> int:
        """A U64."""
        way = self.take(2)
        if way == 0:
            return 0
        if way < 3:
            return 1 + self.take(4) if way == 1 else 17 + self.take(8)
        number, place = self.take(12), 12
        while self.take(1):
            width = min(8, 64 - place)
            number |= self.take(width) << place
            place += width
            if place == 64:
                break
        return number


def u64(value: int) -> tuple[int, int]:
    """A U64 up to 272: its bits, and how many."""
    return (1 | value - 1 << 2, 6) if value <= 16 else (2 | value - 17 << 2, 10)


def joined(parts: Iterable[tuple[int, int]]) -> tuple[int, int]:
    """Numbers of so many bits each as one, the first lowest, and its bits."""
    number, length = 0, 0
    for value, width in parts:
        number, length = number | value << length, length + width
    return number, length
