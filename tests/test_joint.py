"""Training the joint networks: on files that are suited to their pictures, and around several codecs."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from corec.errors import RecipeError
from corec.methods import joint
from corec.suit import Suit


def method(half: bool, color: bool, rounds: int) -> joint.Method:
    torch.manual_seed(1)
    made = joint.Method(joint.Settings(color=color, half=half, real=1.0, rounds=rounds, widths=(8, 12, 16)))
    torch.nn.init.normal_(made.reconstruct.tail.weight, std=0.03)
    made.begin(0.0)
    return made


@pytest.mark.parametrize(("half", "color"), [(True, False), (False, True)])
def test_a_view_tells_the_slope_of_its_errors(half: bool, color: bool) -> None:
    made, planes = method(half, color, 1), 3 if color else 1
    random = np.random.default_rng(1)
    image = random.random((32, 32, planes), np.float32)
    picture, log_step = torch.rand(planes, 32 * made.scale, 32 * made.scale), torch.full((1 + color,), 3.0)
    seen = made.view(image, True, picture, log_step)
    blind = made.view(image, False, picture, log_step)
    np.testing.assert_allclose(blind.errors, seen.errors)
    assert not blind.slope.any()
    assert seen.errors.shape == (32, 32) and seen.slope.shape == image.shape
    change = np.float32(1e-3) * random.standard_normal(image.shape, np.float32)
    more, less = (made.view(image + sign * change, False, picture, log_step).errors.sum() for sign in (1, -1))
    assert (more - less) / 2 == pytest.approx(float((seen.slope * change).sum()), rel=0.02)
    with torch.no_grad():
        restored = made.restored(torch.from_numpy(image.transpose(2, 0, 1)[None]), log_step[None])[0]
    assert seen.errors.sum() == pytest.approx(float((restored - picture).square().mean(0).sum()), rel=1e-4)


def test_every_other_file_is_suited(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Suit] = []
    monkeypatch.setattr(joint, "Suit", lambda *facts: made.append(Suit(*facts)) or made[-1])
    batch, steps = torch.rand(4, 1, 32, 32), torch.full((4,), 20.0)
    loss, facts = method(False, False, 2)(batch, steps)
    assert len(made) == 2 and all(suit.best is not suit.first for suit in made)
    assert all(suit.best.error < suit.first.error for suit in made)
    loss.backward()
    plain = method(False, False, 0)(batch, steps)[1]
    assert facts["psnr"] > plain["psnr"] and len(made) == 2


def test_rounds_are_for_jpeg_files() -> None:
    with pytest.raises(RecipeError, match="JPEG alone"):
        joint.Settings(codec="webp", rounds=1)


def test_networks_around_jpeg_are_for_it_alone() -> None:
    for codec, other in (("jpeg", "webp"), ("webp", "jpeg")):
        with pytest.raises(RecipeError, match="for it alone"):
            joint.Settings(codec=codec, also=(other,))


def test_luma_is_restored_first_where_files_are_real() -> None:
    usual = {"codec": "bpg", "color": True, "half": False, "real": 1.0, "luma": "gray-full"}
    joint.Settings(**usual)  # type: ignore[arg-type]
    for other in ({"codec": "jpeg"}, {"color": False}, {"half": True}, {"real": 0.9}):
        with pytest.raises(RecipeError, match="luma may be restored first"):
            joint.Settings(**usual | other)  # type: ignore[arg-type]


def test_bare_codecs_are_some_of_those_of_full_size() -> None:
    for wrong in (joint.Settings(half=False), joint.Settings(codec="bpg")):
        with pytest.raises(RecipeError, match="bare"):
            replace(wrong, bare=("bpg",))


def test_both_codecs_take_part_in_training() -> None:
    made = joint.Method(joint.Settings(codec="webp", also=("jpeg2000",), real=1.0, widths=(4, 6, 8)))
    written: list[str] = []

    def spied(codec: Any) -> Any:
        def encode(*given: Any) -> bytes:
            written.append(codec.NAME)
            return bytes(codec.encode(*given))

        return SimpleNamespace(encode=encode, condition=codec.condition)

    made.codecs = [spied(codec) for codec in made.codecs]
    made.begin(0.5)
    torch.manual_seed(1)
    made(torch.rand(12, 1, 32, 32), torch.full((12,), 30.0))
    assert set(written) == {"webp", "jpeg2000"} and len(written) == 12
