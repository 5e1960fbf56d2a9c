"""How well and how quickly Corec chooses the model of a file, and from where on each model pays.

    python benchmarks/choice.py report FOLDER [--codec NAME] [--model METHOD] [--gray]
    python benchmarks/choice.py fit FOLDER [--codec NAME] [--model METHOD] [--gray] [--write]

report: the choice beside trying all candidates at the same bytes, over the pictures in and below a folder: how often it
is the better one, the PSNR that is lost, files written, and seconds. fit: the numbers `pays` of the models (see
corec.models.Model) that lose least over a folder; --write puts them into the manifest of the zoo. To be run again
whenever a model was trained anew. Without --gray gray pictures are left out.
"""

import argparse
import math
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from corec.choice import BORDER, DRAWN, Search, Writer, candidates_for, range_of
from corec.errors import RateError
from corec.evaluation.bench import pictures_below
from corec.evaluation.metrics import psnr
from corec.forecast import Forecast, Spectrum
from corec.models import ZOO, Model, models
from corec.picture import Picture, read_picture
from corec.pipeline import compress_picture
from corec.rate import FULL
from corec.training.manifest import MANIFEST, manifest_of, written
from corec.wrap import read, write

RATES = 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0
MORE = 0.03, 0.045, 0.07, *RATES, 1.4, 2.0
"""Bits per pixel for fitting: from where a third of the size is best to where the codec alone is; a file of few pixels
has no such small ones."""
BEST = 50.0
"""PSNR in dB from which on pictures count as equally good."""
SPAN, POINTS = (2.5, 250.0), 12
"""Steps, where a model takes them, between which files of each picture are written for a fit, and how many."""


