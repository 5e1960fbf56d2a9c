"""Rows of the bench as tables for people and as numbers for programs."""

from collections.abc import Sequence
from dataclasses import asdict
from statistics import fmean
from typing import Any

from corec.evaluation.bench import Row

FIGURES = ("anchor_bytes", "anchor_psnr", "jpeg_bytes", "jpeg_psnr", "bytes", "psnr")
"""Columns of which a mean is taken: that of the rows, whatever the pictures' sizes."""


def by_anchor(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of each anchor, in order."""
    return {anchor: [row for row in rows if row.anchor == anchor] for anchor in dict.fromkeys(r.anchor for r in rows)}


def means(rows: Sequence[Row]) -> dict[str, float]:
    """The mean of every figure."""
    return {name: fmean(getattr(row, name) for row in rows) for name in FIGURES}


def results(rows: Sequence[Row]) -> dict[str, Any]:
    """What results.json holds: all rows, and their means for each anchor."""
    return {
        "rows": [asdict(row) for row in rows],
        "means": {anchor: means(some) for anchor, some in by_anchor(rows).items()},
    }


def markdown(rows: Sequence[Row]) -> str:
    """A Markdown table for each anchor, with a row of means: PSNR in dB at no more than the anchor's bytes."""
    return "\n".join(table(anchor, some) for anchor, some in by_anchor(rows).items())


def table(anchor: str, rows: Sequence[Row]) -> str:
    """The rows of one anchor as a Markdown table."""
    lines = [
        f"| image | bytes | {anchor} | best plain JPEG | Corec | gain | Corec's bytes | model |",
        "|---|--:|--:|--:|--:|--:|--:|---|",
        *(line(row.image.replace("|", "\\|"), asdict(row), row.model) for row in rows),
        line(f"**mean of {len(rows)}**", means(rows), ""),
    ]
    return "\n".join(lines) + "\n"


def line(name: str, figures: dict[str, Any], model: str) -> str:
    """One row of a table; the gain is Corec's over the best plain JPEG."""
    psnr, plain = figures["psnr"], figures["jpeg_psnr"]
    return (
        f"| {name} | {figures['anchor_bytes']:,.0f} | {figures['anchor_psnr']:.2f} | {plain:.2f} | {psnr:.2f} "
        f"| {psnr - plain:+.2f} | {figures['bytes']:,.0f} | {model} |"
    )
