"""Write the golden files that are missing: `python tests/golden/make.py`, by hand, when a model or a codec ships.

There are two files a model, in its codec's format, one more of a gray picture where a model for colour takes that, and
a plain one a codec and kind. Files that are there stay as they are, to the bit; those of retired models go.
expected.toml lists them all, and the digest of the latents in a .corec file; test_golden.py decodes them.
"""

import hashlib
import tomllib
from pathlib import Path
from typing import Any

import numpy as np

from corec.codecs.registry import codecs
from corec.learned import format as corec_file
from corec.learned.codec import decoded, origin, tables_of
from corec.models import PLAIN, learned, models
from corec.picture import Picture, write_picture
from corec.pipeline import compress_picture, decompress_picture, endings

HERE = Path(__file__).parent
QUALITIES, PLAIN_QUALITY = (20, 70), 40
HEIGHT, WIDTH = 45, 67
OURS = ("make.py", "expected.toml")
"""Files of the folder that are not golden."""


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


def wanted() -> dict[str, tuple[int, str, str, bool, int]]:
    """All golden files, by name without ending: number and name of the model, codec, whether gray, quality."""
    rows = {}
    for model in models():
        if not model.restores:
            for quality in QUALITIES:
                name = f"{model.name}-{quality}"
                rows[name] = model.number, model.name, model.codec, not model.color, quality
    for model in learned():
        for quality in QUALITIES:
            rows[f"{model.name}-{quality}"] = model.number, model.name, corec_file.NAME, not model.color, quality
        if model.color:  # which takes gray pictures, too
            rows[f"{model.name}-gray"] = model.number, model.name, corec_file.NAME, True, PLAIN_QUALITY
    for codec in codecs():
        for kind in ("gray", "color"):
            rows[f"{PLAIN}-{codec.NAME}-{kind}"] = 0, PLAIN, codec.NAME, kind == "gray", PLAIN_QUALITY
    return rows


def written(name: str, number: int, model: str, codec: str, gray: bool, quality: int) -> dict[str, Any]:
    """Write a file and its picture; returns their row."""
    data = compress_picture(scene(gray), codec=codec, model=model, quality=quality).data
    file, pixels = HERE / f"{name}{endings()[codec][0]}", HERE / f"{name}.png"
    file.write_bytes(data)
    write_picture(decompress_picture(data), pixels)
    row = {"file": file.name, "pixels": pixels.name, "number": number, "width": WIDTH, "height": HEIGHT}
    return row | ({"latents": latents_sha256(data)} if codec == corec_file.NAME else {})


def latents_sha256(data: bytes) -> str:
    """The digest of the latents of a .corec file: float32, low byte first, array by array."""
    header, coded, model = origin(data)
    return hashlib.sha256(decoded(coded, header, model, tables_of(model)).astype("<f4").tobytes()).hexdigest()


def main() -> None:
    path = HERE / "expected.toml"
    names = wanted()
    kept = {Path(row["file"]).stem: row for row in tomllib.loads(path.read_text(encoding="utf-8"))["golden"]}
    kept = {name: row for name, row in kept.items() if name in names and row["number"] == names[name][0]}
    there = {*OURS, *(row[key] for row in kept.values() for key in ("file", "pixels"))}
    for old in HERE.iterdir():
        if old.is_file() and old.name not in there:
            old.unlink()
    rows = [kept.get(name) or written(name, *facts) for name, facts in names.items()]
    lines = ["# Written by make.py. A file stays what it is for as long as its model is there."]
    for row in sorted(rows, key=lambda row: (row["number"], row["file"])):
        lines += ["", "[[golden]]", *(f'{k} = "{v}"' if isinstance(v, str) else f"{k} = {v}" for k, v in row.items())]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
