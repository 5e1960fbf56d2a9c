"""Real codecs inside a training step: no gradient passes them."""

import io
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from corec.codecs.registry import codec_of


def log_uniform(between: tuple[float, float], shares: Tensor) -> Tensor:
    """Quantiser steps between two, at shares (N,) in 0..1 of the way of their logarithms."""
    low, high = (torch.tensor(step).log() for step in between)
    return (low + (high - low) * shares).exp()


def plain_jpeg(image: np.ndarray, **options: Any) -> bytes:
    """The JPEG file that libjpeg itself makes of an image uint8 (H, W, 1 or 3 YCbCr): its default Huffman codes and,
    unless Pillow's options say other ones, tables and subsampling, which is what most JPEG files in the world have."""
    mode, pixels = ("YCbCr", image) if image.shape[2] == 3 else ("L", image[..., 0])
    file = io.BytesIO()
    picture = Image.frombytes(mode, (image.shape[1], image.shape[0]), np.ascontiguousarray(pixels).tobytes())
    picture.save(file, "JPEG", **options)
    return file.getvalue()


class Coded(NamedTuple):
    """What real files gave back."""

    images: Tensor
    """(N, C, H, W) in 0..1."""
    bits: Tensor
    """(N,): eight times the files' bytes."""
    log_steps: Tensor | None
    """(N, steps): what their headers tell the networks; None for codecs whose headers do not."""


def coded(images: Tensor, write: Callable[[np.ndarray, int], bytes]) -> Coded:
    """Images (N, C, H, W) in 0..1 as their codecs give them back, clipped and rounded to 8 bits.

    write makes the file of an image uint8 (H, W, C), which is the given one of the batch; of any codec.
    """
    levels = (images.detach().float() * 255).round().clamp(0, 255).to(torch.uint8)
    arrays = levels.permute(0, 2, 3, 1).cpu().numpy()
    files = [write(np.ascontiguousarray(array), index) for index, array in enumerate(arrays)]
    decoded = [codec_of(file).decode(file) for file in files]
    stacked = np.stack([image for image, _ in decoded]).transpose(0, 3, 1, 2)
    tensor = torch.from_numpy(np.ascontiguousarray(stacked)).to(images.device).float() / 255
    told = [condition for _, condition in decoded if condition is not None]
    return Coded(
        tensor.contiguous(memory_format=torch.channels_last),
        torch.tensor([8.0 * len(file) for file in files], device=images.device),
        torch.from_numpy(np.stack(told)).float().to(images.device) if told else None,
    )
