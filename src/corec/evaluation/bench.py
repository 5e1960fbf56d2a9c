"""Corec beside plain JPEG at equal bytes, picture by picture.

An anchor such as jpeg@5 is the JPEG file that Pillow writes at quality 5 with its default tables and Huffman codes.
Its bytes are what the best plain JPEG and Corec may spend on the same picture, envelope included.
"""

import io
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from corec.color import luma
from corec.errors import CorecError, FileError, ModelError, RateError
from corec.evaluation.metrics import psnr
from corec.files import PICTURES
from corec.models import model_named
from corec.picture import Picture, read_picture
from corec.pipeline import Compressed, compress_picture, decompress_picture
from corec.runtime import available_threads

Report = Callable[["Row", int, int], object]
"""Told every finished row, how many are done and how many there are."""


@dataclass(frozen=True)
class Row:
    """One picture at the bytes of one anchor. PSNR in dB, over luma or over RGB."""

    image: str
    """Path below the folder."""
    anchor: str
    width: int
    height: int
    anchor_bytes: int
    anchor_psnr: float
    jpeg_bytes: int
    """The best plain JPEG that is not larger: optimised Huffman codes, baseline or progressive."""
    jpeg_psnr: float
    bytes: int
    """Corec's."""
    psnr: float
    model: str
    scale: int
    """Picture size over the size that an ordinary viewer shows: 2 or 1."""


@dataclass(frozen=True)
class Task:
    """What one row needs, in a form that goes to another process."""

    folder: Path
    image: str
    gray: bool
    quality: int
    models: tuple[str, ...]


def evaluate(
    folder: Path,
    gray: bool,
    match: list[str],
    models: list[str] | None = None,
    report: Report = lambda row, done, total: None,
    processes: int = 1,
) -> list[Row]:
    """A row for every anchor and picture in and below a folder, in this order.

    gray: compare luma alone. models: those to choose from, by default Corec's own choice. Raises CorecError for what
    cannot be read or measured; a picture that Corec cannot hold in the anchor's bytes is such a case.
    """
    qualities = [anchor_quality(name) for name in match]
    for name in models or ():
        model_named(name)
    images = pictures_below(folder)
    tasks = [Task(folder, image, gray, quality, tuple(models or ())) for quality in qualities for image in images]
    rows = []
    with mapping(min(processes, len(tasks))) as run:
        for row in run(measure, tasks):
            rows.append(row)
            report(row, len(rows), len(tasks))
    return rows


def anchor_quality(name: str) -> int:
    """The quality of an anchor's name. Raises RateError."""
    codec, _, quality = name.partition("@")
    if codec != "jpeg" or not quality.isdecimal() or not 1 <= int(quality) <= 95:
        raise RateError(f"an anchor is jpeg@QUALITY, with a quality of 1 to 95, not {name!r}")
    return int(quality)


def pictures_below(folder: Path) -> list[str]:
    """Paths of the pictures in and below a folder, relative to it. Raises FileError if there are none."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in PICTURES and path.is_file())
    images = sorted(path.relative_to(folder).as_posix() for path in found)
    if not images:
        raise FileError(f"there are no pictures in {folder}")
    return images


@contextmanager
def mapping(processes: int) -> Iterator[Callable[[Callable[[Task], Row], list[Task]], Iterator[Row]]]:
    """A map that works here, or in several processes that share the cores."""
    if processes <= 1:
        yield map
        return
    threads = max(1, available_threads() // processes)
    context = multiprocessing.get_context("spawn")  # a fork would copy a runtime with threads
    with ProcessPoolExecutor(processes, context, limit_threads, (threads,)) as pool:
        try:
            yield pool.map
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def limit_threads(threads: int) -> None:
    """Called first in each process of a bench."""
    os.environ["OMP_NUM_THREADS"] = str(threads)


def measure(task: Task) -> Row:
    """One row. Raises CorecError with the picture's name."""
    try:
        picture = read_picture(task.folder / task.image)
        if task.gray and not picture.gray:
            picture = Picture(luma(picture.pixels))
        anchor = jpeg(picture, task.quality)
        plain = best_jpeg(picture, len(anchor)) or anchor
        ours, psnr_of_ours = best_of_ours(picture, len(anchor), task.models)
    except CorecError as error:
        raise CorecError(f"{task.image} at jpeg@{task.quality}: {error}") from error
    return Row(
        image=task.image,
        anchor=f"jpeg@{task.quality}",
        width=picture.width,
        height=picture.height,
        anchor_bytes=len(anchor),
        anchor_psnr=psnr(picture.pixels, shown(anchor)),
        jpeg_bytes=len(plain),
        jpeg_psnr=psnr(picture.pixels, shown(plain)),
        bytes=len(ours.data),
        psnr=psnr_of_ours,
        model=ours.model,
        scale=ours.scale,
    )


