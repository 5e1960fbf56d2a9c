"""Rounds that suit files to their pictures: .jpg, .jxl and .corec files, by shipped models."""

from functools import partial

import numpy as np
import pytest
from tiny import picture

import corec
from corec import choice, tiles, view, wrap
from corec.codecs import jpeg
from corec.codecs.registry import codec_named
from corec.errors import ModelError, RateError
from corec.learned import codec, refine
from corec.learned.codec import Latents, read
from corec.learned.coder import bits_of
from corec.learned.prior import FINER
from corec.models import Learned, learned, learned_named, model_named, models
from corec.picture import Picture
from corec.pipeline import compress_picture, decompress_picture
from corec.suit import FULL, Suit, suited, view_of

RESIZED = "jpeg-gray-two-thirds", "jpeg-color-third"
SUITED = [
    *(row.name for row in models() if row.slope and row.codec == "jpeg" and (not row.resized or row.name in RESIZED)),
    *("jxl-gray-full", "jxl-color-half"),
]
REFINED = [row.name for row in learned() if row.refines]


def error(one: Picture, other: Picture) -> float:
    return float(np.square(one.pixels.astype(float) - other.pixels).mean())


def needed(name: str) -> None:
    """Skip without the library of a model's codec."""
    if model_named(name).codec == "jxl":
        pytest.importorskip("imagecodecs")


def test_there_are_such_models() -> None:
    assert {model_named(name).scale for name in SUITED} == {1, 1.5, 2, 3}
    assert {model_named(name).color for name in SUITED} == {True, False}
    assert REFINED


@pytest.mark.parametrize("name", SUITED)
@pytest.mark.parametrize(("height", "width", "bpp"), [(96, 112, 0.5), (33, 17, 6.0), (1, 1, 3200.0)])
def test_a_file_is_no_larger_and_its_picture_nearer(name: str, height: int, width: int, bpp: float) -> None:
    needed(name)
    source = picture(height, width, not model_named(name).color)
    size = int(bpp * height * width / 8)
    plain, better = (compress_picture(source, model=name, size=size, effort=effort) for effort in (0, 8))
    assert len(better.data) <= size
    errors = [error(decompress_picture(made.data), source) for made in (plain, better)]
    assert errors[1] <= errors[0] or height == 1, "what a decoder rounds is not seen"
    if height > 90 and model_named(name).scale == 1:  # at half size there is less to gain, and not always
        assert errors[1] < (0.995 if name.startswith("jxl") else 0.99) * errors[0]
        assert better.runs >= plain.runs + 8
        assert better.data == compress_picture(source, model=name, size=size, effort=8).data


def test_a_file_that_rounds_left_small_is_filled_from_the_first() -> None:
    model, source = model_named("jpeg-gray-full"), picture(96, 112, True)
    data = wrap.write(source, model, 20.0)
    suit = Suit(jpeg, data, view_of(source, model, 20.0), 20.0, model.ratio, model.shapes)
    suit.rounds(3, int(0.85 * len(data)))
    small = suit.tried(suit.best.data, False)
    assert len(small.data) < FULL * len(data)
    filled = suit.tried(suit.fitted(len(data)), False)
    assert len(small.data) < len(filled.data) <= len(data)
    assert filled.error < min(small.error, suit.first.error)


