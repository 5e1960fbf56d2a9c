"""What the two papers of Zhao et al. share: test sets, luma alone, and curves of what stands for their methods.

Of both papers the abstracts alone could be read, which print no figures: the claims are theirs, test sets and rates are
not.
"""

from collections.abc import Mapping, Sequence
from pathlib import PurePath

from corec.evaluation.papers.study import Redone, Study, not_measured, table_of_curves
from corec.evaluation.plots import plot
from corec.evaluation.results import Results
from corec.evaluation.tables import Table
from corec.evaluation.targets import RATES, Target
from corec.models import Model, models

SETS = {"paper7": "paper7", "set5": "Set5", "set14": "Set14", "kodak": "Kodak"}
"""Folder -> what it is called."""
TARGETS = [Target("", rate) for rate in RATES]
BESIDE = ("jpeg", "jpeg-best", "jpeg+restore", "jiang2017", "joint")
"""What both methods are measured beside: JPEG, the best plain one, a repaired one, and other networks around JPEG."""
ALTERNATING = "-alternating"
"""A recipe of this ending makes a twin: networks and training are those of the recipe without it, but there is no
virtual codec, and the networks take turns as in Algorithm 1 of Jiang et al."""


def descriptions(method: str, scale: int) -> list[Model]:
    """A method's models for gray pictures around JPEG, whose descriptions are of 1 / scale of the size; no twins."""
    held = [m for m in models() if (m.method, m.scale, m.codec, m.color) == (method, scale, "jpeg", False)]
    return [m for m in held if m.compact and not recipe_of(m).endswith(ALTERNATING)]


def twin_of(model: Model) -> Model | None:
    """The model that was trained as this one, but by turns."""
    return next((m for m in models() if recipe_of(m) == recipe_of(model) + ALTERNATING), None)


def recipe_of(model: Model) -> str:
    """The name of the recipe that made a model."""
    return PurePath(model.training.get("recipe", "")).stem


def measured(study: Study, names: Sequence[str]) -> dict[str, Results]:
    """The curves of contenders over all test sets that there are, by what these are called."""
    return {SETS[name]: study.measure(name, TARGETS, names, against="jpeg-best") for name in study.there(list(SETS))}


def redone(sets: Mapping[str, Results], claims: Sequence[Table]) -> Redone:
    """The tables of claims, and curves of every set."""
    tables = list(claims)
    for label, results in sets.items():
        tables += [table_of_curves(results, label, figure) for figure in ("psnr", "ssim")]
    return Redone(tables, {f"curves-{results.request.folder.name}.png": plot(results) for results in sets.values()})


def absent(study: Study, missing: Sequence[str]) -> str:
    """A sentence on contenders and test sets that there are not."""
    sets = [label for name, label in SETS.items() if not study.has(name)]
    return not_measured(missing) + not_measured(sets, "for want of a folder of the test set")
