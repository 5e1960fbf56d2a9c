"""Jiang et al. 2017, "An End-to-End Compression Framework Based on Convolutional Neural Networks".

    x --ComCNN--> x_m --any codec--> x^_m --bicubic x2--> RecCNN --> x^

arXiv 1708.00838, IEEE TCSVT. ComCNN (three layers) halves the picture, RecCNN (twenty) restores it.
No gradient passes a real codec, so Algorithm 1 trains the two in turn, for t = 1..T:

    a. x^_m = Co(Cr(x)) with the codec itself                                (eq. 4)
    b. RecCNN:  min ||Re(x^_m) - x||^2, ComCNN and codec as they are         (eq. 15)
    c. ComCNN:  min ||Re(Cr(x)) - x||^2, RecCNN frozen, the codec left out   (eq. 13, 14)

What the paper leaves open, or cannot mean, and what is done here:
- At t = 1 RecCNN would learn from an untrained ComCNN. That is first trained by eq. 13 with a RecCNN that adds nothing:
  its image, enlarged bicubically, comes as near to the picture as it can: behind JPEG, at the bytes of qualities 5 and
  10, 0.4 and 0.6 dB nearer than the bicubic reduction (docs/results.md).
- x^_m is made anew for every batch, not once a round: the same mean, without a store of files.
- Adam at 0.1 (the printed rate of RecCNN) does not train a network of twenty layers; recipes say the rate.
- ComCNN's last layer is linear; its output is clipped to 0..1 before it is stored with 8 bits.
- Nothing in eq. 13 keeps the compact image cheap, or a picture. A RecCNN that has learned to smooth what the codec
  damages smooths undamaged images too, and ComCNN learns to sharpen against it: in two short runs its image, enlarged
  bicubically, ended 21 dB from the original, where the paper has 26.7. The authors' released code does something else
  for step c: the error behind the real codec, reduced bicubically, is the gradient at ComCNN's output (`released`).
- JPEG files have Corec's own tables and optimised Huffman codes; the paper says nothing of its files' but the quality.
- The quantiser is drawn from a range, since each picture needs another one to match a given size.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from corec.codecs import jpeg
from corec.codecs.registry import codec_named
from corec.errors import RecipeError
from corec.methods.layers import Downscale, Upscale, silence
from corec.training.coding import coded, log_uniform, plain_jpeg
from corec.training.proxies import rgb_from_ycbcr, ycbcr_from_rgb
from corec.training.recipe import at_least, shares

FILTERS = 64
LAYERS = 20
GRID = 16
"""Sides of training crops are multiples of it."""


class ComCNN(nn.Module):
    """Picture (N, C, H, W) in 0..1, H and W even -> compact image (N, C, H/2, W/2), about 0..1 (section III-A).

    Three layers of 3x3: C -> 64, ReLU; 64 -> 64 with stride 2, ReLU; 64 -> C.
    """

    def __init__(self, planes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(planes, FILTERS, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(FILTERS, FILTERS, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(FILTERS, planes, 3, padding=1),
        )
        initialise(self)

    def forward(self, picture: Tensor, log_step: Tensor) -> Tensor:
        """log_step is what every network of Corec is told; these two do without."""
        return self.layers(picture)


class RecCNN(nn.Module):
    """Decoded compact image (N, C, H/s, W/s) in 0..1 -> picture (N, C, H, W), s = 2 or 1 (section III-B).

    Bicubic enlargement (s = 2), then the residual of twenty layers of 3x3: C -> 64, ReLU; eighteen times
    64 -> 64, batch normalisation, ReLU; 64 -> C. With s = 1 it repairs a picture of full size: the rows
    "RecCNN" of Tables I and II.
    """

    def __init__(self, planes: int, half: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(planes, FILTERS, 3, padding=1), nn.ReLU()]
        for _ in range(LAYERS - 2):
            layers += [nn.Conv2d(FILTERS, FILTERS, 3, padding=1, bias=False), nn.BatchNorm2d(FILTERS), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(FILTERS, planes, 3, padding=1))
        initialise(self)
        silence(self.layers[-1])
        self.enlarge = Upscale(planes) if half else nn.Identity()

    def forward(self, decoded: Tensor, log_step: Tensor) -> Tensor:
        enlarged = self.enlarge(decoded)
        return enlarged + self.layers(enlarged)


def initialise(network: nn.Module) -> None:
    """He et al. 2015, as in section IV-B; biases start at zero."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


@dataclass(frozen=True)
class Settings:
    """What a recipe may say of this method, under [settings]."""

    color: bool = False
    half: bool = True
    """False: RecCNN alone, on plain files of full size as libjpeg writes them."""
    codec: str = "jpeg"
    steps: tuple[float, float] = (30.0, 120.0)
    """Smallest and largest mean quantiser step, in levels of 255; drawn log-uniformly per crop."""
    opening: float = 0.05
    """Share of the run in which ComCNN learns alone, for bicubic enlargement."""
    rounds: int = 4
    """T of Algorithm 1."""
    compact_share: float = 0.1
    """Share of a round that trains ComCNN."""
    compact_rate: float = 0.02
    """Learning rate of ComCNN in the rounds, over RecCNN's."""
    released: bool = False
    """Step c as in the authors' released code, instead of equation 13."""
    likeness: float = 0.0
    """Weight of the opening's loss in step c. Without it ComCNN sharpens, and what RecCNN gains a viewer loses."""

    def __post_init__(self) -> None:
        at_least(1, rounds=self.rounds)
        shares(opening=self.opening, compact_share=self.compact_share)
        if not self.half and self.codec != "jpeg":
            raise RecipeError("RecCNN alone repairs plain files of JPEG, and is for no other codec")


