"""The Karhunen-Loève transform of training pictures: where the transforms of learned codecs begin.

From noise, a network needs thousands of steps to find out what a block transform does. From the KLT, the best linear
transform of blocks in squared error, it starts as a codec, and learns what is better: overlap, and what is not linear.

The transform comes in stages, each of which takes blocks of side x side of the one before to their principal
components. Rows are orthonormal, so errors in latents are errors in pictures, and a stage's inverse is its transpose.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@torch.no_grad()
def klt(pictures: Tensor, sides: Sequence[int], channels: Sequence[int]) -> tuple[list[Tensor], Tensor]:
    """Stages for pictures (N, C, H, W) around 0, H and W multiples of the product of the sides.

    Returns each stage's matrix (kept, inputs, side, side), kept = channels or all if these are fewer, and the
    root mean square of what the last stage gives, by channel.
    """
    x, matrices = pictures.double(), []
    for side, count in zip(sides, channels, strict=True):
        blocks = F.pixel_unshuffle(x, side).transpose(0, 1).flatten(1)
        vectors = torch.linalg.eigh(blocks @ blocks.T).eigenvectors.flip(1).T[:count]
        matrices.append(vectors.reshape(-1, x.shape[1], side, side))
        x = F.conv2d(x, matrices[-1], stride=side)
    return [matrix.float() for matrix in matrices], x.square().mean((0, 2, 3)).sqrt().float()


@torch.no_grad()
def lay(layer: nn.Conv2d, matrix: Tensor) -> None:
    """Make the first channels of a convolution a stage; further ones stay as they are, and unused at first.

    Of a convolution without stride, matrix (kept, inputs, 1, 1) goes to the kernel's middle.
    """
    kept, inputs, side, _ = matrix.shape
    first = int(layer.padding[0])
    layer.weight[:kept] = 0
    layer.weight[:kept, :inputs, first : first + side, first : first + side] = matrix


@torch.no_grad()
def lay_transposed(layer: nn.ConvTranspose2d, matrix: Tensor) -> None:
    """Make the first outputs of a transposed convolution a stage's inverse."""
    kept, outputs, side, _ = matrix.shape
    first = int(layer.padding[0])
    layer.weight[:, :outputs] = 0
    layer.weight[:kept, :outputs, first : first + side, first : first + side] = matrix
