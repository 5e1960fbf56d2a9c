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
from typing import Any

from corec.codecs.registry import codecs
from corec.errors import FileError
from corec.evaluation import bench
from corec.evaluation.contenders import CHOICE, anchors, contender
from corec.evaluation.papers.study import Redone, Study, not_measured
from corec.evaluation.results import means
from corec.evaluation.rows import Row
from corec.evaluation.tables import NONE, Table, number
from corec.evaluation.targets import BYTES, Target, target
from corec.models import models
from corec.picture import read_picture
from corec.runtime import available_threads

NAME = "jiang2017"
SETS = {"set5": "Set5", "set14": "Set14", "live1": "LIVE1"}
PICTURES = "paper7"
TIMED = "cameraman"
RUNS = 5
OURS = "Corec"
"""Column of Corec's own choice, which is compared with the paper's Proposed."""

Lines = dict[str, dict[str, tuple[float, float]]]
"""Row -> method -> (the paper's figure, ours); nan for what there is not."""
Rows = dict[tuple[str, str, str], Row]
"""By picture, target and contender."""


@cache
def paper() -> dict[str, Any]:
    """What the paper says, by table."""
    return tomllib.loads(Path(__file__).with_name("jiang2017.toml").read_text(encoding="utf-8"))


def redo(study: Study) -> Redone:
    """Tables I to VI. Raises CorecError, first if there are no pictures."""
    if not study.has(PICTURES):
        raise FileError(f"{study.folder} holds no folder {PICTURES}, the seven pictures of the paper")
    there = {PurePosixPath(image).stem for image in study.pictures(PICTURES)}
    if absent := sorted({*paper()["I"]["pictures"], TIMED} - there):
        raise FileError(f"{study.folder / PICTURES} lacks {', '.join(absent)} of the paper's seven pictures")
    beside = study.usable([*anchors(), CHOICE])
    denoiser = study.usable(["jpeg+bm3d"])
    there = {codec.NAME for codec in codecs()} & set(beside)
    found = [*tables_of_jpeg(study, denoiser, beside)]
    found += tables_of_jpeg2000(study) if "jpeg2000" in there else [missing("III", "jpeg2000")]
    found += tables_of_bpg(study) if "bpg" in there else [missing("IV", "bpg")]
    found.append(table_of_seconds(study.folder / PICTURES, denoiser))
    for anchor in ("jpeg", "jpeg2000"):
        if anchor in {"jpeg", *there}:
            found += tables_of_sets(study, anchor)
        else:
            found.append(missing("VI", anchor))
    return Redone(found, {})


def measure(study: Study, name: str, targets: Sequence[Target], names: Sequence[str], picture: str = "") -> Rows:
    """The rows of a test set, or of one picture of it."""
    rows = study.measure(name, targets, names, picture).rows
    return {(PurePosixPath(row.image).stem, row.target, row.contender): row for row in rows}


def missing(table: str, codec: str) -> Table:
    return Table(
        f"Table {table}, {codec}: not measured",
        ["codec"],
        [[codec]],
        "The codec is not installed, or not yet in Corec.",
    )


def models_of(codec: str, restores: bool) -> list[str]:
    """Names of the gray models for a codec: of both networks, or of RecCNN alone."""
    known = (m for m in models() if (m.method, m.codec, m.color) == (NAME, codec, False))
    return [model.name for model in known if model.restores == restores]


def model_at(quality: int, restores: bool) -> str | None:
    """The model for JPEG at one of the paper's two operating points, or the one for both."""
    known = models_of("jpeg", restores)
    own = [name for name in known if f"-qf{quality}-" in name] or [name for name in known if "-qf" not in name]
    return own[0] if own else None


def methods_at(quality: int, denoiser: Sequence[str]) -> dict[str, str | None]:
    """What stands for each column of tables I and II; None if nothing does."""
    pair, alone = (model_at(quality, restores) for restores in (False, True))
    return {
        "JPEG": "jpeg",
        "BM3D": denoiser[0] if denoiser else None,
        "RecCNN": f"jpeg+{alone}" if alone else None,
        "ComCNN": f"{pair}+bicubic" if pair else None,
        "Proposed": pair,
    }


def tables_of_jpeg(study: Study, denoiser: Sequence[str], beside: Sequence[str]) -> list[Table]:
    """Tables I and II, and what else does at the same bytes."""
    found = []
    averages: dict[tuple[str, str], dict[str, float]] = {}
    for table in ("I", "II"):
        held = paper()[table]
        at = target(f"jpeg@{held['quality']}")
        methods = methods_at(held["quality"], denoiser)
        names = list(dict.fromkeys([*(name for name in methods.values() if name), *beside]))
        rows = measure(study, PICTURES, [at], names)
        note = "ComCNN is the compact image enlarged bicubically, RecCNN the repaired JPEG file."
        note += not_measured(lacking(methods))
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


def tables_of_jpeg2000(study: Study) -> list[Table]:
    """Table III: 0.1 to 0.4 bits per pixel."""
    held = paper()["III"]
    targets = [Target("", rate) for rate in held["rates"]]
    methods = {"JPEG 2000": "jpeg2000"} | wrapped("jpeg2000")
    rows = measure(study, PICTURES, targets, [name for name in methods.values() if name])
    found = []
    for figure, places in (("psnr", 2), ("ssim", 4)):
        lines: Lines = {
            f"{picture}, {at.name}": {
                method: (held[figure][column_of(method)][picture][index], figure_of(rows, picture, at, name, figure))
                for method, name in methods.items()
            }
            for index, at in enumerate(targets)
            for picture in held["pictures"]
        }
        groups = [(f"mean, {at.name}", [f"{picture}, {at.name}" for picture in held["pictures"]]) for at in targets]
        note = "The paper's JPEG 2000 is Kakadu's, ours OpenJPEG's, packed anew." + not_measured(lacking(methods))
        found.append(comparison(f"Table III: {figure.upper()} at equal rates", lines, groups, places, note))
    return found


