"""A bench's results as tables, a plot and a page, in a folder."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from corec.errors import FileError
from corec.evaluation.contenders import contender
from corec.evaluation.curves import Crossing, Difference
from corec.evaluation.page import page
from corec.evaluation.plots import plot
from corec.evaluation.results import Results, differences, finite, means, numbers
from corec.evaluation.rows import ROWS
from corec.evaluation.tables import NONE, Table, extent, markdown, number
from corec.evaluation.targets import Target
from corec.files import aside

RESULTS, TABLES, CURVES, PAGE = "results.json", "results.md", "curves.png", "report.html"


def tables(results: Results) -> list[Table]:
    """For each target the means and every picture's PSNR; for curves, how they differ."""
    found = []
    for target in results.request.targets:
        found += [table_of_means(results, target), table_of_pictures(results, target)]
    found_differences = differences(results)
    if any(found_differences.values()):
        found.insert(0, table_of_differences(results.against, found_differences))
    return found


def table_of_means(results: Results, target: Target) -> Table:
    """A row for each contender."""
    by_name = {name: means(results.at(target.name, name)) for name in results.request.contenders}
    reference = by_name[results.against]["psnr"]
    rows = []
    for name, mean in by_name.items():
        figures = [number(mean["bytes"], 0), number(mean["bpp"], 3), number(mean["psnr"])]
        gain = number(mean["psnr"] - reference, sign=True) if name != results.against else ""
        rows.append([name, *figures, gain, number(mean["ssim"], 4), number(mean["ms_ssim"], 4)])
    plane = "luma" if results.request.gray else "RGB, or luma where a picture is gray"
    note = f"Figures of {plane}. A contender that has no file so small of some picture has no mean."
    if target != results.request.targets[0]:
        note = ""
    count = len(results.images)
    head = ["", "bytes", "bpp", "PSNR, dB", f"over {results.against}", "SSIM", "MS-SSIM"]
    title = f"Means of {count} picture{'s' if count > 1 else ''}, {target.bound}"
    return Table(title, head, rows, note)


def table_of_pictures(results: Results, target: Target) -> Table:
    """PSNR, a row for each picture and one for their mean, and a column for each contender."""
    names = results.request.contenders
    choosing = [name for name in names if contender(name).chooses]
    columns = {name: {row.image: row for row in results.at(target.name, name)} for name in names}
    rows = []
    for image in results.images:
        cells = [number(columns[name][image].psnr) for name in names]
        models = [columns[name][image].model or NONE for name in choosing]
        rows.append([image, number(columns[names[0]][image].allowed, 0), *cells, *models])
    allowed = fmean(row.allowed for row in columns[names[0]].values())
    mean = [number(means(list(columns[name].values()))["psnr"]) for name in names]
    rows.append([f"mean of {len(rows)}", number(allowed, 0), *mean, *[""] * len(choosing)])
    head = ["picture", "bytes allowed", *names, *(f"{name}'s model" for name in choosing)]
    return Table(f"PSNR of each picture in dB, {target.bound}", head, rows)


def table_of_differences(against: str, found: dict[str, Difference | None]) -> Table:
    """Bjontegaard's means, with the ranges that they hold for."""
    rows = []
    for name, d in found.items():
        if d is None:
            rows.append([name, *[NONE] * 5])
        else:
            figures = [f"{number(d.rate, 1, sign=True)} %", extent(d.qualities)]
            figures += [f"{number(d.quality, sign=True)} dB", extent(d.rates, 3)]
            rows.append([name, *figures, crossed(d.crossings)])
    note = (
        "Of the mean curves, Akima's interpolation, where both curves exist: BD-rate over these PSNRs, BD-PSNR over "
        "these rates. None is given for curves of fewer than four points or with nothing in common. Where the curves "
        "cross in these rates, they are taken for straight over log rate between their points."
    )
    return Table(f"Against {against}", ["", "BD-rate", "over dB", "BD-PSNR", "over bpp", "crosses"], rows, note)


def crossed(found: Sequence[Crossing]) -> str:
    """Where a curve crosses its reference, in words."""
    if not found:
        return "none in range"
    return ", ".join(f"{'ahead' if c.ahead else 'behind'} from {number(c.rate, 3)} bpp" for c in found)


def text(found: Iterable[Table]) -> str:
    """Tables as one Markdown text."""
    return "\n".join(markdown(table) for table in found)


def write(results: Results, folder: Path) -> None:
    """Fill a folder with results.json, results.md, curves.png and report.html. Raises FileError."""
    found = tables(results)
    image = plot(results)
    write_json(folder / RESULTS, numbers(results))
    write_text(folder / TABLES, text(found))
    write_bytes(folder / CURVES, image)
    write_text(folder / PAGE, page(results, found, image))


def write_json(target: Path, told: dict[str, Any]) -> None:
    """Numbers that JSON does not have, nan and infinity, become null."""
    write_text(target, json.dumps(finite(told), indent=1, allow_nan=False) + "\n")


def write_text(target: Path, content: str) -> None:
    write_bytes(target, content.encode("utf-8", "backslashreplace"))  # names of files need not be text


def write_bytes(target: Path, content: bytes) -> None:
    with aside(target) as path:
        path.write_bytes(content)


def prepare(folder: Path, force: bool) -> Path:
    """The file of finished rows in a folder that is to hold a report. Raises FileError.

    A folder with such a file is gone on with. One that holds anything else of a report's names is left alone unless
    forced.
    """
    if folder.exists() and not folder.is_dir():
        raise FileError(f"{folder} is a file; a report is a folder")
    rows = folder / ROWS
    if not force and not rows.exists():
        plots = [path.name for path in sorted(folder.glob("curves-*.png"))]  # those of papers
        for name in (RESULTS, TABLES, CURVES, PAGE, *plots):
            if (folder / name).exists():
                raise FileError(f"{folder / name} exists and no bench to go on with; --force overwrites it")
    return rows