@pytest.mark.parametrize("name", [name for name in SUITED if not model_named(name).resized])
@pytest.mark.parametrize("both", [True, False])
def test_a_view_is_what_the_decoder_shows(name: str, both: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    needed(name)
    model, source = model_named(name), picture(150, 131, not model_named(name).color)
    monkeypatch.setattr(wrap, "BOTH_WAYS_UP_TO", 150 * 131 - (not both))
    data = wrap.write(source, model, 20.0)
    image = wrap.unit(codec_named(model.codec).decode(data)[0])
    seen = view_of(source, model, 20.0)(image)
    assert 255**2 * seen.errors.sum() / (150 * 131) == pytest.approx(error(decompress_picture(data), source), rel=0.1)
    np.testing.assert_allclose(view_of(source, model, 20.0)(image, False).errors.sum(), seen.errors.sum(), rtol=1e-4)
    assert seen.slope.shape == image.shape
    step = np.float32(1e-3 / np.abs(seen.slope).mean()) * seen.slope
    rise = [view_of(source, model, 20.0)(image + way * step).errors.sum() for way in (-1, 1)]
    # Where decoders look both ways the slope is that of one of them, under the error of both.
    share = (rise[1] - rise[0]) / (2 * float((step * seen.slope).sum()))
    assert 0.6 < share < 1.05 if both else abs(share - 1) < 0.05


@pytest.mark.parametrize("name", ["jpeg-gray-two-thirds", "jpeg-gray-third"])
def test_a_view_at_another_size_is_that_of_the_picture_resized(name: str) -> None:
    model, source = model_named(name), picture(60, 47, True)
    image = wrap.unit(jpeg.decode(wrap.write(source, model, 20.0))[0])
    seen, other = (
        view_of(shown, row, 20.0)(image)
        for row, shown in ((model, source), (model_named("jpeg-gray-half"), wrap.seen_by(model, source)))
    )
    np.testing.assert_array_equal(seen.errors, other.errors)
    np.testing.assert_array_equal(seen.slope, other.slope)


def test_a_view_in_tiles_is_nearly_that_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    model, source = model_named("jpeg-gray-full"), picture(400, 330, True)
    image = wrap.unit(jpeg.decode(wrap.write(source, model, 30.0))[0])
    whole = view_of(source, model, 30.0)(image)
    monkeypatch.setattr(view, "SLOPE_TILE", 64)
    assert len(list(tiles.tiles(400, 330, 64, view.SLOPE_OVERLAP, wrap.GRID))) > 4
    parts = view_of(source, model, 30.0)(image)
    assert parts.errors.sum() == pytest.approx(whole.errors.sum(), rel=1e-3)
    assert np.abs(parts.slope - whole.slope).max() < 0.01 * np.abs(whole.slope).max()


def test_no_round_is_taken_for_better_that_is_not() -> None:
    model, source = model_named("jpeg-gray-full"), picture(64, 64, True)
    data = wrap.write(source, model, 30.0)
    written: list[bytes] = []

    def counted(data: bytes) -> bytes:
        written.append(data)
        return data

    assert suited(data, source, model, 30.0, 10, 3, counted) == data, "nothing is so small"
    assert len(written) >= 3
    made = suited(data, source, model, 30.0, len(data), 3, counted)
    assert len(made) <= len(data) and (made == data or made in written)
    assert error(wrap.read(made), source) <= error(wrap.read(data), source)


@pytest.fixture(params=REFINED)
def model(request: pytest.FixtureRequest) -> Learned:
    pytest.importorskip("constriction")
    return learned_named(request.param)


@pytest.mark.parametrize("share", [0.2, 0.6, 0.95])
def test_a_corec_file_is_worth_more(model: Learned, share: float) -> None:
    source = picture(112, 96, False)
    known = Latents(source, model)
    level = round(share * (known.levels - 1))
    worth = 255**2 * float(known.tables.worth[level])
    costs, files = [], []
    for rounds in (0, 3, 3):
        files.append(Latents(source, model, rounds).file(level))
        squares = error(read(files[-1]), source) / 255**2 * source.width * source.height
        costs.append(8 * len(files[-1]) + worth * squares)
    assert costs[1] < costs[0]
    assert files[1] == files[2], "what is drawn at random is drawn alike"


def test_moves_lower_the_cost_they_foretell(model: Learned) -> None:
    known = codec.tables_of(model)
    symbols = np.zeros((4, 2, 2), np.int32)
    numbers, means = np.full((4, 2, 2), 20, np.uint16), np.zeros((4, 2, 2), np.float32)
    curvature = np.full((4, 1, 1), 1.0)
    slope = np.zeros((4, 2, 2))
    slope[1], slope[2], slope[3] = -1000, 1000, -1.5
    tried = refine.Tried(means, symbols, numbers, means, slope, np.zeros((2, 2)))
    move = refine.moves(tried, curvature, partial(bits_of, known))
    np.testing.assert_array_equal(move[:3, 0, 0], [0, 1, -1])
    assert not move[3].any(), "a bit more costs more than the error has to give"


def test_a_size_is_kept_with_rounds_too(model: Learned) -> None:
    source = picture(80, 80, False)
    latents = Latents(source, model, 2)
    for size in (150, 400, 1200):
        data, level = latents.within(size)
        assert len(data) <= size and read(data).pixels.shape == source.pixels.shape
    smallest = latents.file_of(0, latents.scaled(0))
    data, level = latents.within(len(smallest))
    assert level < FINER and len(data) <= len(smallest), "rounds may save what a finer level takes"


@pytest.mark.parametrize("wish", [{"size": 400}, {"quality": 20}])
def test_progress_never_goes_back_with_rounds_either(wish: dict[str, int], model: Learned) -> None:
    shares: list[float] = []
    made = compress_picture(picture(80, 80, False), model=model.name, **wish, effort=2, progress=shares.append)
    assert made.runs > 1 or "size" not in wish, "each file has a progress of its own"
    assert len(shares) > 2 and shares == sorted(shares) and shares[-1] == 1


def test_efforts_that_cannot_be_made_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    image = picture(32, 32, False).pixels
    for effort in (101, -1, 1.5):
        with pytest.raises(RateError, match=r"whole number in 0\.\.100"):
            corec.compress(image, effort=effort)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="takes no effort"):
        corec.compress(image, codec="webp", effort=1)
    with pytest.raises(ModelError, match="takes no effort"):
        corec.compress(image, model="plain", effort=1)
    monkeypatch.setattr(Learned, "refines", property(lambda self: False))
    with pytest.raises(ModelError, match="takes no effort"):
        corec.compress(image, model="balle2017", effort=1)
    assert corec.compress(image, codec="webp", effort=0) == corec.compress(image, codec="webp")


def test_the_part_that_chooses_for_a_large_picture_takes_none(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    monkeypatch.setattr(choice, "suited", lambda data, source, *how: sizes.append(source.width) or data)
    monkeypatch.setattr(choice, "SAMPLE", 64)
    corec.compress(picture(96, 112, False).pixels, bpp=0.5, effort=1)
    assert set(sizes) == {112}


def test_very_large_pictures_take_none_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    image = picture(64, 80, True).pixels
    effort, none = (corec.compress(image, bpp=0.7, effort=effort) for effort in (4, 0))
    assert corec.compress(image, bpp=0.7) == effort != none
    monkeypatch.setattr(wrap, "BOTH_WAYS_UP_TO", 64 * 80 - 1)
    assert corec.compress(image, bpp=0.7) == corec.compress(image, bpp=0.7, effort=0)
