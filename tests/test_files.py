"""Files of a command: what is read and left out, what is written, and that nothing is lost; without networks."""

import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Run
from PIL import Image
from tiny import files, look, photo

from corec import cli, pipeline
from corec.errors import CodecError
from corec.picture import Picture
from corec.pipeline import Compressed

pytestmark = pytest.mark.usefixtures("quick")
KEYS = ["source", "output", "bytes", "bpp", "model", "codec", "setting", "runs", "width", "height", "seconds"]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipeline without networks, for what does not depend on them. It fails for pictures that are 13 wide."""

    def compress_picture(picture: Picture, *, progress: Any = None, **wishes: Any) -> Compressed:
        if picture.width == 13:
            raise CodecError("thirteen")
        file = io.BytesIO()
        Image.fromarray(picture.pixels).save(file, "JPEG")
        progress(0.5)
        return Compressed(file.getvalue(), "none", "jpeg", 20.0, 1, picture.width, picture.height)

    def decompress_picture(data: bytes, progress: Any = None) -> Picture:
        return Picture(np.array(Image.open(io.BytesIO(data))))

    def describe(data: bytes) -> dict[str, Any]:
        width, height = Image.open(io.BytesIO(data)).size
        bpp = 8 * len(data) / width / height
        return {"bytes": len(data), "bpp": bpp, "model": "none", "codec": "jpeg", "width": width, "height": height}

    monkeypatch.setattr(pipeline, "compress_picture", compress_picture)
    monkeypatch.setattr(pipeline, "decompress_picture", decompress_picture)
    monkeypatch.setattr(pipeline, "describe", describe)


def test_one_file(run: Run) -> None:
    photo(Path("a.png"))
    status, out, err = run("compress", "a.png", "-o", "b.jpg")
    assert (status, len(out), err) == (0, 1, [])
    assert "b.jpg" in out[0]
    assert files() == {"a.png", "b.jpg"}
    assert look("b.jpg") == ("JPEG", "RGB", (48, 40))


@pytest.mark.parametrize("destination", ["there", "new/", "new/deeper/"])
def test_into_a_folder(run: Run, destination: str) -> None:
    Path("there").mkdir()
    photo(Path("some/a.b.PNG"))
    photo(Path("some/no-ending.png")).rename("some/v1.2")
    assert run("compress", "some/a.b.PNG", "-o", destination)[0] == 0
    assert run("compress", "some/v1.2", "-o", destination)[0] == 0
    assert files(Path(destination)) == {"a.b.jpg", "v1.2.jpg"}


def test_a_folder_keeps_its_tree(run: Run) -> None:
    for name in ("p/a.png", "p/x/b.webp", "p/x/y/c.tif", "p/.hidden/d.png", "p/.e.png"):
        photo(Path(name))
    Path("p/notes.txt").write_text("none")
    for force in ([], ["--force"]):  # the second call must not take the first one's files for sources
        status, out, err = run("compress", "p", "-o", "p/small", *force)
        assert (status, len(out)) == (0, 3)
        assert err == ["corec: 1 file in folders is left out by their endings: .txt"]
        assert files(Path("p/small")) == {"a.jpg", "x/b.jpg", "x/y/c.jpg"}
    status, out, err = run("decompress", "p/small", "-o", "back")
    assert (status, len(out), err) == (0, 3, [])
    assert files(Path("back")) == {"a.png", "x/b.png", "x/y/c.png"}


def test_an_empty_destination_is_not_the_folder_one_is_in(run: Run) -> None:
    photo(Path("a.png"))
    photo(Path("b.png"))
    for command in ("compress", "decompress", "restore"):
        status, out, err = run(command, "a.png", "b.png", "-o", "")
        assert (status, out) == (2, []) and "the name is empty" in err[0]
    assert files() == {"a.png", "b.png"}


def test_an_empty_name_is_not_the_folder_one_is_in(run: Run) -> None:
    photo(Path("a.png"))
    status, out, err = run("compress", "", "-o", "q/")
    assert (status, out) == (2, []) and "the name is empty" in err[0]
    assert run("info", "")[0] == 2
    assert files() == {"a.png"}


def test_an_empty_folder_is_an_error(run: Run) -> None:
    Path("p").mkdir()
    status, out, err = run("compress", "p", "-o", "q")
    assert (status, out, len(err)) == (1, [], 1)
    assert not Path("q").exists()


def test_a_folder_that_cannot_be_read_leaves_the_others_be(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("p").mkdir()
    photo(Path("a.png"))
    listed = os.scandir

    def scandir(path: Any) -> Any:
        if str(path) == "p":
            raise PermissionError(13, "Permission denied", "p")
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    status, out, err = run("compress", "p", "a.png", "-o", "q")
    assert (status, len(out), err) == (1, 1, ["corec: p: cannot be read: Permission denied"])
    for command in (("evaluate", "p", "-o", "r"), ("train", "joint-jpeg-half-gray", "--data", "p", "-o", "r")):
        assert run(*command) == (1, [], ["corec: p cannot be read: Permission denied"])


def test_an_empty_folder_leaves_the_others_be(run: Run) -> None:
    Path("p").mkdir()
    photo(Path("a.png"))
    status, out, err = run("compress", "p", "a.png", "-o", "q")
    assert (status, len(out), files(Path("q"))) == (1, 1, {"a.jpg"})
    assert len(err) == 1 and err[0].startswith("corec: p: the folder has no file that ends in .avif, ")


def test_the_second_of_two_sources_for_one_target_is_left_out(run: Run) -> None:
    for name in ("p/a.png", "r/a.png", "r/b.png"):
        photo(Path(name))
    for force in ([], ["--force"]):
        status, out, err = run("compress", "p/a.png", "r/a.png", "r/b.png", "r/b.png", "-o", "q", *force)
        assert (status, len(out), len(err)) == (1, 2, 1)
        assert files(Path("q")) == {"a.jpg", "b.jpg"}
        assert err[0].startswith("corec: r/a.png: p/a.png has become q/a.jpg already")


def test_sources_of_one_name_keep_their_endings(run: Run) -> None:
    for name in ("p/a.bmp", "p/a.png", "p/b.png", "p/r/a.tif"):
        photo(Path(name))
    Path("p/c.png").symlink_to("b.png")
    how = "--quality", "20", "--effort", "0"
    status, out, err = run("compress", "p", "p/a.bmp", "-o", "q", *how)
    assert (status, len(out), err) == (0, 5, [])
    made = {"a.bmp.jpg", "a.png.jpg", "b.jpg", "c.jpg", "r/a.jpg"}
    assert files(Path("q")) == made
    assert run("compress", "p", "p/a.bmp", "-o", "q", *how, "--skip-existing")[:2] == (0, [])
    # Into the sources' own folder a second call finds what the first has written.
    assert run("compress", "p", "-o", "p", *how)[0] == 0
    status, out, err = run("compress", "p", "-o", "p", *how)
    assert (status, out, files(Path("p"))) == (1, [], made | {"a.bmp", "a.png", "b.png", "c.png", "r/a.tif"})


def test_a_source_that_fails_leaves_its_target_to_another(run: Run) -> None:
    Path("p").mkdir()
    Path("p/a.gif").write_bytes(b"no picture")
    photo(Path("p/a.png"))
    status, out, err = run("compress", "p", "-o", "q")
    assert (status, len(out), len(err)) == (1, 1, 1)
    assert "p/a.gif" in err[0] and files(Path("q")) == {"a.png.jpg"}


def test_what_another_call_has_written_meanwhile_may_be_left_out(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    photo(Path("p/a.png"))
    code = pipeline.compress_picture

    def slow(*facts: Any, **wishes: Any) -> Compressed:
        Path("q").mkdir(exist_ok=True)
        Path("q/a.jpg").write_text("precious")
        return code(*facts, **wishes)

    monkeypatch.setattr(pipeline, "compress_picture", slow)
    assert run("compress", "p", "-o", "q", "--skip-existing") == (0, [], ["corec: 1 file was there already"])
    assert Path("q/a.jpg").read_text() == "precious" and files(Path("q")) == {"a.jpg"}


def test_where_all_is_there_a_folder_need_not_be_written_to(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    photo(Path("p/a.png"))
    photo(Path("q/a.jpg"))
    monkeypatch.setattr(os, "access", lambda path, how: False)
    assert run("compress", "p", "-o", "q", "--skip-existing") == (0, [], ["corec: 1 file was there already"])


def test_what_appears_meanwhile_is_kept(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    photo(Path("a.png"))
    code = pipeline.compress_picture

    def slow(*facts: Any, **wishes: Any) -> Compressed:
        Path("b.jpg").write_text("precious")
        return code(*facts, **wishes)

    monkeypatch.setattr(pipeline, "compress_picture", slow)
    for linked in (True, False):
        if not linked:
            monkeypatch.setattr(os, "link", lambda *names: (_ for _ in ()).throw(PermissionError("no links")))
        status, out, err = run("compress", "a.png", "-o", "b.jpg")
        assert (status, out, err) == (1, [], ["corec: a.png: b.jpg exists; --force overwrites it"])
        assert Path("b.jpg").read_text() == "precious" and files() == {"a.png", "b.jpg"}
        Path("b.jpg").unlink()
    assert run("compress", "a.png", "-o", "b.jpg", "--force")[0] == 0


@pytest.mark.skipif(os.name != "posix", reason="needs named pipes")
def test_a_pipe_in_a_folder_is_not_waited_for(run: Run) -> None:
    photo(Path("p/a.png"))
    os.mkfifo("p/b.png")
    status, out, err = run("compress", "p", "-o", "q")
    assert (status, len(out), err) == (0, 1, [])


@pytest.mark.parametrize("command", ["compress", "decompress"])
def test_an_ending_is_no_name(run: Run, command: str) -> None:
    photo(Path("a.png"))
    status, out, err = run(command, "a.png", "-o", ".png" if command == "decompress" else ".jpg")
    assert (status, out) == (2, []) and "no name before its ending" in err[-1]


def test_files_left_out_are_counted_once(run: Run) -> None:
    photo(Path("p/q/a.png"))
    for name in ("p/q/b.txt", "p/c.txt"):
        Path(name).write_text("none")
    err = run("compress", "p", "p/q", "-o", "r")[2]
    assert err == ["corec: 2 files in folders are left out by their endings: .txt"]


def test_several_sources_need_a_folder(run: Run) -> None:
    photo(Path("a.png"))
    photo(Path("b.png"))
    Path("c").write_text("a file")
    assert run("compress", "a.png", "b.png", "-o", "c")[0] == 1
    for suffixes in pipeline.endings().values():
        for suffix in suffixes:
            status, out, err = run("compress", "a.png", "b.png", "-o", f"c{suffix}")
            assert (status, out) == (1, []) and f"write c{suffix}/ if it is none" in err[0]
    assert files() == {"a.png", "b.png", "c"}


def test_where_nothing_can_be_written_nothing_is_begun(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "compress_picture", None)  # must not be called
    photo(Path("a.png"))
    status, out, err = run("compress", "a.png", "-o", "a.png/x/b.jpg")
    assert (status, out) == (1, []) and err[0].endswith("a.png is no folder")
    Path("closed").mkdir()
    monkeypatch.setattr(os, "access", lambda path, how: not str(path).endswith("closed"))
    status, out, err = run("compress", "a.png", "-o", "closed/new/")
    assert (status, out) == (1, []) and err[0].endswith("closed may not be written to")
    assert files() == {"a.png"}


def test_what_exists_is_kept_unless_forced(run: Run) -> None:
    photo(Path("a.png"))
    Path("a.jpg").write_bytes(b"precious")
    status, out, err = run("compress", "a.png", "-o", "a.jpg")
    assert (status, out, len(err)) == (1, [], 1)
    assert Path("a.jpg").read_bytes() == b"precious"
    assert run("compress", "a.png", "-o", "a.jpg", "--force")[0] == 0
    assert look("a.jpg")[2] == (48, 40)


def test_a_source_is_never_a_target(run: Run) -> None:
    kept = photo(Path("a.jpg")).read_bytes()
    Path("link.jpg").symlink_to("a.jpg")
    assert run("compress", "a.jpg", "-o", "a.jpg", "--force")[0] == 1
    assert run("compress", "a.jpg", "-o", "link.jpg", "--force")[0] == 1
    assert run("compress", "a.jpg", "-o", ".", "--force")[0] == 1
    assert Path("a.jpg").read_bytes() == kept


def test_nor_by_another_name(run: Run) -> None:
    for name in ("p/a.png", "p/b.png", "q/a.jpg"):
        photo(Path(name))
    kept = Path("q/a.jpg").read_bytes()
    os.link("q/a.jpg", "q/A.jpg")  # as where names may differ in capitals
    assert run("compress", "q/a.jpg", "-o", "q/A.jpg", "--force")[0] == 1
    assert Path("q/A.jpg").read_bytes() == kept
    Path("q/b.jpg").symlink_to("a.jpg")
    status, out, err = run("compress", "p", "-o", "q", "--force")
    assert (status, len(out)) == (1, 1) and err[0].startswith("corec: p/b.png: p/a.png has become q/b.jpg already")


@pytest.mark.skipif(os.name != "posix", reason="needs permissions")
def test_what_is_replaced_keeps_its_permissions(run: Run) -> None:
    photo(Path("a.png"))
    photo(Path("a.jpg")).chmod(0o600)
    assert run("compress", "a.png", "-o", "a.jpg", "--force")[0] == 0
    assert look("a.jpg")[0] == "JPEG" and Path("a.jpg").stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(not os.path.exists("/dev/null"), reason="needs a device file")
def test_a_device_is_not_replaced(run: Run) -> None:
    photo(Path("a.png"))
    Path("null.jpg").symlink_to("/dev/null")
    assert run("compress", "a.png", "-o", "null.jpg", "--force")[0] == 1
    assert not Path("/dev/null").is_file()


def test_a_link_is_written_through(run: Run) -> None:
    photo(Path("a.png"))
    Path("far").mkdir()
    Path("b.jpg").symlink_to("far/b.jpg")
    assert run("compress", "a.png", "-o", "b.jpg")[0] == 0
    assert Path("b.jpg").is_symlink() and files(Path("far")) == {"b.jpg"}


def test_a_failure_costs_its_own_file_only(run: Run) -> None:
    photo(Path("p/a.png"))
    photo(Path("p/b.png"), width=13)
    Path("p/c.png").write_bytes(b"not a picture")
    photo(Path("p/d.png"))
    Path("q").mkdir()
    Path("q/b.jpg").write_bytes(b"precious")
    status, out, err = run("compress", "p", "missing.png", "-o", "q", "--force")
    assert (status, len(out), len(err)) == (1, 2, 3)
    for name, line in zip(["p/b.png", "p/c.png", "missing.png"], err, strict=True):
        assert line.startswith(f"corec: {name}") and line.count(name) == 1
    assert files(Path("q")) == {"a.jpg", "b.jpg", "d.jpg"}
    assert Path("q/b.jpg").read_bytes() == b"precious"


def test_nor_does_an_error_that_nobody_foresaw(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    photo(Path("p/a.png"))
    photo(Path("p/b.png"))
    working = pipeline.compress_picture
    answers = iter([lambda *given, **wishes: 1 // 0, working])
    monkeypatch.setattr(pipeline, "compress_picture", lambda *given, **wishes: next(answers)(*given, **wishes))
    status, out, err = run("compress", "p", "-o", "q")
    assert (status, len(out), files(Path("q"))) == (1, 1, {"b.jpg"})
    assert err == ["corec: p/a.png: an error of Corec's own, ZeroDivisionError: integer division or modulo by zero"]


def test_an_error_that_begins_like_a_name_has_the_name_too(run: Run) -> None:
    photo(Path("a.png"), width=13).rename("th")
    assert run("compress", "th", "-o", "b.jpg")[2] == ["corec: th: thirteen"]


def test_a_name_of_two_lines_is_told_in_one(run: Run) -> None:
    photo(Path("p/a\nb.png"))
    photo(Path("p/c\nd.png"), width=13)
    status, out, err = run("compress", "p", "-o", "q")
    assert (status, len(out), len(err)) == (1, 1, 1)
    assert out[0].startswith("q/a b.jpg ") and err[0].startswith("corec: p/c d.png: ")


@pytest.mark.parametrize(
    ("error", "expected"), [(OSError(28, "No space left"), 1), (MemoryError(), 1), (KeyboardInterrupt(), 130)]
)
def test_a_stop_while_writing_leaves_nothing(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: BaseException, expected: int
) -> None:
    def write_half(picture: Picture, path: Path) -> None:
        path.write_bytes(b"half")
        raise error

    monkeypatch.setattr(cli, "write_picture", write_half)
    photo(Path("a.jpg"))
    Path("b.png").write_bytes(b"precious")
    assert run("decompress", "a.jpg", "-o", "c.png")[:2] == (expected, [])
    assert run("decompress", "a.jpg", "-o", "b.png", "--force")[:2] == (expected, [])
    assert files() == {"a.jpg", "b.png"}
    assert Path("b.png").read_bytes() == b"precious"


def test_an_unknown_picture_format_leaves_nothing(run: Run) -> None:
    photo(Path("a.jpg"))
    status, out, err = run("decompress", "a.jpg", "-o", "b.nonsense")
    assert (status, out, len(err)) == (2, [], 1)
    assert "png" in err[0] and files() == {"a.jpg"}


@pytest.mark.parametrize(("name", "kind"), [("b.png", "PNG"), ("b.BMP", "BMP"), ("b.tiff", "TIFF")])
def test_the_target_names_the_picture_format(run: Run, name: str, kind: str) -> None:
    photo(Path("a.jpg"))
    assert run("decompress", "a.jpg", "-o", name)[0] == 0
    assert look(name) == (kind, "RGB", (48, 40))


def test_json(run: Run) -> None:
    photo(Path("p/a.png"))
    photo(Path("p/b.png"), 30, 20)
    status, out, err = run("compress", "p", "-o", "q", "--json")
    rows = [json.loads(line) for line in out]
    assert (status, err) == (0, [])
    assert [list(row) for row in rows] == [KEYS, KEYS]
    assert [Path(row["output"]) for row in rows] == [Path("q/a.jpg"), Path("q/b.jpg")]
    assert rows[1]["bytes"] == Path("q/b.jpg").stat().st_size
    assert rows[1]["bpp"] == pytest.approx(8 * rows[1]["bytes"] / 600)
    out = run("decompress", "q", "-o", "r", "--json")[1]
    assert [list(json.loads(line)) for line in out] == [[key for key in KEYS if key not in ("setting", "runs")]] * 2


def test_what_a_picture_was_read_from_is_told_as_that(run: Run) -> None:
    size = photo(Path("a.jpg")).stat().st_size
    assert f"b.png  from {size:,} bytes  " in run("decompress", "a.jpg", "-o", "b.png")[1][0]
