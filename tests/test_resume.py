"""A bench that was stopped goes on where it was, and measures anew only what has changed."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from skimage import data

from corec.errors import FileError
from corec.evaluation import bench, rows
from corec.evaluation.bench import Request, evaluate
from corec.evaluation.rows import Finished, Measured, Row
from corec.evaluation.targets import Target, target
from corec.models import models

Bench = Callable[..., int]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, top in (("a.png", 60), ("b.png", 200)):
        Image.fromarray(data.camera()[top : top + 40, 100:164]).save(tmp_path / name)
    return tmp_path


@pytest.fixture
def measured_now(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A bench of two contenders that keeps its rows in a file; it gives the number of rows it had to measure."""
    count = 0
    measure = bench.measure

    def counted(task: bench.Task) -> Measured:
        nonlocal count
        count += 1
        return measure(task)

    monkeypatch.setattr(bench, "measure", counted)

    def run(targets: tuple[Target, ...] = (target("jpeg@30"),), **other: Any) -> int:
        nonlocal count
        count = 0
        request = Request(folder, True, targets, ("jpeg", "jpeg-best"))
        found = evaluate(replace(request, **other), Finished(folder / "rows.jsonl"))
        assert [(m.row.image, m.row.contender) for m in found[:4]] == [
            (image, name) for image in ("a.png", "b.png") for name in ("jpeg", "jpeg-best")
        ]
        return count

    return run


def test_finished_rows_are_not_measured_again(folder: Path, measured_now: Bench) -> None:
    assert measured_now() == 4
    before = (folder / "rows.jsonl").read_bytes()
    assert measured_now() == 0
    assert (folder / "rows.jsonl").read_bytes() == before


@pytest.mark.parametrize("cut", [1, 2, 40])
def test_a_stop_costs_one_row(folder: Path, measured_now: Bench, cut: int) -> None:
    measured_now()
    path = folder / "rows.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    assert measured_now() == 1
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(lines) == 5 and "versions" in lines[0]
    assert measured_now() == 0


def test_rows_are_on_disk_as_soon_as_they_are_done(folder: Path) -> None:
    path = folder / "rows.jsonl"
    request = Request(folder, True, (target("jpeg@30"),), ("jpeg", "jpeg-best"))

    def stop_at_three(row: Row, done: int, total: int) -> None:
        assert total == 4 and len(path.read_bytes().splitlines()) == done + 1
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(request, Finished(path), stop_at_three)
    told: list[int] = []
    evaluate(request, Finished(path), lambda row, done, total: told.append(done))
    assert told == [4]


def test_what_has_changed_is_measured_anew(folder: Path, measured_now: Bench) -> None:
    measured_now()
    assert measured_now((target("jpeg@30"), target("jpeg@50"))) == 4
    assert measured_now((Target("", 2.0),)) == 4
    assert measured_now(gray=False) == 4
    Image.fromarray(np.ascontiguousarray(data.camera()[:40, :64])).save(folder / "a.png")
    assert measured_now() == 2
    assert measured_now() == 0


def test_rows_of_another_version_do_not_count(
    folder: Path, measured_now: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured_now()
    now = rows.versions()
    monkeypatch.setattr(rows, "versions", lambda: now | {"another-package": "1.0"})
    assert measured_now() == 0
    monkeypatch.setattr(rows, "versions", lambda: now | {"pillow": "0.1"})
    assert measured_now() == 4
    assert measured_now() == 0


@pytest.mark.parametrize(
    ("file", "counts"),
    [
        *(
            (f"{name}.py", True)
            for name in (
                "suit",
                "codecs/jpeg",
                "learned/coder",
                "learned/tables",
                "evaluation/jpegs",
                "evaluation/metrics",
            )
        ),
        *((f"{name}.py", False) for name in ("cli", "evaluation/plots", "evaluation/tables", "training/loop")),
    ],
)
def test_rows_of_other_code_do_not_count(
    file: str, counts: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (Path(rows.__file__).parents[1] / file).exists()
    monkeypatch.setattr("corec.__file__", str(tmp_path / "__init__.py"))
    (tmp_path / file).parent.mkdir(exist_ok=True)
    seen = [rows.versions()["corec"]]
    for step in (1, 2):
        (tmp_path / file).write_text(f"STEP = {step}")
        seen.append(rows.versions()["corec"])
    assert len({*seen}) == (3 if counts else 1)


def test_a_retrained_model_is_measured_anew(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    model = next(model for model in models() if not model.restores and not model.color)
    task = bench.Task(folder, "a.png", True, model.name, target("jpeg@30"), False)
    before = task.key("digest")
    monkeypatch.setattr("corec.evaluation.contenders.models", lambda: (replace(model, reconstruct_sha256="0" * 64),))
    assert task.key("digest") != before


def test_a_damaged_file_of_rows_is_refused(folder: Path, measured_now: Bench) -> None:
    measured_now()
    path = folder / "rows.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    for damaged in (b"nonsense\n", b'{"key": "x"}\n', b"[]\n", b"\xff\n"):
        path.write_bytes(lines[0] + damaged + lines[1])
        with pytest.raises(FileError, match="remove it"):
            Finished(path)
    (folder / "rows.jsonl").unlink()
    (folder / "rows.jsonl").mkdir()
    with pytest.raises(FileError, match="cannot be read"):
        Finished(path)


def test_a_row_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "new" / "rows.jsonl"
    kept = Finished(path)
    full = Row("ä.png", "corec", "jpeg@5", 8, 9, 100, 99, 30.0, 0.9, float("inf"), 12.5, "m", 0.1, 0.2)
    kept.add("one", Measured(full, b"\x89PNG"))
    kept.add("two", Measured(Row("b", "jpeg", "jpeg@5", 8, 9, 100)))
    back = Finished(path).rows
    assert back["one"] == Measured(full, b"\x89PNG")
    assert repr(asdict(back["two"].row)) == repr(asdict(kept.rows["two"].row))  # nan is not equal to nan


def test_two_processes_measure_what_one_does(folder: Path) -> None:
    request = Request(folder, True, (target("jpeg@30"),), ("jpeg", "jpeg-best"), crops=1)
    one, two = evaluate(request), evaluate(request, processes=2)
    seconds = {"write_seconds": 0.0, "read_seconds": 0.0}
    assert [m.crop for m in one] == [m.crop for m in two]
    assert [replace(m.row, ms_ssim=0, **seconds) for m in one] == [replace(m.row, ms_ssim=0, **seconds) for m in two]


KILLED = """
import multiprocessing, os, time
from concurrent.futures import ProcessPoolExecutor
from corec.evaluation.bench import begin_work

with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), begin_work, (1,)) as pool:
    print(pool.submit(os.getpid).result(), flush=True)
    pool.submit(time.sleep, 60).result()
"""


def runs(process: str) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path("/proc", process, "stat").read_text().split()[2] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not runs("self"), reason="tells by /proc whether a process is there")
def test_its_processes_end_with_a_bench_that_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", KILLED], stdout=subprocess.PIPE, text=True) as killed:
        assert killed.stdout
        worker = killed.stdout.readline().strip()
        assert runs(worker)
        killed.kill()
        until = time.monotonic() + 20
        while runs(worker) and time.monotonic() < until:
            time.sleep(0.05)
        assert not runs(worker)
