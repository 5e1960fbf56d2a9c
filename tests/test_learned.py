"""The learned codec: pictures into .corec files and back, exact sizes, never too many bytes, tiles that do not show."""

import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tiny import picture
from tiny_learned import KINDS, LEVELS, tiny_zoo

import corec
from corec import models, runtime, wrap
from corec.color import luma
from corec.errors import CodecError, MissingExtraError, ModelError, PictureError, RateError
from corec.learned import codec
from corec.learned.codec import Latents, decoded, origin, read, tables_of, write
from corec.models import Learned, learned, learned_named, learned_numbered, model_named, model_numbered
from corec.picture import Picture
from corec.pipeline import compress_picture, decompress_picture, describe


@pytest.fixture(scope="module", autouse=True)
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with tiny_zoo(tmp_path_factory.mktemp("zoo")) as folder:
        yield folder


NAMES = st.sampled_from(list(KINDS))


def source_for(name: str, height: int, width: int) -> Any:
    return picture(height, width, not KINDS[name][0])


def latents_in(data: bytes) -> np.ndarray:
    """What read() gives to the synthesis."""
    header, coded, model = origin(data)
    return decoded(coded, header, model, tables_of(model))


@settings(max_examples=60, deadline=None)
@given(NAMES, st.integers(1, 140), st.integers(1, 140), st.integers(0, LEVELS - 1))
@example("plain-gray", 1, 1, 0)
@example("hyper-color", 1, 1, 7)
@example("hyper-gray", 64, 65, 3)
def test_there_and_back(name: str, height: int, width: int, level: int) -> None:
    source, model = source_for(name, height, width), learned_named(name)
    data = write(source, model, level)
    restored = read(data)
    assert (restored.height, restored.width, restored.gray) == (height, width, source.gray)
    latents = Latents(source, model)
    assert latents.values.shape[1:] == (-(-height // 16), -(-width // 16))
    gain = latents.tables.gain[level][:, None, None]
    assert np.abs((latents_in(data) - latents.values) * gain).max() <= 0.5001


def escapes(latents: Latents, level: int) -> int:
    """How many symbols of a level fall outside their tables."""
    found = 0
    for symbols, numbers in latents.pieces(level):
        found += int((latents.tables.intervals(symbols, numbers) == latents.tables.symbols[numbers]).sum())
    return found


@pytest.mark.parametrize("name", KINDS)
def test_the_size_is_known_before_the_file(name: str) -> None:
    latents = Latents(source_for(name, 300, 333), learned_named(name))
    for level in range(LEVELS):
        told, got = latents.size(level), len(latents.file(level))
        # Zeros at the end are free, and where many symbols are next to their tables these are many.
        assert told - escapes(latents, level) / 8 - 4 <= got <= 1.001 * told + 4


@pytest.mark.parametrize("name", KINDS)
def test_many_symbols_fall_outside_their_tables(name: str) -> None:
    latents = Latents(source_for(name, 100, 100), learned_named(name))
    assert sum(escapes(latents, level) for level in range(LEVELS)) > 100, "or the other tests would see none"


def test_pieces_may_end_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "PIECE", 7)
    for name in KINDS:
        source, model = source_for(name, 50, 40), learned_named(name)
        latents = latents_in(write(source, model, 4))
        monkeypatch.setattr(codec, "PIECE", 1000)
        np.testing.assert_array_equal(latents, latents_in(write(source, model, 4)))
        monkeypatch.setattr(codec, "PIECE", 7)


WHOLE = {part: getattr(codec, part) for part in ("ANALYSIS", "SYNTHESIS", "HYPER_ANALYSIS", "HYPER_SYNTHESIS")}
TILED = {"ANALYSIS": (64, 64, 64), "SYNTHESIS": (4, 4, 1), "HYPER_ANALYSIS": (4, 32, 4), "HYPER_SYNTHESIS": (1, 8, 1)}


def in_tiles(patch: pytest.MonkeyPatch, shapes: dict[str, tuple[int, int, int]]) -> None:
    for part, shape in shapes.items():
        patch.setattr(codec, part, shape)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(("height", "width"), [(467, 450), (1, 700)])
def test_tiles_do_not_show(monkeypatch: pytest.MonkeyPatch, name: str, height: int, width: int) -> None:
    source, model = source_for(name, height, width), learned_named(name)
    analysed, latents, pixels = [], [], []
    data = write(source, model, 5)
    for shapes in (WHOLE, TILED):
        in_tiles(monkeypatch, shapes)
        analysed.append(Latents(source, model).values)
        latents.append(latents_in(data))
        pixels.append(read(data).pixels.astype(int))
    np.testing.assert_allclose(analysed[0], analysed[1], rtol=0, atol=1e-5)
    np.testing.assert_array_equal(latents[0], latents[1])
    assert np.abs(pixels[0] - pixels[1]).max() <= 1


def test_tiles_too_close_would_show(monkeypatch: pytest.MonkeyPatch) -> None:
    source, model = source_for("hyper-gray", 300, 300), learned_named("hyper-gray")
    data, latents = write(source, model, 5), Latents(source, model).values
    decoded_before = latents_in(data)
    pixels = read(data).pixels.astype(int)
    in_tiles(monkeypatch, {"ANALYSIS": (64, 0, 64), "SYNTHESIS": (4, 0, 1)})
    assert np.abs(latents - Latents(source, model).values).max() > 0.01
    assert np.abs(pixels - read(data).pixels).max() > 1
    in_tiles(monkeypatch, {"HYPER_SYNTHESIS": (1, 0, 1)})
    with suppress(CodecError):  # with the wrong tables, bytes may have no symbols
        assert np.abs(latents_in(data) - decoded_before).max() > 1


@pytest.mark.parametrize("name", KINDS)
def test_any_number_of_threads_gives_the_same(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    source, model = source_for(name, 200, 300), learned_named(name)
    made = []
    for threads in (1, 2):
        monkeypatch.setattr(codec, "network", partial(runtime.network, threads=threads))
        data = write(source, model, 5)
        made.append((data, latents_in(data), read(data).pixels.astype(int)))
    one, two = made
    assert (
        one[0] == two[0] or np.abs(one[1] - two[1]).max() < 1
    )  # an analysis may differ in a last bit, and so by a step
    monkeypatch.setattr(codec, "network", partial(runtime.network, threads=2))
    np.testing.assert_array_equal(one[1], latents_in(one[0]))
    assert np.abs(one[2] - read(one[0]).pixels).max() <= 1


class Inexact:
    """A hyperprior's network that is off."""

    planes = 3

    def __init__(self, network: runtime.Network, change: Callable[[np.ndarray], np.ndarray]) -> None:
        self.network, self.change = network, change

    def __call__(self, image: np.ndarray) -> np.ndarray:
        return self.change(self.network(image))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda told: told + 0.25, "numbers that are not whole"),
        (lambda told: told + np.nan, "numbers that are not whole"),
        (lambda told: told + 2**15, "numbers that are not whole"),
        (lambda told: told + 5, "names tables that there are not"),
        (lambda told: told - 5, "names tables that there are not"),
    ],
)
def test_a_hyperprior_that_is_not_exact_is_refused(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[np.ndarray], np.ndarray], message: str
) -> None:
    model = learned_named("hyper-gray")
    data, net = write(picture(40, 50, True), model, 3), codec.net

    def changed(row: Learned, part: str) -> Any:
        return Inexact(net(row, part), change) if part == "hyper_synthesis" else net(row, part)

    monkeypatch.setattr(codec, "net", changed)
    for call in (partial(read, data), partial(write, picture(40, 50, True), model, 3)):
        with pytest.raises(ModelError, match=message):
            call()


