"""What all papers share: measuring their test sets, and tables of curves."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from corec.errors import FileError, ModelError
from corec.evaluation import bench
from corec.evaluation.contenders import contender, usable
from corec.evaluation.curves import Crossing, crossings
from corec.evaluation.report import crossed
from corec.evaluation.results import Results, curve, means
from corec.evaluation.rows import Finished, Row
from corec.evaluation.tables import NONE, Table, number
from corec.evaluation.targets import Target
from corec.files import same

UNITS = {"psnr": ("PSNR in dB", 2), "ssim": ("SSIM", 4), "ms_ssim": ("MS-SSIM", 4)}
"""Figure -> what it is called, and its decimal places."""


@dataclass(frozen=True)
class Redone:
    """What came of a paper."""

    tables: list[Table]
    plots: dict[str, bytes]
    """PNG files by name."""


@dataclass
class Study:
    """A folder that holds test sets, a folder each, and how they are measured."""

    folder: Path
    finished: Finished
    report: bench.Report
    processes: int
    leave_out: Callable[[str], object]
    """Told what cannot be measured."""
    rows: list[Row] = field(default_factory=list)
    """All that were."""
    kept: dict[str, list[str]] = field(default_factory=dict)
    """Pictures of test sets, of those that were looked into."""

    def pictures(self, name: str) -> list[str]:
        """Paths of the pictures of a test set that can be measured. Raises FileError where there are none."""
        if name not in self.kept:
            folder = self.folder / name
            self.kept[name] = bench.taken(folder, bench.pictures_below(folder), self.leave_out)
        return self.kept[name]

    def has(self, name: str) -> bool:
        """Whether there is a test set of this name."""
        return (self.folder / name).is_dir()

    def there(self, names: Sequence[str]) -> list[str]:
        """Those of the test sets that there are. Raises FileError where there is none."""
        found = [name for name in names if self.has(name)]
        if not found:
            raise FileError(f"{self.folder} holds none of the folders {', '.join(names)}")
        return found

    def usable(self, names: Sequence[str]) -> list[str]:
        """Those of the contenders whose packages are installed. Raises ModelError."""
        return usable(names, self.leave_out)

    def known(self, names: Sequence[str], gray: bool) -> tuple[list[str], list[str]]:
        """Those of the contenders that can be measured, and those that lack a package or a model."""
        found = []
        for name in names:
            try:
                models = contender(name).models
            except ModelError:
                continue
            if not models or any(model.color != gray for model in models):
                found += self.usable([name])
        return found, [name for name in names if name not in found]

    def measure(
        self,
        name: str,
        targets: Sequence[Target],
        names: Sequence[str],
        picture: str = "",
        gray: bool = True,
        against: str = "",
    ) -> Results:
        """The contenders over a test set, or over one picture of it. Raises CorecError."""
        folder = self.folder / name
        if self.finished.path and same(self.finished.path.parent, folder):
            raise FileError(f"{folder} holds the pictures: a report needs a folder of its own")
        images = [image for image in self.pictures(name) if picture in ("", PurePosixPath(image).stem)]
        if not images:
            raise FileError(f"{folder} holds no picture {picture}")
        request = bench.Request(folder, gray, tuple(targets), tuple(names), images=tuple(images))
        measured = bench.evaluate(request, self.finished, self.report, self.processes)
        self.rows += [each.row for each in measured]
        return Results(request, against or names[0], measured, self.finished.versions)


Redo = Callable[[Study], Redone]


def not_measured(what: Sequence[str], why: str = "for want of a model or a package") -> str:
    """A sentence on what there is nothing for."""
    return f" Not measured: {', '.join(what)}, {why}." if what else ""


def table_of_curves(results: Results, label: str, figure: str = "psnr") -> Table:
    """Means by contender and target."""
    name, places = UNITS[figure]
    targets = [target.name for target in results.request.targets]
    rows = [
        [who, *(number(means(results.at(target, who))[figure], places) for target in targets)]
        for who in results.request.contenders
    ]
    count = len(results.images)
    return Table(f"{label}: {name}, means of {count} picture{'s' if count > 1 else ''}", ["", *targets], rows)


def gains(results: Results, one: str, other: str) -> list[tuple[Target, float]]:
    """By how many dB the first is ahead at each target at which both have a mean."""
    found = []
    for target in results.request.targets:
        gain = means(results.at(target.name, one))["psnr"] - means(results.at(target.name, other))["psnr"]
        if not math.isnan(gain):
            found.append((target, gain))
    return found


def crosses(results: Results, one: str, other: str) -> list[Crossing]:
    """Where the first's mean curve of PSNR crosses the other's."""
    return crossings(curve(results, other), curve(results, one))


def table_of_margins(title: str, sets: Mapping[str, Results], who: str, others: Sequence[str], note: str) -> Table:
    """How far a contender is ahead of others at the lowest and the highest rate at which both have files of all
    pictures, and where that changes; sets: by label."""
    rows = []
    for other in others:
        cells = []
        for results in sets.values():
            found = gains(results, who, other)
            ends = [f"{number(gain, sign=True)} dB at {at.name}" for at, gain in (found[:1] + found[1:][-1:])]
            changes = crosses(results, who, other)
            cells.append("; ".join([*ends, *([crossed(changes)] if changes else [])]) or NONE)
        rows.append([f"over {other}", *cells])
    return Table(title, [who, *sets], rows, note)
