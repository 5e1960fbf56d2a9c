"""A network in integers: what both ends of a file must compute alike, on any machine, in any order of adding up.

Every layer is a product of integers with integers, then a division by a power of two, rounded. Numbers are held as
float32, in which integers up to 2^24 and their sums are exact; weights are bounded such that no partial sum gets
there, whatever the input. Layers see one place, or the 3x3 around it as so many more channels: a convolution of 1x1 is
nothing that a runtime has a fast algorithm of fractions for, as Winograd's for 3x3. Training computes the same
integers, and takes the slope of rounding for 1.

Why: Ballé et al. 2019, "Integer networks for data compression with latent-variable models" (ICLR).
"""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from corec.learned.prior import LEVEL, PLANES, UNIT, WHOLE

EXACT = 2**24
"""Up to it float32 holds every integer."""
LARGEST = 42
"""What sizes() gives at most."""
ACTIVATION = 1023
"""What a layer hands to the next is clamped to 0..this."""
MEAN = 32767
"""Largest magnitude of a mean."""
WEIGHT_UNIT = 256
"""Integers that make 1, in weights."""
BENDS = tuple(range(0, 64, 8))
"""Levels from which on what contexts tell may rise otherwise with the level: they see how far beyond each it is."""
SPEED = 4.0
"""How many times as far a layer's sum moves in a step as it would with inputs of about 1 and weights of variance 1."""


class Round(torch.autograd.Function):
    """To the nearest integer, halves to even; the slope is 1."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.round()

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        return slope


class Clamp(torch.autograd.Function):
    """To low..high; outside of it only what leads back has a slope."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, low: float, high: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.range = low, high
        return x.clamp(low, high)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None, None]:
        (x,), (low, high) = ctx.saved_tensors, ctx.range
        outwards = ((x < low) & (slope > 0)) | ((x > high) & (slope < 0))
        return slope.masked_fill(outwards, 0), None, None


