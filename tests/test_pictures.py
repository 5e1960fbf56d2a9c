"""Any picture is taken as its owner sees it, or refused in one line: the table in docs/pictures.md, row by row."""

import io
import os
import struct
import zlib
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import chunk, file_of, noise, png, refusal, smooth
from PIL import Image, ImageCms
from profiles import LINEAR_GRAY, cmyk_profile, rgb_profile, srgb_profile

from corec import picture as module
from corec.errors import FileError
from corec.picture import Picture, as_picture, read_picture, write_picture

# Shapes and kinds of pixels


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (7, 3), (2, 1), (333, 1001)])
@pytest.mark.parametrize("planes", [(), (3,)])
def test_any_shape(size: tuple[int, int], planes: tuple[int, ...]) -> None:
    pixels = noise(*size, *planes)
    picture = read_picture(file_of(Image.fromarray(pixels)))
    assert np.array_equal(picture.pixels, pixels)
    assert (picture.height, picture.width, picture.gray) == (*size, not planes)
    assert picture.pixels.flags.c_contiguous


def test_a_row_longer_than_a_block() -> None:
    pixels = noise(2, module._BLOCK + 5)
    assert np.array_equal(read_picture(file_of(Image.fromarray(pixels), compress_level=1)).pixels, pixels)


def test_path_text_and_bytes_are_the_same(tmp_path: Path) -> None:
    pixels = noise(5, 6, 3)
    path = tmp_path / "photo.jpg"  # the content counts, not the suffix
    path.write_bytes(file_of(Image.fromarray(pixels)))
    for source in (path, str(path), path.read_bytes()):
        assert np.array_equal(read_picture(source).pixels, pixels)


def test_bilevel() -> None:
    image = Image.fromarray(noise(9, 11)).convert("1")
    assert np.array_equal(read_picture(file_of(image)).pixels, np.asarray(image.convert("L")))


def test_deep_gray_is_rounded_to_8_bits() -> None:
    levels = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    expected = np.rint(levels / 257).astype(np.uint8)
    for kind in ("PNG", "TIFF", "PPM"):
        assert np.array_equal(read_picture(file_of(Image.fromarray(levels), kind)).pixels, expected), kind
    assert np.array_equal(as_picture(Image.fromarray(levels.astype(np.int32))).pixels, expected)


def test_deep_color_keeps_its_high_bytes() -> None:
    row = struct.pack(">6H", 0, 0x12FF, 0xFFFF, 0x8000, 0x00FF, 0x0100)
    assert read_picture(png(2, 16, 2, row)).pixels.tolist() == [[[0, 0x12, 255], [128, 0, 1]]]


def test_deep_gray_with_alpha_is_gray() -> None:
    row = struct.pack(">4H", 0x1234, 0xFFFF, 0x8000, 0xFFFF)
    assert read_picture(png(2, 16, 4, row)).pixels.tolist() == [[0x12, 0x80]]


def test_white_is_zero_tiff_is_not_a_negative() -> None:
    deep = Image.fromarray(np.array([[0, 257, 65535]], np.uint16))
    assert read_picture(file_of(deep, "TIFF", tiffinfo={262: 0})).pixels.tolist() == [[255, 254, 0]]


def test_12_bit_tiff_is_not_dark() -> None:
    tags = [(256, 2), (257, 1), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (278, 1), (279, 3)]
    table = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    data = b"II*\0" + struct.pack("<I", 12) + b"\xff\xf8\0" + b"\0" + struct.pack("<H", len(tags)) + table + bytes(4)
    assert read_picture(data).pixels.tolist() == [[255, 128]]
    image = Image.open(io.BytesIO(data))
    image.load()
    assert as_picture(image).pixels.tolist() == [[255, 128]]


