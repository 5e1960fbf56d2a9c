"""A recipe: the TOML file that says everything needed to train a model again."""

import math
import tomllib
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

from corec.errors import RecipeError

RECIPES = Path(__file__).parent / "recipes"
LARGEST_CROP = 1024
"""Pixels a side: a batch of larger ones takes more memory than machines have, which ends runs without a word."""


@dataclass(frozen=True)
class Recipe:
    """One training run. Lengths are steps, sizes pixels."""

    method: str
    """Module of corec.methods that trains it."""
    settings: dict[str, Any]
    """That module's own settings, from the table [settings]."""
    steps: int
    """Length of the run; the learning rate falls to zero over it (a cosine)."""
    batch: int = 8
    crop: int = 128
    enlarged: float = 0.0
    """Share of crops that are enlarged to 4/3 of their size first, as pictures are that go at 2/3 of theirs through the
    networks of half size."""
    optimizer: str = "adam"
    """adam, or muon: that for the weights of convolutions, Adam for all others."""
    learning_rate: float = 1e-3
    """Adam's, and Muon's over what it is multiplied by there."""
    convolutions: float = 1.0
    """By what Muon's is multiplied further: by little, where convolutions are nearly at their best to begin with."""
    warm_up: int = 200
    average: float = 0.998
    """Decay of the running mean of the weights, which is what is exported."""
    seed: int = 1
    name: str = ""
    """What the recipe is called: by its file, unless that says another."""
    start_from: str = ""
    """A run (a folder beside this one's) whose weights are taken over at step 0, into wider layers too."""

    def __post_init__(self) -> None:
        if min(self.steps, self.batch) < 1:
            raise RecipeError("steps and batch must be at least 1")
        if not 0 <= self.convolutions < math.inf or (self.convolutions != 1 and self.optimizer != "muon"):
            raise RecipeError("convolutions must be a number from 0 on, and is for the optimizer muon")
        if self.optimizer not in ("adam", "muon"):
            raise RecipeError(f"optimizer must be adam or muon, not {self.optimizer!r}")
        if not 32 <= self.crop <= LARGEST_CROP:
            raise RecipeError(f"crop must lie in 32..{LARGEST_CROP}, not {self.crop}")
        if not (0 <= self.learning_rate < math.inf and 0 <= self.average < 1):
            raise RecipeError("learning_rate must be a number from 0 on, and average one from 0 on and below 1")
        shares(enlarged=self.enlarged)
        if self.warm_up < 0 or not 0 <= self.seed < 1 << 32:
            raise RecipeError("warm_up and seed must be 0 at least, seed below 2^32")


def read_recipe(path: Path | str) -> Recipe:
    """A recipe from a file, or by its name alone from those that come with Corec.

    Raises RecipeError for an unknown name or key, a missing key, or a wrong type.
    """
    path = Path(path)
    if not path.is_file() and path.name == str(path) and (RECIPES / f"{path.name}.toml").exists():
        path = RECIPES / f"{path.name}.toml"
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = ", ".join(sorted(p.stem for p in RECIPES.glob("*.toml")))
        raise RecipeError(f"no recipe {path}; Corec comes with: {known}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} is not TOML: {error}") from error
    except OSError as error:
        raise RecipeError(f"the recipe {path} cannot be read: {error.strerror or error}") from error
    return fill(Recipe, {"name": path.stem, **table}, str(path))


T = TypeVar("T")


def fill(kind: type[T], table: dict[str, Any], where: str) -> T:
    """A dataclass from a table; every key must be a field, every value of the field's type."""
    hints = get_type_hints(kind)
    values = {}
    for key, value in table.items():
        if key not in hints:
            raise RecipeError(f"{where}: unknown key {key!r}; known: {', '.join(hints)}")
        try:
            values[key] = typed(value, hints[key])
        except TypeError:
            expected = hints[key] if get_args(hints[key]) else hints[key].__name__
            raise RecipeError(f"{where}: {key} must be {expected}, not {value!r}") from None
    required = [f.name for f in fields(kind) if f.default is MISSING and f.name not in values]  # type: ignore[arg-type]
    if required:
        raise RecipeError(f"{where}: missing {', '.join(required)}")
    return kind(**values)


def at_least(least: float, **values: float) -> None:
    """Raise RecipeError for a setting that is less, or infinite."""
    for name, value in values.items():
        if not least <= value < math.inf:
            raise RecipeError(f"{name} must be at least {least:g}, not {'infinite' if value > least else f'{value:g}'}")


def shares(**values: float) -> None:
    """Raise RecipeError for a setting that is no share of something."""
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise RecipeError(f"{name} must be a share, 0 to 1, not {value:g}")


def typed(value: Any, expected: Any) -> Any:
    """A value as TOML has it, as a field of a type has it; TypeError if it cannot be."""
    inner = get_args(expected)
    if expected is float and type(value) is int:
        return float(value)
    if isinstance(value, list | tuple) and getattr(expected, "__origin__", None) is tuple:
        if inner[1:] == (...,):
            inner = (inner[0],) * len(value)
        if len(value) != len(inner):
            raise TypeError
        return tuple(typed(v, t) for v, t in zip(value, inner, strict=True))
    if type(value) is not getattr(expected, "__origin__", expected):
        raise TypeError
    return value
