"""Joint training of a compact and a reconstruction network through a differentiable codec.

    x --Compact--> c --codec--> c^ --Reconstruct--> x^

    loss = log(MSE(x, x^) + lambda q^2 R + mu MSE(c, c0))

R is the estimated rate in bits per compact pixel and q the mean quantiser step: to first order the
slope of distortion over rate of a uniform quantiser is proportional to q^2, so one lambda serves all
rates. c0 is the picture itself (scale 1) or its antialiased bicubic reduction (scale 1/2); the last
term keeps the file worth looking at in a viewer that knows nothing of Corec. The logarithm, of each crop's
sum, makes all steps count alike.

The codec is a differentiable JPEG (training/proxies.py). For other codecs it stands in with flat tables: what they do
to a picture is also to round the coefficients of a transform. The last part of a run trains Reconstruct alone, on the
codec's own files, where only the error is left of the sum. Networks for several codecs are told which one it is.

Related: Jiang et al. 2017 (arXiv 1708.00838) for the arrangement; Guleryuz et al. 2021, "Sandwiched
image compression", for training through a codec proxy.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from corec.codecs.base import Codec
from corec.codecs.registry import CARRIED, codec_named
from corec.errors import RecipeError
from corec.methods.layers import Block, Downscale, Upscale, silence
from corec.models import model_named
from corec.suit import Suit
from corec.training.coding import coded, log_uniform
from corec.training.proxies import JpegProxy, rgb_from_ycbcr, ycbcr_from_rgb
from corec.training.recipe import at_least, shares
from corec.view import Seen
from corec.wrap import with_luma

FLOOR = (0.3 / 255) ** 2
"""Added to the mean squared error before its logarithm is taken: flat crops have none, and their PSNR no bound."""
EMBEDDING = 32
GRID = 32
"""Sides of training crops are multiples of it."""


class Embed(nn.Sequential):
    """From what networks are told (N, steps + which) to an embedding (N, 32): log steps of the quantiser, and 1 for the
    codec that it is and 0 for others, if they are for several."""

    middle: Tensor

    def __init__(self, steps: int, which: int) -> None:
        first = nn.Linear(steps + which, EMBEDDING)
        super().__init__(first, nn.ReLU(), nn.Linear(EMBEDDING, EMBEDDING), nn.ReLU())
        self.register_buffer("middle", torch.tensor([3.0] * steps + [0.0] * which), persistent=False)

    def forward(self, told: Tensor) -> Tensor:
        return super().forward(told - self.middle)


class Compact(nn.Module):
    """Picture (N, C, H, W) in 0..1 -> compact image (N, C, H/s, W/s), about 0..1; s = 2 or 1.

    C is 1 (luma) or 3 (YCbCr); H and W are even. log_step (N, steps + which) is the natural logarithm of the step that
    the compact image will be quantised with, for JPEG the mean of each table's, and which codec does it. Works on 2x2
    cells at half resolution and adds to the plain (reduced) picture.
    """

    def __init__(self, planes: int, half: bool, width: int, blocks: int, steps: int, which: int = 0) -> None:
        super().__init__()
        self.halves = half
        self.embed = Embed(steps, which)
        self.head = nn.Conv2d(4 * planes, width, 3, padding=1)
        self.blocks = nn.ModuleList(Block(width, EMBEDDING) for _ in range(blocks))
        self.tail = nn.Conv2d(width, planes if half else 4 * planes, 3, padding=1)
        silence(self.tail)
        self.reduce = Downscale(planes) if half else nn.Identity()

    def forward(self, picture: Tensor, log_step: Tensor) -> Tensor:
        embedding = self.embed(log_step)
        features = self.head(F.pixel_unshuffle(picture, 2) - 0.5)
        for block in self.blocks:
            features = block(features, embedding)
        change = self.tail(features)
        return self.reduce(picture) + (change if self.halves else F.pixel_shuffle(change, 2))


class Reconstruct(nn.Module):
    """Decoded compact image (N, C, H/s, W/s) in 0..1 -> picture (N, C, H, W); H and W multiples of 8.

    A three-level network (1/2, 1/4 and 1/8 of the picture's resolution, two blocks deep each way) that
    predicts a residual over the bicubic enlargement (s = 2) or the decoded image (s = 1).
    """

    def __init__(self, planes: int, half: bool, widths: tuple[int, int, int], steps: int, which: int = 0) -> None:
        super().__init__()
        fine, middle, coarse = widths
        self.halves = half
        self.embed = Embed(steps, which)
        self.head = nn.Conv2d(planes if half else 4 * planes, fine, 3, padding=1)
        self.down1 = nn.Conv2d(fine, middle, 2, stride=2)
        self.down2 = nn.Conv2d(middle, coarse, 2, stride=2)
        self.up2 = nn.Conv2d(coarse, 4 * middle, 1)
        self.up1 = nn.Conv2d(middle, 4 * fine, 1)
        self.fine = nn.ModuleList(Block(fine, EMBEDDING) for _ in range(2))
        self.middle = nn.ModuleList(Block(middle, EMBEDDING) for _ in range(4))
        self.coarse = nn.ModuleList(Block(coarse, EMBEDDING) for _ in range(2))
        self.tail = nn.Conv2d(fine, 4 * planes, 3, padding=1)
        silence(self.tail)
        self.enlarge = Upscale(planes) if half else nn.Identity()

    def forward(self, compact: Tensor, log_step: Tensor) -> Tensor:
        embedding = self.embed(log_step)
        fine = self.head((compact if self.halves else F.pixel_unshuffle(compact, 2)) - 0.5)
        fine = self.fine[0](fine, embedding)
        middle = self.down1(fine)
        for block in self.middle[:2]:
            middle = block(middle, embedding)
        coarse = self.down2(middle)
        for block in self.coarse:
            coarse = block(coarse, embedding)
        middle = middle + F.pixel_shuffle(self.up2(coarse), 2)
        for block in self.middle[2:]:
            middle = block(middle, embedding)
        fine = fine + F.pixel_shuffle(self.up1(middle), 2)
        fine = self.fine[1](fine, embedding)
        return self.enlarge(compact) + F.pixel_shuffle(self.tail(fine), 2)


@dataclass(frozen=True)
class Settings:
    """What a recipe may say of this method, under [settings]."""

    color: bool = False
    half: bool = True
    codec: str = "jpeg"
    """Name of the codec that its files are of."""
    also: tuple[str, ...] = ()
    """Further codecs that the same networks are for; each crop is coded by one of all, drawn at random."""
    bare: tuple[str, ...] = ()
    """Those of all its codecs that get pictures as they are, of full size: what is trained is Reconstruct alone."""
    real: float = 0.0
    """Share of the run, at its end, that trains Reconstruct alone on the codec's own files."""
    luma: str = ""
    """What is after CODEC- in the names of the gray models that restore luma before Reconstruct sees it, which restores
    chroma then, and what is left of luma. In colour, at full size, trained on the codecs' own files alone."""
    rounds: int = 0
    """In which every other one of these files is suited to its picture first, as compress does: see corec.suit. JPEG's
    only. With all of them Reconstruct would read more and more into its own hints, and no longer see pictures."""
    compact_width: int = 32
    compact_blocks: int = 2
    widths: tuple[int, int, int] = (32, 96, 128)
    steps: tuple[float, float] = (8.0, 80.0)
    """Smallest and largest mean quantiser step, in levels of 255; drawn log-uniformly per crop."""
    rate_weight: float = 0.12
    likeness_weight: float = 0.05

    def __post_init__(self) -> None:
        at_least(1, compact_width=self.compact_width, compact_blocks=self.compact_blocks, widths=min(self.widths))
        at_least(0, rounds=self.rounds, rate_weight=self.rate_weight, likeness_weight=self.likeness_weight)
        shares(real=self.real)
        if self.codec in self.also or len({*self.also}) < len(self.also):
            raise RecipeError("also may name each further codec once")
        if self.bare and (self.half or not {*self.bare} <= {self.codec, *self.also}):
            raise RecipeError("bare may name codecs of a recipe that is not for half size")
        if self.also and "jpeg" in (self.codec, *self.also):
            raise RecipeError("networks around JPEG are told both its tables, and are for it alone")
        if self.luma and (self.half or not self.color or self.codec == "jpeg" or self.real < 1):
            raise RecipeError("luma may be restored first in colour, at full size, not by JPEG, and with real = 1.0")
        if self.rounds and (self.codec, *self.also) != ("jpeg",):
            raise RecipeError("rounds suit files of JPEG alone")


class Method(nn.Module):
    """Both networks, the codec between them, and one training step.

    State: the networks and the learned shape of JPEG's quantisation tables.
    """

    rate = 1.0
    """By what the recipe's learning rate is multiplied."""

    @property
    def both_ways(self) -> bool:
        """See corec.models.Model. Where gray models restore luma these do, and that is most of what it is worth."""
        return not self.settings.luma

    @property
    def carried(self) -> tuple[str, ...]:
        """Further codecs whose models these are."""
        return CARRIED.get(self.settings.codec, ())

    @property
    def suits(self) -> bool:
        """Whether files are suited to their pictures, by the slope of Reconstruct: see corec.suit."""
        return self.settings.codec == "jpeg"

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        planes = 3 if settings.color else 1
        jpeg = settings.codec == "jpeg"
        conditions = planes // 2 + 1 if jpeg else 1, len((settings.codec, *settings.also)) if settings.also else 0
        self.settings = settings
        self.scale = 2 if settings.half else 1
        self.phase = "joint"
        self.compact = Compact(planes, settings.half, settings.compact_width, settings.compact_blocks, *conditions)
        self.reconstruct = Reconstruct(planes, settings.half, settings.widths, *conditions)
        self.proxy = JpegProxy(settings.color, learned=jpeg)
        self.codecs = [codec_named(name) for name in (settings.codec, *settings.also)]
        self.reduce = Downscale(planes) if settings.half else nn.Identity()

    def begin(self, share: float) -> None:
        """Turn to the codec's own files once this share of the run is done."""
        self.phase = "real" if share >= 1 - self.settings.real else "joint"
        self.compact.requires_grad_(self.phase == "joint")

    def shapes(self) -> np.ndarray:
        """JPEG's learned tables as multipliers of the mean luma step: (1 or 2, 64); none for other codecs."""
        if self.settings.codec != "jpeg":
            return np.empty((0, 64))
        return self.proxy.shapes().detach().numpy(force=True)

    def forward(self, batch: Tensor, steps: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """One training step's loss. batch (N, 1 or 3, H, W): luma or RGB in 0..1, H and W multiples of
        32; steps (N,): mean luma quantiser steps. Returns the loss and what to log, each a scalar."""
        s = self.settings
        source = ycbcr_from_rgb(batch) if s.color else batch
        tables = self.proxy.tables(steps)
        which = torch.randint(len(self.codecs), (len(steps),))
        codecs = [self.codecs[i] for i in which.tolist()]
        log_step = self.proxy.log_step(tables) if s.codec == "jpeg" else told(codecs, steps)
        if s.also:
            log_step = torch.cat([log_step, F.one_hot(which, len(self.codecs)).to(log_step)], 1)
        compact = self.compact(source, log_step)
        if s.bare:
            bare = torch.tensor([codec.NAME in s.bare for codec in codecs], device=batch.device)
            compact = torch.where(bare[:, None, None, None], source, compact)
        if self.phase == "real":
            shapes, levels = self.shapes().tolist(), steps.tolist()

            def file(image: np.ndarray, index: int) -> bytes:
                data = codecs[index].encode(image, levels[index], shapes)
                if not s.rounds or index % 2:
                    return data
                view = partial(self.view, picture=batch[index], log_step=log_step[index])
                suit = Suit(codecs[index], data, view, levels[index], self.scale, shapes)
                suit.rounds(s.rounds, len(data))
                return suit.best.data

            decoded, bits, _ = coded(compact, file)
            if s.luma:
                decoded = self.with_luma(decoded, codecs, levels)
        else:
            with torch.autocast(batch.device.type, enabled=False):  # a codec's arithmetic is exact
                decoded, bits = self.proxy(compact.float(), tables)
        restored = self.restored(decoded, log_step)
        error = (restored - batch).square().mean((1, 2, 3))
        likeness = (compact.float() - self.reduce(source)).square().mean((1, 2, 3))
        loss = error
        if self.phase == "joint":
            rate = bits / (compact.shape[-1] * compact.shape[-2])
            loss = error + s.rate_weight * (steps / 255).square() * rate + s.likeness_weight * likeness
        loss = (loss + FLOOR).log10().mean()
        facts = {
            "psnr": -10 * error.detach().log10().mean(),
            "bpp": bits.detach().mean() / (batch.shape[-1] * batch.shape[-2]),
        }
        if self.phase == "joint":
            facts["likeness"] = -10 * likeness.detach().mean().log10()
        return loss, facts

    def restored(self, decoded: Tensor, log_step: Tensor) -> Tensor:
        """Decoded images (N, 1 or 3, h, w), luma or YCbCr -> pictures (N, 1 or 3, H, W), luma or RGB."""
        pictures = self.reconstruct(decoded, log_step).float()
        return rgb_from_ycbcr(pictures) if self.settings.color else pictures

    def with_luma(self, decoded: Tensor, codecs: list[Codec], steps: list[float]) -> Tensor:
        """Decoded images (N, 3, H, W), YCbCr, as the models of gray pictures restore their luma."""
        images = (255 * decoded).round().to(torch.uint8).permute(0, 2, 3, 1).numpy(force=True)
        grays = [model_named(f"{codec.NAME}-{self.settings.luma}") for codec in codecs]
        told = [codec.condition(step, ()) for codec, step in zip(codecs, steps, strict=True)]
        restored = np.stack([with_luma(*facts) for facts in zip(images, told, grays, strict=True)])
        return torch.from_numpy(restored).to(decoded).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)

    def view(self, image: np.ndarray, sloped: bool, picture: Tensor, log_step: Tensor) -> Seen:
        """What Reconstruct makes of a decoded image (h, w, 1 or 3) in 0..1, beside its picture (1 or 3, H, W)."""
        with torch.set_grad_enabled(sloped):
            decoded = torch.from_numpy(image).to(picture.device).permute(2, 0, 1)[None].requires_grad_(sloped)
            errors = (self.restored(decoded, log_step[None])[0] - picture).square().mean(0)
            slope = torch.autograd.grad(errors.sum(), decoded)[0] if sloped else torch.zeros_like(decoded)
        errors = F.avg_pool2d(errors.detach()[None], self.scale)[0] * self.scale**2
        return Seen(errors.numpy(force=True), slope[0].permute(1, 2, 0).numpy(force=True))

    def draw_steps(self, count: int, generator: torch.Generator) -> Tensor:
        """Quantiser steps for a batch, log-uniform over the range of the settings."""
        return log_uniform(self.settings.steps, torch.rand(count, generator=generator))


def told(codecs: list[Codec], steps: Tensor) -> Tensor:
    """What files of these codecs at these steps say: (N, 1) log steps."""
    rows = [codec.condition(step, ()) for codec, step in zip(codecs, steps.tolist(), strict=True)]
    return torch.from_numpy(np.stack(rows)).float().to(steps.device)
