"""Learned probabilities of quantised latents: mixtures of logistic distributions over bins of width 1.

    P(v) = sum_k w_k (S((v + 1/2 - m_k) / s_k) - S((v - 1/2 - m_k) / s_k)),   S(x) = 1 / (1 + exp(-x))

Evaluated at integers v this is the probability of a symbol; at v plus uniform noise, the relaxation that is trained
(Ballé et al. 2017, arXiv 1611.01704). Where that paper has piecewise linear densities, and Ballé et al. 2018 a
small monotonic network, mixtures have what one model for all rates needs: bins of any width, parameters that can be
interpolated, and logarithms that stay exact far out in the tails, where a difference of sigmoids is 0.
"""

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from corec.methods.integers import Clamp

COMPONENTS = 3
SPEED = 10.0
"""Logarithms and logits are stored divided by it: Adam moves every number equally far, and these have far to go."""
NARROWEST = 0.01
"""Scale that no component goes below: channels that are always 0 would have it shrink for ever."""
DEVIATION = math.pi / 3**0.5
"""Standard deviation of a logistic of scale 1."""
TAIL = 16.0
"""Scales from its location at which all that is left of a logistic is below 2^-22."""
FARTHEST = 1 << 13
"""Symbols beyond it have no probability of their own."""

Masses = tuple[np.ndarray, int]
"""Probabilities of consecutive symbols, and the first of these symbols."""


def noisy(latents: Tensor) -> Tensor:
    """Latents in bins of width 1 under uniform noise, which stands in for rounding."""
    return latents + torch.rand_like(latents) - 0.5


def log_mass(values: Tensor, location: Tensor, scale: Tensor, logit: Tensor) -> Tensor:
    """Natural logarithms of P: values (...), parameters that broadcast against (..., K) -> (...)."""
    scale = Clamp.apply(scale, NARROWEST, math.inf)
    upper = (values[..., None] + 0.5 - location) / scale
    lower = upper - 1 / scale
    # S(a) - S(b) = S(a) S(-b) (1 - exp(b - a))
    each = F.logsigmoid(upper) + F.logsigmoid(-lower) + torch.log(-torch.expm1(-1 / scale))
    return torch.logsumexp(each + F.log_softmax(logit, -1), -1)


class Factorised(nn.Module):
    """One density a channel, of latents before their gain.

    It begins with three components around 0, of which the middle one has scale 1.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.location = nn.Parameter(torch.zeros(channels, COMPONENTS))
        self.log_scale = nn.Parameter(torch.zeros(channels, COMPONENTS))
        self.logit = nn.Parameter(torch.zeros(channels, COMPONENTS))
        self.start_with(torch.full((channels,), DEVIATION))

    @torch.no_grad()
    def start_with(self, spread: Tensor) -> None:
        """Begin with channels of these root mean squares (C,)."""
        scale = spread[:, None] / DEVIATION * torch.tensor([1 / 3, 1, 3])
        self.log_scale.copy_(scale.log() / SPEED)

    def parameters_at(self, gain: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Location and scale, each (N, C, K), and logit (C, K), of gain (N, C) times the latents."""
        return self.location * gain[..., None], (SPEED * self.log_scale).exp() * gain[..., None], SPEED * self.logit

    def bits(self, values: Tensor, gain: Tensor) -> Tensor:
        """Bits of latents times their gain (N, C), values (N, C, H, W) in bins: (N, C, H, W)."""
        location, scale, logit = (p[..., None, None, :] for p in self.parameters_at(gain))
        return -log_mass(values, location, scale, logit) / math.log(2)

    @torch.no_grad()
    def tables(self, gain: Tensor) -> Iterator[Masses]:
        """The probabilities of every channel at the first level, then at the next: gain (L, C)."""
        locations, scales, logit = self.parameters_at(gain)
        for location, scale in zip(locations, scales, strict=True):
            yield from masses(location, scale, logit)


class Scaled(nn.Module):
    """Densities around 0 of `count` scales, each a tenth or so wider than the one before.

    Their shape, a mixture of narrower and wider logistics, is learned; it changes linearly from the smallest scale
    to the largest.
    """

    FINEST, COARSEST = math.log(0.04), math.log(200.0)
    """Natural logarithms of the first and last scale, in bins. At 0.04 all but 7e-6 of the mass is in one bin."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count
        self.ratio = nn.Parameter(torch.tensor([[-0.4, 0.0, 0.4], [0.0, 0.0, 0.0]]) / SPEED)
        self.logit = nn.Parameter(torch.zeros(2, COMPONENTS))

    def index_of(self, spread: Tensor) -> Tensor:
        """The indices, neither rounded nor bounded, of root mean squares (...) in bins."""
        return (self.count - 1) * ((spread / DEVIATION).log() - self.FINEST) / (self.COARSEST - self.FINEST)

    def shape(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Scales and logits (..., K) of the mixtures of indices (...)."""
        share = (index / (self.count - 1))[..., None]
        centre = self.FINEST + (self.COARSEST - self.FINEST) * share
        lean = 2 * share - 1
        return (
            (centre + SPEED * (self.ratio[0] + lean * self.ratio[1])).exp(),
            SPEED * (self.logit[0] + lean * self.logit[1]),
        )

    def bits(self, values: Tensor, index: Tensor) -> Tensor:
        """Bits of values (...) in bins, under the densities of indices in 0..count-1 that broadcast against them."""
        scale, logit = self.shape(index)
        return -log_mass(values, torch.zeros_like(scale), scale, logit) / math.log(2)

    @torch.no_grad()
    def tables(self) -> Iterator[Masses]:
        """The probabilities of every index."""
        scale, logit = self.shape(torch.arange(self.count))
        for one, its_logit in zip(scale, logit, strict=True):
            yield from masses(torch.zeros(1, COMPONENTS), one[None], its_logit[None])


def masses(location: Tensor, scale: Tensor, logit: Tensor) -> Iterator[Masses]:
    """P of channels, parameters (C, K): for each, that of consecutive symbols in float64, and the first symbol."""
    reach = min(FARTHEST, 1 + math.ceil(float((location.abs() + TAIL * scale).max())))
    symbols = torch.arange(-reach, reach + 1, dtype=torch.float64).expand(len(location), -1)
    parameters = (p[:, None].double() for p in (location, scale, logit))
    for row in log_mass(symbols, *parameters).exp():
        yield row.numpy(), -reach
