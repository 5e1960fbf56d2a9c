"""The tables of Jiang et al. 2017 once more: theirs, ours, and the difference.

The folder holds their test sets: paper7 (their seven pictures), set5, set14 and live1, as far as there are. All is
luma. Files of ours have at most the bytes of the anchor of the same table, picture by picture. What
this machine or this version of Corec cannot measure is said, not guessed.
"""

import math
import time
import tomllib
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path, PurePosixPath
from statistics import fmean, median
from typing import Any, Protocol

from corec.codecs.base import codecs
from corec.errors import FileError
from corec.evaluation import bench
from corec.evaluation.contenders import CHOICE, anchors, contender, usable
from corec.evaluation.results import means
from corec.evaluation.rows import Finished, Row
from corec.evaluation.tables import NONE, Table, number
from corec.evaluation.targets import BYTES, Target, target
from corec.models import models
from corec.runtime import available_threads

NAME = "jiang2017"
SETS = {"set5": "Set5", "set14": "Set14", "live1": "LIVE1"}
PICTURES = "paper7"
TIMED = "cameraman"
RUNS = 5

Lines = dict[str, dict[str, tuple[float, float]]]
"""Row -> method -> (the paper's figure, ours); nan for what there is not."""
Rows = dict[tuple[str, str, str], Row]
"""By picture, target and contender."""


class Measure(Protocol):
    """Measures a test set, or one picture of it."""

    def __call__(self, name: str, targets: Sequence[Target], names: Sequence[str], picture: str = "") -> Rows: ...


@cache
def paper() -> dict[str, Any]:
    """What the paper says, by table."""
    return tomllib.loads(Path(__file__).with_name("jiang2017.toml").read_text(encoding="utf-8"))


def redo(
    folder: Path,
    finished: Finished,
    report: bench.Report,
    processes: int,
    leave_out: Callable[[str], object],
) -> tuple[list[Table], list[Row]]:
    """Tables I to VI, and all rows that they are made of. leave_out is told what cannot be measured.

    Raises CorecError, first if there are no pictures.
    """
    if not (folder / PICTURES).is_dir():
        raise FileError(f"{folder} holds no folder {PICTURES}, the seven pictures of the paper")
    beside = usable([*anchors(), CHOICE], leave_out)
    denoiser = usable(["jpeg+bm3d"], leave_out)
    rows: list[Row] = []

    def measure(name: str, targets: Sequence[Target], names: Sequence[str], picture: str = "") -> Rows:
        images = [image for image in bench.pictures_below(folder / name) if PurePosixPath(image).stem == picture]
        request = bench.Request(folder / name, True, tuple(targets), tuple(names), images=tuple(images))
        found = [measured.row for measured in bench.evaluate(request, finished, report, processes)]
        rows.extend(found)
        return {(PurePosixPath(row.image).stem, row.target, row.contender): row for row in found}

    there = {codec.NAME for codec in codecs()} & set(beside)
    found = [*tables_of_jpeg(measure, denoiser, beside)]
    found += tables_of_jpeg2000(measure) if "jpeg2000" in there else [missing("III", "jpeg2000")]
    found += tables_of_bpg(measure) if "bpg" in there else [missing("IV", "bpg")]
    found.append(table_of_seconds(folder / PICTURES, denoiser))
    for anchor in ("jpeg", "jpeg2000"):
        if anchor in {"jpeg", *there}:
            found += tables_of_sets(measure, folder, anchor)
        else:
            found.append(missing("VI", anchor))
    return found, rows


def missing(table: str, codec: str) -> Table:
    return Table(
        f"Table {table}, {codec}: not measured",
        ["codec"],
        [[codec]],
        "The codec is not installed, or not yet in Corec.",
    )


def pairs(codec: str) -> list[str]:
    """Names of the models of both networks for a codec, gray."""
    return [m.name for m in models() if (m.method, m.codec, m.color, m.restores) == (NAME, codec, False, False)]


def pair_at(quality: int) -> str | None:
    """The pair for JPEG at one of the paper's two operating points, or the only pair there is."""
    known = pairs("jpeg")
    named = f"{NAME}-jpeg-qf{quality}-gray"
    return named if named in known else known[0] if len(known) == 1 else None


def restorer() -> str | None:
    """RecCNN alone, gray."""
    return next((m.name for m in models() if m.method == NAME and m.restores and not m.color), None)


def methods_at(quality: int, denoiser: Sequence[str]) -> dict[str, str | None]:
    """What stands for each column of tables I and II; None if nothing does."""
    pair, alone = pair_at(quality), restorer()
    return {
        "JPEG": "jpeg",
        "BM3D": denoiser[0] if denoiser else None,
        "RecCNN": f"jpeg+{alone}" if alone else None,
        "ComCNN": f"{pair}+bicubic" if pair else None,
        "Proposed": pair,
    }


