"""The models that come with Corec: one row of zoo/manifest.toml each.

A model's number is in every file it wrote and never changes its meaning. Before version 1.0 a model may
be retired: its number stays taken, and its files get an error that says so.
"""

import tomllib
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from corec.errors import ModelError

ZOO = Path(__file__).parent / "zoo"
PLAIN = "plain"
SIZES = {1.5: "two-thirds", 3.0: "third"}
"""What models of half size are called at other sizes, picture over compact image."""


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
    ratio: int
    """What the networks make of a side, or what it is made of: pixels to a sample of the compact image, 2 or 1."""
    default: bool
    """Whether compress (or restore) considers it unless told a model."""
    steps: tuple[float, float]
    """Range of the mean luma quantiser step, in levels, that it was trained for."""
    shapes: tuple[tuple[float, ...], ...]
    """Multipliers of the step, one row of 64 a quantisation table, in row order."""
    compact: str
    """File of the compact network in the zoo; empty where pictures go into the codec as they are."""
    compact_sha256: str
    reconstruct: str
    """File of the reconstruction network in the zoo."""
    reconstruct_sha256: str
    training: dict[str, Any] = field(hash=False)
    """Recipe, data, steps, seconds, hardware, seed, commit."""
    pays: float | None = None
    """From which step on it is better at equal bytes than a finer resolution and the codec alone: the step that a
    forecast gives the picture (corec.forecast), in levels; for a model of half the size, in multiples of what halving
    loses. None: not known, and found out for each picture. benchmarks/choice.py measures it."""

    scales: tuple[float, ...] = ()
    """Other sizes at which its networks are used, too, picture over compact image: see at_scale()."""
    scales_pay: tuple[float, ...] = ()
    """pays at each of them, as far as it is known."""
    resized: float = 0.0
    """If it is the model at another size, that: its networks see pictures of ratio / resized times the size."""

    both_ways: bool = False
    """Whether the networks look at an image as it is and with rows and columns exchanged, unless it is very large: the
    mean of what they make of the two is some hundredths of a decibel better than either."""

    slope: str = ""
    """File of the zoo that makes, behind reconstruct, a network that tells how its error depends on images; empty
    where there is none."""
    slope_sha256: str = ""

    restores: bool = False
    """Whether it is for plain files of anybody (restore), not for our own (compress, decompress)."""

    which: tuple[float, ...] = ()
    """What networks that are for several codecs are told beside the step: 1 at the codec's place among them, else 0."""

    luma: int = 0
    """Number of the gray model whose network behind the codec restores luma, before reconstruct sees it; 0: none."""

    @property
    def scale(self) -> float:
        """Picture size over compact image size: 3, 2, 1.5 or 1."""
        return self.resized or self.ratio

    @property
    def is_plain(self) -> bool:
        """Whether it has no networks at all: see plain()."""
        return not self.reconstruct

    @property
    def is_bare(self) -> bool:
        """Whether the codec gets pictures as they are, so that files are, but for the envelope, those of it alone."""
        return self.scale == 1 and not self.compact and not self.shapes


@dataclass(frozen=True)
class Learned:
    """All that is known of a model of the learned codec, which writes files of its own (.corec)."""

    name: str
    number: int
    """As in its files, and no Model's."""
    method: str
    """Module of corec.methods that trained it."""
    color: bool
    """True: RGB. False: luma."""
    default: bool
    """Whether the learned codec takes it unless told a model."""
    files: dict[str, str] = field(hash=False)
    """Part -> its file in the zoo: analysis, synthesis, tables; with contexts context0, context1, ...; and slope, which
    behind synthesis makes a network of it that tells how its error depends on latents."""
    sha256: dict[str, str] = field(hash=False)
    """Part -> its file's digest."""
    training: dict[str, Any] = field(hash=False)
    """Recipe, data, steps, seconds, hardware, seed, commit."""
    price: float = 0.0
    """Of a bit, in squared bins, at which symbols were chosen in training: see corec.learned.codec.chosen()."""

    def __post_init__(self) -> None:
        parts = {"analysis", "synthesis", "tables", *self.contexts}
        if set(self.files) - {"slope"} != parts or set(self.files) != set(self.sha256):
            raise ValueError(f"{self.name} has parts {', '.join(self.files)}")

    @property
    def refines(self) -> bool:
        """Whether it can suit latents to a picture: see corec.learned.refine."""
        return "slope" in self.files

    @property
    def contexts(self) -> list[str]:
        """The parts, in their order, that tell how latents are distributed from those before; none: tables do."""
        return [f"context{at}" for at in range(sum(part.startswith("context") for part in self.files))]


