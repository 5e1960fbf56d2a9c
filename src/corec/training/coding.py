"""Real codecs inside a training step: no gradient passes them."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from corec.codecs.base import Codec


def coded(images: Tensor, codec: Codec, write: Callable[[np.ndarray, int], bytes]) -> tuple[Tensor, Tensor | None]:
    """Images (N, C, H, W) in 0..1 as the codec gives them back: clipped, rounded to 8 bits, written and read.

    write makes the file of an image uint8 (H, W, C), which is the given one of the batch. The second result is
    what the files' headers tell of their quantisers, (N, tables), if they do.
    """
    levels = (images.detach().float() * 255).round().clamp(0, 255).to(torch.uint8)
    arrays = levels.permute(0, 2, 3, 1).cpu().numpy()
    decoded = [codec.decode(write(np.ascontiguousarray(array), index)) for index, array in enumerate(arrays)]
    tensor = torch.from_numpy(np.stack([image for image, _ in decoded]).transpose(0, 3, 1, 2).copy())
    told = [condition for _, condition in decoded if condition is not None]
    conditions = torch.from_numpy(np.stack(told)).float().to(images.device) if told else None
    return (tensor.float() / 255).to(images.device, memory_format=torch.channels_last), conditions