def tables_of_jpeg(measure: Measure, denoiser: Sequence[str], beside: Sequence[str]) -> list[Table]:
    """Tables I and II, and what else does at the same bytes."""
    found = []
    averages: dict[tuple[str, str], dict[str, float]] = {}
    for table in ("I", "II"):
        held = paper()[table]
        at = target(f"jpeg@{held['quality']}")
        methods = methods_at(held["quality"], denoiser)
        names = list(dict.fromkeys([*(name for name in methods.values() if name), *beside]))
        rows = measure(PICTURES, [at], names)
        note = "ComCNN is the compact image enlarged bicubically, RecCNN the repaired JPEG file."
        note += not_measured(methods)
        for figure, places in (("psnr", 2), ("ssim", 4)):
            lines: Lines = {
                picture: {
                    method: (held[figure][method][index], figure_of(rows, picture, at, name, figure))
                    for method, name in methods.items()
                }
                for index, picture in enumerate(held["pictures"])
            }
            title = f"Table {table}: {figure.upper()} at the bytes of {at.name}"
            found.append(comparison(title, lines, [("mean", list(lines))], places, note))
        for name in names:
            averages[at.name, name] = means([rows[picture, at.name, name] for picture in held["pictures"]])
    found.append(table_beside(averages))
    return found


def table_beside(averages: dict[tuple[str, str], dict[str, float]]) -> Table:
    """Means, by target and contender, of everything that tables I and II were measured with."""
    targets = list(dict.fromkeys(at for at, _ in averages))
    rows = []
    for name in dict.fromkeys(name for _, name in averages):
        cells = []
        for at in targets:
            mean = averages.get((at, name), means([]))
            cells += [number(mean["bytes"], 0), number(mean["psnr"]), number(mean["ssim"], 4)]
        rows.append([name, *cells])
    for method in ("ARCNN", "Proposed"):
        cells = []
        for table in ("I", "II"):
            told = {figure: fmean(paper()[table][figure][method]) for figure in ("psnr", "ssim")}
            cells += [NONE, number(told["psnr"]), number(told["ssim"], 4)]
        rows.append([f"{method}, in the paper", *cells])
    head = ["", *(f"{at}: {column}" for at in targets for column in ("bytes", "PSNR", "SSIM"))]
    return Table("Beside tables I and II: means of the seven pictures within the same bytes", head, rows)


def tables_of_jpeg2000(measure: Measure) -> list[Table]:
    """Table III: 0.1 to 0.4 bits per pixel."""
    held = paper()["III"]
    targets = [Target("", rate) for rate in held["rates"]]
    rows = measure(PICTURES, targets, ["jpeg2000", *pairs("jpeg2000")])
    found = []
    for figure, places in (("psnr", 2), ("ssim", 4)):
        lines: Lines = {}
        for index, at in enumerate(targets):
            for picture in held["pictures"]:
                told = {method: held[figure][method][picture][index] for method in ("JPEG 2000", "Proposed")}
                line = {"JPEG 2000": (told["JPEG 2000"], figure_of(rows, picture, at, "jpeg2000", figure))}
                for method, name in proposed("jpeg2000").items():
                    line[method] = (told["Proposed"], figure_of(rows, picture, at, name, figure))
                lines[f"{picture}, {at.name}"] = line
        groups = [(f"mean, {at.name}", [f"{picture}, {at.name}" for picture in held["pictures"]]) for at in targets]
        note = "The paper's JPEG 2000 is Kakadu's, ours OpenJPEG's, packed anew." + not_measured(proposed("jpeg2000"))
        found.append(comparison(f"Table III: {figure.upper()} at equal rates", lines, groups, places, note))
    return found


def tables_of_bpg(measure: Measure) -> list[Table]:
    """Table IV: in the bytes of the paper's files by bpgenc at QP 47 and 43, which are known to the byte."""
    held = paper()["IV"]
    found: dict[str, Lines] = {"bytes": {}, "psnr": {}, "ssim": {}}
    for index, qp in enumerate(held["qps"]):
        for picture in held["pictures"]:
            told = {method: held["figures"][method][picture][index] for method in ("BPG", "Proposed")}
            at = Target(BYTES, told["BPG"][0])
            rows = measure(PICTURES, [at], ["bpg", *pairs("bpg")], picture)
            for position, (figure, lines) in enumerate(found.items()):
                line = {"BPG": (float(told["BPG"][position]), figure_of(rows, picture, at, "bpg", figure))}
                for method, name in proposed("bpg").items():
                    line[method] = (float(told["Proposed"][position]), figure_of(rows, picture, at, name, figure))
                lines[f"{picture}, QP {qp}"] = line
    groups = [(f"mean, QP {qp}", [f"{picture}, QP {qp}" for picture in held["pictures"]]) for qp in held["qps"]]
    note = "All of ours in at most the bytes of the paper's BPG file." + not_measured(proposed("bpg"))
    titles = {"bytes": "bytes", "psnr": "PSNR", "ssim": "SSIM"}
    return [
        comparison(f"Table IV: {titles[figure]} at the bytes of BPG", lines, groups, places, note)
        for (figure, lines), places in zip(found.items(), (0, 2, 4), strict=True)
    ]


