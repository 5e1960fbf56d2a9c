"""BPG (Bellard's BPG specification 0.9.5): a small header around the slices of one HEVC picture, through PyAV.

FFmpeg's libx265 writes the HEVC stream and FFmpeg's decoder reads it; the container is written and read
here, and the HEVC fields that it needs in hevc.py. Gray is 4:0:0 and colour is 4:4:4, 8 bits, full-range
BT.601. The envelope is an extension of the file; see docs/format.md and docs/codecs.md.
"""

import math
import os
import re
import tempfile
import threading
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from corec.codecs import hevc
from corec.codecs.base import ENVELOPE_SIZES, Shapes
from corec.errors import CodecError, MissingExtraError, TooLargeError

NAME = "bpg"
SUFFIXES = (".bpg",)
LARGEST = 30000
"""Most pixels a side; HEVC and BPG set no such limit."""
PIXELS = LARGEST**2
STEPS = (2 ** (-4 / 6), 2 ** (47 / 6))
"""HEVC's steps at quantiser parameters 0 and 51, about 0.63 and 228."""
TELLS_STEP = True

MAGIC = b"BPG\xfb"
TAG = 0x43
"""Our extension's tag; BPG 3.2 gives 1 to 5 a meaning and lets decoders skip all others."""
TOOLS = 64
"""Bytes of an HEVC header that are looked at; they tell about forty bits."""
GRAY, HALVED, FULL = 0, 1, 3
"""The pixel formats that are read (BPG 3.2): 4:0:0, 4:2:0 with chroma in the middle of 2x2 pixels, 4:4:4."""
FORMATS = {GRAY: "gray", HALVED: "yuv420p", FULL: "yuv444p"}
"""FFmpeg's names of them."""
REFUSED = ((0x10, "transparency"), (0x04, "transparency"), (0x02, "limited range"), (0x01, "animation"))
"""Flags of the header, as Header.flags has them, with which a picture is more or other than ours are."""
STRIP = 256
"""Rows of chroma that are enlarged at a time: bounds the memory for large images."""

ENCODER = {
    "keyint": 1,
    "ipratio": 1,
    "wpp": 0,
    "pools": "none",
    "frame-threads": 1,
    "info": 0,
    "vui-timing-info": 0,
    "log-level": "none",
    "allow-non-conformance": 1,
}
"""One intra picture at just the quantiser asked for, on one thread (rows that are coded in parallel cost
bytes), of any size, and nothing beside it."""
LAMBDA = 0.87
"""x265's own Lagrange multiplier times this is as good for PSNR as any; docs/codecs.md."""
SLOPE = 0.36
"""Change of the multiplier's logarithm that moves the bytes as far as one quantiser parameter does."""
TAPS = np.array([2, -6, 18, 57, -10, 4, -1], np.int32)
"""libbpg's filter for chroma a quarter of a sample before a chroma sample, in 64ths; reversed: behind it."""

_LAMBDAS = threading.Lock()
if hasattr(os, "register_at_fork"):  # a child must not begin with another thread's multipliers, or its lock held
    os.register_at_fork(before=_LAMBDAS.acquire, after_in_parent=_LAMBDAS.release, after_in_child=_LAMBDAS.release)


@dataclass(frozen=True)
class Header:
    """A BPG file's header (BPG 3.1)."""

    pixel_format: int
    depth: int
    """Bits a sample, 8 to 14."""
    color_space: int
    flags: int
    """alpha1_flag (bit 4), alpha2_flag (bit 2), limited_range_flag (bit 1) and animation_flag (bit 0)."""
    width: int
    height: int
    extensions: tuple[tuple[int, bytes], ...]
    """Tags and contents."""
    picture: bytes
    """HEVC header and data."""


def accept(data: bytes) -> bool:
    """Whether the bytes begin with BPG's magic number."""
    return data[:4] == MAGIC


def settle(step: float) -> float:
    """The step itself, within STEPS: between two quantiser parameters the encoder's multiplier goes on."""
    return float(np.clip(step, *STEPS))


def condition(step: float, shapes: Shapes) -> np.ndarray:
    """The natural logarithm (1,) of the step of the whole quantiser parameter that a file at this step has."""
    return log_step(math.floor(hevc.parameter(settle(step)) + 0.5))


