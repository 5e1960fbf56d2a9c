"""The choice among models: few files by a forecast, families by a method's name, a quality for every codec."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny import picture, tiny_zoo

from corec import choice, models
from corec.choice import HEADERS, Choice, Search, Writer, candidates_for
from corec.codecs import jpeg
from corec.codecs.registry import codec_named, codecs
from corec.errors import CodecError, MissingExtraError, ModelError, RateError
from corec.forecast import Spectrum
from corec.models import Model, plain
from corec.picture import Picture
from corec.pipeline import codec_of_model, compress, compress_picture, decompress, decompress_picture
from corec.rate import FULL
from corec.wrap import compacted, write


@pytest.fixture(scope="module", autouse=True)
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with tiny_zoo(tmp_path_factory.mktemp("zoo")) as folder:
        yield folder


Rows = Callable[..., list[Model]]


def drawing(gray: bool) -> Picture:
    """Rectangles of one colour each."""
    random = np.random.default_rng(3)
    pixels = np.full((128, 160, 3), 200, np.uint8)
    for _ in range(12):
        top, left = random.integers(0, 100, 2)
        pixels[top : top + 24, left : left + 40] = random.integers(0, 256, 3)
    return Picture(np.ascontiguousarray(pixels[..., 0]) if gray else pixels)


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> Rows:
    """Changes the rows of the zoo: facts for each model by name."""

    def change(**facts: dict[str, object]) -> list[Model]:
        own = [replace(m, **facts.get(m.name.replace("-", "_"), {})) for m in models.models()]  # type: ignore[arg-type]
        changed = models.at_all_scales([m for m in own if not m.resized])
        for module in (models, choice):
            monkeypatch.setattr(module, "models", lambda: changed)
        return list(changed)

    return change


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the models whose files are written."""
    names: list[str] = []
    monkeypatch.setattr(choice, "write", lambda p, model, *how: names.append(model.name) or write(p, model, *how))
    return names


class TestForecast:
    @pytest.mark.parametrize("gray", [True, False])
    def test_bytes_fall_with_the_step_and_it_leads_back(self, gray: bool) -> None:
        forecast = Spectrum(picture(70, 90, gray)).forecast(1)
        sizes = [forecast.size(step) for step in (1, 2, 5, 10, 30, 100, 300)]
        assert sizes == sorted(sizes, reverse=True)
        assert [forecast.step(size) for size in sizes] == pytest.approx([1, 2, 5, 10, 30, 100, 300])
        assert forecast.times(3).size(20) == pytest.approx(3 * forecast.size(20))

    @pytest.mark.parametrize("gray", [True, False])
    def test_it_is_about_what_real_files_have(self, gray: bool) -> None:
        source, alone = picture(160, 200, gray), plain("jpeg", not gray, codec_named("jpeg").STEPS)
        forecast = Spectrum(source).forecast(1)
        for step in (7.0, 15.0, 30.0):
            assert 0.4 < len(write(source, alone, step)) / forecast.size(step) < 2.5

    def test_halving_loses_three_quarters_of_noise_and_little_of_slopes(self) -> None:
        noise = np.random.default_rng(1).normal(128, 20, (96, 96))
        assert Spectrum(Picture(noise.astype(np.uint8))).lost(2) == pytest.approx(20 * 0.75**0.5, rel=0.05)
        slope = np.tile(np.arange(96, dtype=np.uint8), (96, 1))
        assert Spectrum(Picture(slope)).lost(2) < 1
        assert 0 < Spectrum(Picture(np.full((9, 5), 77, np.uint8))).lost(2) < 1

    def test_halving_loses_nothing_of_one_colour(self) -> None:
        random = np.random.default_rng(1)
        for _ in range(50):
            height, width = random.integers(1, 120, 2)
            solid = np.full((height, width, 3), random.integers(0, 256, 3), np.uint8)
            assert Spectrum(Picture(solid)).lost(2) < 1

    def test_a_large_picture_is_looked_at_here_and_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        source = picture(500, 700, True)
        whole = Spectrum(source)
        monkeypatch.setattr("corec.forecast.PIXELS", 20_000)
        part = Spectrum(source)
        assert part.magnitudes.size < 2 * 20_000
        assert part.forecast(1).size(15) == pytest.approx(whole.forecast(1).size(15), rel=0.1)
        assert part.lost(2) == pytest.approx(whole.lost(2), rel=0.1)

    @pytest.mark.parametrize("gray", [True, False])
    def test_what_is_drawn_is_flat_and_noise_is_not(self, gray: bool) -> None:
        assert Spectrum(picture(160, 200, gray)).flat < 0.3
        assert Spectrum(drawing(gray)).flat > 0.7
        striped = np.zeros((64, 64), np.uint8)
        striped[:, ::2] = 90
        for pixels in (striped, striped.T):  # like its neighbours one way alone
            assert Spectrum(Picture(np.ascontiguousarray(pixels))).flat == 0

    @pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (3000, 1), (7, 9)])
    def test_every_shape_has_one(self, shape: tuple[int, int]) -> None:
        spectrum = Spectrum(picture(*shape, gray=False))
        assert spectrum.forecast(1).size(10) > spectrum.forecast(2).size(10) > 0


