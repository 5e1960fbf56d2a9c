"""Muon, for the weights of convolutions: every step of the running gradient is made orthogonal before it is taken.

Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"; that a step's length does not depend on
a weight's shape is from Liu et al. 2025, "Muon is Scalable for LLM Training" (arXiv 2502.16982). torch.optim.Muon takes
matrices only and computes in bf16, which most processors do slowly; here the training loop says whether to.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

QUINTIC = (3.4445, -4.775, 2.0315)
"""Coefficients of the odd polynomial that, taken five times, brings singular values near 1 (Jordan et al.)."""
ROUNDS = 5
SMALLEST = 16
"""Fewer rows or columns than this, and a weight is left to Adam."""
LENGTH = 0.6
"""Root mean square of a step's elements over the learning rate. Adam's is about 0.2."""


def fits(weight: Tensor) -> bool:
    """Whether a weight is a convolution's and large enough."""
    return weight.ndim == 4 and min(len(weight), weight[0].numel()) >= SMALLEST


class Muon(torch.optim.Optimizer):
    """Steps for weights (M, N, kernel, kernel), which are matrices (M, N * kernel * kernel) to it.

    share: by what whoever sets lr is to multiply it.
    """

    def __init__(self, weights: Iterable[Tensor], lr: float, share: float = 1.0, momentum: float = 0.95) -> None:
        super().__init__(weights, {"lr": lr * share, "share": share, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """Move every weight that has a gradient; a closure is not supported."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["momentum"] = torch.zeros_like(weight)
                state["momentum"].lerp_(weight.grad, 1 - group["momentum"])
                direction = weight.grad.lerp(state["momentum"], group["momentum"])  # Nesterov's
                change = orthogonal(direction.flatten(1)).view_as(weight)
                weight.sub_(change, alpha=group["lr"] * LENGTH * max(len(weight), weight[0].numel()) ** 0.5)


def orthogonal(matrix: Tensor) -> Tensor:
    """About U V^T for a matrix U S V^T: the rounds, of Newton and Schulz, leave singular values of 0.7 to 1.2."""
    if len(matrix) > matrix.shape[1]:
        return orthogonal(matrix.T).T
    a, b, c = QUINTIC
    x = matrix / (matrix.norm() + 1e-12)
    for _ in range(ROUNDS):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x
