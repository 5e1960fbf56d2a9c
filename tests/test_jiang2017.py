"""Jiang et al. 2017: the networks' sizes are the paper's, and each phase of Algorithm 1 trains what it says."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import picture, save_run
from torch import nn

from corec import models, wrap
from corec.codecs import jpeg
from corec.methods.jiang2017 import ComCNN, Method, RecCNN, Settings, quality_at
from corec.methods.layers import Downscale, Upscale
from corec.pipeline import compress_picture, decompress_picture, restore_picture
from corec.training.coding import plain_jpeg

STEPS = torch.tensor([30.0, 60.0])


def batch(planes: int, seed: int = 1) -> torch.Tensor:
    images = [picture(32, 32, planes == 1, seed + index).pixels.reshape(32, 32, planes) for index in range(2)]
    return torch.from_numpy(np.stack(images).transpose(0, 3, 1, 2)).float() / 255


def weights(module: nn.Module) -> int:
    """Of the convolutions, biases included."""
    return sum(p.numel() for m in module.modules() if isinstance(m, nn.Conv2d) for p in m.parameters())


@pytest.mark.parametrize(("planes", "compact", "reconstruct"), [(1, 38_145, 665_921), (3, 40_451, 668_227)])
def test_the_networks_have_the_papers_layers(planes: int, compact: int, reconstruct: int) -> None:
    assert weights(ComCNN(planes)) == compact
    # The paper counts biases that batch normalisation would only take away again.
    assert weights(RecCNN(planes, True)) == reconstruct - 18 * 64
    layers = list(RecCNN(planes, True).layers)
    assert [type(layer).__name__ for layer in layers] == [
        "Conv2d", "ReLU", *(["Conv2d", "BatchNorm2d", "ReLU"] * 18), "Conv2d",
    ]  # fmt: skip
    assert ComCNN(planes)(batch(planes), STEPS).shape == (2, planes, 16, 16)


def test_reconstruction_begins_as_bicubic_enlargement() -> None:
    small = batch(1)
    torch.testing.assert_close(RecCNN(1, True)(small, STEPS), Upscale(1)(small))
    torch.testing.assert_close(RecCNN(1, False)(small, STEPS), small)


def test_algorithm_1_ends_with_the_reconstruction_and_gives_compact_its_share() -> None:
    method = Method(Settings(rounds=3, opening=0.1, compact_share=0.25, compact_rate=0.5))
    phases = []
    for step in range(1000):
        method.begin(step / 1000)
        phases.append(method.phase)
        assert method.rate == (0.5 if method.phase == "compact" else 1)
    changes = [phase for before, phase in zip(["", *phases], phases, strict=False) if phase != before]
    assert changes == ["opening", *["reconstruct", "compact"] * 2, "reconstruct"]
    assert phases.count("opening") == 100
    assert phases.count("compact") == pytest.approx(2 * 0.25 * 300, abs=2)


@pytest.mark.parametrize("color", [False, True])
@pytest.mark.parametrize(("share", "learns"), [(0.0, "compact"), (0.3, "reconstruct"), (0.53, "compact")])
def test_each_phase_trains_one_network_and_leaves_the_other(color: bool, share: float, learns: str) -> None:
    torch.manual_seed(1)
    method = Method(Settings(color=color, opening=0.05, rounds=2))
    nn.init.normal_(method.reconstruct.layers[-1].weight, std=0.01)
    method.begin(share)
    before = {name: value.clone() for name, value in method.state_dict().items()}
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1)
    loss, facts = method(batch(3 if color else 1), STEPS)
    loss.backward()
    optimizer.step()
    changed = {name.split(".")[0] for name, value in method.state_dict().items() if not value.equal(before[name])}
    assert changed == {learns}
    assert all(torch.isfinite(value) for value in facts.values())


def test_the_reconstruction_is_given_what_the_codec_gives_back() -> None:
    torch.manual_seed(1)
    method = Method(Settings())
    method.begin(0.3)
    source = batch(1)
    received = method.received(source, STEPS.log()[:, None], "reconstruct")
    with torch.no_grad():
        compact = method.compact(source, STEPS)
    for index, step in enumerate(STEPS.tolist()):
        image = (compact[index] * 255).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
        expected = jpeg.decode(jpeg.encode(np.ascontiguousarray(image), step, method.shapes()))[0]
        np.testing.assert_array_equal((received[index] * 255).permute(1, 2, 0).numpy().round(), expected)
    assert not received.requires_grad


def test_the_codec_is_left_out_where_compact_learns() -> None:
    torch.manual_seed(1)
    method = Method(Settings(rounds=2))
    method.begin(0.53)
    received = method.received(batch(1), STEPS.log()[:, None], "compact")
    torch.testing.assert_close(received, method.compact(batch(1), STEPS).clamp(0, 1))
    assert received.requires_grad


def test_the_released_gradient_is_the_reduced_error_behind_the_codec() -> None:
    torch.manual_seed(1)
    method = Method(Settings(rounds=2, released=True))
    nn.init.normal_(method.reconstruct.layers[-1].weight, std=0.01)
    method.begin(0.53)
    source, log_steps = batch(1), STEPS.log()[:, None]
    compact = method.compact(source, log_steps).detach().requires_grad_()
    method.compact.forward = lambda picture, log_step: compact
    loss, _ = method(source, STEPS)
    loss.backward()
    with torch.no_grad():
        error = method.reconstruct(method.received(source, log_steps, "reconstruct"), log_steps) - source
    torch.testing.assert_close(compact.grad, 2 * Downscale(1)(error) / compact.numel())


@pytest.mark.parametrize("color", [False, True])
@torch.no_grad()
def test_where_compact_learns_its_image_may_be_kept_like_the_picture(color: bool) -> None:
    source, losses = batch(3 if color else 1), {}
    for likeness in (0.0, 2.0):
        torch.manual_seed(1)
        method = Method(Settings(color=color, rounds=2, released=True, likeness=likeness))
        method.begin(0.53)
        losses[likeness] = float(method(source, STEPS)[0])
    method.begin(0.0)
    opening = float(method(source, STEPS)[0])
    assert losses[2.0] - losses[0.0] == pytest.approx(2 * opening, rel=1e-4)


def test_the_opening_brings_what_is_enlarged_bicubically_near_the_picture() -> None:
    torch.manual_seed(1)
    method = Method(Settings())
    nn.init.normal_(method.reconstruct.layers[-1].weight, std=0.01)  # which is left out
    optimizer = torch.optim.Adam(method.parameters(), lr=1e-3)
    method.begin(0.0)
    losses = []
    for step in range(60):
        source = batch(1, step)
        loss, _ = method(source, STEPS)
        with torch.no_grad():
            error = (Upscale(1)(method.compact(source, STEPS)) - source).square().mean()
        torch.testing.assert_close(loss.detach(), error)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-10:]) < 0.2 * losses[0]


@pytest.mark.parametrize("quality", [5, 10, 25, 50, 75, 90])
def test_a_quality_is_found_by_its_step(quality: int) -> None:
    with jpeg.opened(plain_jpeg(np.zeros((8, 8, 1), np.uint8), quality=quality)) as file:
        table, standard = np.array(file.quantization[0]), np.array(jpeg.STANDARD[0])
    # The largest step that neither 255 nor rounding has touched much says by what the table was multiplied.
    at = np.where(table < 255, table, 0).argmax()
    assert abs(quality_at(table[at] / standard[at] * standard.mean()) - quality) <= 1


def test_alone_it_learns_from_plain_files() -> None:
    method = Method(Settings(half=False))
    assert method.compact is None
    received = method.received(batch(1), STEPS.log()[:, None], "reconstruct")
    image = (batch(1)[1] * 255).byte().permute(1, 2, 0).numpy()
    expected = jpeg.decode(plain_jpeg(image, quality=quality_at(60)))[0]
    np.testing.assert_array_equal((received[1] * 255).permute(1, 2, 0).numpy().round(), expected)


@pytest.mark.filterwarnings("ignore")  # PyTorch's, about its own exporter
@pytest.mark.parametrize("half", [True, False])
def test_a_trained_run_is_exported_and_used(half: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from corec.training.export import export

    torch.manual_seed(1)
    settings = {"half": half}
    method = Method(Settings(half=half))
    nn.init.normal_(method.reconstruct.layers[-1].weight, std=0.003)
    save_run(tmp_path, "jiang2017", settings, method)
    monkeypatch.setattr(models, "ZOO", tmp_path)
    monkeypatch.setattr(wrap, "ZOO", tmp_path)
    models.read_manifest.cache_clear()
    try:
        export(tmp_path, "jiang", zoo=tmp_path)
        source = picture(45, 51, True)
        if half:
            data = compress_picture(source, model="jiang", quality=50).data
            assert decompress_picture(data).pixels.shape == (45, 51)
            return
        plain = plain_jpeg(source.pixels[..., None], quality=5)
        restored = restore_picture(plain, "jiang").pixels
        decoded = torch.from_numpy(jpeg.decode(plain)[0].transpose(2, 0, 1)[None].copy()).float() / 255
        with torch.no_grad():
            expected = method.eval().reconstruct(decoded, STEPS)[0, 0].numpy() * 255
        inside = slice(21, -21)  # beyond the reach of the picture's edge, which tiles continue otherwise
        assert np.abs(restored - expected.clip(0, 255))[inside, inside].max() <= 1
    finally:
        models.read_manifest.cache_clear()