@pytest.mark.parametrize(("rounds", "reads"), [(0, 2), (2, 4)])
def test_no_file_is_decoded_twice(rounds: int, reads: int, rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "CLOSE", 1e9)  # so that both come close
    seen: list[bytes] = []
    real = choice.read
    monkeypatch.setattr(choice, "read", lambda data: seen.append(data) or real(data))
    source, candidates = picture(128, 160, True), rows()
    search = Search(source, 1500, Writer(lambda share: None, rounds), FULL)
    group = [row for row in candidates if row.name in ("gray-half", "gray-full")]
    assert search.best_of(group).model in group
    assert len(seen) == len({*seen}) == reads


class TestPromised:
    """What rounds are foretold to give decides which files are worth them."""

    SOURCE = picture(40, 48, True)
    ROW = plain("jpeg", False, codec_named("jpeg").STEPS)
    LARGE = replace(ROW, name="full", reconstruct="r", slope="s")
    SMALL = replace(LARGE, name="half", ratio=2)

    def near(self, errors: dict[str, float], ratio: float, rounds: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        monkeypatch.setattr(choice, "read", lambda data: data)
        monkeypatch.setattr(choice, "squared_error", lambda source, data: errors[data])
        known = {row.name: row for row in (self.LARGE, self.SMALL, self.ROW)}
        found = [Choice(name, known[name], 20.0) for name in errors]  # type: ignore[arg-type]
        search = Search(self.SOURCE, 500, Writer(lambda share: None, rounds), FULL)
        return [made.model.name for made in search.nearest(found, ratio, foretold=True)]

    def test_rounds_gain_a_third_of_a_decibel_at_full_size(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for lead, best in ((1.07, "full"), (1.1, "plain")):  # 0.29 and 0.41 dB
            assert self.near({"full": lead, "plain": 1.0}, 1.0, 4, monkeypatch) == [best]
            assert self.near({"full": lead, "plain": 1.0}, 1.0, 0, monkeypatch) == ["plain"]

    def test_and_half_as_much_at_half_size(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for lead, best in ((1.03, "full"), (1.05, "half")):
            assert self.near({"full": lead, "half": 1.0}, 1.0, 4, monkeypatch) == [best]
        for lead, best in ((1.03, "half"), (1.05, "plain")):
            assert self.near({"half": lead, "plain": 1.0}, 1.0, 4, monkeypatch) == [best]

    @pytest.mark.parametrize(("lead", "count"), [(1.02, 2), (1.03, 1)])
    def test_what_is_close_is_suited_too(self, lead: float, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
        errors, suited = {"one": 1.0, "two": lead}, []
        monkeypatch.setattr(choice, "read", lambda data: data)
        monkeypatch.setattr(choice, "squared_error", lambda source, data: errors[data])
        monkeypatch.setattr(Writer, "suited", lambda self, made, *facts: suited.append(made.data) or made)
        monkeypatch.setattr(Search, "largest", lambda self, model: Choice(model.name, model, 20.0))  # type: ignore[arg-type]
        search = Search(self.SOURCE, 500, Writer(lambda share: None, 4), FULL)
        assert search.best_of([replace(self.LARGE, name=name) for name in errors]).data == "one"
        assert suited == ["one", "two"][:count]


class TestLikely:
    SOURCE = picture(128, 160, True)

    def names(self, size: int = 1500) -> list[str]:
        search = Search(self.SOURCE, size, Writer(lambda share: None), FULL)
        return [model.name for model in search.likely(candidates_for(self.SOURCE, "jpeg", None))]

    def test_of_few_bytes_all_are_tried(self, rows: Rows) -> None:
        rows(gray_half={"pays": 1e-3}, gray_full={"pays": 1.0})
        assert len(self.names(HEADERS)) == len(candidates_for(self.SOURCE, "jpeg", None)) > len(self.names(HEADERS + 1))

    def test_far_from_borders_it_is_one(self, rows: Rows) -> None:
        rows(gray_half={"pays": 1e-3}, gray_full={"pays": 1.0})
        assert self.names() == ["gray-half"]
        rows(gray_half={"pays": 1e3}, gray_full={"pays": 1e-3})
        assert self.names() == ["gray-full"]
        rows(gray_half={"pays": 1e3}, gray_full={"pays": 1e3})
        assert self.names() == ["gray-full", "plain"]

    def test_of_a_drawing_it_is_all(self, rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
        rows(gray_half={"pays": 1e-3}, gray_full={"pays": 1.0})
        monkeypatch.setattr(self.__class__, "SOURCE", drawing(True))
        assert self.names() == ["gray-half", "gray-full", "plain"]

    def test_near_a_border_it_is_both_sides(self, rows: Rows) -> None:
        spectrum = Spectrum(self.SOURCE)
        step = spectrum.forecast(1).step(1500)
        for factor, expected in ((1.1, ["gray-half", "gray-full"]), (0.9, ["gray-half", "gray-full"]), (1.6, None)):
            rows(gray_half={"pays": factor * step / spectrum.lost(2)}, gray_full={"pays": 1e-3})
            assert self.names() == (expected or ["gray-full"])
        rows(gray_half={"pays": 1e3}, gray_full={"pays": 1.1 * step})
        assert self.names() == ["gray-full", "plain"]

    def test_fewer_bytes_never_ask_for_a_finer_resolution(self, rows: Rows) -> None:
        spectrum = Spectrum(self.SOURCE)
        rows(gray_half={"pays": 40 / spectrum.lost(2)}, gray_full={"pays": 12.0})
        order = ["gray-half", "gray-full", "plain"]
        found = [self.names(size) for size in range(300, 12_000, 300)]
        firsts = [order.index(names[0]) for names in found]
        assert firsts == sorted(firsts)
        assert {name for names in found for name in names} == set(order)

    def test_two_thirds_lie_between_half_and_full_size(self, rows: Rows) -> None:
        spectrum = Spectrum(self.SOURCE)
        step = spectrum.forecast(1).step(1500)
        half, between = spectrum.lost(2), spectrum.lost(1.5)
        assert 0 < between < half
        assert spectrum.forecast(1).size(9) > spectrum.forecast(1.5).size(9) > spectrum.forecast(2).size(9)
        for own, others, expected in (
            (0.1, 0.1, ["gray-half"]),
            (1, 0.1, ["gray-half", "gray-two-thirds"]),
            (9, 0.1, ["gray-two-thirds"]),
            (9, 1.1, ["gray-two-thirds", "gray-full"]),
            (9, 9, ["gray-full"]),
        ):
            facts = {"scales": (1.5,), "pays": own * step / half, "scales_pay": (others * step / between,)}
            rows(gray_half=facts, gray_full={"pays": 1e-3})
            assert self.names() == expected

    def test_the_largest_pictures_are_not_enlarged(self, rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
        rows(gray_half={"scales": (1.5, 3.0)})
        for most, expected in ((128 * 160, True), (128 * 160 - 1, False)):
            monkeypatch.setattr(choice, "ENLARGED", most)
            scales = {m.scale for m in candidates_for(self.SOURCE, "jpeg", None)}
            assert scales == {1, 2, 3} | ({1.5} if expected else set())
            assert candidates_for(self.SOURCE, "jpeg", "gray-two-thirds")[0].scale == 1.5

    def test_what_is_not_known_is_tried(self, rows: Rows) -> None:
        assert self.names() == ["gray-half", "gray-full"]
        assert self.names(60_000) == ["gray-half", "gray-full", "plain"]
        rows(gray_full={"pays": 1e-3})
        assert self.names(60_000) == ["gray-half", "gray-full"]

    @pytest.mark.parametrize("name", ["gray-half", "gray-full", "plain"])
    def test_only_that_is_written(self, rows: Rows, written: list[str], name: str) -> None:
        low = 1e-3 if name == "gray-half" else 1e3
        rows(gray_half={"pays": low}, gray_full={"pays": 1e-3 if name == "gray-full" else 1e3})
        made = compress_picture(self.SOURCE, size=1000 if name == "gray-half" else 2500, effort=0)
        assert made.model == name
        assert set(written) == ({name} if name != "plain" else {"gray-full", name})
        assert made.runs == len(written)

    def test_the_better_of_two_is_taken(self, rows: Rows, written: list[str]) -> None:
        step = Spectrum(self.SOURCE).forecast(1).step(9000)
        rows(gray_half={"pays": 1e3}, gray_full={"pays": step})
        made = compress_picture(self.SOURCE, size=9000, effort=0)
        assert set(written) == {"gray-full", "plain"}
        assert made.model == "plain"  # networks of random weights lose
        assert made.runs == len(written)

    def test_beside_a_bare_model_the_codec_alone_writes_once(self, rows: Rows, written: list[str]) -> None:
        rows(gray_full={"codec": "webp", "compact": "", "shapes": (), "pays": 20.0})
        size = round(Spectrum(self.SOURCE).forecast(1).size(20))
        made = compress_picture(self.SOURCE, codec="webp", size=size)
        assert made.model == "plain"  # networks of random weights lose
        assert written.count("plain") == 1 < written.count("gray-full")
        assert made.data == compress_picture(self.SOURCE, codec="webp", size=size, model="plain").data

    def test_the_codec_alone_goes_on_where_a_bare_model_ends(self, rows: Rows) -> None:
        rows(gray_full={"codec": "webp", "compact": "", "shapes": (), "steps": (40.0, 80.0), "pays": None})
        size = round(Spectrum(self.SOURCE).forecast(1).size(8))
        made, alone = (compress_picture(self.SOURCE, codec="webp", size=size, model=name) for name in (None, "plain"))
        assert made.data == alone.data and len(made.data) > 0.9 * size

    def test_a_finer_resolution_goes_on_where_half_size_ends(self, rows: Rows, written: list[str]) -> None:
        rows(gray_half={"pays": 1e-3, "steps": (40.0, 80.0)}, gray_full={"pays": 1e-6})
        half = compress_picture(self.SOURCE, model="gray-half", quality=100, effort=0)
        assert compress_picture(self.SOURCE, size=len(half.data) - 100, effort=0).model == "gray-half"
        assert "gray-full" not in written
        more = compress_picture(self.SOURCE, size=3 * len(half.data), effort=0)
        assert more.model == "plain" and {"gray-full", "plain"} <= set(written)  # networks of random weights lose

    def test_what_cannot_be_so_small_is_found_out(self, rows: Rows) -> None:
        rows(gray_half={"pays": 1e6}, gray_full={"pays": 1e6})
        smallest = len(compress_picture(self.SOURCE, model="gray-half", quality=0).data)
        made = compress_picture(self.SOURCE, size=smallest + 20)
        assert made.model != "plain"
        assert len(made.data) <= smallest + 20


class TestFamilies:
    def test_a_method_is_chosen_among_as_by_default(self, rows: Rows, written: list[str]) -> None:
        rows(gray_half={"method": "zhao", "default": False}, gray_full={"method": "zhao", "default": False})
        source = picture(60, 72, True)
        assert compress_picture(source, model="zhao", size=800).model in ("gray-half", "gray-full")
        assert set(written) == {"gray-half", "gray-full"}
        assert compress_picture(source, size=800).model == "plain"

    def test_a_model_of_that_name_wins(self, rows: Rows) -> None:
        rows(gray_half={"name": "joint"})
        assert [m.name for m in candidates_for(picture(9, 9, True), "jpeg", "joint")] == ["joint"]
        with pytest.raises(ModelError, match="the picture is colour, and joint is a gray model"):
            candidates_for(picture(9, 9, False), "jpeg", "joint")

    def test_what_does_not_fit_is_refused(self, rows: Rows) -> None:
        rows(color_half={"method": "other", "codec": "webp"}, color_full={"method": "other", "codec": "bpg"})
        gray, colour = picture(9, 9, True), picture(9, 9, False)
        for source, codec, name, message in (
            (gray, "jpeg", "nothing", "no model 'nothing'; `corec models` lists them"),
            (colour, "jpeg", "joint", "the picture is colour, and joint has gray models"),
            (colour, "jpeg", "other", "the models of other are for webp, bpg, not jpeg"),
            (gray, "bpg", "other", "the picture is gray, and other has colour models"),
            (gray, "jpeg", "restore", "restore is for restore: it compresses nothing"),
            (colour, "jpeg", "color-half", "model color-half is for webp, not jpeg"),
        ):
            with pytest.raises(ModelError, match=message):
                candidates_for(source, codec, name)

    def test_its_codec_is_known_if_it_has_only_one(self, rows: Rows) -> None:
        rows(gray_half={"method": "zhao", "codec": "webp"}, color_half={"codec": "bpg"})
        assert (codec_of_model("zhao"), codec_of_model("joint"), codec_of_model("gray-full")) == ("webp", None, "jpeg")
        with pytest.raises(ModelError):
            codec_of_model("nothing")

    def test_a_picture_of_too_many_pixels_at_full_resolution_has_the_others(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        image = picture(40, 60, True)
        monkeypatch.setattr(jpeg, "PIXELS", 600)
        assert {model.scale for model in candidates_for(image, "jpeg", None)} == {2}
        monkeypatch.setattr(jpeg, "PIXELS", 599)
        with pytest.raises(CodecError, match="pixels a side and 2396 in all, not 60x40"):
            candidates_for(image, "jpeg", None)

    def test_a_picture_that_is_too_long_at_full_resolution_has_the_others(self) -> None:
        long = Picture(np.zeros((2, 70_000), np.uint8))
        assert [m.name for m in candidates_for(long, "jpeg", "joint")] == ["gray-half"]
        with pytest.raises(CodecError):
            candidates_for(long, "jpeg", "gray-full")


@pytest.mark.parametrize("name", [codec.NAME for codec in codecs()])
def test_a_higher_quality_is_better_and_costs_more(name: str) -> None:
    source = picture(72, 96, True)
    try:
        made = [compress_picture(source, codec=name, model="plain", quality=q) for q in (0, 20, 40, 60, 80, 100)]
    except MissingExtraError as error:
        pytest.skip(str(error))
    sizes = [len(one.data) for one in made]
    errors = [np.square(decompress_picture(one.data).pixels - source.pixels.astype(float)).mean() for one in made]
    assert sizes == sorted(sizes)
    assert errors == sorted(errors, reverse=True)
    assert sizes[-1] > 3 * sizes[0]
    assert {one.runs for one in made} == {1}


@pytest.mark.parametrize("gray", [True, False])
def test_a_quality_holds_for_whatever_is_chosen(rows: Rows, gray: bool) -> None:
    source = picture(72, 96, gray)
    kind = "gray" if gray else "color"
    sizes, names = [], set()
    for pays, qualities in ((1e-3, (0, 20, 40)), (1e3, (45, 60, 80, 100))):
        rows(**{f"{kind}_half": {"pays": pays}, f"{kind}_full": {"pays": 1e-3}})
        for quality in qualities:
            made = compress_picture(source, quality=quality, effort=0)
            whole = compress_picture(source, quality=quality, model=f"{kind}-full", effort=0)
            assert 0.9 * len(whole.data) <= len(made.data) <= len(whole.data) or made.scale == 2
            assert made.data == whole.data or made.scale == 2
            assert len(made.data) <= len(whole.data)
            sizes.append(len(made.data))
            names.add(made.model)
    assert sizes == sorted(sizes)
    assert names == {f"{kind}-half", f"{kind}-full"}


def test_a_compact_image_serves_steps_near_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    source, other = picture(72, 96, True), picture(72, 96, True)
    half, full = candidates_for(source, "jpeg", "gray-half")[0], candidates_for(source, "jpeg", "gray-full")[0]
    made: list[float] = []
    monkeypatch.setattr(choice, "compacted", lambda p, m, step: made.append(step) or compacted(p, m, step))
    writer = Writer(lambda share: None)
    first = writer.write(source, half, 20.0)
    assert first == write(source, half, 20.0)
    near = writer.write(source, half, 21.5)
    assert made == [20.0]
    assert near == write(source, half, 21.5, compacted(source, half, 20.0)) != first
    writer.write(source, half, 23.0)
    writer.write(source, full, 23.0)
    writer.write(other, full, 23.0)
    assert made == [20.0, 23.0, 23.0, 23.0]
    assert writer.runs == 5


def test_jpeg2000_fills_its_bytes_in_few_files() -> None:
    source = picture(128, 128, True)
    for size in (500, 900, 1700):
        made = compress_picture(source, codec="jpeg2000", size=size)
        assert 0.9 * size <= len(made.data) <= size
        assert made.runs == 2
        assert decompress_picture(made.data).pixels.shape == (128, 128)
    with pytest.raises(RateError) as caught:
        compress_picture(source, codec="jpeg2000", size=60)
    assert caught.value.smallest
    assert len(compress_picture(source, codec="jpeg2000", size=caught.value.smallest).data) <= caught.value.smallest


@pytest.mark.parametrize("codec", ["jpeg", "jpeg2000"])
def test_a_picture_of_hardly_any_contrast_looks_like_itself(codec: str) -> None:
    """Its file is all header, of which no forecast knows."""
    rows, columns = np.mgrid[:128, :160]
    for pixels in (np.full((100, 200), 255), 230 + 8 * np.sin(rows / 20) * np.cos(columns / 25)):
        source = pixels.round().astype(np.uint8)
        for wish in ({}, {"quality": 0}, {"quality": 100}):
            data = compress(source, codec=codec, **wish)  # type: ignore[arg-type]
            assert np.abs(decompress(data).astype(int) - source).mean() < 12
