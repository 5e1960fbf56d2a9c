"""Zhao, Bai, Wang, Zhao 2017, "Learning a Virtual Codec Based on Deep Convolutional Neural Network to Compress Image".

    x --FDNN--> y --any codec--> y^ --PPNN--> x^
                y ----------VCNN-----------> x~, about x^

arXiv 1712.05969. FDNN describes the picture at half its size, PPNN turns the decoded description back into the
picture. No gradient passes the codec between them: a third network, VCNN, learns what codec and PPNN together make of
a description, and FDNN learns through it. The three take turns, round by round:

    a. PPNN:  min d(PPNN(Co(y)), x), with the codec itself, FDNN as it is
    b. VCNN:  min d(VCNN(y), PPNN(Co(y))), y not coded, FDNN and PPNN as they are
    c. FDNN:  min d(VCNN(FDNN(x)), x) + w DSSIM(FDNN(x), x reduced), VCNN frozen

VCNN serves training alone. With `virtual = false` there is none, and step c goes through PPNN with the codec left out,
as in Algorithm 1 of Jiang et al. 2017: the same networks, for comparison.

What is the authors', and from where. The arrangement, and what VCNN imitates: the abstract. The layers: a figure in the
authors' repository VirtualCodecNetwork and the test code of their MDCNN, which agree. That the networks take turns and
that a structural term keeps the description a picture: MDCNN. The text of the paper itself could not be checked.

What is ours:
- Weights begin such that FDNN is the bicubic reduction, PPNN and VCNN the bicubic enlargement. In a later paper the
  authors begin with an auto-encoder.
- Layers of 9x9 continue the picture at its edges; theirs take it for black there.
- The quantiser is drawn from a range, where they have a set of networks for each quality. VCNN sees no quantiser, so it
  learns the mean over the range. Told the step, as a further plane at its input, it imitated less well: 35.4 dB
  against 36.1 after the same 300 steps.
- The description is clipped to 0..1, and before the codec rounded to 8 bits.
- d is the mean squared error. Theirs, from memory, is the mean absolute difference of pixels and of their gradients:
  PPNN's PSNR came out 0.04 dB lower with it, in two short runs that were otherwise alike.
- All numbers: rounds, shares of the steps, learning rates, w.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from corec.codecs import jpeg
from corec.codecs.registry import codec_named
from corec.errors import RecipeError
from corec.methods.jiang2017 import initialise
from corec.methods.layers import Downscale, cubic, silence
from corec.methods.similarity import terms
from corec.training.coding import coded, log_uniform
from corec.training.proxies import rgb_from_ycbcr, ycbcr_from_rgb
from corec.training.recipe import at_least, shares

GRID = 16
"""Sides of training crops are multiples of it."""
RISE = 0.2
"""Share of VCNN's and FDNN's phases in which their learning rate rises. Adam's first steps are as long as any, and all
weights that carry the image take them together."""


class FDNN(nn.Module):
    """Picture (N, C, H, W) in 0..1 -> description (N, C, H/s, W/s), about 0..1; H and W multiples of s = 2 or 1.

    9x9, C -> filters, ReLU; 3x3 with stride s, ReLU; four of 3x3, ReLU; 9x9, filters -> C.
    """

    def __init__(self, planes: int, filters: int, half: bool) -> None:
        super().__init__()
        layers = [wide(planes, filters), nn.ReLU()]
        for stride in (2 if half else 1, 1, 1, 1, 1):
            layers += [nn.Conv2d(filters, filters, 3, stride, padding=1), nn.ReLU()]
        self.layers = nn.Sequential(*layers, wide(filters, planes))
        reduction = F.pad(Downscale(1).kernel[0, 0], (1, 0, 1, 0))
        carry(self.layers, planes, reduction if half else center(9), center(9))

    def forward(self, picture: Tensor, log_step: Tensor) -> Tensor:
        """log_step is what every network of Corec is told; this one does without."""
        return self.layers(picture)


class PPNN(nn.Module):
    """Decoded description (N, C, H/s, W/s) in 0..1 -> picture (N, C, H, W); s = 2 or 1. VCNN has the same layers.

    9x9, C -> filters, ReLU; six of 3x3, ReLU; 9x9, filters -> C, transposed with stride 2 if s is 2.
    """

    def __init__(self, planes: int, filters: int, half: bool) -> None:
        super().__init__()
        layers = [wide(planes, filters), nn.ReLU()]
        for _ in range(6):
            layers += [nn.Conv2d(filters, filters, 3, padding=1), nn.ReLU()]
        if half:
            # Two samples more on each side, of whose results none is kept: at the edges they are neighbours.
            layers += [
                nn.ReplicationPad2d(2),
                nn.ConvTranspose2d(filters, planes, 9, stride=2, padding=8, output_padding=1),
            ]
        else:
            layers.append(wide(filters, planes))
        self.layers = nn.Sequential(*layers)
        taps = cubic((torch.arange(9) - 4) / 2 - 0.25)
        carry(self.layers, planes, center(9), torch.outer(taps, taps) if half else center(9))

    def forward(self, decoded: Tensor, log_step: Tensor) -> Tensor:
        """log_step is what every network of Corec is told; this one does without."""
        return self.layers(decoded)


def wide(inputs: int, outputs: int) -> nn.Module:
    """A convolution of 9x9 that continues the picture at its edges."""
    return nn.Conv2d(inputs, outputs, 9, padding=4, padding_mode="replicate")


def center(size: int) -> Tensor:
    """The kernel (size, size) that changes nothing."""
    kernel = torch.zeros(size, size)
    kernel[size // 2, size // 2] = 1
    return kernel


@torch.no_grad()
def carry(layers: nn.Sequential, planes: int, first: Tensor, last: Tensor) -> None:
    """Let each layer's first channels carry the image's planes, and the last layer heed these alone.

    first, last: kernels of the outer layers, (9, 9). All else begins as in He et al. 2015.
    """
    initialise(layers)
    convolutions = [layer for layer in layers if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)]
    silence(convolutions[-1])
    for layer in convolutions:
        kernel = first if layer is convolutions[0] else last if layer is convolutions[-1] else center(3)
        for plane in range(planes):
            layer.weight[plane] = 0
            layer.weight[plane, plane] = kernel


def distance(found: Tensor, wanted: Tensor) -> Tensor:
    """Mean squared difference of images (N, C, H, W): (N,)."""
    return (found - wanted).square().mean((1, 2, 3))


def dssim(found: Tensor, wanted: Tensor) -> Tensor:
    """(1 - SSIM) / 2, SSIM as the mean over the planes, of images (N, C, H, W) in 0..1, at least 11x11 -> (N,)."""
    luminance, structure = terms(found, wanted)
    return (1 - (luminance * structure).mean((1, 2, 3))) / 2


def psnr(found: Tensor, wanted: Tensor) -> Tensor:
    """Mean of the images' PSNRs, in dB: (N, C, H, W) twice, in 0..1."""
    return -10 * distance(found, wanted).detach().log10().mean()


