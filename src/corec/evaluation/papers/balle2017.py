"""Learned transform codecs in the line of Ballé et al. 2017 (arXiv 1611.01704) over Kodak, beside published curves.

The folder holds kodak, in colour. The curve that goes by the name balle-2017 in tensorflow/compression has, point for
point, the figures that CompressAI gives for the factorised prior of 2018 (bmshj2018-factorized). Most likely it is that
network of four stages, not the paper's of three; no source says so. It is named after both here.
"""

import math
from collections.abc import Mapping, Sequence

from corec.evaluation.curves import Curve, difference
from corec.evaluation.papers.study import UNITS, Redone, Study, not_measured, table_of_curves
from corec.evaluation.plots import height, plot
from corec.evaluation.published import published
from corec.evaluation.results import Results, curve
from corec.evaluation.tables import NONE, Table, extent, number
from corec.evaluation.targets import Target
from corec.models import learned

PICTURES = "kodak"
ANCHORS = ("jpeg", "jpeg2000")
"""Those of the paper itself; the published curves have the others."""
TARGETS = [Target("", rate) for rate in (0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0, 1.5)]
NAME_OF_2017 = (
    "The curve published as that of 2017 is the very one published as that of 2018's factorised prior, and most likely "
    "of the latter."
)


def redo(study: Study) -> Redone:
    """Curves of all learned models for colour, and how they differ from the paper's anchors and published curves."""
    study.there([PICTURES])
    ours = [model.name for model in learned() if model.color]
    names, missing = study.known([*ANCHORS, *ours], gray=False)
    missing += [] if ours else ["learned models for colour"]
    ours = [name for name in ours if name in names]
    results = study.measure(PICTURES, TARGETS, names, gray=False)
    tables = [table_of_curves(results, "Kodak", figure) for figure in ("psnr", "ms_ssim")]
    tables += [table_of_rates(results, ours, figure) for figure in ("psnr", "ms_ssim")] if ours else []
    tables[0] = Table(tables[0].title, tables[0].head, tables[0].rows, ("RGB." + not_measured(missing)).strip())
    return Redone(tables, {f"curves-{PICTURES}.png": plot(results)})


def table_of_rates(results: Results, ours: Sequence[str], figure: str) -> Table:
    """BD-rates of ours against anchors that were measured and against published curves."""
    curves = references(results, figure, [name for name in results.request.contenders if name not in ours])
    rows = []
    for name, reference in curves.items():
        cells = []
        for who in ours:
            d = difference(reference, drawn(figure, curve(results, who, figure)))
            cells += [f"{number(d.rate, 1, sign=True)} %", extent(d.qualities)] if d else [NONE, NONE]
        rows.append([name, *cells])
    note = f"By Akima's interpolation, over the range where both curves exist. {NAME_OF_2017}"
    if figure == "ms_ssim":
        note += " MS-SSIM as -10 log10(1 - x), in dB."
    if not published(results.images, results.request.gray):
        note += " Published curves are of all 24 pictures, which these are not."
    head = ["against", *(text for who in ours for text in (who, "over dB"))]
    return Table(f"Kodak: BD-rate in {UNITS[figure][0].partition(' ')[0]}", head, rows, note)


def references(results: Results, figure: str, anchors: Sequence[str]) -> Mapping[str, Curve]:
    """What ours are compared with."""
    curves = {name: drawn(figure, curve(results, name, figure)) for name in anchors}
    for name, points in published(results.images, results.request.gray).items():
        told = [(bpp, psnr if figure == "psnr" else ms_ssim) for bpp, psnr, ms_ssim in points]
        curves[f"{name} (published)"] = drawn(figure, [(bpp, value) for bpp, value in told if value is not None])
    return curves


def drawn(figure: str, points: Curve) -> Curve:
    """A curve as it is drawn: MS-SSIM in dB."""
    return [(bpp, height(figure, value)) for bpp, value in points if not math.isnan(value)]
