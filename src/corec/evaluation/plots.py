"""The results drawn: curves over rate, or, where there are few rates, a row of dots for each target."""

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from corec.errors import MissingExtraError
from corec.evaluation.contenders import anchors
from corec.evaluation.published import published
from corec.evaluation.results import Results, curve, means
from corec.evaluation.targets import Target
from corec.quiet import quiet

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FIGURES = (("psnr", "PSNR, dB"), ("ssim", "SSIM"), ("ms_ssim", "MS-SSIM, dB"))
"""Of a row, and what is written at its axis; MS-SSIM is drawn as -10 log10(1 - x), since all of it lies near 1."""
OURS = ("#c2185b", "#e65100", "#6a1b9a", "#00695c", "#f9a825", "#b71c1c")
ANCHORS = ("#9e9e9e", "#616161", "#212121", "#1e88e5", "#43a047", "#8d6e63", "#00acc1", "#7cb342", "#5e35b1", "#3949ab")
PUBLISHED = ("#90a4ae", "#546e7a", "#a1887f", "#9fa8da", "#80cbc4", "#c0ca33", "#ce93d8", "#ffab91", "#c5e1a5")
FEW = 3
"""So many targets make no curve."""


def plot(results: Results) -> bytes:
    """The plot as a PNG file. Raises MissingExtraError."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("plots need matplotlib: pip install 'corec[evaluate]'") from error
    targets = results.request.targets
    if len(targets) < FEW:
        height = 1.2 + len(targets) * (0.7 + 0.24 * len(results.request.contenders))
        figure = Figure(figsize=(13, height), layout="constrained")
        grid: Any = figure.subplots(len(targets), len(FIGURES), squeeze=False)
        for row, target in zip(grid, targets, strict=True):
            for axes, (name, label) in zip(row, FIGURES, strict=True):
                draw_dots(axes, results, target, name, label)
    else:
        figure = Figure(figsize=(15, 6.4), layout="constrained")
        row = figure.subplots(1, len(FIGURES))
        for axes, (name, label) in zip(row, FIGURES, strict=True):
            draw_curves(axes, results, name, label)
        lines, labels = row[-1].get_legend_handles_labels()  # PSNR's has the published curves without MS-SSIM too
        known = dict(zip(labels, lines, strict=True)) | {
            label: line for line, label in zip(*row[0].get_legend_handles_labels(), strict=True)
        }
        figure.legend(known.values(), known, loc="outside lower center", ncols=5, frameon=False)
    count = len(results.images)
    kind = "luma" if results.request.gray else "RGB"
    title = f"{results.name}: means of {count} picture{'s' if count > 1 else ''}, {kind}"
    figure.suptitle(title.encode("utf-8", "backslashreplace").decode(), parse_math=False)
    FigureCanvasAgg(figure)
    file = io.BytesIO()
    with quiet():  # of letters that its font has not
        figure.savefig(file, format="png", dpi=150)
    return file.getvalue()


def draw_curves(axes: "Axes", results: Results, figure: str, label: str) -> None:
    """A line for each contender with a mean at two rates or more; published ones dashed."""
    rates: list[float] = []
    for name, color in colors(results.request.contenders).items():
        points = [(bpp, height(figure, value)) for bpp, value in curve(results, name, figure)]
        rates += [bpp for bpp, _ in points]
        if points:
            ours = name not in anchors()
            style: dict[str, Any] = {"linewidth": 2.4 if ours else 1.3, "marker": "o", "markersize": 4 if ours else 2.5}
            axes.plot(*zip(*points, strict=True), color=color, label=name, zorder=3 if ours else 2, **style)
    if figure != "ssim" and rates:
        low, high = min(rates), max(rates)
        for (name, held), color in zip(
            published(results.images, results.request.gray).items(), PUBLISHED, strict=False
        ):
            drawn = [(bpp, psnr if figure == "psnr" else ms_ssim) for bpp, psnr, ms_ssim in held]
            points = [(b, height(figure, v)) for b, v in drawn if v is not None and low / 1.5 <= b <= high * 1.5]
            if points:
                label_of = f"{name} (published)"
                axes.plot(*zip(*points, strict=True), "--", color=color, linewidth=1.2, label=label_of, zorder=1)
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    ticks = [tick for tick in (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1, 1.5, 2, 3) if low <= tick <= high]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("bits per pixel")
    axes.set_ylabel(label)
    dress(axes)


def draw_dots(axes: "Axes", results: Results, target: Target, figure: str, label: str) -> None:
    """A dot for each contender that has a mean, in the order of the request."""
    names = results.request.contenders
    for at, (name, color) in enumerate(colors(names).items()):
        value = height(figure, means(results.at(target.name, name))[figure])
        if math.isfinite(value):
            axes.plot(value, at, "o", color=color, markersize=7)
            text = f"{value:.4f}" if figure == "ssim" else f"{value:.2f}"
            axes.annotate(text, (value, at), (7, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.margins(x=0.2)
    axes.set_xlabel(f"{label}, {target.bound}")
    dress(axes)


def colors(names: Sequence[str]) -> dict[str, str]:
    """A color for each contender: strong ones for what has to do with Corec."""
    known = anchors()
    found, counts = {}, [0, 0]
    for name in names:
        palette, which = (ANCHORS, 0) if name in known else (OURS, 1)
        found[name] = palette[counts[which] % len(palette)]
        counts[which] += 1
    return found


def height(figure: str, value: float) -> float:
    """Where a figure is drawn."""
    return -10 * math.log10(max(1 - value, 1e-9)) if figure == "ms_ssim" else value


def dress(axes: "Axes") -> None:
    axes.grid(color="#e0e0e0", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
