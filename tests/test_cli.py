"""The commands, as a shell sees them: files, lines, exit status. What is in the files is tested elsewhere."""

import json
import os
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from conftest import Run
from PIL import Image
from tiny import files, look, photo

from corec.errors import CorecError
from corec.listing import FRACTIONS
from corec.models import learned, models


@pytest.mark.parametrize(
    "arguments",
    [
        ["compress"],
        ["compress", "a.png"],
        ["nonsense"],
        ["compress", "a.png", "-o", "b.jpg", "--bpp", "1", "--bytes", "100"],
        ["compress", "a.png", "-o", "b.jpg", "--quality", "1", "--bpp", "1"],
        ["compress", "a.png", "-o", "b.jpg", "--quality", "101"],
        ["compress", "a.png", "-o", "b.jpg", "--bytes", "0"],
        ["compress", "a.png", "-o", "b.jpg", "--nonsense"],
        ["compress", "a.png", "-o", "b.png"],
        ["compress", "a.png", "-o", "b"],
        ["compress", "a.png", "-o", "b.png", "--codec", "jpeg"],
    ],
)
def test_wrong_usage_is_one_line_and_status_2(run: Run, arguments: list[str]) -> None:
    photo(Path("a.png"))
    status, out, err = run(*arguments)
    assert (status, out, len(err)) == (2, [], 1)
    assert files() == {"a.png"}


@pytest.mark.parametrize("data", [b"", b"not a picture", b"\xff\xd8\xff\xe0"])
def test_a_file_that_is_not_ours_is_one_line_and_status_1(run: Run, data: bytes) -> None:
    Path("a.jpg").write_bytes(data)
    for command in (["info", "a.jpg"], ["decompress", "a.jpg", "-o", "b.png"], ["info", "missing.jpg"]):
        status, out, err = run(*command)
        assert (status, out, len(err)) == (1, [], 1)
        assert command[1] in err[0]
    assert files() == {"a.jpg"}


def test_a_file_of_ours_is_no_picture_to_compress(run: Run) -> None:
    photo(Path("a.png"))
    assert run("compress", "a.png", "-o", "a.jpg", "--quality", "20")[0] == 0
    photo(Path("b.jpg"))
    Path("c.png").write_bytes(Path("a.jpg").read_bytes())
    for name, expected in (("a.jpg", 1), ("b.jpg", 0), ("c.png", 1)):
        status, _, err = run("compress", name, "-o", f"{name}.webp")
        assert status == expected
        assert not expected or err == [f"corec: {name}: the file was written by Corec: decompress gives its picture"]
    assert files() == {"a.png", "a.jpg", "b.jpg", "b.jpg.webp", "c.png"}


def test_paths_that_cannot_be_leave_the_others_be(run: Run) -> None:
    long = "n" * 300
    photo(Path("p/a.png"))
    status, out, err = run("compress", f"{long}/x.png", "p/a.png", "-o", "q/")
    assert status == 1 and len(out) == len(err) == 1 and files(Path("q")) == {"a.jpg"}
    status, out, err = run("compress", "p/a.png", "-o", f"{long}.jpg")
    assert (status, out, len(err)) == (1, [], 1) and "too long" in err[0]


