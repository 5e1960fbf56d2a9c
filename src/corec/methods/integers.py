"""A network in integers: what both ends of a file must compute alike, on any machine, in any order of adding up.

Every layer is a convolution of integers with integers, then a division by a power of two, rounded. Numbers are held as
float32, in which integers up to 2^24 and their sums are exact; weights are bounded such that no partial sum gets
there, whatever the input. Kernels are 4x4 (transposed) and 1x1, for which runtimes have no fast algorithm of fractions,
as Winograd's for 3x3. Training computes the same integers, and takes the slope of rounding for 1.

Why: Ballé et al. 2019, "Integer networks for data compression with latent-variable models" (ICLR).
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

EXACT = 2**24
"""Up to it float32 holds every integer."""
INPUT = 127
"""Inputs of a network are clamped to this magnitude."""
ACTIVATION = 1023
"""What a layer hands to the next is clamped to 0..this."""
MEAN = 32767
"""Largest magnitude of a mean."""
UNIT = 16
"""Integers that make 1, in activations and outputs; a network's inputs are whole."""
WEIGHT_UNIT = 256
"""Integers that make 1, in weights."""


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


class Integers(NamedTuple):
    """A layer as it is computed."""

    weight: Tensor
    """Integers: (in, out, 4, 4) of a transposed convolution with stride 2, or (out, in, 1, 1)."""
    bias: Tensor
    """Integers (out,)."""
    divisor: int
    """A power of two."""

    def __call__(self, x: Tensor) -> Tensor:
        if self.weight.shape[-1] == 4:
            total = F.conv_transpose2d(x, self.weight, self.bias, stride=2, padding=1)
        else:
            total = F.conv2d(x, self.weight, self.bias)
        return total / self.divisor

    def largest(self, limit: int) -> float:
        """The largest magnitude that a partial sum can have, for inputs of magnitudes up to a limit."""
        return float((limit * reach(self.weight) + self.bias.abs()).max())


def reach(weight: Tensor) -> Tensor:
    """The largest sum of magnitudes of the weights that meet in an output: (out,)."""
    if weight.shape[-1] == 4:  # every second row and column of the kernel
        return weight.abs().unflatten(3, (2, 2)).unflatten(2, (2, 2)).sum((0, 2, 4)).amax((1, 2))
    return weight.abs().sum((1, 2, 3))


class Layer(nn.Module):
    """A layer as it is trained: real weights, of which the integers are made at every step.

    first: its inputs are the network's own. enlarge: twice the height and width, else a convolution of 1x1.
    """

    def __init__(self, inputs: int, outputs: int, first: bool = False, enlarge: bool = False) -> None:
        super().__init__()
        self.limit, self.input_unit = (INPUT, 1) if first else (ACTIVATION, UNIT)
        shape, taps = ((inputs, outputs, 4, 4), 4 * inputs) if enlarge else ((outputs, inputs, 1, 1), inputs)
        self.weight = nn.Parameter(torch.randn(shape) * (2 / taps) ** 0.5)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def integers(self) -> Integers:
        weight = WEIGHT_UNIT * self.weight
        # Three quarters of what is exact are for the weights, the rest for the bias and for what rounding adds.
        excess = (self.limit * reach(weight) / (0.75 * EXACT)).clamp(min=1)
        excess = excess[:, None, None] if weight.shape[-1] == 4 else excess[:, None, None, None]
        unit = WEIGHT_UNIT * self.input_unit
        bias = (unit * self.bias).clamp(-EXACT / 8, EXACT / 8)
        return Integers(Round.apply(weight / excess), Round.apply(bias), unit // UNIT)


def compute(
    z: Tensor,
    layers: Sequence[Integers],
    count: int,
    rounded: Callable[..., Tensor] = torch.round,
    clamped: Callable[..., Tensor] = torch.clamp,
) -> Tensor:
    """The network: integers (N, inputs, h, w) -> (N, 2 outputs, 4h, 4w), means in sixteenths, then indices."""
    x = z.clamp(-INPUT, INPUT)
    for layer in layers[:-1]:
        x = rounded(layer(x)).clamp(0, ACTIVATION)
    means, indices = rounded(layers[-1](x)).chunk(2, 1)
    return torch.cat([means.clamp(-MEAN, MEAN), clamped(indices, 0, count - 1)], 1)


class IntegerSynthesis(nn.Module):
    """Integers (N, inputs, h, w) -> (N, 2 outputs, 4h, 4w): means in sixteenths, then indices in 0..count-1."""

    def __init__(self, inputs: int, widths: tuple[int, int], outputs: int, count: int) -> None:
        super().__init__()
        self.count = count
        first, second = widths
        last = Layer(second, 2 * outputs)
        nn.init.normal_(last.weight, std=0.1 * second**-0.5)
        self.layers = nn.ModuleList(
            [
                Layer(inputs, first, first=True, enlarge=True),
                Layer(first, second, enlarge=True),
                Layer(second, second),
                last,
            ]
        )

    @torch.no_grad()
    def start_with(self, indices: Tensor) -> None:
        """Begin with these indices (outputs,) wherever there is nothing to tell them from."""
        bias = self.layers[-1].bias
        bias[len(indices) :] = indices / UNIT  # type: ignore[operator]

    def integers(self) -> list[Integers]:
        return [layer.integers() for layer in self.layers]  # type: ignore[operator]

    def forward(self, z: Tensor) -> Tensor:
        return compute(z, self.integers(), self.count, Round.apply, Clamp.apply)


class Frozen(nn.Module):
    """A finished IntegerSynthesis, for export: its integers, and nothing that a runtime could compute otherwise."""

    def __init__(self, trained: IntegerSynthesis) -> None:
        super().__init__()
        self.count = trained.count
        with torch.no_grad():
            layers = trained.integers()
        self.divisors = [layer.divisor for layer in layers]
        self.weights = nn.ParameterList(nn.Parameter(layer.weight, requires_grad=False) for layer in layers)
        self.biases = nn.ParameterList(nn.Parameter(layer.bias, requires_grad=False) for layer in layers)

    def layers(self) -> list[Integers]:
        return [Integers(*parts) for parts in zip(self.weights, self.biases, self.divisors, strict=True)]

    def forward(self, z: Tensor) -> Tensor:
        return compute(z, self.layers(), self.count)

    def largest(self) -> float:
        """The largest magnitude that any partial sum can have, whatever the input."""
        layers = self.layers()
        limits = [INPUT, *[ACTIVATION] * (len(layers) - 1)]
        return max(layer.largest(limit) for layer, limit in zip(layers, limits, strict=True))
