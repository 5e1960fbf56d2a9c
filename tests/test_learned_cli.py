"""The learned codec on the command line: files go out and come back, by suffix, by codec, by model."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import picture
from tiny_learned import tiny_zoo

from corec.cli import main


@pytest.fixture(scope="module", autouse=True)
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with tiny_zoo(tmp_path_factory.mktemp("zoo")) as folder:
        yield folder


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, gray in (("gray", True), ("color", False)):
        Image.fromarray(picture(40, 50, gray).pixels).save(f"{name}.png")
    return tmp_path


def told(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_suffix_asks_for_the_codec_and_the_way_back_knows_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compress", "color.png", "-o", "a.corec", "--bytes", "400", "--json"]) == 0
    (facts,) = told(capsys)
    assert Path("a.corec").read_bytes()[:4] == b"Cor\x81"
    assert facts["bytes"] == Path("a.corec").stat().st_size <= 400
    assert (facts["codec"], facts["model"], facts["width"], facts["height"]) == ("learned", "plain-color", 50, 40)
    assert main(["decompress", "a.corec", "-o", "b.png", "--json"]) == 0
    (facts,) = told(capsys)
    assert (facts["codec"], facts["model"]) == ("learned", "plain-color")
    with Image.open("b.png") as image:
        assert (image.size, image.mode) == ((50, 40), "RGB")


def test_a_codec_and_a_model_ask_for_it_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compress", "color.png", "gray.png", "-o", "out/", "--codec", "learned", "--quality", "0"]) == 0
    assert main(["compress", "gray.png", "-o", "other/", "--model", "context-gray"]) == 0
    assert main(["decompress", "out", "other", "-o", "back/"]) == 1, "two would become back/gray.png"
    assert sorted(p.as_posix() for p in Path().rglob("*.corec")) == [
        "other/gray.corec",
        "out/color.corec",
        "out/gray.corec",
    ]
    assert sorted(p.name for p in Path("back").iterdir()) == ["color.png", "gray.png"]
    assert main(["info", "other/gray.corec"]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()[-9:])
    assert (lines["codec"], lines["model"], lines["level"], lines["width"]) == ("learned", "context-gray", "4", "50")


def test_a_wrong_suffix_or_codec_is_a_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compress", "gray.png", "-o", "a.jpg", "--codec", "learned"]) == 2
    assert "DST must end in .corec (a folder in /), and is a.jpg" in capsys.readouterr().err
    assert main(["compress", "gray.png", "-o", "a.jpg", "--codec", "learnt"]) == 2
    assert "no codec 'learnt'; there are: jpeg" in capsys.readouterr().err


def test_the_learned_models_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in ("plain-gray", "context-color", "learned"))
    assert main(["models", "--json"]) == 0
    rows = told(capsys)
    assert [row["number"] for row in rows] == [20, 21, 22, 23]
    assert {row["codec"] for row in rows} == {"learned"}


def test_transparent_pixels_need_a_background_here_too(capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(np.full((20, 20, 4), 100, np.uint8)).save("clear.png")
    assert main(["compress", "clear.png", "-o", "a.corec"]) == 1
    assert "--background" in capsys.readouterr().err
    assert main(["compress", "clear.png", "-o", "a.corec", "--background", "white"]) == 0


def test_a_damaged_file_is_one_line_and_leaves_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compress", "gray.png", "-o", "a.corec"]) == 0
    data = Path("a.corec").read_bytes()
    Path("a.corec").write_bytes(data[:-1])
    capsys.readouterr()
    assert main(["decompress", "a.corec", "-o", "b.png"]) == 1
    assert capsys.readouterr().err.startswith("corec: a.corec: the file is damaged: it ends too early")
    assert not Path("b.png").exists()
