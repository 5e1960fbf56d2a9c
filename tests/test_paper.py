"""The tables of Jiang et al. once more: their figures, ours, and what cannot be measured."""

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean

import fake_codec
import pytest
from PIL import Image
from skimage import data
from tiny import tiny_zoo

from corec import cli, models
from corec.errors import FileError
from corec.evaluation import contenders, jpegs
from corec.evaluation.metrics import psnr
from corec.evaluation.papers import jiang2017 as paper
from corec.evaluation.papers.study import Redone, Study
from corec.evaluation.rows import Finished, Row
from corec.evaluation.tables import Table
from corec.picture import Picture, read_picture

WRONG = {
    ("I", "psnr", "RecCNN"): (28.02, 27.95),
    ("I", "ssim", "JPEG"): (0.7456, 0.7458),
    ("I", "ssim", "Proposed"): (0.8535, 0.8592),
    ("II", "psnr", "ComCNN"): (29.12, 29.19),
    ("III", "psnr", "Proposed", 0.1): (27.37, 29.04),
    ("III", "ssim", "JPEG 2000", 0.1): (0.7273, 0.7372),
    ("III", "ssim", "Proposed", 0.2): (0.8878, 0.8881),
}
"""Averages that the paper prints, and the means of its rows, where the two differ by more than rounding."""


def printed_and_computed() -> Iterator[tuple[tuple[object, ...], float, float]]:
    for table in ("I", "II"):
        for figure in ("psnr", "ssim"):
            held = paper.paper()[table]
            for method, rows in held[figure].items():
                assert len(rows) == len(held["pictures"]) == 7
                yield (table, figure, method), held["printed"][figure][method], fmean(rows)
    held = paper.paper()["III"]
    for figure in ("psnr", "ssim"):
        for method, by_picture in held[figure].items():
            assert sorted(by_picture) == sorted(held["pictures"]) and len(by_picture) == 6
            for index, rate in enumerate(held["rates"]):
                mean = fmean(rows[index] for rows in by_picture.values())
                yield ("III", figure, method, rate), held["printed"][figure][method][index], mean


def test_the_papers_averages_are_those_of_its_rows_but_for_known_ones() -> None:
    for what, printed, computed in printed_and_computed():
        places = 2 if "psnr" in what else 4
        if what in WRONG:
            assert (printed, round(computed, places)) == WRONG[what]
        else:
            assert abs(printed - computed) <= 10**-places, what


def test_the_papers_bytes_and_bits_agree() -> None:
    """Table IV: the proposed files save 4.18 % of all bytes."""
    held = paper.paper()["IV"]["figures"]
    bpg, ours = (sum(at[0] for rows in held[m].values() for at in rows) for m in ("BPG", "Proposed"))
    assert 100 * (1 - ours / bpg) == pytest.approx(4.18, abs=0.005)
    assert all(len(rows) == len(paper.paper()["IV"]["qps"]) == 2 for rows in held["BPG"].values())


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with tiny_zoo(tmp_path_factory.mktemp("zoo")):
        yield


