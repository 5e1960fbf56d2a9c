"""Training: the same from the same recipe, stopped or not, in one process or two; and what it refuses."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from corec.errors import RecipeError
from corec.picture import Picture, read_picture, resized
from corec.pipeline import compress_picture
from corec.training import loop
from corec.training.data import Photographs, cut
from corec.training.loop import build, learning_rate, train
from corec.training.recipe import Recipe, fill

pytestmark = pytest.mark.usefixtures("usual_arithmetic")

SETTINGS = {"color": False, "half": True, "compact_width": 8, "compact_blocks": 1, "widths": [8, 8, 8]}
TINY = Recipe(method="joint", settings=SETTINGS, steps=6, batch=2, crop=32, warm_up=2)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """22 made-up pictures, soft and rough, so that one is held out."""
    folder, random = tmp_path_factory.mktemp("pictures"), np.random.default_rng(1)
    for index in range(22):
        rough = Image.fromarray(random.integers(0, 256, (6, 8, 3), np.uint8))
        rough.resize((72, 56), Image.Resampling.BICUBIC).save(folder / f"{index:02}.png")
    return folder


@pytest.fixture(scope="module")
def whole(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of TINY, trained without a stop."""
    run = tmp_path_factory.mktemp("whole")
    assert train(TINY, pictures, run) == TINY.steps
    return run


def state_of(run: Path) -> dict[str, Any]:
    return torch.load(run / "checkpoint.pt", weights_only=True)


def flat(state: Any) -> list[Any]:
    """The leaves of nested dictionaries and lists, in order."""
    if isinstance(state, dict):
        return [leaf for key in state if key != "seconds" for leaf in flat(state[key])]
    return [leaf for item in state for leaf in flat(item)] if isinstance(state, list | tuple) else [state]


def same(one: Any, other: Any) -> bool:
    pairs = list(zip(flat(one), flat(other), strict=True))
    return all(torch.equal(a, b) if isinstance(a, Tensor) else a == b for a, b in pairs)


def test_a_resumed_run_is_bit_identical_to_an_uninterrupted_one(whole: Path, pictures: Path, tmp_path: Path) -> None:
    done = [train(TINY, pictures, tmp_path, minutes=0) for _ in range(TINY.steps)]
    assert done == [1, 2, 3, 4, 5, 6]  # a single step each: no time is less than none
    assert same(state_of(whole), state_of(tmp_path))


def test_every_weight_is_trained_and_another_seed_gives_others(whole: Path, pictures: Path, tmp_path: Path) -> None:
    torch.manual_seed(TINY.seed)
    start = build(TINY).state_dict()
    assert all(not torch.equal(start[name], value) for name, value in state_of(whole)["method"].items())
    train(replace(TINY, seed=2), pictures, tmp_path)
    assert not same(state_of(whole)["method"], state_of(tmp_path)["method"])


def test_a_finished_run_is_left_alone(whole: Path, pictures: Path) -> None:
    before = (whole / "checkpoint.pt").read_bytes()
    assert train(TINY, pictures, whole) == TINY.steps
    assert (whole / "checkpoint.pt").read_bytes() == before


def test_minutes_stop_a_run_and_its_work_is_kept(pictures: Path, tmp_path: Path) -> None:
    done = train(replace(TINY, steps=100_000), pictures, tmp_path, minutes=0.5 / 60)
    assert 1 <= done < 100_000
    assert state_of(tmp_path)["step"] == done


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_behind_its_step(
    whole: Path, pictures: Path, tmp_path: Path, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, steps = loop.forward, []

    def forward(*given: Any) -> Any:
        steps.append(len(steps))
        if len(steps) == 3:
            signal.raise_signal(number)
        return real(*given)

    before = signal.getsignal(number)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "forward", forward)
        train(TINY, pictures, tmp_path)
    assert state_of(tmp_path)["step"] == 3 and signal.getsignal(number) == before
    train(TINY, pictures, tmp_path)
    assert same(state_of(whole), state_of(tmp_path))


