"""JPEG XL (ISO/IEC 18181) through imagecodecs' libjxl: a bare codestream, gray or colour.

Alone it is libjxl's own variable-size DCT. Around networks it holds the levels of a JPEG file, which take fewer bytes
in it, and which are chosen as for JPEG (jpeg.py); decoders show that JPEG's image, and read() has its very samples.
The envelope is an extension of the image header, which decoders skip; see docs/format.md. The extra is "jxl".
"""

import io
from functools import cache
from itertools import count
from typing import Any

import numpy as np
from PIL import Image

from corec.codecs import jpeg, rgb
from corec.codecs.base import ENVELOPE_SIZES, Shapes, within_range
from corec.codecs.boxes import box, boxes
from corec.codecs.imageheader import LONGEST, Bits, dimensions, header_of, joined, size_bits, u64, with_floats
from corec.errors import CodecError, MissingExtraError, TooLargeError

NAME = "jxl"
SUFFIXES = (".jxl",)
LARGEST = jpeg.LARGEST
"""Of the JPEGs whose levels it holds; level 5, which every decoder is to hold, has four times as many pixels a side."""
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
LOW = 4
"""Of chroma's coefficients those of so many lowest frequencies, across and down, are what its table is for."""
EXTENSION = 8
"""Number of the header extension that is ours. The standard's own, of which there are none so far, begin at 0."""
PLAIN = 0b11_00_1_00_0_0_0, 10
"""What says in full, but for extensions, that the metadata are the default ones, and its bits, the lowest first:
not default, no extra fields, whole numbers, of 8 bits, 16-bit buffers do, no extra channels, XYB, sRGB."""
JBRD = b"jbrd"
"""The box that says how a JPEG file is made of its levels."""
FILE_TYPE = b"jxl \0\0\0\0jxl "


def accept(data: bytes) -> bool:
    """Whether the bytes begin like a codestream or a container."""
    return data.startswith((RAW, CONTAINER))


settle, condition_alone = within_range(STEPS)


def condition(step: float, shapes: Shapes) -> np.ndarray:
    """The natural logarithm (1,) of a step; with a JPEG's shapes, of its tables (1 or 2,)."""
    return jpeg.condition(step, shapes) if len(shapes) else condition_alone(step, shapes)


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
    """The codestream of an image at the distance that belongs to a step, or of a JPEG's levels.

    image: uint8 (H, W, 1) luma or (H, W, 3) YCbCr; step: in levels; shapes: those of JPEG's tables (1 or 2, 64) in row
    order, or none. Raises CodecError for a size that is not held, and MissingExtraError.
    """
    height, width, planes = image.shape
    if max(height, width) > LARGEST or height * width > PIXELS:
        raise TooLargeError(
            f"JPEG XL holds at most {LARGEST} pixels a side and {PIXELS} in all here, not {width}x{height}"
        )
    if len(shapes):
        return of_jpeg(jpeg.encode(image, step, plainer(shapes)))
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

    Raises CodecError for damaged files and for anything but 8-bit gray and RGB and a JPEG's levels, and
    MissingExtraError.
    """
    stream = codestream(data)
    header = header_of(stream)
    width, height = header.width, header.height
    if max(width, height) > LARGEST or width * height > PIXELS:
        raise CodecError(f"a JPEG XL file of {width}x{height} pixels is none of ours")
    if not header.xyb:  # a JPEG's samples, which RGB of 8 bits would clip
        stream = with_floats(stream, header)
    codec = library()
    try:
        pixels: np.ndarray = codec.jpegxl_decode(stream, numthreads=1)
    except Exception as error:  # imagecodecs raises several kinds on damaged files
        raise CodecError(f"the JPEG XL data is damaged: {error}") from error
    kind = np.uint8 if header.xyb else np.float16
    if pixels.dtype != kind or pixels.shape not in ((height, width), (height, width, 3)):
        raise CodecError("the JPEG XL file is none of ours: it is not gray or colour of 8 bits")
    if pixels.ndim == 3:
        return rgb.ycbcr_of(pixels), None
    gray = pixels if header.xyb else np.rint(rgb.levels(pixels)).clip(0, 255).astype(np.uint8)
    return gray[..., None], None


def recode(
    image: np.ndarray, extent: tuple[int, int], step: float, shapes: Shapes, price: float, moved: np.ndarray | None
) -> bytes:
    """jpeg.recode()"""
    return of_jpeg(jpeg.recode(image, extent, step, plainer(shapes), price, moved))


def bits(image: np.ndarray, step: float, shapes: Shapes) -> np.ndarray:
    """jpeg.bits(), of which JPEG XL needs about nine tenths."""
    return jpeg.bits(image, step, plainer(shapes))


def samples(data: bytes) -> np.ndarray:
    """jpeg.samples() of a file that was just made."""
    return jpeg.samples(as_jpeg(data))


def plainer(shapes: Shapes) -> np.ndarray:
    """JPEG's shapes (1 or 2, 64) with one number for all AC coefficients of chroma, the geometric mean of those that
    low rates need: JPEG XL tells such a table in 20 bytes instead of 60, and luma's is worth its own."""
    logs = np.log(np.asarray(shapes, float))
    for chroma in logs[1:]:
        chroma[1:] = chroma.reshape(8, 8)[:LOW, :LOW].ravel()[1:].mean()
    return np.exp(logs)


