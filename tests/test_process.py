"""The command in a process of its own: what it says where, with what missing, and what ends it."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tiny import photo

from corec import cli


def shell(*arguments: str, before: str = "", **options: Any) -> subprocess.CompletedProcess[bytes]:
    """The command in a process of its own."""
    program = f"import sys\n{before}\nfrom corec.cli import main\nsys.exit(main(sys.argv[1:]))"
    return subprocess.run([sys.executable, "-c", program, *arguments], check=False, **options)


def test_version_and_help() -> None:
    done = subprocess.run([sys.executable, "-m", "corec", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"corec {cli.__version__}\n"
    done = subprocess.run([sys.executable, "-m", "corec"], capture_output=True, text=True, check=True)
    for command in ("compress", "decompress", "info", "models", "demo", "train", "export"):
        assert f"  {command} " in done.stdout


@pytest.mark.parametrize(
    ("missing", "command", "name"),
    [
        ("skimage", ["demo", "-o", "demo"], "corec[demo]"),
        ("torch", ["train", "joint-jpeg-half-gray", "--data", ".", "-o", "run"], "corec[train]"),
        ("torch", ["export", "run", "--name", "x"], "corec[train]"),
    ],
)
def test_a_missing_extra_is_named(tmp_path: Path, missing: str, command: list[str], name: str) -> None:
    done = shell(*command, before=f"sys.modules['{missing}'] = None", cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert name in done.stderr and done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name != "posix", reason="needs a terminal")
def test_on_a_terminal_lines_stand_above_the_bar(tmp_path: Path) -> None:
    pty = pytest.importorskip("pty")
    for name in ("a.png", "b.png"):
        photo(tmp_path / name)
    Path(tmp_path / "c.png").write_bytes(b"no picture")
    controller, terminal = pty.openpty()
    arguments = ["compress", *(f"{name}.png" for name in "acb"), "-o", "q", "--effort", "0"]
    program = [sys.executable, "-m", "corec", *arguments]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "60"}
    done = subprocess.Popen(program, cwd=tmp_path, stdout=terminal, stderr=terminal, env=environment)
    os.close(terminal)
    shown = b""
    with suppress(OSError):  # at its end
        while part := os.read(controller, 1 << 16):
            shown += part
    os.close(controller)
    assert done.wait() == 1
    # What a terminal shows: the bar goes back to its line's beginning and clears the line.
    lines = [line.rpartition("\x1b[2K")[2].strip("\r") for line in shown.decode().split("\n")]
    begun = [line.split()[0] for line in lines if line.startswith(("q/", "corec:"))]
    assert begun == ["q/a.jpg", "corec:", "q/b.jpg"]


@pytest.mark.skipif(os.name != "posix", reason="needs a pipe that can be closed")
def test_a_closed_pipe_is_no_drama() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = shell("--help", stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("arguments", [["--version"], ["compress", "a.png", "-o", "a.jpg", "--effort", "0"]])
def test_output_that_cannot_be_written_is_one_line(arguments: list[str], tmp_path: Path) -> None:
    photo(tmp_path / "a.png")
    with open("/dev/full", "wb") as full:
        done = shell(*arguments, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1 and done.stderr.startswith(b"corec: ") and done.stderr.count(b"\n") == 1


def test_there_need_be_no_streams(tmp_path: Path) -> None:
    photo(tmp_path / "a.png")
    for stream in ("stdout", "stderr"):
        arguments = "compress", "a.png", "-o", f"{stream}.jpg", "--effort", "0"
        done = shell(*arguments, before=f"sys.{stream} = None", cwd=tmp_path, capture_output=True)
        assert done.returncode == 0 and (tmp_path / f"{stream}.jpg").exists()
    assert shell("models", before="sys.stdout = None").returncode == 0


@pytest.mark.skipif(os.name != "posix", reason="needs a file descriptor that can be closed")
def test_there_need_be_no_output() -> None:
    done = shell("--version", before="import os; os.close(1); sys.stdout = None", stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_nothing_half_written(number: signal.Signals, tmp_path: Path) -> None:
    photo(tmp_path / "a.png")
    assert shell("compress", "a.png", "-o", "a.jpg", "--effort", "0", cwd=tmp_path).returncode == 0
    # Under nohup a signal is ignored from the beginning.
    before = f"import os, signal; from corec import cli; signal.signal({int(number)}, signal.SIG_DFL)\n"
    before += f"cli.write_picture = lambda _, path: (path.write_bytes(b'half'), os.kill(os.getpid(), {int(number)}))"
    done = shell("decompress", "a.jpg", "-o", "b.png", before=before, cwd=tmp_path, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (128 + number, b"")
    assert {path.name for path in tmp_path.iterdir()} == {"a.png", "a.jpg"}


@pytest.mark.skipif(os.name != "posix", reason="needs a terminal")
def test_the_bar_is_for_terminals_and_json_for_pipes(tmp_path: Path) -> None:
    import pty

    photo(tmp_path / "a.jpg")
    terminal, side = pty.openpty()
    # Far enough to show the bar once: this file is none of ours.
    done = shell("decompress", "a.jpg", "-o", "q/", cwd=tmp_path, stdout=subprocess.PIPE, stderr=side)
    os.close(side)
    shown = os.read(terminal, 65536).decode()
    os.close(terminal)
    assert (done.returncode, done.stdout) == (1, b"")
    assert "1/1 a.jpg" in shown and "corec: a.jpg: " in shown
