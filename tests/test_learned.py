"""The learned codec: pictures into .corec files and back, exact sizes, never too many bytes, tiles that do not show."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tiny import picture
from tiny_learned import KINDS, LEVELS, Watched, farthest, table, tiny_zoo
from tiny_learned import tables_of as tables_of_rows

import corec
from corec import runtime, wrap
from corec.errors import CodecError, MissingExtraError, ModelError, PictureError, RateError
from corec.learned import codec, prior
from corec.learned.codec import Latents, decoded, origin, read, tables_of
from corec.learned.coder import cost
from corec.models import Learned, learned_named
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
@example("context-color", 1, 1, 7)
@example("context-gray", 64, 65, 3)
def test_there_and_back(name: str, height: int, width: int, level: int) -> None:
    source, model = source_for(name, height, width), learned_named(name)
    data = Latents(source, model).file(level)
    restored = read(data)
    assert (restored.height, restored.width, restored.gray) == (height, width, source.gray)
    latents = Latents(source, model)
    assert latents.at(level).shape[1:] == (-(-height // 16), -(-width // 16))
    error = (latents_in(data) - latents.at(level)) * latents.tables.gain[level][:, None, None]
    assert np.abs(error).max() <= farthest(latents.tables, model.price) + 0.0001


def escapes(latents: Latents, level: int) -> int:
    """How many symbols of a level fall outside their tables."""
    found = 0
    for _, _, symbols, numbers, _ in latents.pieces(level, latents.scaled(level)):
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
    for name in KINDS:
        source, model = source_for(name, 50, 40), learned_named(name)
        latents = []
        for size in (7, 1000):
            monkeypatch.setattr(prior, "PIECE", size)
            latents.append(latents_in(Latents(source, model).file(4)))
        np.testing.assert_array_equal(*latents)


TILED = {"ANALYSIS": (64, 64, 64), "SYNTHESIS": (4, 4, 1), "CONTEXT": (4, 2, 1)}
MODULES = {"ANALYSIS": codec, "SYNTHESIS": codec, "CONTEXT": prior}
WHOLE = {part: getattr(module, part) for part, module in MODULES.items()}


def in_tiles(patch: pytest.MonkeyPatch, shapes: dict[str, tuple[int, int, int]]) -> None:
    for part, shape in shapes.items():
        patch.setattr(MODULES[part], part, shape)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(("height", "width"), [(467, 450), (1, 700)])
def test_tiles_do_not_show(monkeypatch: pytest.MonkeyPatch, name: str, height: int, width: int) -> None:
    source, model = source_for(name, height, width), learned_named(name)
    analysed, latents, pixels = [], [], []
    data = Latents(source, model).file(5)
    for shapes in (WHOLE, TILED):
        in_tiles(monkeypatch, shapes)
        analysed.append(Latents(source, model).at(5))
        latents.append(latents_in(data))
        pixels.append(read(data).pixels.astype(int))
    np.testing.assert_allclose(analysed[0], analysed[1], rtol=0, atol=1e-5)
    np.testing.assert_array_equal(latents[0], latents[1])
    assert np.abs(pixels[0] - pixels[1]).max() <= 1


def test_tiles_too_close_would_show(monkeypatch: pytest.MonkeyPatch) -> None:
    source, model = source_for("context-gray", 300, 300), learned_named("context-gray")
    data, latents = Latents(source, model).file(5), Latents(source, model).at(5)
    decoded_before = latents_in(data)
    pixels = read(data).pixels.astype(int)
    in_tiles(monkeypatch, {"ANALYSIS": (64, 0, 64), "SYNTHESIS": (4, 0, 1)})
    assert np.abs(latents - Latents(source, model).at(5)).max() > 0.01
    assert np.abs(pixels - read(data).pixels).max() > 1
    in_tiles(monkeypatch, {"CONTEXT": (1, 0, 1)})
    try:
        decoded = latents_in(data)
    except CodecError:  # with the wrong tables, bytes may have no symbols
        return
    assert np.abs(decoded - decoded_before).max() > 1


@pytest.mark.parametrize("name", KINDS)
def test_any_number_of_threads_gives_the_same(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    source, model = source_for(name, 200, 300), learned_named(name)
    made = []
    for threads in (1, 2):
        monkeypatch.setattr(prior, "network", partial(runtime.network, threads=threads))
        data = Latents(source, model).file(5)
        made.append((data, latents_in(data), read(data).pixels.astype(int)))
    one, two = made
    assert (
        one[0] == two[0] or np.abs(one[1] - two[1]).max() < 1
    )  # an analysis may differ in a last bit, and so by a step
    monkeypatch.setattr(prior, "network", partial(runtime.network, threads=2))
    np.testing.assert_array_equal(one[1], latents_in(one[0]))
    assert np.abs(one[2] - read(one[0]).pixels).max() <= 1


def test_an_analysis_that_gives_no_numbers_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    net = codec.net
    monkeypatch.setattr(codec, "net", lambda row, part: Watched(net(row, part), lambda made: made / np.float32(0)))
    with pytest.raises(ModelError, match="something that is no number"), np.errstate(all="ignore"):
        Latents(picture(40, 50, True), learned_named("plain-gray")).file(3)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([0.0, 0.05, 0.1, 1.0]))
def test_the_cheaper_of_the_nearest_symbol_and_its_neighbour_is_chosen(seed: int, price: float) -> None:
    random = np.random.default_rng(seed)
    known = tables_of_rows([table(scale, int(random.integers(1, 3 * scale + 2))) for scale in (0.2, 1, 4, 30)])
    numbers = random.integers(0, 4, 300).astype(np.uint16)
    residuals = random.laplace(0, [[0.7, 3, 40]] * 100).reshape(-1).astype(np.float32)
    symbols = codec.chosen(known, residuals, numbers, price)
    assert symbols.dtype == np.int32
    near = np.rint(residuals).astype(int)
    lower = near - np.sign(near)

    def costs(of: np.ndarray) -> np.ndarray:
        bits = [cost(known, *each) for each in zip(of[:, None].astype(np.int32), numbers[:, None], strict=True)]
        return (residuals.astype(float) - of) ** 2 + price * np.array(bits)

    np.testing.assert_array_equal(symbols, np.where(costs(lower) < costs(near), lower, near))
    assert np.abs(symbols - residuals).max() <= farthest(known, price) + 1e-6


def test_the_largest_residuals_have_symbols() -> None:
    known = tables_of(learned_named("context-gray"))
    residuals, numbers = np.array([3e38, -3e38, 2.0**31], np.float32), np.zeros(3, np.uint16)
    assert codec.chosen(known, residuals, numbers, 0.1).tolist() == [2**31 - 1, -(2**31), 2**31 - 1]


def test_overflow_in_a_synthesis_gives_levels() -> None:
    made = np.array([np.nan, np.inf, -np.inf, 3e38, -1, 0.5, 2], np.float32)
    assert codec.shown(made).tolist() == [0, 255, 0, 255, 0, 128, 255]


@settings(max_examples=40, deadline=None)
@given(NAMES, st.integers(1, 90), st.integers(1, 90), st.integers(1, 700))
@example("context-gray", 40, 5, 1)  # of which a finer level has a byte less than the coarsest
def test_a_size_is_never_exceeded(name: str, height: int, width: int, size: int) -> None:
    source = source_for(name, height, width)
    try:
        made = compress_picture(source, codec="learned", model=name, size=size)
    except RateError as error:
        assert error.smallest is not None
        assert error.smallest > size
        made = compress_picture(source, codec="learned", model=name, size=error.smallest)
        assert len(made.data) <= error.smallest
        return
    assert len(made.data) <= size
    assert (made.model, made.codec, made.scale, made.width, made.height) == (name, "learned", 1, width, height)
    assert decompress_picture(made.data).pixels.shape == source.pixels.shape


def test_the_finest_level_that_fits_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    source, model = picture(200, 300, False), learned_named("context-color")
    sizes = [len(Latents(source, model).file(level)) for level in range(LEVELS)]
    assert sizes == sorted(set(sizes)), "sizes of these tables rise, or the search would mean nothing"
    files = []
    file = Latents.file
    monkeypatch.setattr(Latents, "file", lambda latents, level: files.append(level) or file(latents, level))
    for level, size in enumerate(sizes):
        for spare in (0, 3, -1):
            expected = level - (spare < 0)
            if expected >= 0 and size + spare < [*sizes, 2**30][level + 1]:
                files.clear()
                made = compress_picture(source, codec="learned", model=model.name, size=size + spare)
                assert abs(made.setting - expected) <= (spare < 3)  # the estimate is right to within few bytes
                assert len(files) <= 2


def test_what_rounds_save_goes_into_a_finer_level(monkeypatch: pytest.MonkeyPatch) -> None:
    latents = Latents(picture(200, 300, False), learned_named("context-color"))
    made: list[int] = []

    def file(level: int) -> bytes:
        made.append(level)
        return bytes(int(latents.size(level) / 2))

    monkeypatch.setattr(latents, "file", file)
    size = int(latents.size(3)) + 1
    data, level = latents.within(size)
    assert made == [3, level] and level == latents.finest_within(2 * size) > 3
    assert len(data) <= size


def test_files_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    source, model = source_for("plain-gray", 100, 120), learned_named("plain-gray")
    latents = Latents(source, model)
    latents.file(2)
    assert latents.files == 1
    size = len(latents.file(4))
    monkeypatch.setattr(Latents, "finest_within", lambda self, size: 6)  # two too fine, one after another
    assert latents.within(size)[1] == 4 and latents.files == 5


@pytest.mark.parametrize(("name", "runs"), [("plain-gray", 1), ("context-gray", 4)])
def test_an_analysis_runs_once_or_whenever_it_is_told_another_level(
    monkeypatch: pytest.MonkeyPatch, name: str, runs: int
) -> None:
    model, shares = learned_named(name), []
    analysis = Watched(codec.net(model, "analysis"))
    monkeypatch.setattr(codec, "net", lambda row, part: analysis)
    latents = Latents(picture(40, 50, True), model, progress=shares.append)
    first = latents.at(2).copy()
    for level in (2, 3, 3, 7, 2):
        latents.size(level)
        latents.file(level)
    np.testing.assert_array_equal(first, latents.at(2))
    assert len(analysis.told) == runs
    assert shares == [1], "progress is that of the first time"


@pytest.mark.parametrize("name", KINDS)
def test_networks_are_told_the_steps_of_the_level(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    source, model = source_for(name, 40, 50), learned_named(name)
    made = {}

    def watched(row: Learned, part: str) -> Watched:
        made[part] = Watched(prior.net(row, part))
        return made[part]

    monkeypatch.setattr(codec, "net", watched)
    for level in (1, 6):
        read(Latents(source, model).file(level))
        assert made["analysis"].takes_steps == made["synthesis"].takes_steps == KINDS[name][1]
        for part in ("analysis", "synthesis"):
            (told,) = made[part].told
            np.testing.assert_allclose(told, -np.log(tables_of(model).gain[level]), rtol=1e-6)


def test_networks_look_both_ways_where_latents_can_be_exchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    turn, model = np.array([1, 0, 2, 3, 5, 4]), learned_named("context-color")
    known = replace(tables_of(model), transposed=turn)
    monkeypatch.setattr(codec, "tables_of", lambda model: known)
    upright = picture(80, 48, False)
    lying = Picture(np.ascontiguousarray(upright.pixels.transpose(1, 0, 2)))
    one, other = (Latents(each, model).at(3) for each in (upright, lying))
    np.testing.assert_allclose(other, one.transpose(0, 2, 1)[turn], atol=1e-5)
    made = {}

    def watched(row: Learned, part: str) -> Watched:
        made[part] = Watched(prior.net(row, part))
        return made[part]

    monkeypatch.setattr(codec, "net", watched)
    data = Latents(upright, model).file(3)
    read(data)
    exchanged, latents = made["synthesis"].asked
    np.testing.assert_array_equal(exchanged, latents.transpose(1, 0, 2)[..., turn])
    assert len(made["analysis"].asked) == 2
    data = Latents(picture(79, 47, False), model).file(3)  # whole latents count
    monkeypatch.setattr(wrap, "BOTH_WAYS_UP_TO", 80 * 48)
    read(data)
    assert len(made["synthesis"].asked) == 2
    monkeypatch.setattr(wrap, "BOTH_WAYS_UP_TO", 80 * 48 - 1)
    read(data)
    assert len(made["synthesis"].asked) == 1


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
        ({"bpp": 0}, "bpp must be a number above 0"),
        ({"size": 14}, "14 bytes are too few for this picture: the smallest size is"),
        ({"size": 500, "bpp": 1}, "give one of"),
    ],
)
def test_wishes_that_cannot_be_met_are_refused(wish: dict[str, float], message: str) -> None:
    with pytest.raises(RateError, match=message):
        corec.compress(picture(20, 30, True).pixels, codec="learned", **wish)  # type: ignore[arg-type]


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
    for call in (partial(Latents, source, learned_named("plain-gray")), partial(read, data), partial(describe, data)):
        with pytest.raises(PictureError, match="60 x 50 pixels, in whole blocks, are too many"):
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
    data = Latents(picture(31, 200, False), learned_named("context-color")).file(2)
    assert describe(data) == {
        "codec": "learned",
        "model": "context-color",
        "number": 23,
        "level": 2,
        "width": 200,
        "height": 31,
        "bytes": len(data),
        "header_bytes": 13,
        "bpp": 8 * len(data) / (31 * 200),
    }
