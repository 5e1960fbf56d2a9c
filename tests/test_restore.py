"""Restoring: any JPEG file of anybody, at its size, upright, its profile kept; other files are refused."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from profiles import rgb_profile, srgb_profile
from tiny import RESTORERS, picture, reach_of, tiny_zoo

from corec import models, pipeline, restore, wrap
from corec.cli import main
from corec.errors import CodecError, EnvelopeError, ModelError
from corec.models import model_named
from corec.pipeline import compress_picture, restorer_of


@pytest.fixture(scope="module", autouse=True)
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with tiny_zoo(tmp_path_factory.mktemp("zoo")) as folder:
        yield folder


def file(height: int, width: int, gray: bool, image: Image.Image | None = None, **options: Any) -> bytes:
    stream = io.BytesIO()
    (image or Image.fromarray(picture(height, width, gray).pixels)).save(stream, "JPEG", **{"quality": 20} | options)
    return stream.getvalue()


@pytest.mark.parametrize("gray", [True, False])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 33), (17, 3), (40, 56), (31, 29)])
def test_any_size_comes_back(height: int, width: int, gray: bool) -> None:
    pixels = restore(file(height, width, gray))
    assert pixels.shape == ((height, width) if gray else (height, width, 3))
    assert pixels.dtype == np.uint8


@pytest.mark.parametrize("adobe", [True, False])
def test_a_file_that_holds_rgb_is_taken(adobe: bool) -> None:
    image = Image.fromarray(picture(40, 56, False).pixels)
    data = file(0, 0, False, image, keep_rgb=True)
    marker = b"\xff\xee\x00\x0eAdobe"
    if not adobe:  # told by the components' names then
        at = data.index(marker)
        data = data[:at] + data[at + 16 :]
    restored = restore(data).astype(int)
    assert 0 < np.abs(restored - np.asarray(image)).mean() < 30
    fine = file(0, 0, False, image, keep_rgb=True, quality=100)
    with Image.open(io.BytesIO(fine)) as shown:
        np.testing.assert_array_equal(restore(fine), np.asarray(shown))


def test_tables_are_those_that_components_name() -> None:
    data = file(40, 56, False)
    luma, chroma = data.index(b"\xff\xdb"), data.index(b"\xff\xdb", data.index(b"\xff\xdb") + 1)
    frame = data.index(b"\xff\xc0")
    numbers = [luma + 4, chroma + 4, *(frame + 12 + 3 * part for part in range(3))]
    assert [data[at] for at in numbers] == [0, 1, 0, 1, 1]
    swapped = bytearray(data)
    for at in numbers:
        swapped[at] ^= 1
    np.testing.assert_array_equal(restore(bytes(swapped)), restore(data))
    gray = file(40, 56, True)
    unused = b"\xff\xdb\0\x43\3" + bytes([1]) * 64
    np.testing.assert_array_equal(restore(gray[:2] + unused + gray[2:]), restore(gray))


@pytest.mark.parametrize(
    "options",
    [
        {"subsampling": 0},
        {"subsampling": 1},
        {"subsampling": 2, "progressive": True},
        {"qtables": [[20] * 64], "subsampling": 2},
        {"qtables": [[20] * 64, [30] * 64, [40] * 64], "subsampling": 0},
        {"quality": 1},
        {"restart_marker_rows": 1},
        {"optimize": True, "comment": b"Corec was not here"},
    ],
)
def test_files_of_all_kinds_are_taken(options: dict[str, Any]) -> None:
    data = file(48, 64, False, **options)
    restored = restore(data).astype(int)
    with Image.open(io.BytesIO(data)) as image:
        shown = np.asarray(image).astype(int)
    assert 0 < np.abs(restored - shown).mean() < 30  # random networks change it, but it is the picture


@pytest.mark.parametrize("gray", [True, False])
def test_a_file_with_nothing_to_repair_is_left_as_it_is(gray: bool) -> None:
    for quality, subsampling, same in ((94, 0, False), (97, 0, True), (100, 0, True), (100, 1, gray), (100, 2, gray)):
        data = file(48, 64, gray, quality=quality, subsampling=subsampling)
        with Image.open(io.BytesIO(data)) as image:
            assert np.array_equal(restore(data), np.asarray(image)) == same
        assert restorer_of(data, None).is_plain == same


def test_a_camera_held_upright_gives_an_upright_picture() -> None:
    source = Image.fromarray(picture(40, 64, False).pixels)
    exif = source.getexif()
    exif[0x0112] = 6  # to be turned by a quarter
    xmp = b"""<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:RDF xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'>
    <rdf:Description xmlns:tiff='http://ns.adobe.com/tiff/1.0/' tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>"""
    plain = file(40, 64, False, source)
    for turned in (file(40, 64, False, source, exif=exif), file(40, 64, False, source, xmp=xmp)):
        np.testing.assert_array_equal(restore(turned), np.rot90(restore(plain), -1))


def test_a_colour_profile_is_applied() -> None:
    source = Image.fromarray(picture(40, 64, False).pixels)
    plain = restore(file(40, 64, False, source)).astype(int)
    same, swapped = (file(40, 64, False, source, icc_profile=p) for p in (srgb_profile(), rgb_profile(b"g", b"r")))
    assert np.abs(restore(same) - plain).max() <= 2
    assert np.abs(restore(swapped) - plain).mean() > 10


@pytest.mark.parametrize("name", RESTORERS)
def test_tiles_do_not_show(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = file(150, 300, not RESTORERS[name])
    whole = restore(data)
    monkeypatch.setattr(wrap, "TILE", 128)
    assert np.abs(whole.astype(int) - restore(data)).max() <= 1
    assert 64 < reach_of(model_named(name), "reconstruct") <= wrap.OVERLAP


def test_a_file_of_ours_is_sent_to_decompress() -> None:
    with pytest.raises(EnvelopeError, match="decompress"):
        restore(compress_picture(picture(40, 40, True), quality=30).data)


def test_other_files_are_refused() -> None:
    stream = io.BytesIO()
    Image.fromarray(picture(20, 20, False).pixels).save(stream, "PNG")
    with pytest.raises(CodecError, match="restore repairs JPEG files, and this is none"):
        restore(stream.getvalue())
    with pytest.raises(CodecError, match="empty"):
        restore(b"")
    cmyk = io.BytesIO()
    Image.new("CMYK", (20, 20)).save(cmyk, "JPEG")
    with pytest.raises(CodecError, match="CMYK"):
        restore(cmyk.getvalue())
    with pytest.raises(CodecError, match="damaged"):
        restore(file(64, 64, False)[:-200])


def test_models_are_for_one_thing() -> None:
    gray, color = file(20, 20, True), file(20, 20, False)
    assert restorer_of(gray, None).name == "restore-gray"
    assert restorer_of(color, None).name == "restore-color"
    with pytest.raises(ModelError, match="is for compress"):
        restore(gray, model="gray-half")
    with pytest.raises(ModelError, match="the picture is colour, and restore-gray is a gray model"):
        restore(color, model="restore-gray")
    with pytest.raises(ModelError, match="is for restore"):
        compress_picture(picture(20, 20, True), model="restore-gray")
    assert "restore" not in compress_picture(picture(20, 20, True), quality=50).model


def test_without_a_model_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "models", lambda: tuple(m for m in models.models() if not m.restores))
    with pytest.raises(ModelError, match="no model that restores gray files"):
        restore(file(20, 20, True))


def test_the_command_restores_a_folder_and_names_what_it_cannot(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "photos"
    source.mkdir()
    (source / "a.jpg").write_bytes(file(30, 40, False))
    (source / "b.jpeg").write_bytes(file(30, 40, True))
    (source / "c.jpg").write_bytes(file(64, 64, True)[:-150])
    assert main(["restore", str(source), "-o", str(tmp_path / "out")]) == 1
    told = capsys.readouterr()
    assert "c.jpg: the JPEG data is damaged" in told.err
    assert "Traceback" not in told.err
    for name, mode in (("a.png", "RGB"), ("b.png", "L")):
        with Image.open(tmp_path / "out" / name) as image:
            assert (image.size, image.mode) == ((40, 30), mode)
    assert not (tmp_path / "out" / "c.png").exists()
