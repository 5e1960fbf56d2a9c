"""Sources and destinations of a command: what is read, what is written where, and nothing half written."""

import os
import secrets
import shutil
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from corec.errors import CorecError, FileError

PICTURES = frozenset(
    ".avif .bmp .gif .heic .heif .hif .j2k .jfif .jp2 .jpe .jpeg .jpg "
    ".pbm .pgm .png .pnm .ppm .tga .tif .tiff .webp".split()
)
"""Endings of the files that are taken out of a folder; a file named by itself may have any."""
FILES = PICTURES | {".bpg", ".corec", ".j2c", ".jpc", ".jxl"}
"""Endings of the files that there are: what has one is not meant to become a folder."""


@dataclass(frozen=True)
class Job:
    """One file to read and one to write."""

    source: Path
    target: Path
    problem: str = ""
    """Why it cannot be done, if that is known beforehand."""


def plan(
    sources: Sequence[Path], destination: str, suffix: str, endings: Iterable[str]
) -> tuple[list[Job], list[Path]]:
    """Pair every source with its target; and the files in folders that are left out for their names.

    A folder stands for the files directly in it and below whose names end in one of endings. The
    destination is a folder, where the sources' names (below a folder: their relative paths) are kept with the
    new suffix, unless there is one source, a file, and the destination neither is a folder nor
    ends in a slash. Sources that differ in nothing but their suffixes (a phone's IMG.HEIC and IMG.JPG) keep these, with
    the new one behind. A source need not exist, and several may have the same target. Raises FileError for a
    destination that cannot be meant.
    """
    if not is_folder(sources, destination):
        return [Job(sources[0], Path(destination))], []
    folder = Path(destination)
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise FileError(f"{folder} is a file, where a folder is needed")
    if folder.suffix.lower() in FILES and not os.path.exists(folder) and not ends_in_slash(destination):
        raise FileError(
            f"several sources go into a folder, and {folder} looks like a file; write {folder}/ if it is none"
        )
    endings = frozenset(endings)
    known = PICTURES | endings
    jobs: dict[tuple[str, Path], tuple[Job, Path]] = {}
    others: list[Path] = []
    for source in sources:
        wrong = f"the folder has no file that ends in {', '.join(sorted(endings))}"
        try:
            found = below(source, endings, folder, others) if os.path.isdir(source) else [(source, Path(source.name))]
        except OSError as error:
            found, wrong = [], f"cannot be read: {error.strerror}"
        if not found:
            jobs[os.path.realpath(source), folder] = Job(source, folder, wrong), folder
        for path, name in found:
            target = folder / renamed(name, suffix, known)
            whole = folder / name.with_name(name.name + suffix)
            jobs.setdefault((os.path.realpath(path), target), (Job(path, target), whole))
    taken = {real for real, _ in jobs}
    # A target that is a source is left as it is, and refused: the folder may hold what an earlier call has written.
    names: dict[Path, set[Path]] = {}
    for job, whole in jobs.values():
        names.setdefault(job.target, set()).add(whole)
    several = {target for target in names if len(names[target]) > 1 and os.path.realpath(target) not in taken}
    return (
        [Job(job.source, whole) if job.target in several else job for job, whole in jobs.values()],
        [path for path in dict.fromkeys(others) if os.path.realpath(path) not in taken],
    )


def is_folder(sources: Sequence[Path], destination: str) -> bool:
    """Whether the destination is, or is to be, a folder."""
    # Not Path's methods, which raise what is wrong with a path: that is found out, and told, where it is used.
    return len(sources) > 1 or os.path.isdir(sources[0]) or ends_in_slash(destination) or os.path.isdir(destination)


def ends_in_slash(path: str) -> bool:
    """Whether a path says of itself that it is a folder."""
    return path.endswith(("/", os.sep))


