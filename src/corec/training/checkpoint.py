"""A run's checkpoint: everything that is needed to go on to the very step, or to begin another run with its weights."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from corec.errors import RecipeError
from corec.training.recipe import Recipe

ENDS = {"head": 1, "tail": 0}
"""What networks call their first and last layers, and which axis of their weights has the planes of images."""


def load(checkpoint: Path, device: torch.device) -> dict[str, Any]:
    """A checkpoint. Raises RecipeError for a missing or damaged one."""
    try:
        state = torch.load(checkpoint, map_location=device, weights_only=True)
    except FileNotFoundError as error:
        raise RecipeError(f"there is no {checkpoint}") from error
    except OSError as error:
        raise RecipeError(f"{checkpoint} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # torch raises half a dozen kinds on damaged files
        raise RecipeError(f"{checkpoint} cannot be read, it is damaged or none of ours") from error
    missing = {"recipe", "method", "optimizer", "average", "step", "seconds"} - set(state)
    if missing:
        raise RecipeError(f"{checkpoint} is none of ours: it lacks {', '.join(sorted(missing))}")
    return dict(state)


def save(
    path: Path,
    recipe: Recipe,
    method: nn.Module,
    optimizers: list[Optimizer],
    average: dict[str, Tensor],
    step: int,
    seconds: float,
    origin: dict[str, str],
) -> None:
    """Write a checkpoint aside, then rename it: a stop at any moment leaves the last whole one. Raises RecipeError."""
    state = {
        "recipe": vars(recipe),
        "method": method.state_dict(),
        "optimizer": [optimizer.state_dict() for optimizer in optimizers],
        "average": average,
        "step": step,
        "seconds": seconds,
        "origin": origin,
    }
    aside = path.with_suffix(".partial")
    try:
        torch.save(state, aside)
        aside.replace(path)
    except (OSError, RuntimeError) as error:  # the latter is PyTorch's, of a full disk too
        aside.unlink(missing_ok=True)
        reason = getattr(error, "strerror", None) or "is there no more room?"
        raise RecipeError(f"{path} cannot be written: {reason}") from error


def refuse_other(recipe: Recipe, saved: Recipe, checkpoint: Path) -> None:
    """Raise RecipeError if a checkpoint's recipe is another: a model must be what its recipe makes."""
    for field in fields(Recipe):
        was, now = getattr(saved, field.name), getattr(recipe, field.name)
        if was != now:
            raise RecipeError(
                f"{checkpoint} is of another recipe ({field.name} was {was!r}, is {now!r}): use another run folder"
            )


def take_over(method: nn.Module, weights: dict[str, Tensor]) -> int:
    """Copy weights by name, and tell of how many layers; biases alone are none.

    Into wider layers, too: further outputs start as they are, further inputs with zeros, so that what is new has no
    part, at first, in what there was. Those at a network's ends must be for the same planes, or be for luma where the
    other is for three, of which luma comes first.
    """
    taken = {}
    for name, own in method.state_dict().items():
        weight = weights.get(name, torch.empty(0))
        if own.shape == weight.shape:
            taken[name] = weight
        elif fits_into(weight, own) and same_planes(name, weight, own):
            taken[name] = own.clone()
            if own.ndim > 1:
                taken[name][: len(weight), weight.shape[1] :] = 0
            taken[name][tuple(slice(side) for side in weight.shape)] = weight
    method.load_state_dict(taken, strict=False)
    return sum(name in taken for name, own in method.named_parameters() if own.ndim > 1)


def fits_into(weight: Tensor, other: Tensor) -> bool:
    """Whether a layer's weight is one of a wider layer with the same kernels."""
    sides = list(zip(weight.shape, other.shape, strict=False))
    return weight.ndim == other.ndim and all(a <= b for a, b in sides) and weight.shape[2:] == other.shape[2:]


def same_planes(name: str, weight: Tensor, other: Tensor) -> bool:
    """Whether a layer, if it is at an end, has as many planes as another there, or one where that has three."""
    axes = [axis for end, axis in ENDS.items() if end in name.split(".") and axis < weight.ndim]
    return all(other.shape[axis] in (weight.shape[axis], 3 * weight.shape[axis]) for axis in axes)
