"""Time and memory of Corec: python benchmarks/speed.py (needs corec[demo,train] for its picture and its reference).

Prints Markdown tables. Every time is the median of several runs, every memory the peak of a process of its own.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from corec import pipeline, wrap
from corec.models import ZOO, models
from corec.picture import Picture, read_picture
from corec.runtime import Network, available_threads

SIZES = [(768, 512), (4000, 3000)]
HUGE = (12000, 8400)
BPP = 0.25


def main() -> None:
    parser = argparse.ArgumentParser(description="Time and memory of Corec.")
    parser.add_argument("--picture", type=Path, help="a photograph; by default one of scikit-image")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=available_threads())
    parser.add_argument("--gray", action="store_true")
    parser.add_argument("--huge", action="store_true", help="peak memory of 100 megapixels too (one run)")
    parser.add_argument("--large-reference", action="store_true", help="RecCNN at 4000x3000 too: minutes a run")
    parser.add_argument("--one", nargs=3, metavar=("WORK", "FILE", "RUNS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(options.one[0], Path(options.one[1]), int(options.one[2]))))
        return
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    kind = "gray" if options.gray else "colour"
    print(f"{kind}, {options.threads} thread(s), {BPP} bpp, median of {options.runs} runs\n")
    print_import()
    source = photograph(options.picture)
    with tempfile.TemporaryDirectory() as folder:
        pictures = [resized(source, size, options.gray, Path(folder)) for size in SIZES]
        print("| | size | seconds | peak memory, MB | of which before the work |\n|---|---|--:|--:|--:|")
        for path in pictures:
            print_way(path, options.runs)
        if options.huge:
            print_way(resized(source, HUGE, options.gray, Path(folder)), 1)
    print_networks(SIZES if options.large_reference else SIZES[:1], options.gray, options.threads, options.runs)


def print_import() -> None:
    """How long a fresh interpreter needs for corec, and for what the first call of compress adds."""
    for statement in ("import corec", "from corec import compress, decompress"):
        program = f"import time; began = time.perf_counter(); {statement}; print(time.perf_counter() - began)"
        seconds = [float(output([sys.executable, "-c", program])) for _ in range(8)][1:]  # the first writes .pyc files
        print(f"`{statement}`: {statistics.median(seconds):.3f} s (median of {len(seconds)} fresh interpreters)\n")


def print_way(path: Path, runs: int) -> None:
    """Two rows: a picture's way into a file and back."""
    file = path.with_suffix(".jpg")
    for work, source in (("compress", path), ("decompress", file)):
        told = json.loads(output([sys.executable, __file__, "--one", work, str(source), str(runs)]))
        size = "x".join(str(extent) for extent in told["size"])
        print(f"| {work} | {size} | {told['seconds']:.2f} | {told['peak']:,.0f} | {told['before']:,.0f} |", flush=True)
    file.unlink()


def one(work: str, path: Path, runs: int) -> dict[str, object]:
    """In a process of its own: the work on one file."""
    if work == "compress":
        picture = read_picture(path)
        before = peak_memory()
        seconds, made = timed(lambda: pipeline.compress_picture(picture, bpp=BPP), runs, runs > 1)
        path.with_suffix(".jpg").write_bytes(made.data)
    else:
        data = path.read_bytes()
        before = peak_memory()
        seconds, picture = timed(lambda: pipeline.decompress_picture(data), runs, runs > 1)
    size = [picture.width, picture.height]
    return {"size": size, "seconds": seconds, "peak": peak_memory(), "before": before}


