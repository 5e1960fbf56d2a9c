"""Finished rows on disk, so that a bench which was stopped goes on where it was.

A file of one JSON object a line: {"versions": ...} for the rows below it, or {"key": ..., "row": ..., "crop": ...}.
Each is appended when it is done. A line that a stop cut short is dropped, and its row measured again.
"""

import base64
import hashlib
import json
import os
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from math import nan
from pathlib import Path
from typing import Any

from PIL import features

import corec
from corec import __version__
from corec.errors import FileError

PACKAGES = (
    "av bm3d bm4d constriction imagecodecs jpeglib numpy onnxruntime pillow pillow-heif pytorch-msssim scikit-image"
).split()
LIBRARIES = {"libjpeg_turbo": "libjpeg-turbo", "jpg_2000": "OpenJPEG", "webp": "libwebp", "avif": "libavif"}
"""Those in Pillow: its name for them, and theirs."""

COUNTED = "", "codecs", "learned", "evaluation"
"""Folders of the package whose code rows come from."""
SHOWING = {
    *("__main__.py", "batch.py", "cli.py", "listing.py"),
    *(
        f"evaluation/{name}.py"
        for name in ("command", "curves", "demo", "page", "plots", "published", "report", "results", "tables")
    ),
}
"""What in these folders only asks for rows or shows them."""

ROWS = "rows.jsonl"
"""The file's name, in the folder of a report."""


@dataclass(frozen=True)
class Row:
    """One picture by one contender within one target."""

    image: str
    """Path below the folder."""
    contender: str
    target: str
    width: int
    height: int
    allowed: int
    """Bytes that the target allows."""
    bytes: int = 0
    """Of the file, envelope included; 0 if the contender has none that is small enough."""
    psnr: float = nan
    """In dB, over luma or over RGB; inf if nothing was lost. This and all below: nan if there is no file."""
    ssim: float = nan
    """Of luma, or the mean of red, green and blue."""
    ms_ssim: float = nan
    """Of the same, linear; nan for pictures too small for it."""
    setting: float = nan
    """As in contenders.File."""
    model: str = ""
    """Corec's, if any."""
    write_seconds: float = nan
    """For all files that the search for this one took, beside whatever else the machine did; none for an anchor whose
    own file the target is."""
    read_seconds: float = nan

    @property
    def bpp(self) -> float:
        return 8 * self.bytes / (self.width * self.height)


@dataclass(frozen=True)
class Measured:
    """A row, and perhaps what a part of its decoded picture looks like."""

    row: Row
    crop: bytes = b""
    """PNG; empty if none was asked for."""


class Finished:
    """Rows by key; those of a file, if there is one, whose versions are the present ones."""

    def __init__(self, path: Path | None = None, anew: bool = False) -> None:
        """anew: the file is forgotten, once there is a row for it. Raises FileError for a file that is none of ours."""
        self.path, self.mode = path, "w" if anew else "a"
        self.rows: dict[str, Measured] = {}
        self.versions = versions()
        self.said: dict[str, str] = {}
        if path is not None and path.exists() and not anew:
            self.read(path)

    def read(self, path: Path) -> None:
        """The rows of a file, from which what a stop cut short is taken off."""
        try:
            lines = path.read_bytes().splitlines(keepends=True)
        except OSError as error:
            raise FileError(f"{path} cannot be read: {error.strerror or error}") from error
        whole = 0
        for number, line in enumerate(lines, 1):
            try:
                if not line.endswith(b"\n"):
                    break
                held = json.loads(line)
                if "versions" in held:
                    self.said = held["versions"]
                elif all(self.versions.get(name, value) == value for name, value in self.said.items()):
                    self.rows[held["key"]] = Measured(Row(**held["row"]), base64.b64decode(held["crop"]))
            except (ValueError, TypeError, KeyError) as error:
                if number == len(lines):
                    break
                raise FileError(f"{path} is not what a bench wrote, or was damaged: remove it") from error
            whole += len(line)
        if whole < sum(map(len, lines)):
            os.truncate(path, whole)

    def add(self, key: str, measured: Measured) -> None:
        """Keep a row, on disk before anything else is done."""
        self.rows[key] = measured
        if self.path is None:
            return
        lines: list[dict[str, Any]] = []
        if self.said != self.versions:
            self.said = self.versions
            lines.append({"versions": self.versions})
        crop = base64.b64encode(measured.crop).decode()
        lines.append({"key": key, "row": asdict(measured.row), "crop": crop})
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open(self.mode, encoding="utf-8") as file:
                file.writelines(json.dumps(line) + "\n" for line in lines)
                file.flush()
                os.fsync(file.fileno())
            self.mode = "a"
        except OSError as error:
            raise FileError(f"cannot write {self.path}: {error.strerror or error}") from error


def sources() -> str:
    """What tells apart the code that files and figures come from: between two versions it changes, too."""
    package = Path(corec.__file__).parent
    files = [path for folder in COUNTED for path in sorted((package / folder).glob("*.py"))]
    files = [path for path in files if path.relative_to(package).as_posix() not in SHOWING]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:8]


def versions() -> dict[str, str]:
    """Of Corec and its sources, of the packages that files and figures come from, and of the libraries in them."""
    found = {"corec": f"{__version__}, sources {sources()}"}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    for feature, library in LIBRARIES.items():
        found_version = features.version(feature)
        if found_version:
            found[library] = found_version
    return found
