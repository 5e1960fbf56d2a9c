"""JPEG 2000 (ITU-T T.800) through Pillow's OpenJPEG: a raw codestream of the irreversible 9/7 transform.

OpenJPEG transforms, codes and chooses what to keep. Its codestream is then packed anew (codestream.py), because
it is larger than decoders need: see docs/codecs.md. Colour is the YCbCr of T.800's irreversible component
transform, which is JFIF's. The envelope is a COM segment; see docs/format.md.
"""

import io
import math
import struct
from contextlib import suppress
from typing import Any

import numpy as np
from PIL import Image
from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile

from corec.codecs.base import ENVELOPE_SIZES, Shapes, within_range
from corec.codecs.boxes import boxes
from corec.codecs.codestream import COD, COM, RAW, SIZ, SOT, Codestream, main_header, refuse_cut, segments, tiles_of
from corec.errors import CodecError, RateError, TooLargeError
from corec.quiet import quiet

NAME = "jpeg2000"
SUFFIXES = (".j2k", ".j2c", ".jpc", ".jp2")
LARGEST = 32768
"""Above, a resolution would have more than one precinct (PPx = 15), which packets.py does not know."""
PIXELS = LARGEST**2
STEPS = (1.0, 2048.0)
TELLS_STEP = False

JP2 = b"\0\0\0\x0cjP  \r\n\x87\n"
SIGNATURE = b"C"
BINARY = 0
"""Rcom of a comment that is not text."""
SHORTENED = 5000, 1 << 18
"""Bytes and samples up to which the ends of code blocks are tried one by one; each try decodes the image."""
REFILLS = 3
"""Times that what this spares is filled once more."""
DERIVED = 20_000
"""Bytes up to which derived quantiser steps are tried; they save 30."""
REFUSED = 32
"""Where no file is small enough, the size that is told is one that will do, at most a part of so many too large."""
LAYERS = 75
"""Quality layers among which within() chooses; Pillow takes up to 100."""
FEW = 500
"""Bytes up to which it also chooses among layers of fewer bytes, those of"""
FINE = [float(psnr) for psnr in range(10, 55)]
"""these PSNRs, in dB."""
UNSEEN = 4.0
"""Mean squared error, in levels squared, that counts for nothing."""


def accept(data: bytes) -> bool:
    """Whether the bytes begin like a codestream or a JP2 file."""
    return data.startswith((RAW, JP2))


settle, condition = within_range(STEPS)


def psnr_at(step: float) -> float:
    """The PSNR, in dB, that OpenJPEG is asked for: mean squared error is step^2 / 12 / (1 + step / 36)^1.3.

    At fine steps that is a uniform quantiser's. At coarse ones most coefficients are smaller than the step and
    become 0 at an error of their own size; the rest of the formula is fitted to that (docs/codecs.md).
    """
    error = step**2 / 12 / (1 + step / 36) ** 1.3
    return 10 * math.log10(255**2 / error)


def encode(image: np.ndarray, step: float, shapes: Shapes) -> bytes:
    """The codestream of an image at the PSNR that belongs to a step.

    image: uint8 (H, W, 1) luma or (H, W, 3) YCbCr; step: in levels; shapes: unused. Raises CodecError for a
    size that is not held.
    """
    if min(image.shape[:2]) == 1:  # without a wavelet transform OpenJPEG does not come to the PSNR it is asked for
        return shortened(openjpeg(image, "rates", [0.01]), image)
    finer = 10 * math.log10(2) if image.shape[2] == 3 else 0.0  # half the error: chroma's is about a quarter of luma's
    stream = openjpeg(image, "dB", [psnr_at(settle(step)) + finer])
    if len(stream.together()) <= DERIVED:
        # Along a rate-distortion curve at low rates, squared error times bytes is about constant.
        stream = min(stream.derived(), stream, key=lambda choice: error(choice, image) * len(choice.together()))
    return shortened(stream, image)


