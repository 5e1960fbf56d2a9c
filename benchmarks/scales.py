"""What a further scale would be worth: python benchmarks/scales.py FOLDER

JPEG files of every picture's middle, gray, as it is and reduced to 2/3, 1/2 and 1/4 of its size (bicubic, antialiased),
by our encoder with the learned tables but without networks; enlarged bicubically again. Prints the mean PSNR at equal
bytes, envelope included, of the pictures that have files so small, and what a third scale adds to the better of 1 and
1/2, picture by picture.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from corec.codecs import jpeg
from corec.evaluation.bench import pictures_below
from corec.evaluation.metrics import psnr
from corec.models import model_named
from corec.picture import read_picture

SCALES = {"1": 1.0, "2/3": 2 / 3, "1/2": 1 / 2, "1/4": 1 / 4}
RATES = 0.05, 0.08, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6
STEPS = np.geomspace(160, 6, 14).tolist()
ENVELOPE = bytes(2)
"""As long as one in a JPEG file is."""


def main() -> None:
    parser = argparse.ArgumentParser(description="What a further scale would be worth.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--side", type=int, default=384, help="of the middle of each picture that is taken")
    options = parser.parse_args()
    shapes = model_named("jpeg-gray-full").shapes
    tables = []
    for name in pictures_below(options.folder):
        picture = read_picture(options.folder / name)
        middle = middle_of(picture.luma().pixels, options.side)
        tables.append([curve(middle, scale, shapes) for scale in SCALES.values()])
    db = dict(zip(SCALES, np.array(tables).transpose(1, 0, 2), strict=True))
    two = np.fmax(db["1"], db["1/2"])
    print(f"{len(tables)} pictures; PSNR in dB\n\n| scale | {' | '.join(f'{rate:g} bpp' for rate in RATES)} |")
    print("|---|" + len(RATES) * "--:|")
    for label, values in db.items():
        print(f"| {label} | {line(np.where(np.isnan(two), np.nan, values), '.2f')} |")
    for label in ("2/3", "1/4"):
        print(f"| with {label}, too | {line(np.fmax(two, db[label]) - two, '+.3f')} |")


def middle_of(plane: np.ndarray, side: int) -> np.ndarray:
    """The middle of a plane (H, W), of sides that every scale divides."""
    height, width = (min(extent, side) // 12 * 12 for extent in plane.shape)
    top, left = (plane.shape[0] - height) // 2, (plane.shape[1] - width) // 2
    return plane[top : top + height, left : left + width]


def curve(plane: np.ndarray, scale: float, shapes: tuple[tuple[float, ...], ...]) -> np.ndarray:
    """PSNR at RATES, interpolated over log bytes; nan where the coarsest file is larger."""
    height, width = plane.shape
    image = Image.fromarray(plane)
    reduced = np.asarray(image.resize((round(width * scale), round(height * scale)), Image.Resampling.BICUBIC))
    sizes, db = [], []
    for step in STEPS:
        data = jpeg.encode(reduced[..., None], step, shapes)
        decoded = Image.fromarray(jpeg.decode(data)[0][..., 0])
        sizes.append(len(data) + jpeg.overhead(ENVELOPE, data))
        db.append(psnr(plane, np.asarray(decoded.resize((width, height), Image.Resampling.BICUBIC))))
    wanted = np.log(np.array(RATES) * plane.size / 8)
    return np.interp(wanted, np.log(np.maximum.accumulate(sizes)), db, left=np.nan)


def line(values: np.ndarray, form: str) -> str:
    """Cells of the means over pictures (N, rates) that have a value."""
    columns = [column[np.isfinite(column)] for column in values.T]
    return " | ".join(format(column.mean(), form) if len(column) else "-" for column in columns)


if __name__ == "__main__":
    main()
