"""A stronger learned codec: residual transforms, and a second latent that says what to expect of the first.

    x --analysis--> y;   g y --hyper_analysis--> z --round--> z^ --hyper_synthesis--> mean, scale
    q = round(g y - mean),  range-coded with the table of its scale;   (q + mean) / g --synthesis--> x^

g are the gains of the level (levels.py): one model for all rates, as in balle2017.py.

The arrangement is the mean and scale hyperprior of Minnen et al. 2018 (arXiv 1809.02736, without its context model),
after Ballé et al. 2018 (arXiv 1802.01436). Ours:
- The decoder's half of the hyperprior computes in integers (integers.py): means in sixteenths, and numbers of scale
  tables. So both ends of a file always agree.
- Tables are of learned shape (densities.py), a mixture of logistics for Gaussians.
- Synthesis and hyper_synthesis are trained on rounded latents, with slope 1, rates under noise, as Minnen and Singh
  2020 (arXiv 2007.08739) found best.
- Transforms of plain residual blocks, most of their work at half and quarter resolution: there weights are few, and
  4 MB of them are what a model may have.
- Transforms begin as the Karhunen-Loève transform of blocks of 16x16 (klt.py); residual blocks begin by adding nothing.
- hyper_analysis sees logarithms of magnitudes, which between the coarsest and the finest level differ least.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from corec.methods.balle2017 import initialise, quantised
from corec.methods.densities import Factorised, Masses, Scaled
from corec.methods.integers import UNIT, Frozen, IntegerSynthesis, Round
from corec.methods.klt import klt, lay
from corec.methods.layers import silence
from corec.methods.levels import NODES, Levels
from corec.methods.similarity import check_distortion, distortion_of

GRID = 64
"""Sides of training crops are multiples of it."""


class Residual(nn.Module):
    """x (N, C, H, W) plus two convolutions of 3x3 of it."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.inner = nn.Conv2d(channels, inner, 3, padding=1)
        self.outer = nn.Conv2d(inner, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.outer(F.relu(self.inner(x)))


def residuals(channels: int, inner: int, count: int) -> list[nn.Module]:
    return [Residual(channels, inner) for _ in range(count)]


def halving(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 2, stride=2)]


def doubling(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, 4 * outputs, 1), nn.PixelShuffle(2)]


