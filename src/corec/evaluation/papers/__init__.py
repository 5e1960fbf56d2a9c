"""Papers once more: their figures and claims, and beside them what is measured. A module each, which has redo()."""

from importlib import import_module

from corec.errors import FileError
from corec.evaluation.papers.study import Redo

NAMES = ("jiang2017", "zhao2017", "zhao2018", "balle2017")


def paper_named(name: str) -> Redo:
    """What redoes the paper of this name. Raises FileError."""
    if name not in NAMES:
        raise FileError(f"no paper {name!r} is known; there are: {', '.join(NAMES)}")
    redo: Redo = import_module(f"{__name__}.{name}").redo
    return redo
