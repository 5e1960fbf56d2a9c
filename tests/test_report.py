"""What `corec evaluate` prints and writes: tables, numbers, a plot, and a page that needs no other file."""

import base64
import io
import json
import math
import os
import sys
import warnings
from html.parser import HTMLParser
from pathlib import Path

import fake_codec
import pytest
from PIL import Image
from skimage import data

from corec import cli
from corec.errors import MissingExtraError
from corec.evaluation import contenders, plots, report
from corec.evaluation.bench import Request
from corec.evaluation.published import KODAK, published
from corec.evaluation.results import Results, curve, differences, finite, means, numbers
from corec.evaluation.rows import Measured, Row
from corec.evaluation.tables import Table, markdown
from corec.evaluation.targets import Target, target
from corec.picture import read_picture
from corec.pipeline import compress_picture

pytest.importorskip("matplotlib")
pytest.importorskip("bjontegaard")

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """A page's elements, checked to be closed in order, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def results(
    targets: list[Target], psnrs: dict[str, list[float]], images: tuple[str, ...] = ("a.png", "b|c.png")
) -> Results:
    """Made-up rows: psnrs by contender, at each target; of the second picture 2 dB more, in twice the bytes."""
    rows = []
    for index, at in enumerate(targets):
        for number, image in enumerate(images):
            for name, values in psnrs.items():
                row = Row(image, name, at.name, 80, 100, 100 * (index + 1) * (number + 1))
                psnr = values[index] + 2 * number
                if not math.isnan(psnr):
                    row = Row(
                        image, name, at.name, 80, 100, row.allowed, row.allowed, psnr, 0.9, 0.95, 5.0, "", 0.1, 0.1
                    )
                rows.append(Measured(row))
    return Results(Request(Path("x"), True, tuple(targets), tuple(psnrs)), next(iter(psnrs)), rows, {"corec": "0"})


def test_means_are_of_the_rows_and_only_of_all() -> None:
    nan = math.nan
    held = results([target("jpeg@5")], {"jpeg": [30.0], "corec": [33.5], "mozjpeg": [nan]})
    text = report.text(report.tables(held))
    assert "| jpeg | 150 | 0.150 | 31.00 |  | 0.9000 | 0.9500 |" in text
    assert "| corec | 150 | 0.150 | 34.50 | +3.50 | 0.9000 | 0.9500 |" in text
    assert "| mozjpeg | - | - | - | - | - | - |" in text
    assert "| b\\|c.png | 200 | 32.00 | 35.50 | - | - |" in text
    assert "| mean of 2 | 150 | 31.00 | 34.50 | - |  |" in text
    assert "Means of 2 pictures, at most the bytes of jpeg@5" in text
    rows = held.at("jpeg@5", "jpeg")
    assert means(rows)["psnr"] == 31.0
    assert math.isnan(means([*rows, Row("c", "jpeg", "jpeg@5", 8, 8, 1)])["psnr"])
    assert math.isnan(means([])["bytes"])


def test_a_markdown_table_has_as_many_columns_in_every_line() -> None:
    text = markdown(Table("Title", ["", "a|b"], [["x", "1"], ["y|z", "-"]], "A note."))
    assert text.startswith("## Title\n\nA note.\n\n|  | a\\|b |\n")
    assert {line.replace("\\|", "").count("|") for line in text.splitlines()[4:]} == {3}


def test_curves_are_compared_where_both_exist() -> None:
    targets = [Target("", rate) for rate in (0.1, 0.2, 0.3, 0.4, 0.5)]
    psnrs = {"jpeg": [math.nan, 28.0, 30.0, 31.5, 32.5], "corec": [27.0, 30.0, 32.0, 33.5, 34.5]}
    held = results(targets, psnrs)
    rates, means_of_psnr = zip(*curve(held, "jpeg"), strict=True)
    assert rates == pytest.approx((0.3, 0.45, 0.6, 0.75)) and means_of_psnr == (29, 31, 32.5, 33.5)
    found = differences(held)["corec"]
    assert found is not None
    assert found.quality == pytest.approx(2.0, abs=0.01) and found.rates == pytest.approx((0.3, 0.75))
    text = report.text(report.tables(held))
    assert "## Against jpeg" in text and "| +2.00 dB | 0.300 to 0.750 | none in range |" in text
    assert "Against" not in report.text(report.tables(results(targets[:3], psnrs)))


def test_where_curves_cross_is_said() -> None:
    """Wrapped against plain: ahead at low rates, behind at high ones."""
    targets = [Target("", rate) for rate in (0.1, 0.2, 0.4, 0.8)]
    held = results(targets, {"bpg": [28.0, 30.0, 32.0, 34.0], "corec:bpg": [29.0, 30.5, 31.5, 33.0]})
    found = differences(held)["corec:bpg"]
    assert found is not None
    (crossing,) = found.crossings
    low, high = (8 * means(held.at(target.name, "bpg"))["bytes"] / 8000 for target in targets[1:3])
    assert crossing.rate == pytest.approx((low * high) ** 0.5) and not crossing.ahead
    assert f"| behind from {crossing.rate:.3f} bpp |" in report.text(report.tables(held))
    told = json.loads(json.dumps(finite(numbers(held))))
    assert told["differences"]["corec:bpg"]["crossings"] == [{"rate": crossing.rate, "ahead": False}]


def test_every_contender_that_chooses_has_a_column_of_its_models() -> None:
    held = results([target("jpeg@5")], {"jpeg": [30.0], "corec": [33.5], "corec:webp": [34.0]})
    (table,) = [table for table in report.tables(held) if table.title.startswith("PSNR of each picture")]
    assert list(table.head[-2:]) == ["corec's model", "corec:webp's model"]
    assert all(len(row) == len(table.head) for row in table.rows)


def test_published_curves_are_for_the_pictures_that_they_are_of() -> None:
    images = sorted(f"{name}.png" for name in KODAK)
    curves = published(images, gray=False)
    assert len(curves) >= 6 and "VVC intra (VTM)" in curves
    for points in curves.values():
        rates, psnrs = [p[0] for p in points], [p[1] for p in points]
        assert rates == sorted(rates) and psnrs == sorted(psnrs) and len(points) >= 4
        assert all(p[2] is None or 0.8 < p[2] < 1 for p in points)
    assert not published(images, gray=True) and not published(images[1:], gray=False)


def test_published_curves_are_drawn_over_the_rates_that_were_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    pyplot = pytest.importorskip("matplotlib.pyplot")
    curve_of = [(0.01, 20.0, 0.8), (0.2, 30.0, 0.9), (0.5, 33.0, 0.95), (3.0, 40.0, 0.99)]
    monkeypatch.setattr(plots, "published", lambda images, gray: {"VVC": curve_of})
    held = results([target(f"jpeg@{quality}") for quality in (5, 10, 40)], {"jpeg": [28.0, 30.0, 33.0]})
    figure, axes = pyplot.subplots()
    plots.draw_curves(axes, held, "psnr", "PSNR")
    pyplot.close(figure)
    lines = {line.get_label(): list(line.get_xdata()) for line in axes.get_lines()}
    assert lines["jpeg"] == pytest.approx([0.15, 0.3, 0.45]) and lines["VVC (published)"] == [0.2, 0.5]


def test_json_has_no_number_that_json_does_not_have() -> None:
    held = results([target("jpeg@5")], {"jpeg": [math.inf], "mozjpeg": [math.nan]})
    told = json.loads(json.dumps(finite(numbers(held)), allow_nan=False))
    assert told["means"]["jpeg@5"]["jpeg"]["psnr"] is None
    assert finite({"a": [math.nan, (1.5, math.inf)], "b": "x"}) == {"a": [None, [1.5, None]], "b": "x"}
    assert len(told["rows"]) == 4 and told["rows"][0]["bpp"] == pytest.approx(0.1)
    assert told["against"] == "jpeg" and told["contenders"] == ["jpeg", "mozjpeg"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four pictures, of which one is in colour."""
    folder = tmp_path / "photos & <more>"
    folder.mkdir()
    Image.fromarray(data.astronaut()[:60, 150:250]).save(folder / "color.png")
    for top in (0, 90, 180):
        Image.fromarray(data.camera()[top : top + 64, 100:180]).save(folder / f"gray-{top}.png")
    return folder


