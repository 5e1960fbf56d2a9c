"""Which model, and which quantiser step, for a picture that may take so many bytes.

A model's row says from which step on its networks are worth their while (Model.pays), and a forecast of the picture
about which step it will need. So one candidate is written as a rule, and at fine steps two. Where a border is near, or
a row does not say, the candidates on both sides are tried at the same bytes, and the one whose decoded picture is
nearest is taken; of drawn pictures (screenshots, diagrams), of which a forecast tells little, all are tried. Of a large
picture a central part is written first, so that the whole is written two or three times only.
"""

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np

from corec.codecs.base import Codec
from corec.codecs.registry import codec_named
from corec.errors import ModelError, RateError, TooLargeError
from corec.forecast import Spectrum
from corec.models import PLAIN, Model, models, plain, rows_named
from corec.picture import Picture
from corec.rate import FULL, HASTY, Care, best_within
from corec.suit import suited
from corec.wrap import Progress, compact_side, compacted, fills, read, write, write_within

SAMPLE = 1024
"""Of pictures of more pixels than this squared a central part of that many pixels is looked at."""
BORDER = 0.4
"""Natural logarithm of a ratio of steps: so near to where a model begins to pay its neighbours are tried too."""
HEADERS = 150
"""Bytes up to which headers, of which a forecast knows nothing, may be most of a file: every candidate is tried."""
DRAWN = 0.4
"""Spectrum.flat from which on a picture is drawn: photographs have 0.3 at most, diagrams and screenshots 0.5 to 0.9."""
FINE = 2.0
"""Where a row does not say what it pays, the codec alone is tried below so many times the finest trained step."""
ENLARGED = 50_000_000
"""Pixels of a picture up to which it is enlarged without being asked for: that takes 16/9 of the memory."""
BYTES = {"avif": 0.8, "bpg": 0.6, "heic": 0.7, "jpeg": 1.25, "jpeg2000": 0.8, "jxl": 1.1, "webp": 0.85}
"""How many times as many bytes as foretold a codec writes as a rule; each search begins so much nearer to its end."""
PROMISED = {1: 10**-0.035, 2: 10**-0.018}
"""By what a squared error is multiplied, on average, where files by networks of full and of half size are suited to
their picture: 0.35 and 0.18 dB."""
CLOSE = 10**0.01
"""Ratio of squared errors so foretold, a tenth of a decibel, up to which more than one file is suited."""
ALIKE = 0.1
"""Natural logarithm of a ratio of steps: so near to each other, one compact image serves as well as the other."""
USUAL = 4
"""Files after which three quarters of the work are said to be done."""


@dataclass(frozen=True)
class Choice:
    """A file, and the model and the step that wrote it."""

    data: bytes
    model: Model
    step: float


@dataclass(frozen=True)
class Compact:
    """A compact image, and what it was made of."""

    picture: Picture
    model: Model
    step: float
    image: np.ndarray

    def serves(self, picture: Picture, model: Model, step: float) -> bool:
        """Whether it is that of a step, or as good as that."""
        return self.picture is picture and self.model == model and abs(math.log(step / self.step)) <= ALIKE


@dataclass
class Writer:
    """Writes files, counts them, and tells the share done, ever closer to 1 as the number needed is not known."""

    report: Progress
    rounds: int = 0
    """In which files are suited to their picture: see corec.suit."""
    runs: int = 0
    compact: Compact | None = None
    """The last one."""

    def write(self, picture: Picture, model: Model, step: float) -> bytes:
        """wrap.write()"""
        return self.counted(write(picture, model, step, self.compacted(picture, model, step)))

    def write_within(self, picture: Picture, model: Model, step: float, size: int) -> bytes:
        """wrap.write_within()"""
        return self.counted(write_within(picture, model, step, size, self.compacted(picture, model, step)))

    def compacted(self, picture: Picture, model: Model, step: float) -> np.ndarray:
        """wrap.compacted(); near the end of a search, where steps hardly differ, that of an earlier step."""
        if self.compact is None or not self.compact.serves(picture, model, step):
            self.compact = None  # two would need twice the memory
            self.compact = Compact(picture, model, step, compacted(picture, model, step))
        return self.compact.image

    def suited(self, choice: Choice, picture: Picture, size: int) -> Choice:
        """A choice's file suited to the picture, where there is a way to."""
        if not self.rounds or not choice.model.slope:
            return choice
        data = suited(choice.data, picture, choice.model, choice.step, size, self.rounds, self.counted)
        if choice.model.resized:  # what was suited is the picture resized
            errors = [squared_error(picture, read(file)) for file in (choice.data, data)]
            data = data if errors[1] < errors[0] else choice.data
        return replace(choice, data=data)

    def counted(self, data: bytes) -> bytes:
        self.runs += 1
        self.report(1 - 0.25 ** (self.runs / USUAL))
        return data


