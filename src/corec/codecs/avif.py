"""AVIF (AV1 Image File Format 1.1) through Pillow's libavif and libaom: gray 4:0:0, or YCbCr 4:4:4.

libaom decides by its own measure of structure, which at these rates leaves a smaller squared error than
its PSNR setting does; libavif's own choice, made for looks, costs half a decibel. The boxes are written
anew, without what decoders assume anyway. The envelope is a box at the end; see docs/format.md.
"""

import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import Image

from corec.codecs import isobmff, rgb
from corec.codecs.base import Shapes
from corec.codecs.boxes import box, boxes
from corec.codecs.isobmff import full_box
from corec.errors import CodecError, MissingExtraError, TooLargeError
from corec.quiet import quiet

NAME = "avif"
SUFFIXES = (".avif",)
LARGEST = 16384
"""libavif reads at most this many pixels squared."""
PIXELS = LARGEST**2
TELLS_STEP = False

AC_STEPS = (
    *(11, 15, 19, 23, 27, 31, 35, 39, 43, 47, 51, 55, 59, 63, 67, 71, 75, 79, 83, 87, 91, 95, 99, 104, 112, 120, 128),
    *(136, 144, 152, 164, 176, 188, 200, 215, 231, 247, 265, 285, 305, 329, 353, 380, 408, 440, 474, 510, 550, 593),
    *(639, 689, 743, 801, 864, 933, 1007, 1087, 1173, 1267, 1369, 1479, 1628, 1828),
)
"""AV1 specification, section 7.12.2: the steps of 8-bit AC coefficients at the base_q_idx of libaom's quantisers
1 to 63, which are 4, 8 ... 244, 249, 255. In eighths of a level. Quantiser 0 is lossless and left out."""
STEPS = (AC_STEPS[0] / 8, AC_STEPS[-1] / 8)
SHARPNESS = 0, 2, 3
"""libaom's settings that make files 3 and 4 % larger, and as much better, at the same quantiser: between it and the
next finer one, 6 % of the bytes away, there are steps of a third and two thirds."""
FINER = np.array([
    coarse * (fine / coarse) ** (third / len(SHARPNESS)) / 8
    for fine, coarse in zip((AC_STEPS[0], *AC_STEPS), AC_STEPS, strict=False)
    for third in range(len(SHARPNESS))
])  # fmt: skip
"""All steps, by quantiser and sharpness; at the finest quantiser they are one."""

SLOW, FAST, LARGE = 4, 6, 1 << 20
"""libavif's speed, and that of images of more pixels than LARGE, three times as fast for 8 % more bytes."""
THREADS = 8
"""Of libaom. From two on their number does not change the file, so it is the same on every machine."""
OPTIONS = {"tune": "ssim", "enable-cdef": "1", "min-partition-size": "8"}
"""libaom's. Blocks of 4 x 4 pixels would take half as long again, for up to 2 % fewer bytes."""
CHROMA = "4:4:4"
PROPERTIES = (b"meta", b"iprp", b"ipco")
"""Where the properties of images stand."""


def accept(data: bytes) -> bool:
    """Whether the bytes begin with a file type box that names AVIF's brand."""
    return b"avif" in isobmff.brands(data)


def nearest(steps: np.ndarray, step: float) -> int:
    """The place of the step that is nearest by ratio."""
    return int(np.abs(np.log(steps / step)).argmin())


def settle(step: float) -> float:
    """The nearest of the steps."""
    return float(FINER[nearest(FINER, step)])


def condition(step: float, shapes: Shapes) -> np.ndarray:
    """The natural logarithm of the nearest quantiser's step (1,). Shapes have no meaning here."""
    return np.log([AC_STEPS[nearest(np.array(AC_STEPS) / 8, step)] / 8])


def encode(image: np.ndarray, step: float, shapes: Shapes) -> bytes:
    """An AVIF file of the image, without metadata.

    image: uint8 (H, W, 1) luma or (H, W, 3) YCbCr; step: in levels, taken to the nearest that there is. Raises
    CodecError for a size that libavif does not read, MissingExtraError without libavif.
    """
    height, width, planes = image.shape
    if max(height, width) > LARGEST:
        raise TooLargeError(f"AVIF holds at most {LARGEST} pixels a side, and this image has {width}x{height}")
    plugin()
    gray = planes == 1
    quantiser, sharpness = divmod(nearest(FINER, step), len(SHARPNESS))
    picture = Image.fromarray(image[..., 0] if gray else rgb.rgb_of(image))
    file = io.BytesIO()
    picture.save(
        file,
        "AVIF",
        quality=100 - round((quantiser + 1) * 100 / 63),  # undoes libavif's quantiser = (100 - quality) * 63 / 100
        speed=SLOW if width * height <= LARGE else FAST,
        subsampling="4:0:0" if gray else CHROMA,
        range="full",
        codec="aom",
        autotiling=False,
        max_threads=THREADS,
        advanced=OPTIONS | {"sharpness": str(SHARPNESS[sharpness])},
    )
    return packed(file.getvalue())


