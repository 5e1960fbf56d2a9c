"""What `corec models` and `corec info` print."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import typer

from corec.batch import is_terminal
from corec.learned import format as corec_file
from corec.models import Learned, Model, learned, models

FRACTIONS = {1: "1", 1.5: "2/3", 2: "1/2", 3: "1/3"}
"""What is said of a scale: the size of a file's image over that of its picture."""
PIPED = 160
"""Columns of the table where it does not go to a terminal."""
Row = dict[str, Any]
"""What is said of a model, or of a file."""


def rows() -> Iterator[Row]:
    """All models, those of the learned codec last."""
    every: list[Model | Learned] = [*models(), *learned()]
    for model in every:
        facts = asdict(model)
        if isinstance(model, Learned):
            yield {"for": "compress", "codec": corec_file.NAME, "scale": 1} | facts
        else:
            shown = {key: fact for key, fact in facts.items() if key != "shapes"}
            yield {"for": "restore" if model.restores else "compress", "scale": model.scale} | shown


def tell(facts: Row) -> None:
    """Print what is in a file, a line each; its scale as in the table of models."""
    for key, value in facts.items():
        text = FRACTIONS[value] if key == "scale" else f"{value:.4g}" if isinstance(value, float) else str(value)
        typer.echo(f"{key.replace('_', ' '):16}{text}")


def show(found: Sequence[Row]) -> None:
    """Print a table of rows; names are whole, however narrow the terminal."""
    from rich.console import Console
    from rich.table import Table

    heads = "name", "number", "method", "for", "codec", "pictures", "scale", "steps", "by default"
    table = Table(*heads, box=None, header_style="bold")
    table.columns[0].no_wrap, table.columns[0].min_width = True, max(len(row["name"]) for row in found)
    for row in found:
        steps = "{:g} to {:g}".format(*row["steps"]) if "steps" in row else ""
        pictures, default = "colour" if row["color"] else "gray", "yes" if row["default"] else "no"
        facts = (
            row["name"],
            str(row["number"]),
            row["method"],
            row["for"],
            row["codec"],
            pictures,
            FRACTIONS[row["scale"]],
            steps,
            default,
        )
        table.add_row(*facts)
    Console(width=None if is_terminal(sys.stdout) else PIPED).print(table)
