"""The models that come with Corec: one row of zoo/manifest.toml each.

A model's number is in every file it wrote and never changes its meaning. Before version 1.0 a model may
be retired: its number stays taken, and its files get an error that says so.
"""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from corec.errors import ModelError

ZOO = Path(__file__).parent / "zoo"
PLAIN = "plain"


@dataclass(frozen=True)
class Model:
    """All that is known of a model."""

    name: str
    number: int
    """As in the envelope; 0 is plain()."""
    method: str
    """Module of corec.methods that trained it."""
    codec: str
    """Name of the codec between its two networks."""
    color: bool
    """True: three planes, YCbCr. False: luma."""
    scale: int
    """Picture size over compact image size: 2 or 1."""
    default: bool
    """Whether compress (or restore) considers it unless told a model."""
    steps: tuple[float, float]
    """Range of the mean luma quantiser step, in levels, that it was trained for."""
    shapes: tuple[tuple[float, ...], ...]
    """Multipliers of the step, one row of 64 a quantisation table, in row order."""
    compact: str
    """File of the compact network in the zoo; empty for a model that only restores plain files."""
    compact_sha256: str
    reconstruct: str
    """File of the reconstruction network in the zoo."""
    reconstruct_sha256: str
    training: dict[str, Any]
    """Recipe, data, steps, seconds, hardware, seed, commit."""

    @property
    def restores(self) -> bool:
        """Whether it is for plain files of anybody (restore), not for our own (compress, decompress)."""
        return bool(self.reconstruct) and not self.compact

    @property
    def is_plain(self) -> bool:
        """Whether it has no networks at all: see plain()."""
        return not self.reconstruct


def plain(codec: str, color: bool, steps: tuple[float, float]) -> Model:
    """The codec alone, without networks: for rates at which it needs none, and where there is no model yet."""
    return Model(PLAIN, 0, "", codec, color, 1, True, steps, (), "", "", "", "", {})


@cache
def read_manifest() -> tuple[tuple[Model, ...], dict[int, str]]:
    """The models, and the names of retired ones by number. Raises ModelError for a damaged manifest."""
    try:
        manifest = tomllib.loads((ZOO / "manifest.toml").read_text(encoding="utf-8"))
        rows = tuple(
            Model(**{**row, "steps": tuple(row["steps"]), "shapes": tuple(map(tuple, row["shapes"]))})
            for row in manifest.get("model", [])
        )
        return rows, {row["number"]: row["name"] for row in manifest.get("retired", [])}
    except (OSError, ValueError, TypeError, KeyError) as error:  # what is no TOML or UTF-8 is a ValueError
        raise ModelError(f"the list of models cannot be read: {error}; reinstall Corec") from error


def models() -> tuple[Model, ...]:
    """All models, by number."""
    return read_manifest()[0]


def model_named(name: str) -> Model:
    """The model of this name. Raises ModelError."""
    for model in models():
        if model.name == name:
            return model
    raise ModelError(f"no model {name!r}; there are: {', '.join(m.name for m in models())}")


def model_numbered(number: int) -> Model:
    """The model of this number. Raises ModelError for an unknown or retired one."""
    for model in models():
        if model.number == number:
            return model
    retired = read_manifest()[1]
    if number in retired:
        raise ModelError(
            f"model {number} ({retired[number]}) was retired before version 1.0; this Corec cannot read it"
        )
    raise ModelError(f"the file needs model {number}, which this Corec does not have: update it")