class Search:
    """Files of a picture of at most so many bytes."""

    def __init__(self, picture: Picture, size: int, writer: Writer, care: Care, whole: bool = True) -> None:
        """whole: whether it is for the file itself, not for a part that tells what to do with the whole picture."""
        self.picture, self.size, self.writer, self.care, self.whole = picture, size, writer, care, whole
        self.spectrum = Spectrum(picture)
        self.known: Choice | None = None
        """One that need not be looked for."""
        self.factors: dict[str, float] = {}
        """Model's name -> how many times as many bytes as foretold its files have, where that is known."""

    def likely(self, candidates: list[Model]) -> list[Model]:
        """Those that may be the best, the lowest resolution first: one, unless a border is near or not known.

        Where the codec alone may be, networks of full size are tried too: halved chroma costs it more than any step.
        """
        step = self.spectrum.forecast(1).step(self.size)
        order = sorted(candidates, key=lambda m: (m.is_plain, -m.scale))
        if self.size <= HEADERS or self.spectrum.flat >= DRAWN:
            return order
        found = []
        for model, *finer in (order[at:] for at in range(len(order))):
            unit = self.spectrum.lost(model.scale) if model.scale > 1 else 1.0
            if not finer:
                beyond = math.inf
            elif model.pays is not None:
                beyond = math.log(step / (model.pays * unit))
            else:
                own = self.spectrum.forecast(model.scale).step(self.size)
                beyond = math.inf if finer[0].is_plain and own > FINE * model.steps[0] else 0.0
            if beyond > -BORDER or model.scale == 1:
                found.append(model)
            if beyond > BORDER:
                break
        return found

    def best_of(self, group: list[Model], others: Sequence[Model] = ()) -> Choice:
        """The one of a group whose file decodes to the highest PSNR; a single one is not decoded. Of the whole picture
        it is suited to it, and so are those that come close.

        Where that has come to its finest step, those of the others that have a finer resolution are tried as well.
        Raises RateError with the smallest size when none fits.
        """
        found: list[Choice] = []
        failures: list[RateError] = []
        for model in group:
            bare = [choice for choice in found if choice.model.is_bare and not is_finest(choice)]
            try:
                if model.is_plain and bare:  # that file holds what this one will
                    data = self.writer.write(self.picture, model, bare[0].step)
                    found.append(Choice(data, model, bare[0].step))
                else:
                    found.append(self.largest(model))
            except RateError as error:
                failures.append(error)
        if not found:
            raise smallest(failures)
        suits = self.whole and self.writer.rounds and any(choice.model.slope for choice in found)
        close = self.nearest(found, CLOSE if suits else 1.0, foretold=True)
        if suits:
            close = [self.writer.suited(choice, self.picture, self.size) for choice in close]
        best = self.nearest(close, 1.0)[0]
        finer = [model for model in others if model.scale < best.model.scale and model not in group]
        if finer and is_finest(best):
            with suppress(RateError):  # where nothing finer is so small
                best = self.nearest([best, self.best_of(finer)], 1.0)[0]
        return best

    def nearest(self, found: list[Choice], ratio: float, foretold: bool = False) -> list[Choice]:
        """The choice nearest to the picture, and those whose squared error is at most so many times as large; foretold:
        as it will be once they are suited."""
        if len(found) == 1:
            return found
        errors = [squared_error(self.picture, read(choice.data)) for choice in found]
        if foretold and self.writer.rounds:
            promised = [PROMISED[choice.model.ratio] if choice.model.slope else 1.0 for choice in found]
            errors = [error * less for error, less in zip(errors, promised, strict=True)]
        return [choice for choice, own in zip(found, errors, strict=True) if own <= ratio * min(errors)]

    def largest(self, model: Model) -> Choice:
        """The largest file of a model. Raises RateError, with the smallest size, if none is small enough."""
        if self.known and self.known.model == model:
            return self.known
        factor = self.factors.get(model.name, BYTES.get(model.codec, 1.0))
        forecast = self.spectrum.forecast(model.scale).times(factor)
        finest, coarsest = range_of(model)

        def write_at(step: float) -> bytes:
            return self.writer.write(self.picture, model, step)

        if not (fills(model) and self.care is FULL):
            settle = codec_named(model.codec).settle
            step, data = best_within(write_at, self.size, forecast, finest, coarsest, settle, self.care)
            return Choice(data, model, step)
        # One file tells how far the forecast is off, and the networks need to know the step only about.
        step = min(coarsest, max(finest, forecast.step(self.size)))
        step = forecast.times(len(write_at(step)) / forecast.size(step)).step(self.size)
        step = min(coarsest, max(finest, step))
        return Choice(self.writer.write_within(self.picture, model, step, self.size), model, step)


