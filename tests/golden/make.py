"""Write the golden files of models that have none yet: `python tests/golden/make.py`, by hand, when a model ships.

Files of models that are still there stay as they are, to the bit; those of retired models go. expected.toml
lists them all; test_golden.py decodes them.
"""

import tomllib
from pathlib import Path
from typing import Any

import numpy as np

from corec.models import Model, models
from corec.picture import Picture, write_picture
from corec.pipeline import compress_picture, decompress_picture

HERE = Path(__file__).parent
QUALITIES = (20, 70)
HEIGHT, WIDTH = 45, 67


def scene(gray: bool) -> Picture:
    """A made-up picture: a sky that fades, a disc with a hard edge, stripes that narrow, and a rough ground."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(float)
    red, green, blue = 90 + 1.5 * y, 130 + y, 220 - 1.2 * y
    stripes = (y < 18) & (x > 40)
    wave = 40 * np.sin(0.018 * (x - 40) ** 2 + 0.6 * x)
    ground = y > 32 + 3 * np.sin(x / 6)
    rough = ((31 * x + 57 * y + 13 * x * y) % 61) - 30
    disc = (x - 21) ** 2 + (y - 20) ** 2 < 11**2
    planes = []
    for sky, sun, soil in ((red, 240, 95), (green, 200, 110), (blue, 70, 60)):
        plane = sky + np.where(stripes, wave, 0)
        plane = np.where(ground, soil + rough, plane)
        planes.append(np.where(disc, sun - 2 * (y - 20), plane))
    pixels = np.clip(np.rint(np.stack(planes, 2)), 0, 255).astype(np.uint8)
    return Picture(np.ascontiguousarray(pixels[..., 1]) if gray else pixels)


def add(model: Model) -> list[dict[str, Any]]:
    """Write a model's files; returns their rows."""
    rows = []
    for quality in QUALITIES:
        name = f"{model.name}-{quality}"
        data = compress_picture(scene(not model.color), model=model.name, quality=quality).data
        (HERE / f"{name}.jpg").write_bytes(data)
        write_picture(decompress_picture(data), HERE / f"{name}.png")
        rows.append(
            {"file": f"{name}.jpg", "pixels": f"{name}.png", "number": model.number, "width": WIDTH, "height": HEIGHT}
        )
    return rows


def main() -> None:
    path = HERE / "expected.toml"
    rows = tomllib.loads(path.read_text(encoding="utf-8"))["golden"] if path.exists() else []
    shipped = {model.number for model in models()}
    kept = [row for row in rows if row["number"] in shipped]
    names = {row[key] for row in kept for key in ("file", "pixels")}
    for old in [*HERE.glob("*.jpg"), *HERE.glob("*.png")]:
        if old.name not in names:
            old.unlink()
    done = {row["number"] for row in kept}
    for model in models():
        if model.number not in done and not model.restores:
            kept += add(model)
    lines = ["# Written by make.py. A file stays what it is for as long as its model is there."]
    for row in sorted(kept, key=lambda row: (row["number"], row["file"])):
        lines += ["", "[[golden]]", *(f'{k} = "{v}"' if isinstance(v, str) else f"{k} = {v}" for k, v in row.items())]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
