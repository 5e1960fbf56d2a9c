"""Curves that others have published for the 24 pictures of Kodak, in colour."""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path, PurePosixPath

Point = tuple[float, float, float | None]
"""Bits per pixel, PSNR over RGB in dB, MS-SSIM over RGB (None where not given)."""

KODAK = {f"kodim{number:02}" for number in range(1, 25)}


def published(images: Sequence[str], gray: bool) -> dict[str, list[Point]]:
    """The curves by name, if these pictures are Kodak's, all 24 and in colour; else none."""
    return {} if gray or {PurePosixPath(image).stem for image in images} != KODAK else kodak()


@cache
def kodak() -> dict[str, list[Point]]:
    """kodak_published.json, which also has the sources."""
    held = json.loads(Path(__file__).with_name("kodak_published.json").read_text(encoding="utf-8"))
    return {entry["name"]: [(bpp, psnr, ms_ssim) for bpp, psnr, ms_ssim in entry["points"]] for entry in held["curves"]}
