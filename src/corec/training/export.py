"""From a training run to ONNX files and a row of the zoo's manifest."""

import hashlib
import inspect
import io
import tempfile
import warnings
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional

from corec.codecs.registry import CARRIED, codec_named
from corec.errors import ModelError, RecipeError
from corec.files import aside
from corec.learned.prior import LEVEL, PLANES
from corec.methods.integers import EXACT, Context
from corec.models import SIZES, ZOO, read_manifest
from corec.runtime import Network
from corec.training.checkpoint import load
from corec.training.loop import build
from corec.training.manifest import MANIFEST, PAIR, Manifest, all_files, check_name, entered, manifest_of, written
from corec.training.recipe import Recipe, fill
from corec.training.slope import slope_of
from corec.training.tables import packed
from corec.training.weights import fewest_bits, narrowed

AGREEMENT = 0.25 / 255
"""Largest difference allowed between torch and ONNX Runtime, a quarter of a level."""
ROUNDING = 0.4 / 255
"""Root mean square allowed of what storing weights in fewer bits changes. The sample is noise, where networks have most
to do: int8 weights that change it by 0.1 to 0.35 levels cost photographs at 28 to 39 dB 0.004 dB at most."""
LATENT_AGREEMENT, LATENT_ROUNDING = 0.05, 0.035
"""The same two for latents, in steps of the finest level's quantiser. That itself changes them by 0.29, root mean
square, to the square of which 0.035 adds 1.5 %."""
SLOPE_AGREEMENT, NUDGE = 0.02, 2e-4
"""Share by which a small step down a network's slope may lower its error by more or less than foretold; and that step,
the root mean square over latents of a picture in 0..1."""
Parts = dict[str, bytes]
"""Files of a model, by what they are: compact, reconstruct, analysis, tables ..."""


def export(
    run: Path, name: str, number: int | None = None, default: bool = False, force: bool = False, zoo: Path = ZOO
) -> dict[str, int]:
    """Write the averaged weights of a run as model `name`; returns the new models' names and numbers.

    Networks for several codecs are as many models, CODEC-name, which share their files; but none for a codec that
    carries the levels of another one, since it shares that one's: around JPEG these are name and jxl-name. A new model
    gets the next free number, or this one (the first of several, and the next ones in order). Before 1.0 one of the
    same name is replaced, if force is set: its number retires, and its files can no longer be read. All networks are
    checked against torch on a random picture. Raises CorecError, and then the zoo is as it was.
    """
    check_name(name)
    checkpoint = run / "checkpoint.pt"
    if not checkpoint.exists():
        raise RecipeError(f"{run} holds no checkpoint.pt: is it a training run?")
    state = load(checkpoint, torch.device("cpu"))
    recipe = fill(Recipe, state["recipe"], str(checkpoint))
    method = build(recipe)
    try:
        method.load_state_dict(state["average"])
    except RuntimeError as error:
        raise RecipeError(f"{checkpoint} does not fit the networks of this version: {error}") from error
    if not all(weight.isfinite().all() for weight in method.state_dict().values()):
        raise RecipeError(f"{checkpoint} has weights that are no numbers: lower the recipe's learning_rate")
    method.eval().begin((state["step"] - 1) / recipe.steps)
    learned = hasattr(method, "tables")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # the same weights become the same files
        row, parts = learned_parts(method) if learned else pair_parts(method)
    files = {part: f"{name}.{part}.{'npz' if part == 'tables' else 'onnx'}" for part in parts}
    digests = {part: hashlib.sha256(data).hexdigest() for part, data in parts.items()}
    if learned:
        row |= {"files": files, "sha256": digests}
    else:
        told = dict.fromkeys([*PAIR, *parts])  # a model without a compact network says so
        row |= {part: files.get(part, "") for part in told} | {f"{part}_sha256": digests.get(part, "") for part in told}
    training = {
        "recipe": f"{recipe.name or run.name}.toml",
        "steps": state["step"],
        "seconds": round(state["seconds"]),
        "seed": recipe.seed,
        **state.get("origin", {}),
    }
    if row.get("ratio") == 2 and recipe.enlarged:
        row["scales"] = [*SIZES]
    own = {name: {}} if learned else differing(name, method)
    entries = [
        {"name": each, "number": number, "method": recipe.method, **row, **facts, "default": default}
        | {"training": training}
        for each, facts in own.items()
    ]
    before = manifest_of(zoo)
    if luma := getattr(method.settings, "luma", ""):
        for entry in entries:
            entry["luma"] = number_of_luma(before, entry, luma)
    manifest = entered("learned" if learned else "model", entries, before, force)
    with ExitStack() as stack:  # all take their places at the end, the manifest last
        stack.enter_context(aside(zoo / MANIFEST)).write_text(written(manifest), encoding="utf-8")
        for part, data in parts.items():
            stack.enter_context(aside(zoo / files[part])).write_bytes(data)
    for file in all_files(before) - all_files(manifest):
        (zoo / file).unlink(missing_ok=True)
    read_manifest.cache_clear()
    known = {row["number"] for row in before["model"]}
    others = [row for row in manifest["model"] if row.get("luma") and row["number"] not in known]
    return {row["name"]: row["number"] for row in (*entries, *others)}


