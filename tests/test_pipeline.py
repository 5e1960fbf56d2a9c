"""A picture there and back: exact sizes, never too many bytes, and tiles that do not show."""

import io
import math
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny import KINDS, RESIZED, photo, picture, reach_of, tiny_zoo

from corec import choice, runtime, wrap
from corec.codecs import jpeg
from corec.errors import CodecError, EnvelopeError, ModelError, PictureError, RateError
from corec.models import SIZES, model_named, models
from corec.picture import resized
from corec.pipeline import compress, compress_picture, decompress, decompress_picture, describe, restore


@pytest.fixture(scope="module", autouse=True)
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with tiny_zoo(tmp_path_factory.mktemp("zoo"), resized=True) as folder:
        yield folder


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 70),
    st.integers(1, 70),
    st.booleans(),
    st.sampled_from([None, *KINDS, *RESIZED]),
    st.floats(0, 100),
)
@example(1, 1, True, "gray-half", 50.0)
@example(1, 2, True, "gray-two-thirds", 50.0)
@example(1, 1, False, "color-half", 50.0)
@example(2, 1, False, None, 100.0)
def test_there_and_back_has_the_exact_size(
    height: int, width: int, gray: bool, name: str | None, quality: float
) -> None:
    gray = gray if name is None else name.startswith("gray")
    result = compress_picture(picture(height, width, gray), model=name, quality=quality)
    restored = decompress_picture(result.data)
    assert (restored.width, restored.height, restored.gray) == (width, height, gray)
    assert (result.width, result.height) == (width, height)
    facts = describe(result.data)
    assert (facts["width"], facts["height"], facts["model"]) == (width, height, result.model)
    assert facts["model"] == name or name is None
    with Image.open(io.BytesIO(result.data)) as opened:
        assert opened.size == (math.ceil(width / result.scale), math.ceil(height / result.scale))


@pytest.mark.parametrize(("name", "size"), [("gray-two-thirds", (88, 60)), ("gray-third", (44, 30))])
def test_at_other_sizes_the_networks_see_the_picture_resized(name: str, size: tuple[int, int]) -> None:
    source = picture(45, 65, True)
    model, half = model_named(name), model_named("gray-half")
    data = wrap.write(source, model, 20.0)
    resized_picture = wrap.seen_by(model, source)
    assert (resized_picture.width, resized_picture.height) == size
    other = wrap.write(resized_picture, half, 20.0)
    assert len(data) == len(other) + 1 and describe(data)["number"] == describe(other)["number"] == 1
    np.testing.assert_array_equal(jpeg.decode(data)[0], jpeg.decode(other)[0])
    np.testing.assert_array_equal(decompress(data), resized(decompress(other), 65, 45))


@pytest.mark.parametrize("name", ["gray-half", "color-full", "color-two-thirds", "gray-third"])
def test_sizes_that_no_picture_has_are_refused(name: str) -> None:
    scale = model_named(name).scale
    for extent in range(1, 7):
        data = compress(picture(2, extent, name.startswith("gray")).pixels, model=name, quality=50)
        start, resized_at = data.index(b"Co") + 2, scale in SIZES
        taken = 0
        for missing in range(4 if resized_at else 2):
            other = bytearray(data)
            if resized_at:
                other[start + 1] = other[start + 1] & 0xF3 | missing << 2
            else:
                other[start] = other[start] & 0xFD | missing << 1
            try:
                shown = decompress(bytes(other))
            except EnvelopeError as error:
                assert "agree on no size of a picture" in str(error)
                continue
            taken += 1
            assert math.ceil(shown.shape[1] / scale) == describe(data)["compact_width"]
        whole = int(scale * math.ceil(extent / scale))
        assert taken == sum(math.ceil(side / scale) == math.ceil(extent / scale) for side in range(1, whole + 1))