def best_of_ours(picture: Picture, size: int, models: tuple[str, ...]) -> tuple[Compressed, float]:
    """Corec's file of at most `size` bytes, and the PSNR of what decoding the file gives."""
    if models:
        fitting = [name for name in models if model_named(name).color != picture.gray]
        if not fitting:
            kind = "gray" if picture.gray else "in colour"
            raise ModelError(f"the picture is {kind}, and no model of {', '.join(models)} is for such pictures")
        tries = [compress_picture(picture, codec=model_named(n).codec, model=n, size=size) for n in fitting]
    else:
        tries = [compress_picture(picture, size=size)]
    for made in tries:
        if len(made.data) > size:
            raise RateError(f"{made.model} spent {len(made.data)} bytes, and {size} were allowed")
    scored = [(psnr(picture.pixels, decompress_picture(made.data).pixels), made) for made in tries]
    score, made = max(scored, key=lambda pair: pair[0])
    return made, score


def jpeg(picture: Picture, quality: int) -> bytes:
    """The file that Pillow writes: default tables, default Huffman codes, 4:2:0 for colour."""
    return written(picture, quality=quality)


def optimised_jpeg(picture: Picture, quality: float) -> bytes:
    """The smaller of a baseline and a progressive file with optimised Huffman codes; quality may be a fraction.

    The tables are those of Annex K of T.81, scaled as libjpeg does it.
    """
    with Image.open(io.BytesIO(jpeg(picture, 50))) as image:  # 50 is where libjpeg leaves them as they are
        plain = [np.array(table) for table in image.quantization.values()]  # type: ignore[attr-defined]
    scale = 50 / quality if quality < 50 else 2 - quality / 50
    tables = [np.clip(np.floor(scale * table + 0.5), 1, 255).astype(int).tolist() for table in plain]
    options: dict[str, Any] = {"qtables": tables, "optimize": True, "subsampling": -1 if picture.gray else 2}
    return min((written(picture, progressive=progressive, **options) for progressive in (False, True)), key=len)


def written(picture: Picture, **options: Any) -> bytes:
    """A JPEG file by Pillow."""
    file = io.BytesIO()
    Image.fromarray(picture.pixels).save(file, "JPEG", **options)
    return file.getvalue()


def best_jpeg(picture: Picture, size: int) -> bytes:
    """The plain JPEG file of highest quality of at most `size` bytes; empty if none is so small.

    The search is over twentieths, since at low rates whole qualities leave so many bytes unused that plain JPEG would
    look worse than it is.
    """
    low, high, best = 20, 95 * 20, b""
    while low <= high:
        middle = (low + high) // 2
        data = optimised_jpeg(picture, middle / 20)
        if len(data) <= size:
            low, best = middle + 1, data
        else:
            high = middle - 1
    return best


def shown(data: bytes) -> np.ndarray:
    """The pixels that any viewer makes of a JPEG file."""
    with Image.open(io.BytesIO(data)) as image:
        return np.array(image)
