"""Recipes of tiny runs of the learned codec's methods, and pictures that they begin with."""

from dataclasses import replace

import torch
from torch import Tensor

from corec.training.recipe import Recipe

PLAIN = Recipe("balle2017", {"filters": 6, "levels": 8, "settled": 0.4}, steps=5, batch=2, crop=64, warm_up=1)
TOLD = replace(PLAIN, settings={**PLAIN.settings, "context_width": 5})
TINY = {"compact_width": 4, "compact_blocks": 1, "widths": [4, 6, 8], "context_width": 6, "levels": 8}
CONTEXT = Recipe("context", {"color": True, **TINY}, steps=3, batch=2, crop=64, warm_up=1)


def smooth(count: int, planes: int) -> Tensor:
    """Pictures in 0..1 whose energy is in their low frequencies, with a cast of colour."""
    random = torch.Generator().manual_seed(3)
    rough = torch.rand(count, planes, 16, 16, generator=random)
    cast = torch.tensor([1.0, 0.8, 0.5])[:planes, None, None]
    return cast * torch.nn.functional.interpolate(rough, scale_factor=8, mode="bicubic").clamp(0, 1)
