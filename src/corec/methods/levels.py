"""One model for a range of rates: at each level, a gain for every channel of the latents, and a lambda.

    level l = 0 (coarsest) .. L - 1;   lambda_l = low^(1 - t) high^t,   t = l / (L - 1)

A latent is multiplied by its channel's gain before it is rounded and divided after, so a channel's quantiser step at
level l is 1 / gain_l. For a uniform quantiser the slope of distortion over rate goes with the square of the step,
so gains begin proportional to the square root of lambda; training bends them, channel by channel, through a few nodes
that are interpolated in the logarithm and always rise. (Gains for several rates: Cui et al. 2021, "Asymmetric gained
deep image compression with continuous rate adaptation", CVPR.)
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from corec.errors import RecipeError
from corec.learned.prior import FINER
from corec.learned.tables import LEVELS
from corec.methods.densities import SPEED
from corec.methods.similarity import check_distortion
from corec.training.recipe import at_least, shares

MOST = (LEVELS - 1) // FINER + 1
"""Levels of training: files may have FINER as many."""
NODES = 5
LEAST_RISE = 0.01
"""Of a gain's logarithm from node to node: of two levels, the finer one has the larger gain."""
LOSS_SCALE = 1e-3
"""Brings typical gradients to about where the training loop clips them, at a norm of 0.1."""


def between(nodes: Tensor, position: Tensor) -> Tensor:
    """Linear interpolation: nodes (K, ...), position (N,) in 0..K-1 -> (N, ...)."""
    count = len(nodes)
    shares = (1 - (position[:, None] - torch.arange(count, device=position.device)).abs()).clamp(min=0)
    return (shares.to(nodes.dtype) @ nodes.reshape(count, -1)).reshape(len(position), *nodes.shape[1:])


@dataclass(frozen=True)
class Rates:
    """What a recipe of any learned codec may say under [settings]."""

    color: bool = False
    distortion: str = "mse"
    """Or ms-ssim."""
    lambdas: tuple[float, float] = (0.001, 0.12)
    """Of the coarsest and the finest level, in bits a pixel for a squared error of one level of 255."""
    levels: int = 64
    settled: float = 0.0
    """Share of the run, at its end, on rounded latents, in which analysis and gains stay as they are."""

    def __post_init__(self) -> None:
        check_distortion(self.distortion)
        at_least(2, levels=self.levels)
        if self.levels > MOST:
            raise RecipeError(f"levels must be at most {MOST}, not {self.levels}")
        shares(settled=self.settled)
        low, high = self.lambdas
        if not (0 < low < high < math.inf and span_of(self.lambdas) / (NODES - 1) > LEAST_RISE):
            raise RecipeError(
                f"lambdas must be two numbers above 0, the second one much larger, not {low:g} and {high:g}"
            )


def span_of(lambdas: tuple[float, float]) -> float:
    """By how much the logarithm of gains rises from the coarsest level to the finest, to begin with."""
    return 0.5 * math.log(lambdas[1] / lambdas[0])


class Levels(nn.Module):
    """Gains and lambdas of `count` levels; lambdas: of the coarsest and the finest. start: first gain in the middle."""

    def __init__(self, channels: int, lambdas: tuple[float, float], count: int, start: float) -> None:
        super().__init__()
        self.count = count
        self.lambdas = lambdas
        span = span_of(lambdas)
        rise = math.log(math.expm1(span / (NODES - 1) - LEAST_RISE))  # the inverse of softplus
        self.coarsest = nn.Parameter(torch.full((1, channels), (math.log(start) - span / 2) / SPEED))
        self.rises = nn.Parameter(torch.full((NODES - 1, channels), rise / SPEED))

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Levels (count,), all equally often."""
        return torch.randint(self.count, (count,), generator=generator).float()

    def share(self, level: Tensor) -> Tensor:
        """Place in the range: 0 at the coarsest level, 1 at the finest."""
        return level / (self.count - 1)

    def gain(self, level: Tensor) -> Tensor:
        """Gains (N, channels) at levels (N,)."""
        rises = F.softplus(SPEED * self.rises) + LEAST_RISE
        nodes = torch.cat([torch.zeros_like(rises[:1]), rises]).cumsum(0) + SPEED * self.coarsest
        return between(nodes, self.share(level) * (NODES - 1)).exp()

    @torch.no_grad()
    def gains(self, finer: int = 1) -> Tensor:
        """Gains at all levels, and at finer - 1 places between one and the next: (finer (count - 1) + 1, channels)."""
        return self.gain(torch.arange(finer * (self.count - 1) + 1, device=self.coarsest.device) / finer)

    @torch.no_grad()
    def gains_at(self, levels: Sequence[int]) -> Tensor:
        """Gains at these levels, and beyond the finest what is in line with the two before it: (levels, channels)."""
        at = torch.tensor(levels, device=self.coarsest.device).float()
        finest = torch.full_like(at, self.count - 1)
        last = self.gain(finest).log()
        rise = last - self.gain(finest - 1).log()
        return (self.gain(at.minimum(finest)).log() + (at - finest).clamp(min=0)[:, None] * rise).exp()

    def weight(self, level: Tensor) -> Tensor:
        """Lambda at levels (N,): bits a pixel that a squared error of one level of 255 is worth."""
        low, high = (math.log(value) for value in self.lambdas)
        return (low + (high - low) * self.share(level)).exp()

    def worth(self, finer: int = 1) -> list[float]:
        """Lambdas of the levels of gains()."""
        return list(self.weight(torch.arange(finer * (self.count - 1) + 1) / finer).tolist())

    def loss(self, rate: Tensor, distortion: Tensor, level: Tensor) -> Tensor:
        """Rate + lambda x distortion of crops (N,), divided by sqrt(lambda) so that all levels count about alike.

        rate: bits a pixel; distortion: squared error in levels of 255, or what stands for it.
        """
        root = self.weight(level).sqrt()
        return LOSS_SCALE * (rate / root + root * distortion).mean()