def test_an_analysis_that_gives_no_numbers_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    net = codec.net
    monkeypatch.setattr(codec, "net", lambda row, part: Inexact(net(row, part), lambda made: made / np.float32(0)))
    with pytest.raises(ModelError, match="something that is no number"), np.errstate(all="ignore"):
        write(picture(40, 50, True), learned_named("plain-gray"), 3)


def test_overflow_in_a_synthesis_gives_levels() -> None:
    made = np.array([np.nan, np.inf, -np.inf, 3e38, -1, 0.5, 2], np.float32)
    assert codec.shown(made).tolist() == [0, 255, 0, 255, 0, 128, 255]


@settings(max_examples=40, deadline=None)
@given(NAMES, st.integers(1, 90), st.integers(1, 90), st.integers(1, 700))
def test_a_size_is_never_exceeded(name: str, height: int, width: int, size: int) -> None:
    source = source_for(name, height, width)
    try:
        made = compress_picture(source, codec="learned", model=name, size=size)
    except RateError as error:
        assert error.smallest is not None
        assert error.smallest > size
        made = compress_picture(source, codec="learned", model=name, size=error.smallest)
        assert len(made.data) == error.smallest
        return
    assert len(made.data) <= size
    assert (made.model, made.codec, made.scale, made.width, made.height) == (name, "learned", 1, width, height)
    assert decompress_picture(made.data).pixels.shape == source.pixels.shape


