"""The claims of Zhao et al. 2018 ("Mixed-Resolution Image Representation", arXiv 1802.01447) beside what is measured.

The folder holds test sets: paper7, set5, set14 and kodak, as far as there are.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean, median

from corec.evaluation.curves import crossings
from corec.evaluation.papers import zhao
from corec.evaluation.papers.study import Redone, Study, table_of_margins
from corec.evaluation.results import Results
from corec.evaluation.rows import Row
from corec.evaluation.tables import NONE, Table, number

NAME = "zhao2018"


def redo(study: Study) -> Redone:
    """Half resolution, full resolution and the choice between them, beside plain and otherwise wrapped JPEG files."""
    half = [m.name for m in zhao.descriptions(NAME, 2) or zhao.descriptions("zhao2017", 2)]
    full = [m.name for m in zhao.descriptions(NAME, 1)]
    names, missing = study.known([*zhao.BESIDE, *half, *full, NAME], gray=True)
    sets = zhao.measured(study, names)
    missing += ["half resolution"] * (not half) + ["full resolution"] * (not full)
    absent = zhao.absent(study, missing)
    claims = [table_of_crossover(sets, half, full, absent)]
    if NAME in names:
        claims.append(table_of_envelope(sets, [*half, *full]))
        note = "The abstract: far ahead of several methods of its time."
        others = [name for name in names if name != NAME]
        claims.append(table_of_margins("Zhao et al. 2018: mixed resolution in PSNR", sets, NAME, others, note))
    return zhao.redone(sets, claims)


def table_of_crossover(sets: Mapping[str, Results], half: Sequence[str], full: Sequence[str], absent: str) -> Table:
    """At which rate full resolution becomes the better one, picture by picture."""
    rows = []
    for label, results in sets.items():
        for low in half:
            for high in full:
                cells = []
                for target in zhao.TARGETS:
                    reached = [psnr_of(results.at(target.name, name)) for name in (low, high)]
                    gains = [reached[1][image] - reached[0][image] for image in reached[0].keys() & reached[1].keys()]
                    better = sum(gain > 0 for gain in gains) + len(reached[1].keys() - reached[0].keys())
                    by = f", {number(fmean(gains), sign=True)}" if gains else ""
                    cells.append(f"{better} of {len(results.images)}{by}")
                rate = median(takes_over(results, image, low, high) for image in results.images)
                cells.append(f"from {number(rate, 3)} bpp" if math.isfinite(rate) else "none in range")
                rows.append([f"{label}: {high} over {low}", *cells])
    note = (
        "The abstract: from some rate on a description of low resolution holds no more, and one of full resolution is "
        "better. For how many pictures full resolution is the better one, at each rate, and by how many dB on the mean "
        "over those that have files of both; then the median over pictures of the rate from which it is: where a "
        "picture's curves cross, straight over log rate, or that of its smallest file of full resolution."
    )
    head = ["", *(at.name for at in zhao.TARGETS), "median picture"]
    return Table("Zhao et al. 2018: where full resolution takes over", head, rows, note + absent)


def psnr_of(rows: Sequence[Row]) -> dict[str, float]:
    """PSNR by picture, of those that have a file."""
    return {row.image: row.psnr for row in rows if row.bytes}


def takes_over(results: Results, image: str, low: str, high: str) -> float:
    """The rate from which `high` is the better one for a picture: infinity if it never is."""
    below, above = (
        [(row.bpp, row.psnr) for row in results.rows if (row.image, row.contender) == (image, name) and row.bytes]
        for name in (low, high)
    )
    if found := crossings(below, above):
        return found[-1].rate if found[-1].ahead else math.inf
    ends = [max(points, default=(0.0, -math.inf))[1] for points in (below, above)]
    return min(above)[0] if ends[1] > ends[0] else math.inf


def table_of_envelope(sets: Mapping[str, Results], single: Sequence[str]) -> Table:
    """What the choice costs against always having the better one."""
    rows = []
    for label, results in sets.items():
        losses, right = [], 0
        for chosen, best in choices(results, single):
            losses.append(best.psnr - chosen.psnr)
            right += chosen.model == best.model or chosen.psnr >= best.psnr
        share = f"{100 * right / len(losses):.0f} %" if losses else NONE
        figures = [number(fmean(losses)), number(max(losses))] if losses else [NONE, NONE]
        rows.append([label, number(len(losses), 0), *figures, share])
    note = f"Every picture at every rate: {NAME} against the better of {', '.join(single)} for that picture."
    head = ["", "files", "mean loss, dB", "greatest", "better one chosen"]
    return Table("Zhao et al. 2018: how close mixed resolution is to the better of the two", head, rows, note)


def choices(results: Results, single: Sequence[str]) -> Iterator[tuple[Row, Row]]:
    """The row of the choice and the best row of its models, for each picture and target at which there are any."""
    for target in results.request.targets:
        best: dict[str, Row] = {}
        for name in single:
            for row in results.at(target.name, name):
                if row.bytes and (row.image not in best or row.psnr > best[row.image].psnr):
                    best[row.image] = row
        for row in results.at(target.name, NAME):
            if row.bytes and row.image in best:
                yield row, best[row.image]