def choose(candidates: list[Model], picture: Picture, size: int, writer: Writer, known: Choice | None = None) -> Choice:
    """The best file of at most `size` bytes. known: a candidate's file that need not be written again.

    Raises RateError, with the smallest size, if none of the candidates can be so small.
    """
    sample = sample_of(picture)
    search = Search(picture, size, writer, FULL if sample is picture else HASTY)
    search.known = known
    order = search.likely(candidates)
    groups = [order]
    if sample is not picture:
        share = sample.pixels.size / picture.pixels.size
        part = Search(sample, max(1, int(size * share)), writer, FULL if order[1:] else HASTY, whole=False)
        try:
            trial = part.best_of(order, candidates)
        except RateError:  # the sample is dearer than the whole, which may still fit
            groups = [[model] for model in order]
        else:
            groups = [[trial.model]]
            foretold = part.spectrum.forecast(trial.model.scale).size(trial.step)
            search.factors[trial.model.name] = len(trial.data) / foretold
    groups += [[model] for model in candidates if [model] not in groups and model not in groups[0]]
    failures = []
    for group in groups:
        try:
            return search.best_of(group, candidates if sample is picture else ())
        except RateError as error:
            failures.append(error)
    raise smallest(failures)


def smallest(failures: list[RateError]) -> RateError:
    """That of several failures which knows of the smallest file."""
    return min(failures, key=lambda error: error.smallest or math.inf)


def range_of(model: Model) -> tuple[float, float]:
    """The steps that a model may be used with: somewhat finer than it was trained, and as coarse as the format goes."""
    finest, coarsest = codec_named(model.codec).STEPS
    return max(finest, model.steps[0] / 2), coarsest


def is_finest(choice: Choice) -> bool:
    """Whether a choice's step is the finest that its model may be used with."""
    finest, _ = range_of(choice.model)
    return choice.step <= codec_named(choice.model.codec).settle(finest)


def sample_of(picture: Picture) -> Picture:
    """A central part of a picture above SAMPLE squared pixels, by which its model is chosen."""
    if picture.width * picture.height <= SAMPLE**2:
        return picture
    height = min(picture.height, max(SAMPLE, SAMPLE**2 // picture.width))
    width = min(picture.width, SAMPLE**2 // height)
    top, left = (picture.height - height) // 2, (picture.width - width) // 2
    return Picture(np.ascontiguousarray(picture.pixels[top : top + height, left : left + width]))


def candidates_for(picture: Picture, codec: str, name: str | None) -> list[Model]:
    """The models to try, those of full resolution first, the codec alone last.

    name: a model, the models of a method, plain, or None: all that are tried by default. Raises ModelError where none
    fits, and CodecError for an unknown codec or a picture too large for it.
    """
    container = codec_named(codec)
    codec, alone = container.NAME, plain(container.NAME, not picture.gray, container.STEPS)
    if name == PLAIN:
        rows = [alone]
    elif name is None:
        rows = [m for m in models() if m.default and m.codec == codec and m.color != picture.gray and not m.restores]
        if picture.width * picture.height > ENLARGED:
            rows = [m for m in rows if not 0 < m.resized < m.ratio]
        rows.append(alone)
    else:
        rows = fitting(name, picture, codec)
    held = [m for m in rows if holds(container, picture, m.scale)]
    if not held:
        scale = max(m.scale for m in rows)
        at_most = f"{container.LARGEST * scale:.0f} pixels a side and {container.PIXELS * scale**2:.0f} in all"
        raise TooLargeError(f"{codec} holds at most {at_most}, not {picture.width}x{picture.height}")
    return sorted(held, key=lambda m: (m.is_plain, m.scale))


def holds(codec: Codec, picture: Picture, scale: float) -> bool:
    """Whether a file can hold a picture at 1 / scale of its size."""
    width, height = (compact_side(extent, scale) for extent in (picture.width, picture.height))
    return max(width, height) <= codec.LARGEST and width * height <= codec.PIXELS


def fitting(name: str, picture: Picture, codec: str) -> list[Model]:
    """The models that a name stands for, as far as they are for a codec and a picture. Raises ModelError if none is."""
    named = rows_named(name)
    one = named[0].name == name
    rows = [row for row in named if row.codec == codec]
    if not rows:
        known = ", ".join(dict.fromkeys(row.codec for row in named))
        raise ModelError(f"{f'model {name} is' if one else f'the models of {name} are'} for {known}, not {codec}")
    rows = [row for row in rows if row.color != picture.gray]
    if not rows:
        kind, needs = ("gray", "colour") if picture.gray else ("colour", "gray")
        raise ModelError(f"the picture is {kind}, and {name} {f'is a {needs} model' if one else f'has {needs} models'}")
    rows = [row for row in rows if not row.restores]
    if not rows:
        raise ModelError(f"{'model ' * one}{name} is for restore: it compresses nothing")
    return rows


def squared_error(picture: Picture, other: Picture) -> float:
    """The mean squared error, in strips so that large pictures need little memory."""
    total = 0.0
    for top in range(0, picture.height, 256):
        a, b = (p.pixels[top : top + 256].astype(np.float32) for p in (picture, other))
        total += float(np.square(a - b).sum(dtype=np.float64))
    return total / picture.pixels.size