def test_the_finest_level_that_fits_is_taken_after_one_analysis(monkeypatch: pytest.MonkeyPatch) -> None:
    source, model = picture(200, 300, False), learned_named("hyper-color")
    sizes = [len(write(source, model, level)) for level in range(LEVELS)]
    assert sizes == sorted(set(sizes)), "sizes of these tables rise, or the search would mean nothing"
    net, parts, files = codec.net, [], []
    monkeypatch.setattr(codec, "net", lambda row, part: parts.append(part) or net(row, part))
    file = Latents.file
    monkeypatch.setattr(Latents, "file", lambda latents, level: files.append(level) or file(latents, level))
    for level, size in enumerate(sizes):
        for spare in (0, 3, -1):
            expected = level - (spare < 0)
            if expected >= 0 and size + spare < [*sizes, 2**30][level + 1]:
                made = compress_picture(source, codec="learned", model=model.name, size=size + spare)
                assert abs(made.setting - expected) <= (spare < 3)  # the estimate is right to within few bytes
    assert parts.count("analysis") * 2 >= len(files) >= parts.count("analysis")


def test_quality_goes_from_the_coarsest_level_to_the_finest() -> None:
    source = picture(60, 60, True)
    wishes: list[dict[str, float]] = [{"quality": 0}, {"quality": 36}, {}, {"quality": 100}]
    assert [compress_picture(source, codec="learned", **wish).setting for wish in wishes] == [0, 3, 4, 7]


def test_bits_per_pixel() -> None:
    data = corec.compress(picture(150, 200, False).pixels, codec="learned", bpp=0.13)
    assert 0.08 < describe(data)["bpp"] <= 0.13


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"quality": 101}, "quality must lie in 0..100"),
        ({"bpp": 0}, "bpp must be above 0"),
        ({"size": 14}, "14 bytes are too few for this picture: the smallest size is"),
        ({"size": 500, "bpp": 1}, "give one of"),
    ],
)
def test_wishes_that_cannot_be_met_are_refused(wish: dict[str, float], message: str) -> None:
    with pytest.raises(RateError, match=message):
        corec.compress(picture(20, 30, True).pixels, codec="learned", **wish)  # type: ignore[arg-type]


def test_a_model_is_found_by_name_by_method_and_by_the_kind_of_picture() -> None:
    gray, color = picture(20, 30, True), picture(20, 30, False)
    for source, name, expected in (
        (gray, None, "plain-gray"),
        (color, None, "plain-color"),
        (color, "tiny", "plain-color"),
        (gray, "hyper-gray", "hyper-gray"),
        (gray, "plain-color", "plain-color"),
    ):
        made = compress_picture(source, codec="learned", model=name)
        assert made.model == describe(made.data)["model"] == expected
    assert corec.decompress(corec.compress(color.pixels, codec="learned", gray=True)).shape == (20, 30)


@pytest.mark.parametrize("name", ["plain-color", "hyper-color"])
def test_a_model_for_colour_takes_gray_pictures(name: str) -> None:
    gray, model = picture(70, 90, True), learned_named(name)
    color = Picture(np.repeat(gray.pixels[..., None], 3, 2))
    data, other = write(gray, model, 5), write(color, model, 5)
    assert origin(data)[1] == origin(other)[1]
    assert read(data).gray and not read(other).gray
    np.testing.assert_array_equal(read(data).pixels, luma(read(other).pixels))


def test_a_model_that_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    gray, photo = picture(20, 30, True), picture(20, 30, False)
    for name, message in (
        ("plain-gray", "plain-gray has no model for colour pictures"),
        (
            "large",
            "the learned codec has no model 'large'; there are: plain-gray, plain-color, hyper-gray, hyper-color",
        ),
    ):
        with pytest.raises(ModelError, match=message):
            compress_picture(photo, codec="learned", model=name)
    with pytest.raises(ModelError, match="model plain-gray is for the learned codec alone"):
        compress_picture(gray, codec="jpeg", model="plain-gray")
    monkeypatch.setattr(codec, "learned", lambda: ())
    with pytest.raises(ModelError, match="the learned codec has no model for gray pictures"):
        compress_picture(gray, codec="learned")