def print_networks(sizes: list[tuple[int, int]], gray: bool, threads: int, runs: int) -> None:
    """The time of each network alone, as a ratio to RecCNN."""
    print("\n| network | size | seconds | / RecCNN |\n|---|---|--:|--:|")
    planes = 1 if gray else 3
    for width, height in sizes:
        reference = Network(rec_cnn(planes), threads)
        basis = network_seconds(reference, (height, width, planes), np.full(1, 3.0), 1, runs)
        print(f"| RecCNN, Jiang et al. 2017 | {width}x{height} | {basis:.2f} | 1 |", flush=True)
        pairs = {m.reconstruct: m for m in models() if m.default and not m.restores and m.color != gray}
        for model in pairs.values():  # several models may share one
            condition = wrap.told(wrap.bounds(model)[0], model)
            for name, shrink, grow in ((model.compact, 1, model.ratio), (model.reconstruct, model.ratio, 1)):
                if not name:
                    continue
                shape = (height // shrink, width // shrink, planes)
                network: wrap.Net = Network((ZOO / name).read_bytes(), threads)
                if wrap.looks_both_ways(model, height, width):
                    network = wrap.both_ways(network)
                seconds = network_seconds(network, shape, condition, grow / shrink, runs)
                label = name.removesuffix(".onnx")
                print(f"| {label} | {width}x{height} | {seconds:.2f} | {seconds / basis:.3f} |", flush=True)


def network_seconds(network: wrap.Net, shape: tuple[int, ...], condition: np.ndarray, ratio: float, runs: int) -> float:
    """Seconds for one pass over noise of a shape, in the tiles that wrap.py uses.

    ratio: the source's size over the target's, as far as the network makes it smaller or larger.
    """
    source = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    target = np.empty((round(shape[0] / ratio), round(shape[1] / ratio), shape[2]), np.uint8)
    tile = round(wrap.TILE * min(1, ratio))

    def work() -> None:
        wrap.through(network, source, condition, target, wrap.unit, wrap.levels, tile)

    return timed(work, runs, runs > 1)[0]


def rec_cnn(planes: int) -> bytes:
    """The reconstruction network of Jiang et al. 2017 with weights of no meaning, as ONNX.

    20 layers at full resolution: convolutions of 3x3 with 64 channels and ReLU, whose batch normalisation is part
    of the convolutions once trained, and a residual around all of them.
    """
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(1)
    nodes, weights, name = [], [], "image"
    widths = [planes, *[64] * 19, planes]
    for layer, (before, after) in enumerate(pairwise(widths)):
        scale = (2 / (9 * before)) ** 0.5
        values = random.normal(0, scale, (after, before, 3, 3)).astype(np.float32)
        weights.append(numpy_helper.from_array(values, f"weight{layer}"))
        weights.append(numpy_helper.from_array(np.zeros(after, np.float32), f"bias{layer}"))
        inputs = [name, f"weight{layer}", f"bias{layer}"]
        nodes.append(helper.make_node("Conv", inputs, [f"sum{layer}"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]))
        name = f"sum{layer}"
        if layer < len(widths) - 2:
            nodes.append(helper.make_node("Relu", [name], [f"active{layer}"]))
            name = f"active{layer}"
    nodes.append(helper.make_node("Add", ["image", name], ["result"]))
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, planes, "height", "width"])
    step = helper.make_tensor_value_info("log_step", TensorProto.FLOAT, [1, "tables"])  # unused: the runtime gives it
    result = helper.make_tensor_value_info("result", TensorProto.FLOAT, [1, planes, "height", "width"])
    graph = helper.make_graph(nodes, "RecCNN", [image, step], [result], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString()


def photograph(path: Path | None) -> Image.Image:
    """A colour photograph: a file, or the largest that comes with scikit-image."""
    if path:
        return Image.fromarray(read_picture(path).pixels).convert("RGB")
    from skimage.data import coffee

    return Image.fromarray(coffee())


def resized(source: Image.Image, size: tuple[int, int], gray: bool, folder: Path) -> Path:
    """The photograph at a size, in a file that costs nothing to open."""
    picture = Picture(np.array(source.resize(size, Image.Resampling.BICUBIC)))
    path = folder / f"{size[0]}x{size[1]}.ppm"
    Image.fromarray((picture.luma() if gray else picture).pixels).save(path)
    return path


def timed(work: Callable[[], Any], runs: int, first: bool = True) -> tuple[float, Any]:
    """The median time of several runs, and the last result. first: after one more, that loads what is loaded once."""
    seconds, result = [], work() if first else None
    for _ in range(runs):
        began = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds), result


def peak_memory() -> float:
    """The most memory that this process has held, in MB (10^6 bytes)."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux counts what the parent held before this process began into ru_maxrss
        peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(peak.split()[1]) * 1024 / 1e6
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def output(command: list[str]) -> str:
    """Standard output of a command; its errors are the caller's."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return done.stdout


if __name__ == "__main__":
    main()
