"""Time and bytes of every codec: python benchmarks/codecs.py (needs corec[demo] for its picture, and codecs' extras).

Prints a Markdown table: a photograph of 768x512 compressed to at most so many bits per pixel and decompressed, by the
model that Corec chooses, which is plain where the codec alone is better. Times are medians after a first run.
"""

import argparse
import os
from pathlib import Path

import numpy as np
from PIL import Image
from speed import photograph, timed

from corec import pipeline
from corec.codecs.registry import codecs
from corec.errors import MissingExtraError
from corec.picture import Picture
from corec.runtime import available_threads

SIZE = 768, 512


def main() -> None:
    parser = argparse.ArgumentParser(description="Time and bytes of every codec.")
    parser.add_argument("codecs", nargs="*", metavar="CODEC", default=[codec.NAME for codec in codecs()])
    parser.add_argument("--picture", type=Path, help="a photograph; by default one of scikit-image")
    parser.add_argument("--bpp", type=float, default=0.2, help="at most so many bits a pixel")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=available_threads(), help="of the networks")
    parser.add_argument("--gray", action="store_true")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    picture = Picture(np.array(photograph(options.picture).resize(SIZE, Image.Resampling.BICUBIC)))
    picture = picture.luma() if options.gray else picture
    kind = "gray" if options.gray else "colour"
    print(
        f"{SIZE[0]}x{SIZE[1]}, {kind}, {options.bpp} bpp, {options.threads} thread(s), median of {options.runs} runs\n"
    )
    print("| codec | model | bytes | of which envelope | compress, s | files written | decompress, s |")
    print("|---|---|--:|--:|--:|--:|--:|")
    for name in options.codecs:
        try:
            print(row(name, picture, options.bpp, options.runs), flush=True)
        except MissingExtraError as error:
            print(f"| {name} | {error} | | | | | |", flush=True)


def row(name: str, picture: Picture, bpp: float, runs: int) -> str:
    """What is printed of a codec."""
    there, made = timed(lambda: pipeline.compress_picture(picture, codec=name, bpp=bpp), runs)
    back, _ = timed(lambda: pipeline.decompress_picture(made.data), runs)
    envelope = pipeline.describe(made.data)["envelope_bytes"]
    return f"| {name} | {made.model} | {len(made.data):,} | {envelope} | {there:.2f} | {made.runs} | {back:.3f} |"


if __name__ == "__main__":
    main()
