"""Tiny networks with random weights, which take the same way as those that ship, and pictures to send it."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from corec import models, wrap
from corec.picture import Picture
from corec.runtime import network

KINDS = {
    "gray-half": (False, True),
    "gray-full": (False, False),
    "color-half": (True, True),
    "color-full": (True, False),
}
"""Name of a tiny model -> color, half. They get the numbers 1, 3, 5 and 7, and those of JPEG XL the next ones."""
RESIZED = "gray-two-thirds", "color-two-thirds", "gray-third", "color-third"
"""What those of half size are called where they are used at other sizes."""
RESTORERS = {"restore-gray": False, "restore-color": True}
"""Name of a tiny model that restores plain files -> color. They get the numbers 9 and 10."""


def image(height: int, width: int, planes: int, seed: int = 1) -> np.ndarray:
    """A soft picture with an edge and some grain, of soft colours, far from 0 and 255: nothing is clipped."""
    rows, columns = np.mgrid[:height, :width]
    soft = [np.sin(rows / (5 + k) + k) + np.cos(columns / (7 - k)) + (rows > columns) for k in range(planes)]
    grain = np.random.default_rng(seed).normal(0, 3, (height, width, planes))
    return np.clip(np.rint(110 + 20 * np.stack(soft, 2) + grain), 0, 255).astype(np.uint8)


@contextmanager
def tiny_zoo(folder: Path, resized: bool = False) -> Iterator[Path]:
    """Six tiny models, exported as trained ones are, in place of those that ship. resized: RESIZED, too."""
    export_tiny(folder, 0.5 if resized else 0.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "ZOO", folder)
        patch.setattr(wrap, "ZOO", folder)
        models.read_manifest.cache_clear()
        yield folder
    models.read_manifest.cache_clear()


def export_tiny(zoo: Path, enlarged: float) -> None:
    """Write a zoo of tiny models, whose crops in training were enlarged in part."""
    torch = pytest.importorskip("torch")
    from corec.methods import joint, restore

    sizes = {"widths": (4, 6, 8)}
    for name, (color, half) in KINDS.items():
        settings = {"color": color, "half": half, "compact_width": 4, "compact_blocks": 1, **sizes}
        torch.manual_seed(1)
        method = joint.Method(joint.Settings(**settings))  # type: ignore[arg-type]
        export_random(zoo, name, "joint", settings, method, enlarged)
    for name, color in RESTORERS.items():
        torch.manual_seed(1)
        export_random(
            zoo, name, "restore", {"color": color, **sizes}, restore.Method(restore.Settings(color, (4, 6, 8)))
        )


def export_random(
    zoo: Path, name: str, kind: str, settings: dict[str, Any], method: Any, enlarged: float = 0.0
) -> None:
    """Write a method's networks into a zoo, their last layers at random."""
    import torch

    from corec.training.export import export

    for part in filter(None, (method.compact, method.reconstruct)):
        torch.nn.init.normal_(part.tail.weight, std=0.03)  # zero before training: tiles could not be wrong
    run = zoo / f"run-{name}"
    run.mkdir()
    save_run(run, kind, settings, method, enlarged)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's, about its own exporter
        export(run, name, default=True, zoo=zoo)


def save_run(run: Path, kind: str, settings: dict[str, Any], method: Any, enlarged: float = 0.0) -> None:
    """Write the checkpoint of a method as after a step, as far as export reads it."""
    import torch

    from corec.training.recipe import Recipe

    recipe = Recipe(kind, settings, 1, enlarged=enlarged)
    state = {"recipe": vars(recipe), "average": method.state_dict(), "step": 1, "seconds": 1.0}
    torch.save({**state, "method": {}, "optimizer": []}, run / "checkpoint.pt")


def photo(path: Path, width: int = 48, height: int = 40, mode: str = "RGB") -> Path:
    """A smooth picture with an edge, as a file."""
    rows, columns = np.mgrid[:height, :width]
    planes = [120 + 60 * np.sin(rows / 9 + k) + 40 * (columns > width // 2) for k in range(3)]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.stack(planes, 2).astype(np.uint8)).convert(mode).save(path)
    return path


def reach_of(model: models.Model, part: str) -> float:
    """How far from a pixel a network of a model in use can look, in picture pixels along a row.

    A NaN spreads to every output that depends on it. It is put at every place of the network's grid.
    """
    before = part == "compact"
    net = network((wrap.ZOO / getattr(model, part), getattr(model, f"{part}_sha256")))
    pixel = 1 if before else model.ratio
    image = np.full((16 // pixel, 400 // pixel, 3 if model.color else 1), 0.5, np.float32)
    farthest = 0.0
    for at in range(192 // pixel, 208 // pixel):
        marked = image.copy()
        marked[0, at] = np.nan
        result = net(marked, wrap.told(np.full(len(wrap.bounds(model)[0]), 3.0), model))
        reached = np.flatnonzero(np.isnan(result).any((0, 2))) * (400 / result.shape[1])
        farthest = max(farthest, at * pixel - reached[0], reached[-1] + 400 / result.shape[1] - (at + 1) * pixel)
    return farthest


def picture(height: int, width: int, gray: bool, seed: int = 1) -> Picture:
    """Waves, an edge and some grain."""
    rows, columns = np.mgrid[:height, :width]
    planes = [np.sin(rows / (9 - k)) + np.cos(columns / (5 + k)) + (2 * rows > columns) for k in range(3)]
    grain = np.random.default_rng(seed).normal(0, 4, (height, width, 3))
    pixels = np.clip(100 + 40 * np.stack(planes, 2) + grain, 0, 255).astype(np.uint8)
    return Picture(np.ascontiguousarray(pixels[..., 0]) if gray else pixels)


def look(path: str) -> tuple[str | None, str, tuple[int, int]]:
    """Format, mode and size of a picture file."""
    with Image.open(path) as image:
        image.load()
        return image.format, image.mode, image.size


def files(folder: Path = Path()) -> set[str]:
    """The files in a folder and below, hidden ones too."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
