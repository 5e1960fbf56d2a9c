"""Muon: orthogonal steps, for the weights of convolutions alone."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from corec.errors import RecipeError
from corec.training.loop import build, optimizers_for, train
from corec.training.muon import LENGTH, Muon, fits, orthogonal
from corec.training.recipe import Recipe

pytestmark = pytest.mark.usefixtures("usual_arithmetic")

SETTINGS = {"half": True, "compact_width": 16, "compact_blocks": 1, "widths": [16, 16, 16]}
MUON = Recipe(method="joint", settings=SETTINGS, steps=4, batch=2, crop=32, warm_up=1, optimizer="muon")


@pytest.mark.parametrize("shape", [(16, 144), (96, 24), (32, 32)])
def test_a_matrix_becomes_nearly_orthogonal_and_keeps_its_directions(shape: tuple[int, int]) -> None:
    torch.manual_seed(1)
    matrix = torch.randn(shape) * torch.logspace(-2, 2, shape[1])
    u, singular, v = torch.linalg.svd(matrix, full_matrices=False)
    found = u.T @ orthogonal(matrix) @ v.T
    kept = singular > 1e-2 * singular[0]  # far smaller ones want more rounds
    assert kept.sum() > 5
    assert ((found.diag()[kept] > 0.6) & (found.diag()[kept] < 1.3)).all()
    assert (found - torch.diag(found.diag())).abs().max() < 1e-3


def test_steps_have_the_same_length_whatever_the_gradient() -> None:
    torch.manual_seed(1)
    lengths = []
    for size in (1e-4, 1e4):
        weight = nn.Parameter(torch.zeros(32, 16, 3, 3))
        weight.grad = torch.randn_like(weight) * size
        Muon([weight], lr=0.01).step()
        lengths.append(float(weight.detach().square().mean().sqrt()))
    assert lengths == pytest.approx([0.01 * LENGTH] * 2, rel=0.2)


def test_a_convolution_is_learned() -> None:
    torch.manual_seed(1)
    wanted, own = (nn.Conv2d(16, 16, 3) for _ in range(2))
    optimizer = Muon([own.weight], lr=0.05)
    losses = []
    for step in range(60):
        optimizer.param_groups[0]["lr"] = 0.05 * (1 - step / 60)
        inputs = torch.randn(4, 16, 12, 12)
        loss = nn.functional.conv2d(inputs, wanted.weight - own.weight).square().mean()
        own.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.01 * losses[0]


def test_every_weight_has_one_optimizer_and_convolutions_have_muon() -> None:
    method = build(MUON)
    adam, muon = optimizers_for(method, MUON)
    shared = [[id(p) for group in optimizer.param_groups for p in group["params"]] for optimizer in (adam, muon)]
    assert sorted(shared[0] + shared[1]) == sorted(id(p) for p in method.parameters())
    assert {id(p) for p in method.parameters() if fits(p)} == set(shared[1])
    assert id(method.reconstruct.fine[0].inner.weight) in shared[1]
    assert len(optimizers_for(method, replace(MUON, optimizer="adam"))) == 1
    assert len(optimizers_for(nn.Linear(20, 20), MUON)) == 1  # without convolutions


def test_a_resumed_run_is_bit_identical_to_an_uninterrupted_one(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    for index in range(3):
        Image.fromarray(random.integers(0, 256, (48, 48), np.uint8)).save(tmp_path / f"{index}.png")
    assert train(MUON, tmp_path, tmp_path / "whole") == 4
    assert [train(MUON, tmp_path, tmp_path / "parts", minutes=0) for _ in range(4)] == [1, 2, 3, 4]
    whole, parts = (torch.load(tmp_path / run / "checkpoint.pt", weights_only=True) for run in ("whole", "parts"))
    assert len(whole["optimizer"]) == 2
    assert all(torch.equal(whole["method"][name], weight) for name, weight in parts["method"].items())


def test_convolutions_may_learn_slower_than_all_else(tmp_path: Path) -> None:
    for index in range(3):
        Image.fromarray(np.random.default_rng(index).integers(0, 256, (48, 48), np.uint8)).save(
            tmp_path / f"{index}.png"
        )
    for share, run in ((0.0, "none"), (1e-3, "little"), (1.0, "much")):
        train(replace(MUON, convolutions=share), tmp_path, tmp_path / run)
    none, little, much = (
        torch.load(tmp_path / run / "checkpoint.pt", weights_only=True)["method"] for run in ("none", "little", "much")
    )
    name = "reconstruct.fine.0.inner.weight"
    ways = [(run[name] - none[name]).norm() for run in (little, much)]
    assert 0 < ways[0] < 0.01 * ways[1]
    bias = "reconstruct.fine.0.inner.bias"
    assert (none[bias] - build(MUON).state_dict()[bias]).abs().max() > 1e-4


def test_an_unknown_optimizer_is_refused() -> None:
    with pytest.raises(RecipeError, match="adam or muon"):
        replace(MUON, optimizer="sgd")
    for wrong in ({"convolutions": -1.0}, {"convolutions": 0.5, "optimizer": "adam"}):
        with pytest.raises(RecipeError, match="convolutions must be"):
            replace(MUON, **wrong)  # type: ignore[arg-type]
