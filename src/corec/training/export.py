"""From a training run to two ONNX files and a row of the zoo's manifest."""

import hashlib
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from corec.codecs.base import codec_named
from corec.errors import ModelError, RecipeError
from corec.models import ZOO, read_manifest
from corec.runtime import Network
from corec.training.loop import build
from corec.training.recipe import Recipe, fill

AGREEMENT = 0.25 / 255
"""Largest difference allowed between torch and ONNX Runtime, a quarter of a level."""


def export(run: Path, name: str, number: int | None = None, default: bool = False, zoo: Path = ZOO) -> int:
    """Write the averaged weights of a run as model `name`; returns its number.

    A new model gets the next free number. Replacing a model of the same name before 1.0 retires the old
    number. Both networks are checked against torch on a random picture. Raises CorecError.
    """
    checkpoint = run / "checkpoint.pt"
    if not checkpoint.exists():
        raise RecipeError(f"{run} holds no checkpoint.pt: is it a training run?")
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    recipe = fill(Recipe, state["recipe"], str(checkpoint))
    method = build(recipe)
    method.load_state_dict(state["average"])
    method.eval()
    settings = method.settings
    planes, scale = (3 if settings.color else 1), (2 if settings.half else 1)
    shapes = method.shapes()
    row: dict[str, Any] = {
        "name": name,
        "number": number,
        "method": recipe.method,
        "codec": settings.codec,
        "color": settings.color,
        "scale": scale,
        "default": default,
        "steps": list(settings.steps),
        "shapes": [[round(float(v), 4) for v in shape] for shape in shapes],
        "compact": "",
        "compact_sha256": "",
    }
    steps = len(codec_named(settings.codec).condition(settings.steps[0], row["shapes"]))
    for part, size in (("compact", 64), ("reconstruct", 64 // scale)):
        network = getattr(method, part)
        if network is None:  # a model that only restores
            continue
        data = half_precision(to_onnx(network, planes, size, steps))
        difference = disagreement(data, network, planes, size, steps)
        if difference > AGREEMENT:
            raise ModelError(f"{part}: ONNX Runtime and torch differ by {255 * difference:.2f} levels")
        path = zoo / f"{name}.{part}.onnx"
        path.write_bytes(data)
        row[part] = path.name
        row[f"{part}_sha256"] = hashlib.sha256(data).hexdigest()
    row["training"] = {
        "recipe": f"{run.name}.toml",
        "steps": state["step"],
        "seconds": round(state["seconds"]),
        "seed": recipe.seed,
        **state.get("origin", {}),
    }
    return enter(row, zoo)


def to_onnx(network: nn.Module, planes: int, size: int, tables: int) -> bytes:
    """The network as ONNX with free height and width; inputs "image" and "log_step", output "result"."""
    axes = {"image": {2: "height", 3: "width"}, "result": {2: "out_height", 3: "out_width"}}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        torch.onnx.export(
            network,
            (torch.rand(1, planes, size, size), torch.full((1, tables), 3.0)),
            path,
            input_names=["image", "log_step"],
            output_names=["result"],
            dynamic_axes=axes,
            opset_version=17,
            dynamo=False,
        )
        return path.read_bytes()


def half_precision(data: bytes) -> bytes:
    """The same network with its large weights stored in fp16 and cast to fp32 when it is loaded."""
    model = onnx.load_from_string(data)
    kept, casts = [], []
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < 256:
            kept.append(tensor)
            continue
        stored = f"{tensor.name}_half"
        kept.append(onnx.numpy_helper.from_array(values.astype(np.float16), stored))
        casts.append(onnx.helper.make_node("Cast", [stored], [tensor.name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.initializer.extend(kept)
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def disagreement(data: bytes, network: nn.Module, planes: int, size: int, tables: int) -> float:
    """Largest difference between ONNX Runtime and torch over sizes and steps, in 0..1."""
    loaded, worst = Network(data, 1), 0.0
    for height, width in ((size, size), (2 * size, size), (size, 3 * size)):
        for log_step in (2.5, 3.5, 4.5):
            image = torch.nn.functional.interpolate(torch.rand(1, planes, 8, 8), (height, width), mode="bicubic")
            steps = torch.full((1, tables), log_step)
            with torch.no_grad():
                expected: Tensor = network(image, steps)[0].permute(1, 2, 0)
            got = loaded(image[0].permute(1, 2, 0).numpy(), steps[0].numpy())
            worst = max(worst, float(np.abs(got - expected.numpy()).max()))
    return worst


def enter(row: dict[str, Any], zoo: Path) -> int:
    """Put a row into the manifest, in place of one of the same name, whose number retires."""
    path = zoo / "manifest.toml"
    manifest = tomllib.loads(path.read_text()) if path.exists() else {}
    rows, retired = manifest.get("model", []), manifest.get("retired", [])
    taken = {r["number"] for r in [*rows, *retired]}
    if row["number"] is None:
        row["number"] = max(taken, default=0) + 1
    elif row["number"] in taken:
        raise ModelError(f"model number {row['number']} is taken and may never change its meaning")
    retired += [{"number": r["number"], "name": r["name"]} for r in rows if r["name"] == row["name"]]
    rows = [r for r in rows if r["name"] != row["name"]] + [row]
    path.write_text(written(sorted(rows, key=lambda r: r["number"]), retired))
    read_manifest.cache_clear()
    return int(row["number"])


def written(rows: list[dict[str, Any]], retired: list[dict[str, Any]]) -> str:
    """The manifest as TOML."""
    parts = ["# Written by `corec export`. A number never changes its meaning.\n"]
    for row in rows:
        training = row["training"]
        parts.append("[[model]]")
        parts += [f"{k} = {value(v)}" for k, v in row.items() if k != "training"]
        parts.append("[model.training]")
        parts += [f"{k} = {value(v)}" for k, v in training.items()]
        parts.append("")
    for row in retired:
        parts.append("[[retired]]")
        parts += [f"{k} = {value(v)}" for k, v in row.items()]
        parts.append("")
    return "\n".join(parts)


def value(item: Any) -> str:
    """A TOML value: string, boolean, number or list of these."""
    if isinstance(item, str):
        return '"' + item.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(item, bool):
        return str(item).lower()
    if isinstance(item, list):
        return "[" + ", ".join(value(v) for v in item) + "]"
    return str(item)
