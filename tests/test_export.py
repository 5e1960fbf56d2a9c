"""From a training run into the list of models: what export writes, replaces and refuses."""

import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import picture, save_run

from corec import color, wrap
from corec import models as models_module
from corec.codecs.registry import codec_named
from corec.errors import FileError, ModelError, RecipeError
from corec.evaluation.contenders import contender
from corec.models import model_named, model_numbered, read_manifest
from corec.pipeline import compress_picture, decompress_picture
from corec.training import manifest


@pytest.fixture
def new_zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder, where models are exported to and looked for."""
    folder = tmp_path / "zoo"
    folder.mkdir()
    for module in (models_module, wrap):
        monkeypatch.setattr(module, "ZOO", folder)
    read_manifest.cache_clear()
    yield folder
    read_manifest.cache_clear()


@pytest.mark.filterwarnings("ignore")  # PyTorch's, about its own exporter
def test_networks_for_several_codecs_are_as_many_models_of_the_same_files(tmp_path: Path, new_zoo: Path) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("torch")
    from corec.methods.joint import Method, Settings
    from corec.training.export import export

    also = ("jxl", "jpeg2000")  # of which the first has JPEG's models
    settings = {"codec": "webp", "also": also, "compact_width": 4, "widths": (4, 6, 8), "color": True}
    save_run(tmp_path, "joint", settings, Method(Settings(**settings)))  # type: ignore[arg-type]
    assert export(tmp_path, "all", 7, default=True, zoo=new_zoo) == {"webp-all": 7, "jpeg2000-all": 8}
    assert {path.name for path in new_zoo.iterdir()} == {"manifest.toml", "all.compact.onnx", "all.reconstruct.onnx"}
    source = picture(40, 51, gray=False)
    assert (model_named("webp-all").which, model_named("jpeg2000-all").which) == ((1, 0, 0), (0, 0, 1))
    for name, codec in (("webp-all", "webp"), ("jpeg2000-all", "jpeg2000")):
        made = compress_picture(source, model=name, quality=40)
        assert (made.model, made.codec) == (name, codec)
        assert decompress_picture(made.data).pixels.shape == (40, 51, 3)


def test_networks_around_jpeg_are_a_model_for_jpeg_xl_too(tmp_path: Path, new_zoo: Path) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("torch")
    pytest.importorskip("imagecodecs")
    from corec.methods.joint import Method, Settings
    from corec.training.export import export

    settings = {"compact_width": 4, "widths": (4, 6, 8)}
    save_run(tmp_path, "joint", settings, Method(Settings(**settings)))  # type: ignore[arg-type]
    assert export(tmp_path, "jpeg-tiny", zoo=new_zoo) == {"jpeg-tiny": 1, "jxl-tiny": 2}
    assert export(tmp_path, "other", zoo=new_zoo) == {"other": 3, "jxl-other": 4}
    own, carried = model_named("jpeg-tiny"), model_named("jxl-tiny")
    same = {"name": own.name, "number": own.number, "codec": own.codec}
    assert replace(carried, **same) == own and carried.codec == "jxl"
    source = picture(40, 51, gray=True)
    files = [compress_picture(source, model=name, size=400, effort=2).data for name in ("jpeg-tiny", "jxl-tiny")]
    assert max(map(len, files)) <= 400 and all(decompress_picture(file).width == 51 for file in files)
    assert export(tmp_path, "jpeg-tiny", force=True, zoo=new_zoo) == {"jpeg-tiny": 5, "jxl-tiny": 6}


def test_numbers_end_where_files_have_no_room(tmp_path: Path) -> None:
    def row(number: int) -> dict[str, object]:
        return {"name": "a", "number": number, "default": True, "compact": "c", "reconstruct": "r"}

    nothing = manifest.manifest_of(tmp_path)
    assert manifest.entered("model", [row(16383)], nothing, force=False)["model"][0]["number"] == 16383
    with pytest.raises(ModelError, match="model numbers end at 16383: no file has room for 16384"):
        manifest.entered("model", [row(16384)], nothing, force=False)


def test_a_damaged_manifest_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "manifest.toml").write_bytes(b"[[model]\xff")
    with pytest.raises(ModelError, match=r"manifest\.toml is damaged"):
        manifest.manifest_of(tmp_path)


def test_two_models_are_never_called_the_same() -> None:
    def row(name: str, *scales: float) -> dict[str, object]:
        files = {part: f"{name}.{part}" for part in ("compact", "reconstruct")}
        return {"name": name, "number": None, "scales": list(scales), "default": True, **files}

    before = {"model": [row("jpeg-half", 1.5) | {"number": 1}], "learned": [], "retired": []}
    for entry in (row("jpeg-two-thirds"), row("jpeg", 1.5)):
        with pytest.raises(ModelError, match="jpeg-two-thirds is what another model is called"):
            manifest.entered("model", [entry], before, force=True)
    for entry in (row("jpeg-half", 1.5), row("gray-half", 1.5, 3.0)):
        assert manifest.entered("model", [entry], before, force=True)["model"][-1]["number"] == 2


@pytest.mark.filterwarnings("ignore")  # PyTorch's, about its own exporter
def test_networks_know_the_codec_and_pictures_may_reach_it_as_they_are(tmp_path: Path, new_zoo: Path) -> None:
    pytest.importorskip("onnx")
    torch = pytest.importorskip("torch")
    from corec.methods.joint import Method, Settings
    from corec.training.export import export

    settings = {"codec": "bpg", "also": ("jpeg2000",), "bare": ("bpg",), "half": False, "color": True}
    settings |= {"compact_width": 4, "widths": (4, 6, 8), "steps": (3.0, 1000.0)}
    method = Method(Settings(**settings))  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    save_run(tmp_path, "joint", settings, method)
    export(tmp_path, "all", zoo=new_zoo)
    bare, other = model_named("bpg-all"), model_named("jpeg2000-all")
    assert (bare.which, other.which) == ((1, 0), (0, 1))
    assert (bare.steps, other.steps) == ((3.0, codec_named("bpg").STEPS[1]), (3.0, 1000.0))
    assert not bare.compact and not bare.restores and other.compact
    source = picture(40, 48, gray=False)
    straight = wrap.levels(color.ycbcr_from_rgb(source.pixels))
    assert (wrap.compacted(source, bare, 20.0) == straight).all()
    assert (wrap.compacted(source, other, 20.0) != straight).any()
    made = [np.empty((40, 48, 3), np.uint8) for _ in range(2)]
    for pixels, which in zip(made, (bare, replace(bare, which=other.which)), strict=True):
        wrap.reconstruct(straight, np.array([3.0]), which, pixels, None)
    assert (made[0] != made[1]).any()
    made_again = decompress_picture(compress_picture(source, model="bpg-all", quality=40).data)
    assert made_again.pixels.shape == source.pixels.shape


@pytest.mark.filterwarnings("ignore")  # PyTorch's, about its own exporter
def test_luma_in_colour_is_restored_by_a_gray_network(tmp_path: Path, new_zoo: Path) -> None:
    pytest.importorskip("onnx")
    torch = pytest.importorskip("torch")
    from corec.methods.joint import Method, Settings
    from corec.training.export import export

    def exported(name: str, planes: int, **more: Any) -> Any:
        settings = {"codec": "webp", "also": ("bpg",), "half": False, "color": planes == 3, "bare": ("webp", "bpg")}
        settings |= {"compact_width": 4, "widths": (4, 6, 8), "real": 1.0} | more
        method = Method(Settings(**settings))  # type: ignore[arg-type]
        torch.nn.init.normal_(method.reconstruct.tail.weight, std=0.03)
        save_run(tmp_path, "joint", settings, method)
        told.append(export(tmp_path, name, force=True, zoo=new_zoo))
        return method

    told: list[dict[str, int]] = []
    torch.manual_seed(1)
    exported("gray", 1, steps=(20.0, 100.0))
    exported("alone", 3)
    method = exported("color", 3, luma="gray")
    gray, both = model_named("webp-gray"), model_named("webp-color")
    assert (both.luma, model_named("bpg-color").luma) == (gray.number, model_named("bpg-gray").number)
    assert gray.both_ways and not both.both_ways
    assert not model_named("webp-alone").luma and model_named("webp-alone").both_ways
    decoded = wrap.levels(color.ycbcr_from_rgb(picture(48, 64, gray=False).pixels))
    condition = np.array([2.5])  # below the gray one's range
    made, lumas, shares = np.empty((48, 64, 3), np.uint8), np.empty((48, 64, 1), np.uint8), []
    wrap.reconstruct(decoded, condition, both, made, shares.append)
    assert shares == sorted(shares) and shares[-1] == 1 and len(shares) == 2
    wrap.reconstruct(decoded[..., :1], condition, gray, lumas, None)
    seen = wrap.with_luma(decoded, condition, gray)
    assert seen.dtype == np.float16
    assert np.abs(np.clip(255.0 * seen[..., 0], 0, 255) - lumas[..., 0]).max() < 0.7  # not cut to 0..1 yet
    assert np.abs(255.0 * seen[..., 1:] - decoded[..., 1:]).max() < 0.1
    own = np.empty_like(made)
    wrap.reconstruct(wrap.levels(seen.astype(np.float32)), condition, replace(both, luma=0), own, None)
    assert np.abs(made.astype(int) - own).max() <= 3
    wrap.reconstruct(decoded, condition, replace(both, luma=0), own, None)
    assert np.abs(made.astype(int) - own).max() > 5
    with torch.no_grad():  # training restores luma in the same way
        image = torch.from_numpy(decoded / np.float32(255)).permute(2, 0, 1)[None]
        image = method.with_luma(image, method.codecs[:1], [12.0])
        trained = 255 * method.restored(image, torch.tensor([[2.5, 1, 0]]))[0].permute(1, 2, 0).numpy()
    assert np.abs(np.clip(trained, 0, 255) - made).max() < 3
    with pytest.raises(ModelError, match="no gray model webp-none can restore luma for webp-color"):
        exported("color", 3, luma="none")
    with pytest.raises(ModelError, match="no gray model webp-color can"):
        exported("other", 3, luma="color")
    before = both.number
    exported("gray", 1)  # a new gray one makes others of those that look through it
    assert model_named("webp-color").luma == model_named("webp-gray").number > gray.number
    assert model_named("webp-color").number > before
    assert told[-1] == {name: model_named(name).number for name in ("webp-gray", "bpg-gray", "webp-color", "bpg-color")}
    with pytest.raises(ModelError, match="webp-color looks through webp-gray, which this one cannot replace"):
        exported("gray", 3)
    with pytest.raises(ModelError, match=f"model, {before} .webp-color., was replaced"):
        model_numbered(before)


@pytest.mark.filterwarnings("ignore")  # PyTorch's, about its own exporter
def test_the_same_weights_become_the_same_files(tmp_path: Path, new_zoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnx")
    torch = pytest.importorskip("torch")
    from corec.methods.joint import Method, Settings
    from corec.training import export as exporter

    settings: dict[str, Any] = {"codec": "bpg", "half": False, "compact_width": 4, "widths": (4, 6, 8)}
    method = Method(Settings(**settings))
    torch.nn.init.normal_(method.reconstruct.tail.weight, std=0.03)
    save_run(tmp_path, "joint", settings, method)
    found: list[list[Any]] = []
    real = exporter.differences
    monkeypatch.setattr(exporter, "differences", lambda *given: found[-1].append(real(*given)) or found[-1][-1])
    for seed in (1, 2):  # by what a network does to pictures at random it is decided how its weights are stored
        found.append([])
        torch.manual_seed(seed)
        exporter.export(tmp_path, "a", force=True, zoo=new_zoo)
    assert found[0] and found[0] == found[1]


@pytest.mark.filterwarnings("ignore")  # PyTorch's, about its own exporter
def test_files_of_a_replaced_model_go_with_it(tmp_path: Path, new_zoo: Path) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("torch")
    from corec.methods.joint import Method, Settings
    from corec.training.export import export

    usual: dict[str, Any] = {"codec": "bpg", "half": False, "compact_width": 4, "widths": (4, 6, 8)}
    for settings in (usual, {**usual, "bare": ("bpg",)}):
        save_run(tmp_path, "joint", settings, Method(Settings(**settings)))
        if settings is not usual:
            before = {path.name: path.read_bytes() for path in new_zoo.iterdir()}
            with pytest.raises(ModelError, match="there is a model a; --force replaces it"):
                export(tmp_path, "a", zoo=new_zoo)
            assert {path.name: path.read_bytes() for path in new_zoo.iterdir()} == before
        export(tmp_path, "a", force=True, zoo=new_zoo)
        export(tmp_path, "b", force=True, zoo=new_zoo)
        both = {f"{name}.reconstruct.onnx" for name in "ab"} | {"manifest.toml"}
        own = set() if "bare" in settings else {"a.compact.onnx", "b.compact.onnx"}
        assert {path.name for path in new_zoo.iterdir()} == both | own
    assert (model_named("a").number, model_named("b").number) == (3, 4)


@pytest.mark.parametrize("text", ["a\nb\t\x7f", 'quote " and \\', "caf\udce9", "schön"])
def test_the_manifest_holds_any_text(text: str) -> None:
    assert tomllib.loads(f"key = {manifest.value(text)}")["key"] == text.encode("utf-8", "backslashreplace").decode()


def test_names_of_other_things_are_refused() -> None:
    for name in ("plain", "learned", "jpeg", "joint", "corec", "mozjpeg", "jpeg-best"):
        with pytest.raises(ModelError, match="is the name of something else"):
            manifest.check_name(name)
        assert name in ("joint", "learned", "jpeg") or contender(name)


@pytest.mark.filterwarnings("ignore")  # PyTorch's, about its own exporter
def test_weights_that_are_no_numbers_are_not_exported(tmp_path: Path, new_zoo: Path) -> None:
    pytest.importorskip("onnx")
    torch = pytest.importorskip("torch")
    from corec.methods.joint import Method, Settings
    from corec.training.export import export

    settings: dict[str, Any] = {"compact_width": 4, "widths": (4, 6, 8)}
    method = Method(Settings(**settings))
    torch.nn.init.constant_(method.reconstruct.tail.bias, float("nan"))
    save_run(tmp_path, "joint", settings, method)
    with pytest.raises(RecipeError, match="weights that are no numbers"):
        export(tmp_path, "broken", zoo=new_zoo)
    assert not list(new_zoo.iterdir())


@pytest.mark.filterwarnings("ignore")  # PyTorch's, about its own exporter
def test_an_export_that_fails_changes_nothing(tmp_path: Path, new_zoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnx")
    torch = pytest.importorskip("torch")
    from corec.methods.joint import Method, Settings
    from corec.training.export import export

    settings: dict[str, Any] = {"compact_width": 4, "widths": (4, 6, 8)}
    method = Method(Settings(**settings))
    save_run(tmp_path, "joint", settings, method)
    export(tmp_path, "a", zoo=new_zoo)
    before = {path.name: path.read_bytes() for path in new_zoo.iterdir()}
    torch.nn.init.ones_(method.reconstruct.tail.bias)
    save_run(tmp_path, "joint", settings, method)
    write = Path.write_bytes

    def no_room(path: Path, data: bytes) -> int:
        if path.parent == new_zoo and len(list(new_zoo.iterdir())) > len(before) + 1:
            raise OSError(28, "No space left on device")
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", no_room)
    with pytest.raises(FileError, match="No space left"):
        export(tmp_path, "a", force=True, zoo=new_zoo)
    assert {path.name: path.read_bytes() for path in new_zoo.iterdir()} == before
    for name in ("plain", "joint", "webp", "a/b", "../a", "a\nb", "", ".a"):
        with pytest.raises(ModelError, match="name"):
            export(tmp_path, name, zoo=new_zoo)
    assert {path.name: path.read_bytes() for path in new_zoo.iterdir()} == before