def evaluate(folder: Path, *arguments: str) -> int:
    return cli.main(["evaluate", str(folder), "--gray", *arguments])


BOTH = ["--anchors", "jpeg", "--anchors", "jpeg-best"]


def test_a_report_is_written_and_gone_on_with(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_codec.install(monkeypatch)
    output = folder / "report"  # among the pictures, of which its own are none
    arguments = ["--models", "fake", *BOTH, "--match", "jpeg@30", "--match", "jpeg@60", "-o", str(output)]
    assert evaluate(folder, *arguments) == 0
    printed = capsys.readouterr().out
    assert (output / "results.md").read_text() == printed and printed.count("\n## ") == 3
    told = json.loads((output / "results.json").read_text())
    assert len(told["rows"]) == 2 * 4 * 3 and all(row["bytes"] <= row["allowed"] for row in told["rows"])
    with Image.open(output / "curves.png") as image:
        assert image.width > 1000
    assert evaluate(folder, *arguments) == 0
    assert capsys.readouterr().out == printed
    assert json.loads((output / "results.json").read_text()) == told
    assert evaluate(folder, *arguments, "--force") == 0
    again = json.loads((output / "results.json").read_text())
    assert [row["bytes"] for row in again["rows"]] == [row["bytes"] for row in told["rows"]]
    assert [row["write_seconds"] for row in again["rows"]] != [row["write_seconds"] for row in told["rows"]]
    kept = (output / "rows.jsonl").read_bytes()
    capsys.readouterr()
    assert evaluate(folder / "none", *arguments, "--force") == 1  # what is forced may be mistyped
    assert "none is no folder" in capsys.readouterr().err
    assert (output / "rows.jsonl").read_bytes() == kept
    assert evaluate(folder, *arguments[:-1], str(folder)) == 1
    assert "a report needs a folder of its own" in capsys.readouterr().err
    assert evaluate(folder, "--models", "fake", "--anchors", "jpeg", "--match", "jpeg@30") == 0
    assert "curves.png" not in capsys.readouterr().out  # that of the report


def test_one_size_is_measured_once_however_it_is_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for sizes in (["--match", "jpeg@30", "--match", "jpeg@30.0"], ["--bpp", "3", "--bpp", "3.0000001"]):
        assert evaluate(folder, "--models", "jpeg-best", "--anchors", "jpeg", *sizes) == 0
        assert capsys.readouterr().out.count("## Means of 4 pictures") == 1


def test_an_anchor_that_has_no_file_so_small_has_no_figure(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(folder, "--models", "jpeg2000", "--anchors", "jpeg", "--match", "jpeg2000@0.05") == 0
    assert "| jpeg2000 | - | - | - |" in capsys.readouterr().out


def test_a_picture_that_cannot_be_measured_is_left_out(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGBA", (40, 40), (9, 9, 9, 99)).save(folder / "clear.png")
    (folder / "torn.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    ours = compress_picture(read_picture(folder / "color.png"), codec="jpeg", model="plain", quality=50)
    (folder / "ours.jpg").write_bytes(ours.data)
    assert evaluate(folder, "--models", "jpeg-best", "--anchors", "jpeg", "--match", "jpeg@30") == 0
    told = capsys.readouterr()
    assert "4 pictures" in told.out
    assert [line.split(" is left out: ")[0] for line in told.err.splitlines()] == [
        "corec: clear.png",
        "corec: ours.jpg",
        "corec: torn.jpg",
    ]
    for path in folder.glob("*a*.png"):
        path.unlink()
    (folder / "color.png").unlink()
    assert evaluate(folder, "--anchors", "jpeg", "--match", "jpeg@30") == 1
    assert capsys.readouterr().err.endswith("that can be measured\n")


def test_a_picture_that_a_format_cannot_hold_has_no_figure(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("L", (16400, 2)).save(folder / "wide.png")
    wanted = ["--models", "jpeg-best", "--anchors", "jpeg", "--anchors", "webp"]
    assert evaluate(folder, *wanted, "--bpp", "4", "-o", str(tmp_path / "report")) == 0
    told = capsys.readouterr()
    assert "5 pictures" in told.out and told.err == ""
    rows = json.loads((tmp_path / "report" / "results.json").read_text())["rows"]
    assert {row["contender"] for row in rows if row["image"] == "wide.png" and not row["bytes"]} == {"webp"}
    assert evaluate(folder, *wanted, "--match", "webp@20") == 0
    assert "| webp | - | - |" in capsys.readouterr().out


def test_names_of_folders_are_no_formulas(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = folder.rename(folder.parent / "A$^$B 写真")
    monkeypatch.chdir(named)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        wanted = ["--models", "jpeg", "--anchors", "jpeg-best", "--match", "jpeg@30"]
        assert evaluate(Path(), *wanted, "-o", str(tmp_path / "report")) == 0
    assert "A$^$B 写真: 4 pictures" in (tmp_path / "report" / "report.html").read_text()


def test_the_page_needs_no_other_file(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "report"
    rates = ["1", "1.5", "2", "2.5", "3"]
    assert evaluate(folder, "--models", "jpeg", *BOTH, *(f"--bpp={rate}" for rate in rates), "-o", str(output)) == 0
    text = (output / "report.html").read_text()
    page = Page(text)
    assert not page.open
    assert "http" not in text.split("<footer>")[0] and "url(" not in text
    assert not {"script", "link", "iframe", "a"} & {tag for tag, _ in page.found}
    pictures = [attributes for tag, attributes in page.found if tag == "img"]
    assert all(str(attributes["src"]).startswith("data:image/png;base64,") for attributes in pictures)
    assert all(attributes["alt"] for attributes in pictures)
    # The plot, and of three pictures at the middle rate the original and two contenders.
    assert len(pictures) == 1 + 3 * 3
    for attributes in pictures:
        encoded = str(attributes["src"]).partition(",")[2]
        Image.open(io.BytesIO(base64.b64decode(encoded, validate=True))).load()
    shown = "".join(page.text)
    assert "photos & <more>: 4 pictures at equal bytes" in shown
    assert "gray-180.png, at most 2 bpp" in shown and "BD-rate" in shown


@pytest.mark.skipif(sys.platform != "linux", reason="needs names that are not text")
def test_names_of_pictures_need_not_be_text(tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    first = sorted(folder.glob("*.png"))[0]
    os.link(first, os.fsencode(pictures) + b"/caf\xe9.png")
    wanted = ["--models", "jpeg", "--anchors", "jpeg", "--match", "jpeg@30", "-o", str(tmp_path / "report")]
    assert evaluate(pictures, *wanted) == 0
    assert "caf\\udce9.png" in (tmp_path / "report" / "results.md").read_text()


def test_a_folder_that_holds_something_else_is_kept(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "report"
    output.mkdir()
    (output / "results.json").write_text("mine")
    wanted = ["--models", "jpeg", "--anchors", "jpeg", "--match", "jpeg@30", "-o", str(output)]
    assert evaluate(folder, *wanted) == 1
    assert "--force" in capsys.readouterr().err and (output / "results.json").read_text() == "mine"
    assert evaluate(folder, *wanted, "--force") == 0
    plots = tmp_path / "plots"
    plots.mkdir()
    (plots / "curves-kodak.png").write_text("mine")
    assert evaluate(folder, *wanted[:-1], str(plots)) == 1
    assert "curves-kodak.png exists" in capsys.readouterr().err
    file = tmp_path / "file"
    file.write_text("mine")
    assert evaluate(folder, *wanted[:-1], str(file)) == 1
    assert "is a file" in capsys.readouterr().err and file.read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--match", "jpeg@5", "--bpp", "1"], "not both"),
        (["--bpp", "0"], "above 0"),
        (["--bpp", "nan"], "above 0"),
        (["--match", "jpeg@0"], "jpeg@QUALITY"),
        (["--models", "nonsense"], "there are:"),
        (["--anchors", "nonsense"], "there are:"),
        (["--models", "jpeg", "--anchors", "jpeg", "--against", "mozjpeg"], "not among what is measured"),
        (["--paper", "nobody2020"], "--paper says itself"),
    ],
)
def test_wrong_wishes_are_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert evaluate(folder, *arguments) in (1, 2)
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_an_anchor_without_its_package_is_left_out_with_a_line(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(picture: object, size: int) -> tuple[float, bytes]:
        raise MissingExtraError("MozJPEG comes with jpeglib: pip install 'corec[mozjpeg]'")

    monkeypatch.setitem(contenders.JPEGS, "mozjpeg", write)
    monkeypatch.setattr(contenders, "anchors", lambda: ["jpeg", "mozjpeg"])
    assert evaluate(folder, "--models", "jpeg", "--match", "jpeg@30") == 0
    captured = capsys.readouterr()
    assert captured.err == "corec: mozjpeg is left out: MozJPEG comes with jpeglib: pip install 'corec[mozjpeg]'\n"
    assert "| jpeg |" in captured.out
    assert evaluate(folder, "--models", "jpeg", "--anchors", "mozjpeg", "--match", "jpeg@30") == 1
    assert "corec[mozjpeg]" in capsys.readouterr().err


def test_a_package_that_the_report_needs_is_missed_before_anything_is_measured(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("corec.evaluation.command.PACKAGES", ("skimage", "nonexistent_package"))
    monkeypatch.setattr("corec.evaluation.bench.measure", None)
    assert evaluate(folder, "--models", "jpeg", "--anchors", "jpeg", "--match", "jpeg@30") == 1
    assert capsys.readouterr().err == "corec: nonexistent_package is not installed: pip install 'corec[evaluate]'\n"
