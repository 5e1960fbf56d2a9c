"""Ballé, Laparra, Simoncelli 2017, "End-to-end Optimized Image Compression".

    x --analysis--> y --round--> q --range coder--> q --synthesis--> x^

arXiv 1611.01704, ICLR 2017. Three stages of convolution, subsampling and divisive normalisation (GDN), and back in the
reverse order: inverse GDN, upsampling, convolution. In training, additive uniform noise replaces rounding, and the loss
is rate + lambda x distortion, the rate being the entropy under a learned density for each channel.

The paper's: the layers, 128 filters for gray and 192 for colour, the noise, the objective with squared error, and that
a file's symbols are coded by what is known of those around them, while networks are trained as if each were alone.

What is ours:
- One model for all rates: gains and a lambda for each level (levels.py), a level drawn for each crop. One density a
  channel serves all levels: it is the latent's own, and a level's bins are 1 / gain wide; so is its noise.
- Mixtures of logistics instead of piecewise linear densities (densities.py).
- gamma and beta of GDN are squares (layers.py), and gamma need not be symmetric.
- lambda is in bits a pixel for a mean squared error of one level of 255, where the paper has sums over crops.
- Transforms begin as the Karhunen-Loève transform of blocks of 16x16 (klt.py), with a GDN that does next to nothing.
- `settled`: noise is not rounding, most of all in coarse bins, so the last part of a run can train synthesis and
  densities on rounded latents, the rest as it is (Guo et al. 2021, "Soft then hard", arXiv 2104.05168).
- MS-SSIM as a distortion.
- What knows of the symbols around is small networks of integers (groups.py), where the paper has a simple code in the
  manner of CABAC. The settled part of a run that has them trains nothing else; a model may also do without.
- Networks that are told of the level how large the gains are: GDN's strength and gain go with it (layers.py), and so
  do the densities' widths.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from corec.errors import RecipeError
from corec.learned.prior import FINER
from corec.methods.densities import Factorised, Masses, noisy
from corec.methods.groups import Groups, rounded
from corec.methods.integers import BENDS
from corec.methods.klt import klt, lay, lay_transposed
from corec.methods.layers import GDN, Tilt
from corec.methods.levels import Levels, Rates
from corec.methods.similarity import distortion_of
from corec.training.recipe import at_least

ENDS = 0.0125, 0.05, 0.15, 0.35, 0.625, 1.0
"""Where groups of latents end, of all of them: the KLT has most energy in the first ones."""
SIGNED = 10
"""Latents that contexts see with their signs."""
SCALES = 64
"""Tables that contexts choose from."""
START = 8.0
"""Gain of all latents in the middle of the levels, at first."""
GRID = 16
"""Sides of training crops are multiples of it."""


def place_of(log_step: Tensor) -> Tensor:
    """Where in the range of levels logarithms of steps (N, latents), of 1 / gain, are: (N,), about 0 in the middle."""
    return log_step.mean(1) + math.log(START)


def through(layers: nn.Sequential, x: Tensor, log_step: Tensor) -> Tensor:
    """What layers, of which GDN goes with the level, make of x one after the other."""
    place = place_of(log_step)
    for layer in layers:
        x = layer(x, place) if isinstance(layer, GDN) else layer(x)
    return x


class Analysis(nn.Module):
    """Picture (N, C, H, W) in 0..1, H and W multiples of 16, and log steps (N, latents) -> latents (N, latents, H/16,
    W/16)."""

    def __init__(self, planes: int, filters: int, latents: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(planes, filters, 9, stride=4, padding=4),
            GDN(filters),
            nn.Conv2d(filters, filters, 5, stride=2, padding=2),
            GDN(filters),
            nn.Conv2d(filters, latents, 5, stride=2, padding=2),
            GDN(latents),
        )
        initialise(self)

    def forward(self, picture: Tensor, log_step: Tensor) -> Tensor:
        return through(self.layers, picture - 0.5, log_step)


class Synthesis(nn.Module):
    """Latents (N, latents, h, w) and log steps (N, latents) -> picture (N, C, 16h, 16w), about 0..1."""

    def __init__(self, planes: int, filters: int, latents: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            GDN(latents, inverse=True),
            nn.ConvTranspose2d(latents, filters, 5, stride=2, padding=2, output_padding=1),
            GDN(filters, inverse=True),
            nn.ConvTranspose2d(filters, filters, 5, stride=2, padding=2, output_padding=1),
            GDN(filters, inverse=True),
            nn.ConvTranspose2d(filters, planes, 9, stride=4, padding=4, output_padding=3),
        )
        initialise(self)

    def forward(self, latents: Tensor, log_step: Tensor) -> Tensor:
        return through(self.layers, latents, log_step).float() + 0.5


def initialise(network: nn.Module) -> None:
    """Start convolutions such that what comes out varies as much as what goes in."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            taps = layer.kernel_size[0] * layer.kernel_size[1] * layer.in_channels
            if isinstance(layer, nn.ConvTranspose2d):  # each output pixel sees a part of the kernel
                taps //= layer.stride[0] * layer.stride[1]
            nn.init.normal_(layer.weight, std=taps**-0.5)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Settings(Rates):
    """What a recipe may say of this method, under [settings].

    Settled, a run trains synthesis and densities, or if there are contexts these alone.
    """

    filters: int = 0
    """0: as published, 128 for gray and 192 for colour."""
    latents: int = 0
    """Channels of the latents. 0: as published, as many as filters."""
    context_width: int = 0
    """Of the contexts by which latents are coded. 0: there are none, each latent is coded by its channel's density."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(0, filters=self.filters, latents=self.latents, context_width=self.context_width)
        if self.context_width and not self.settled:
            raise RecipeError("contexts are trained in the settled part of a run, and settled is 0")


class Method(nn.Module):
    """Both transforms, the densities of the latents, their contexts if there are any, and one training step."""

    rate = 1.0
    """By what the recipe's learning rate is multiplied."""
    price = 0.0
    """See corec.models.Learned: symbols are rounded."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        planes = 3 if settings.color else 1
        filters = settings.filters or (192 if settings.color else 128)
        latents = settings.latents or filters
        self.settings = settings
        self.settles = False
        self.analysis = Analysis(planes, filters, latents)
        self.synthesis = Synthesis(planes, filters, latents)
        self.levels = Levels(latents, settings.lambdas, settings.levels, START)
        self.density, self.width = Factorised(latents), Tilt(latents)
        self.contexts: Groups | None = None
        if settings.context_width:
            ends = sorted({max(1, round(share * latents)) for share in ENDS})
            self.contexts = Groups(ends, SIGNED, settings.context_width, SCALES)

    def start_with(self, pictures: Tensor) -> None:
        """Begin with the block transform that suits training crops best: (N, 1 or 3, H, W) in 0..1."""
        stages = [layer for layer in self.analysis.layers if isinstance(layer, nn.Conv2d)]
        inverses = [layer for layer in self.synthesis.layers if isinstance(layer, nn.ConvTranspose2d)]
        matrices, spread = klt(
            pictures - 0.5, [layer.stride[0] for layer in stages], [layer.out_channels for layer in stages]
        )
        for stage, inverse, matrix in zip(stages, reversed(inverses), matrices, strict=True):
            lay(stage, matrix)
            lay_transposed(inverse, matrix)
        self.density.start_with(spread)
        if self.contexts:
            gains = self.levels.gains_at(BENDS)
            self.contexts.start_with(spread.to(gains.device) * gains)

    def begin(self, share: float) -> None:
        """Turn to rounded latents once this share of the run is done, and to contexts if there are any."""
        self.settles = share >= 1 - self.settings.settled
        for part in (self.analysis, self.levels):
            part.requires_grad_(not self.settles)

    def forward(self, batch: Tensor, level: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """One training step's loss. batch (N, 1 or 3, H, W): luma or RGB in 0..1, H and W multiples of
        16; level (N,), from draw_steps. Returns the loss and what to log, each a scalar."""
        with torch.autocast(batch.device.type, enabled=False):
            gain = self.levels.gain(level)
        log_step = -gain.log()
        y = self.analysis(batch, log_step)
        with torch.autocast(batch.device.type, enabled=False):
            scaled = gain[:, :, None, None] * y
            if self.contexts and self.settles:
                bits, q = self.contexts(scaled, level, rounded)
            else:
                q = noisy(scaled) if self.training and not self.settles else scaled.round()
                bits = self.density.bits(q, self.spread(gain))
            received = q / gain[:, :, None, None]
            rate = bits.sum((1, 2, 3)) / (batch.shape[-1] * batch.shape[-2])
            if self.training and self.settles and self.contexts:
                return self.levels.loss(rate, torch.zeros_like(rate), level), {"bpp": rate.detach().mean()}
        restored = self.synthesis(received, log_step)
        with torch.autocast(batch.device.type, enabled=False):
            distortion, error = distortion_of(restored, batch, self.settings.distortion)
            loss = self.levels.loss(rate, distortion, level)
        return loss, {"psnr": -10 * error.detach().log10().mean(), "bpp": rate.detach().mean()}

    def spread(self, gain: Tensor) -> Tensor:
        """By what densities are wider at these gains (N, latents): of that shape."""
        return gain * self.width(place_of(-gain.log()))[:, :, 0, 0]

    def draw_steps(self, count: int, generator: torch.Generator) -> Tensor:
        """Levels for a batch, all equally often."""
        return self.levels.draw(count, generator)

    @property
    def finer(self) -> int:
        """Levels that files may have to one of training: without contexts each has tables of its own."""
        return FINER if self.contexts else 1

    def parts(self) -> dict[str, nn.Module]:
        """The networks of a finished model, by the names that they have in the zoo. Raises RecipeError."""
        if self.contexts and not self.settles:
            raise RecipeError("the run has not come to its settled part, which trains the contexts")
        return {
            "analysis": self.analysis,
            "synthesis": self.synthesis,
            **(self.contexts.parts() if self.contexts else {}),
        }

    def gains(self) -> Tensor:
        """Of all levels that files may have: (levels, latents)."""
        return self.levels.gains(self.finer)

    def transposed(self) -> list[int]:
        """See Tables.transposed: learned filters have no such order."""
        return []

    def worth(self) -> list[float]:
        """See Tables.worth."""
        return self.levels.worth(self.finer) if self.settings.distortion == "mse" else []

    def tables(self) -> Iterator[Masses]:
        """Probabilities of symbols: of every scale; without contexts of all channels at level 0, then at level 1, …"""
        if self.contexts:
            return self.contexts.tables()
        with torch.no_grad():
            return self.density.tables(self.spread(self.levels.gains()))
