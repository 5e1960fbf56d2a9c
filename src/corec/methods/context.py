"""A stronger learned codec: the networks of joint.py around a plain block transform, whose latents tell one another.

    x --Compact--> c --DCT--> y;   s = choice(g y - mean),  range-coded with the table of its scale
    known: s + round(mean);   received: (s + mean) / g --inverse DCT--> c^ --Reconstruct--> x^

g are the gains of the level (levels.py): one model for all rates. The transform is the cosine transform of 16x16 luma
and, after subsampling by two, of 8x8 chroma: what Compact and Reconstruct learned around JPEG, they go on from here.

Latents are coded group by group (groups.py), from the lowest frequencies to the highest. Ours: latents that are
frequencies, no second latent beside them, integers throughout.

A symbol is the rounded latent or its neighbour towards zero, whichever costs less: squared error + PRICE times bits.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from corec.color import CENTRE
from corec.learned import refine
from corec.learned.prior import FINER, UNIT
from corec.methods.densities import Masses
from corec.methods.groups import Groups
from corec.methods.integers import BENDS
from corec.methods.joint import Compact, Reconstruct
from corec.methods.levels import Levels, Rates
from corec.methods.similarity import distortion_of
from corec.training.proxies import enlarge_chroma, rgb_from_ycbcr, ycbcr_from_rgb
from corec.training.recipe import at_least
from corec.view import Seen

GRID = 32
"""Sides of training crops are multiples of it."""
SIDE = 16
"""Of a block of luma, in pixels."""
ENDS = {1: (1, 4, 16, 36, 80, 150, 256), 3: (1, 6, 22, 54, 118, 224, 384)}
"""Where groups of latents end, for gray and for colour."""
SIGNED = 24
"""Latents that contexts see with their signs."""
PRICE = 0.1
"""Of a bit, in squared bins, in training. At high rates 2 ln 2 / 12 = 0.116 is what another bin of the quantiser
would save."""
WRITTEN = 0.055
"""The same in files: with half of it pictures, which Reconstruct makes of all latents together, are better at equal
bytes from 0.2 bits a pixel on, and no worse below."""
FARTHEST = 31
"""Symbols further out than this are taken to save as much."""


def cosines(side: int) -> Tensor:
    """The orthonormal cosine transform of blocks (side, side), as a convolution's weight: (side^2, side^2, 1, 1)."""
    n = torch.arange(side, dtype=torch.float64)
    matrix = torch.cos(torch.pi * (2 * n + 1) * n[:, None] / (2 * side)) * (2 / side) ** 0.5
    matrix[0] /= 2**0.5
    return torch.kron(matrix, matrix).float()[:, :, None, None]


def array(tensor: Tensor) -> np.ndarray:
    """A tensor as NumPy has it."""
    return np.asarray(tensor.numpy(force=True))


