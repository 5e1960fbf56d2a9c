"""Where the learned codec's time goes: python benchmarks/learned.py (needs corec[learned,demo,train]).

For each model of the learned codec: seconds of writing and reading a 768x512 picture, split into networks (contexts
among them) and entropy coding, symbols a second, and what the networks cost, counted from their ONNX files in thousands
of multiplications and additions a pixel. Times are medians. Prints Markdown tables.
"""

import argparse
import math
import os
from pathlib import Path

import numpy as np
import onnx
from PIL import Image
from speed import photograph, timed

from corec.learned.codec import Latents, decoded, origin, read
from corec.learned.prior import FIRST, OTHERS, Prior
from corec.models import ZOO, Learned, learned
from corec.picture import Picture
from corec.runtime import available_threads

SIZE = (768, 512)
QUALITIES = (20, 50, 80)


def main() -> None:
    parser = argparse.ArgumentParser(description="Where the learned codec's time goes.")
    parser.add_argument("--picture", type=Path, help="a photograph; by default one of scikit-image")
    parser.add_argument("--models", nargs="*", metavar="NAME", help="by default all")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=available_threads())
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    rows = [row for row in learned() if options.models is None or row.name in options.models]
    picture = Picture(np.array(photograph(options.picture).resize(SIZE, Image.Resampling.BICUBIC)))
    print(f"{SIZE[0]}x{SIZE[1]}, {options.threads} thread(s), median of {options.runs} runs, seconds\n")
    print(
        "| model | quality | bytes | write | networks | coding | read | networks | coding | million symbols a second |"
    )
    print("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
    for row in rows:
        for quality in QUALITIES:
            print_times(row, picture if row.color else picture.luma(), quality, options.runs)
    print("\n| model | network | kMAC a pixel |\n|---|---|--:|")
    for row in rows:
        for part, file in row.files.items():
            if part not in ("tables", "slope"):  # a slope is none without the network before it
                print(f"| {row.name} | {part} | {macs_a_pixel(part, ZOO / file) / 1000:.1f} |")


def print_times(model: Learned, picture: Picture, quality: int, runs: int) -> None:
    """One row: a picture's way into a file and back."""
    latents = Latents(picture, model)
    level = round(quality / 100 * (latents.levels - 1))
    data = latents.file(level)
    header, coded, _ = origin(data)
    analysis, _ = timed(lambda: Latents(picture, model).at(level), runs)
    coding, _ = timed(lambda: latents.file(level), runs)
    reading, _ = timed(lambda: read(data), runs)
    entropy, _ = timed(lambda: decoded(coded, header, model, latents.tables), runs)
    contexts, _ = timed(lambda: list(Prior(model, latents.tables, level, latents.values.shape).places()), runs)
    # What is left of two measured times may come out as nothing, or less.
    coding, entropy, analysis = max(1e-4, coding - contexts), max(1e-4, entropy - contexts), analysis + contexts
    symbols = latents.values.size
    speed = f"{symbols / coding / 1e6:.1f} out, {symbols / entropy / 1e6:.1f} in"
    writing = f"{analysis + coding:.3f} | {analysis:.3f} | {coding:.3f}"
    way_back = f"{reading:.3f} | {reading - entropy:.3f} | {entropy:.3f}"
    print(f"| {model.name} | {quality} | {len(data):,} | {writing} | {way_back} | {speed} |")


def macs_a_pixel(part: str, path: Path) -> float:
    """Multiplications and additions of a network's convolutions and products, over the pixels of the picture.

    A context is asked once a pass, and counts as often.
    """
    model = onnx.load(path)
    side = 256 if part == "analysis" else 16
    shapes = shapes_in(model, side)
    total = 0
    for node in model.graph.node:
        if node.op_type in ("Conv", "ConvTranspose"):
            # Each sample of the result of a convolution, or of the source of a transposed one, meets all of a filter.
            samples = shapes[node.output[0] if node.op_type == "Conv" else node.input[0]]
            total += math.prod(samples[2:]) * math.prod(shapes[node.input[1]])
        elif node.op_type in ("MatMul", "Gemm"):
            total += math.prod(shapes[node.output[0]]) * shapes[node.input[0]][-1]
    passes = len(FIRST if part == "context0" else OTHERS) if part.startswith("context") else 1
    return passes * total / (256 * 256)


def shapes_in(model: onnx.ModelProto, side: int) -> dict[str, tuple[int, ...]]:
    """The shapes of all that a network computes, and of its weights, when its image has this height and width."""
    import onnxruntime

    zeros = {}
    for each in model.graph.input:
        shape = [dim.dim_value or side for dim in each.type.tensor_type.shape.dim]
        zeros[each.name] = np.zeros(shape, np.float32)
    shapes = {name: value.shape for name, value in zeros.items()}
    shapes |= {weight.name: tuple(weight.dims) for weight in model.graph.initializer}
    names = [name for node in model.graph.node for name in node.output if name]
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return shapes | {name: value.shape for name, value in zip(names, session.run(names, zeros), strict=True)}


if __name__ == "__main__":
    main()
