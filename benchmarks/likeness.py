"""How much compact images look like the picture: their PSNR, before coding, to its antialiased reduction.

    python benchmarks/likeness.py FOLDER

For every joint model, over the pictures in and below a folder, at the ends and the middle of its range of steps.
At scale 1 the picture itself is the reference. Colour is measured over RGB.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from corec.color import rgb_from_ycbcr
from corec.evaluation.bench import pictures_below
from corec.evaluation.metrics import psnr
from corec.models import Model, models
from corec.picture import Picture, read_picture
from corec.wrap import compacted


def likeness(picture: Picture, model: Model, step: float) -> float:
    """PSNR (dB) between the compact image and the bicubic reduction of the picture."""
    picture = picture if model.color else picture.luma()
    compact = compacted(picture, model, step)
    shown = rgb_from_ycbcr(compact.astype(np.float32) / 255) if model.color else compact[..., 0]
    size = (compact.shape[1], compact.shape[0])
    reference = Image.fromarray(picture.pixels)
    if model.ratio > 1:
        reference = reference.resize(size, Image.Resampling.BICUBIC)
    return psnr(np.asarray(reference), shown)


def main(folder: Path) -> None:
    pictures = [read_picture(folder / name) for name in pictures_below(folder)]
    print("| model | step | mean PSNR of the compact image, dB | lowest |\n|---|---|---|---|")
    for model in models():
        if model.method != "joint":
            continue
        for step in (model.steps[0], (model.steps[0] * model.steps[1]) ** 0.5, model.steps[1]):
            values = [likeness(one, model, step) for one in pictures if not (model.color and one.gray)]
            if not values:
                continue
            print(f"| {model.name} | {step:.0f} | {np.mean(values):.2f} | {min(values):.2f} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="How much compact images look like the picture.")
    parser.add_argument("folder", type=Path, help="of pictures")
    main(parser.parse_args().folder)