def at_scale(row: Model, scale: float) -> Model:
    """A model of half size as it is for another: pictures are resized before its networks, and back behind them. It has
    the number of the other one; the envelope tells them apart."""
    at = row.scales.index(scale)
    pays = row.scales_pay[at] if at < len(row.scales_pay) else None
    return replace(row, name=name_at(row.name, scale), pays=pays, scales=(), scales_pay=(), resized=scale)


def name_at(name: str, scale: float) -> str:
    """What a model of half size is called at another one."""
    return f"{name.removesuffix('-half')}-{SIZES[scale]}"


def at_all_scales(rows: list[Model]) -> tuple[Model, ...]:
    """Models, each of them followed by itself at its other sizes."""
    return tuple(model for row in rows for model in (row, *(at_scale(row, scale) for scale in row.scales)))


def plain(codec: str, color: bool, steps: tuple[float, float]) -> Model:
    """The codec alone, without networks: for rates at which it needs none, and where there is no model yet."""
    return Model(PLAIN, 0, "", codec, color, 1, True, steps, (), "", "", "", "", {})


class Manifest(NamedTuple):
    """All rows, each kind by number."""

    models: tuple[Model, ...]
    learned: tuple[Learned, ...]
    retired: dict[int, str]
    """Number -> name."""


@cache
def read_manifest() -> Manifest:
    """The manifest as it stands. Raises ModelError for a damaged one."""
    try:
        manifest = tomllib.loads((ZOO / "manifest.toml").read_text(encoding="utf-8"))
        rows = [
            Model(
                **{
                    **row,
                    "steps": tuple(row["steps"]),
                    "shapes": tuple(map(tuple, row["shapes"])),
                    **{key: tuple(row.get(key, ())) for key in ("which", "scales", "scales_pay")},
                }
            )
            for row in manifest.get("model", [])
        ]
        return Manifest(
            at_all_scales(rows),
            tuple(Learned(**row) for row in manifest.get("learned", [])),
            {row["number"]: row["name"] for row in manifest.get("retired", [])},
        )
    except (OSError, ValueError, TypeError, KeyError) as error:  # what is no TOML or UTF-8 is a ValueError
        raise ModelError(f"the list of models cannot be read: {error}; reinstall Corec") from error


def models() -> tuple[Model, ...]:
    """All models, by number; one that is for other sizes, too, comes once for each."""
    return read_manifest().models


def model_named(name: str) -> Model:
    """The model of this name. Raises ModelError."""
    if not isinstance(name, str):
        raise ModelError(f"a model is given by its name, not as {type(name).__name__}")
    for model in models():
        if model.name == name:
            return model
    if any(name in (row.name, row.method) for row in learned()):
        raise ModelError(f"{name} is for the learned codec alone")
    raise ModelError(f"no model {name!r}; `corec models` lists them")


def rows_named(name: str) -> list[Model]:
    """The model of this name, or else all of the method of this name. Raises ModelError."""
    rows = [m for m in models() if m.name == name] or [m for m in models() if m.method == name]
    return rows or [model_named(name)]


def model_numbered(number: int, resized: float = 0.0) -> Model:
    """The model of this number, at another size if that is told. Raises ModelError for an unknown or retired one."""
    found = [model for model in models() if model.number == number]
    for model in found:
        if model.resized == resized:
            return model
    if found:
        raise ModelError(f"the file is damaged: its model {found[0].name} is not for such a size")
    raise unreadable(number)


def learned() -> tuple[Learned, ...]:
    """The models of the learned codec, by number. Raises ModelError for a damaged manifest."""
    return read_manifest().learned


def learned_named(name: str) -> Learned:
    """The learned codec's model of this name. Raises ModelError."""
    rows = learned()
    for row in rows:
        if row.name == name:
            return row
    if name == PLAIN or any(name in (row.name, row.method) for row in models()):
        raise ModelError(f"{name} is not for the learned codec")
    raise ModelError(f"the learned codec has no model {name!r}; there are: {', '.join(r.name for r in rows) or 'none'}")


def learned_numbered(number: int) -> Learned:
    """The learned codec's model of this number. Raises ModelError for an unknown or retired one."""
    for row in learned():
        if row.number == number:
            return row
    raise unreadable(number)


def unreadable(number: int) -> ModelError:
    """Why there is no model of a number that stands in a file."""
    retired = read_manifest().retired
    if number in retired:
        return ModelError(f"the file's model, {number} ({retired[number]}), was replaced before version 1.0")
    others: tuple[Model | Learned, ...] = (*models(), *learned())
    for row in others:
        if row.number == number:
            return ModelError(f"the file is damaged: its model {row.name} writes other files")
    return ModelError(f"the file needs model {number}, which this Corec does not have: update it")
