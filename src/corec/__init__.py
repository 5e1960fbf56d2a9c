"""Pictures as ordinary image files of half the bytes: one small network before the codec, one after it.

    data = corec.compress(image, bpp=0.2)     # the bytes of an ordinary .jpg
    image = corec.decompress(data)            # the picture, at full size
    image = corec.restore(any_jpeg)           # any JPEG file's picture, its artefacts removed

Importing corec is quick: a name's module is loaded when the name is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from corec.errors import (
    CodecError,
    CorecError,
    EnvelopeError,
    FileError,
    MissingExtraError,
    ModelError,
    PictureError,
    RateError,
    RecipeError,
    TooLargeError,
)

if TYPE_CHECKING:
    from corec.models import Learned, Model
    from corec.models import learned as list_learned
    from corec.models import models as list_models
    from corec.pipeline import compress, decompress, describe, restore

__version__ = "0.1.0"

__all__ = [
    "CodecError",
    "CorecError",
    "EnvelopeError",
    "FileError",
    "Learned",
    "MissingExtraError",
    "Model",
    "ModelError",
    "PictureError",
    "RateError",
    "RecipeError",
    "TooLargeError",
    "__version__",
    "compress",
    "decompress",
    "describe",
    "list_learned",
    "list_models",
    "restore",
]

_LAZY = {
    "Learned": ("corec.models", "Learned"),
    "Model": ("corec.models", "Model"),
    "compress": ("corec.pipeline", "compress"),
    "decompress": ("corec.pipeline", "decompress"),
    "describe": ("corec.pipeline", "describe"),
    "list_learned": ("corec.models", "learned"),
    "list_models": ("corec.models", "models"),
    "restore": ("corec.pipeline", "restore"),
}


if not TYPE_CHECKING:  # to type checkers it would say that there is every name

    def __getattr__(name: str) -> Any:
        if name not in _LAZY:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module, attribute = _LAZY[name]
        value = globals()[name] = getattr(import_module(module), attribute)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
