"""JPEG (ITU-T T.81): gray or YCbCr 4:2:0, baseline or progressive.

Files are read by libjpeg-turbo, and written here, because libjpeg rounds to the nearest level where the best choice
counts bits too (trellis.py), and because smaller files can be made of the same levels (scans.py). The envelope is an
APP11 segment; see docs/format.md.
"""

import io
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from corec.codecs import scans, trellis
from corec.codecs.base import Shapes
from corec.codecs.rgb import ycbcr_of
from corec.codecs.trellis import ZIGZAG
from corec.errors import CodecError, TooLargeError
from corec.quiet import quiet

NAME = "jpeg"
SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif")
LARGEST = 65500
"""libjpeg's limit on width and height."""
PIXELS = LARGEST**2
STEPS = (1.0, 255.0)
TELLS_STEP = True

APP11 = 0xEB
SIGNATURE = b"Co"
MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""What begins a segment, or ends a scan."""
SCANS = 1000
"""Ten times as many as encoders make."""
STRIP = 1024
"""Rows that are transformed at a time, a multiple of 16: bounds the memory for large images."""


STANDARD = [
    [int(step) for step in table.split()]
    for table in (
        "16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56 14 17 22 29 51 87 80 62 "
        "18 22 37 56 68 109 103 77 24 35 55 64 81 104 113 92 49 64 78 87 103 121 120 101 72 92 95 98 112 100 103 99",
        "17 18 24 47 99 99 99 99 18 21 26 66 99 99 99 99 24 26 56 99 99 99 99 99 47 66" + " 99" * 38,
    )
]
"""T.81, tables K.1 and K.2, in row order: luma and chroma as nearly every encoder scales them."""
STANDARD_SHAPES = np.array(STANDARD) / np.mean(STANDARD[0])
"""The same as multipliers of luma's mean step, (2, 64)."""
FLAT = np.array(STANDARD) ** 0.3
FLAT *= [[1.0], [1.4]] / FLAT.mean(1, keepdims=True)
"""Corec's own, as multipliers of luma's mean step: the standard's raised to 0.3, nearly flat, which at equal bytes is
worth 0.4 to 2.6 dB of PSNR; chroma's mean is 1.4 times luma's."""


def accept(data: bytes) -> bool:
    """Whether the bytes begin with JPEG's SOI and another marker."""
    return data[:3] == b"\xff\xd8\xff"


def tables_at(step: float, shapes: Shapes) -> np.ndarray:
    """Quantisation tables (1 or 2, 64), whole numbers in 1..255 in row order: the step times the shapes, or FLAT."""
    return np.clip(np.rint(step * np.array(shapes if len(shapes) else FLAT)), 1, 255).astype(np.int64)


def settle(step: float) -> float:
    """The step itself: tables are rounded, but entry by entry."""
    return step


def condition(step: float, shapes: Shapes) -> np.ndarray:
    """The mean natural logarithm of each table (1 or 2,)."""
    return np.log(tables_at(step, shapes)).mean(1)


def encode(image: np.ndarray, step: float, shapes: Shapes) -> bytes:
    """A JPEG file of the image, without JFIF header or metadata.

    image: uint8 (H, W, 1) luma or (H, W, 3) YCbCr; step: mean step of the luma table, in levels; shapes:
    multipliers of the step (1 or 2, 64) in row order, for luma and chroma, or none. Raises CodecError for a size
    that JPEG cannot hold.
    """
    height, width, _ = image.shape
    if max(height, width) > LARGEST:
        raise TooLargeError(f"JPEG holds at most {LARGEST} pixels a side, and this image has {width}x{height}")
    return recode(image, (width, height), step, shapes, 1.0, None)


