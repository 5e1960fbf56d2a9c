"""Files that are no picture, not a single one, too large or damaged are refused in one line."""

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from made import file_of, noise, png, refusal, smooth
from PIL import Image

from corec import picture as module
from corec.errors import FileError, PictureError
from corec.picture import Picture, read_picture


@pytest.mark.parametrize("kind", ["GIF", "PNG", "TIFF", "WEBP"])
def test_animations_and_pages_are_refused(kind: str) -> None:
    frames = [Image.fromarray(noise(8, 8)) for _ in range(2)] + [Image.fromarray(255 - noise(8, 8))]
    data = file_of(frames[0], kind, save_all=True, append_images=frames[1:])
    assert "frames" in refusal(lambda: read_picture(data))


def test_the_second_view_of_a_camera_is_ignored() -> None:
    views = [Image.fromarray(smooth()), Image.fromarray(255 - smooth())]
    data = file_of(views[0], "MPO", save_all=True, append_images=views[1:], quality=95)
    assert np.abs(read_picture(data).pixels.astype(int) - smooth()).mean() < 3


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF"])
def test_pillows_lower_limit_neither_warns_nor_refuses(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = file_of(Image.new("L", (1024, 1024), 7), kind)
    # A quarter of the picture. WebP's decoder stops at twice the limit by itself: there, only the warning is tried.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1024 * 600 if kind == "WEBP" else 1024 * 256)
    assert read_picture(data).width == 1024
    assert Image.MAX_IMAGE_PIXELS < 1024 * 1024


def test_bombs_are_refused_before_they_are_decoded() -> None:
    text = refusal(lambda: read_picture(png(30_000, 8, 2, b"", height=30_000)))
    assert "500 megapixels" in text and "30000 x 30000" in text


def damaged(data: bytes) -> list[bytes]:
    cuts = [data[: len(data) * part // 24] for part in range(24)] + [data[:-1], data[:1]]
    flips = []
    for place in np.random.default_rng(3).integers(0, len(data), 60).tolist() + list(range(0, min(120, len(data)), 3)):
        flips.append(data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :])
    return cuts + flips


KINDS = ["PNG", "JPEG", "TIFF", "WEBP", "GIF", "BMP", "PPM", "ICO", "JPEG2000", "PCX", "SGI", "DDS", "AVIF"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_are_read_or_refused_in_one_line(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGEST", 1_000_000)  # a flipped bit may ask for gigabytes
    for data in damaged(file_of(Image.fromarray(smooth()), kind)):
        try:
            assert isinstance(read_picture(data, "white"), Picture)
        except PictureError as error:
            assert str(error).startswith("the picture ") and "\n" not in str(error)


def test_a_photograph_of_a_phone_is_read_upright() -> None:
    heif = pytest.importorskip("pillow_heif")
    pixels = np.full((40, 60, 3), 60, np.uint8)
    pixels[:20, :30] = 220, 40, 40  # the upper left corner
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x112] = 6  # to be turned clockwise
    heif.from_pillow(Image.fromarray(pixels)).save(file, quality=90, exif=exif.tobytes())
    shown = read_picture(file.getvalue())
    assert (shown.width, shown.height) == (40, 60)
    assert shown.pixels[5, 35, 0] > 180 and shown.pixels[5, 5, 0] < 100  # it is at the upper right now
    for cut in (20, 200, len(file.getvalue()) // 2):
        refusal(lambda cut=cut: read_picture(file.getvalue()[:cut]))  # type: ignore[misc]


def test_without_its_package_a_photograph_of_a_phone_asks_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    data = b"\0\0\0\x18ftypheic\0\0\0\0heicmif1" + bytes(40)
    assert "pip install 'corec[heic]'" in refusal(lambda: read_picture(data))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "PPM"])
def test_truncated_files_are_refused(kind: str) -> None:
    data = file_of(Image.fromarray(noise(40, 50, 3)), kind)
    for cut in [data[: len(data) * part // 10] for part in range(1, 10)]:
        refusal(lambda cut=cut: read_picture(cut))  # type: ignore[misc]


def test_png_checksums_are_verified() -> None:
    data = file_of(Image.fromarray(noise(30, 30, 3)), compress_level=0)
    for place in range(60, len(data) - 20, 97):
        flipped = data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :]
        assert "PNG" in refusal(lambda flipped=flipped: read_picture(flipped))  # type: ignore[misc]


@pytest.mark.parametrize("data", [b"", b"\0", b"hello, world\n" * 50, b"%PDF-1.7\n", b"PK\3\4" + bytes(90), bytes(999)])
def test_foreign_files_are_refused(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(data)
    assert str(path) in refusal(lambda: read_picture(path))


def test_formats_without_signature_are_known_by_their_suffix(tmp_path: Path) -> None:
    data = file_of(Image.fromarray(smooth()), "TGA")
    for name, part in [("photo.TGA", data), ("notes.txt", data), ("cut.tga", data[:999]), ("empty.tga", bytes(18))]:
        (tmp_path / name).write_bytes(part)
    assert np.array_equal(read_picture(tmp_path / "photo.TGA").pixels, smooth())
    for name in ("notes.txt", "cut.tga", "empty.tga"):
        refusal(lambda name=name: read_picture(tmp_path / name))  # type: ignore[misc]


def test_random_bytes_are_no_picture() -> None:
    random = np.random.default_rng(0)
    for length in random.integers(1, 3000, 300):
        refusal(lambda size=length: read_picture(random.integers(0, 4, size, np.uint8).tobytes()))  # type: ignore[misc]


def test_drawings_are_refused_without_being_run() -> None:
    data = file_of(Image.fromarray(smooth()), "EPS")
    assert "EPS" in refusal(lambda: read_picture(data))


def test_files_that_are_not_there(tmp_path: Path) -> None:
    assert "No such file" in refusal(lambda: read_picture(tmp_path / "none.png"), FileError)
    assert "directory" in refusal(lambda: read_picture(tmp_path), FileError)
    refusal(lambda: read_picture("\0.png"), FileError)
