"""HEIC (ISO/IEC 23008-12, annex B: HEVC in HEIF) through pillow-heif's libheif and x265: gray 4:0:0, or YCbCr 4:2:0.

x265 minimises the squared error. The envelope is a box at the end; see docs/format.md. The extra is "heic".
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from corec.codecs import hevc, isobmff, rgb
from corec.codecs.base import Shapes, within_range
from corec.errors import CodecError, MissingExtraError, TooLargeError
from corec.quiet import quiet

NAME = "heic"
SUFFIXES = (".heic", ".heif", ".hif")
LARGEST = 16384
"""Most pixels a side; HEVC's level 6.2 ends at 16888."""
PIXELS = LARGEST**2
STEPS = (1.0, 2 ** (47 / 6))
"""At quantiser parameters 4 and 51."""
TELLS_STEP = False

BRANDS = {b"heic", b"heix", b"heim", b"heis"}
ENCODER = {
    "preset": "slow",
    "tune": "psnr",
    "x265:psy-rd": "0",
    "x265:psy-rdoq": "0",
    "x265:tu-intra-depth": "4",
    "x265:ctu": "64",
    "x265:wpp": "0",
    "x265:vui-timing-info": "0",
}
"""The least squared error that x265 knows for a still image, on one thread (rows that are coded in parallel cost
bytes); libheif would switch the measures for looks on again."""
CHROMA = {"chroma": "420", "x265:cbqpoffs": "-6", "x265:crqpoffs": "-6"}
"""4:4:4 would need fewer bytes, but viewers that know only HEVC's main profile do not show it (docs/codecs.md)."""
FRACTIONS = {
    "x265:qcomp": "1.0",
    "x265:ipratio": "1.0",
    "x265:cutree": "0",
    "x265:aq-mode": "2",
    "x265:aq-strength": "0.15",
    "x265:qg-size": "64",
}
"""With these the rate factor is the quantiser parameter, and a fraction of it counts: a block of 64 x 64 takes
the whole number above or below by how busy it is."""


def accept(data: bytes) -> bool:
    """Whether the bytes begin with a file type box that names one of HEIC's brands for images."""
    return bool(BRANDS & isobmff.brands(data))


settle, condition = within_range(STEPS)


def encode(image: np.ndarray, step: float, shapes: Shapes) -> bytes:
    """A HEIC file of the image, without metadata.

    image: uint8 (H, W, 1) luma or (H, W, 3) YCbCr; step: in levels; shapes: unused. libheif continues images of
    less than 64 pixels a side or of an odd number, and cuts them with a clean aperture. Raises CodecError for a
    size that is not held, and MissingExtraError.
    """
    height, width, planes = image.shape
    if max(height, width) > LARGEST:
        raise TooLargeError(f"HEIC holds at most {LARGEST} pixels a side here, and this image has {width}x{height}")
    mode, pixels = ("L", image) if planes == 1 else ("RGB", rgb.rgb_of(image))
    rate = {"x265:crf": f"{hevc.parameter(settle(step)):.3f}"}
    options = ENCODER | FRACTIONS | (CHROMA if planes == 3 else {}) | rate
    file = io.BytesIO()
    library().encode(mode, (width, height), pixels.tobytes(), file, enc_params=options, save_nclx_profile=True)
    return file.getvalue()


def decode(data: bytes) -> tuple[np.ndarray, None]:
    """The image of a HEIC file, uint8 (H, W, 1) luma or (H, W, 3) YCbCr. The header does not tell the step.

    Raises CodecError for damaged files and for anything but 8-bit gray and colour, and MissingExtraError.
    """
    with opened(data) as picture:
        if picture.mode not in ("L", "RGB"):
            raise CodecError(f"a HEIC file of mode {picture.mode} is none of ours")
        width, height = picture.size
        pixels = np.array(picture)  # a copy: what pillow-heif gives may be memory that it frees
    if pixels.shape[:2] != (height, width):
        raise CodecError("the HEIC data is damaged: its boxes and its image are not of the same size")
    return (pixels[..., None] if pixels.ndim == 2 else rgb.ycbcr_of(pixels)), None


def size(data: bytes) -> tuple[int, int]:
    """Width and height from the file's boxes. Raises CodecError, MissingExtraError."""
    with opened(data) as picture:
        width, height = picture.size
    if not width or not height:
        raise CodecError("the HEIC data is damaged: it has no size")
    return width, height


@contextmanager
def opened(data: bytes) -> Iterator[Any]:
    """The primary image of a HEIC file, not decoded yet; whatever libheif raises meanwhile becomes a CodecError."""
    heif = library()
    try:
        with quiet():  # of damaged metadata, which is none of ours
            file = heif.open_heif(data)
            yield file[file.primary_index]
    except CodecError:
        raise
    except Exception as error:  # libheif raises several kinds on damaged files
        raise CodecError(f"the HEIC data is damaged: {error}") from error


def library() -> Any:
    """pillow-heif. Raises MissingExtraError."""
    try:
        import pillow_heif
    except ImportError as error:
        raise MissingExtraError("HEIC comes with pillow-heif: pip install 'corec[heic]'") from error
    return pillow_heif


embed, extract, overhead = isobmff.embed, isobmff.extract, isobmff.overhead
