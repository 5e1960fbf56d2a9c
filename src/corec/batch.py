"""The same work for many files: one line, or one JSON object, for each; what fails leaves the others be."""

import json
import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import typer

from corec.errors import CorecError, FileError
from corec.files import Job, check_target, identity, plan, there_is
from corec.models import PLAIN

Tell = Callable[[float], None]
"""Is told the share done."""
_bars: list[Any] = []
"""The consoles on which a bar is being drawn."""


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a stream is one; there is none where it was closed before Python began."""
    return stream is not None and stream.isatty()


def say(text: str, err: bool = False) -> None:
    """One line on standard output, or error; if there is a bar on that terminal, above it."""
    if _bars and is_terminal(sys.stderr if err else sys.stdout):
        _bars[-1].print(text, markup=False, emoji=False, highlight=False, soft_wrap=True)
    else:
        typer.echo(text, err=err)


def complain(text: str) -> None:
    """One line on standard error."""
    say(f"corec: {one_line(text)}", err=True)


def one_line(text: str) -> str:
    """Names of files may have line breaks."""
    return " ".join(text.splitlines())


def planned(sources: list[Path], output: str, suffix: str, endings: Collection[str]) -> list[Job]:
    """What is to be done; and a line on what in folders is not."""
    jobs, others = plan(sources, output, suffix, endings)
    if others:
        kinds = ", ".join(sorted({path.suffix.lower() or "none" for path in others}))
        count = "1 file in folders is" if len(others) == 1 else f"{len(others)} files in folders are"
        complain(f"{count} left out by their endings: {kinds}")
    return jobs


def each(
    jobs: list[Job],
    work: Callable[[Job, Tell], dict[str, Any]],
    force: bool,
    skip: bool,
    as_json: bool,
    of: str = "",
) -> None:
    """Do the work of every job and print its facts; a job that fails costs one line and the exit status.

    skip: leave those out whose target exists, with one line for all. of: put before the bytes, if they are not those of
    what was written. Raises typer.BadParameter for both force and skip.
    """
    if force and skip:
        raise typer.BadParameter("give one of --force and --skip-existing")
    sources = frozenset(identity(job.source) for job in jobs)
    written: dict[tuple[int, int] | str, Path] = {}
    failed, there = False, 0
    with progress(len(jobs)) as show:
        for index, job in enumerate(jobs):
            tell = partial(show, job.source.name, index)
            tell(0.0)
            began = time.perf_counter()
            try:
                if job.problem:
                    raise FileError(job.problem)
                if first := written.get(identity(job.target)):
                    raise FileError(f"{first} has become {job.target} already; give this one another place")
                if check_target(job.target, sources, force, skip):
                    there += 1
                    written[identity(job.target)] = job.source
                    continue
                facts = work(job, tell)
                written[identity(job.target)] = job.source
            except Exception as error:  # one that nobody foresaw must not cost the other files
                if stopped(error):
                    raise KeyboardInterrupt from error
                if skip and str(error) == there_is(job.target):  # by now: somebody else has written it
                    there += 1
                    continue
                complain(told_of(job.source, error))
                failed = True
                continue
            facts = {"source": str(job.source), "output": str(job.target)} | facts
            facts["seconds"] = round(time.perf_counter() - began, 3)
            say(json.dumps(facts) if as_json else line(facts, of))
    if there:
        complain(f"{there} {'file was' if there == 1 else 'files were'} there already")
    if failed:
        raise typer.Exit(1)


def stopped(error: BaseException | None) -> bool:
    """Whether Ctrl-C is behind an error: a library that was just being loaded makes an ImportError of it."""
    while error and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def told_of(source: Path, error: Exception) -> str:
    """An error with the name of the file it is about, which some errors begin with."""
    text = "not enough memory" if isinstance(error, MemoryError) else str(error)
    if not isinstance(error, CorecError | MemoryError):
        text = f"an error of Corec's own, {type(error).__name__}: {text}"
    return text if text.startswith((f"{source} ", f"{source}:")) else f"{source}: {text}"


def line(facts: dict[str, Any], of: str) -> str:
    """What is said of one file to people."""
    alone = f" ({facts['codec']} alone)" if facts["model"] == PLAIN else ""
    text = "{output}  {of}{bytes:,} bytes  {bpp:.3f} bpp  {model}{alone}  {width}x{height}  {seconds:.1f} s"
    return one_line(text.format(alone=alone, of=of, **facts))


@contextmanager
def progress(total: int) -> Iterator[Callable[[str, int, float], None]]:
    """A bar over all files on standard error, if that is a terminal.

    It is told the name of a file, how many are done, and how much of this one.
    """
    if not is_terminal(sys.stderr):
        yield lambda name, done, share: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = BarColumn(), TextColumn("{task.fields[count]} {task.fields[name]}", markup=False), TimeElapsedColumn()
    screen = Console(stderr=True)
    _bars.append(screen)
    try:
        with Progress(*columns, console=screen, transient=True, redirect_stdout=False, redirect_stderr=False) as bar:
            task = bar.add_task("", total=total, name="", count="")
            yield lambda name, done, share: bar.update(
                task, completed=done + share, name=name, count=f"{done + 1}/{total}"
            )
    finally:
        _bars.remove(screen)
