"""What a codec's settings are worth, by bytes at equal PSNR: what docs/codecs.md was chosen by.

    python benchmarks/settings.py CODEC FOLDER [--set VARIANT]...

A variant is Python that changes constants of the codec's module, for example "EFFORT = 4". Every picture of the folder
is coded plain at the same steps, with the module as it is, which is the first row, and with each variant. Printed are
the bytes that a variant needs more (or less) for the PSNR that the first row has at some rates, and the mean over the
common range (BD-rate). PSNR is over RGB, or luma with --gray. Seconds are of processor time, for coding. Needs
corec[evaluate] and the codec's own extra.
"""

import argparse
import importlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from corec.evaluation.bench import pictures_below
from corec.evaluation.contenders import pixels_of, planes
from corec.evaluation.curves import difference
from corec.evaluation.metrics import psnr
from corec.picture import Picture, read_picture

STEPS = (8.0, 11.0, 16.0, 22.0, 32.0, 45.0, 64.0, 90.0, 120.0)
RATES = (0.1, 0.2, 0.4, 0.8)
"""Bits per pixel at which bytes are told."""

Curve = list[tuple[float, float]]
"""(bits per pixel, PSNR in dB) at each step."""


def main() -> None:
    parser = argparse.ArgumentParser(description="What a codec's settings are worth.")
    parser.add_argument("codec")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--set", dest="variants", metavar="VARIANT", action="append", default=[])
    parser.add_argument("--gray", action="store_true")
    parser.add_argument("--steps", type=float, nargs="+", default=STEPS)
    options = parser.parse_args()
    for variant in options.variants:  # a wrong one is told before the others take their time
        changed(options.codec, variant)
    pictures = [read_picture(options.folder / name) for name in pictures_below(options.folder)]
    if options.gray:
        pictures = [picture.luma() for picture in pictures]
    print(f"| {options.codec} | s a megapixel | BD-rate, % |" + "".join(f" {rate} bpp, % |" for rate in RATES))
    print("|---|--:|--:|" + "--:|" * len(RATES))
    bases: list[Curve] = []
    for variant in ("", *options.variants):
        seconds, curves = measured(changed(options.codec, variant), pictures, options.steps)
        bases = bases or curves
        differences = [difference(base, curve) for base, curve in zip(bases, curves, strict=True)]
        told = [float(np.mean([d.rate for d in differences if d] or [np.nan]))]
        told += [mean_at(bases, curves, rate) for rate in RATES]
        row = "".join(" - |" if np.isnan(figure) else f" {figure:+.1f} |" for figure in told)
        print(f"| {variant or 'as it is'} | {seconds:.2f} |{row}", flush=True)


def changed(name: str, variant: str) -> Any:
    """A codec's module as a variant has it. Exits where the variant fails or names something that is not there."""
    codec = importlib.reload(importlib.import_module(f"corec.codecs.{name}"))
    known = set(vars(codec))
    try:
        exec(variant, vars(codec))
    except Exception as error:
        sys.exit(f"--set {variant!r}: {type(error).__name__}: {error}")
    if new := vars(codec).keys() - known:
        sys.exit(f"--set {variant!r}: {name} has no {', '.join(sorted(new))}")
    return codec


def measured(codec: Any, pictures: Sequence[Picture], steps: Sequence[float]) -> tuple[float, list[Curve]]:
    """Processor seconds for coding a megapixel, and each picture's curve."""
    seconds, coded, curves = 0.0, 0, []
    for picture in pictures:
        image, curve = planes(picture), []
        for step in steps:
            began = time.process_time()
            data = codec.encode(image, step, ())
            seconds, coded = seconds + time.process_time() - began, coded + picture.width * picture.height
            shown = pixels_of(codec.decode(data)[0])
            curve.append((8 * len(data) / (picture.width * picture.height), psnr(picture.pixels, shown)))
        curves.append(curve)
    return seconds / coded * 1e6, curves


def mean_at(bases: Sequence[Curve], curves: Sequence[Curve], rate: float) -> float:
    """Percent of bytes that the curves need more for the PSNR that the bases have at a rate: the mean of those
    pictures whose curves reach there."""
    shares = []
    for base, curve in zip(bases, curves, strict=True):
        (rates, qualities), (others, reached) = (np.array(sorted(points)).T for points in (base, curve))
        if rates[0] <= rate <= rates[-1]:
            quality = np.interp(np.log(rate), np.log(rates), qualities)
            if reached[0] <= quality <= reached[-1]:
                shares.append(np.interp(quality, reached, np.log(others)) - np.log(rate))
    return 100 * float(np.expm1(np.mean(shares))) if shares else float("nan")


if __name__ == "__main__":
    main()