def test_learned_models_share_their_numbers_with_the_others() -> None:
    assert [(row.number, row.hyper) for row in learned()] == [(20, False), (21, False), (22, True), (23, True)]
    assert learned_numbered(21) == learned_named("plain-color")
    with pytest.raises(ModelError, match="the file is damaged: its model plain-color writes other files"):
        model_numbered(21)
    with pytest.raises(ModelError, match=r"no model 'large'; there are: plain-gray"):
        model_named("large")


@pytest.mark.parametrize(
    "damage",
    [
        ("hyper_synthesis = ", "hyper_synthetic = "),
        ("analysis = ", "analyses = "),
        ("default = true", ""),
        ("number = 20", "number = 20\nshade = 1"),
        ("[learned.sha256]", "[learned.sha]"),
    ],
)
def test_a_damaged_list_is_refused(
    zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: tuple[str, str]
) -> None:
    text = (zoo / "manifest.toml").read_text()
    assert damage[0] in text
    (tmp_path / "manifest.toml").write_text(text.replace(*damage, 1))
    monkeypatch.setattr(models, "ZOO", tmp_path)
    models.read_manifest.cache_clear()
    try:
        with pytest.raises(ModelError, match="the list of models cannot be read"):
            learned()
    finally:
        models.read_manifest.cache_clear()


def test_tables_that_are_not_the_models_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, other in (("plain-gray", "hyper-gray"), ("hyper-gray", "plain-gray")):
        model, foreign = learned_named(name), tables_of(learned_named(other))
        with monkeypatch.context() as patch:
            fewer = type(foreign)(foreign.gain, foreign.cdf[: foreign.start[9]], foreign.start[:10], foreign.low[:9])
            patch.setattr(codec, "tables", lambda path, sha256, fewer=fewer: fewer)
            with pytest.raises(ModelError, match=f"model {name} has 9 tables"):
                tables_of(model)


def test_an_altered_file_of_a_model_is_refused(zoo: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    data = write(picture(20, 30, True), learned_named("plain-gray"), 3)
    monkeypatch.setattr(codec, "ZOO", tmp_path)
    with pytest.raises(ModelError, match=r"plain-gray\.tables\.npz is missing"):
        read(data)
    (tmp_path / "plain-gray.tables.npz").write_bytes(b"")
    with pytest.raises(ModelError, match=r"plain-gray\.tables\.npz was altered"):
        read(data)


def test_without_its_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    data = corec.compress(picture(20, 30, True).pixels, codec="learned")
    monkeypatch.setitem(sys.modules, "constriction", None)
    assert describe(data)["model"] == "plain-gray"
    for call in (
        partial(corec.decompress, data),
        partial(corec.compress, picture(20, 30, True).pixels, codec="learned"),
    ):
        with pytest.raises(MissingExtraError, match=r"constriction is not installed: pip install 'corec\[learned\]'"):
            call()


def test_no_picture_is_written_that_would_not_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    source = picture(50, 60, True)
    data = corec.compress(source.pixels, codec="learned")
    monkeypatch.setattr(wrap, "LARGEST", 2999)
    for call in (partial(write, source, learned_named("plain-gray"), 3), partial(read, data), partial(describe, data)):
        with pytest.raises(PictureError, match="60 x 50 pixels are too many"):
            call()


def test_restore_refuses_a_file_of_ours() -> None:
    with pytest.raises(CodecError, match="this is Corec's own: decompress gives its picture"):
        corec.restore(corec.compress(picture(20, 30, True).pixels, codec="learned"))


def test_progress_ends_at_one_and_never_goes_back() -> None:
    source = picture(40, 50, True)
    data = corec.compress(source.pixels, codec="learned")
    for run in (
        partial(compress_picture, source, codec="learned"),
        partial(compress_picture, source, codec="learned", size=500),
        partial(decompress_picture, data),
    ):
        shares: list[float] = []
        run(progress=shares.append)
        assert shares == sorted(shares)
        assert shares[-1] == 1


def test_the_facts_of_a_file() -> None:
    data = write(picture(31, 200, False), learned_named("hyper-color"), 2)
    assert describe(data) == {
        "codec": "learned",
        "model": "hyper-color",
        "number": 23,
        "level": 2,
        "width": 200,
        "height": 31,
        "bytes": len(data),
        "header_bytes": 13,
        "bpp": 8 * len(data) / (31 * 200),
    }