def log_step(qp: int) -> np.ndarray:
    """The natural logarithm (1,) of HEVC's step."""
    return np.log([hevc.step_of(qp)])


def encode(image: np.ndarray, step: float, shapes: Shapes) -> bytes:
    """A BPG file of an image, uint8 (H, W, 1) luma or (H, W, 3) YCbCr.

    step: in levels, clipped to STEPS; shapes: not used. The image is continued by its edge samples to whole
    coding blocks, which decoders cut off again. Raises CodecError for a size above LARGEST and
    MissingExtraError without PyAV.
    """
    height, width, planes = image.shape
    if max(height, width) > LARGEST:
        raise TooLargeError(f"BPG holds at most {LARGEST} pixels a side here, and this image has {width}x{height}")
    block = 8 if min(height, width) > 8 else 16  # x265 takes no picture below 16x16
    padded = np.pad(image, [(0, -height % block), (0, -width % block), (0, 0)], mode="edge")
    pixel_format = FULL if planes == 3 else GRAY
    units = hevc.units_of(coded(padded, FORMATS[pixel_format], hevc.parameter(settle(step)), block))
    header = hevc.header_of_tools(hevc.tools_of_sps(hevc.first_of(units, (hevc.SPS,))))
    picture = ue7(len(header)) + header + hevc.START.join(hevc.picture_units(units))
    return written(Header(pixel_format, 8, 0, 0, width, height, (), picture))


