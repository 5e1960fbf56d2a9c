"""Which model, and which quantiser step, for a picture that may take so many bytes.

Every candidate tries the same number of bytes, and the one whose decoded picture is nearest is taken. The codec alone
is one of them where the quantiser is so fine that networks may not pay. Of a large picture a central part decides, and
the whole is written two or three times only.
"""

import math
from collections.abc import Iterator
from itertools import count
from typing import NamedTuple

import numpy as np

from corec.codecs.base import codec_named
from corec.errors import CodecError, ModelError, RateError
from corec.models import PLAIN, Model, model_named, models, plain
from corec.picture import Picture
from corec.rate import TRIES, best_within, next_step
from corec.wrap import Progress, read, write

SAMPLE = 1024
"""Pictures of more pixels than this squared choose their model by a central part of that many pixels."""
CLOSE = 0.97
"""Share of the bytes that a large picture must use: below, it is written once more."""
FINE = 2.0
"""The codec alone is tried where the best model's step is below so many times the finest that it was trained for."""


class Choice(NamedTuple):
    """A file, and the model and the step that wrote it."""

    data: bytes
    model: Model
    step: float


def choose(candidates: list[Model], picture: Picture, size: int, start: float | None, report: Progress) -> Choice:
    """The best file of at most `size` bytes. start: a first guess of the step; report is told the share done.

    Raises RateError, with the smallest size, if none of the candidates can be so small.
    """
    sample = sample_of(picture)
    if sample is picture:
        return best_of(candidates, picture, size, start, report)
    share = sample.pixels.size / picture.pixels.size
    order, step = candidates, start
    if len(candidates) > 1:
        try:
            guess = best_of(candidates, sample, max(1, int(size * share)), start, lambda done: report(done / 3))
            order, step = sorted(candidates, key=lambda m: m != guess.model), guess.step
        except RateError:
            pass  # the sample is dearer than the whole, which may still fit
    failures: list[RateError] = []
    for model in order:
        try:
            return fitted(model, picture, sample, size, step, lambda done: report((1 + 2 * done) / 3))
        except RateError as error:
            failures.append(error)
    raise min(failures, key=lambda error: error.smallest or math.inf)


def fitted(model: Model, picture: Picture, sample: Picture, size: int, start: float | None, report: Progress) -> Choice:
    """A file of at most `size` bytes of a picture that takes long to write, with few tries.

    The first file tells how many more bytes the picture needs than the sample, which tells the next step; from
    two files, one too large, the third is interpolated.
    """
    finest, coarsest = range_of(model)
    step = min(coarsest, max(finest, start or math.sqrt(finest * coarsest)))
    good: tuple[float, bytes] | None = None
    bad: tuple[float, bytes] | None = None
    for attempt in range(TRIES):
        data = write(picture, model, step)
        report((attempt + 1) / (attempt + 2))
        if len(data) <= size:
            good = (step, data) if good is None or len(data) > len(good[1]) else good
            if len(data) >= CLOSE * size or step <= finest or attempt >= 3:
                break
        elif step >= coarsest:
            raise RateError.too_small(size, len(data))
        else:
            bad = (step, data)
        aim = (1 + CLOSE) / 2 * size
        if good and bad:
            step = next_step(step, len(data), aim, good, bad, finest, coarsest)
            continue
        aim *= len(write(sample, model, step)) / len(data)
        try:
            step = best_within(lambda s: write(sample, model, s), int(aim), finest, coarsest, step, 0.995)[0]
        except RateError:
            step = coarsest
    if good is None:
        good = (coarsest, write(picture, model, coarsest))
        if len(good[1]) > size:
            raise RateError.too_small(size, len(good[1]))
    return Choice(good[1], model, good[0])


def range_of(model: Model) -> tuple[float, float]:
    """The steps that a model may be used with: somewhat finer than it was trained, and as coarse as the format goes."""
    finest, coarsest = codec_named(model.codec).STEPS
    return max(finest, model.steps[0] / 2), coarsest


def best_of(candidates: list[Model], picture: Picture, size: int, start: float | None, report: Progress) -> Choice:
    """The candidate whose file of at most `size` bytes decodes to the highest PSNR.

    A single candidate is not decoded. Raises RateError with the smallest size when none fits.
    """
    results: list[tuple[float, Choice]] = []
    failures: list[RateError] = []
    for index, model in enumerate(candidates):
        if model.is_plain and any(choice.step > FINE * choice.model.steps[0] for _, choice in results):
            continue
        tries = count(1)

        def tried(step: float, model: Model = model, index: int = index, tries: Iterator[int] = tries) -> bytes:
            data = write(picture, model, step)
            report((index + next(tries) / (TRIES + 1)) / len(candidates))
            return data

        try:
            step, data = best_within(tried, size, *range_of(model), start)
        except RateError as error:
            failures.append(error)
            continue
        single = len(candidates) == 1
        results.append((0.0 if single else likeness(picture, read(data)), Choice(data, model, step)))
        report((index + 1) / len(candidates))
    if not results:
        raise min(failures, key=lambda error: error.smallest or math.inf)
    return max(results, key=lambda pair: pair[0])[1]


def sample_of(picture: Picture) -> Picture:
    """A central part of a picture above SAMPLE squared pixels, by which its model is chosen."""
    if picture.width * picture.height <= SAMPLE**2:
        return picture
    height = min(picture.height, max(SAMPLE, SAMPLE**2 // picture.width))
    width = min(picture.width, SAMPLE**2 // height)
    top, left = (picture.height - height) // 2, (picture.width - width) // 2
    return Picture(np.ascontiguousarray(picture.pixels[top : top + height, left : left + width]))


def candidates_for(picture: Picture, codec: str, name: str | None) -> list[Model]:
    """The models to try, those of full resolution first, the codec alone last."""
    container = codec_named(codec)
    codec, alone = container.NAME, plain(container.NAME, not picture.gray, container.STEPS)
    if name == PLAIN:
        rows = [alone]
    elif name is not None:
        model = model_named(name)
        if model.codec != codec:
            raise ModelError(f"model {name} is for {model.codec}, not {codec}")
        if model.color == picture.gray:
            kind, needs = ("gray", "a colour model") if picture.gray else ("colour", "a gray model")
            raise ModelError(f"the picture is {kind}, and {name} is {needs}")
        if model.restores:
            raise ModelError(f"model {name} is for restore: it compresses nothing")
        rows = [model]
    else:
        fitting = [m for m in models() if m.default and m.codec == codec and m.color != picture.gray]
        rows = [*(m for m in fitting if not m.restores), alone]
    held = [m for m in rows if max(picture.width, picture.height) <= container.LARGEST * m.scale]
    if not held:
        at_most = container.LARGEST * max(m.scale for m in rows)
        raise CodecError(f"{codec} holds at most {at_most} pixels a side, not {picture.width}x{picture.height}")
    return sorted(held, key=lambda m: (m.is_plain, m.scale))


def likeness(picture: Picture, other: Picture) -> float:
    """Minus the mean squared error, in strips so that large pictures need little memory."""
    total = 0.0
    for top in range(0, picture.height, 256):
        a, b = (p.pixels[top : top + 256].astype(np.float32) for p in (picture, other))
        total += float(np.square(a - b).sum(dtype=np.float64))
    return -total / picture.pixels.size