def tables_of_bpg(study: Study) -> list[Table]:
    """Table IV: in the bytes of the paper's files by bpgenc at QP 47 and 43, which are known to the byte."""
    held = paper()["IV"]
    methods = {"BPG": "bpg"} | wrapped("bpg")
    names = [name for name in methods.values() if name]
    found: dict[str, Lines] = {"bytes": {}, "psnr": {}, "ssim": {}}
    for index, qp in enumerate(held["qps"]):
        for picture in held["pictures"]:
            told = {method: held["figures"][column_of(method)][picture][index] for method in methods}
            at = Target(BYTES, held["figures"]["BPG"][picture][index][0])
            rows = measure(study, PICTURES, [at], names, picture)
            for position, (figure, lines) in enumerate(found.items()):
                lines[f"{picture}, QP {qp}"] = {
                    method: (float(told[method][position]), figure_of(rows, picture, at, name, figure))
                    for method, name in methods.items()
                }
    groups = [(f"mean, QP {qp}", [f"{picture}, QP {qp}" for picture in held["pictures"]]) for qp in held["qps"]]
    note = "All of ours in at most the bytes of the paper's BPG file." + not_measured(lacking(methods))
    titles = {"bytes": "bytes", "psnr": "PSNR", "ssim": "SSIM"}
    return [
        comparison(f"Table IV: {titles[figure]} at the bytes of BPG", lines, groups, places, note)
        for (figure, lines), places in zip(found.items(), (0, 2, 4), strict=True)
    ]


def wrapped(codec: str) -> dict[str, str | None]:
    """The columns for a codec: the paper's method, one a pair of networks, and Corec's own choice."""
    names: Sequence[str | None] = models_of(codec, False) or [None]
    columns = [f"Proposed, {name}" if len(names) > 1 else "Proposed" for name in names]
    return {**dict(zip(columns, names, strict=True)), OURS: f"{CHOICE}:{codec}"}


def column_of(method: str) -> str:
    """The column of the paper that one of ours is compared with."""
    return "Proposed" if method == OURS else method.partition(",")[0]


def tables_of_sets(study: Study, anchor: str) -> list[Table]:
    """Half of table VI: means over whole test sets, JPEG by quality or JPEG 2000 by rate."""
    label = {"jpeg": "JPEG", "jpeg2000": "JPEG 2000"}[anchor]
    lines: dict[str, Lines] = {"psnr": {}, "ssim": {}}
    note = ""
    for directory, known_as in SETS.items():
        held = paper()["VI"][anchor][directory]
        if not study.has(directory):
            note += not_measured([known_as], f"since there is no folder {directory}")
            continue
        for setting in held[label]:
            at = target(f"jpeg@{setting}") if anchor == "jpeg" else Target("", float(setting))
            methods: dict[str, str | None] = {label: anchor, **wrapped(anchor)}
            if anchor == "jpeg":
                methods = {label: anchor, "Proposed": model_at(int(setting), False), OURS: CHOICE}
            rows = measure(study, directory, [at], [name for name in methods.values() if name])
            pictures = list(dict.fromkeys(picture for picture, _, _ in rows))
            for position, figure in enumerate(lines):
                lines[figure][f"{known_as}, {at.name}"] = {
                    method: (
                        held[column_of(method)][setting][position],
                        fmean(figure_of(rows, picture, at, name, figure) for picture in pictures),
                    )
                    for method, name in methods.items()
                }
            missed = not_measured(lacking(methods))
            note += missed if missed not in note else ""
    if not lines["psnr"]:
        return [Table(f"Table VI, {label}: not measured", ["set"], [[name] for name in SETS.values()], note.strip())]
    return [
        comparison(f"Table VI, {label}: mean {figure.upper()}", held_lines, [], places, note.strip())
        for (figure, held_lines), places in zip(lines.items(), (2, 4), strict=True)
    ]


def table_of_seconds(folder: Path, denoiser: Sequence[str]) -> Table:
    """Table V: from a file's bytes to the picture's pixels, on one gray picture of 256x256."""
    image = next(name for name in bench.pictures_below(folder) if PurePosixPath(name).stem == TIMED)
    picture = read_picture(folder / image).luma()
    allowed, _ = target("jpeg@5").allowance(picture)
    methods = methods_at(5, denoiser) | {OURS: CHOICE}
    times = {}
    for method in ("BM3D", "RecCNN", "Proposed", OURS):
        name = methods[method]
        if name is None:
            continue
        who = contender(name)
        times[method] = seconds(partial(who.read, who.write(picture, allowed).data))
    rows = []
    for method in ("BM3D", "RecCNN", "Proposed", OURS):
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
    return Table("Table V: seconds", head, rows, note + not_measured(lacking(methods)))


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


def lacking(methods: dict[str, str | None]) -> list[str]:
    """The columns that nothing stands for."""
    return [method for method, name in methods.items() if name is None]


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
        for method, (told, ours) in line.items():
            cells += [number(told, places)] if method != OURS else []
            cells += [number(ours, places), number(ours - told, places, sign=True)]
        rows.append([label, *cells])
    head = [""]
    for method in methods:
        head += [OURS, "over the paper's Proposed"] if method == OURS else [f"{method}: paper", "ours", "difference"]
    return Table(title, head, rows, note)