@pytest.mark.parametrize(("depth", "apart"), [(16, 2), (8, 2), (16, 1)])
def test_deep_planes_one_after_the_other_are_refused(depth: int, apart: int) -> None:
    size, samples = depth // 8, np.array([[10, 20], [30, 40], [50, 60]])  # two pixels by three planes
    stored = (samples if apart == 2 else samples.T).astype(f"<u{size}").tobytes()
    tags = [(256, 2), (257, 1), (259, 1), (262, 2), (277, 3), (278, 1), (284, apart)]
    lists = [(258, [depth] * 3)]
    lists += [(273, [8 + 2 * size * n for n in range(3)]), (279, [2 * size] * 3)] if apart == 2 else []
    tags += [(273, 8), (279, 6 * size)] if apart == 1 else []
    at = 8 + len(stored)
    data, entries = b"II*\0" + struct.pack("<I", at + 12 * len(lists)) + stored, []
    for number, (tag, values) in enumerate(lists):
        entries.append((tag, 4, 3, at + 12 * number))
        data += struct.pack("<3I", *values)
    entries = sorted(entries + [(tag, 4, 1, value) for tag, value in tags])
    data += struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    if apart == 2 and depth == 16:
        assert "planes of 16 bits" in refusal(lambda: read_picture(data))
    else:
        assert read_picture(data).pixels.tolist() == [(samples.T >> depth - 8).tolist()]


def test_a_single_deep_plane_is_not_apart() -> None:
    image = Image.fromarray(np.array([[0, 1000, 30000, 65535]], np.uint16))
    data = file_of(image, "TIFF", tiffinfo={284: 2}, compression="tiff_deflate")
    assert read_picture(data).pixels.tolist() == [[0, 4, 117, 255]]


def test_levels_of_8_bits_with_a_sign_are_refused() -> None:
    image = Image.fromarray(np.array([[1, 200]], np.uint8))
    assert "with a sign" in refusal(lambda: read_picture(file_of(image, "TIFF", tiffinfo={339: 2})))


def test_an_image_is_the_same_picture_every_time() -> None:
    gray_with_alpha = png(2, 16, 4, struct.pack(">4H", 0x1234, 0xFFFF, 0x8000, 0xFFFF))
    key = png(2, 16, 2, b"\x11\x12" * 3 + bytes(6), chunk(b"tRNS", b"\x11\x12" * 3))
    for data in (gray_with_alpha, key):
        image = Image.open(io.BytesIO(data))
        first, second = (as_picture(image, "white").pixels for _ in range(2))
        np.testing.assert_array_equal(first, second)


def test_what_is_painted_on_gray_with_alpha_is_in_colour() -> None:
    image = Image.open(io.BytesIO(png(2, 16, 4, struct.pack(">4H", 0x1234, 0xFFFF, 0x8000, 0xFFFF))))
    assert as_picture(image).gray
    image.putpixel((0, 0), (255, 0, 0, 255))
    assert as_picture(image).pixels.tolist() == [[[255, 0, 0], [128, 128, 128]]]


@pytest.mark.parametrize("levels", [np.float32([[0.5]]), np.int32([[-1]]), np.int32([[65536]])])
def test_levels_of_unknown_range_are_refused(levels: np.ndarray) -> None:
    assert "16 bits" in refusal(lambda: read_picture(file_of(Image.fromarray(levels), "TIFF")))


def test_palette() -> None:
    image = Image.fromarray(smooth()).quantize(16)
    assert np.array_equal(read_picture(file_of(image)).pixels, np.asarray(image.convert("RGB")))
    assert np.array_equal(read_picture(file_of(image, "GIF")).pixels, np.asarray(image.convert("RGB")))


def test_cmyk() -> None:
    image = Image.fromarray(smooth()).convert("CMYK")
    assert np.abs(read_picture(file_of(image, "TIFF")).pixels.astype(int) - smooth()).max() <= 1
    # Pillow, like Adobe's programs, writes such JPEG files inverted, and says so in them.
    assert np.abs(read_picture(file_of(image, "JPEG", quality=100)).pixels.astype(int) - smooth()).max() < 12


def test_cmyk_by_its_profile() -> None:
    image = Image.new("CMYK", (3, 1))
    image.putdata([(0, 0, 0, 0), (255, 0, 0, 0), (0, 0, 0, 255)])
    white, cyan, black = read_picture(file_of(image, "TIFF", icc_profile=cmyk_profile())).pixels[0].astype(int)
    assert white.min() >= 254 and black.max() <= 1
    assert np.ptp(cyan) <= 2 and 120 < cyan[0] < 145


@pytest.mark.parametrize("mode", ["YCbCr", "HSV", "RGBX"])
def test_other_color_models(mode: str) -> None:
    assert np.abs(as_picture(Image.fromarray(smooth()).convert(mode)).pixels.astype(int) - smooth()).max() <= 6


