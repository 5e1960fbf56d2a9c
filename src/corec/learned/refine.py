"""Latents whose symbols suit one picture: round by round some of them are moved by a whole bin.

    round:   latents -> symbols -> received -> synthesis -> error, and its slope at every latent
    moved:   to the bin above or below, where   slope + curvature + bits that the other symbol costs   is less than 0

all in bits: a squared error counts as many as it is worth at the level. The analysis is what is best for pictures on
average, and rounds each latent by itself; here every one is looked at through the decoder's own network. Curvatures,
one for each array, are measured once, by shaking all latents. Moves that are good one by one may be bad together: where
a round made things worse it is undone, place by place, and if it did on the whole, those after it are more careful.

Related: Campos et al. 2019 (arXiv 1906.01223) and Yang et al. 2020 (arXiv 2006.04240) adapt latents by hundreds of
steps down a slope before they are rounded.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from corec.view import Seen, better
from corec.wrap import Progress

SHARES = (0.8, 0.7, 0.6, 0.5)
"""Of the moves that pay, drawn at random: how many are made in each round; the last holds for all further ones."""
SHAKEN = 0.25
"""Bins by which latents are moved to measure curvatures."""
FLATTEST = 0.4
"""Least curvature, in what it would be if the synthesis changed no distances."""
CAREFUL, BOLD = 1.3, 0.9
"""By what curvatures are multiplied after a round that made things worse, and better."""
PRICE = 1.2
"""Of a bit. Moves change how likely later symbols are, too: with less than 1.1 files grow."""

Coded = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Symbols int32, the numbers of their tables, and means, each (N, h, w)."""
Bits = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Symbols and the numbers of their tables -> bits of each, all of one shape."""


class Tried(NamedTuple):
    """Latents, and what became of them."""

    wanted: np.ndarray
    symbols: np.ndarray
    numbers: np.ndarray
    means: np.ndarray
    slope: np.ndarray
    costs: np.ndarray
    """(h, w), of each place: its latents' bits, and the error in its pixels."""

    @property
    def received(self) -> np.ndarray:
        """What the synthesis gets, in bins."""
        return self.symbols + self.means

    def where(self, good: np.ndarray, other: "Tried") -> "Tried":
        """This at good places (h, w), and about another elsewhere: neighbours know of each other."""
        return Tried(*(np.where(good, *pair) for pair in zip(self, other, strict=True)))


def refined(
    wanted: np.ndarray,
    gain: np.ndarray,
    worth: float,
    view: Callable[[np.ndarray, bool], Seen],
    code: Callable[[np.ndarray], Coded],
    bits: Bits,
    rounds: int,
    progress: Progress = lambda share: None,
) -> np.ndarray:
    """Latents in bins (N, h, w) of which a better file is made, after so many rounds.

    gain: of each array (N,), what latents are multiplied by to be in bins; worth: bits of a squared error of 1, of
    pixels in 0..1. view: of latents (h, w, N) that are not in bins, with the slope if it is wanted; code: latents
    in bins -> their symbols, and by which tables and around which means these are coded; bits: those of symbols in
    tables of these numbers.
    """
    random = np.random.default_rng(0)
    gain = gain[:, None, None]

    def see(received: np.ndarray, sloped: bool = True) -> tuple[np.ndarray, np.ndarray]:
        seen = view((received / gain).transpose(1, 2, 0), sloped)
        return worth * seen.errors, seen.slope.transpose(2, 0, 1) * (worth / gain)

    def tried(wanted: np.ndarray, sloped: bool = True) -> Tried:
        symbols, numbers, means = code(wanted)
        errors, slope = see(symbols + means, sloped)
        return Tried(wanted, symbols, numbers, means, slope, errors + bits(symbols, numbers).sum(0))

    best = tried(wanted)
    shake = np.where(random.random(wanted.shape) < 0.5, np.float32(-SHAKEN), np.float32(SHAKEN))
    rise = see(best.received + shake)[1] - best.slope
    curvature = np.maximum((rise * shake).mean((1, 2), keepdims=True) / (2 * SHAKEN**2), FLATTEST * worth / gain**2)
    for turn in range(rounds):
        share = SHARES[min(turn, len(SHARES) - 1)]
        progress((turn + 1) / (rounds + 1))
        move = moves(best, curvature, bits)
        move[random.random(wanted.shape) >= share] = 0
        new = tried(np.where(move, best.received + move, best.wanted), turn < rounds - 1)
        change = new.costs - best.costs
        best = new.where(better(change), best)
        curvature *= BOLD if change.sum() < 0 else CAREFUL
    return best.wanted


def moves(tried: Tried, curvature: np.ndarray, bits: Bits) -> np.ndarray:
    """Where a latent should go: -1, 0 or 1, int8 (N, h, w)."""
    own = bits(tried.symbols, tried.numbers)
    found, least = np.zeros(own.shape, np.int8), np.zeros(own.shape)
    for step in (-1, 1):
        by_error = step * tried.slope + curvature
        more = by_error + PRICE * (bits(tried.symbols + np.int32(step), tried.numbers) - own)
        found[more < least] = step
        least = np.minimum(least, more)
    return found