def number_of_luma(manifest: Manifest, row: dict[str, Any], luma: str) -> int:
    """The number of the gray model that is to restore luma for a new one in colour. Raises ModelError."""
    name = f"{row.get('codec')}-{luma}"
    for gray in manifest["model"]:
        alike = all(gray[fact] == row.get(fact) for fact in ("codec", "ratio"))
        if gray["name"] == name and alike and (gray["color"], row["color"]) == (False, True):
            return int(gray["number"])
    raise ModelError(f"no gray model {name} can restore luma for {row['name']}")


def differing(name: str, method: Any) -> dict[str, dict[str, Any]]:
    """The models that a pair of networks is, by name, and what is in the row of each alone."""
    codecs, which = codecs_of(method)
    models: dict[str, dict[str, Any]] = {}
    for codec, place in zip(codecs, which, strict=True):
        if place and codec in chain(*CARRIED.values()):
            continue  # its models are those of what it carries
        facts = models[f"{codec}-{name}" if place else name] = {"codec": codec}
        if place:
            finest, coarsest = codec_named(codec).STEPS
            facts["which"] = place
            facts["steps"] = np.clip(method.settings.steps, finest, coarsest).tolist()
        if codec in getattr(method.settings, "bare", ()):
            facts |= {"compact": "", "compact_sha256": ""}
    for codec in getattr(method, "carried", ()):
        models[f"{codec}-{name.removeprefix(f'{codecs[0]}-')}"] = {"codec": codec}
    return models


def codecs_of(method: Any) -> tuple[list[str], list[list[float]]]:
    """The codecs that a pair of networks is for, and what they are told of which one it is: see corec.models.Model."""
    codecs = [method.settings.codec, *getattr(method.settings, "also", ())]
    if len(codecs) == 1:
        return codecs, [[]]
    return codecs, [[float(at == place) for place in range(len(codecs))] for at in range(len(codecs))]


