"""Contenders over a folder of pictures, within the same bytes: a row for each picture, contender and target.

Within means: the whole file, envelope included, has not one byte more than the target allows for this picture.
"""

import hashlib
import io
import json
import math
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import Thread

import numpy as np
from PIL import Image

from corec.errors import CorecError, FileError, RateError, TooLargeError
from corec.evaluation.contenders import contender, facts_of_models
from corec.evaluation.metrics import WINDOW, ms_ssim, psnr, ssim
from corec.evaluation.rows import ROWS, Finished, Measured, Row
from corec.evaluation.targets import Target
from corec.files import PICTURES, below, read_bytes
from corec.picture import Picture, read_picture
from corec.pipeline import refuse_ours
from corec.runtime import available_threads

Report = Callable[[Row, int, int], object]
"""Told every finished row, how many are done and how many there are."""

CROP = 192
"""Side of the crops that are shown side by side, in pixels: out of the picture's middle."""
CROPPED = 3
"""Pictures of which crops are kept, spread over the folder."""


@dataclass(frozen=True)
class Request:
    """What is to be measured."""

    folder: Path
    gray: bool
    """Compare luma alone."""
    targets: tuple[Target, ...]
    contenders: tuple[str, ...]
    crops: int = 0
    """How many targets, in the middle of the list, crops are kept of."""
    images: tuple[str, ...] = ()
    """Paths below the folder, if not all pictures are meant."""


@dataclass(frozen=True)
class Task:
    """What one row needs, in a form that goes to another process."""

    folder: Path
    image: str
    gray: bool
    contender: str
    target: Target
    crop: bool

    def key(self, digest: str) -> str:
        """What a finished row is known by; digest: that of the picture's file."""
        models = facts_of_models(self.contender, self.gray)
        facts = [self.image, digest, self.gray, self.contender, models, self.target.name, self.crop]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def evaluate(
    request: Request,
    finished: Finished | None = None,
    report: Report = lambda row, done, total: None,
    processes: int = 1,
) -> list[Measured]:
    """A row for every target, picture and contender, in this order; those already finished are not measured again.

    Raises CorecError for what cannot be read or measured. A picture that a contender cannot hold, or not in the
    bytes allowed, is not such a case: its row has no file.
    """
    finished = finished or Finished()
    keys = {task: task.key(digest) for task, digest in tasks_of(request)}
    left = [task for task, key in keys.items() if key not in finished.rows]
    left.sort(key=lambda task: (task.image, task.contender))  # what was coded for one target helps with the next
    done = len(keys) - len(left)
    with measuring(min(processes, len(left)), left) as results:
        for task, measured in results:
            finished.add(keys[task], measured)
            done += 1
            report(measured.row, done, len(keys))
    return [finished.rows[key] for key in keys.values()]


def tasks_of(request: Request) -> Iterator[tuple[Task, str]]:
    """All tasks, each with the digest of its picture's file. Raises FileError."""
    images = list(request.images) or pictures_below(request.folder)
    digests = {image: digest(request.folder / image) for image in images}
    shown, at = set(shown_images(images)), shown_targets(request)
    for target in request.targets:
        for image in images:
            for name in request.contenders:
                crop = image in shown and target in at
                yield Task(request.folder, image, request.gray, name, target, crop), digests[image]


def digest(path: Path) -> str:
    """That of a file. Raises FileError."""
    try:
        return hashlib.sha256(read_bytes(path)).hexdigest()
    except FileError as error:
        raise FileError(f"{path} {error}") from error


def pictures_below(folder: Path, apart_from: Path | None = None) -> list[str]:
    """Paths of the pictures in and below a folder, relative to it. Raises FileError if there are none.

    Those of reports are left out, and those of the folder apart_from, which will hold one.
    """
    if not folder.is_dir():
        raise FileError(f"{folder} is no folder")
    try:
        found = below(folder, PICTURES, apart_from or Path(os.devnull))
    except OSError as error:
        raise FileError(f"{folder} cannot be read: {error.strerror}") from error
    images = sorted(name.as_posix() for _, name in found if not in_report(folder, name))
    if not images:
        raise FileError(f"there are no pictures in {folder}")
    return images