def decode(data: bytes) -> tuple[np.ndarray, None]:
    """The image of an AVIF file, uint8 (H, W, 1) luma or (H, W, 3) YCbCr.

    Raises CodecError for damaged files and for those with transparency.
    """
    configuration = isobmff.content(data, *PROPERTIES, b"av1C")
    gray = len(configuration) > 2 and bool(configuration[2] & 0x10)  # AV1-ISOBMFF, section 2.3.3: monochrome
    with opened(data) as picture:
        if picture.mode not in ("L", "RGB"):
            raise CodecError(f"an AVIF file of mode {picture.mode} is none of ours")
        pixels = np.asarray(picture.convert("L" if gray else "RGB"))  # before Pillow 13 gray comes as RGB
    return (pixels[..., None] if gray else rgb.ycbcr_of(pixels)), None


def size(data: bytes) -> tuple[int, int]:
    """Width and height from the file's boxes. Raises CodecError."""
    with opened(data) as picture:
        return picture.size


@contextmanager
def opened(data: bytes) -> Iterator[Image.Image]:
    """Pillow's view of an AVIF file; whatever it raises meanwhile becomes a CodecError."""
    reader = plugin().AvifImageFile
    try:
        # Quiet of damaged metadata, which is none of ours.
        with quiet(), reader(io.BytesIO(data)) as picture:
            yield picture
    except CodecError:
        raise
    except Exception as error:  # Pillow raises several kinds on damaged files
        raise CodecError(f"the AVIF data is damaged: {error}") from error


def plugin() -> Any:
    """Pillow's AVIF plugin. Raises MissingExtraError where Pillow was built without it or is too old for it."""
    try:
        from PIL import AvifImagePlugin
    except ImportError:
        pass
    else:
        if AvifImagePlugin.SUPPORTED:
            return AvifImagePlugin
    raise MissingExtraError("AVIF needs a Pillow with libavif, as its wheels have it: pip install 'pillow>=11.3'")


def packed(data: bytes) -> bytes:
    """The file that libavif wrote with only the boxes that a still image needs.

    Left out: the name of the image, the AV1 profile's brand, the temporal delimiter, and the colour box, whose
    values stand in the AV1 sequence header too and are MIAF's default (ISO/IEC 23000-22, 7.3.6.4).
    """
    held = isobmff.content(data, *PROPERTIES)
    needed = (b"ispe", b"pixi", b"av1C")
    properties = {kind: held[start - 8 : stop] for kind, start, stop in boxes(held) if kind in needed}
    payload = isobmff.content(data, b"mdat").removeprefix(b"\x12\0")  # a temporal delimiter (AV1, 5.6)
    associations = bytes(index | (kind == b"av1C") << 7 for index, kind in enumerate(properties, 1))  # essential: bit 7
    head = box(b"ftyp", b"avif", bytes(4), b"avif", b"mif1", b"miaf")

    def meta(offset: int) -> bytes:
        return full_box(
            b"meta",
            0,
            full_box(b"hdlr", 0, bytes(4), b"pict", bytes(13)),
            full_box(b"pitm", 0, struct.pack(">H", 1)),
            full_box(b"iloc", 0, struct.pack(">2B4H2I", 0x44, 0, 1, 1, 0, 1, offset, len(payload))),
            full_box(b"iinf", 0, struct.pack(">H", 1), full_box(b"infe", 2, struct.pack(">2H", 1, 0), b"av01", b"\0")),
            box(
                b"iprp",
                box(b"ipco", *properties.values()),
                full_box(b"ipma", 0, struct.pack(">IHB", 1, 1, len(associations)), associations),
            ),
        )

    offset = len(head) + len(meta(0)) + 8
    return head + meta(offset) + box(b"mdat", payload)


embed, extract, overhead = isobmff.embed, isobmff.extract, isobmff.overhead