@dataclass(frozen=True)
class Settings:
    """What a recipe may say of this method, under [settings]."""

    color: bool = False
    codec: str = "jpeg"
    filters: int = 128
    steps: tuple[float, float] = (14.0, 140.0)
    """Smallest and largest mean quantiser step, in levels of 255; drawn log-uniformly per crop."""
    virtual: bool = True
    """False: no VCNN. FDNN learns through PPNN, the codec left out."""
    rounds: int = 4
    """Parts of the run. In the first PPNN alone learns, from bicubic descriptions; it also ends every other."""
    virtual_share: float = 0.3
    """Share of a round, its beginning, that trains VCNN."""
    compact_share: float = 0.2
    """Share of a round, after that, that trains FDNN."""
    compact_rate: float = 0.2
    """Learning rate of FDNN over that of the others."""
    structure_weight: float = 0.03
    """w of step c."""

    def __post_init__(self) -> None:
        at_least(1, filters=self.filters, rounds=self.rounds)
        shares(virtual_share=self.virtual_share, compact_share=self.compact_share)
        if self.virtual_share + self.compact_share > 1:
            raise RecipeError("virtual_share and compact_share are more than the whole of a round")

    @property
    def half(self) -> bool:
        return True


class Method(nn.Module):
    """The three networks, and one training step.

    State: the networks; `virtual` is not part of a model.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        planes = 3 if settings.color else 1
        sizes = planes, settings.filters, settings.half
        self.settings = settings
        self.codec = codec_named(settings.codec)
        self.phase = "reconstruct"
        self.rate = 1.0  # by what the recipe's learning rate is multiplied
        self.compact = FDNN(*sizes)
        self.reconstruct = PPNN(*sizes)
        self.virtual = PPNN(*sizes) if settings.virtual else None
        self.reduce = Downscale(planes) if settings.half else nn.Identity()

    def shapes(self) -> np.ndarray:
        """JPEG's own tables, as multipliers of the luma table's mean: (1 or 2, 64); none for other codecs."""
        if self.settings.codec != jpeg.NAME:
            return np.empty((0, 64))
        return jpeg.STANDARD_SHAPES[: 1 + self.settings.color]

    def begin(self, share: float) -> None:
        """Decide which network learns, the one that the phase is called after, once this share of the run is done."""
        s = self.settings
        whole, part = divmod(share * s.rounds, 1)
        imitated = s.virtual_share if s.virtual else 0.0
        self.phase, done = "reconstruct", 1.0
        if whole > 0 and part < imitated:
            self.phase, done = "virtual", part / imitated
        elif whole > 0 and part < imitated + s.compact_share:
            self.phase, done = "compact", (part - imitated) / s.compact_share
        self.rate = min(1.0, done / RISE) * (s.compact_rate if self.phase == "compact" else 1.0)
        for name, network in self.named_children():
            network.requires_grad_(name == self.phase)

    def forward(self, batch: Tensor, steps: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """One training step's loss. batch (N, 1 or 3, H, W): luma or RGB in 0..1, H and W multiples of
        16; steps (N,): mean luma quantiser steps. Returns the loss and what to log, each a scalar.

        Logged of codec and PPNN: psnr, bpp. Of the network that stands in for both where FDNN learns: stand_in_psnr,
        its picture's against theirs; promised_psnr, its picture's against the original. ssim is the description's.
        """
        s = self.settings
        phase = self.phase if self.training else "reconstruct"
        source = ycbcr_from_rgb(batch) if s.color else batch
        log_steps = steps.log()[:, None]
        description = self.compact(source, log_steps).float()
        shapes, levels = self.shapes(), steps.tolist()
        received, bits, _ = coded(description, lambda image, index: self.codec.encode(image, levels[index], shapes))
        restored = self.picture(self.reconstruct(received, log_steps))
        facts = {"psnr": psnr(restored, batch), "bpp": bits.mean() / batch[0, 0].numel()}
        error = distance(restored, batch)
        if phase != "reconstruct" or not self.training:
            stand_in = self.reconstruct if self.virtual is None else self.virtual
            imagined = self.picture(stand_in(description.clamp(0, 1), log_steps))
            facts["stand_in_psnr"] = psnr(imagined, restored)
            if phase == "virtual":
                error = distance(imagined, restored)
            elif phase == "compact":
                with torch.autocast(batch.device.type, enabled=False):
                    unlike = dssim(description, self.reduce(source).float())
                error = distance(imagined, batch) + s.structure_weight * unlike
                facts |= {"promised_psnr": psnr(imagined, batch), "ssim": 1 - 2 * unlike.detach().mean()}
        return error.mean(), facts

    def picture(self, planes: Tensor) -> Tensor:
        """What a network gives (N, C, H, W) as luma or RGB, float32."""
        return rgb_from_ycbcr(planes.float()) if self.settings.color else planes.float()

    def draw_steps(self, count: int, generator: torch.Generator) -> Tensor:
        """Quantiser steps for a batch, log-uniform over the range of the settings."""
        return log_uniform(self.settings.steps, torch.rand(count, generator=generator))
