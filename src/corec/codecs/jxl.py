"""JPEG XL (ISO/IEC 18181) through imagecodecs' libjxl: a bare codestream of variable-size DCT, gray or colour.

The envelope is an extension of the image header, which decoders skip; see docs/format.md. The extra is "jxl".
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
from PIL import Image

from corec.codecs import rgb
from corec.codecs.base import ENVELOPE_SIZES, Shapes, within_range
from corec.codecs.boxes import boxes, exchanged
from corec.errors import CodecError, MissingExtraError, TooLargeError

NAME = "jxl"
SUFFIXES = (".jxl",)
LARGEST = 1 << 18
"""Most pixels a side of level 5, which every decoder is to hold."""
PIXELS = 1 << 28
"""Most pixels of level 5."""
STEPS = (1.0, 1240.0)
"""From distance 0.084 at full size to distance 19.7 at a quarter of it."""
TELLS_STEP = False

RAW = b"\xff\x0a"
CONTAINER = b"\0\0\0\x0cJXL \r\n\x87\n"
EFFORT = 6
"""libjxl's. From 7 on it may put a frame of patches in front of the image's, which enlarged() does not know."""
LAST, FIRST = 19.8, 5.5
"""Beyond a distance of LAST an image is coded at half its size, and again at a quarter: at a distance of FIRST there
it needs about as many bytes. libjxl would do it by itself from 20 on, but no coarser than 25."""
HALVINGS = 2
EXTENSION = 8
"""Number of the header extension that is ours. The standard's own, of which there are none so far, begin at 0."""
PLAIN = 0b11_00_1_00_0_0_0, 10
"""What says in full, but for extensions, that the metadata are the default ones, and its bits, the lowest first:
not default, no extra fields, whole numbers, of 8 bits, 16-bit buffers do, no extra channels, XYB, sRGB."""
LONGEST = 4096
"""Bytes that a header may have; ours have about twenty."""
EXTENTS = 9, 13, 18, 30
"""Bits that a side may have in a SizeHeader."""


def accept(data: bytes) -> bool:
    """Whether the bytes begin like a codestream or a container."""
    return data.startswith((RAW, CONTAINER))


settle, condition = within_range(STEPS)


def distance_at(step: float) -> float:
    """libjxl's distance whose error is about that of a deadzone quantiser of this step (docs/codecs.md)."""
    return (step / 9) ** 1.125


def setting_at(step: float) -> tuple[int, float]:
    """How often the sides of the image are halved at a step, and libjxl's distance for the smaller image."""
    distance, halvings = distance_at(settle(step)), 0
    while distance > LAST and halvings < HALVINGS:
        distance, halvings = distance * FIRST / LAST, halvings + 1
    return halvings, distance


def encode(image: np.ndarray, step: float, shapes: Shapes) -> bytes:
    """The codestream of an image at the distance that belongs to a step.

    image: uint8 (H, W, 1) luma or (H, W, 3) YCbCr; step: in levels; shapes: unused. Raises CodecError for a size
    that is not held, and MissingExtraError.
    """
    height, width, planes = image.shape
    if max(height, width) > LARGEST or height * width > PIXELS:
        raise TooLargeError(f"JPEG XL holds at most {PIXELS} pixels here, and this image has {width}x{height}")
    if planes == 1:
        pixels, photometric = image[..., 0], "gray"
    else:
        pixels, photometric = rgb.rgb_of(image), "rgb"
    halvings, distance = setting_at(step)
    data: bytes = library().jpegxl_encode(
        reduced(pixels, 1 << halvings),
        effort=EFFORT,
        distance=distance,
        lossless=False,
        photometric=photometric,
        numthreads=1,
    )
    return enlarged(data, width, height, halvings) if halvings else data


