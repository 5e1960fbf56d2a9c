"""A JPEG that gradients pass: colour transform, subsampling, DCT, real tables, rounding, and its rate.

Decoded pixels follow libjpeg to within rounding (the DCT here is exact, libjpeg's is in integers), the
rate estimate follows the bytes of libjpeg with optimised Huffman tables; tests/test_proxy.py measures both.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from corec.codecs.jpeg import STANDARD, dct_matrix
from corec.color import CENTRE

ROUNDING = 0.4
"""AC coefficients are rounded down below this fraction: zeros cost least, so the best quantiser for a
given rate favours them. Stands for what codecs/trellis.py does with more care."""


def rgb_from_ycbcr(x: Tensor) -> Tensor:
    """Full-range BT.601 (N, 3, H, W) in 0..1 -> RGB, not clipped (JFIF 1.02)."""
    y, cb, cr = x[:, :1], x[:, 1:2] - CENTRE, x[:, 2:] - CENTRE
    return torch.cat([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb], 1)


def ycbcr_from_rgb(x: Tensor) -> Tensor:
    """RGB (N, 3, H, W) in 0..1 -> full-range BT.601 YCbCr in 0..1 (JFIF 1.02)."""
    r, g, b = x[:, :1], x[:, 1:2], x[:, 2:]
    y = 0.299 * r + 0.587 * g + 0.114 * b
    return torch.cat([y, (b - y) / 1.772 + CENTRE, (r - y) / 1.402 + CENTRE], 1)


def straight_through(value: Tensor, gradient: Tensor) -> Tensor:
    """The first tensor's values with the second tensor's gradient."""
    return gradient + (value - gradient).detach()


def enlarge_chroma(x: Tensor) -> Tensor:
    """libjpeg's "fancy" upsampling (triangle filter 3:1) of (N, C, H, W) to (N, C, 2H, 2W)."""
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


class JpegProxy(nn.Module):
    """Baseline JPEG, gray or YCbCr 4:2:0, with learned table shapes, or flat ones that stay.

    A table is `step * shape`, rounded into 1..255, where the shape's geometric mean is 1 for luma and
    free for chroma. Everything is in levels of 255 until the image is given back in 0..1.
    """

    dct: Tensor

    def __init__(self, color: bool, learned: bool = True) -> None:
        super().__init__()
        start = torch.tensor(STANDARD[0]).log()
        start = 0.4 * (start - start.mean()) if learned else torch.zeros(64)
        self.log_shapes = nn.Parameter(start.repeat(2 if color else 1, 1), requires_grad=learned)
        self.register_buffer("dct", torch.from_numpy(dct_matrix()), persistent=False)

    def shapes(self) -> Tensor:
        """(tables, 64) multipliers of the step, in row order (not zigzag)."""
        return (self.log_shapes - self.log_shapes[:1].mean()).exp()

    def tables(self, steps: Tensor) -> Tensor:
        """(N,) mean luma steps in levels -> (N, tables, 64) integer quantisation tables."""
        exact = (steps[:, None, None] * self.shapes()).clamp(1, 255)
        return straight_through(exact.round(), exact)

    @staticmethod
    def log_step(tables: Tensor) -> Tensor:
        """(N, tables, 64) -> (N, tables): what the decoder reads from the file and the networks see."""
        return tables.detach().log().mean(2)

    def forward(self, image: Tensor, tables: Tensor) -> tuple[Tensor, Tensor]:
        """image (N, 1 or 3, H, W) in 0..1, H and W multiples of 16 (8 for gray); tables (N, tables, 64).
        Returns the decoded image, 0..1, and the estimated size (N,) in bits without headers."""
        image = image.clamp(0, 1)  # as in a file; a gradient out here would drive pixels ever further
        luma, bits = self.plane(255 * image[:, :1], tables[:, 0])
        if image.shape[1] == 1:
            return luma / 255, bits
        chroma = F.avg_pool2d(255 * image[:, 1:], 2)
        planes = [luma]
        for k in range(2):
            plane, more = self.plane(chroma[:, k : k + 1], tables[:, 1])
            planes.append(enlarge_chroma(plane))
            bits = bits + more
        return torch.cat(planes, 1) / 255, bits

    def plane(self, image: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
        """One component (N, 1, H, W), 0..255, through DCT and quantiser; decoded plane and bits (N,)."""
        n, _, h, w = image.shape
        blocks = image.reshape(n, h // 8, 8, w // 8, 8).transpose(2, 3) - 128
        exact = (self.dct @ blocks @ self.dct.T).flatten(3) / table[:, None, None]
        offset = torch.full((64,), ROUNDING, device=image.device)
        offset[0] = 0.5
        levels = straight_through(exact.sign() * (exact.abs() + offset).floor(), exact)
        decoded = self.dct.T @ (levels * table[:, None, None]).unflatten(3, (8, 8)) @ self.dct + 128
        decoded = decoded.transpose(2, 3).reshape(n, 1, h, w)
        return straight_through(decoded.round(), decoded).clamp(0, 255), estimate_bits(exact, levels)


def estimate_bits(exact: Tensor, levels: Tensor) -> Tensor:
    """Bits (N,) of the coefficients (N, rows, columns, 64), in units of their steps, before and after rounding.

    The value is a fit to libjpeg's optimised Huffman coding of photographs: a cost for each significant
    AC coefficient (more where they are rare), for each doubling of its size, for each block's end, and
    for the DC differences.
    The gradient is that of log2(1 + |c|), which also moves what rounds to zero.
    """
    ac = levels[..., 1:].detach().abs()
    dc = levels[..., 0].detach()
    difference = torch.cat([dc[:, :, :1], dc[:, :, 1:] - dc[:, :, :-1]], 2).abs()
    significant = (ac > 0).float().sum((1, 2, 3))
    features = torch.stack([
        significant * (levels[0].numel() / (significant + 1)).log2(),
        significant,
        (1 + ac).log2().sum((1, 2, 3)),
        torch.full(ac.shape[:1], ac.shape[1] * ac.shape[2], device=ac.device),
        (1 + difference).log2().sum((1, 2)),
    ], 1)  # fmt: skip
    value = features @ torch.tensor(COST, device=ac.device)
    smooth = GRADIENT * (1 + exact.abs()).log2().sum((1, 2, 3))
    return straight_through(value, smooth)


COST = (0.354, 2.271, 1.600, 1.784, 1.111)
GRADIENT = 2.6
