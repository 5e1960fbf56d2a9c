"""Files and arrays <-> Picture. docs/pictures.md has the rules that this module keeps, in one table.

Everything between a decoded image and a Picture (16 to 8 bits, palette, colour profile, alpha, orientation)
happens in small blocks, straight into the final array: a large picture is held once by Pillow and once here.
"""

import io
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import ExifTags, Image, ImageColor, ImageFile

from corec import color
from corec.errors import CorecError, FileError, PictureError
from corec.quiet import quiet
from corec.samples import COLOR, GRAY, holds_gray, levels_of, refuse_misread, scaled, stored_as

LARGEST = 500_000_000
"""Most pixels that a file may hold; above, it is taken for a decompression bomb."""

Color = tuple[int, ...]
Block = Callable[[slice, slice], np.ndarray]
"""Rows and columns of a picture -> their levels, as corec.samples has them."""

_BLOCK = 1 << 18
_DRAWINGS = {"EPS", "WMF"}
"""Programs that draw a picture. Ghostscript, which runs EPS, is nothing to start on a file from anywhere."""
_STILL = {"MPO", "PSD"}
"""Formats whose further frames are not pages or an animation: a camera's second view, layers."""
_HEIF = {b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1"}
"""Brands by which a HEIC file begins."""
_STORED: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: upright[::-1, ::-1].swapaxes(0, 1),
    8: lambda upright: np.rot90(upright, -1),
}
"""EXIF orientation -> the view of an upright picture in which its rows lie as the file stores them."""
_FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    "png": ("PNG", {}),
    "webp": ("WEBP", {"lossless": True}),
    "tiff": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    "bmp": ("BMP", {}),
    "ppm": ("PPM", {}),
    "jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
}
"""Name -> Pillow's name, and what it is told."""
_SHORT = {"tif": "tiff", "jpg": "jpeg", "pgm": "ppm", "pnm": "ppm"}
WRITTEN = tuple(f".{name}" for name in (*_FORMATS, *_SHORT))
"""Endings of the files that write_picture writes."""


@dataclass(frozen=True, eq=False)
class Picture:
    """Pixels and nothing else: upright, opaque, 8 bits, gray or sRGB."""

    pixels: np.ndarray
    """uint8, (H, W) gray or (H, W, 3) sRGB, C-contiguous, at least one pixel."""

    def __post_init__(self) -> None:
        shape, dtype = self.pixels.shape, self.pixels.dtype
        if dtype != np.uint8 or 0 in shape or not (len(shape) == 2 or (len(shape) == 3 and shape[2] == 3)):
            raise PictureError(f"an array of {dtype} and shape {shape} cannot be a picture's pixels")
        if not self.pixels.flags.c_contiguous:
            raise PictureError("a picture's pixels must lie one after the other (np.ascontiguousarray)")

    @property
    def gray(self) -> bool:
        return self.pixels.ndim == 2

    def luma(self) -> "Picture":
        """Its luma alone; itself if it is gray."""
        return self if self.gray else Picture(color.luma(self.pixels))

    @property
    def width(self) -> int:
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        return int(self.pixels.shape[0])


def read_picture(source: str | Path | bytes, background: str | None = None) -> Picture:
    """The picture in a file of any kind that Pillow opens, or a HEIC file, or in a file's bytes.

    Raises FileError where there is no readable file, PictureError for everything else.
    """
    color = background_of(background)
    if isinstance(source, bytes):
        with _refusals("the picture"):
            return _from_image(_opened(io.BytesIO(source)), color)
    try:
        stream: IO[bytes] = open(source, "rb")  # noqa: SIM115
    except (OSError, ValueError) as error:
        raise FileError(f"{source} cannot be read: {_reason(error)}") from error
    with stream, _refusals(str(source)):
        # A pipe cannot be read twice, and finding the kind of a file takes that.
        stored = stream if stream.seekable() else io.BytesIO(stream.read())
        return _from_image(_opened(stored, Path(source).suffix.lower()), color)


def as_picture(image: np.ndarray | Image.Image, background: str | None = None) -> Picture:
    """The picture in an array or a Pillow image. It may share the array's memory; the image stays as it is.

    Arrays are uint8, uint16 (0..65535) or bool, (H, W) or (H, W, 1) gray, (H, W, 3) sRGB or (H, W, 4) with alpha.
    """
    color = background_of(background)
    with _refusals("the picture"):
        if isinstance(image, Image.Image):
            if isinstance(image, ImageFile.ImageFile) and image.fp is None and getattr(image, "_im", image) is None:
                raise PictureError("was closed before its pixels were read: load() it first")
            return _from_image(image, color)
        if isinstance(image, np.ndarray):
            return _from_array(np.asarray(image), color)
        raise PictureError(f"must be a NumPy array or a Pillow image, not {type(image).__name__}")


def resized(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    """Pixels uint8 (H, W), (H, W, 1) or (H, W, 3) at another size, by Lanczos' filter, antialiased."""
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2:] == (1,) else pixels)
    other = np.asarray(image.resize((width, height), Image.Resampling.LANCZOS))
    return other.reshape(height, width, *pixels.shape[2:])