def taken(folder: Path, names: list[str], tell: Callable[[str], object]) -> list[str]:
    """Those of some pictures that can be measured; of others, transparent, damaged or Corec's own, it is told why not.

    Raises FileError if none is left.
    """
    kept = []
    for name in names:
        try:
            refuse_ours(folder / name)
            read_picture(folder / name)
        except CorecError as error:
            tell(f"{name} is left out: {str(error).removeprefix(f'{folder / name}').lstrip(': ')}")
        else:
            kept.append(name)
    if not kept:
        raise FileError(f"there are no pictures in {folder} that can be measured")
    return kept


def in_report(folder: Path, name: Path) -> bool:
    """Whether a file inside a folder belongs to the report of another call, whose plots are no pictures to measure."""
    return any((folder / at / ROWS).exists() for at in list(name.parents)[:-1])


def shown_images(images: list[str]) -> list[str]:
    """The pictures of which crops are kept."""
    at = np.linspace(0, len(images) - 1, min(CROPPED, len(images)))
    return [images[round(index)] for index in at]


def shown_targets(request: Request) -> tuple[Target, ...]:
    """The targets of which crops are kept."""
    first = (len(request.targets) - request.crops) // 2
    return request.targets[max(0, first) : max(0, first) + request.crops]


@contextmanager
def measuring(processes: int, tasks: list[Task]) -> Iterator[Iterator[tuple[Task, Measured]]]:
    """The tasks and their rows as they get done: here, or in several processes that share the cores."""
    if processes <= 1:
        yield ((task, measure(task)) for task in tasks)
        return
    threads = max(1, available_threads() // processes)
    context = multiprocessing.get_context("spawn")  # a fork would copy a runtime with threads
    with ProcessPoolExecutor(processes, context, begin_work, (threads,)) as pool:
        futures = {pool.submit(measure, task): task for task in tasks}
        try:
            yield ((futures[future], future.result()) for future in as_completed(futures))
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def begin_work(threads: int) -> None:
    """Called first in each process of a bench. It ends with the one that started it, even if that is killed."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))  # else it would go on with what is queued
    if parent := multiprocessing.parent_process():
        Thread(target=end_with, args=(parent,), daemon=True).start()


def end_with(parent: BaseProcess) -> None:
    """Wait for the end of a process, and end this one."""
    parent.join()
    os._exit(1)


def measure(task: Task) -> Measured:
    """One row. Raises CorecError with the picture's name."""
    try:
        picture = read_picture(task.folder / task.image)
        return measured(picture.luma() if task.gray else picture, task)
    except CorecError as error:
        raise CorecError(f"{task.image} by {task.contender} at {task.target.name}: {error}") from error


def measured(picture: Picture, task: Task) -> Measured:
    """The row of a picture that has been read."""
    who = contender(task.contender)
    try:
        allowed, anchor = task.target.allowance(picture)
    except (RateError, TooLargeError):  # the anchor has no file so small, or none at all
        allowed, anchor = 0, None
    row = Row(task.image, task.contender, task.target.name, picture.width, picture.height, allowed)
    if allowed < 1:
        return Measured(row)
    began = time.perf_counter()
    try:
        own = anchor is not None and task.contender.partition("+")[0] == task.target.codec
        file = anchor if own and anchor else who.write(picture, allowed)
    except (RateError, TooLargeError):
        return Measured(row)
    if len(file.data) > allowed:
        raise RateError(f"it spent {len(file.data)} bytes, and {allowed} were allowed")
    written = time.perf_counter()
    pixels = who.read(file.data)
    read = time.perf_counter()
    row = replace(
        row,
        bytes=len(file.data),
        psnr=psnr(picture.pixels, pixels),
        ssim=ssim(picture.pixels, pixels) if min(pixels.shape[:2]) >= WINDOW else math.nan,
        ms_ssim=ms_ssim(picture.pixels, pixels),
        setting=file.setting,
        model=file.model,
        write_seconds=round(written - began, 4),
        read_seconds=round(read - written, 4),
    )
    return Measured(row, png(middle(pixels)) if task.crop else b"")


def middle(pixels: np.ndarray) -> np.ndarray:
    """The middle of a picture, CROP pixels a side or what there is."""
    top, left = (max(0, extent - CROP) // 2 for extent in pixels.shape[:2])
    return pixels[top : top + CROP, left : left + CROP]


def png(pixels: np.ndarray) -> bytes:
    """The pixels as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "PNG", optimize=True)
    return file.getvalue()
