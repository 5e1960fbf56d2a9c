"""What all codecs have in common: the protocol, and a way there and back through Corec for every file ending."""

import inspect
from pathlib import Path

import numpy as np
import pytest
from tiny import picture

from corec.cli import main
from corec.codecs.base import Codec
from corec.codecs.registry import codec_named, codec_of, codecs
from corec.errors import CodecError, MissingExtraError
from corec.picture import read_picture, write_picture
from corec.pipeline import compress_picture, decompress_picture, describe

NAMES = [codec.NAME for codec in codecs()]
ENDINGS = [(codec.NAME, ending) for codec in codecs() for ending in codec.SUFFIXES]
MEMBERS = [name for name in (*Codec.__annotations__, *vars(Codec)) if not name.startswith("_")]


def usable(name: str) -> Codec:
    """A codec; without its package the test is skipped."""
    codec = codec_named(name)
    try:
        codec.encode(np.zeros((8, 8, 1), np.uint8), codec.settle(20.0), ())
    except MissingExtraError as error:
        pytest.skip(str(error))
    return codec


@pytest.mark.parametrize("name", NAMES)
def test_a_codec_has_all_members_of_the_protocol(name: str) -> None:
    codec = codec_named(name)
    for member in MEMBERS:
        assert hasattr(codec, member), member
        if inspect.isfunction(getattr(Codec, member, None)):
            wanted = list(inspect.signature(getattr(Codec, member)).parameters)[1:]
            assert list(inspect.signature(getattr(codec, member)).parameters) == wanted, member


def test_names_and_endings_are_each_codecs_own() -> None:
    assert len(set(NAMES)) == len(NAMES)
    assert len({ending for _, ending in ENDINGS}) == len(ENDINGS)
    with pytest.raises(CodecError, match="no codec 'gif'; there are: jpeg, "):
        codec_named("gif")


@pytest.mark.parametrize("planes", [1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_the_envelopes_cost_is_what_the_file_grows_by(name: str, planes: int) -> None:
    codec = usable(name)
    image = np.ascontiguousarray(picture(40, 48, False).pixels[..., :planes])
    bare = codec.encode(image, 30.0, ())
    assert codec.extract(bare) is None
    for envelope in (b"\x10\x00", b"\x14\x01\x90", b"\x14\x81\x01\x90"):
        data = codec.embed(bare, envelope)
        assert codec.extract(data) == envelope
        assert codec_of(data) is codec
        assert codec.overhead(envelope, data) == len(data) - len(bare) <= 12
        np.testing.assert_array_equal(codec.decode(data)[0], codec.decode(bare)[0])


@pytest.mark.parametrize("gray", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_a_picture_goes_there_and_back(name: str, gray: bool) -> None:
    usable(name)
    source = picture(37, 51, gray)
    made = compress_picture(source, codec=name, model="plain", bpp=4)
    assert len(made.data) <= 4 * 37 * 51 / 8
    assert describe(made.data)["codec"] == name
    restored = decompress_picture(made.data).pixels
    assert restored.shape == source.pixels.shape
    assert np.abs(restored.astype(int) - source.pixels).mean() < 8


@pytest.mark.parametrize(("name", "ending"), ENDINGS)
def test_the_destinations_ending_chooses_the_codec(name: str, ending: str, tmp_path: Path) -> None:
    usable(name)
    source, target = tmp_path / "photo.png", tmp_path / f"photo{ending}"
    write_picture(picture(24, 32, False), source)
    assert main(["compress", str(source), "-o", str(target), "--model", "plain", "--quality", "60"]) == 0
    assert name == codec_of(target.read_bytes()).NAME
    assert main(["decompress", str(target), "-o", str(tmp_path / "back.png")]) == 0
    assert read_picture(tmp_path / "back.png").pixels.shape == (24, 32, 3)