class Analysis(nn.Module):
    """Picture (N, C, H, W) in 0..1, H and W multiples of 16 -> latents (N, latents, H/16, W/16).

    widths: channels at a half, a quarter and an eighth of the picture's resolution.
    """

    def __init__(self, planes: int, widths: tuple[int, int, int], latents: int) -> None:
        super().__init__()
        fine, middle, coarse = widths
        self.head = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4 * planes, fine, 3, padding=1))
        self.body = nn.Sequential(
            *residuals(fine, fine, 1),
            *halving(fine, middle),
            *residuals(middle, middle, 2),
            *halving(middle, coarse),
            *residuals(coarse, coarse // 2, 1),
        )
        self.tail = nn.Conv2d(coarse, latents, 2, stride=2)
        initialise(self)

    def forward(self, picture: Tensor) -> Tensor:
        features = self.body(self.head(picture - 0.5))
        with torch.autocast(picture.device.type, enabled=False):  # latents are large numbers, and steps small
            return self.tail(features.float())


class Synthesis(nn.Module):
    """Latents (N, latents, h, w) -> picture (N, C, 16h, 16w), about 0..1; the stages of Analysis, backwards."""

    def __init__(self, planes: int, widths: tuple[int, int, int], latents: int) -> None:
        super().__init__()
        fine, middle, coarse = widths
        self.head = nn.Sequential(*doubling(latents, coarse))
        self.body = nn.Sequential(
            *residuals(coarse, coarse // 2, 1),
            *doubling(coarse, middle),
            *residuals(middle, middle, 2),
            *doubling(middle, fine),
            *residuals(fine, fine, 3),
        )
        self.tail = nn.Sequential(nn.Conv2d(fine, 4 * planes, 3, padding=1), nn.PixelShuffle(2))
        initialise(self)

    def forward(self, latents: Tensor) -> Tensor:
        with torch.autocast(latents.device.type, enabled=False):
            features = self.head(latents)
        features = self.body(features)
        with torch.autocast(latents.device.type, enabled=False):
            return self.tail(features.float()) + 0.5


class HyperAnalysis(nn.Module):
    """Latents times their gain (N, latents, h, w), h and w multiples of 4 -> z (N, outputs, h/4, w/4)."""

    def __init__(self, latents: int, widths: tuple[int, int], outputs: int) -> None:
        super().__init__()
        first, second = widths
        last = nn.Conv2d(first, outputs, 4, stride=2, padding=1)
        self.layers = nn.Sequential(
            nn.Conv2d(2 * latents, second, 1),
            nn.ReLU(),
            nn.Conv2d(second, first, 4, stride=2, padding=1),
            nn.ReLU(),
            last,
        )
        initialise(self)
        nn.init.normal_(last.weight, std=8 * (16 * first) ** -0.5)  # z is rounded: below 1/2 it would say nothing

    def forward(self, scaled: Tensor) -> Tensor:
        with torch.autocast(scaled.device.type, enabled=False):
            size = torch.log1p(scaled.abs())
            return self.layers(torch.cat([size, size * scaled.sign()], 1))


@dataclass(frozen=True)
class Settings:
    """What a recipe may say of this method, under [settings]."""

    color: bool = False
    latents: int = 192
    hyper_latents: int = 48
    widths: tuple[int, int, int] = (64, 88, 112)
    """Channels of the transforms at a half, a quarter and an eighth of the picture's resolution."""
    hyper_widths: tuple[int, int] = (64, 80)
    """Channels of the hyperprior's networks at 1/32 and 1/16."""
    scales: int = 64
    """Tables for the latents."""
    distortion: str = "mse"
    """Or ms-ssim."""
    lambdas: tuple[float, float] = (0.001, 0.12)
    """Of the coarsest and the finest level, in bits a pixel for a squared error of one level of 255."""
    levels: int = 64

    def __post_init__(self) -> None:
        check_distortion(self.distortion)


class Method(nn.Module):
    """All four networks, the densities of both latents, and one training step."""

    rate = 1.0
    """By what the recipe's learning rate is multiplied."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        s, planes = settings, 3 if settings.color else 1
        self.settings = settings
        self.analysis = Analysis(planes, s.widths, s.latents)
        self.synthesis = Synthesis(planes, s.widths, s.latents)
        self.hyper_analysis = HyperAnalysis(s.latents, s.hyper_widths, s.hyper_latents)
        self.hyper_synthesis = IntegerSynthesis(s.hyper_latents, s.hyper_widths, s.latents, s.scales)
        self.levels = Levels(s.latents, s.lambdas, s.levels, start=8.0)
        self.hyper_density = Factorised(s.hyper_latents, NODES)
        self.density = Scaled(s.scales)

    def start_with(self, pictures: Tensor) -> None:
        """Begin with the block transform that suits training crops best: (N, 1 or 3, H, W) in 0..1."""
        stages = [self.analysis.head[1], *self.analysis.body, self.analysis.tail]
        stages = [layer for layer in stages if isinstance(layer, nn.Conv2d)]
        inverses = [self.synthesis.head[0], *self.synthesis.body, self.synthesis.tail[0]]
        inverses = [layer for layer in inverses if isinstance(layer, nn.Conv2d)]
        matrices, spread = klt(pictures - 0.5, (2, 2, 2, 2), [layer.out_channels for layer in stages])
        lay(stages[0], matrices[0].flatten(1)[:, :, None, None])  # after the picture's cells became channels
        for stage, matrix in zip(stages[1:], matrices[1:], strict=True):
            lay(stage, matrix)
        for inverse, matrix in zip(reversed(inverses), matrices, strict=True):
            lay(inverse, matrix.flatten(1).T[:, :, None, None])  # before channels become cells
        for network in (self.analysis, self.synthesis):
            for layer in network.modules():
                if isinstance(layer, Residual):
                    silence(layer.outer)
        middle = self.levels.gains()[self.settings.levels // 2].cpu()
        self.hyper_synthesis.start_with(self.density.index_of(middle * spread))

    def begin(self, share: float) -> None:
        """Nothing: all steps of this method are alike, whatever share of the run is done."""

    def forward(self, batch: Tensor, level: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """One training step's loss. batch (N, 1 or 3, H, W): luma or RGB in 0..1, H and W multiples of
        64; level (N,), from draw_steps. Returns the loss and what to log, each a scalar."""
        y = self.analysis(batch)
        with torch.autocast(batch.device.type, enabled=False):
            gain = self.levels.gain(level)[:, :, None, None]
            scaled = gain * y
            z = self.hyper_analysis(scaled)
            means, index = self.hyper_synthesis(Round.apply(z)).chunk(2, 1)
            residual = scaled - means / UNIT
            one = torch.ones_like(z[:, :, 0, 0])
            hyper_bits = self.hyper_density.bits(quantised(z, self.training), one, self.levels.share(level))
            bits = self.density.bits(quantised(residual, self.training), index)
            received = (Round.apply(residual) + means / UNIT) / gain
        restored = self.synthesis(received)
        with torch.autocast(batch.device.type, enabled=False):
            distortion, error = distortion_of(restored, batch, self.settings.distortion)
            pixels = batch.shape[-1] * batch.shape[-2]
            hyper_rate, rate = (b.sum((1, 2, 3)) / pixels for b in (hyper_bits, bits))
            loss = self.levels.loss(hyper_rate + rate, distortion, level)
        return loss, {
            "psnr": -10 * error.detach().log10().mean(),
            "bpp": (hyper_rate + rate).detach().mean(),
            "hyper_bpp": hyper_rate.detach().mean(),
        }

    def draw_steps(self, count: int, generator: torch.Generator) -> Tensor:
        """Levels for a batch, all equally often."""
        return self.levels.draw(count, generator)

    def parts(self) -> dict[str, nn.Module]:
        """The networks of a finished model, by the names that they have in the zoo."""
        return {
            "analysis": self.analysis,
            "synthesis": self.synthesis,
            "hyper_analysis": self.hyper_analysis,
            "hyper_synthesis": Frozen(self.hyper_synthesis),
        }

    def tables(self) -> Iterator[Masses]:
        """Probabilities of symbols: z's, of every channel at level 0, then at level 1, …; then those of the scales."""
        yield from self.hyper_density.tables(
            torch.ones(self.settings.levels, self.settings.hyper_latents), self.levels.shares()
        )
        yield from self.density.tables()