class Layer(nn.Module):
    """Integers (N, inputs, h, w) -> integers (N, outputs, h, w), in sixteenths.

    Trained are real weights, of which the integers are made at every step; freeze() leaves only these. They are stored
    divided by `scale`: Adam moves every number equally far, and of many large inputs that would be too far. limit: the
    largest magnitude of an input; usual: a common one; unit: how many of the inputs' integers make 1; spread: of the
    real weights at first, None: such that what comes out varies as much as what goes in.
    """

    def __init__(
        self, inputs: int, outputs: int, limit: int, usual: int, unit: int = 1, spread: float | None = None
    ) -> None:
        super().__init__()
        self.limit, self.unit, self.frozen = limit, unit, False
        self.scale = SPEED * unit / (usual * inputs**0.5)
        spread = (2 / inputs) ** 0.5 if spread is None else spread
        self.weight = nn.Parameter(torch.randn(outputs, inputs) * spread / self.scale)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def integers(self) -> tuple[Tensor, Tensor]:
        """Weights and biases as they are computed with."""
        if self.frozen:
            return self.weight, self.bias
        weight = WEIGHT_UNIT * self.scale * self.weight
        # Three quarters of what is exact are for the weights, the rest for the bias and for what rounding adds.
        excess = (self.limit * weight.abs().sum(1, keepdim=True) / (0.75 * EXACT)).clamp(min=1)
        bias = (WEIGHT_UNIT * self.unit * self.bias).clamp(-EXACT / 8, EXACT / 8)
        return Round.apply(weight / excess), Round.apply(bias)

    @torch.no_grad()
    def freeze(self) -> None:
        """Keep nothing but the integers, for export: a runtime has nothing to compute otherwise."""
        weight, bias = self.integers()
        self.weight, self.bias = nn.Parameter(weight, False), nn.Parameter(bias, False)
        self.frozen = True

    def largest(self) -> float:
        """The largest magnitude that a partial sum can have, whatever the input."""
        weight, bias = self.integers()
        return float((self.limit * weight.abs().sum(1) + bias.abs()).max())

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.integers()
        total = F.conv2d(x, weight[:, :, None, None], bias) / (WEIGHT_UNIT * self.unit // UNIT)
        return total.round() if self.frozen else Round.apply(total)


def around(x: Tensor) -> Tensor:
    """(N, C, h, w) -> (N, 9C, h, w): every place's 3x3, zeros beyond the edges; the place itself is the fifth."""
    height, width = x.shape[2:]
    padded = F.pad(x, (1, 1, 1, 1))
    return torch.cat([padded[:, :, i : i + height, j : j + width] for i in range(3) for j in range(3)], 1)


class Context(nn.Module):
    """What is known of a group of latents -> the means and scales of those that are not.

    Integers (N, 2 + known, h, w) -> (N, 2 outputs, h, w): means in sixteenths, then indices in 0..count - 1. The first
    two channels are the level, and where this group is known (0 or 1). Known are the latents of all groups before and,
    at some places, of this one; where they are not known yet they are 0. What is told is the sum of linear functions,
    of the `signed` first latents around a place and of magnitudes, there (of this group none is known) and next to it,
    and of what three hidden layers make of both.
    """

    def __init__(self, known: int, outputs: int, signed: int, width: int, count: int) -> None:
        super().__init__()
        self.known, self.count, self.signed = known, count, min(signed, known)
        self.earlier = known - outputs
        near = 9 * (PLANES + self.signed) + len(BENDS)
        self.linear = Layer(near, 2 * outputs, WHOLE, 4, spread=0)
        self.direct = Layer(self.earlier + known, 2 * outputs, 8 * LARGEST, 16, spread=0)
        self.near = Layer(near, width, WHOLE, 4, spread=0.02)
        self.sizes = Layer(known, width, LARGEST, 4)
        self.second = Layer(9 * width, width, ACTIVATION, UNIT, UNIT)
        self.third = Layer(width, width, ACTIVATION, UNIT, UNIT)
        self.last = Layer(width, 2 * outputs, ACTIVATION, UNIT, UNIT, spread=0.02 * width**-0.5)

    @torch.no_grad()
    def start_with(self, indices: Tensor) -> None:
        """Begin with about these indices (levels, outputs) at the levels BENDS, wherever there is nothing to tell them
        from, and between and beyond them with what is in line with the two next to it."""
        outputs = indices.shape[1]
        self.linear.bias[outputs:] = indices[0] / UNIT
        reached, rise = indices[0], torch.zeros_like(indices[0])
        bends = self.linear.weight[outputs:, -len(BENDS) :]
        for at, (begin, end) in enumerate(pairwise(BENDS)):
            # Weights are whole sixteenths: what one is off by the next one makes good.
            steeper = ((indices[at + 1] - reached) / (end - begin) * UNIT).round() / UNIT
            bends[:, at] = (steeper - rise) / UNIT / self.linear.scale
            reached, rise = reached + (end - begin) * steeper, steeper

    def forward(self, known: Tensor) -> Tensor:
        seen = known[:, : PLANES + self.signed].clamp(-WHOLE, WHOLE)
        beyond = [(seen[:, LEVEL : LEVEL + 1] - node).clamp(0, WHOLE) for node in BENDS]
        near = torch.cat([around(seen), *beyond], 1)
        size = sizes(known[:, PLANES:])
        x = self.near(near) + self.sizes(size)
        x = self.second(around(x.clamp(0, ACTIVATION)))
        x = self.third(x.clamp(0, ACTIVATION))
        direct = self.direct(torch.cat([size[:, : self.earlier], beside(size)], 1))
        means, indices = (self.linear(near) + direct + self.last(x.clamp(0, ACTIVATION))).chunk(2, 1)
        if self.last.frozen:
            indices = indices.clamp(0, self.count - 1)
        else:
            indices = Clamp.apply(indices, 0, self.count - 1)
        return torch.cat([means.clamp(-MEAN, MEAN), indices], 1)

    def freeze(self) -> None:
        """Keep nothing but integers: see Layer.freeze()."""
        for layer in self.layers():
            layer.freeze()

    def largest(self) -> float:
        """The largest magnitude that any partial sum can have, whatever the input."""
        return max(layer.largest() for layer in self.layers())

    def layers(self) -> list[Layer]:
        """All of its layers."""
        return [layer for layer in self.modules() if isinstance(layer, Layer)]


def beside(x: Tensor) -> Tensor:
    """(N, C, h, w) -> the same: the sum of the eight places around each."""
    rows = F.pad(x, (0, 0, 1, 1))
    rows = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]
    columns = F.pad(rows, (1, 1, 0, 0))
    return columns[:, :, :, :-2] + columns[:, :, :, 1:-1] + columns[:, :, :, 2:] - x


def sizes(latents: Tensor) -> Tensor:
    """Magnitudes (0, 7, 11, 15, 16, ...) that grow ever more slowly: integers up to LARGEST."""
    size = latents.abs()
    return sum((place * size.clamp(max=top) for place, top in ((3, 1), (3, 3), (1, 30))), torch.zeros_like(size))
