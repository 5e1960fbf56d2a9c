"""Latents that tell one another, group by group: how likely each is, given those before.

Latents come in groups of channels; within a group the places of a chequerboard (of the first group those of even rows
before those of odd ones), then those between. A network of integers for each group (integers.py) tells mean and scale
of every latent from all those before, on all sides (checkerboards and groups of channels: He et al. 2021, arXiv
2103.15306, and 2022, "ELIC", arXiv 2203.10886). corec.learned.prior does the same with a finished model.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from corec.learned.prior import FIRST, OTHERS, UNIT
from corec.methods.densities import Masses, Scaled, noisy
from corec.methods.integers import Context

Choice = Callable[[Tensor, Tensor], Tensor]
"""Residuals in bins and indices of their scales, each (N, C, h, w) -> symbols, whole."""


def rounded(residual: Tensor, index: Tensor) -> Tensor:
    """The nearest symbols, whatever they cost."""
    return residual.round()


class Groups(nn.Module):
    """The contexts of all groups, and the densities that they choose from."""

    def __init__(self, ends: Sequence[int], signed: int, width: int, scales: int) -> None:
        """ends: of the groups; signed, width: see Context; scales: how many densities there are."""
        super().__init__()
        self.density = Scaled(scales)
        self.groups = [slice(begin, end) for begin, end in pairwise((0, *ends))]
        self.each = nn.ModuleList(
            Context(group.stop, group.stop - group.start, signed, width, scales) for group in self.groups
        )

    @torch.no_grad()
    def start_with(self, spread: Tensor) -> None:
        """Begin with scales of latents that have these root mean squares, in bins, at BENDS: (levels, latents)."""
        indices = self.density.index_of(spread)
        for group, context in zip(self.groups, self.each, strict=True):
            context.start_with(indices[:, group])  # type: ignore[operator]

    def forward(self, scaled: Tensor, level: Tensor, choice: Choice) -> tuple[Tensor, Tensor]:
        """Latents in bins (N, latents, h, w) at levels (N,) -> the bits of each, and what is received of it, in bins.

        What is received changes with the latents as if it were these.
        """
        means, index = self.expected(scaled.detach(), level, choice)
        residual = scaled - means / UNIT
        symbols = choice(residual, index)
        bits = self.density.bits(symbols, index)
        if self.training:  # what latents and means learn from: under noise all of them count, zeros too
            smooth = self.density.bits(noisy(residual), index.detach())
            bits = bits + smooth - smooth.detach()
        return bits, residual + (symbols - residual).detach() + means / UNIT

    def expected(self, scaled: Tensor, level: Tensor, choice: Choice) -> tuple[Tensor, Tensor]:
        """Means in sixteenths and indices of scales for latents in bins, each (N, latents, h, w)."""
        height, width = scaled.shape[2:]
        rows, columns = (torch.arange(n, device=scaled.device) % 2 for n in (height, width))
        plane = level[:, None, None, None].expand(-1, 1, height, width)
        known, means, indices = scaled[:, :0], [], []
        for group, context in zip(self.groups, self.each, strict=True):
            own = torch.zeros_like(scaled[:, group])
            mean = index = own
            mask = torch.zeros_like(plane)
            for phase in OTHERS if group.start else FIRST:
                now = torch.zeros(height, width, dtype=torch.bool, device=scaled.device)
                for row, column in phase:
                    now |= (rows[:, None] == row) & (columns == column)
                told = context(torch.cat([plane, mask, known, own], 1)).chunk(2, 1)
                mean, index = (torch.where(now, new, old) for new, old in zip(told, (mean, index), strict=True))
                with torch.no_grad():
                    symbols = choice(scaled[:, group] - mean / UNIT, index)
                    own = torch.where(now, symbols + (mean / UNIT).round(), own)
                    mask = torch.where(now, 1.0, mask)
            known = torch.cat([known, own], 1)
            means.append(mean)
            indices.append(index)
        return torch.cat(means, 1), torch.cat(indices, 1)

    def parts(self) -> dict[str, nn.Module]:
        """The contexts, by the names that they have in the zoo."""
        return {f"context{at}": context for at, context in enumerate(self.each)}

    def tables(self) -> Iterator[Masses]:
        """Probabilities of the symbols of every scale."""
        return self.density.tables()