@pytest.fixture
def named_as_in_the_paper(zoo: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny models under the names of the real ones: a pair for quality 5, RecCNN alone, none for quality 10."""
    names = {
        "gray-half": "jiang2017-jpeg-qf5-gray",
        "gray-full": "jiang2017-jpeg-qf20-gray",
        "restore-gray": "jiang2017-restore-gray",
    }
    manifest = models.read_manifest()
    renamed = tuple(
        replace(row, name=names[row.name], method="jiang2017") if row.name in names else row for row in manifest.models
    )
    monkeypatch.setattr(models, "read_manifest", lambda: manifest._replace(models=renamed))
    monkeypatch.setattr(paper, "RUNS", 1)


@pytest.mark.usefixtures("named_as_in_the_paper")
def test_an_operating_point_has_a_model_of_its_own_or_the_common_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert paper.model_at(5, False) == "jiang2017-jpeg-qf5-gray" and paper.model_at(10, False) is None
    assert paper.model_at(5, True) == paper.model_at(10, True) == "jiang2017-restore-gray"
    rows = paper.models()
    more = tuple(
        replace(row, name="jiang2017-restore-qf5-gray") for row in rows if row.name == "jiang2017-restore-gray"
    )
    monkeypatch.setattr(paper, "models", lambda: (*rows, *more))
    assert paper.model_at(5, True) == "jiang2017-restore-qf5-gray"
    assert paper.model_at(10, True) == "jiang2017-restore-gray"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The seven pictures and Set5, or what stands for them."""
    for index, name in enumerate(paper.paper()["I"]["pictures"]):
        path = tmp_path / "paper7" / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(data.camera()[40 * index : 40 * index + 64, 100:164]).save(path)
    (tmp_path / "set5").mkdir()
    for index in range(2):
        Image.fromarray(data.astronaut()[60 * index : 60 * index + 64, 160:224]).save(
            tmp_path / "set5" / f"{index}.png"
        )
    return tmp_path


def study_of(folder: Path) -> Study:
    return Study(folder, Finished(), lambda row, done, total: None, 1, print)


@pytest.mark.usefixtures("named_as_in_the_paper")
def test_tables_hold_the_papers_figures_ours_and_the_difference(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_codec.install(monkeypatch)
    monkeypatch.setattr(paper, "anchors", lambda: ["jpeg", "jpeg-best", "fake"])
    monkeypatch.setattr(Study, "usable", lambda self, names: [n for n in names if n != "jpeg+bm3d"])
    (folder / "paper7" / "cameraman.mat").write_bytes(b"MATLAB 5.0")  # as such sets have it
    (folder / "set5" / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    told: list[str] = []
    study = replace(study_of(folder), leave_out=told.append)
    tables, rows = paper.redo(study).tables, study.rows
    assert len(told) == 1 and told[0].startswith("torn.png is left out: ")
    titles = [table.title for table in tables]
    assert titles[0] == "Table I: PSNR at the bytes of jpeg@5" and len(titles) == 5 + 2 + 1 + 2 + 1
    first = tables[0]
    assert list(first.head[:7]) == ["", "JPEG: paper", "ours", "difference", "BM3D: paper", "ours", "difference"]
    assert first.note.endswith("Not measured: BM3D, for want of a model or a package.")
    lines = {row[0]: row[1:] for row in first.rows}
    picture = read_picture(folder / "paper7" / "lena.png")
    ours = psnr(picture.pixels, jpegs.shown(jpegs.jpeg(picture, 5)))
    assert lines["lena"][:3] == ["27.33", f"{ours:.2f}", f"{ours - 27.33:+.2f}"]
    assert lines["lena"][3:6] == ["28.63", "-", "-"]
    assert lines["mean"][0] == "25.43" and lines["mean"][3] == "26.72" and lines["mean"][6] == "27.95"
    assert not {"", "-"} & set(lines["mean"][6:])
    second = tables[titles.index("Table II: PSNR at the bytes of jpeg@10")]
    assert "Not measured: BM3D, ComCNN, Proposed" in second.note
    beside = {row[0]: row[1:] for row in tables[4].rows}
    assert {"jpeg", "jpeg-best", "fake", "corec", "jiang2017-jpeg-qf5-gray"} <= set(beside)
    assert beside["Proposed, in the paper"] == ["-", "28.83", "0.8592", "-", "30.59", "0.8895"]
    assert beside["jiang2017-jpeg-qf5-gray"][3:] == ["-", "-", "-"]
    assert "Table III, jpeg2000: not measured" in titles and "Table IV, bpg: not measured" in titles
    sets = tables[titles.index("Table VI, JPEG: mean PSNR")]
    assert [row[0] for row in sets.rows] == ["Set5, jpeg@5", "Set5, jpeg@10"]
    assert "no folder set14" in sets.note and sets.rows[0][1] == "26.13"
    assert list(sets.head[4:]) == ["Proposed: paper", "ours", "difference", "Corec", "over the paper's Proposed"]
    corec = [row.psnr for row in rows if (row.contender, row.target) == ("corec", "jpeg@5")][-2:]
    assert sets.rows[0][7:] == [f"{fmean(corec):.2f}", f"{fmean(corec) - 29.2:+.2f}"]
    seconds = tables[titles.index("Table V: seconds")]
    assert [row[:2] for row in seconds.rows] == [
        ["BM3D", "3.40"],
        ["RecCNN", "1.50"],
        ["Proposed", "1.56"],
        ["Corec", "-"],
    ]
    assert seconds.rows[0][2] == "-" and float(seconds.rows[2][2]) > 0
    assert {id(row) for row in rows} == {id(measured.row) for measured in study.finished.rows.values()}
    assert all(0 < row.bytes <= row.allowed for row in rows)


@pytest.mark.usefixtures("named_as_in_the_paper")
def test_tables_of_a_codec_come_with_the_codec(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables III and IV, by a codec that goes by the names of both, and a Corec that has no models for it."""

    def alone(picture: Picture, size: int, codec: str, model: str | None) -> contenders.File:
        return contenders.coded(known[codec], picture, size)

    for codec, targets in (("jpeg2000", 4), ("bpg", 2)):
        fake_codec.install(monkeypatch, NAME=codec)
        known = {codec: contenders.codecs()[1]}
        for module in ("contenders", "targets"):
            monkeypatch.setattr(f"corec.evaluation.{module}.codec_named", known.__getitem__)
        monkeypatch.setattr(contenders, "compressed", alone)
        monkeypatch.setattr(contenders, "decompressed", partial(contenders.decoded, known[codec]))
        made = (paper.tables_of_jpeg2000 if codec == "jpeg2000" else paper.tables_of_bpg)(study_of(folder))
        assert len(made) == (2 if codec == "jpeg2000" else 3)
        pictures = 6 if codec == "jpeg2000" else 7
        for table in made:
            assert len(table.rows) == targets * (pictures + 1) and "Not measured: Proposed" in table.note
            assert list(table.head[4:]) == [
                "Proposed: paper",
                "ours",
                "difference",
                "Corec",
                "over the paper's Proposed",
            ]
            for row in table.rows:
                assert row[4] != "-" and row[5:7] == ["-", "-"]
                told, plain, ours, over = (cell.replace(",", "") for cell in (row[4], row[2], row[7], row[8]))
                assert ours == plain and (
                    ours == "-" or float(over) == pytest.approx(float(ours) - float(told), abs=0.011)
                )
        if codec == "bpg":
            assert all(float(row[2].replace(",", "")) <= float(row[1].replace(",", "")) for row in made[0].rows)
        first = made[0].rows[0]
        assert first[:2] == (["butterfly, 0.1 bpp", "18.92"] if codec == "jpeg2000" else ["cameraman, QP 47", "752"])


def test_a_report_of_the_tables_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Table("Table I", ["", "JPEG: paper"], [["lena", "27.33"]])
    rows = [Row("lena.png", "jpeg", "jpeg@5", 8, 8, 100), Row("lena.png", "corec", "jpeg@5", 8, 8, 100, 99, 30.0)]

    def redo(study: Study) -> Redone:
        study.rows += rows
        return Redone([made], {"curves.png": b"a plot"})

    monkeypatch.setattr(paper, "redo", redo)
    output = tmp_path / "report"
    assert cli.main(["evaluate", str(tmp_path), "--paper", "jiang2017", "-o", str(output)]) == 0
    assert (output / "results.md").read_text() == capsys.readouterr().out
    told = json.loads((output / "results.json").read_text())
    assert told["tables"][0]["rows"] == [["lena", "27.33"]]
    assert [row["psnr"] for row in told["rows"]] == [None, 30.0]
    assert (output / "curves.png").read_bytes() == b"a plot"


def test_a_folder_without_the_pictures_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(FileError, match="no folder paper7"):
        paper.redo(study_of(tmp_path))
    assert cli.main(["evaluate", str(tmp_path), "--paper", "nobody2020"]) == 1
    assert "there are: jiang2017, zhao2017, zhao2018, balle2017" in capsys.readouterr().err
    assert math.isnan(paper.figure_of({}, "lena", paper.target("jpeg@5"), None, "psnr"))