def below(
    folder: Path, endings: frozenset[str], apart_from: Path, others: list[Path] | None = None
) -> list[tuple[Path, Path]]:
    """The files of some endings in a folder, with their paths relative to it; all others go into a list.

    Hidden ones are left out, links to folders, and what is no ordinary file: a pipe would be waited for. So is a folder
    inside, apart_from: it holds what an earlier call has written. A folder that cannot be looked into is among the
    files, so that reading it tells why, and so is a link that leads nowhere. Raises OSError where that is the folder.
    """
    found: list[tuple[Path, Path]] = []

    def closed(error: OSError) -> None:
        if (path := Path(error.filename)) == folder:
            raise error
        found.append((path, path.relative_to(folder)))

    for at, folders, names in os.walk(folder, onerror=closed):
        folders[:] = sorted(f for f in folders if f[0] != "." and not same(Path(at, f), apart_from))
        for name in sorted(names):
            path = Path(at, name)
            if name[0] == "." or (os.path.exists(path) and not os.path.isfile(path)):
                continue
            if os.path.splitext(name)[1].lower() in endings:
                found.append((path, path.relative_to(folder)))
            elif others is not None:
                others.append(path)
    return found


def renamed(name: Path, suffix: str, known: frozenset[str]) -> Path:
    """The name with another suffix: in place of one that is known, else after it."""
    return name.with_suffix(suffix) if name.suffix.lower() in known else name.with_name(name.name + suffix)


def same(one: Path, other: Path) -> bool:
    """Whether two paths lead to the same file or folder."""
    return identity(one) == identity(other)


def identity(path: Path) -> tuple[int, int] | str:
    """What is the same for all names of a file or folder: of one that exists what the disk knows it by, as there names
    may differ in capitals."""
    with suppress(OSError):
        found = os.stat(path)
        if found.st_ino:  # some disks have no such numbers
            return found.st_dev, found.st_ino
    return os.path.realpath(path)


def check_target(target: Path, sources: Container[tuple[int, int] | str], force: bool, skip: bool = False) -> bool:
    """Whether a target exists and is left as it is, by skip. sources: their identities.

    Raises FileError for one that must not or cannot be written.
    """
    if identity(target) in sources:
        raise FileError(f"{target} is itself a source")
    if os.path.exists(target) and not os.path.isfile(target):
        raise FileError(f"{target} exists and is no ordinary file")
    if os.path.exists(target) and skip:
        return True
    if os.path.exists(target) and not force:
        raise FileError(there_is(target))
    above = next(folder for folder in Path(os.path.realpath(target)).parents if os.path.exists(folder))
    if not os.path.isdir(above):
        raise FileError(f"cannot write {target}: {above} is no folder")
    if not os.access(above, os.W_OK | os.X_OK):
        raise FileError(f"cannot write {target}: the folder {above} may not be written to")
    return False


def there_is(target: Path) -> str:
    """What is said of a target that is kept."""
    return f"{target} exists; --force overwrites it"


@contextmanager
def aside(target: Path, force: bool = True) -> Iterator[Path]:
    """A path beside the target to write to; it takes the target's place if the block ends well.

    After an error, or a stop by the user, nothing of it is left, and a file that stood there stands there still; so
    does, without force, one that somebody else has put there meanwhile. OSErrors become FileError.
    """
    place = Path(os.path.realpath(target))  # a link stays a link
    partial = place.with_name(f".corec-{secrets.token_hex(6)}{target.suffix}")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield partial
            if force:
                with suppress(OSError):  # where nothing stood, and where that is not for us to say
                    shutil.copymode(place, partial)
                partial.replace(place)
            elif not settled(partial, place):
                raise FileError(there_is(target))
        finally:
            partial.unlink(missing_ok=True)
    except CorecError as error:
        raise type(error)(str(error).replace(str(partial), str(target))) from error
    except OSError as error:
        raise FileError(f"cannot write {target}: {error.strerror or error}") from error


def settled(partial: Path, place: Path) -> bool:
    """Whether a file could be given a name: one that is free."""
    try:
        os.link(partial, place)
    except FileExistsError:
        return False
    except OSError:  # where files cannot have two names
        if os.path.exists(place):
            return False
        partial.replace(place)
    return True


def read_bytes(path: Path) -> bytes:
    """A file's bytes. Raises FileError."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise FileError(f"cannot be read: {error.strerror or error}") from error
