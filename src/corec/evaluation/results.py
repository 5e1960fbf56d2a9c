"""What a bench found, as numbers: rows, means, curves, and how the curves differ."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from corec.evaluation.bench import Request
from corec.evaluation.curves import Curve, Difference, difference
from corec.evaluation.published import published
from corec.evaluation.rows import Measured, Row

AVERAGED = ("bytes", "bpp", "psnr", "ssim", "ms_ssim", "write_seconds", "read_seconds")


@dataclass(frozen=True)
class Results:
    """Everything that was measured."""

    request: Request
    against: str
    """The contender that gains and BD-rates refer to."""
    measured: Sequence[Measured]
    versions: dict[str, str]

    @property
    def name(self) -> str:
        """The folder's."""
        return self.request.folder.resolve().name

    @property
    def rows(self) -> list[Row]:
        return [measured.row for measured in self.measured]

    @property
    def images(self) -> list[str]:
        return list(dict.fromkeys(row.image for row in self.rows))

    def at(self, target: str, contender: str) -> list[Row]:
        """The rows of a contender within a target, by picture."""
        return [row for row in self.rows if (row.target, row.contender) == (target, contender)]


def means(rows: Sequence[Row]) -> dict[str, float]:
    """The mean of every figure, whatever the pictures' sizes: nan unless every picture has it."""
    if not rows or any(not row.bytes for row in rows):
        return dict.fromkeys(AVERAGED, math.nan)
    return {name: fmean(getattr(row, name) for row in rows) for name in AVERAGED}


def curve(results: Results, contender: str, figure: str = "psnr") -> Curve:
    """Mean figure over mean bits per pixel, a point for each target at which every picture has a file."""
    averages = [means(results.at(target.name, contender)) for target in results.request.targets]
    return [(mean["bpp"], mean[figure]) for mean in averages if not math.isnan(mean[figure])]


def differences(results: Results) -> dict[str, Difference | None]:
    """By how much each other contender's mean curve of PSNR, and each published one, differs from the reference."""
    reference = curve(results, results.against)
    curves = {name: curve(results, name) for name in results.request.contenders if name != results.against}
    for name, points in published(results.images, results.request.gray).items():
        curves[f"{name} (published)"] = [(bpp, psnr) for bpp, psnr, _ in points]
    return {name: difference(reference, points) for name, points in curves.items()}


def numbers(results: Results) -> dict[str, Any]:
    """What results.json holds."""
    request = results.request
    return {
        "versions": results.versions,
        "gray": request.gray,
        "targets": [target.name for target in request.targets],
        "contenders": list(request.contenders),
        "against": results.against,
        "means": {
            target.name: {name: means(results.at(target.name, name)) for name in request.contenders}
            for target in request.targets
        },
        "differences": {name: asdict(d) if d else None for name, d in differences(results).items()},
        "rows": [asdict(row) | {"bpp": row.bpp} for row in results.rows],
    }


def finite(value: Any) -> Any:
    """The same with None for nan and infinity, which JSON does not have."""
    if isinstance(value, dict):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
