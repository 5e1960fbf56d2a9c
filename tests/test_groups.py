"""Groups of latents: where their contexts begin, and what these and latents learn from."""

import torch

from corec.methods.densities import noisy
from corec.methods.groups import Groups, rounded
from corec.methods.integers import BENDS


@torch.no_grad()
def test_contexts_begin_with_the_scales_that_latents_have() -> None:
    groups, spread = Groups((1, 4), 3, 5, 64), torch.tensor([12.0, 6.0, 3.0, 1.0])
    for context in groups.each:
        context.last.weight.zero_()  # by itself it moves them a little
    growth = torch.linspace(0, 2, len(BENDS)).exp() * torch.linspace(0, 1, len(BENDS)).square().exp()
    groups.start_with(spread * growth[:, None])
    for at, level in enumerate(BENDS):
        _, index = groups.expected(torch.zeros(1, 4, 3, 3), torch.tensor([float(level)]), rounded)
        expected = groups.density.index_of(growth[at] * spread)
        assert (index[0, :, 1, 1] - expected).abs().max() < 1


def test_what_latents_and_contexts_learn_from() -> None:
    """Latents from noise, by densities as they are, and as if they came through; contexts from symbols and noise."""
    torch.manual_seed(1)
    groups, level = Groups((1, 4), 3, 5, 64), torch.tensor([3.0])
    groups.start_with(torch.full((len(BENDS), 4), 3.0))
    scaled = (4 * torch.randn(1, 4, 6, 6)).requires_grad_()
    bits, received = groups(scaled, level, rounded)
    assert (received - scaled).abs().max() <= 0.5
    assert torch.autograd.grad(received.sum(), scaled, retain_graph=True)[0].eq(1).all()
    means, index = groups.expected(scaled.detach(), level, rounded)
    slope = torch.autograd.grad(bits.sum(), scaled, retain_graph=True)[0]
    near = (scaled.detach() - means.detach() / 16).requires_grad_()
    slopes = [torch.autograd.grad(groups.density.bits(noisy(near), index.detach()).sum(), near)[0] for _ in range(400)]
    typical = torch.stack(slopes)
    assert ((slope - typical.mean(0)).abs() < 6 * typical.std(0) + 1e-3).all() and slope.abs().mean() > 0.05
    exact = groups.density.bits((scaled.detach() - means / 16).round(), index)
    torch.testing.assert_close(bits, exact)
    bits.sum().backward()
    assert all(parameter.grad is not None for parameter in groups.parameters())
    with torch.no_grad():
        torch.testing.assert_close(groups.eval()(scaled, level, rounded)[0], exact)
