"""What `corec evaluate` does: from its options to a report."""

import importlib.util
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from corec.errors import FileError, MissingExtraError, RateError
from corec.evaluation import bench, contenders, report
from corec.evaluation.papers import paper_named
from corec.evaluation.papers.study import Study
from corec.evaluation.results import Results
from corec.evaluation.rows import Finished
from corec.evaluation.targets import RATES, Target, target
from corec.files import same

PACKAGES = ("bjontegaard", "matplotlib", "pytorch_msssim", "skimage", "torch")
SHOWN = 2
"""Targets of --match of which crops are shown; of curves it is one."""


@dataclass(frozen=True)
class Run:
    """How to do it."""

    output: Path | None
    """The folder for the report, if any."""
    force: bool
    """Measure again what is there."""
    processes: int
    report: bench.Report
    """Told of every row."""
    tell: Callable[[str], object]
    """Told what is left out."""

    def finished(self) -> Finished:
        """What has been measured already. Raises CorecError, first for a package that is needed in the end."""
        for package in PACKAGES:
            if importlib.util.find_spec(package) is None:
                raise MissingExtraError(f"{package} is not installed: pip install 'corec[evaluate]'")
        return Finished(report.prepare(self.output, self.force) if self.output else None, self.force)


@dataclass(frozen=True)
class Wishes:
    """What to compare, as the user said it; empty where nothing was said."""

    folder: Path
    gray: bool
    models: list[str]
    anchors: list[str] | None
    match: list[str]
    rates: list[float]
    against: str | None


def compare(wishes: Wishes, run: Run) -> str:
    """Measure, fill the report's folder, and give the tables as Markdown. Raises CorecError."""
    if any(not 0 < rate < math.inf for rate in wishes.rates):
        raise RateError("--bpp must be above 0")
    if run.output and same(run.output, wishes.folder):
        raise FileError(f"{run.output} holds the pictures: a report needs a folder of its own")
    rates = sorted(set(wishes.rates or RATES))
    targets = [target(name) for name in wishes.match] or [Target("", rate) for rate in rates]
    targets = list({each.name: each for each in targets}.values())
    ours = contenders.usable(wishes.models or [contenders.CHOICE])
    if wishes.anchors is None:
        names = contenders.usable(contenders.anchors(), run.tell)
    else:
        names = contenders.usable(wishes.anchors)
    names = list(dict.fromkeys([*names, *ours]))
    against = wishes.against or ("jpeg-best" if "jpeg-best" in names else names[0])
    if against not in names:
        raise RateError(f"--against {against}: it is not among what is measured, {', '.join(names)}")
    crops = 0 if run.output is None else SHOWN if wishes.match else 1
    images = bench.taken(wishes.folder, bench.pictures_below(wishes.folder, run.output), run.tell)
    finished = run.finished()
    request = bench.Request(wishes.folder, wishes.gray, tuple(targets), tuple(names), crops, tuple(images))
    measured = bench.evaluate(request, finished, run.report, run.processes)
    results = Results(request, against, measured, finished.versions)
    if run.output:
        report.write(results, run.output)
    return report.text(report.tables(results))


def redo(folder: Path, name: str, run: Run) -> str:
    """The tables of a paper once more, as Markdown, and in the report's folder with plots. Raises CorecError."""
    paper = paper_named(name)
    study = Study(folder, run.finished(), run.report, run.processes, run.tell)
    redone = paper(study)
    text = report.text(redone.tables)
    if run.output:
        told: dict[str, Any] = {"versions": study.finished.versions}
        told["tables"] = [asdict(table) for table in redone.tables]
        told["rows"] = [asdict(row) | {"bpp": row.bpp} for row in study.rows]
        report.write_json(run.output / report.RESULTS, told)
        report.write_text(run.output / report.TABLES, text)
        for plot, image in redone.plots.items():
            report.write_bytes(run.output / plot, image)
    return text
