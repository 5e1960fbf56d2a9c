"""Network parts that several methods share.

Tensors are float32 of shape (N, C, H, W); pictures lie in 0..1. Everything here exports to plain
ONNX operators, for any height and width.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from corec.methods.densities import SPEED


def cubic(x: Tensor, a: float = -0.5) -> Tensor:
    """Keys' cubic convolution kernel at the distances x (in samples); a = -0.5 as in Pillow."""
    x = x.abs()
    near = (a + 2) * x**3 - (a + 3) * x**2 + 1
    far = a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
    return torch.where(x <= 1, near, torch.where(x < 2, far, torch.zeros_like(x)))


class Downscale(nn.Module):
    """Antialiased bicubic reduction by two: (N, C, H, W) -> (N, C, H/2, W/2); H and W even."""

    kernel: Tensor

    def __init__(self, planes: int) -> None:
        super().__init__()
        taps = cubic((torch.arange(8) - 3.5) / 2)
        taps = taps / taps.sum()
        self.register_buffer("kernel", torch.outer(taps, taps).repeat(planes, 1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):  # what the networks add to is exact
            padded = F.pad(x.float(), (3, 3, 3, 3), mode="reflect")
            return F.conv2d(padded, self.kernel, stride=2, groups=self.kernel.shape[0])


class Upscale(nn.Module):
    """Bicubic enlargement by two: (N, C, H, W) -> (N, C, 2H, 2W)."""

    kernel: Tensor

    def __init__(self, planes: int) -> None:
        super().__init__()
        early = cubic(torch.arange(-2, 3) + 0.25)  # the sample a quarter before the pixel's centre
        phases = [early, early.flip(0)]
        kernel = torch.stack([torch.outer(v, h) for v in phases for h in phases])
        self.register_buffer("kernel", kernel[:, None].repeat(planes, 1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            padded = F.pad(x.float(), (2, 2, 2, 2), mode="replicate")
            return F.pixel_shuffle(F.conv2d(padded, self.kernel, groups=self.kernel.shape[0] // 4), 2)


class Block(nn.Module):
    """Residual block of two 3x3 convolutions whose inner channels are scaled by the coding step.

    The embedding (N, E) says how coarse the quantiser was; a linear layer turns it into one gain a
    channel, so that a single network serves the whole range of rates.
    """

    def __init__(self, channels: int, embedding: int) -> None:
        super().__init__()
        self.inner = nn.Conv2d(channels, channels, 3, padding=1)
        self.gain = nn.Linear(embedding, channels)
        self.outer = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.gain.weight)
        nn.init.ones_(self.gain.bias)
        silence(self.outer)
        nn.init.normal_(self.outer.weight, std=0.1 / (9 * channels) ** 0.5)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        gain = self.gain(embedding)[:, :, None, None]
        return x + self.outer(F.relu(self.inner(x)) * gain)


def silence(layer: nn.Module) -> None:
    """Start a layer at zero, so that what it adds to begins alone."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


class Tilt(nn.Module):
    """A factor for each channel, 1 at first, whose logarithm goes with the square of where a codec's level is.

    (N,) -> (N, C, 1, 1).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.terms = nn.Parameter(torch.zeros(3, channels))

    def forward(self, place: Tensor) -> Tensor:
        powers = torch.stack([torch.ones_like(place), place, place.square()], 1)
        return (SPEED * powers @ self.terms).exp()[:, :, None, None]


class GDN(nn.Module):
    """Generalised divisive normalisation (Ballé et al. 2016, arXiv 1511.06281), or one step of its inverse.

        y_i = a_i x_i / sqrt(beta_i + sum_j gamma_ij b_j x_j^2)        inverse: a_i x_i times that root

    (N, C, H, W) and places in the range of levels (N,) -> the same, in float32. beta stays above 1e-6 and gamma above 0
    because their square roots are what is trained; those of gamma start small, so that next to nothing is changed, not
    at zero, where a square has no slope. a and b, which are ours, go with the level: where bins are fine a linear
    transform does best.
    """

    def __init__(self, channels: int, inverse: bool = False) -> None:
        super().__init__()
        self.inverse = inverse
        self.root_beta = nn.Parameter(torch.ones(channels))
        self.root_gamma = nn.Parameter(torch.full((channels, channels), 0.01))
        self.gain, self.strength = Tilt(channels), Tilt(channels)

    def forward(self, x: Tensor, place: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            x = x.float()
            gamma = self.root_gamma.square()[:, :, None, None]
            energy = F.conv2d(self.strength(place) * x.square(), gamma, self.root_beta.square() + 1e-6)
            return self.gain(place) * x * (energy.sqrt() if self.inverse else energy.rsqrt())
