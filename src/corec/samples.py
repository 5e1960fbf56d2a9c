"""Samples of Pillow's images -> levels of 8 bits, gray or sRGB, whatever their mode, depth, palette and profile."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageChops, ImageCms

from corec.errors import PictureError

Levels = Callable[[Image.Image], np.ndarray]
"""Part of an image -> its levels, uint8 (h, w, 1 to 4), gray or sRGB; an even last number includes alpha."""

DEEP = {"I", "I;16", "I;16L", "I;16B", "I;16N"}
GRAY = {"1", "L", "LA", "La"} | DEEP
COLOR = {"RGB", "RGBX", "RGBA", "RGBa", "P", "PA", "CMYK", "YCbCr", "HSV", "LAB"}
"""Modes of images that become pictures."""


def holds_gray(image: Image.Image, stored: str) -> bool:
    """Whether an image has no colour. Pillow spreads 16-bit gray with alpha over RGBA, and may be painted on then."""
    if stored == "LA;16B" and image.mode == "RGBA":
        red, green, blue, _ = image.split()
        return not any(ImageChops.difference(red, other).getbbox() for other in (green, blue))
    return image.mode in GRAY


def refuse_misread(image: Image.Image) -> None:
    """Raise PictureError for TIFF files that Pillow takes for others: planes apart of more than 8 bits, and samples of
    8 bits with a sign."""
    tags = getattr(image, "tag_v2", {})
    depths, signs = (tags.get(tag, ()) for tag in (ExifTags.Base.BitsPerSample, ExifTags.Base.SampleFormat))
    planes = tags.get(ExifTags.Base.SamplesPerPixel, 1)  # a single one is not apart, whatever the file says
    if planes > 1 and tags.get(ExifTags.Base.PlanarConfiguration) == 2 and max(depths, default=8) > 8:
        raise PictureError(f"has planes of {max(depths)} bits one after the other; store its pixels interleaved first")
    if 2 in signs and max(depths, default=8) <= 8:
        raise PictureError("has samples of 8 bits with a sign; convert it to 8 bits without first")


def stored_as(image: Image.Image) -> str:
    """How the file packs its pixels, in Pillow's words ("RGB;16B").

    Once they are decoded Pillow knows no more of it: so it is kept with the image. A TIFF file's depth is told still.
    """
    if tiles := getattr(image, "tile", None):
        packing = tiles[0][3]
        image.corec_stored = str(packing[0] if isinstance(packing, tuple) and packing else packing)  # type: ignore[attr-defined]
    twelve = image.mode == "I;16" and getattr(image, "tag_v2", {}).get(ExifTags.Base.BitsPerSample) == (12,)
    return getattr(image, "corec_stored", "I;12" if twelve else "")


def levels_of(image: Image.Image, stored: str) -> Levels:
    """How to make levels of a part of this image."""
    profile, key = image.info.get("icc_profile") or b"", image.info.get("transparency")
    if image.mode in DEEP:
        return deep_levels(image, stored, key, gray_table(profile))
    if holds_gray(image, stored):
        table = gray_table(profile)

        def gray_levels(part: Image.Image) -> np.ndarray:
            planes = planes_of(converted(part, key, stored))
            # Pillow spreads 16-bit gray with alpha over RGBA.
            planes = planes[..., [0, 3]] if planes.shape[2] == 4 else planes.copy()
            planes[..., 0] = table[planes[..., 0]]
            return planes

        return gray_levels
    space = image.mode if image.mode in ("CMYK", "LAB") else "RGB"
    transform = transform_of(ImageCms.createProfile("LAB") if space == "LAB" else profile, space)

    def color_levels(part: Image.Image) -> np.ndarray:
        if transform is not None and space != "RGB":
            return planes_of(transform.apply(part))
        part = converted(part, key, stored)
        if transform is None:
            return planes_of(part)
        planes = planes_of(transform.apply(part.convert("RGB")))
        return np.dstack([planes, planes_of(part)[..., 3]]) if part.mode == "RGBA" else planes

    return color_levels


def deep_levels(image: Image.Image, stored: str, key: object, table: np.ndarray) -> Levels:
    white_is_zero = getattr(image, "tag_v2", {}).get(ExifTags.Base.PhotometricInterpretation) == 0
    peak = 4095 if stored == "I;12" else 65535

    def levels(part: Image.Image) -> np.ndarray:
        deep = planes_of(part)
        if deep.min() < 0 or deep.max() > peak:
            raise PictureError(f"has gray levels outside 0..{peak}; convert it to 8 or 16 bits first")
        # Pillow inverts such TIFF files up to 8 bits, and leaves deeper ones as they are.
        gray = table[scaled(peak - deep if white_is_zero else deep, peak)]
        return gray if not isinstance(key, int) else np.dstack([gray, np.where(deep == key, 0, 255).astype(np.uint8)])

    return levels


def converted(part: Image.Image, key: object, stored: str) -> Image.Image:
    """To L, LA, RGB or RGBA. A colour key is given as the file has it, the pixels as Pillow has scaled them."""
    if stored in ("L;2", "L;4") and isinstance(key, int):
        part.info["transparency"] = key * (85 if stored == "L;2" else 17)
    elif stored == "RGB;16B" and isinstance(key, tuple):
        part.info["transparency"] = tuple(level >> 8 for level in key)
    mode = "L" if part.mode in GRAY else "RGB"
    if part.has_transparency_data:
        mode += "A"
    return part if part.mode == mode else part.convert(mode)


def planes_of(part: Image.Image) -> np.ndarray:
    planes = np.asarray(part)
    return planes if planes.ndim == 3 else planes[..., None]


def scaled(levels: np.ndarray, peak: int) -> np.ndarray:
    """0..peak -> 0..255, rounded."""
    return ((levels.astype(np.uint32) * 255 + peak // 2) // peak).astype(np.uint8)


def transform_of(profile: Any, mode: str) -> ImageCms.ImageCmsTransform | None:
    """From a profile to sRGB. None where it changes nothing, cannot be understood, or is for other pixels."""
    if not profile:
        return None
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile) if isinstance(profile, bytes) else profile)
        # In-gamut colours stay what they are, and black stays black.
        intent, flags = ImageCms.Intent.RELATIVE_COLORIMETRIC, ImageCms.Flags.BLACKPOINTCOMPENSATION
        srgb = ImageCms.createProfile("sRGB")
        transform = ImageCms.buildTransform(source, srgb, mode, "RGB", intent, flags)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    if mode == "RGB":
        # sRGB goes by many names, so it is known by what it does: colours move by one level at most.
        steps = np.arange(0, 256, 15, dtype=np.uint8)
        cube = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(len(steps), -1, 3)
        moved = np.asarray(transform.apply(Image.fromarray(cube))).astype(int) - cube
        return transform if np.abs(moved).max() > 1 else None
    return transform


def gray_table(profile: bytes) -> np.ndarray:
    """Gray level -> that of sRGB. Some gray files carry a colour profile: then gray is equal red, green and blue."""
    ramp = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    if (transform := transform_of(profile, "L")) is None:
        if (transform := transform_of(profile, "RGB")) is None:
            return np.arange(256, dtype=np.uint8)
        ramp = ramp.convert("RGB")
    return np.asarray(transform.apply(ramp))[0, :, 1].copy()