def write_picture(picture: Picture, path: Path, format: str | None = None) -> None:
    """Write a picture to a path as it is: what a failure leaves there is the caller's to remove.

    format: png, webp, tiff, bmp, ppm or jpeg, else the path's suffix decides. Only jpeg (95, 4:4:4) is lossy.
    """
    name = (format or Path(path).suffix).lower().removeprefix(".")
    if (name := _SHORT.get(name, name)) not in _FORMATS:
        raise PictureError(
            f"{path} cannot be written: Corec writes {', '.join(_FORMATS)}, not {name or 'without suffix'}"
        )
    if Path(path).suffix.lower() == ".pgm" and not picture.gray:
        raise PictureError(f"{path} cannot be written: .pgm is for gray pictures, and this is in colour; write .ppm")
    kind, options = _FORMATS[name]
    try:
        # Not straight into the file: encoders that write to its descriptor do not see that a disk is full.
        whole = io.BytesIO()
        Image.fromarray(picture.pixels).save(whole, kind, **options)
        with open(path, "wb") as stream:
            stream.write(whole.getbuffer())
    except Exception as error:
        # Only the operating system numbers its errors: the rest is what a format cannot hold.
        wrong = FileError if isinstance(error, OSError) and error.errno else PictureError
        raise wrong(f"{path} cannot be written: {_reason(error)}") from error