def test_a_folder_that_cannot_be_looked_into_is_told_of(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    photo(Path("p/a.png"))
    photo(Path("p/closed/b.png"))
    real = os.scandir

    def scandir(path: Any) -> Any:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    status, out, err = run("compress", "p", "-o", "q")
    assert status == 1 and len(out) == len(err) == 1 and "closed" in err[0]
    assert files(Path("q")) == {"a.jpg"}


def test_an_unknown_model_or_codec_is_said_once(run: Run) -> None:
    photo(Path("p/a.png"))
    photo(Path("p/b.png"))
    unknown = (["--model", "nonsense"], 1), (["--codec", "nonsense"], 2)
    for wish, expected in (*unknown, (["--bpp", "0"], 2), (["--bpp", "inf"], 2)):
        status, out, err = run("compress", "p", "-o", "q", *wish)
        assert (status, out, len(err)) == (expected, [], 1)


@pytest.mark.skipif(os.name != "posix", reason="needs a pipe")
def test_a_picture_may_come_out_of_a_pipe_and_a_file_of_ours_may_not(run: Run) -> None:
    photo(Path("a.png"))
    assert run("compress", "a.png", "-o", "a.jpg", "--quality", "20", "--effort", "0")[0] == 0
    os.mkfifo("pipe")
    for name, expected in (("a.png", 0), ("a.jpg", 1)):
        feeder = Thread(target=lambda name=name: Path("pipe").write_bytes(Path(name).read_bytes()))
        feeder.start()
        status, out, err = run("compress", "pipe", "-o", f"{name}.webp")
        feeder.join()
        assert (status, len(out), len(err)) == (expected, 1 - expected, expected)
    assert "was written by Corec" in err[0]


def test_a_file_that_may_not_be_read_costs_itself_alone(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    photo(Path("secret.png"))
    photo(Path("a.png"))
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, *how: "secret" not in str(path) and real(path, *how))
    status, out, _ = run("compress", "secret.png", "a.png", "-o", "q/", "--effort", "0")
    assert (status, len(out)) == (0, 2)  # whether it can be read is found out by reading


def test_there_and_back(run: Run) -> None:
    for mode in ("RGB", "L"):
        photo(Path("a.png"), 97, 65, mode)
        status, out, err = run("compress", "a.png", "-o", "a.jpg", "--bytes", "1500", "--json", "--force")
        assert (status, err) == (0, [])
        row = json.loads(out[0])
        assert row["bytes"] == Path("a.jpg").stat().st_size <= 1500
        told = json.loads(run("info", "a.jpg", "--json")[1][0])
        assert {key: told[key] for key in ("model", "codec", "bytes", "width", "height")} == {
            key: row[key] for key in ("model", "codec", "bytes", "width", "height")
        }
        shown = [line.split() for line in run("info", "a.jpg")[1]]
        assert shown[0] == ["codec", "jpeg"] and ["scale", FRACTIONS[told["scale"]]] in shown
        assert run("decompress", "a.jpg", "-o", "b.png", "--force")[0] == 0
        with Image.open("a.png") as one, Image.open("b.png") as other:
            assert (one.mode, one.size) == (other.mode, other.size)
            assert np.abs(np.array(one, float) - np.array(other, float)).mean() < 12


def test_what_is_there_may_be_left_out(run: Run) -> None:
    photo(Path("a.png"))
    photo(Path("b.png"))
    how = "-o", "q/", "--quality", "20", "--effort", "0"
    assert run("compress", "a.png", *how)[0] == 0
    Path("q/a.jpg").write_bytes(b"mine")
    status, out, err = run("compress", "a.png", "b.png", *how, "--skip-existing")
    assert (status, len(out), err) == (0, 1, ["corec: 1 file was there already"])
    assert out[0].startswith("q/b.jpg") and Path("q/a.jpg").read_bytes() == b"mine"
    for command, wanted in (("compress", "q/a.jpg"), ("decompress", "b.png"), ("restore", "b.png")):
        status, out, err = run(command, "a.png", "-o", wanted, "--skip-existing")
        assert (status, out, err) == (0, [], ["corec: 1 file was there already"])
    assert "is itself a source" in run("decompress", "a.png", "-o", "a.png", "--skip-existing")[2][0]
    photo(Path("p/b.png"))  # another picture, for the same file
    status, out, err = run("compress", "b.png", "p/b.png", *how, "--skip-existing")
    assert (status, out, len(err)) == (1, [], 2) and "b.png has become q/b.jpg already" in err[0]
    assert run("compress", "a.png", *how, "--skip-existing", "--force")[0] == 2


def test_ctrl_c_while_a_library_is_being_loaded_ends_all(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def loading(*of: object, **how: object) -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as stop:
            raise ImportError("initialization failed") from stop

    photo(Path("a.png"))
    photo(Path("b.png"))
    monkeypatch.setattr("corec.pipeline.compress_picture", loading)
    assert run("compress", "a.png", "b.png", "-o", "q/")[0] == 130


def test_gray_drops_the_colours(run: Run) -> None:
    photo(Path("a.png"))
    assert run("compress", "a.png", "-o", "a.jpg", "--gray")[0] == 0
    assert look("a.jpg")[1] == "L"


def test_too_few_bytes_are_one_line(run: Run) -> None:
    photo(Path("a.png"))
    status, out, err = run("compress", "a.png", "-o", "a.jpg", "--bytes", "20")
    assert (status, out, len(err)) == (1, [], 1)
    assert "smallest" in err[0] and files() == {"a.png"}


def test_names_of_models_are_whole_on_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    shown = "\n".join(run("models")[1])
    assert all(model.name in shown for model in models())


def test_models(run: Run) -> None:
    names = [model.name for model in (*models(), *learned())]
    assert [line.split()[0] for line in run("models")[1][1:]] == names
    assert [json.loads(line)["name"] for line in run("models", "--json")[1]] == names


def test_demo(run: Run) -> None:
    pytest.importorskip("skimage")
    status, out, err = run("demo", "-o", "demo")
    assert (status, err) == (0, [])
    plain, ours = (line.split() for line in out[1:3])
    assert int(ours[1].replace(",", "")) <= int(plain[2].replace(",", "")) <= 0.2 * 512 * 512 / 8
    assert float(ours[3]) > float(plain[4]) + 1
    assert files(Path("demo")) == {"photo.png", "photo.jpg", "restored.png", "comparison.png"}
    assert run("demo", "-o", "demo")[0] == 1
    status, out, err = run("demo", "-o", "fine", "--bpp", "9")
    assert (status, out, len(err)) == (1, [], 1) and "ask for fewer" in err[0]
    status, out, err = run("demo", "-o", "fine", "--bpp", "0.00001")
    assert (status, out, len(err)) == (1, [], 1) and "ask for more" in err[0]
    assert not Path("fine").exists()
    assert [run("demo", "-o", "fine", "--bpp", bpp)[0] for bpp in ("0", "inf", "nan")] == [2, 2, 2]


def test_a_line_tells_names_as_they_are() -> None:
    name = "Screenshot\u202fat  3.png"
    assert str(CorecError(f"{name}: first\n  second\n")) == f"{name}: first second"