def test_rounds_never_make_a_resized_picture_worse(monkeypatch: pytest.MonkeyPatch) -> None:
    """They look at what the networks see."""
    source = picture(24, 24, True)
    monkeypatch.setattr(choice, "suited", lambda data, *facts: wrap.write(source, model_named("gray-two-thirds"), 90.0))
    made = choice.Choice(wrap.write(source, model_named("gray-two-thirds"), 9.0), model_named("gray-two-thirds"), 9.0)
    writer = choice.Writer(lambda share: None, rounds=1)
    slow = replace(made, model=replace(made.model, slope="some"))
    assert writer.suited(slow, source, 10_000).data == made.data


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.booleans(), st.integers(1, 6000))
def test_a_size_is_never_exceeded(height: int, width: int, gray: bool, size: int) -> None:
    source = picture(height, width, gray)
    try:
        result = compress_picture(source, size=size)
    except RateError as error:
        assert error.smallest is not None
        assert error.smallest > size
        assert len(compress_picture(source, size=error.smallest).data) <= error.smallest
        return
    assert len(result.data) <= size
    assert decompress(result.data).shape[:2] == (height, width)


@pytest.mark.parametrize("gray", [True, False])
@pytest.mark.parametrize(("height", "width"), [(1, 5000), (5000, 1), (3, 2301)])
def test_extreme_shapes(height: int, width: int, gray: bool) -> None:
    result = compress_picture(picture(height, width, gray), bpp=3)
    assert len(result.data) <= 3 * height * width / 8
    assert decompress(result.data).shape[:2] == (height, width)


def test_bits_per_pixel_count_the_picture_not_the_compact_image() -> None:
    source = picture(64, 96, False)
    data = compress(source.pixels, bpp=2.0, model="color-half")
    assert len(data) <= 2 * 64 * 96 / 8
    assert describe(data)["bpp"] == pytest.approx(8 * len(data) / (64 * 96))


def test_a_higher_quality_costs_more() -> None:
    source = picture(128, 128, True)
    sizes = [len(compress(source.pixels, quality=quality, model="gray-full")) for quality in (0, 30, 60, 100)]
    assert sizes == sorted(set(sizes))


