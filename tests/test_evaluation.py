"""Figures that are right by hand-made inputs, and a bench that spends no byte more than its anchor."""

import io
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data, metrics

from corec.errors import CorecError, ModelError, PictureError, RateError
from corec.evaluation import bench, report
from corec.evaluation.metrics import psnr, ssim
from corec.models import models
from corec.picture import Picture
from corec.pipeline import Compressed


def noisy(picture: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(1).normal(0, 12, picture.shape)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


def test_psnr_by_hand() -> None:
    black = np.zeros((10, 10), np.uint8)
    spot = black.copy()
    spot[3, 4] = 255
    assert psnr(black, spot) == pytest.approx(20)  # a hundredth of the energy of white
    assert psnr(black, black + 1) == pytest.approx(20 * math.log10(255))
    assert psnr(black + 1, black) == psnr(black, black + 1)
    assert psnr(black, black) == math.inf


def test_psnr_of_colour_is_over_all_samples() -> None:
    black = np.zeros((300, 4, 3), np.uint8)
    red = black.copy()
    red[..., 0] = 255
    assert psnr(black, red) == pytest.approx(10 * math.log10(3))
    picture = data.astronaut()
    assert psnr(picture, noisy(picture)) == pytest.approx(metrics.peak_signal_noise_ratio(picture, noisy(picture)))


def test_ssim_by_hand() -> None:
    """Flat pictures have no structure to lose: only the term of the means is left."""
    one, other = np.full((20, 16), 100, np.uint8), np.full((20, 16), 110, np.uint8)
    c1 = (0.01 * 255) ** 2
    assert ssim(one, other) == pytest.approx((2 * 100 * 110 + c1) / (100**2 + 110**2 + c1))
    assert ssim(one, one) == 1


def test_ssim_is_that_of_the_definition() -> None:
    """Wang et al. 2004, equation 13, window by window."""
    picture = data.camera()[200:230, 200:225]
    one, other = picture.astype(float), noisy(picture).astype(float)
    bell = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window = np.outer(bell, bell) / np.outer(bell, bell).sum()
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    values = []
    for row in range(picture.shape[0] - 10):
        for column in range(picture.shape[1] - 10):
            a, b = (p[row : row + 11, column : column + 11] for p in (one, other))
            mean_a, mean_b = (window * a).sum(), (window * b).sum()
            variances = (window * a * a).sum() - mean_a**2 + (window * b * b).sum() - mean_b**2
            covariance = (window * a * b).sum() - mean_a * mean_b
            brightness = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
            values.append(brightness * (2 * covariance + c2) / (variances + c2))
    assert ssim(picture, noisy(picture)) == pytest.approx(np.mean(values), abs=1e-6)


def test_ssim_of_colour_is_the_mean_of_the_planes() -> None:
    picture = data.astronaut()[:64, :64]
    other = noisy(picture)
    planes = [ssim(picture[..., k].copy(), other[..., k].copy()) for k in range(3)]
    assert ssim(picture, other) == pytest.approx(np.mean(planes))


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_pictures_that_cannot_be_compared_are_refused(metric: Callable[[np.ndarray, np.ndarray], float]) -> None:
    picture = np.zeros((16, 16), np.uint8)
    for other in (picture[:15], picture.astype(float), np.zeros((16, 16, 3), np.uint8)):
        with pytest.raises(PictureError, match="cannot be compared"):
            metric(picture, other)
    with pytest.raises(PictureError, match="11x11"):
        ssim(picture[:10], picture[:10])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A colour and a gray picture, and a file that is none."""
    (tmp_path / "below").mkdir()
    Image.fromarray(data.astronaut()[100:228, 150:342]).save(tmp_path / "color.png")
    Image.fromarray(data.camera()[100:229, 150:299]).save(tmp_path / "below" / "gray.png")
    (tmp_path / "notes.txt").write_text("no picture")
    return tmp_path


@pytest.fixture
def no_networks(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Instead of Corec a codec that is JPEG at the lowest quality; "extra" bytes are put on top of what is allowed."""
    extra: dict[str, int] = {"extra": -1}

    def compress_picture(picture: Picture, *, size: int) -> Compressed:
        data = bench.optimised_jpeg(picture, 1).ljust(size + extra["extra"], b"\0")
        return Compressed(data, "none", "jpeg", 1.0, 1, picture.width, picture.height)

    monkeypatch.setattr(bench, "compress_picture", compress_picture)
    monkeypatch.setattr(bench, "decompress_picture", lambda data: Picture(bench.shown(data)))
    return extra


@pytest.mark.usefixtures("no_networks")
@pytest.mark.parametrize("gray", [False, True], ids=["as-it-is", "gray"])
def test_rows_are_what_pillow_gives(folder: Path, gray: bool) -> None:
    seen: list[tuple[str, int, int]] = []
    rows = bench.evaluate(
        folder, gray, ["jpeg@5", "jpeg@40"], report=lambda row, done, total: seen.append((row.image, done, total))
    )
    assert [(row.image, row.anchor) for row in rows] == [
        (image, anchor) for anchor in ("jpeg@5", "jpeg@40") for image in ("below/gray.png", "color.png")
    ]
    assert seen == [(row.image, index + 1, 4) for index, row in enumerate(rows)]
    for row in rows:
        with Image.open(folder / row.image) as opened:
            image = opened.convert("L") if gray else opened.copy()
        file = io.BytesIO()
        image.save(file, "JPEG", quality=int(row.anchor.removeprefix("jpeg@")))
        original, decoded = np.asarray(image), np.asarray(Image.open(file))
        assert row.anchor_bytes == len(file.getvalue())
        assert row.anchor_psnr == pytest.approx(metrics.peak_signal_noise_ratio(original, decoded))
        assert row.bytes == row.anchor_bytes - 1
        assert (row.width, row.height) == image.size


@pytest.mark.usefixtures("no_networks")
def test_the_plain_jpeg_is_the_best_that_fits(folder: Path) -> None:
    for row in bench.evaluate(folder, False, ["jpeg@10", "jpeg@50"]):
        assert row.jpeg_bytes <= row.anchor_bytes and row.jpeg_psnr > row.anchor_psnr
        picture = bench.read_picture(folder / row.image)
        fitting = [-math.inf]
        for quality in range(1, 96):
            for progressive in (False, True):
                file = io.BytesIO()
                image = Image.fromarray(picture.pixels)
                image.save(file, "JPEG", quality=quality, optimize=True, progressive=progressive)
                if file.tell() <= row.anchor_bytes:
                    fitting.append(psnr(picture.pixels, bench.shown(file.getvalue())))
        assert row.jpeg_psnr > max(fitting) - 0.01


def test_a_byte_more_than_the_anchor_ends_the_bench(folder: Path, no_networks: dict[str, int]) -> None:
    no_networks["extra"] = 0
    bench.evaluate(folder, False, ["jpeg@20"])
    no_networks["extra"] = 1
    with pytest.raises(CorecError, match=r"below/gray\.png at jpeg@20: none spent \d+ bytes"):
        bench.evaluate(folder, False, ["jpeg@20"])


@pytest.mark.parametrize("name", ["jpeg", "jpeg@", "jpeg@0", "jpeg@96", "webp@5", "jpeg@5.5"])
def test_an_unknown_anchor_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(RateError, match="jpeg@QUALITY"):
        bench.evaluate(folder, False, [name])


def test_a_folder_without_pictures_and_a_damaged_picture_are_refused(folder: Path) -> None:
    (folder / "none").mkdir()
    with pytest.raises(CorecError, match="no pictures"):
        bench.evaluate(folder / "none", False, ["jpeg@5"])
    (folder / "none" / "a.png").write_bytes(b"damaged")
    with pytest.raises(CorecError, match=r"a\.png at jpeg@5"):
        bench.evaluate(folder / "none", False, ["jpeg@5"])


def rows_of_three() -> list[bench.Row]:
    return [
        bench.Row("a", "jpeg@5", 8, 8, 100, 20.0, 99, 22.0, 98, 23.0, "m", 2),
        bench.Row("b|c", "jpeg@5", 8, 8, 300, 30.0, 298, 31.0, 300, 34.0, "n", 1),
        bench.Row("a", "jpeg@10", 8, 8, 500, 40.0, 499, 41.0, 498, 42.5, "n", 1),
    ]


def test_the_table_has_the_mean_of_the_rows() -> None:
    lines = report.markdown(rows_of_three()).splitlines()
    assert lines[2] == "| a | 100 | 20.00 | 22.00 | 23.00 | +1.00 | 98 | m |"
    assert lines[3].startswith("| b\\|c |")
    assert lines[4] == "| **mean of 2** | 200 | 25.00 | 26.50 | 28.50 | +2.00 | 199 |  |"
    assert sum(line.startswith("| image |") for line in lines) == 2
    results = json.loads(json.dumps(report.results(rows_of_three())))
    assert results["means"]["jpeg@5"]["psnr"] == 28.5 and results["means"]["jpeg@10"]["psnr"] == 42.5
    assert len(results["rows"]) == 3


def shipped() -> bool:
    try:
        return any(model.default and not model.color for model in models())
    except ModelError:
        return False


@pytest.mark.skipif(not shipped(), reason="no gray model is shipped yet")
def test_two_processes_measure_what_one_does(folder: Path) -> None:
    match = ["jpeg@5", "jpeg@10"]
    rows = bench.evaluate(folder, True, match, processes=2)
    assert rows == bench.evaluate(folder, True, match)
    assert all(row.bytes <= row.anchor_bytes and row.psnr > row.anchor_psnr for row in rows)
    names = [model.name for model in models() if model.default and model.codec == "jpeg"]
    for row, default in zip(bench.evaluate(folder, True, match, models=names), rows, strict=True):
        assert row == default
    with pytest.raises(ModelError, match="nonsense"):
        bench.evaluate(folder, True, match, models=["nonsense"])
    with pytest.raises(CorecError, match="the picture is in colour"):
        bench.evaluate(folder, False, match, models=[rows[0].model])
