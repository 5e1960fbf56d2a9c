"""HEVC's numbers, units and parameter sets, as far as BPG files and their decoders need them."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corec.codecs import hevc
from corec.errors import CodecError


@pytest.mark.parametrize(
    ("bits", "unsigned", "signed"), [("1", 0, 0), ("010", 1, 1), ("011", 2, -1), ("00100", 3, 2), ("00101", 4, -2)]
)
def test_exp_golomb_numbers_are_those_of_h265(bits: str, unsigned: int, signed: int) -> None:
    data = bytes([int(bits.ljust(8, "0"), 2)])
    assert hevc.BitReader(data).ue() == unsigned
    assert hevc.BitReader(data).se() == signed
    writer = hevc.BitWriter()
    writer.ue(unsigned)
    assert writer.bytes() == data


@settings(deadline=None)
@given(st.binary(max_size=40).map(lambda data: data.replace(b"\xff", b"\0")))
def test_a_unit_holds_no_start_code_and_is_read_as_it_was_written(payload: bytes) -> None:
    unit = hevc.unit_of(hevc.SPS, payload + b"\x80")
    assert not re.search(rb"\0\0[\0-\2]", unit)
    assert hevc.unescaped(unit[2:]) == payload + b"\x80"
    assert hevc.type_of(unit) == hevc.SPS
    assert hevc.units_of(unit + b"\0\0\0\1" + unit + b"\0\0\1" + unit + b"\0") == [unit] * 3


@settings(deadline=None)
@given(
    st.tuples(*[st.integers(0, 3)] * 5),
    st.integers(0, 1),
    st.sampled_from([(), (7, 7, 0, 2, 1), (4, 7, 1, 0, 0)]),
    st.integers(0, 1),
    st.sampled_from([0, 1, 3]),
)
def test_tools_go_through_both_headers(
    blocks: tuple[int, ...], sao: int, pcm: tuple[int, ...], smoothing: int, chroma: int
) -> None:
    tools = hevc.Tools(blocks, sao, pcm, smoothing)
    assert hevc.tools_of_header(hevc.header_of_tools(tools)) == tools
    assert hevc.tools_of_sps(hevc.parameter_sets(tools, 64 * 8, 64 * 9, chroma)[1]) == tools


def test_an_hevc_header_that_makes_no_sense_is_refused() -> None:
    for header, message in (("00", "cut short"), ("00 00 00 00 00 00", "no such number"), ("29 ff ff ff", "no blocks")):
        with pytest.raises(CodecError, match=message):
            hevc.tools_of_header(bytes.fromhex(header))


def test_hevcs_range_extension_is_refused_unless_it_adds_nothing() -> None:
    plain = "1" * 5 + "101"  # blocks of one size without a depth; SAO, no PCM, smoothing
    tools = hevc.Tools((0, 0, 0, 0, 0), 1, (), 1)
    for extension in ("0", "1" + "0" * 8, "1" + "10000000" + "0" * 9):
        bits = hevc.BitWriter()
        bits.bits = plain + extension
        assert hevc.tools_of_header(bits.bytes()) == tools
    for extension in ("1" + "00000001", "1" + "10000000" + "001000010"):
        bits.bits = plain + extension
        with pytest.raises(CodecError, match="with HEVC's range extension is none of ours"):
            hevc.tools_of_header(bits.bytes())
