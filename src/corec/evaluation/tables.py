"""Tables of text, for the terminal and for files."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

NONE = "-"
"""For a figure that there is not."""


@dataclass(frozen=True)
class Table:
    """Rows of cells under a head; the first cell of a row is its name."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


def markdown(table: Table) -> str:
    """The table with its title and note, as Markdown that ends in a newline."""
    lines = [line(table.head), "|---|" + "--:|" * (len(table.head) - 1), *map(line, table.rows)]
    parts = [f"## {table.title}", table.note, "\n".join(lines)]
    return "\n\n".join(part for part in parts if part) + "\n"


def line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(" ".join(cell.splitlines()).replace("|", "\\|") for cell in cells) + " |"


def number(value: float, places: int = 2, sign: bool = False) -> str:
    """A figure with so many decimal places; "-" for nan."""
    if math.isnan(value):
        return NONE
    return f"{value:{'+' if sign else ''},.{places}f}"


def extent(ends: tuple[float, float], places: int = 2) -> str:
    """A range, as "0.10 to 0.80"."""
    return " to ".join(number(end, places) for end in ends)