def decode(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """The image of a BPG file, uint8 (H, W, 1) luma or (H, W, 3) YCbCr, and its slice's log step (1,).

    Chroma at half size is enlarged as libbpg does it. Raises CodecError for damaged files and for what is
    none of ours: more than 8 bits, alpha, animations, other colours than full-range BT.601.
    """
    header = opened(data)
    if header.pixel_format not in FORMATS:
        raise CodecError(f"a BPG file of pixel format {header.pixel_format} is none of ours")
    if header.depth != 8:
        raise CodecError(f"a BPG file of {header.depth} bits a sample is none of ours")
    if header.color_space:
        raise CodecError(f"a BPG file of colour space {header.color_space} is none of ours")
    for flag, what in REFUSED:
        if header.flags & flag:
            raise CodecError(f"a BPG file with {what} is none of ours")
    length, at = read_ue7(header.picture, 0)
    if at + length > len(header.picture):
        raise CodecError("the BPG data is damaged: the HEVC header is cut short")
    tools = hevc.tools_of_header(header.picture[at : at + min(length, TOOLS)])
    units = hevc.picture_units(hevc.units_of(header.picture[at + length :]))
    qp = hevc.slice_qp(units, tools, header.pixel_format)
    width, height = (-(-extent // tools.block) * tools.block for extent in (header.width, header.height))
    sets = hevc.parameter_sets(tools, width, height, header.pixel_format)
    stream = b"".join(hevc.START + unit for unit in (*sets, *units))
    planes = decoded(stream, FORMATS[header.pixel_format], width, height)
    image = np.empty((header.height, header.width, len(planes)), np.uint8)
    for index, plane in enumerate(planes):
        if index and header.pixel_format == HALVED:
            enlarge(plane[: (header.height + 1) // 2, : (header.width + 1) // 2], image[..., index])
        else:
            image[..., index] = plane[: header.height, : header.width]
    return image, log_step(qp)


def size(data: bytes) -> tuple[int, int]:
    """Width and height from the header. Raises CodecError."""
    header = opened(data)
    return header.width, header.height


def embed(data: bytes, envelope: bytes) -> bytes:
    """The file with an extension of our tag that holds the envelope, before any others."""
    header = opened(data)
    return written(replace(header, extensions=((TAG, envelope), *header.extensions)))


def overhead(envelope: bytes, data: bytes) -> int:
    """Bytes that an envelope costs: the length of all extensions, its tag, its length, and itself."""
    return 3 + len(envelope)


def extract(data: bytes) -> bytes | None:
    """The envelope of a BPG file, or None. Raises CodecError where the container is damaged."""
    for tag, content in opened(data).extensions:
        if tag == TAG and len(content) in ENVELOPE_SIZES:
            return content
    return None


def opened(data: bytes) -> Header:
    """The header of a BPG file (BPG 3.1). Raises CodecError where it is damaged or the file is cut short."""
    if not accept(data) or len(data) < 6:
        raise CodecError("the BPG data is damaged: the header is cut short")
    first, second = data[4], data[5]
    flags = first & 0x10 | second & 0x07
    width, at = read_ue7(data, 6)
    height, at = read_ue7(data, at)
    length, at = read_ue7(data, at)
    if not 0 < width <= LARGEST or not 0 < height <= LARGEST:
        raise CodecError(f"the BPG data claims {width}x{height} pixels; Corec reads 1 to {LARGEST} a side")
    extensions: list[tuple[int, bytes]] = []
    if second & 0x08:
        total, at = read_ue7(data, at)
        stop = at + total
        while at < stop:
            tag, at = read_ue7(data, at)
            extent, at = read_ue7(data, at)
            extensions.append((tag, data[at : at + extent]))
            at += extent
        if at != stop:
            raise CodecError("the BPG data is damaged: an extension is cut short")
    picture = data[at : at + length] if length else data[at:]
    if at > len(data) or len(picture) < length:
        raise CodecError("the BPG data is damaged: it is cut short")
    return Header(first >> 5, 8 + (first & 15), second >> 4, flags, width, height, tuple(extensions), picture)


def written(header: Header) -> bytes:
    """The BPG file of a header that opened gives (BPG 3.1)."""
    extensions = b"".join(ue7(tag) + ue7(len(content)) + content for tag, content in header.extensions)
    first = header.pixel_format << 5 | header.flags & 0x10 | header.depth - 8
    second = header.color_space << 4 | bool(extensions) << 3 | header.flags & 0x07
    sizes = ue7(header.width) + ue7(header.height) + ue7(len(header.picture))
    start = MAGIC + bytes([first, second]) + sizes + (ue7(len(extensions)) if extensions else b"")
    return start + extensions + header.picture


def ue7(number: int) -> bytes:
    """A number below 2^32 as BPG's ue7 (BPG 2): 7 bits a byte, highest first, bit 7 set on all but the last."""
    groups = [number & 127]
    while number := number >> 7:
        groups.append(number & 127 | 128)
    return bytes(reversed(groups))


def read_ue7(data: bytes, at: int) -> tuple[int, int]:
    """The number at a place, and the place behind it. Raises CodecError where it is cut, padded or above 32 bits."""
    number = 0
    for index, byte in enumerate(data[at : at + 5]):
        number = number << 7 | byte & 127
        if byte < 128 and number < 1 << 32:
            return number, at + index + 1
        if not number:
            break
    raise CodecError("the BPG data is damaged: a number is not well formed")


def coded(image: np.ndarray, pixels: str, qp: float, block: int) -> bytes:
    """x265's stream of an image (H, W, 1 or 3) whose sides are multiples of block, the smallest coding block.

    x265 has whole quantiser parameters only: the nearest one is taken, and its Lagrange multiplier does the
    rest. x265 reads multipliers from a file and keeps them for the whole process, so one image is coded at a
    time, and the usual ones are put back.
    """
    height, width = image.shape[:2]
    largest = max(side for side in (16, 32, 64) if side <= min(height, width))
    depth = min(4, largest.bit_length() - 2)
    whole = math.floor(qp + 0.5)
    options = ENCODER | {"qp": whole, "ctu": largest, "min-cu-size": block, "max-tu-size": min(32, largest)}
    options |= {"tu-intra-depth": depth, "tu-inter-depth": depth}
    av = library()
    try:
        with _LAMBDAS, tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "lambda.txt"
            options["lambda-file"] = re.sub(r"([\\':=])", r"\\\1", str(path))
            try:
                path.write_text(multipliers(LAMBDA * math.exp(SLOPE * (qp - whole))))
                encoder = encoder_of(pixels, width, height, options)
                packets = [*encoder.encode(frame_of(image, pixels)), *encoder.encode(None)]
            finally:
                path.write_text(multipliers(1))
                encoder_of(pixels, width, height, options)
        return b"".join(bytes(packet) for packet in packets)
    except av.FFmpegError as error:
        raise CodecError(f"x265 cannot code this image: {error.strerror}") from error
    except OSError as error:
        raise CodecError(f"x265 needs a temporary file, which cannot be written: {error}") from error


def multipliers(scale: float) -> str:
    """x265's two tables of Lagrange multipliers, for quantiser parameters 0 to 69: 2^(QP / 6) / 4 for sums of
    differences, and 0.038 e^(0.234 QP) for squared ones, here times the scale."""
    parameters = np.arange(70)
    return "".join(
        f"{value:.4f}\n" for value in (*2 ** (parameters / 6 - 2), *scale * 0.038 * np.exp(0.234 * parameters))
    )


def encoder_of(pixels: str, width: int, height: int, options: dict[str, Any]) -> Any:
    """An open x265 of PyAV's. Raises CodecError where PyAV was built without one."""
    av = library()
    try:
        encoder = av.CodecContext.create("libx265", "w")
    except ValueError as error:
        raise CodecError("this PyAV has no x265, which writes BPG files: use the wheel of PyPI") from error
    encoder.width, encoder.height, encoder.pix_fmt = width, height, pixels
    encoder.time_base = Fraction(1, 25)  # FFmpeg asks for one
    joined = ":".join(f"{name}={value}" for name, value in options.items())
    encoder.options = {"preset": "placebo", "tune": "psnr", "x265-params": joined}
    encoder.open()
    return encoder


def frame_of(image: np.ndarray, pixels: str) -> Any:
    """PyAV's frame of an image (H, W, 1 or 3)."""
    height, width, planes = image.shape
    frame = library().VideoFrame(width, height, pixels)
    for index in range(planes):
        rows = np.frombuffer(frame.planes[index], np.uint8).reshape(height, -1)
        rows[:, :width] = image[..., index]
    return frame


def decoded(stream: bytes, pixels: str, width: int, height: int) -> list[np.ndarray]:
    """The planes, uint8, of an HEVC stream's first picture. Raises CodecError unless it is whole and as named."""
    av = library()
    decoder = av.CodecContext.create("hevc", "r")
    decoder.thread_count = 1
    decoder.options = {"err_detect": "explode"}
    try:
        frames = [*decoder.decode(av.Packet(stream)), *decoder.decode(None)]
    except av.FFmpegError as error:
        raise CodecError(f"the BPG data is damaged: {error.strerror}") from error
    if not frames or frames[0].is_corrupt or (frames[0].width, frames[0].height) != (width, height):
        raise CodecError("the BPG data is damaged: the picture is not whole")
    if frames[0].format.name != pixels:
        raise CodecError("the BPG data is damaged: the header tells of other components")
    return [np.frombuffer(p, np.uint8).reshape(p.height, -1)[:, : p.width] for p in frames[0].planes]


def enlarge(plane: np.ndarray, target: np.ndarray) -> None:
    """Fill target (H, W) from chroma at half its size, by libbpg's filter in libbpg's integers."""
    height, width = plane.shape
    columns = np.arange(-3, width + 3).clip(0, width - 1)
    for top in range(0, height, STRIP):
        stop = min(top + STRIP, height)
        rows = np.arange(top - 3, stop + 3).clip(0, height - 1)
        strip = doubled(doubled(plane[rows][:, columns].astype(np.int32)).T).T
        piece = target[2 * top : 2 * stop]
        piece[:] = ((strip[: len(piece), : piece.shape[1]] + 2048) >> 12).clip(0, 255)


def doubled(samples: np.ndarray) -> np.ndarray:
    """Twice as many samples along the first axis, 64 times as large; three at either end are only looked at."""
    count = len(samples) - 6
    sums = np.zeros((count, 2, *samples.shape[1:]), np.int32)
    for index in range(7):
        sums[:, 0] += TAPS[index] * samples[index : index + count]
        sums[:, 1] += TAPS[6 - index] * samples[index : index + count]
    return sums.reshape(2 * count, *samples.shape[1:])


def library() -> Any:
    """PyAV. Raises MissingExtraError."""
    try:
        import av
    except ImportError as error:
        raise MissingExtraError("BPG files need PyAV: pip install 'corec[bpg]'") from error
    return av