@contextmanager
def _refusals(name: str) -> Iterator[None]:
    """Put the picture's name before what is wrong with it, whoever found it."""
    try:
        with quiet():  # of damaged metadata: what matters of it is an error
            yield
    except CorecError as error:
        raise PictureError(f"{name} {error}") from error
    except Exception as error:
        # On damaged files Pillow raises whatever its parsers ran into: OSError, SyntaxError, ValueError, EOFError,
        # KeyError, struct.error, zlib.error, OverflowError, MemoryError, ... A list of them would have holes.
        raise PictureError(f"{name} cannot be read as a picture: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return "not enough memory"
    text = error.strerror if isinstance(error, OSError) else None
    return text or str(error) or type(error).__name__


def background_of(name: str | None) -> Color | None:
    """The colour that a name, #rrggbb or rgb(r, g, b) stands for; None for None. Raises PictureError."""
    if name is None:
        return None
    try:
        color = ImageColor.getrgb(name)
        if not 0 <= min(color) <= max(color) <= 255:
            raise ValueError(color)
    except (ValueError, TypeError, AttributeError) as error:
        raise PictureError(f"the background {name!r} is no colour: white, #rrggbb or rgb(r, g, b)") from error
    if len(color) == 4 and color[3] < 255:
        raise PictureError(f"the background {name!r} is itself transparent")
    return tuple(color[:3])


def _opened(stream: IO[bytes], suffix: str = "") -> ImageFile.ImageFile:
    """Image.open, but without its limit on pixels, which is global, lower than ours, and first of all a warning."""
    stream.seek(0)
    head = stream.read(16)
    if not head:
        raise PictureError("is empty")
    Image.init()
    for kind in list(Image.ID):
        factory, accept = Image.OPEN[kind]
        try:
            # Anything looks like a format without a signature (TGA). A string says that Pillow lacks the format.
            says = accept(head) if accept else Image.EXTENSION.get(suffix) == kind
            if isinstance(says, str) or not says:
                continue
            if kind in _DRAWINGS:
                raise PictureError(f"is a vector drawing ({kind}); export it as PNG first")
            stream.seek(0)
            image = factory(stream, "")
            if kind == "PNG":
                # Pillow decodes past a wrong checksum; verifying ends the image's use.
                image.verify()
                stream.seek(0)
                image = factory(stream, "")
            return image
        except (SyntaxError, IndexError, TypeError, ValueError, struct.error) as error:
            if "MAX_TEXT_CHUNK" in str(error) and (bare := _without_texts(stream)):
                return _opened(bare, suffix)
            if kind == "PNG":
                raise PictureError(f"is a damaged PNG file: {_reason(error)}") from error
            # else it is not of this kind after all
    if head[4:8] == b"ftyp" and head[8:12] in _HEIF:
        stream.seek(0)
        return _opened_heif(stream)
    raise PictureError("is not a picture of a kind that Corec reads, or its beginning is damaged")


def _without_texts(stream: IO[bytes]) -> IO[bytes] | None:
    """A PNG file without its compressed texts, which a bomb might be, so that Pillow refuses long ones; None if it has
    none. Uncompressed ones stay: they may say how the picture is turned."""
    stream.seek(0)
    data = stream.read()
    kept, at = [data[:8]], 8
    while at < len(data):
        chunk = data[at : at + 12 + int.from_bytes(data[at : at + 4])]
        kind, text = chunk[4:8], chunk[8:].partition(b"\0")[2]
        if kind != b"zTXt" and (kind != b"iTXt" or text[:1] != b"\1"):
            kept.append(chunk)
        at += len(chunk)
    bare = b"".join(kept)
    return io.BytesIO(bare) if len(bare) < len(data) else None


def _opened_heif(stream: IO[bytes]) -> ImageFile.ImageFile:
    """A photograph of a phone: Pillow itself does not read these."""
    try:
        from pillow_heif import HeifImageFile
    except ImportError as error:
        raise PictureError("is a HEIC picture: pip install 'corec[heic]'") from error
    image: ImageFile.ImageFile = HeifImageFile(stream)
    return image


def _from_image(image: Image.Image, background: Color | None) -> Picture:
    width, height = image.size
    if not width * height:
        raise PictureError("is empty")
    if width * height > LARGEST:
        raise PictureError(f"has {width} x {height} pixels; Corec reads up to {LARGEST // 1_000_000} megapixels")
    if image.format not in _STILL and getattr(image, "n_frames", 1) > 1:
        raise PictureError(f"has {image.n_frames} frames or pages; Corec takes one picture")  # type: ignore[attr-defined]
    refuse_misread(image)
    stored = stored_as(image)
    if image.mode not in GRAY | COLOR:
        kind = "floating-point levels" if image.mode == "F" else f"pixels of kind {image.mode}"
        raise PictureError(f"has {kind}; convert them to 8 or 16 bits first")
    if hasattr(image, "_tile_size") and getattr(image, "_im", None) is None:
        # For an uncompressed TIFF Pillow checks its own limit once more where it makes the memory; so it is made here.
        image.im = Image.new(image.mode, image._tile_size).im
    image.load()
    levels = levels_of(image, stored)

    def block(rows: slice, columns: slice) -> np.ndarray:
        return levels(image.crop((columns.start, rows.start, columns.stop, rows.stop)))

    return _assembled(image.size, holds_gray(image, stored), block, background, _orientation(image))


def _from_array(array: np.ndarray, background: Color | None) -> Picture:
    if not array.size:
        raise PictureError(f"is empty: its shape is {array.shape}")
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise PictureError(f"has shape {array.shape}, not (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)")
    if array.dtype.kind == "f":
        raise PictureError(f"has {array.dtype} levels; make 0..1 uint8: (x.clip(0, 1) * 255 + 0.5).astype(np.uint8)")
    if (array.dtype.kind, array.itemsize) not in (("b", 1), ("u", 1), ("u", 2)):
        raise PictureError(f"has {array.dtype} levels, not uint8 or uint16; if they lie in 0..255: x.astype(np.uint8)")
    planes = array if array.ndim == 3 else array[..., None]
    if array.dtype == np.uint8 and planes.shape[2] != 4:
        return Picture(np.ascontiguousarray(planes[..., 0] if planes.shape[2] == 1 else planes))

    def block(rows: slice, columns: slice) -> np.ndarray:
        part = planes[rows, columns]
        if part.dtype.kind == "b":
            return part.astype(np.uint8) * np.uint8(255)
        return part if part.dtype == np.uint8 else scaled(part, 65535)

    return _assembled((array.shape[1], array.shape[0]), planes.shape[2] == 1, block, background, 1)


def _assembled(size: tuple[int, int], gray: bool, block: Block, background: Color | None, orientation: int) -> Picture:
    """Join a picture of `size` (width, height, as stored) from its blocks: opaque and upright."""
    if gray and background and len(set(background)) > 1:
        # A coloured background makes a gray picture a colour one, but only where it shows.
        gray = not any((part := block(*at)).shape[2] == 2 and part[..., 1].min() < 255 for at in _blocks(size))
    shape = size if orientation >= 5 else size[::-1]
    pixels = np.empty(shape if gray else (*shape, 3), np.uint8)
    stored = _STORED[orientation](pixels)
    for at in _blocks(size):
        part = _opaque(block(*at), background, gray)
        stored[at] = part[..., 0] if gray else part
    return Picture(pixels)


def _blocks(size: tuple[int, int]) -> Iterator[tuple[slice, slice]]:
    width, height = size
    columns = min(width, _BLOCK)
    rows = max(1, _BLOCK // columns)
    for top in range(0, height, rows):
        for left in range(0, width, columns):
            yield slice(top, min(height, top + rows)), slice(left, min(width, left + columns))


def _opaque(part: np.ndarray, background: Color | None, gray: bool) -> np.ndarray:
    """(h, w, 1 to 4) -> (h, w, 1) if gray, else something that fits (h, w, 3)."""
    if part.shape[2] % 2:
        return part
    levels, alpha = part[..., :-1], part[..., -1:]
    if alpha.min() == 255:
        return levels
    if background is None:
        raise PictureError("has transparent pixels; choose a colour for them with --background (Python: background=)")
    behind = np.array(background[:1] if gray else background, np.uint16)
    weight = alpha.astype(np.uint16)
    return ((levels * weight + behind * (255 - weight) + 127) // 255).astype(np.uint8)


def _orientation(image: Image.Image) -> int:
    """1 to 8. Damaged EXIF data is no reason to refuse good pixels."""
    try:
        orientation = int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:
        return 1
    return orientation if orientation in _STORED else 1