def test_lab() -> None:
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    muted = smooth() // 2 + 64  # 8 bits of L, a and b are coarse where colours are strong
    image = ImageCms.profileToProfile(Image.fromarray(muted), srgb, lab, outputMode="LAB")
    assert image is not None
    assert np.abs(read_picture(file_of(image, "TIFF")).pixels.astype(int) - muted).max() <= 8


# Alpha


def with_alpha(mode: str, alpha: int) -> Image.Image:
    image = Image.fromarray(smooth() if mode == "RGBA" else smooth()[..., 0]).convert(mode)
    image.putalpha(alpha)
    return image


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_opaque_alpha_is_dropped(mode: str) -> None:
    expected = smooth() if mode == "RGBA" else smooth()[..., 0]
    assert np.array_equal(read_picture(file_of(with_alpha(mode, 255))).pixels, expected)
    assert np.array_equal(read_picture(file_of(with_alpha(mode, 255)), "red").pixels, expected)


@pytest.mark.parametrize("mode", ["LA", "La", "RGBA", "RGBa", "PA"])
def test_transparent_pixels_need_a_background(mode: str) -> None:
    image = with_alpha("LA" if mode[0] == "L" else "RGBA", 254).convert(mode)
    text = refusal(lambda: as_picture(image))
    assert "--background" in text and "background=" in text


def test_background_shows_through() -> None:
    image = Image.fromarray(np.array([[[200, 100, 0, 0], [200, 100, 0, 255], [200, 100, 0, 51]]], np.uint8))
    over = read_picture(file_of(image), "#0a64ff").pixels[0].tolist()
    assert over == [[10, 100, 255], [200, 100, 0], [48, 100, 204]]


def test_gray_stays_gray_on_gray() -> None:
    image = Image.fromarray(np.array([[[100, 0], [100, 255]]], np.uint8), "LA")
    assert read_picture(file_of(image), "white").pixels.tolist() == [[255, 100]]
    assert read_picture(file_of(image), "red").pixels.tolist() == [[[255, 0, 0], [100, 100, 100]]]


@pytest.mark.parametrize("name", ["whitish", "#12", "", "#ff000080", "rgb(256,0,0)", "hsl(0,200%,50%)"])
def test_background_must_be_a_color(name: str) -> None:
    assert repr(name) in refusal(lambda: read_picture(file_of(Image.new("L", (1, 1))), name))


KEYED = [
    png(8, 1, 0, b"\xf0", chunk(b"tRNS", b"\0\1")),
    png(2, 2, 0, b"\xc0", chunk(b"tRNS", b"\0\3")),
    png(2, 4, 0, b"\xf0", chunk(b"tRNS", b"\0\x0f")),
    png(2, 8, 0, b"\xff\0", chunk(b"tRNS", b"\0\xff")),
    png(2, 16, 0, b"\x12\x34\0\0", chunk(b"tRNS", b"\x12\x34")),
    png(2, 8, 2, b"\x01\x02\x03\0\0\0", chunk(b"tRNS", b"\0\1\0\2\0\3")),
    png(2, 16, 2, b"\x11\x12" * 3 + bytes(6), chunk(b"tRNS", b"\x11\x12" * 3)),
    png(2, 1, 3, b"\x80", chunk(b"PLTE", bytes(6)), chunk(b"tRNS", b"\xff\0")),
]


@pytest.mark.parametrize("data", KEYED)
def test_a_transparent_color_of_png_is_transparent(data: bytes) -> None:
    assert "--background" in refusal(lambda: read_picture(data))
    picture = read_picture(data, "white")
    assert picture.pixels[0, 0].min() == 255 and picture.pixels[0, -1].max() == 0


# Profiles and orientation


def test_srgb_by_any_name_changes_nothing() -> None:
    assert np.array_equal(read_picture(file_of(Image.fromarray(smooth()), icc_profile=srgb_profile())).pixels, smooth())


def test_profiles_are_applied() -> None:
    swapped = rgb_profile(red=b"g", green=b"r")
    pixels = read_picture(file_of(Image.fromarray(smooth()), icc_profile=swapped)).pixels.astype(int)
    middle = smooth().min(-1) > 60  # darker, sRGB is not a power of 2.2
    assert np.abs(pixels - smooth()[..., [1, 0, 2]])[middle].max() <= 3


