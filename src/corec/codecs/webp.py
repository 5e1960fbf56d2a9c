"""WebP (RFC 9649) through Pillow's libwebp: a lossy VP8 key frame (RFC 6386), 4:2:0 with limited-range BT.601.

VP8 has no gray: gray is colour without chroma, and colour that has none in the whole file is taken for gray
unless a mark says otherwise. The envelope is a RIFF chunk; see docs/format.md.
"""

import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image
from PIL.WebPImagePlugin import WebPImageFile

from corec import color
from corec.codecs import rgb
from corec.codecs.base import ENVELOPE_SIZES, Shapes, within_range
from corec.errors import CodecError, TooLargeError
from corec.quiet import quiet

NAME = "webp"
SUFFIXES = (".webp",)
LARGEST = 16383
"""VP8's limit on width and height."""
PIXELS = 178_956_970
"""Most pixels that Pillow reads, unless its MAX_IMAGE_PIXELS, of which it is twice as many, is changed."""
TELLS_STEP = False

FRAME, OURS = b"VP8 ", b"Corc"
"""FourCCs: of the image, and of the envelope's chunk. An empty chunk of ours marks colour without chroma."""
OTHERS = b"VP8L", b"ANIM", b"ANMF"
"""Chunks of images that are none of ours; decoders may show one in place of a frame behind it."""
METHOD = 6
"""libwebp's effort: the greatest."""

AC_STEPS = (
    *range(4, 59),
    *range(60, 117, 2),
    *(119, 122, 125, 128, 131, 134, 137, 140, 143, 146, 149, 152, 155, 158, 161, 164, 167, 170, 173, 177, 181, 185),
    *(189, 193, 197, 201, 205, 209, 213, 217, 221, 225, 229, 234, 239, 245, 249, 254, 259, 264, 269, 274, 279, 284),
)
"""RFC 6386, section 14.1: the steps of AC coefficients at quantiser indices 0 to 127."""
LEVELS = 255 / 219 / 2
"""Levels of a picture in a step of 1: VP8's transform doubles, and 219 limited-range levels make 255."""
STEPS = (AC_STEPS[0] * LEVELS, AC_STEPS[-1] * LEVELS)


def accept(data: bytes) -> bool:
    """Whether the bytes begin like a RIFF file of WebP."""
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP"


settle, condition = within_range(STEPS)  # segments have quantisers of their own: a fraction of an index counts


def quality_at(step: float) -> float:
    """libwebp's quality, 0 to 100 with fractions, whose quantiser index has this step.

    libwebp (quant_enc.c) takes a quality q in 0..1 for the index 127 (1 - c), rounded down, where c^3 is
    2 q / 3 up to q = 3/4 and 2 q - 1 above. At q = 0 every segment has index 127.
    """
    index = np.interp(settle(step) / LEVELS, AC_STEPS, range(128))
    cube = max(0.0, 1 - (index + 0.5) / 127) ** 3
    return float(100 * (1.5 * cube if cube < 0.5 else (1 + cube) / 2))


def encode(image: np.ndarray, step: float, shapes: Shapes) -> bytes:
    """A WebP file of the image, without metadata.

    image: uint8 (H, W, 1) luma or (H, W, 3) YCbCr; step: in levels; shapes: unused. Raises CodecError for a size
    that VP8 does not hold or Pillow does not read.
    """
    height, width, planes = image.shape
    if max(height, width) > LARGEST:
        raise TooLargeError(f"WebP holds at most {LARGEST} pixels a side, and this image has {width}x{height}")
    if Image.MAX_IMAGE_PIXELS and height * width > 2 * Image.MAX_IMAGE_PIXELS:
        raise TooLargeError(f"Pillow reads at most {2 * Image.MAX_IMAGE_PIXELS} pixels of WebP, not {width}x{height}")
    picture = Image.fromarray(image[..., 0] if planes == 1 else rgb.rgb_of(image))
    file = io.BytesIO()
    picture.save(file, "WEBP", quality=quality_at(step), method=METHOD)
    data = file.getvalue()
    return embed(data, b"") if planes == 3 and is_gray(pixels_of(data)) else data