def main() -> None:
    parser = argparse.ArgumentParser(description="The choice among models.")
    parser.add_argument("work", choices=["report", "fit"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--codec", default="jpeg")
    parser.add_argument("--model", help="a method's name; by default the models that are tried by default")
    parser.add_argument("--gray", action="store_true", help="luma alone")
    parser.add_argument("--side", type=int, default=256, help="of the middle of each picture that is taken")
    parser.add_argument("--pictures", type=int, default=40, help="at most so many, spread over the folder")
    parser.add_argument("--write", action="store_true", help="put the fit into the manifest")
    options = parser.parse_args()
    if not (pictures := pictures_of(options)):
        raise SystemExit("no photograph of this kind is left in the folder")
    candidates = candidates_for(pictures[0], options.codec, options.model)
    print(f"{len(pictures)} pictures; {', '.join(model.name for model in candidates)}")
    if options.work == "report":
        report(pictures, candidates, options)
        return
    found = fit(pictures, candidates)
    if options.write:
        enter(found)


def pictures_of(options: argparse.Namespace) -> list[Picture]:
    """The middles of pictures spread over the folder, gray ones or those in colour; not drawn ones, of which every
    candidate is tried."""
    names = pictures_below(options.folder)
    held = []
    for at in np.linspace(0, len(names) - 1, min(options.pictures, len(names))):
        picture = read_picture(options.folder / names[round(at)])
        if picture.gray and not options.gray:
            continue
        pixels = (picture.luma() if options.gray else picture).pixels
        top, left = (max(0, extent - options.side) // 2 for extent in pixels.shape[:2])
        middle = Picture(np.ascontiguousarray(pixels[top : top + options.side, left : left + options.side]))
        if Spectrum(middle).flat < DRAWN:
            held.append(middle)
    return held


def report(pictures: list[Picture], candidates: list[Model], options: argparse.Namespace) -> None:
    """A table: the choice beside trying all, for each rate."""
    print("| bpp | right | lost, dB | at most | files | seconds | trying all: files | seconds | chosen |")
    print("|--:|--:|--:|--:|--:|--:|--:|--:|---|")
    rows = []
    for rate in RATES:
        for picture in pictures:
            size = int(rate * picture.width * picture.height / 8)
            began = time.perf_counter()
            try:
                made = compress_picture(picture, codec=options.codec, model=options.model, size=size, effort=0)
            except RateError:
                continue
            between = time.perf_counter()
            writer = Writer(lambda share: None)
            best = Search(picture, size, writer, FULL).best_of(candidates)
            seconds = between - began, time.perf_counter() - between
            lost = quality(picture, best.data) - quality(picture, made.data)
            right = made.model == best.model.name
            rows.append((rate, right, 0.0 if right else lost, made.runs, writer.runs, *seconds, made.model))
        show(f"{rate:g}", [row for row in rows if row[0] == rate])
    show("all", rows)


def show(label: str, rows: list[tuple[Any, ...]]) -> None:
    """One line of the table."""
    if not rows:
        return
    _, right, lost, runs, all_runs, seconds, all_seconds, _ = (np.array(column) for column in zip(*rows, strict=True))
    chosen = ", ".join(f"{count} {name}" for name, count in sorted(Counter(row[-1] for row in rows).items()))
    print(
        f"| {label} | {100 * right.mean():.1f} % | {lost.mean():.3f} | {lost.max():.2f} | {runs.mean():.1f} "
        f"| {seconds.mean():.2f} | {all_runs.mean():.1f} | {all_seconds.mean():.2f} | {chosen} |",
        flush=True,
    )


def quality(picture: Picture, data: bytes) -> float:
    """PSNR in dB of a file's picture, BEST at most."""
    return min(BEST, psnr(picture.pixels, read(data).pixels))


def fit(pictures: list[Picture], candidates: list[Model]) -> dict[str, float]:
    """Name -> pays, for every candidate that has another of finer resolution or the codec alone beside it."""
    order = sorted(candidates, key=lambda m: (m.is_plain, -m.scale))
    scores, reached, factors = [], [], []
    for picture in pictures:
        sizes = [rate * picture.width * picture.height / 8 for rate in MORE]
        spectrum = Spectrum(picture)
        foretold = spectrum.forecast(1)
        units = [spectrum.lost(model.scale) if model.scale > 1 else 1.0 for model in order]
        scores += [[math.log(foretold.step(size) / unit) for unit in units] for size in sizes]
        curves = [curve(picture, model, sizes, spectrum.forecast(model.scale)) for model in order]
        reached += np.stack([db for db, _ in curves], 1).tolist()
        factors.append([factor for _, factor in curves])
    score, db = np.array(scores), np.array(reached)
    fits = np.isfinite(db.max(1))  # at least one of them has so few bytes
    score, db = score[fits], db[fits]
    found = {}
    for model, factor in zip(order, np.exp(np.nanmean(factors, 0)), strict=True):
        print(f"{model.name}: {factor:.2f} times the bytes foretold")
    print("| model | pays, now | fitted | right | lost, dB | at most |\n|---|--:|--:|--:|--:|--:|")
    for at, model in enumerate(order[:-1]):
        rest = db[:, at + 1 :].max(1)
        found[model.name] = math.exp(border(score[:, at], db[:, at], rest))
        lost = lost_by(np.where(score[:, at] > math.log(found[model.name]), db[:, at], rest), db[:, at:])
        now = "" if model.pays is None else f"{model.pays:.3g}"
        print(
            f"| {model.name} | {now} | {found[model.name]:.3g} | {100 * (lost == 0).mean():.1f} % "
            f"| {lost.mean():.3f} | {lost.max():.2f} |"
        )
    margins = score - np.log([*found.values(), 1.0])
    margins[:, -1] = math.inf
    passed = np.cumsum(margins > BORDER, 1) - (margins > BORDER) > 0  # something of lower resolution is surely better
    tried = (margins > -BORDER) & ~passed
    lost = lost_by(np.where(tried, db, -math.inf).max(1), db)
    print(f"\nWith what is near a border tried, {100 * (tried.sum(1) > 1).mean():.0f} % of the time:", end=" ")
    print(f"right {100 * (lost == 0).mean():.1f} %, lost {lost.mean():.3f} dB, at most {lost.max():.2f}")
    return found


def curve(picture: Picture, model: Model, sizes: list[float], forecast: Forecast) -> tuple[np.ndarray, float]:
    """PSNR in dB of a model's files of some sizes, interpolated over log bytes, and minus infinity below the smallest;
    and the log of how many times as many bytes as foretold they have, from the first size to the last (or nan)."""
    finest, coarsest = range_of(model)
    steps = np.geomspace(min(coarsest, SPAN[1]), max(finest, SPAN[0]), POINTS)
    files = [write(picture, model, step) for step in steps.tolist()]
    lengths = np.maximum.accumulate([len(data) for data in files])
    db = np.interp(np.log(sizes), np.log(lengths), [quality(picture, data) for data in files], left=-math.inf)
    ratios = [math.log(length / forecast.size(step)) for length, step in zip(lengths, steps, strict=True)]
    counted = [r for r, length in zip(ratios, lengths, strict=True) if sizes[0] < length < sizes[-1]]
    return db, float(np.mean(counted)) if counted else math.nan


def lost_by(taken: np.ndarray, offered: np.ndarray) -> np.ndarray:
    """PSNR lost (n,) by what is taken (n,) of what is offered (n, models); where it does not fit, another is found."""
    fits = np.isfinite(taken)
    return np.where(fits, offered.max(1) - np.where(fits, taken, 0.0), 0.0)


def border(score: np.ndarray, over: np.ndarray, under: np.ndarray) -> float:
    """The score above which taking `over`, and below which taking `under`, loses least."""
    sorted_scores = np.sort(score)
    between = (sorted_scores[1:] + sorted_scores[:-1]) / 2
    offered = np.stack([over, under], 1)
    losses = [lost_by(np.where(score > at, over, under), offered).mean() for at in between]
    return float(between[int(np.argmin(losses))])


def enter(found: dict[str, float]) -> None:
    """Put the fit into the manifest."""
    manifest = manifest_of(ZOO)
    rows = {row["number"]: row for row in manifest["model"]}
    for model in models():
        row, pays = rows[model.number], round(found.get(model.name, model.pays or 0.0), 3)
        known = row.get("scales_pay", [])
        if not model.resized and pays:
            row["pays"] = pays
        elif pays and (at := row["scales"].index(model.resized)) <= len(known):
            row["scales_pay"] = [*known[:at], pays, *known[at + 1 :]]
    (ZOO / MANIFEST).write_text(written(manifest), encoding="utf-8")


if __name__ == "__main__":
    main()