def test_a_full_disk_is_one_line_and_leaves_the_last_checkpoint(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(TINY, pictures, tmp_path, minutes=0)
    before = (tmp_path / "checkpoint.pt").read_bytes()

    def full(state: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise RuntimeError("unexpected pos 64 vs 0")  # what PyTorch says

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(RecipeError, match=r"checkpoint.pt cannot be written: is there no more room\?"):
        train(TINY, pictures, tmp_path)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before
    assert not (tmp_path / "checkpoint.partial").exists()


def test_a_stop_while_writing_leaves_the_last_whole_checkpoint(
    whole: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(TINY, pictures, tmp_path, minutes=0)
    before = (tmp_path / "checkpoint.pt").read_bytes()

    def half(state: object, path: Path) -> None:
        path.write_bytes(before[: len(before) // 2])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(torch, "save", half)
        train(TINY, pictures, tmp_path)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before
    train(TINY, pictures, tmp_path)
    assert same(state_of(whole), state_of(tmp_path))


def test_held_out_pictures_are_measured_with_every_checkpoint(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0)
    reported: list[tuple[int, dict[str, float]]] = []
    train(TINY, pictures, tmp_path, report=lambda step, facts: reported.append((step, facts)))
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    measured = [line for line in lines if "validation_psnr" in line]
    assert [line["step"] for line in measured] == [1, 2, 3, 4, 5, 6]
    assert all(10 < line["validation_psnr"] < 60 for line in measured)
    assert [step for step, _ in reported] == [line["step"] for line in lines]
    assert [line["step"] for line in lines if "psnr" in line] == [6]


def test_a_resumed_log_has_every_step_once(pictures: Path, tmp_path: Path) -> None:
    train(TINY, pictures, tmp_path, minutes=0)
    log = tmp_path / "log.jsonl"
    with log.open("a") as file:  # as after a kill between two checkpoints, while writing
        file.write('{"step": 5, "seconds": 9}\n{"step": 6, "se')
    train(TINY, pictures, tmp_path)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 6, 6]


def test_the_average_follows_the_weights_ever_more_slowly(pictures: Path, tmp_path: Path) -> None:
    torch.manual_seed(TINY.seed)
    expected = build(TINY).state_dict()
    for step in range(1, 4):
        train(TINY, pictures, tmp_path, minutes=0)
        state = state_of(tmp_path)
        for name, value in state["method"].items():
            expected[name] = expected[name] + (value - expected[name]) * 10 / (step + 10)
    assert all(torch.allclose(state["average"][name], value, atol=1e-7) for name, value in expected.items())


def test_validation_is_of_the_averaged_weights_and_leaves_no_trace(whole: Path, pictures: Path) -> None:
    held_out = Photographs(pictures, color=False).validation_batch(32, 9)
    assert held_out is not None and held_out.shape == (1, 1, 32, 32)
    averaged, method = build(TINY), build(TINY)
    averaged.load_state_dict(state_of(whole)["average"])
    before = {name: value.clone() for name, value in method.state_dict().items()}
    found = loop.validate(method, state_of(whole)["average"], held_out, torch.device("cpu"))
    draws = averaged.draw_steps(1, torch.Generator().manual_seed(0))
    assert float(found["validation_psnr"]) == pytest.approx(float(averaged(held_out, draws)[1]["psnr"]), abs=1e-4)
    assert same(before, method.state_dict()) and method.training


def test_validation_draws_the_same_every_time(whole: Path, pictures: Path) -> None:
    """Codecs of crops too, which are drawn within a step."""
    settings = {**SETTINGS, "codec": "webp", "also": ["jpeg2000"], "real": 1.0}
    method = build(replace(TINY, settings=settings))
    method.begin(0.5)
    crops = torch.rand(6, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    found = []
    for seed in (1, 2, 3):
        torch.manual_seed(seed)
        found.append(float(loop.validate(method, method.state_dict(), crops, torch.device("cpu"))["validation_loss"]))
        assert torch.initial_seed() == seed
    assert len(set(found)) == 1


def test_another_recipe_cannot_continue_a_run(whole: Path, pictures: Path) -> None:
    for other in (
        replace(TINY, seed=2),
        replace(TINY, steps=7),
        replace(TINY, settings={**SETTINGS, "widths": [8, 12, 8]}),
    ):
        with pytest.raises(RecipeError, match="another recipe"):
            train(other, pictures, whole)


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[:500], lambda data: b"PK" + bytes(99)])
def test_a_damaged_checkpoint_is_a_clear_error(
    damage: Callable[[bytes], bytes], whole: Path, pictures: Path, tmp_path: Path
) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(damage((whole / "checkpoint.pt").read_bytes()))
    with pytest.raises(RecipeError, match=r"checkpoint\.pt"):
        train(TINY, pictures, tmp_path)
    (tmp_path / "checkpoint.pt").unlink()
    (tmp_path / "checkpoint.pt").mkdir()
    with pytest.raises(RecipeError, match=r"checkpoint\.pt cannot be read: "):
        train(TINY, pictures, tmp_path)


def test_a_checkpoint_of_other_networks_is_a_clear_error(whole: Path, pictures: Path, tmp_path: Path) -> None:
    state = state_of(whole)
    del state["method"]["compact.head.weight"]
    torch.save(state, tmp_path / "checkpoint.pt")
    with pytest.raises(RecipeError, match="does not fit"):
        train(TINY, pictures, tmp_path)


def test_a_run_can_start_from_the_weights_of_another(whole: Path, pictures: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "first")
    wider = {**SETTINGS, "compact_width": 12}
    second = replace(TINY, settings=wider, start_from="first", learning_rate=0.0)
    train(second, pictures, tmp_path / "second", minutes=0)
    kept, first = state_of(tmp_path / "second")["method"], state_of(whole)["average"]
    assert torch.equal(kept["reconstruct.head.weight"], first["reconstruct.head.weight"])
    assert kept["compact.head.weight"].shape != first["compact.head.weight"].shape
    with pytest.raises(RecipeError, match=r"missing/checkpoint\.pt"):
        train(replace(second, start_from="missing"), pictures, tmp_path / "third")
    other = Recipe("zhao2017", {"filters": 5}, 6, batch=2, crop=32, start_from="first")
    with pytest.raises(RecipeError, match=r"first/checkpoint\.pt has no weights that fit"):
        train(other, pictures, tmp_path / "third")


def test_other_data_cannot_continue_a_run(whole: Path, pictures: Path, tmp_path: Path) -> None:
    shutil.copytree(pictures, tmp_path / "others")
    with pytest.raises(RecipeError, match=r"has seen .*: use another run folder"):
        train(TINY, tmp_path / "others", whole)
    shutil.copytree(pictures, tmp_path / pictures.name)
    run = shutil.copytree(whole, tmp_path / "run")
    train(TINY, tmp_path / pictures.name, run)
    first = sorted((tmp_path / pictures.name).iterdir())[0]
    first.rename(first.with_name("zz.png"))  # by their order it is that some are held out
    with pytest.raises(RecipeError, match=r"other names, and others were held out: use another run folder"):
        train(TINY, tmp_path / pictures.name, run)


def test_a_loss_that_is_not_finite_stops_the_run(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="not finite"):
        train(replace(TINY, learning_rate=1e30, steps=20), pictures, tmp_path)
    assert not (tmp_path / "checkpoint.pt").exists()


def test_weights_that_are_not_finite_are_not_kept(
    whole: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(replace(TINY, steps=3), pictures, tmp_path, minutes=0)
    before = (tmp_path / "checkpoint.pt").read_bytes()
    # The loss is that of the weights before the step, and still finite.
    monkeypatch.setattr(
        loop.nn.utils, "clip_grad_norm_", lambda weights, most: next(iter(weights)).grad.fill_(torch.nan)
    )
    with pytest.raises(RecipeError, match="not finite"):
        train(replace(TINY, steps=3), pictures, tmp_path, minutes=0)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


def test_training_pictures_are_read_as_compress_reads_them(tmp_path: Path) -> None:
    deep = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "._hidden.png").write_bytes(b"no picture")
    (held,) = Photographs(tmp_path, color=False).training
    np.testing.assert_array_equal(held[..., 0], read_picture(tmp_path / "deep.png").pixels)
    assert held.min() == 0 and held.max() == 255 and 120 < held.mean() < 135


def test_unusable_data_is_a_clear_error(pictures: Path, tmp_path: Path) -> None:
    for name, picture, color in (("none", None, False), ("gray", Image.new("L", (40, 40)), True)):
        folder = tmp_path / name
        folder.mkdir()
        if picture:
            picture.save(folder / "a.png")
        with pytest.raises(RecipeError, match=r"no .*pictures"):
            train(replace(TINY, settings={**SETTINGS, "color": color}), folder, tmp_path / "run")
    ours = compress_picture(Picture(np.zeros((40, 40), np.uint8)), codec="jpeg", model="plain", quality=50)
    (tmp_path / "none" / "a.png").write_bytes(ours.data)
    with pytest.raises(RecipeError, match=r"training picture .*a\.png: the file was written by Corec"):
        train(TINY, tmp_path / "none", tmp_path / "run")
    (tmp_path / "none" / "a.png").write_bytes(b"not a picture")
    with pytest.raises(RecipeError, match=r"training picture .*a\.png"):
        train(TINY, tmp_path / "none", tmp_path / "run")
    with pytest.raises(RecipeError, match="run folder"):
        train(TINY, pictures, tmp_path / "none" / "a.png")


def test_batches_depend_on_seed_and_step_alone(pictures: Path) -> None:
    photographs = Photographs(pictures, color=True)
    assert len(photographs.training) == 21 and len(photographs.validation) == 1
    batch = photographs.batch(5, 3, 32, seed=1)
    assert batch.shape == (3, 3, 32, 32) and batch.min() >= 0 and batch.max() <= 1
    assert torch.equal(batch, Photographs(pictures, color=True).batch(5, 3, 32, seed=1))
    assert not torch.equal(batch, photographs.batch(6, 3, 32, seed=1))
    assert not torch.equal(batch, photographs.batch(5, 3, 32, seed=2))


def test_enlarged_crops_are_smoother(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
    for name in "ab":
        Image.fromarray(noise).save(tmp_path / f"{name}.png")
    photographs = Photographs(tmp_path, color=True)
    shares = [0.0, 0.5, 1.0]
    batches = [photographs.batch(5, 8, 32, seed=1, enlarged=share) for share in shares]
    assert {batch.shape for batch in batches} == {(8, 3, 32, 32)}
    steps = [batch.diff(dim=3).square().mean((1, 2, 3)) for batch in batches]
    assert steps[2].max() < 0.8 * steps[0].min()
    assert steps[1].min() < 0.8 * steps[0].min() and steps[1].max() > steps[2].max()
    whole = np.concatenate([resized(noise[at : at + 24, at : at + 24], 32, 32) for at in range(0, 40, 4)])
    expected = np.square(np.diff(whole.astype(float) / 255, axis=1)).mean()
    assert steps[2].mean() == pytest.approx(expected, rel=0.05)


def test_a_run_has_the_enlarged_crops_that_its_recipe_asks_for(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor] = []
    forward = loop.forward
    monkeypatch.setattr(loop, "forward", lambda *facts: seen.append(facts[1]) or forward(*facts))
    for enlarged in (0.0, 1.0):
        train(replace(TINY, enlarged=enlarged), pictures, tmp_path / str(enlarged), minutes=0)
    photographs = Photographs(pictures, color=TINY.settings.get("color", False))
    whole, larger = (photographs.batch(0, TINY.batch, TINY.crop, TINY.seed, share) for share in (0.0, 1.0))
    first, _, second, _ = seen  # every other one is what is held out
    assert torch.equal(first, whole) and torch.equal(second, larger) and not torch.equal(whole, larger)


def test_pictures_smaller_than_a_crop_are_continued_by_reflection() -> None:
    picture = np.arange(20 * 30, dtype=np.uint8).reshape(20, 30, 1)
    crop = cut(picture, 32, np.random.default_rng(1))
    assert crop.shape == (32, 32, 1)
    assert np.array_equal(crop[20:], crop[8:20][::-1])


def test_learning_rate_warms_up_and_falls_to_zero() -> None:
    recipe = replace(TINY, steps=1000, warm_up=100, learning_rate=2e-3)
    rates = [learning_rate(recipe, step) for step in range(1001)]
    assert rates[0] == pytest.approx(2e-3 / 100)
    assert rates[500] == pytest.approx(1e-3)
    assert rates[1000] == pytest.approx(0, abs=1e-12)
    assert max(rates) < 2e-3
    top = rates.index(max(rates))
    assert 95 <= top <= 100
    assert rates[:top] == sorted(rates[:top]) and rates[top:] == sorted(rates[top:], reverse=True)
    assert learning_rate(replace(recipe, warm_up=0), 0) == pytest.approx(2e-3)


def test_a_recipe_survives_being_stored(whole: Path) -> None:
    assert fill(Recipe, state_of(whole)["recipe"], "checkpoint") == TINY


@pytest.mark.parametrize("color", [False, True], ids=["gray", "color"])
@pytest.mark.parametrize("half", [False, True], ids=["full", "half"])
def test_the_likeness_holds_the_compact_image_near_the_picture(half: bool, color: bool) -> None:
    method = build(replace(TINY, settings={**SETTINGS, "color": color, "half": half}))
    batch = torch.rand(2, 3 if color else 1, 32, 32, generator=torch.Generator().manual_seed(1))
    steps = torch.tensor([20.0, 40.0])
    _, facts = method(batch, steps)
    assert facts["likeness"] > 100  # dB: before training it is the plain reduction
    torch.nn.init.constant_(method.compact.tail.bias, 0.1)
    loss, facts = method(batch, steps)
    assert float(facts["likeness"]) == pytest.approx(20, abs=0.01)
    loss.backward()
    assert method.compact.tail.bias.grad.abs().min() > 0


def test_steps_are_drawn_over_the_whole_range_in_proportion() -> None:
    method = build(TINY)
    draws = method.draw_steps(4000, torch.Generator().manual_seed(1))
    assert draws.min() >= 8 and draws.max() <= 80.001
    assert float((draws < 640**0.5).float().mean()) == pytest.approx(0.5, abs=0.03)  # half below the geometric mean


def test_two_processes_train_what_one_does(whole: Path, pictures: Path, tmp_path: Path) -> None:
    if not torch.distributed.is_available() or not torch.distributed.is_gloo_available():
        pytest.skip("this PyTorch has no gloo")
    script = tmp_path / "two.py"
    script.write_text(
        "from pathlib import Path\n"
        "from corec.training import loop\n"
        "from corec.training.recipe import Recipe\n"
        "loop.has_bf16 = lambda: False\n"
        f"loop.train(Recipe(**{vars(TINY)!r}), Path({str(pictures)!r}), Path({str(tmp_path / 'run')!r}))\n"
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    runs = [
        subprocess.Popen(
            [sys.executable, str(script)],
            env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        errors = [process.communicate(timeout=120)[1] for process in runs]
    finally:
        for process in runs:
            process.kill()
    assert [process.returncode for process in runs] == [0, 0], errors
    one, two = state_of(whole)["average"], state_of(tmp_path / "run")["average"]
    for name, value in one.items():
        assert torch.allclose(value, two[name], atol=2e-4), name


@pytest.mark.parametrize("fast", [False, True])
def test_networks_compute_in_bf16_where_that_is_fast(fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "has_bf16", lambda: fast)
    method = build(TINY)
    seen = []
    method.reconstruct.tail.register_forward_hook(lambda module, given, result: seen.append(result.dtype))
    loss, _ = loop.forward(method, torch.rand(1, 1, 32, 32), torch.tensor([20.0]))
    assert seen == [torch.bfloat16 if fast else torch.float32] and loss.dtype == torch.float32


@pytest.mark.parametrize("fast", [False, True])
def test_optimizers_multiply_in_bf16_where_that_is_fast(
    fast: bool, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    class Products(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            seen.append((torch.eye(2) @ torch.eye(2)).dtype)

    monkeypatch.setattr(loop, "has_bf16", lambda: fast)
    monkeypatch.setattr(loop, "optimizers_for", lambda method, recipe: [Products(method.parameters())])
    train(replace(TINY, steps=1), pictures, tmp_path)
    assert seen == [torch.bfloat16 if fast else torch.float32]


def test_the_tiniest_numbers_are_zero_while_training(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a run gets slower with every step."""
    seen = []
    monkeypatch.setattr(loop, "optimizers_for", lambda *_: seen.append(float(torch.tensor(1e-38) / 1e3)) or [])
    train(replace(TINY, steps=1), pictures, tmp_path)
    assert seen == [0.0] and float(torch.tensor(1e-38) / 1e3) > 0