def test_profiles_go_with_alpha_and_palettes() -> None:
    data = file_of(Image.fromarray(np.array([[[128, 128, 128, 128]]], np.uint8)), icc_profile=rgb_profile(power=1.0))
    assert np.abs(read_picture(data, "black").pixels.astype(int) - 94).max() <= 1  # 188 under half a cover
    data = file_of(Image.new("P", (1, 1), 0), icc_profile=rgb_profile(power=1.0))
    assert read_picture(data).pixels.tolist() == [[[0, 0, 0]]]


@pytest.mark.parametrize("profile", [LINEAR_GRAY, rgb_profile(power=1.0)])
def test_gray_with_a_profile_stays_gray(profile: bytes) -> None:
    levels = np.array([[0, 128, 255]], np.uint8)
    for image in (Image.fromarray(levels), Image.fromarray(levels.astype(np.uint16) * 257)):
        black, middle, white = read_picture(file_of(image, "TIFF", icc_profile=profile)).pixels[0].tolist()
        assert black == 0 and white == 255 and abs(middle - 188) <= 1


@pytest.mark.parametrize("profile", [b"no profile", cmyk_profile(), srgb_profile()[:200]])
def test_a_profile_that_cannot_be_used_is_ignored(profile: bytes) -> None:
    assert np.array_equal(read_picture(file_of(Image.fromarray(smooth()), icc_profile=profile)).pixels, smooth())


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(kind: str, orientation: int) -> None:
    turn = [np.array, np.fliplr, lambda p: np.rot90(p, 2), np.flipud, np.transpose]
    turn += [lambda p: np.rot90(p, -1), lambda p: np.rot90(p, 2).T, lambda p: np.rot90(p, 1)]
    pixels = smooth(16, 24)[..., 0] // 2 + smooth(16, 24)[..., 1] // 3
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"JPEG": {"quality": 100}, "WEBP": {"lossless": True}}.get(kind, {})
    picture = read_picture(file_of(Image.fromarray(pixels), kind, exif=exif, **options))
    upright = turn[orientation - 1](pixels)
    assert picture.pixels.shape[:2] == upright.shape
    plane = picture.pixels if picture.gray else picture.pixels[..., 0]
    assert np.abs(plane.astype(int) - upright).max() <= 2


def test_long_texts_are_no_damage() -> None:
    row = bytes(range(0, 240, 10))
    long = zlib.compress(bytes(2_000_000))
    texts = (
        chunk(b"zTXt", b"workflow\0\0" + long),
        chunk(b"iTXt", b"workflow\0\1\0\0\0" + long),
        chunk(b"tEXt", b"Software\0some"),
    )
    for some in (texts[:1], texts[1:2], texts):
        assert read_picture(png(8, 8, 2, row, *some)).pixels.tobytes() == row
    torn = bytearray(png(8, 8, 2, row, *texts))
    torn[-20] ^= 1
    assert "is a damaged PNG file" in refusal(lambda: read_picture(bytes(torn)))


