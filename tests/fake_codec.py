"""A codec in a few lines that needs no library: pixels rounded to a step, and zlib."""

import zlib
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from corec.codecs import jpeg
from corec.evaluation import contenders, targets

STEPS = [2 ** (power / 2) for power in range(2, 15)]
"""All steps of the format."""


def settle(step: float) -> float:
    return min(STEPS, key=lambda known: abs(np.log(known / step)))


def encode(image: np.ndarray, step: float, shapes: Any) -> bytes:
    assert step in STEPS, "the bench must ask for steps that the format has"
    height, width, depth = image.shape
    head = np.array([height, width, depth, STEPS.index(step)], ">u2").tobytes()
    return head + zlib.compress(np.rint(image / step).astype(np.uint8).tobytes(), 9)


def decode(data: bytes) -> tuple[np.ndarray, None]:
    height, width, depth, index = (int(value) for value in np.frombuffer(data[:8], ">u2"))
    levels = np.frombuffer(zlib.decompress(data[8:]), np.uint8).reshape(height, width, depth)
    return np.clip(np.rint(levels * STEPS[index]), 0, 255).astype(np.uint8), None


def install(patch: pytest.MonkeyPatch, **other: Any) -> SimpleNamespace:
    """Put the codec "fake" beside JPEG; other: members of it that are to be different."""
    members = {"NAME": "fake", "STEPS": (STEPS[0], STEPS[-1]), "settle": settle, "encode": encode, "decode": decode}
    codec = SimpleNamespace(**members | other)
    known = {"jpeg": jpeg, "fake": codec}
    patch.setattr(contenders, "codecs", lambda: tuple(known.values()))
    for module in (contenders, targets):
        patch.setattr(module, "codec_named", known.__getitem__)
    return codec
