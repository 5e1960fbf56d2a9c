"""One thread everywhere: results that do not depend on the machine, and no fight for its cores."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Run = Callable[..., tuple[int, list[str], list[str]]]
"""A command: its exit status, and lines on standard output and on standard error."""

os.environ["OMP_NUM_THREADS"] = "1"  # PyTorch and ONNX Runtime read it when they start


@pytest.fixture(scope="module")
def usual_arithmetic() -> Iterator[None]:
    """Training as on any processor: a GPU adds gradients up in no fixed order, and some processors compute in bf16."""
    torch = pytest.importorskip("torch")
    from corec.training import loop

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: False)
        patch.setattr(loop, "has_bf16", lambda: False)
        yield


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in an empty folder: exit status, lines on standard output, lines on standard error."""
    from corec.cli import main

    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, list[str], list[str]]:
        status = main(list(arguments))
        out, err = capsys.readouterr()
        assert all(line.startswith("corec: ") for line in err.splitlines())
        return status, out.splitlines(), err.splitlines()

    return call
