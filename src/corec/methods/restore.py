"""One network for the artefacts of any JPEG file: gray or colour, every quality, no compact image.

    x --JPEG of anybody--> x^ --Reconstruct--> x~

What RecCNN alone does in Jiang et al. 2017, with the network of joint.py instead, a tenth of its work, which is
told the file's own quantiser (as in Ehrlich et al. 2020, "Quantization Guided JPEG Artifact Correction"), so that
it knows when there is nothing to repair. The loss is minus the PSNR: every quality counts alike.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from corec.codecs import jpeg
from corec.methods.joint import FLOOR, Reconstruct
from corec.training.coding import coded, log_uniform, plain_jpeg
from corec.training.proxies import rgb_from_ycbcr, ycbcr_from_rgb
from corec.training.recipe import at_least, shares

GRID = 16
"""Sides of training crops are multiples of it."""


@dataclass(frozen=True)
class Settings:
    """What a recipe may say of this method, under [settings]."""

    color: bool = False
    widths: tuple[int, int, int] = (32, 96, 128)
    steps: tuple[float, float] = (1.2, 576.0)
    """Smallest and largest mean step of the luma table; drawn log-uniformly per crop. 576: quality 5, 1.2: 99."""
    flat: float = 0.25
    """Share of files whose tables lie between the standard's and a flat one: cameras and programs have their own."""
    whole_chroma: float = 0.35
    """Share of colour files whose chroma is not subsampled."""
    twice: float = 0.2
    """Share of files made from a picture that had been a finer JPEG file before, with other blocks."""

    def __post_init__(self) -> None:
        at_least(1, widths=min(self.widths))
        shares(flat=self.flat, whole_chroma=self.whole_chroma, twice=self.twice)

    @property
    def half(self) -> bool:
        return False

    @property
    def codec(self) -> str:
        return jpeg.NAME


class Method(nn.Module):
    """The network, and one training step."""

    rate = 1.0
    """By what the recipe's learning rate is multiplied."""
    both_ways = True
    """See corec.models.Model."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.settings = settings
        self.compact = None
        self.reconstruct = Reconstruct(3 if settings.color else 1, False, settings.widths, 2 if settings.color else 1)

    def begin(self, share: float) -> None:
        """Nothing: all steps of this method are alike, whatever share of the run is done."""

    def shapes(self) -> np.ndarray:
        """The standard's tables, as multipliers of the luma table's mean: (1 or 2, 64)."""
        return jpeg.STANDARD_SHAPES[: 1 + self.settings.color]

    def forward(self, batch: Tensor, draws: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """One training step's loss. batch (N, 1 or 3, H, W): luma or RGB in 0..1, H and W multiples of
        16; draws (N, 6) from draw_steps. Returns the loss and what to log, each a scalar."""
        source = ycbcr_from_rgb(batch) if self.settings.color else batch
        numbers = draws.tolist()
        damaged, _, steps = coded(source, lambda image, index: self.foreign(image, *numbers[index]))
        restored = self.reconstruct(damaged, steps).float()
        if self.settings.color:
            damaged, restored = rgb_from_ycbcr(damaged), rgb_from_ycbcr(restored)
        error = (restored - batch).square().mean((1, 2, 3)) + FLOOR
        before = (damaged - batch).square().mean((1, 2, 3)) + FLOOR
        loss = error.log10().mean()
        return loss, {"psnr": -10 * loss.detach(), "gain": 10 * (before.log10().mean() - loss.detach())}

    def foreign(self, image: np.ndarray, *draw: float) -> bytes:
        """A JPEG file such as the world has; draw is a row of draw_steps: the step, then numbers in 0..1."""
        step, flat, chroma, twice, across, down = draw
        s = self.settings
        tables = self.shapes()
        if flat < s.flat:
            tables = tables ** (flat / s.flat)
        whole = chroma < s.whole_chroma
        if twice < s.twice:
            # The first file had other blocks: the picture is moved before it, and back after it.
            by = (int(8 * across), int(8 * down))
            moved = np.roll(image, by, (0, 1))
            earlier = written(moved, jpeg.tables_at(step * (0.2 + 0.6 * twice / s.twice), tables), whole)
            image = np.roll(jpeg.decode(earlier)[0], (-by[0], -by[1]), (0, 1))
        return written(image, jpeg.tables_at(step, tables), whole)

    def draw_steps(self, count: int, generator: torch.Generator) -> Tensor:
        """What foreign needs, (count, 6): a mean luma step, log-uniform, and five numbers in 0..1."""
        draws = torch.rand(count, 6, generator=generator)
        draws[:, 0] = log_uniform(self.settings.steps, draws[:, 0])
        return draws


def written(image: np.ndarray, tables: np.ndarray, whole_chroma: bool) -> bytes:
    """A JPEG file by libjpeg with these tables; its size does not matter here."""
    return plain_jpeg(image, qtables=tables.tolist(), subsampling=0 if whole_chroma else 2)