def of_jpeg(data: bytes) -> bytes:
    """The codestream of a JPEG file's levels, without what else it takes to make that very file again."""
    try:
        return codestream(library().jpegxl_encode_jpeg(data, numthreads=1))
    except RuntimeError as error:
        raise CodecError(f"JPEG XL cannot hold this image: {error}") from error


def as_jpeg(data: bytes) -> bytes:
    """A JPEG file of the levels in a codestream, which must be ours: libjxl 0.11 crashes on some others."""
    made = reconstruction(header_of(data).planes)
    parts = box(b"ftyp", FILE_TYPE), box(JBRD, made), box(b"jxlc", data)
    return bytes(library().jpegxl_decode_jpeg(CONTAINER + b"".join(parts), numthreads=1))


@cache
def reconstruction(planes: int) -> bytes:
    """How a JPEG file of so many components is made of levels: that of any baseline file with T.81's usual Huffman
    tables, which have a code for every level."""
    shape = (16, 16, 3)[: (planes + 3) // 2]
    file = io.BytesIO()
    Image.fromarray(np.zeros(shape, np.uint8)).save(file, "JPEG", subsampling="4:2:0")
    data = library().jpegxl_encode_jpeg(file.getvalue(), numthreads=1)
    return next(data[start:stop] for kind, start, stop in boxes(data) if kind == JBRD)


def size(data: bytes) -> tuple[int, int]:
    """Width and height from the image header. Raises CodecError."""
    header = header_of(codestream(data))
    return header.width, header.height


def embed(data: bytes, envelope: bytes) -> bytes:
    """A bare codestream with the envelope as an extension in the image header; one that is there already goes."""
    header = header_of(data)
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
    old = int.from_bytes(data[:whole], "little")
    low, high = old & (1 << header.begin) - 1, old >> header.end
    head = low | new << header.begin | high << header.begin + bits
    return head.to_bytes(whole + more // 8, "little") + data[whole:]


def overhead(envelope: bytes, data: bytes) -> int:
    """Bytes that an envelope costs: those by which the image header has grown."""
    header = header_of(codestream(data))
    bits = header.end - (header.begin or header.end)
    # Without extensions gray's metadata would end in two bits; colour's would be a single bit, not ten and these.
    return (bits - 2) // 8 if bits % 8 == 2 else (bits + PLAIN[1] - 1) // 8


def extract(data: bytes) -> bytes | None:
    """The envelope of a file, or None. Raises CodecError where boxes or the image header are damaged."""
    bits = header_of(codestream(data)).extensions.get(EXTENSION)
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


def codestream(data: bytes) -> bytes:
    """The codestream of a file, all its parts together. Raises CodecError."""
    if data.startswith(RAW):
        return data
    parts = [(kind, data[start:stop]) for kind, start, stop in boxes(data)]
    stream = b"".join(part[4 * (kind == b"jxlp") :] for kind, part in parts if kind in (b"jxlc", b"jxlp"))
    if not stream.startswith(RAW):
        raise CodecError("the JPEG XL data is damaged: it has no codestream")
    return stream