def proposed(codec: str) -> dict[str, str | None]:
    """The columns that stand for the paper's method with a codec: one a pair of networks."""
    names = pairs(codec)
    return {f"Proposed, {name}" if len(names) > 1 else "Proposed": name for name in names} or {"Proposed": None}


def tables_of_sets(measure: Measure, folder: Path, anchor: str) -> list[Table]:
    """Half of table VI: means over whole test sets, JPEG by quality or JPEG 2000 by rate."""
    label = {"jpeg": "JPEG", "jpeg2000": "JPEG 2000"}[anchor]
    lines: dict[str, Lines] = {"psnr": {}, "ssim": {}}
    note = ""
    for directory, known_as in SETS.items():
        held = paper()["VI"][anchor][directory]
        if not (folder / directory).is_dir():
            note += f" Not measured: {known_as}, since there is no folder {directory}."
            continue
        for setting in held[label]:
            at = target(f"jpeg@{setting}") if anchor == "jpeg" else Target("", float(setting))
            methods = {label: anchor} | ({"Proposed": pair_at(int(setting))} if anchor == "jpeg" else proposed(anchor))
            names = [name for name in methods.values() if name]
            rows = measure(directory, [at], [*names, CHOICE])
            pictures = list(dict.fromkeys(picture for picture, _, _ in rows))
            for position, figure in enumerate(lines):
                line = {}
                for method, name in (methods | {"Corec": CHOICE}).items():
                    told = held[method.partition(",")[0]][setting][position] if method != "Corec" else math.nan
                    ours = [figure_of(rows, picture, at, name, figure) for picture in pictures]
                    line[method] = (told, fmean(ours))
                lines[figure][f"{known_as}, {at.name}"] = line
            missed = not_measured(methods)
            note += missed if missed not in note else ""
    if not lines["psnr"]:
        return [Table(f"Table VI, {label}: not measured", ["set"], [[name] for name in SETS.values()], note.strip())]
    return [
        comparison(f"Table VI, {label}: mean {figure.upper()}", held_lines, [], places, note.strip())
        for (figure, held_lines), places in zip(lines.items(), (2, 4), strict=True)
    ]


def table_of_seconds(folder: Path, denoiser: Sequence[str]) -> Table:
    """Table V: from a file's bytes to the picture's pixels, on one gray picture of 256x256."""
    image = next(path for path in sorted(folder.iterdir()) if path.stem == TIMED)
    picture = bench.read_gray(image)
    allowed, _ = target("jpeg@5").allowance(picture)
    methods = methods_at(5, denoiser) | {"Corec": CHOICE}
    times = {}
    for method in ("BM3D", "RecCNN", "Proposed", "Corec"):
        name = methods[method]
        if name is None:
            continue
        who = contender(name)
        times[method] = seconds(partial(who.read, who.write(picture, allowed).data))
    rows = []
    for method in ("BM3D", "RecCNN", "Proposed", "Corec"):
        told, ours = paper()["V"].get(method, math.nan), times.get(method, math.nan)
        ratios = [
            number(value / reference, 3)
            for value, reference in ((told, paper()["V"]["BM3D"]), (ours, times.get("BM3D", math.nan)))
        ]
        rows.append([method, number(told), number(ours, 3), *ratios])
    note = (
        f"Seconds from the bytes of a file to pixels, {picture.width}x{picture.height} gray: median of {RUNS} runs in "
        f"one process after one that loads what is needed; threads: {available_threads()}. The paper's machine was a "
        "Xeon E5-2670 at 2.6 GHz."
    )
    head = ["", "paper", "ours", "paper, over BM3D", "ours, over BM3D"]
    return Table("Table V: seconds", head, rows, note + not_measured(methods))


def seconds(work: Callable[[], object]) -> float:
    """The median time of several runs after a first."""
    work()
    times = []
    for _ in range(RUNS):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return median(times)


def figure_of(rows: Rows, picture: str, at: Target, name: str | None, figure: str) -> float:
    """A figure of ours, nan if it was not measured or there is no such file."""
    row = rows[picture, at.name, name] if name else None
    return float(getattr(row, figure)) if row and row.bytes else math.nan


def not_measured(methods: dict[str, str | None]) -> str:
    """A sentence on the columns that nothing stands for."""
    lacking = [method for method, name in methods.items() if name is None]
    return f" Not measured: {', '.join(lacking)}, for want of a model or a package." if lacking else ""


def comparison(title: str, lines: Lines, groups: Sequence[tuple[str, list[str]]], places: int, note: str) -> Table:
    """A table of theirs, ours and the difference; groups: labels of means, and the rows each is of."""
    methods = list(next(iter(lines.values())))
    shown = dict(lines)
    for label, of in groups:
        shown[label] = {
            method: (fmean(lines[row][method][0] for row in of), fmean(lines[row][method][1] for row in of))
            for method in methods
        }
    rows = []
    for label, line in shown.items():
        cells = []
        for told, ours in line.values():
            cells += [number(told, places), number(ours, places), number(ours - told, places, sign=True)]
        rows.append([label, *cells])
    head = ["", *(cell for method in methods for cell in (f"{method}: paper", "ours", "difference"))]
    return Table(title, head, rows, note)