def decode(data: bytes) -> tuple[np.ndarray, None]:
    """The image of a WebP file, uint8 (H, W, 1) luma or (H, W, 3) YCbCr. The header does not tell the step.

    Raises CodecError for damaged files and for those that are lossless, animated or have transparency.
    """
    size(data)
    pixels = pixels_of(data)
    marked = any(kind == OURS and start == stop for kind, start, stop in chunks(data))
    return (color.luma(pixels)[..., None] if is_gray(pixels) and not marked else rgb.ycbcr_of(pixels)), None


def size(data: bytes) -> tuple[int, int]:
    """Width and height from the frame header (RFC 6386, 9.1). Raises CodecError."""
    for kind, start, stop in chunks(data):
        if kind in OTHERS:
            break
        if kind == FRAME:
            if stop - start < 10 or data[start + 3 : start + 6] != b"\x9d\x01\x2a":
                raise CodecError("the WebP data is damaged: its frame has no header")
            # Two bits each ask for enlargement, which no program does.
            width, height = (extent & 0x3FFF for extent in struct.unpack_from("<2H", data, start + 6))
            if not width or not height:
                raise CodecError("the WebP data is damaged: its image has no pixels")
            return width, height
    raise CodecError("a WebP file without a lossy image is none of ours")


def pixels_of(data: bytes) -> np.ndarray:
    """What Pillow shows, uint8 (H, W, 3) RGB. Raises CodecError."""
    with opened(data) as picture:
        if picture.mode != "RGB":
            raise CodecError(f"a WebP file of mode {picture.mode} is none of ours")
        return np.asarray(picture)


@contextmanager
def opened(data: bytes) -> Iterator[WebPImageFile]:
    """Pillow's view of a WebP file; whatever it raises meanwhile becomes a CodecError."""
    try:
        # Quiet of damaged metadata, which is none of ours.
        with quiet(), WebPImageFile(io.BytesIO(data)) as picture:
            yield picture
    except CodecError:
        raise
    except Exception as error:  # Pillow raises several kinds on damaged files
        raise CodecError(f"the WebP data is damaged: {error}") from error


def is_gray(pixels: np.ndarray) -> bool:
    """Whether RGB pixels come of a frame without chroma: libwebp then gives green as red and blue, or one less."""
    for top in range(0, len(pixels), rgb.ROWS):
        red, green, blue = np.moveaxis(pixels[top : top + rgb.ROWS], 2, 0)
        if (red != blue).any() or (red - green > 1).any():  # unsigned: green above red makes 255 or so
            return False
    return True


def embed(data: bytes, envelope: bytes) -> bytes:
    """The file with the envelope's chunk at its end."""
    padded = envelope + bytes(len(envelope) % 2)
    carrying = data + OURS + struct.pack("<I", len(envelope)) + padded
    return carrying[:4] + struct.pack("<I", len(carrying) - 8) + carrying[8:]


def extract(data: bytes) -> bytes | None:
    """The envelope of a WebP file, or None. Raises CodecError where the chunks are damaged."""
    found = [data[start:stop] for kind, start, stop in chunks(data) if kind == OURS and stop - start in ENVELOPE_SIZES]
    return found[0] if found else None


def overhead(envelope: bytes, data: bytes) -> int:
    """Bytes that an envelope costs: chunks are padded to an even length."""
    return 8 + len(envelope) + len(envelope) % 2


def chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(FourCC, start, stop) of the content of each chunk (RFC 9649, 2.3). Raises CodecError where one is cut short."""
    end = 8 + int.from_bytes(data[4:8], "little")
    if not accept(data) or end > len(data):
        raise CodecError("the WebP data is damaged: it is cut short")
    at = 12
    while at < end:
        start = at + 8
        stop = start + int.from_bytes(data[at + 4 : start], "little")
        if start > end or stop > end:
            raise CodecError("the WebP data is damaged: a chunk is cut short")
        yield data[at : at + 4], start, stop
        at = stop + stop % 2