def recode(
    image: np.ndarray, extent: tuple[int, int], step: float, shapes: Shapes, price: float, moved: np.ndarray | None
) -> bytes:
    """encode() of an image that samples() gave and that has changed in some parts: others are coded as they were, but
    for blocks that a decoder clips, half blocks of chroma at an edge, and, below steps of 8, the rounding of samples.

    extent: width and height that the file is to have. price: by how much more than usually bits are worth; moved: bool
    (ceil(H / 16), ceil(W / 16)), those parts, or all.
    """
    height, _, planes = image.shape
    tables = tables_at(step, shapes)
    levels: list[list[np.ndarray]] = [[] for _ in range(planes)]
    for top in range(0, height, STRIP):
        strip = image[top : top + STRIP]
        here = None if moved is None else moved[top // 16 : (top + STRIP) // 16]
        levels[0].append(quantised(strip[..., 0], tables[0], price, here, 2))
        for plane in range(1, planes):
            levels[plane].append(quantised(halve(strip[..., plane]), tables[1], price, here, 1))
    used = tables[: planes // 2 + 1, ZIGZAG]
    return scans.write([np.concatenate(levels.pop(0)) for _ in range(planes)], extent, used)


def bits(image: np.ndarray, step: float, shapes: Shapes) -> np.ndarray:
    """About how many bits a file's image, as samples() gives it, takes there, by its parts of 16 by 16 pixels."""
    tables, parts = tables_at(step, shapes), tuple(-(-extent // 16) for extent in image.shape[:2])
    total = np.zeros(parts)
    for index in range(image.shape[2]):
        plane = halve(image[..., index]) if index else image[..., 0]
        blocks = trellis.bits(np.abs(np.rint(coefficients(plane, tables[min(index, 1)]))))
        if not index:
            blocks = np.pad(blocks, [(0, extent % 2) for extent in blocks.shape])
            blocks = blocks.reshape(parts[0], 2, parts[1], 2).sum((1, 3))
        total += blocks
    return total


def decode(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """The image of a JPEG file, uint8 (H, W, 1) luma or (H, W, 3) YCbCr, and each table's mean log step.

    Raises CodecError for damaged files and for anything but 8-bit gray and colour.
    """
    with opened(data) as picture:
        refuse_others(picture)
        foreign = holds_rgb(picture)
        if picture.mode == "RGB" and not foreign:
            picture.draft("YCbCr", picture.size)
        pixels = np.asarray(picture)
    if foreign:
        pixels = ycbcr_of(pixels)
    return (pixels[..., None] if pixels.ndim == 2 else pixels), log_steps(data)


def samples(data: bytes) -> np.ndarray:
    """The image of a file of encode()'s in whole blocks, of luma, with every sample of chroma four times, not smoothed
    as decoders enlarge it.

    At half its size libjpeg gives chroma as it is stored.
    """
    frame = next(start + 5 for marker, start, _ in segments(data) if marker in (scans.SOF0, scans.SOF2))
    whole = (min(LARGEST, -(-extent // 8) * 8) for extent in struct.unpack_from(">HH", data, frame))
    data = data[:frame] + struct.pack(">HH", *whole) + data[frame + 4 :]
    image = decode(data)[0]
    height, width, planes = image.shape
    if planes == 3:
        with opened(data) as picture:
            picture.draft("YCbCr", (width // 2, height // 2))
            stored = np.asarray(picture)
        image = image.copy()
        for plane in (1, 2):
            image[..., plane] = double(stored[..., plane])[:height, :width]
    return image


def log_steps(data: bytes) -> np.ndarray:
    """The mean log step of each quantisation table that components name, in their order; from the header.

    Raises CodecError.
    """
    with opened(data) as picture:
        used = dict.fromkeys(part[3] for part in picture.layer)  # any component may name any of four
        if not used or not used.keys() <= picture.quantization.keys():
            raise CodecError("the JPEG data is damaged: it has no quantisation table")
        tables = np.array([picture.quantization[number] for number in used], np.int64)
    return np.asarray(np.log(np.maximum(tables, 1)).mean(1))  # a damaged file's table may hold 0


def with_metadata_of(data: bytes, pixels: np.ndarray) -> Image.Image:
    """Pixels, (H, W) or (H, W, 3) RGB, as a Pillow image with a file's profile and what says how it is turned."""
    image = Image.fromarray(pixels)
    with opened(data) as picture:
        image.info.update({key: picture.info[key] for key in ("icc_profile", "exif", "xmp") if key in picture.info})
    return image


def size(data: bytes) -> tuple[int, int]:
    """Width and height from the frame header. Raises CodecError."""
    with opened(data) as picture:
        return picture.size


def colors(data: bytes) -> bool:
    """Whether a file is in colour, not luma alone; from its header. Raises CodecError for what is neither."""
    with opened(data) as picture:
        refuse_others(picture)
        return picture.mode == "RGB"


def halves_chroma(data: bytes) -> bool:
    """Whether some components of a file have fewer samples than others; from its header. Raises CodecError."""
    with opened(data) as picture:
        return len({part[1:3] for part in picture.layer}) > 1


def refuse_others(picture: JpegImageFile) -> None:
    """Raise CodecError for anything but 8-bit gray and colour."""
    if picture.mode not in ("L", "RGB"):
        raise CodecError(f"the JPEG file is {picture.mode}; Corec takes gray and colour (YCbCr or RGB)")


def holds_rgb(picture: JpegImageFile) -> bool:
    """Whether the components are red, green and blue, by libjpeg's rules: a file need not say so in one place."""
    if picture.mode != "RGB" or "jfif" in picture.info:
        return False
    told = picture.info.get("adobe_transform")
    return told == 0 if told is not None else [part[0] for part in picture.layer] == [*b"RGB"]


def refuse_many_scans(data: bytes) -> None:
    """Raise CodecError for a file with more scans than any encoder makes: a few bytes of each may cost a decoder as
    much as the whole picture."""
    count, at = 0, 2
    while found := MARKER.search(data, at):
        at = found.end() + int.from_bytes(data[found.end() : found.end() + 2])
        if found[0][1] == scans.EOI:
            return
        count += found[0][1] == scans.SOS
        if count > SCANS:
            raise CodecError(f"the JPEG data has more than {SCANS} scans")


@contextmanager
def opened(data: bytes) -> Iterator[JpegImageFile]:
    """Pillow's view of a JPEG file; whatever it raises meanwhile becomes a CodecError."""
    refuse_many_scans(data)
    try:
        # Quiet of damaged metadata, which is none of ours.
        # Not Image.open: its limit on pixels is global and lower than ours, which the pipeline holds.
        with quiet(), JpegImageFile(io.BytesIO(data)) as picture:
            yield picture
    except CodecError:
        raise
    except Exception as error:  # Pillow raises a dozen kinds on damaged files
        raise CodecError(f"the JPEG data is damaged: {error}") from error


def embed(data: bytes, envelope: bytes) -> bytes:
    """The file with an APP11 segment behind SOI that holds "Co" and the envelope."""
    return data[:2] + scans.segment(APP11, SIGNATURE + envelope) + data[2:]


def extract(data: bytes) -> bytes | None:
    """The envelope of a JPEG file, or None. Raises CodecError where the segments are damaged."""
    for marker, start, stop in segments(data):
        payload = data[start + 4 : stop]
        if marker == APP11 and payload[:2] == SIGNATURE and len(payload) < 16:
            return payload[2:]
    return None


def overhead(envelope: bytes, data: bytes) -> int:
    """Bytes that an envelope costs: marker, length, "Co" and itself."""
    return 6 + len(envelope)


def segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """(marker, start, stop) of the segments between SOI and the first scan."""
    at = 2
    while True:
        if at + 4 > len(data) or data[at] != 0xFF:
            raise CodecError("the JPEG data is damaged: a marker is missing")
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4])
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker == scans.SOS:
            return
        if length < 2 or at + 2 + length > len(data):
            raise CodecError("the JPEG data is damaged: a segment is cut short")
        yield marker, at, at + 2 + length
        at += 2 + length


def dct_matrix() -> np.ndarray:
    """The orthonormal 8-point DCT-II (T.81, A.3.3), rows by frequency."""
    n = np.arange(8)
    matrix = np.cos(np.pi * (2 * n + 1) * n[:, None] / 16) / 2
    matrix[0] /= np.sqrt(2)
    return matrix.astype(np.float32)


def quantised(
    plane: np.ndarray, table: np.ndarray, price: float, moved: np.ndarray | None, blocks_each: int
) -> np.ndarray:
    """The plane's (H, W) quantised coefficients, int16 (blocks, 64) in zigzag order, row by row of blocks.

    moved: see recode(); each of its parts is so many blocks wide and high.
    """
    blocks = coefficients(plane, table)
    rows, columns = blocks.shape[:2]
    exact = blocks.reshape(-1, 64)[:, ZIGZAG]
    weighed = None
    if moved is not None:
        weighed = moved.repeat(blocks_each, 0).repeat(blocks_each, 1)[:rows, :columns].reshape(-1)
    levels = np.empty(exact.shape, np.int16)
    levels[:, 0] = np.rint(exact[:, 0])
    levels[:, 1:] = trellis.quantise(exact[:, 1:], price, weighed)
    return levels


def coefficients(plane: np.ndarray, table: np.ndarray) -> np.ndarray:
    """The DCT of a plane's blocks in units of a table's steps, float32 (ceil(H / 8), ceil(W / 8), 64) in row order."""
    padded = np.pad(plane, [(0, -extent % 8) for extent in plane.shape], mode="edge").astype(np.float32)
    rows, columns = (extent // 8 for extent in padded.shape)
    blocks = padded.reshape(rows, 8, columns, 8).transpose(0, 2, 1, 3) - 128
    dct = dct_matrix()
    return (dct @ blocks @ dct.T).reshape(rows, columns, 64) / table.astype(np.float32)


def halve(plane: np.ndarray) -> np.ndarray:
    """Means of 2x2 cells (H, W) -> (ceil(H/2), ceil(W/2)); an odd edge counts twice, as in libjpeg."""
    padded = np.pad(plane, [(0, plane.shape[0] % 2), (0, plane.shape[1] % 2)], mode="edge")
    return padded.reshape(padded.shape[0] // 2, 2, padded.shape[1] // 2, 2).mean((1, 3))


def double(plane: np.ndarray) -> np.ndarray:
    """Every sample four times: what halve() undoes exactly."""
    return plane.repeat(2, 0).repeat(2, 1)