def within(image: np.ndarray, size: int) -> bytes:
    """The best JPEG 2000 file of an image that is found of at most `size` bytes; beyond some bits a sample encode() may
    know a better one.

    OpenJPEG sorts the coding passes into layers of falling worth; they are taken in this order as long as they fit.
    image: as for encode. Raises RateError, with the smallest size, where a file would show less than a flat image does.
    """
    stream = fitting(image, size)
    if stream is None:
        low, high = size, max(size, len(openjpeg(image, "dB", [1.0]).derived().together()))
        while fitting(image, high) is None:
            low, high = high, 2 * high
        while high - low > max(1, high // REFUSED):
            middle = (low + high) // 2
            low, high = (middle, high) if fitting(image, middle) is None else (low, middle)
        raise RateError.too_small(size, high)
    data, filled = shortened(stream.filled(size), image), size
    spared = size - len(data)
    for _ in range(REFILLS if is_small(data, image) else 0):
        longer = shortened(stream.filled(filled + spared), image)
        if len(longer) > size:
            spared //= 2
        else:
            data, filled = longer, filled + spared
            spared = size - len(data)
    return data


def fitting(image: np.ndarray, size: int) -> Codestream | None:
    """The codestream of which `size` bytes show the most; None if that is less than a flat image does."""
    packets = image.shape[2] * (levels_of(min(image.shape[:2])) + 1)
    layer = max(20, size // 50) + packets  # bytes; OpenJPEG makes no smaller ones, and each packet has a header
    rates = [image.size / (layer * number) for number in range(1, LAYERS + 1)]
    # One layer for all beyond a byte a sample: headers of many would be more than OpenJPEG has room for.
    rates = [rate for rate in rates if rate > 1] + [0.01] * (rates[-1] <= 1)
    streams = [openjpeg(image, "rates", rates)]
    if size <= FEW:
        with suppress(CodecError):
            streams.append(openjpeg(image, "dB", FINE))
    found = []
    for choice in {id(each): each for stream in streams for each in (stream.derived(), stream)}.values():
        filled = choice.filled(size)
        if len(filled.together()) <= size:
            found.append((error(filled, image), choice))
    least, best = min(found, key=lambda pair: pair[0], default=(math.inf, None))
    return best if least <= spread(image) + UNSEEN * image.size else None


def decode(data: bytes) -> tuple[np.ndarray, None]:
    """The image of a file, uint8 (H, W, 1) luma or (H, W, 3) YCbCr. The header does not tell the step.

    Raises CodecError for damaged files, and for anything but 8 bits, one component, or three of the irreversible
    colour transform.
    """
    stream = codestream(data)
    parts = main_header(stream)
    width, height = size(data)
    siz, cod = (stream[slice(*parts[marker])] for marker in (SIZ, COD))
    components = int.from_bytes(siz[38:40])
    if components not in (1, 3) or siz[40:] != b"\x07\x01\x01" * components or max(width, height) > LARGEST:
        raise CodecError("the JPEG 2000 file is none of ours: it is not gray or colour of 8 bits")
    if components == 3 and (cod[8], cod[13]) != (1, 0):
        raise CodecError("the JPEG 2000 file is none of ours: its colours are not YCbCr")
    refuse_cut(stream, parts[SOT][0], tiles_of(stream, parts[SIZ][0]))
    return pixels(stream), None


def size(data: bytes) -> tuple[int, int]:
    """Width and height from the SIZ segment. Raises CodecError."""
    stream = codestream(data)
    start, _ = main_header(stream)[SIZ]
    right, lower, left, upper = struct.unpack(">4I", stream[start + 6 : start + 22])
    if right <= left or lower <= upper:
        raise CodecError("the JPEG 2000 data is damaged: it has no size")
    return right - left, lower - upper


def embed(data: bytes, envelope: bytes) -> bytes:
    """A raw codestream with a COM segment at the end of the main header that holds "C" and the envelope."""
    at, _ = main_header(data)[SOT]
    payload = SIGNATURE + envelope
    segment = struct.pack(">BBHH", 0xFF, COM, len(payload) + 4, BINARY) + payload
    return data[:at] + segment + data[at:]


def overhead(envelope: bytes, data: bytes) -> int:
    """Bytes that an envelope costs: marker, length, Rcom, "C" and itself."""
    return 7 + len(envelope)


def extract(data: bytes) -> bytes | None:
    """The envelope of a file, or None. Raises CodecError where boxes or segments are damaged."""
    stream = codestream(data)
    for marker, start, stop in segments(stream):
        registration, payload = stream[start + 4 : start + 6], stream[start + 6 : stop]
        if (
            marker == COM
            and registration == b"\0\0"
            and payload[:1] == SIGNATURE
            and len(payload) - 1 in ENVELOPE_SIZES
        ):
            return payload[1:]
    return None


def codestream(data: bytes) -> bytes:
    """The codestream of a file: all of it, or what is in a JP2 file's jp2c box. Raises CodecError."""
    if data.startswith(RAW):
        return data
    for kind, start, stop in boxes(data):
        if kind == b"jp2c" and data[start : start + 4] == RAW:
            return data[start:stop]
    raise CodecError("the JPEG 2000 data is damaged: it has no codestream")


def pixels(stream: bytes) -> np.ndarray:
    """The components of a codestream as they are coded, uint8 (H, W, 1 or 3): YCbCr, as colour is not transformed."""
    plain = bytearray(stream)
    plain[main_header(stream)[COD][0] + 8] = 0  # no component transform
    try:
        # Quiet of damaged metadata, which is none of ours.
        # Not Image.open: its limit on pixels is global and lower than ours, which the pipeline holds.
        with quiet(), Jpeg2KImageFile(io.BytesIO(plain)) as picture:
            array = np.asarray(picture)
    except Exception as error:  # Pillow raises several kinds on damaged files
        raise CodecError(f"the JPEG 2000 data is damaged: {error}") from error
    return array.reshape(*array.shape[:2], -1)


def openjpeg(image: np.ndarray, mode: str, layers: list[float]) -> Codestream:
    """OpenJPEG's codestream of an image (H, W, 1 or 3). mode, layers: Pillow's quality_mode and quality_layers."""
    height, width, components = image.shape
    if max(height, width) > LARGEST:
        raise TooLargeError(f"JPEG 2000 holds at most {LARGEST} pixels a side here, not {width}x{height}")
    picture = Image.fromarray(image[..., 0] if components == 1 else np.ascontiguousarray(image))  # YCbCr passes as RGB
    options: dict[str, Any] = {"no_jp2": True, "irreversible": True, "mct": 0, "quality_mode": mode}
    file = io.BytesIO()
    try:
        levels = levels_of(min(height, width))
        picture.save(file, "JPEG2000", num_resolutions=levels + 1, quality_layers=layers, **options)
    except OSError as error:  # tiny images in many layers are more than it has room for
        raise CodecError(f"OpenJPEG cannot code {width}x{height} in {len(layers)} layers") from error
    return Codestream.taken_apart(file.getvalue(), height, width, components)


def levels_of(extent: int) -> int:
    """Levels of the wavelet transform for an image of this shorter side: measured best at low rates."""
    return min(extent.bit_length() - 1, 5, max(3, (extent - 1).bit_length() - 4))


def error(stream: Codestream, image: np.ndarray) -> float:
    """Squared error of all samples."""
    return float(np.square(pixels(stream.together()).astype(np.float32) - image).sum(dtype=np.float64))


def spread(image: np.ndarray) -> float:
    """Squared error of an image that has the mean everywhere."""
    counts = [np.bincount(plane.ravel(), minlength=256) for plane in np.moveaxis(image, 2, 0)]
    return float(sum(np.square(np.arange(256) - np.average(range(256), weights=n)) @ n for n in counts))


def shortened(stream: Codestream, image: np.ndarray) -> bytes:
    """The bytes of a codestream; of a small one without those that do not show."""
    data = stream.together()
    if is_small(data, image):
        shown = pixels(data)
        stream.shorten(lambda shorter: np.array_equal(pixels(shorter), shown))
        data = stream.together()
    return data


def is_small(data: bytes, image: np.ndarray) -> bool:
    """Whether a file is one that is shortened."""
    return len(data) <= SHORTENED[0] and image.size <= SHORTENED[1]