def test_bytes_of_any_kind_are_a_file(tmp_path: Path) -> None:
    data = compress(picture(20, 30, True).pixels, quality=20)
    expected = decompress(data)
    for kind in (bytearray, memoryview):
        np.testing.assert_array_equal(decompress(kind(data)), expected)
        assert describe(kind(data))["bytes"] == len(data)
    for other in ("a.jpg", None, expected):
        for read in (decompress, describe, restore):
            with pytest.raises(CodecError, match="must be the bytes of a file, not"):
                read(other)  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # it is what is tested
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_loads_networks_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without waiting for threads that only its parent has."""
    cache = runtime.Cache(1)
    monkeypatch.setattr(runtime, "CACHE", cache)
    monkeypatch.setattr(runtime, "available_threads", lambda: 2)
    data = [compress(picture(20, 30, name[0] == "g").pixels, model=name) for name in ("gray-half", "color-half")]
    assert len(cache.networks) == 1
    read_end, write_end = os.pipe()
    if not (child := os.fork()):
        try:
            shapes = [decompress(file).shape for file in (*data, *data)]
            os.write(write_end, bytes([len(shapes), len(cache.networks), len(cache.left)]))
        finally:
            os._exit(0)
    os.close(write_end)
    deadline = time.monotonic() + 60
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            break
        time.sleep(0.01)
    with os.fdopen(read_end, "rb") as told:
        assert told.read() == bytes([4, 1, 1])


def test_any_number_of_bits_may_be_allowed() -> None:
    assert compress(picture(20, 30, True).pixels, bpp=1e308) == compress(picture(20, 30, True).pixels, bpp=1e5)
    large = np.zeros((400, 400), np.uint8)  # more pixels than half precision counts to
    assert compress(large, bpp=np.float16(0.5)) == compress(large, bpp=0.5)
    assert compress(large, size=np.float16("inf")) == compress(large, size=10**9)


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"quality": 101}, "quality must lie in 0..100, not 101"),
        ({"quality": -1}, "quality must lie in 0..100"),
        ({"quality": "50"}, "quality must be a number, not '50'"),
        ({"bpp": [1]}, r"bpp must be a number, not \[1\]"),
        ({"size": True}, "size must be a number, not True"),
        ({"quality": float("nan")}, "quality must lie in 0..100"),
        ({"bpp": 0}, "bpp must be a number above 0"),
        ({"bpp": float("inf")}, "bpp must be a number above 0"),
        ({"bpp": 1e-9}, "byte"),
        ({"size": 0}, "byte"),
        ({"size": math.nan}, "size must be at least 1, a byte, not nan"),
        ({"size": 5}, "5 bytes are too few for this picture: the smallest size is"),
        ({"size": 500, "bpp": 1}, "give one of quality, bpp and size"),
    ],
)
def test_wishes_that_cannot_be_met_are_refused(wish: dict[str, Any], message: str) -> None:
    with pytest.raises(RateError, match=message):
        compress(picture(20, 30, True).pixels, **wish)


def test_a_model_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ModelError, match="the picture is colour, and gray-half is a gray model"):
        compress(picture(9, 9, False).pixels, model="gray-half")
    with pytest.raises(ModelError, match="the picture is gray, and color-half is a colour model"):
        compress(picture(9, 9, True).pixels, model="color-half")
    with pytest.raises(ModelError, match="no model 'none'"):
        compress(picture(9, 9, True).pixels, model="none")
    with pytest.raises(ModelError, match="a model is given by its name, not as Model"):
        compress(picture(9, 9, True).pixels, model=models()[0])  # type: ignore[arg-type]
    with pytest.raises(CodecError, match="no codec 'tiff'"):
        compress(picture(9, 9, True).pixels, codec="tiff")
    for codec in ("", ["jpeg"]):
        with pytest.raises(CodecError, match="no codec"):
            compress(picture(9, 9, True).pixels, codec=codec)  # type: ignore[arg-type]
    with pytest.raises(RateError, match="effort must be a whole number"):
        compress(picture(9, 9, True).pixels, effort=True)


def test_no_picture_is_written_that_would_not_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    source = picture(50, 60, True)
    data = compress(source.pixels)
    monkeypatch.setattr(wrap, "LARGEST", 2999)
    for call in (partial(compress, source.pixels), partial(decompress, data), partial(describe, data)):
        with pytest.raises(PictureError, match="60 x 50 pixels are too many"):
            call()


def test_gray_keeps_luma_alone() -> None:
    assert decompress(compress(picture(20, 30, False).pixels, gray=True)).shape == (20, 30)


def test_progress_ends_at_one_and_never_goes_back() -> None:
    source = picture(40, 50, True)
    for run in (partial(compress_picture, source), partial(decompress_picture, compress(source.pixels))):
        shares: list[float] = []
        run(progress=shares.append)
        assert shares == sorted(shares)
        assert shares[-1] == 1


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(("height", "width"), [(301, 450), (449, 128), (1, 700)])
def test_tiles_do_not_show(monkeypatch: pytest.MonkeyPatch, name: str, height: int, width: int) -> None:
    source = picture(height, width, name.startswith("gray"))
    data = compress_picture(source, model=name, quality=30).data
    compacted: list[np.ndarray] = []
    encode = jpeg.encode
    monkeypatch.setattr(jpeg, "encode", lambda image, *how: compacted.append(image) or encode(image, *how))
    restored = []
    for tile in (1024, 128):
        monkeypatch.setattr(wrap, "TILE", tile)
        compress_picture(source, model=name, quality=30)
        restored.append(decompress(data))
    for whole, tiled in (restored, (compacted[0], compacted[-1])):
        assert np.abs(whole.astype(int) - tiled).max() <= 1


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("part", ["compact", "reconstruct"])
def test_tiles_overlap_by_more_than_a_network_looks(name: str, part: str) -> None:
    reach = reach_of(model_named(name), part)
    assert reach <= wrap.OVERLAP
    assert reach > (64 if part == "reconstruct" else 4), "the measure itself must see something"


def test_tiles_too_close_would_show(monkeypatch: pytest.MonkeyPatch) -> None:
    data = compress_picture(picture(301, 450, True), model="gray-full", quality=30).data
    whole = decompress(data)
    monkeypatch.setattr(wrap, "TILE", 128)
    monkeypatch.setattr(wrap, "OVERLAP", 0)
    assert np.abs(whole.astype(int) - decompress(data)).max() > 1


@pytest.mark.parametrize("size", [60_000, 3000, 1200])
@pytest.mark.parametrize("model", [None, "gray-half"])
def test_a_large_picture_is_tried_on_its_middle(model: str | None, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "SAMPLE", 64)
    source, wholes = picture(200, 333, True), []
    write = choice.write
    monkeypatch.setattr(choice, "write", lambda p, *how: (wholes.append(p) if p is source else None) or write(p, *how))
    result = compress_picture(source, model=model, size=size)
    # So small a sample is mostly headers; 60,000 bytes are more than the picture can use.
    assert 0.75 * size <= len(result.data) <= size or size == 60_000
    assert decompress(result.data).shape == (200, 333)
    assert 1 <= len(wholes) <= 5


def test_a_large_picture_that_cannot_be_so_small_says_how_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "SAMPLE", 64)
    with pytest.raises(RateError, match="the smallest size is") as caught:
        compress_picture(picture(200, 333, True), size=150)
    assert caught.value.smallest
    assert len(compress_picture(picture(200, 333, True), size=caught.value.smallest).data) == caught.value.smallest


def test_what_a_viewer_shows_of_a_file_of_ours_is_not_compressed(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(compress(picture(31, 50, False).pixels, bpp=2.0))
    with Image.open(path) as image, pytest.raises(EnvelopeError, match="written by Corec"):
        compress(image)
    with path.open("rb") as stream, Image.open(stream) as image, pytest.raises(EnvelopeError, match="written by Corec"):
        compress(image)
    with Image.open(path) as image:
        image.load()
        with pytest.raises(EnvelopeError, match="written by Corec"):
            compress(image)
        assert compress(image.copy(), bpp=2.0)
        image.filename = 7  # type: ignore[assignment]
        assert compress(image, bpp=2.0)


@pytest.mark.parametrize("model", ["plain", "color-half"])
def test_an_image_of_another_size_than_its_header_tells_fills_no_picture(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, decode = compress(picture(48, 64, False).pixels, model=model), jpeg.decode
    monkeypatch.setattr(jpeg, "decode", lambda data: (decode(data)[0][:-8], decode(data)[1]))
    with pytest.raises(CodecError, match="its header and its image are not of the same size"):
        decompress(data)


def test_an_image_that_is_being_read_is_read_on(tmp_path: Path) -> None:
    photo(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert compress(image, bpp=2.0) == compress(image.copy(), bpp=2.0)
    with Image.open(tmp_path / "a.png") as image:
        pass
    with pytest.raises(PictureError, match="was closed before its pixels were read"):
        compress(image)


def test_the_facts_of_a_file() -> None:
    data = compress_picture(picture(31, 50, False), model="color-half", size=2000).data
    facts = describe(data)
    assert facts == {
        "codec": "jpeg",
        "model": "color-half",
        "number": 5,
        "scale": 2,
        "width": 50,
        "height": 31,
        "compact_width": 25,
        "compact_height": 16,
        "bytes": len(data),
        "envelope_bytes": 8,
        "bpp": 8 * len(data) / (31 * 50),
    }
    assert data[2:10] == bytes.fromhex("ff eb 00 06 43 6f 11 05")