def test_damaged_exif_is_ignored_in_silence() -> None:
    data = file_of(Image.fromarray(smooth()), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff", quality=95)
    assert read_picture(data).pixels.shape == smooth().shape


# Arrays and images in memory


def test_arrays() -> None:
    color, gray = noise(5, 4, 3), noise(5, 4)
    assert np.array_equal(as_picture(color).pixels, color)
    assert as_picture(color).pixels is color or np.shares_memory(as_picture(color).pixels, color)
    assert np.array_equal(as_picture(gray[..., None]).pixels, gray)
    assert np.array_equal(as_picture(color[::-2, 1:]).pixels, color[::-2, 1:])
    assert np.array_equal(as_picture(color[..., 0].astype(np.uint16) * 257).pixels, color[..., 0])
    assert np.array_equal(as_picture(color.astype(">u2") * 257).pixels, color)
    assert np.array_equal(as_picture(gray > 99).pixels, np.where(gray > 99, 255, 0))


def test_arrays_with_alpha() -> None:
    opaque = np.dstack([noise(5, 4, 3), np.full((5, 4), 255, np.uint8)])
    assert np.array_equal(as_picture(opaque).pixels, opaque[..., :3])
    deep = opaque.astype(np.uint16) * 257
    deep[..., 3] = 0
    assert "--background" in refusal(lambda: as_picture(deep))
    assert (as_picture(deep, "white").pixels == 255).all()


@pytest.mark.parametrize(
    "array", [np.zeros((2, 2)), np.zeros((2, 2), int), np.zeros((2, 2), object), np.zeros((0, 3, 3), np.uint8)]
    + [np.zeros(shape, np.uint8) for shape in [(4,), (3, 8, 8), (2, 2, 2), (1, 2, 2, 3), ()]]
)  # fmt: skip
def test_other_arrays_are_refused(array: np.ndarray) -> None:
    refusal(lambda: as_picture(array))


def test_float_arrays_are_told_the_way() -> None:
    levels = np.linspace(0, 1, 256).reshape(16, 16)
    text = refusal(lambda: as_picture(levels))
    recipe = text[text.index("(x.clip") :]
    assert np.array_equal(as_picture(eval(recipe, {"np": np, "x": levels})).pixels.ravel(), np.arange(256))


@pytest.mark.parametrize("thing", [None, [[1, 2]], "photo.png", b"\x89PNG"])
def test_other_things_are_refused(thing: Any) -> None:
    assert type(thing).__name__ in refusal(lambda: as_picture(thing))


def test_images_in_memory_are_read_and_left_alone() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.open(io.BytesIO(file_of(Image.fromarray(smooth()), exif=exif, icc_profile=rgb_profile(power=1.0))))
    first = as_picture(image)
    assert image.size == (56, 40) and "icc_profile" in image.info and np.array_equal(np.asarray(image), smooth())
    assert (first.width, first.height) == (40, 56)
    assert np.array_equal(as_picture(image).pixels, first.pixels)
    refusal(lambda: as_picture(Image.new("RGB", (0, 3))))


@pytest.mark.parametrize("pixels", [noise(2, 2, 4), np.zeros((2, 2)), noise(4, 4)[:, ::2], noise(0, 2)])
def test_a_picture_is_what_it_says(pixels: np.ndarray) -> None:
    refusal(lambda: Picture(pixels))


# Writing


@pytest.mark.parametrize("suffix", ["png", "PNG", "webp", "tif", "tiff", "bmp", "ppm", "pgm", "pnm"])
@pytest.mark.parametrize("planes", [(), (3,)])
def test_written_files_are_lossless(suffix: str, planes: tuple[int, ...], tmp_path: Path) -> None:
    path, pixels = tmp_path / f"out.{suffix}", noise(9, 7, *planes)
    if suffix == "pgm" and planes:
        assert "gray" in refusal(lambda: write_picture(Picture(pixels), path))
        return
    write_picture(Picture(pixels), path)
    back = read_picture(path).pixels
    assert np.array_equal(back if back.ndim == pixels.ndim else back[..., 0], pixels)


def test_written_jpeg_is_good_and_without_subsampling(tmp_path: Path) -> None:
    path = tmp_path / "out.part"
    write_picture(Picture(smooth()), path, "jpg")
    with Image.open(path) as image:
        assert image.format == "JPEG" and {row[1:3] for row in image.layer} == {(1, 1)}  # type: ignore[attr-defined]
    assert np.abs(read_picture(path).pixels.astype(int) - smooth()).mean() < 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("format", ["png", "webp", "tiff", "bmp", "ppm", "jpeg"])
def test_a_full_disk_is_seen(format: str) -> None:
    for picture in (Picture(noise(8, 8)), Picture(noise(300, 300))):  # less and more than encoders hand on at a time
        told = refusal(partial(write_picture, picture, Path("/dev/full"), format), FileError)
        assert told == "/dev/full cannot be written: No space left on device"


def test_what_cannot_be_written(tmp_path: Path) -> None:
    picture = Picture(noise(3, 3))
    assert "xyz" in refusal(lambda: write_picture(picture, tmp_path / "out.xyz"))
    assert "png" in refusal(lambda: write_picture(picture, tmp_path / "out"))
    assert "No such" in refusal(lambda: write_picture(picture, tmp_path / "none" / "out.png"), FileError)
    refusal(lambda: write_picture(Picture(noise(1, 17_000)), tmp_path / "out.webp"))