class Blocks(nn.Module):
    """Luma or YCbCr in 0..1, (N, C, H, W), H and W multiples of 16 -> (N, latents, H/16, W/16), and back.

    256 latents for luma, 384 for YCbCr 4:2:0, the lowest frequencies first; luma[i] says whether latent i is luma's.
    """

    luma_basis: Tensor
    chroma_basis: Tensor
    order: Tensor

    def __init__(self, planes: int) -> None:
        super().__init__()
        self.planes = planes
        place = torch.arange(SIDE).square()
        radius = (place[:, None] + place).sqrt()
        coarse = 2 + 1.5 * radius[: SIDE // 2, : SIDE // 2]  # so much less energy there is in chroma
        order = torch.cat([radius.flatten()] + [coarse.flatten()] * (planes - 1)).argsort(stable=True)
        self.luma = order < SIDE * SIDE
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("luma_basis", cosines(SIDE), persistent=False)
        self.register_buffer("chroma_basis", cosines(SIDE // 2), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        latents = F.conv2d(F.pixel_unshuffle(image[:, :1] - 0.5, SIDE), self.luma_basis)
        if self.planes == 3:
            chroma = F.avg_pool2d(image[:, 1:] - CENTRE, 2)
            parts = [F.pixel_unshuffle(plane, SIDE // 2) for plane in chroma.split(1, 1)]
            latents = torch.cat([latents, *(F.conv2d(part, self.chroma_basis) for part in parts)], 1)
        return latents[:, self.order]

    def inverse(self, latents: Tensor) -> Tensor:
        latents = latents[:, self.order.argsort()]
        luma, *chroma = latents.split([SIDE * SIDE] + [SIDE * SIDE // 4] * (self.planes - 1), 1)
        image = F.pixel_shuffle(F.conv_transpose2d(luma, self.luma_basis), SIDE) + 0.5
        for part in chroma:
            plane = F.pixel_shuffle(F.conv_transpose2d(part, self.chroma_basis), SIDE // 2)
            image = torch.cat([image, enlarge_chroma(plane) + CENTRE], 1)
        return image

    def transposed(self) -> list[int]:
        """The place of the latent that takes each one's place where rows and columns are exchanged."""
        parts, offset = [], 0
        for side in [SIDE] + [SIDE // 2] * (self.planes - 1):
            parts.append((offset + torch.arange(side * side)).reshape(side, side).T.flatten())
            offset += side * side
        return list(self.order.argsort()[torch.cat(parts).to(self.order.device)[self.order]].tolist())

    def told(self, log_step: Tensor) -> Tensor:
        """What networks are told of log steps (N, latents) of pictures in 0..1: luma's mean, and chroma's, in levels
        of 255: (N, 1 or 2)."""
        log_step = log_step + math.log(255)
        parts = [log_step[:, self.luma]] + [log_step[:, ~self.luma]] * (self.planes // 3)
        return torch.stack([part.mean(1) for part in parts], 1)


class Analysis(nn.Module):
    """Picture (N, C, H, W), luma or RGB in 0..1, and log steps (N, latents) -> latents (N, latents, H/16, W/16)."""

    def __init__(self, blocks: Blocks, compact: Compact) -> None:
        super().__init__()
        self.blocks, self.compact = blocks, compact

    def forward(self, picture: Tensor, log_step: Tensor) -> Tensor:
        source = ycbcr_from_rgb(picture) if self.blocks.planes == 3 else picture
        compact = self.compact(source, self.blocks.told(log_step))
        with torch.autocast(picture.device.type, enabled=False):  # latents are large numbers, and steps small
            return self.blocks(compact.float())


class Synthesis(nn.Module):
    """Latents (N, latents, h, w) and log steps (N, latents) -> picture (N, C, 16h, 16w), about 0..1."""

    def __init__(self, blocks: Blocks, reconstruct: Reconstruct) -> None:
        super().__init__()
        self.blocks, self.reconstruct = blocks, reconstruct

    def forward(self, latents: Tensor, log_step: Tensor) -> Tensor:
        with torch.autocast(latents.device.type, enabled=False):
            decoded = self.blocks.inverse(latents)
        restored = self.reconstruct(decoded, self.blocks.told(log_step)).float()
        return rgb_from_ycbcr(restored) if self.blocks.planes == 3 else restored


@dataclass(frozen=True)
class Settings(Rates):
    """What a recipe may say of this method, under [settings]. Settled, a run trains contexts and density."""

    lambdas: tuple[float, float] = (0.0003, 0.16)
    compact_width: int = 32
    compact_blocks: int = 2
    widths: tuple[int, int, int] = (32, 96, 128)
    """Of Reconstruct."""
    context_width: int = 96
    scales: int = 64
    """Tables for the latents."""
    rounds: int = 0
    """In which latents of every other crop are refined, as those of files are: see corec.learned.refine."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, compact_width=self.compact_width, compact_blocks=self.compact_blocks, widths=min(self.widths))
        at_least(1, context_width=self.context_width)
        at_least(2, scales=self.scales)
        at_least(0, rounds=self.rounds)


class Method(nn.Module):
    """All networks, the density of the latents, and one training step."""

    rate = 1.0
    """By what the recipe's learning rate is multiplied."""
    price = WRITTEN
    """See corec.models.Learned."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        s, planes = settings, 3 if settings.color else 1
        self.settings = settings
        self.settles = False
        self.blocks = Blocks(planes)
        self.compact = Compact(planes, False, s.compact_width, s.compact_blocks, planes // 2 + 1)
        self.reconstruct = Reconstruct(planes, False, s.widths, planes // 2 + 1)
        self.levels = Levels(len(self.blocks.order), s.lambdas, s.levels, start=6.0)
        self.contexts = Groups(ENDS[planes], SIGNED, s.context_width, s.scales)

    @property
    def analysis(self) -> Analysis:
        return Analysis(self.blocks, self.compact)

    @property
    def synthesis(self) -> Synthesis:
        return Synthesis(self.blocks, self.reconstruct)

    def start_with(self, pictures: Tensor) -> None:
        """Begin with scales that suit training crops: (N, 1 or 3, H, W) in 0..1."""
        pictures = pictures.to(self.blocks.order.device)
        latents = self.blocks(ycbcr_from_rgb(pictures) if self.settings.color else pictures)
        spread = latents.square().mean((0, 2, 3)).sqrt()
        self.contexts.start_with(spread * self.levels.gains_at(BENDS))

    def begin(self, share: float) -> None:
        """Turn to contexts alone once this share of the run is done."""
        self.settles = share >= 1 - self.settings.settled
        for part in (self.compact, self.reconstruct, self.levels):
            part.requires_grad_(not self.settles)

    def forward(self, batch: Tensor, level: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """One training step's loss. batch (N, 1 or 3, H, W): luma or RGB in 0..1, H and W multiples of
        32; level (N,), from draw_steps. Returns the loss and what to log, each a scalar."""
        with torch.autocast(batch.device.type, enabled=False):  # or gains would have eight bits
            gain = self.levels.gain(level)
        log_step = -gain.log()
        y = self.analysis(batch, log_step)
        gain = gain[:, :, None, None]
        scaled = gain * y
        if self.settings.rounds:
            scaled = scaled + self.changes(scaled.detach(), batch, level)
        with torch.autocast(batch.device.type, enabled=False):
            bits, received = self.contexts(scaled, level, self.chosen)
            rate = bits.sum((1, 2, 3)) / (batch.shape[-1] * batch.shape[-2])
            if self.training and self.settles:
                return self.levels.loss(rate, torch.zeros_like(rate), level), {"bpp": rate.detach().mean()}
        restored = self.synthesis(received / gain, log_step)
        with torch.autocast(batch.device.type, enabled=False):
            distortion, error = distortion_of(restored, batch, self.settings.distortion)
            loss = self.levels.loss(rate, distortion, level)
        return loss, {"psnr": -10 * error.detach().log10().mean(), "bpp": rate.detach().mean()}

    def changes(self, scaled: Tensor, batch: Tensor, level: Tensor) -> Tensor:
        """What refining every other picture's latents in bins changes them by: of their shape."""
        changes = torch.zeros_like(scaled)
        for at in range(0, len(batch), 2):
            one = slice(at, at + 1)
            changes[at] = self.refined(scaled[one], batch[one], level[one]) - scaled[at]
        return changes

    def refined(self, scaled: Tensor, picture: Tensor, level: Tensor) -> Tensor:
        """Latents in bins (1, latents, h, w) of a picture (1, 1 or 3, H, W) after all rounds: (latents, h, w)."""
        exact = torch.autocast(scaled.device.type, enabled=False)
        with exact:
            gain = self.levels.gain(level).detach()

        def code(wanted: np.ndarray) -> refine.Coded:
            with exact:
                latents = torch.from_numpy(wanted).to(scaled)[None]
                means, index = self.contexts.expected(latents, level, self.chosen)
                symbols = self.chosen(latents - means / UNIT, index)
            return array(symbols[0].int()), array(index[0].int()), array(means[0] / UNIT)

        def view(latents: np.ndarray, sloped: bool) -> Seen:
            with torch.set_grad_enabled(sloped):
                received = torch.from_numpy(latents).to(scaled).permute(2, 0, 1)[None].requires_grad_(sloped)
                errors = (self.synthesis(received, -gain.log()) - picture).square().mean(1)
                slope = torch.autograd.grad(errors.sum(), received)[0] if sloped else torch.zeros_like(received)
            return Seen(array(SIDE**2 * F.avg_pool2d(errors, SIDE)[0]), array(slope[0].permute(1, 2, 0)))

        def bits(symbols: np.ndarray, numbers: np.ndarray) -> np.ndarray:
            values, index = (torch.from_numpy(part).to(scaled) for part in (symbols, numbers))
            with exact:
                return array(self.contexts.density.bits(values, index))

        worth = 255**2 * float(self.levels.weight(level))
        made = refine.refined(array(scaled[0]), array(gain[0]), worth, view, code, bits, self.settings.rounds)
        return torch.from_numpy(made).to(scaled)

    @torch.no_grad()
    def chosen(self, residual: Tensor, index: Tensor) -> Tensor:
        """The symbols of residuals in bins, of the same shape as their indices, which are whole."""
        near = residual.round()
        size = near.abs().clamp(max=FARTHEST).long()
        every = torch.arange(self.settings.scales, device=index.device)[:, None]
        bits = self.contexts.density.bits(torch.arange(FARTHEST + 1.0, device=index.device), every)
        saved = torch.diff(bits, prepend=bits[:, :1]).flatten()[(FARTHEST + 1) * index.long() + size]
        # The squared error of the neighbour towards zero is larger by 1 + 2 (|residual| - |near|).
        return torch.where(1 + 2 * (residual.abs() - near.abs()) < PRICE * saved, near - near.sign(), near)

    def draw_steps(self, count: int, generator: torch.Generator) -> Tensor:
        """Levels for a batch, all equally often."""
        return self.levels.draw(count, generator)

    def parts(self) -> dict[str, nn.Module]:
        """The networks of a finished model, by the names that they have in the zoo."""
        return {"analysis": self.analysis, "synthesis": self.synthesis, **self.contexts.parts()}

    def gains(self) -> Tensor:
        """Of all levels that files may have, FINER from one level of training to the next: (levels, latents)."""
        return self.levels.gains(FINER)

    def transposed(self) -> list[int]:
        """See Tables.transposed."""
        return self.blocks.transposed()

    def worth(self) -> list[float]:
        """See Tables.worth."""
        return self.levels.worth(FINER) if self.settings.distortion == "mse" else []

    def tables(self) -> Iterator[Masses]:
        """Probabilities of the symbols of every scale."""
        return self.contexts.tables()
