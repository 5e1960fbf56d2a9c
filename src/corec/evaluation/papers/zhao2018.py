"""The claims of Zhao et al. 2018 ("Mixed-Resolution Image Representation", arXiv 1802.01447) beside what is measured.

The folder holds test sets: paper7, set5, set14 and kodak, as far as there are.
"""

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean

from corec.evaluation.papers import zhao
from corec.evaluation.papers.study import Redone, Study, crosses, gains, table_of_margins
from corec.evaluation.report import crossed
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
    """At which rate full resolution becomes the better one, by the mean curves."""
    rows = []
    for label, results in sets.items():
        for low in half:
            for high in full:
                by_target = {at.name: gain for at, gain in gains(results, high, low)}
                cells = [number(by_target[at.name], sign=True) if at.name in by_target else NONE for at in zhao.TARGETS]
                rows.append([f"{label}: {high} over {low}", *cells, crossed(crosses(results, high, low))])
    note = (
        "The abstract: from some rate on a description of low resolution holds no more, and one of full resolution is "
        "better. PSNR of full over half resolution in dB by rate, and where their mean curves cross, taken for "
        "straight over log rate between their points."
    )
    head = ["", *(at.name for at in zhao.TARGETS), "full resolution"]
    return Table("Zhao et al. 2018: where full resolution takes over", head, rows, note + absent)


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