def pair_parts(method: Any) -> tuple[dict[str, Any], Parts]:
    """The networks before and behind a codec: what the model's row says of them, and their files.

    Weights are stored as int8, or as fp16 or fp32 if that changes images by more than ROUNDING.
    """
    settings = method.settings
    planes, ratio = (3 if settings.color else 1), (2 if settings.half else 1)
    shapes = method.shapes()
    row: dict[str, Any] = {
        "codec": settings.codec,
        "color": settings.color,
        "ratio": ratio,
        "steps": list(settings.steps),
        "shapes": [[round(float(v), 4) for v in shape] for shape in shapes],
        "both_ways": getattr(method, "both_ways", False),
    }
    if method.compact is None:
        row["restores"] = True
    codecs, which = codecs_of(method)
    steps, parts = len(codec_named(settings.codec).condition(settings.steps[0], row["shapes"])), {}
    told = [torch.tensor([[log_step] * steps + place]) for log_step in (2.5, 3.5, 4.5) for place in which]
    for part, size in (("compact", 64), ("reconstruct", 64 // ratio)):
        network = getattr(method, part)
        if network is None or (part == "compact" and {*codecs} == {*getattr(settings, "bare", ())}):
            continue
        whole = to_onnx(network, torch.rand(1, planes, size, size), told[0])
        largest, _ = differences(whole, network, planes, size, told)
        if largest > AGREEMENT:
            raise ModelError(f"{part}: ONNX Runtime and torch differ by {255 * largest:.2f} levels")
        parts[part] = fewest_bits(whole, lambda d: differences(d, network, planes, size, told)[1] <= ROUNDING)  # noqa: B023
    if getattr(method, "suits", False):
        parts["slope"] = slope_of(parts["reconstruct"], settings.color)
    return row, parts


@torch.no_grad()
def learned_parts(method: Any) -> tuple[dict[str, Any], Parts]:
    """The networks and tables of a learned codec: what the model's row says of them, and their files.

    A context must compute the same integers as torch, and with any input stay where float32 is exact.
    """
    parts = method.parts()
    tables = packed(method.gains().numpy(), method.tables(), method.transposed(), method.worth())
    finest, middle = (torch.from_numpy(tables["gain"][level]) for level in (-1, len(tables["gain"]) // 2))
    picture = functional.interpolate(torch.rand(1, 3 if method.settings.color else 1, 8, 8), (64, 128), mode="bicubic")
    log_step = -middle.log()[None]
    latents = parts["analysis"](picture, *([log_step] if takes_steps(parts["analysis"]) else []))
    bins = (middle[:, None, None] * latents).round()
    files: Parts = {}
    for part, network in parts.items():
        steps = (log_step,) if takes_steps(network) else ()
        if isinstance(network, Context):
            network.freeze()
            if network.largest() >= EXACT:
                raise ModelError(f"{part}: its sums may reach {EXACT}, beyond which float32 is not exact")
            known = torch.cat([torch.ones(1, PLANES, *bins.shape[2:]), bins[:, : network.known]], 1)
            known[:, LEVEL] = method.levels.count - 1
            files[part] = stored(part, network, (known,), 1.0, 0.0, 0.0)
        elif part == "analysis":
            sample, unit = (picture, *steps), finest[:, None, None]
            files[part] = stored(part, network, sample, unit, LATENT_AGREEMENT, LATENT_ROUNDING)
        else:
            received = bins / middle[:, None, None]
            files[part] = stored(part, network, (received, *steps), 1.0, AGREEMENT, ROUNDING)
            if len(tables["worth"]):
                files["slope"] = slope_of(files[part])
                check_slope(files[part] + files["slope"], (received, *steps), picture)
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, **tables)
    files["tables"] = file.getvalue()
    return {"color": method.settings.color, "price": method.price}, files


def check_slope(data: bytes, sample: tuple[Tensor, ...], picture: Tensor) -> None:
    """Raise ModelError unless a network's squared error changes along its slope as that says."""
    network, shown = Network(data, 1), picture[0].permute(1, 2, 0).numpy()
    latents, log_step = sample[0][0].permute(1, 2, 0).numpy(), sample[1][0].numpy()
    _, slope = network.every(latents, log_step, shown)

    def error(way: float) -> float:
        result, _ = network.every(latents + way * step, log_step, shown)
        return float(np.square(result - shown, dtype=np.float64).mean(2).sum())

    step = np.float32(NUDGE / np.square(slope).mean() ** 0.5) * slope
    foretold = 2 * float((step * slope).sum(dtype=np.float64))
    off = (error(1) - error(-1)) / foretold - 1
    if not abs(off) <= SLOPE_AGREEMENT:
        raise ModelError(f"slope: the error changes by {100 * off:.2g} % more than it says")


def takes_steps(network: nn.Module) -> bool:
    """Whether a learned codec's network is told the quantiser's steps."""
    return "log_step" in inspect.signature(network.forward).parameters


def stored(
    part: str,
    network: nn.Module,
    sample: tuple[Tensor, ...],
    unit: Tensor | float,
    agreement: float,
    rounding: float,
) -> bytes:
    """A learned codec's network as ONNX, its weights in as few bits as are good enough; a context's are integers.

    Over one sample of its input, in units of its result, ONNX Runtime may be `agreement` at most from torch, and what
    storing weights in fewer bits changes must have a root mean square of `rounding` at most. Raises ModelError.
    """
    whole, expected = to_onnx(network, *sample), network(*sample)[0]

    def error(data: bytes) -> Tensor:
        arrays = [sample[0][0].permute(1, 2, 0).numpy(), *(log_step[0].numpy() for log_step in sample[1:])]
        return unit * (torch.from_numpy(Network(data, 1)(*arrays)).permute(2, 0, 1) - expected)

    largest = float(error(whole).abs().max())
    if largest > agreement:
        raise ModelError(f"{part}: ONNX Runtime and torch differ by {largest:.3g}")

    def good(data: bytes) -> bool:
        return float(error(data).square().mean()) ** 0.5 <= rounding

    if isinstance(network, Context):
        return data if good(data := narrowed(whole, integers=True)) else whole
    return fewest_bits(whole, good)


def to_onnx(network: nn.Module, *sample: Tensor) -> bytes:
    """The network as ONNX with free height and width: "image" and, if the sample has two, "log_step" -> "result"."""
    axes = {"image": {2: "height", 3: "width"}, "result": {2: "out_height", 3: "out_width"}}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what is checked: that the result is the network's
        path = Path(folder) / "network.onnx"
        torch.onnx.export(
            network,
            sample,
            path,
            input_names=["image", "log_step"][: len(sample)],
            output_names=["result"],
            dynamic_axes=axes,
            opset_version=17,
            dynamo=False,
        )
        return tidied(onnx.load(path)).SerializeToString()


def tidied(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same network with short names of all but weights, and every constant once: of small networks that is most."""
    graph = model.graph
    names = {each.name: each.name for each in (*graph.input, *graph.output, *graph.initializer)}
    constants: dict[bytes, str] = {}
    nodes = []

    def renamed(name: str) -> str:
        return names.setdefault(name, f"{len(names):x}" if name else "")

    for node in graph.node:
        node.name = ""
        node.input[:] = [renamed(name) for name in node.input]
        if node.op_type == "Constant":
            value = node.attribute[0].SerializeToString()
            if value in constants:
                names[node.output[0]] = constants[value]
                continue
            constants[value] = renamed(node.output[0])
        node.output[:] = [renamed(name) for name in node.output]
        nodes.append(onnx.NodeProto.FromString(node.SerializeToString()))
    del graph.node[:]
    graph.node.extend(nodes)
    return model


def differences(data: bytes, network: nn.Module, planes: int, size: int, told: list[Tensor]) -> tuple[float, float]:
    """Between ONNX Runtime and torch over sizes and conditions, in 0..1: the largest, and the root mean square."""
    loaded, worst, squares = Network(data, 1), 0.0, []
    for height, width in ((size, size), (2 * size, size), (size, 3 * size)):
        for condition in told:
            image = functional.interpolate(torch.rand(1, planes, 8, 8), (height, width), mode="bicubic")
            with torch.no_grad():
                expected: Tensor = network(image, condition)[0].permute(1, 2, 0)
            error = loaded(image[0].permute(1, 2, 0).numpy(), condition[0].numpy()) - expected.numpy()
            worst = max(worst, float(np.abs(error).max()))
            squares.append(float(np.square(error).mean()))
    return worst, float(np.mean(squares)) ** 0.5