def decode(data: bytes) -> tuple[np.ndarray, None]:
    """The image of a file, uint8 (H, W, 1) luma or (H, W, 3) YCbCr. The header does not tell the step.

    Raises CodecError for damaged files and for anything but 8-bit gray and RGB, and MissingExtraError.
    """
    width, height = size(data)
    if max(width, height) > LARGEST or width * height > PIXELS:
        raise CodecError(f"a JPEG XL file of {width}x{height} pixels is none of ours")
    codec = library()
    try:
        pixels: np.ndarray = codec.jpegxl_decode(data, numthreads=1)
    except Exception as error:  # imagecodecs raises several kinds on damaged files
        raise CodecError(f"the JPEG XL data is damaged: {error}") from error
    if pixels.dtype != np.uint8 or pixels.shape not in ((height, width), (height, width, 3)):
        raise CodecError("the JPEG XL file is none of ours: it is not gray or colour of 8 bits")
    if pixels.ndim == 2:
        return pixels[..., None], None
    return rgb.ycbcr_of(pixels), None


def size(data: bytes) -> tuple[int, int]:
    """Width and height from the image header. Raises CodecError."""
    header = header_of(codestream(data)[0])
    return header.width, header.height


def embed(data: bytes, envelope: bytes) -> bytes:
    """The file with the envelope as an extension in the image header; one that is there already goes."""
    stream, start, stop = codestream(data)
    header = header_of(stream)
    if header.begin is None:
        raise CodecError("the JPEG XL file is none of ours: its header has more than an image needs")
    before, grown = PLAIN if header.default else (0, 0)
    length = 8 * len(envelope)
    # Bits of zero fill the header up by whole bytes, so that all that follows keeps its place in them.
    for length in count(8 * len(envelope)):
        extension = int.from_bytes(envelope, "little"), length
        new, bits = joined([(before, grown), u64(1 << EXTENSION), u64(length), extension])
        more = bits - (header.end - header.begin)
        if more % 8 == 0:
            break
    whole = -(-header.end // 8)
    old = int.from_bytes(stream[:whole], "little")
    low, high = old & (1 << header.begin) - 1, old >> header.end
    head = low | new << header.begin | high << header.begin + bits
    carrying = head.to_bytes(whole + more // 8, "little") + stream[whole:]
    return carrying if stop - start == len(data) else exchanged(data, start, stop, carrying)


def overhead(envelope: bytes, data: bytes) -> int:
    """Bytes that an envelope costs: those by which the image header has grown."""
    header = header_of(codestream(data)[0])
    bits = header.end - (header.begin or header.end)
    # Without extensions gray's metadata would end in two bits; colour's would be a single bit, not ten and these.
    return (bits - 2) // 8 if bits % 8 == 2 else (bits + PLAIN[1] - 1) // 8


def extract(data: bytes) -> bytes | None:
    """The envelope of a file, or None. Raises CodecError where boxes or the image header are damaged."""
    bits = header_of(codestream(data)[0]).extensions.get(EXTENSION)
    if bits is None or bits[1] // 8 not in ENVELOPE_SIZES or bits[0] >> bits[1] // 8 * 8:
        return None
    return bits[0].to_bytes(bits[1] // 8, "little")


def library() -> Any:
    """imagecodecs. Raises MissingExtraError."""
    try:
        import imagecodecs
    except ImportError as error:
        raise MissingExtraError("JPEG XL comes with imagecodecs: pip install 'corec[jxl]'") from error
    return imagecodecs


def reduced(pixels: np.ndarray, factor: int) -> np.ndarray:
    """uint8 (H, W) or (H, W, 3) at a fraction of its size, rounded up."""
    if factor == 1:
        return pixels
    height, width = (-(-extent // factor) for extent in pixels.shape[:2])
    margins = [(0, height * factor - pixels.shape[0]), (0, width * factor - pixels.shape[1])]
    padded = np.pad(pixels, [*margins, (0, 0)][: pixels.ndim], mode="edge")
    return np.asarray(Image.fromarray(padded).resize((width, height), Image.Resampling.LANCZOS))


def enlarged(stream: bytes, width: int, height: int, halvings: int) -> bytes:
    """A codestream of ours that decoders show at the size that its image had before its sides were halved.

    The size in the image header becomes that one, and the first frame's header (ISO/IEC 18181-1, FrameHeader) says
    that the frame is to be upsampled. Raises CodecError where libjxl's choices are none that this knows.
    """
    bits = Bits(stream[:LONGEST])
    bits.take(16)
    dimensions(bits)
    begin = bits.at
    bits.at = header_of(stream).end
    usual = bits.take(1)  # CustomTransformData is all default
    parts = [(int.from_bytes(RAW, "little"), 16), *size_bits(width, height)]
    parts.append((bits.number >> begin & (1 << bits.at - begin) - 1, bits.at - begin))
    start = bits.at = -(-bits.at // 8) * 8  # frames begin with whole bytes
    frame = bits.take(1), bits.take(2), bits.take(1)  # whether all default, what for, VarDCT or modular
    bits.u64()  # flags
    upsampling = bits.at
    if not usual or any(frame) or bits.take(2):
        raise CodecError("this libjxl codes frames in a way that Corec does not know")
    head, length = joined(parts)
    frames = bytearray(stream[start // 8 :])
    for bit in range(2):
        at = upsampling - start + bit
        frames[at // 8] |= (halvings >> bit & 1) << at % 8
    return head.to_bytes(-(-length // 8), "little") + frames


def codestream(data: bytes) -> tuple[bytes, int, int]:
    """The codestream, or its first part, and where it lies in the file. Raises CodecError."""
    if data.startswith(RAW):
        return data, 0, len(data)
    for kind, start, stop in boxes(data):
        start += 4 * (kind == b"jxlp")  # the part's number
        if kind in (b"jxlc", b"jxlp") and data[start : start + 2] == RAW:
            return data[start:stop], start, stop
    raise CodecError("the JPEG XL data is damaged: it has no codestream")


@dataclass(frozen=True)
class Header:
    """What an image header says (ISO/IEC 18181-1, image headers), and where its extensions stand."""

    width: int
    height: int
    default: bool
    """Whether a single bit says that all metadata are the default ones."""
    begin: int | None
    """First bit of what an extension replaces; None for an image of another kind than ours."""
    end: int
    extensions: dict[int, tuple[int, int]]
    """Number -> the extension's bits, the first lowest, and how many."""


def header_of(stream: bytes) -> Header:
    """The image header of a codestream. Raises CodecError where it is cut short."""
    bits = Bits(stream[:LONGEST])
    bits.take(16)
    width, height = dimensions(bits)
    begin = bits.at
    if bits.take(1):
        return Header(width, height, True, begin, bits.at, {})
    if not plain(bits):
        return Header(width, height, False, None, bits.at, {})
    begin = bits.at
    present = bits.u64()
    lengths = {number: bits.u64() for number in range(64) if present >> number & 1}
    extensions = {number: (bits.take(length), length) for number, length in lengths.items()}
    return Header(width, height, False, begin, bits.at, extensions)


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


def plain(bits: "Bits") -> bool:
    """Read ImageMetadata up to its extensions; whether it is of a still image without extra channels or profile."""
    if bits.take(1):  # extra fields: orientation, preview, animation
        return False
    if bits.take(1):  # floating point
        return False
    bits.u32((8, 0), (10, 0), (12, 0), (1, 6))
    bits.take(1)  # whether 16-bit buffers do
    if bits.u32((0, 0), (1, 0), (2, 4), (1, 12)):  # extra channels
        return False
    bits.take(1)  # XYB
    if bits.take(1):  # sRGB
        return True
    if bits.take(1):  # ICC profile
        return False
    space = bits.enumerated()
    if space > 1 or bits.enumerated() != 1:  # neither RGB nor gray, or another white than D65
        return False
    if space == 0 and bits.enumerated() != 1:  # primaries other than sRGB's
        return False
    if bits.take(1):  # gamma
        return False
    bits.enumerated()  # transfer function
    bits.enumerated()  # rendering intent
    return True


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
