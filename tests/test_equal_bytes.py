"""The bench: every contender's best file has no byte more than is allowed, and its figures are the file's."""

import io
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import fake_codec
import numpy as np
import pytest
from PIL import Image
from skimage import data, metrics
from tiny import tiny_zoo

from corec.codecs import jpeg
from corec.errors import CorecError, FileError, MissingExtraError, ModelError, RateError
from corec.evaluation import contenders, jpegs
from corec.evaluation.bench import Request, evaluate
from corec.evaluation.metrics import psnr
from corec.evaluation.rows import Row
from corec.evaluation.targets import Target, target
from corec.models import models
from corec.picture import Picture, read_picture
from corec.pipeline import decompress_picture, restore_picture

CAMERA = Picture(data.camera()[100:228, 150:278].copy())
ASTRONAUT = Picture(data.astronaut()[:96, 150:270].copy())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A colour and a gray picture, and a file that is none."""
    (tmp_path / "below").mkdir()
    Image.fromarray(data.astronaut()[100:228, 150:342]).save(tmp_path / "color.png")
    Image.fromarray(data.camera()[100:229, 150:299]).save(tmp_path / "below" / "gray.png")
    (tmp_path / "notes.txt").write_text("no picture")
    return tmp_path


def rows_of(folder: Path, gray: bool, targets: list[str | float], names: list[str]) -> list[Row]:
    wanted = tuple(target(at) if isinstance(at, str) else Target("", at) for at in targets)
    return [measured.row for measured in evaluate(Request(folder, gray, wanted, tuple(names)))]


@pytest.mark.parametrize("gray", [False, True], ids=["as-it-is", "gray"])
def test_the_anchor_is_the_file_that_pillow_gives(folder: Path, gray: bool) -> None:
    rows = rows_of(folder, gray, ["jpeg@5", "jpeg@40"], ["jpeg"])
    assert [(row.target, row.image) for row in rows] == [
        (at, image) for at in ("jpeg@5", "jpeg@40") for image in ("below/gray.png", "color.png")
    ]
    for row in rows:
        with Image.open(folder / row.image) as opened:
            image = opened.convert("L") if gray else opened.copy()
        file = io.BytesIO()
        image.save(file, "JPEG", quality=int(row.target.removeprefix("jpeg@")))
        original, decoded = np.asarray(image), np.asarray(Image.open(file))
        assert row.bytes == row.allowed == len(file.getvalue())
        assert row.psnr == pytest.approx(metrics.peak_signal_noise_ratio(original, decoded))
        assert (row.width, row.height) == image.size
        assert row.bpp == pytest.approx(8 * row.bytes / original.shape[0] / original.shape[1])


def test_the_plain_jpeg_is_the_best_that_fits(folder: Path) -> None:
    for row in rows_of(folder, False, ["jpeg@10", "jpeg@50"], ["jpeg-best"]):
        picture = read_picture(folder / row.image)
        fitting = [-math.inf]
        for quality in range(1, 96):
            for progressive in (False, True):
                file = io.BytesIO()
                image = Image.fromarray(picture.pixels)
                image.save(file, "JPEG", quality=quality, optimize=True, progressive=progressive)
                if file.tell() <= row.allowed:
                    fitting.append(psnr(picture.pixels, jpegs.shown(file.getvalue())))
        assert row.bytes <= row.allowed
        assert row.psnr > max(fitting) - 0.01


@pytest.mark.parametrize("gray", [True, False], ids=["gray", "colour"])
def test_mozjpeg_is_the_best_that_fits_and_beats_jpeg(gray: bool) -> None:
    pytest.importorskip("jpeglib")
    pixels = data.camera() if gray else data.astronaut()
    picture = Picture(pixels[100:356, 100:356].copy())
    size = len(jpegs.jpeg(picture, 20))
    quality, made = jpegs.trellis(picture, size)
    assert len(made) <= size < len(jpegs.mozjpeg(picture, quality + 0.5))
    plain = psnr(picture.pixels, jpegs.shown(jpegs.jpeg(picture, 20)))
    assert psnr(picture.pixels, jpegs.shown(made)) > plain + 0.2


@pytest.mark.parametrize("picture", [CAMERA, ASTRONAUT], ids=["gray", "colour"])
def test_a_codec_takes_the_finest_of_its_steps_that_fits(picture: Picture, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_codec.install(monkeypatch)
    who = contenders.contender("fake")
    image = contenders.planes(picture)
    sizes = {step: len(fake_codec.encode(image, step, ())) for step in fake_codec.STEPS}
    for step, size in sizes.items():
        file = who.write(picture, size)
        assert (file.setting, len(file.data)) == (step, size)
        assert who.write(picture, size + 3).setting == step
    shown = who.read(who.write(picture, sizes[2.0]).data)
    assert shown.shape == picture.pixels.shape
    assert np.abs(shown.astype(int) - picture.pixels).max() <= (1 if picture.gray else 4)
    with pytest.raises(RateError, match="the smallest size is"):
        who.write(picture, min(sizes.values()) - 1)


def test_a_codec_that_knows_a_way_to_a_size_is_asked_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_codec.install(monkeypatch, within=lambda image, size: fake_codec.encode(image, 8.0, ()))
    made = contenders.contender("fake").write(CAMERA, 10**6)
    assert made.data == fake_codec.encode(contenders.planes(CAMERA), 8.0, ())


def test_a_rate_allows_whole_bytes_that_do_not_exceed_it(folder: Path) -> None:
    for row in rows_of(folder, True, [1.5], ["jpeg", "jpeg-best"]):
        assert row.allowed == int(1.5 * row.width * row.height / 8)
        assert row.bytes <= row.allowed and row.bpp <= 1.5


def test_an_anchor_of_any_codec_is_its_own_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_codec.install(monkeypatch)
    for row in rows_of(folder, True, ["fake@16"], ["fake", "jpeg-best"]):
        assert row.bytes <= row.allowed
        if row.contender == "fake":
            assert (row.bytes, row.setting) == (row.allowed, 16.0)


def test_a_picture_that_does_not_fit_has_a_row_without_a_file(folder: Path) -> None:
    for row in rows_of(folder, True, [0.01], ["jpeg-best"]):
        assert row.bytes == 0 and math.isnan(row.psnr) and math.isnan(row.bpp) is False


def test_no_contender_has_a_file_of_no_bytes(folder: Path) -> None:
    rows = rows_of(folder, True, [1e-5], ["jpeg", "jpeg-best", "plain"])
    assert rows and all(row.allowed == row.bytes == 0 for row in rows)


def test_a_byte_more_than_allowed_ends_the_bench(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    extra = 0
    codec = fake_codec.install(monkeypatch)

    def within(image: np.ndarray, size: int) -> bytes:
        return bytes(size + extra)

    def decode(data: bytes) -> tuple[np.ndarray, None]:
        return np.zeros((129, 149, 1), np.uint8), None

    codec.within, codec.decode = within, decode
    (folder / "color.png").unlink()
    rows_of(folder, True, ["jpeg@20"], ["fake"])
    extra = 1
    with pytest.raises(CorecError, match=r"below/gray\.png by fake at jpeg@20: it spent \d+ bytes"):
        rows_of(folder, True, ["jpeg@20"], ["fake"])


UNKNOWN = "jpeg", "jpeg@", "jpeg@0", "jpeg@96", "nonsense@5", "jpeg@5.5", "jpeg@-1", "@5"
SENSELESS = "jpeg@nan", "jpeg2000@nan", "jpeg2000@inf", "bpg@nan", "bpg@52", "avif@1", "avif@inf", "webp@0", "webp@9999"


@pytest.mark.parametrize("name", [*UNKNOWN, *SENSELESS])
def test_an_unknown_anchor_is_refused(name: str) -> None:
    with pytest.raises(RateError, match=f"jpeg@QUALITY.* not '{name}'"):
        target(name)


@pytest.mark.parametrize("name", ["nonsense", "corec+bicubic", "jpeg+bicubic", "jpeg+nonsense", "bm3d", "+bm3d", ""])
def test_an_unknown_contender_is_refused(name: str) -> None:
    with pytest.raises(ModelError, match="there are: jpeg, jpeg-best, mozjpeg"):
        contenders.contender(name)


def test_a_folder_without_pictures_and_a_damaged_picture_are_refused(folder: Path) -> None:
    (folder / "none").mkdir()
    with pytest.raises(CorecError, match="no pictures"):
        rows_of(folder / "none", False, ["jpeg@5"], ["jpeg"])
    (folder / "none" / "a.png").write_bytes(b"damaged")
    with pytest.raises(CorecError, match=r"a\.png by jpeg at jpeg@5"):
        rows_of(folder / "none", False, ["jpeg@5"], ["jpeg"])
    (folder / "none" / "b.png").symlink_to("nowhere.png")
    with pytest.raises(FileError, match=r"b\.png cannot be read"):
        rows_of(folder / "none", False, ["jpeg@5"], ["jpeg"])


def test_a_missing_package_leaves_an_anchor_out_and_is_an_error_if_it_was_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def encode(image: np.ndarray, step: float, shapes: object) -> bytes:
        raise MissingExtraError("fake needs a package: pip install 'corec[fake]'")

    fake_codec.install(monkeypatch, encode=encode)
    told: list[str] = []
    assert contenders.usable(["jpeg", "fake", "jpeg-best"], told.append) == ["jpeg", "jpeg-best"]
    assert told == ["fake is left out: fake needs a package: pip install 'corec[fake]'"]
    with pytest.raises(MissingExtraError, match=r"corec\[fake\]"):
        contenders.usable(["jpeg", "fake"])


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with tiny_zoo(tmp_path_factory.mktemp("zoo")):
        yield


@pytest.mark.usefixtures("zoo")
def test_models_are_measured_by_the_files_they_write(folder: Path) -> None:
    names = ["corec", "gray-half", "gray-full", "gray-half+bicubic", "plain"]
    rows = {(row.image, row.contender): row for row in rows_of(folder, True, ["jpeg@30"], names)}
    assert len(rows) == 10 and all(0 < row.bytes <= row.allowed for row in rows.values())
    for image in ("below/gray.png", "color.png"):
        single = [rows[image, name] for name in ("gray-half", "gray-full")]
        assert [row.model for row in single] == ["gray-half", "gray-full"]
        # Only files that come close are suited to the picture, which may help another one more.
        assert rows[image, "corec"].psnr > max(row.psnr for row in single) - 0.25
        assert rows[image, "corec"].psnr == rows[image, rows[image, "corec"].model].psnr
        assert rows[image, "gray-half+bicubic"].bytes == rows[image, "gray-half"].bytes


@pytest.mark.usefixtures("zoo")
def test_without_its_network_a_file_is_what_a_viewer_shows_enlarged() -> None:
    who = contenders.contender("color-half+bicubic")
    made = who.write(ASTRONAUT, 3000).data
    with Image.open(io.BytesIO(made)) as image:
        shown = np.asarray(image.resize((120, 96), Image.Resampling.BICUBIC), int)
    assert np.abs(who.read(made) - shown).max() <= 4  # ours and libjpeg's YCbCr to RGB round differently
    with_network = contenders.contender("color-half")
    assert np.array_equal(with_network.read(made), decompress_picture(made).pixels)
    whole = contenders.contender("gray-full+bicubic")
    made = whole.write(CAMERA, 3000).data
    assert np.array_equal(whole.read(made), jpegs.shown(made))


@pytest.mark.usefixtures("zoo")
def test_a_repaired_jpeg_has_the_bytes_of_the_jpeg(folder: Path) -> None:
    assert [model.name for model in models() if model.restores] == ["restore-gray", "restore-color"]
    rows = rows_of(folder, True, ["jpeg@10"], ["jpeg", "jpeg+restore", "jpeg+restore-gray"])
    for plain, by_choice, by_name in zip(*(iter(rows),) * 3, strict=True):
        assert plain.bytes == by_choice.bytes == by_name.bytes
        assert plain.psnr != by_choice.psnr == by_name.psnr
    data = jpegs.jpeg(CAMERA, 10)
    shown = contenders.contender("jpeg+restore-gray").read(data)
    assert np.array_equal(shown, restore_picture(data, "restore-gray").pixels)


@pytest.mark.usefixtures("zoo")
def test_a_model_for_other_pictures_is_refused_with_the_picture(folder: Path) -> None:
    with pytest.raises(CorecError, match=r"color\.png by gray-half at jpeg@30: the picture is colour"):
        rows_of(folder, False, ["jpeg@30"], ["gray-half"])


def smoothed(pixels: np.ndarray, noise: float, profile: SimpleNamespace) -> np.ndarray:
    """What BM3D does, roughly: coefficients of blocks that noise may have made go, here at all 64 places."""
    assert profile.num_threads > 0
    dct, total = jpeg.dct_matrix(), np.zeros_like(pixels)
    for top, left in np.ndindex(8, 8):
        moved = np.roll(pixels, (-top, -left), (0, 1)).reshape(8, 8, 8, 8).transpose(0, 2, 1, 3)
        coefficients = dct @ moved @ dct.T
        coefficients[np.abs(coefficients) < 2.7 * noise] = 0
        kept = (dct.T @ coefficients @ dct).transpose(0, 2, 1, 3).reshape(64, 64)
        total += np.roll(kept, (top, left), (0, 1))
    return total / 64


@pytest.mark.parametrize("real", [True, False])
def test_bm3d_takes_noise_off_a_gray_jpeg(real: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if real:
        pytest.importorskip("bm3d")  # for non-commercial use only: no extra of the tests has it
    else:
        stand_in = SimpleNamespace(BM3DProfile=SimpleNamespace, bm3d=smoothed)
        monkeypatch.setitem(sys.modules, "bm3d", stand_in)
    who = contenders.contender("jpeg+bm3d")
    small = Picture(CAMERA.pixels[:64, :64].copy())
    made = who.write(small, len(jpegs.jpeg(small, 10)))
    assert psnr(small.pixels, who.read(made.data)) > psnr(small.pixels, jpegs.shown(made.data)) + 0.2
    with pytest.raises(CorecError, match="gray pictures only"):
        who.read(jpegs.jpeg(ASTRONAUT, 10))