class Method(nn.Module):
    """Both networks, and one training step of Algorithm 1."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        planes = 3 if settings.color else 1
        self.settings = settings
        self.codec = codec_named(settings.codec)
        self.phase = "reconstruct"
        self.compact: ComCNN | None = ComCNN(planes) if settings.half else None
        self.reconstruct = RecCNN(planes, settings.half)
        self.reduce = Downscale(planes)

    def shapes(self) -> np.ndarray:
        """JPEG's tables as multipliers of luma's mean step, (1 or 2, 64): Corec's own, but those of the standard where
        RecCNN repairs files of anybody's. None for other codecs."""
        tables = jpeg.FLAT if self.settings.half else jpeg.STANDARD_SHAPES
        return tables[: 1 + self.settings.color] if self.settings.codec == "jpeg" else np.empty((0, 64))

    @property
    def rate(self) -> float:
        """By what the recipe's learning rate is multiplied."""
        return self.settings.compact_rate if self.phase == "compact" else 1.0

    def begin(self, share: float) -> None:
        """Decide which network learns, once this share of the run is done."""
        s = self.settings
        if self.compact is None:
            return
        if share < s.opening:
            self.phase = "opening"
        else:
            rest = (share - s.opening) / (1 - s.opening) * s.rounds
            # The last round ends with RecCNN, which so gets to know the final ComCNN.
            self.phase = "compact" if rest % 1 < s.compact_share and rest >= 1 else "reconstruct"
        self.train(self.training)
        self.compact.requires_grad_(self.phase != "reconstruct")
        self.reconstruct.requires_grad_(self.phase == "reconstruct")

    def train(self, mode: bool = True) -> "Method":
        """A frozen RecCNN also keeps its batch statistics."""
        super().train(mode)
        self.reconstruct.train(mode and self.phase == "reconstruct")
        return self

    def forward(self, batch: Tensor, steps: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """One training step's loss. batch (N, 1 or 3, H, W): luma or RGB in 0..1, H and W multiples of
        16; steps (N,): mean luma quantiser steps. Returns the loss and what to log, each a scalar."""
        source = ycbcr_from_rgb(batch) if self.settings.color else batch
        steps = steps.log()[:, None]
        phase = self.phase if self.training else "reconstruct"
        if phase == "opening":
            loss = error = self.error(self.enlarged(source, steps), batch)
        elif phase == "compact" and self.settings.released and self.compact is not None:
            with torch.no_grad():
                restored = self.reconstruct(self.received(source, steps, "reconstruct"), steps).float()
            error = self.error(restored, batch)
            # A loss whose gradient at the compact image is the reduced error.
            loss = 2 * (self.compact(source, steps) * self.reduce(restored - source)).mean((1, 2, 3))
        else:
            loss = error = self.error(self.reconstruct(self.received(source, steps, phase), steps).float(), batch)
        if phase == "compact" and self.settings.likeness:
            loss = loss + self.settings.likeness * self.error(self.enlarged(source, steps), batch)
        return loss.mean(), {f"{phase}_psnr": -10 * error.detach().log10().mean()}

    def enlarged(self, source: Tensor, log_steps: Tensor) -> Tensor:
        """ComCNN's image, which no codec has seen, enlarged bicubically."""
        assert self.compact is not None
        return self.reconstruct.enlarge(self.compact(source, log_steps))

    def error(self, restored: Tensor, batch: Tensor) -> Tensor:
        """Mean squared errors (N,) of what networks give against luma or RGB."""
        restored = rgb_from_ycbcr(restored) if self.settings.color else restored
        return (restored - batch).square().mean((1, 2, 3))

    def received(self, source: Tensor, log_steps: Tensor, phase: str) -> Tensor:
        """What RecCNN is given: a coded picture, a coded compact image, or one that no codec has seen."""
        steps = log_steps[:, 0].exp().tolist()
        if self.compact is None:
            return coded(source, lambda image, index: self.plain(image, steps[index])).images
        if phase == "compact":
            return self.compact(source, log_steps).clamp(0, 1)
        with torch.no_grad():
            compact = self.compact(source, log_steps)
        return coded(compact, lambda image, index: self.wrapped(image, steps[index])).images

    def plain(self, image: np.ndarray, step: float) -> bytes:
        return plain_jpeg(image, quality=quality_at(step))

    def wrapped(self, image: np.ndarray, step: float) -> bytes:
        return self.codec.encode(image, step, self.shapes())

    def draw_steps(self, count: int, generator: torch.Generator) -> Tensor:
        """Quantiser steps for a batch, log-uniform over the range of the settings."""
        return log_uniform(self.settings.steps, torch.rand(count, generator=generator))


def quality_at(step: float) -> int:
    """libjpeg's quality, 1 to 100, whose luma table has about this mean step (jcparam.c: jpeg_quality_scaling)."""
    scale = 100 * step / np.mean(jpeg.STANDARD[0])
    return int(np.clip(np.rint(5000 / scale if scale > 100 else 100 - scale / 2), 1, 100))
