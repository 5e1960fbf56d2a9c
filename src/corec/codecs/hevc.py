"""The few fields of an HEVC stream (ITU-T H.265) that a BPG file leaves out, adds or tells of.

BPG drops the video and sequence parameter sets and keeps the latter's choice of coding tools in a header
of its own (BPG specification 0.9.5, 3.1, hevc_header). Here that header is made from an encoder's sequence
parameter set, both sets are written again for a decoder, and a picture's quantiser is read. Section numbers
are those of H.265.
"""

import math
from dataclasses import dataclass

from corec.errors import CodecError

START = b"\0\0\1"
VPS, SPS, PPS = 32, 33, 34
IDR = (19, 20)
"""Types of NAL unit (table 7-1): the parameter sets, and slices of a picture that refers to no other."""


def parameter(step: float) -> float:
    """The quantiser parameter of a step in levels: 4 at 1, 6 more where it doubles (8.6.4.2)."""
    return 4 + 6 * math.log2(step)


def step_of(parameter: float) -> float:
    """The step of a quantiser parameter."""
    return float(2 ** ((parameter - 4) / 6))


class BitReader:
    """Bits from the most significant on. Its methods raise CodecError at the end of the data."""

    def __init__(self, data: bytes) -> None:
        self.bits = "".join(f"{byte:08b}" for byte in data)
        self.at = 0

    def u(self, width: int) -> int:
        """An unsigned number of so many bits (7.2)."""
        bits = self.bits[self.at : self.at + width]
        if len(bits) < width:
            raise CodecError("the BPG data is damaged: a header is cut short")
        self.at += width
        return int(bits, 2) if width else 0

    def ue(self) -> int:
        """An unsigned Exp-Golomb number (9.2), 0 to 2^32 - 2."""
        zeros = 0
        while not self.u(1):
            zeros += 1
            if zeros > 31:
                raise CodecError("the BPG data is damaged: a header has no such number")
        return (1 << zeros | self.u(zeros)) - 1

    def ues(self, count: int) -> tuple[int, ...]:
        """So many of them."""
        return tuple(self.ue() for _ in range(count))

    def se(self) -> int:
        """A signed Exp-Golomb number (9.2.2): 0, 1, -1, 2, -2..."""
        code = self.ue()
        return (code + 1) // 2 if code % 2 else -(code // 2)


class BitWriter:
    """The other way round."""

    def __init__(self) -> None:
        self.bits = ""

    def u(self, width: int, *values: int) -> None:
        """Unsigned numbers of so many bits each."""
        self.bits += "".join(f"{value:0{width}b}" for value in values)

    def ue(self, *values: int) -> None:
        """Unsigned Exp-Golomb numbers."""
        for value in values:
            self.u(2 * (value + 1).bit_length() - 1, value + 1)

    def bytes(self) -> bytes:
        """All bits, and zeros up to a whole byte."""
        return bytes(int(self.bits[at : at + 8].ljust(8, "0"), 2) for at in range(0, len(self.bits), 8))


@dataclass(frozen=True)
class Tools:
    """What a sequence parameter set says of coding tools, as far as BPG leaves a choice."""

    blocks: tuple[int, ...]
    """log2_min_luma_coding_block_size_minus3, log2_diff_max_min_luma_coding_block_size,
    log2_min_transform_block_size_minus2, log2_diff_max_min_transform_block_size,
    max_transform_hierarchy_depth_intra."""
    sao: int
    """sample_adaptive_offset_enabled_flag."""
    pcm: tuple[int, ...]
    """Empty, or the two bit depths minus 1, two block sizes as above, and pcm_loop_filter_disabled_flag."""
    smoothing: int
    """strong_intra_smoothing_enabled_flag."""

    @property
    def block(self) -> int:
        """Side of the smallest coding block: coded pictures have multiples of it."""
        return 8 << self.blocks[0]


def tools_of_header(data: bytes) -> Tools:
    """The tools that a BPG file's HEVC header names (BPG 3.1). Raises CodecError."""
    bits = BitReader(data)
    blocks = bits.ues(5)
    if blocks[0] > 3:
        raise CodecError("the BPG data is damaged: HEVC has no blocks of that size")
    sao, pcm, smoothing = bits.u(1), read_pcm(bits), bits.u(1)
    refuse_extension(bits)
    return Tools(blocks, sao, pcm, smoothing)


def header_of_tools(tools: Tools) -> bytes:
    """The HEVC header of a BPG file (BPG 3.1), without its length."""
    bits = BitWriter()
    bits.ue(*tools.blocks)
    bits.u(1, tools.sao)
    write_pcm(bits, tools)
    bits.u(1, tools.smoothing, 0)
    return bits.bytes()


def tools_of_sps(unit: bytes) -> Tools:
    """The tools of a sequence parameter set (7.3.2.2), a whole NAL unit.

    Raises CodecError where it says what a BPG file has no way to say of a still picture.
    """
    bits = BitReader(unescaped(unit[2:]))
    bits.u(4)  # sps_video_parameter_set_id
    layers = bits.u(3)
    bits.u(1 + 96)  # sps_temporal_id_nesting_flag, and the profile and level of one layer (7.3.3)
    bits.ue()  # sps_seq_parameter_set_id
    separate = bits.ue() == 3 and bits.u(1)  # chroma_format_idc, separate_colour_plane_flag
    bits.ues(2)  # the size in samples
    window = bits.u(1)  # conformance_window_flag
    depths = bits.ues(2)  # of luma and chroma, minus 8
    bits.ue()  # log2_max_pic_order_cnt_lsb_minus4
    bits.u(1)  # sps_sub_layer_ordering_info_present_flag
    bits.ues(3)  # of the one layer: buffered pictures, their order, their delay
    smallest, coding, transform, largest, _, depth = bits.ues(6)
    scaling = bits.u(1)
    bits.u(1)  # amp_enabled_flag
    sao, pcm = bits.u(1), read_pcm(bits)
    references = bits.ue(), bits.u(1)  # num_short_term_ref_pic_sets, long_term_ref_pics_present_flag
    bits.u(1)  # sps_temporal_mvp_enabled_flag
    smoothing, usability = bits.u(1), 0
    if bits.u(1):  # vui_parameters_present_flag (E.2.1): how to show the picture, which BPG says in its own way
        usability = bits.u(2)  # aspect ratio, overscan
        if bits.u(1):  # video_signal_type_present_flag: format and range, then perhaps colours
            bits.u(4)
            usability |= bits.u(1)
        usability |= bits.u(7)  # siting of chroma, fields, a window, times, restrictions
    if layers or separate or window or any(depths) or scaling or any(references) or usability:
        raise CodecError("the HEVC encoder chose something that BPG cannot express")
    refuse_extension(bits)
    return Tools((smallest, coding, transform, largest, depth), sao, pcm, smoothing)


def parameter_sets(tools: Tools, width: int, height: int, chroma: int) -> tuple[bytes, bytes]:
    """The NAL units of a video and a sequence parameter set (7.3.2.1, 7.3.2.2) for a still picture.

    width, height: of the coded picture in samples, multiples of tools.block; chroma: chroma_format_idc.
    What the file does not tell is as BPG prescribes (BPG 3.2, hevc_data), the profile too (BPG 3.3).
    """
    buffers = (0, 0, 0)  # one picture, in order, without delay

    video = BitWriter()
    video.u(4, 0)
    video.u(1, 1, 1)
    video.u(6, 0)
    video.u(3, 0)
    video.u(1, 1)
    video.u(16, 0xFFFF)
    write_profile(video)
    video.u(1, 1)
    video.ue(*buffers)
    video.u(6, 0)  # vps_max_layer_id
    video.ue(0)  # vps_num_layer_sets_minus1
    video.u(1, 0, 0, 1)  # no timing, no extension, then the stop bit

    sequence = BitWriter()
    sequence.u(4, 0)
    sequence.u(3, 0)
    sequence.u(1, 1)
    write_profile(sequence)
    sequence.ue(0, chroma)
    if chroma == 3:
        sequence.u(1, 0)
    sequence.ue(width, height)
    sequence.u(1, 0)
    sequence.ue(0, 0, 4)  # 8 bits a sample, and 8 of the picture order count
    sequence.u(1, 1)
    sequence.ue(*buffers)
    sequence.ue(*tools.blocks[:4], tools.blocks[4], tools.blocks[4])
    sequence.u(1, 0, 1, tools.sao)
    write_pcm(sequence, tools)
    sequence.ue(0)
    sequence.u(1, 0, 1, tools.smoothing, 0, 0, 1)
    return unit_of(VPS, video.bytes()), unit_of(SPS, sequence.bytes())


def slice_qp(units: list[bytes], tools: Tools, chroma: int) -> int:
    """SliceQpY (7.4.7.1) of a picture's first slice, from its picture parameter set (7.3.2.3.1) and the slice's
    header (7.3.6.1). Raises CodecError where either is missing or the slice is not one of a still picture."""
    parameters, first = first_of(units, (PPS,)), first_of(units, IDR)

    bits = BitReader(unescaped(parameters[2:66]))
    bits.ues(2)  # its own number, and the sequence parameter set's
    bits.u(1)  # dependent_slice_segments_enabled_flag
    output, extra = bits.u(1), bits.u(3)
    bits.u(2)  # sign_data_hiding_enabled_flag, cabac_init_present_flag
    bits.ues(2)  # numbers of reference pictures
    start = 26 + bits.se()

    bits = BitReader(unescaped(first[2:66]))
    if not bits.u(1):  # first_slice_segment_in_pic_flag
        raise CodecError("the BPG data is damaged: the first slice is missing")
    bits.u(1)  # no_output_of_prior_pics_flag
    bits.ue()  # slice_pic_parameter_set_id
    bits.u(extra)
    if bits.ue() != 2:
        raise CodecError("the BPG data is damaged: a slice refers to other pictures")
    bits.u(output)  # pic_output_flag
    if tools.sao:
        bits.u(1 + (chroma > 0))  # slice_sao_luma_flag, slice_sao_chroma_flag
    qp = start + bits.se()
    if not 0 <= qp <= 51:
        raise CodecError("the BPG data is damaged: its quantiser is out of range")
    return qp


def units_of(stream: bytes) -> list[bytes]:
    """The NAL units between start codes (annex B); bytes before the first start code are a unit too, if any."""
    return [unit for unit in (piece.rstrip(b"\0") for piece in stream.split(START)) if unit]


def picture_units(units: list[bytes]) -> list[bytes]:
    """Those that a still picture needs and a BPG file may hold: no other parameter sets, no messages."""
    return [unit for unit in units if type_of(unit) in (PPS, *IDR)]


def type_of(unit: bytes) -> int:
    """nal_unit_type (7.3.1.2)."""
    return unit[0] >> 1 & 63


def first_of(units: list[bytes], types: tuple[int, ...]) -> bytes:
    """The first NAL unit of one of these types. Raises CodecError."""
    for unit in units:
        if type_of(unit) in types:
            return unit
    raise CodecError("the BPG data is damaged: an HEVC unit is missing")


def unit_of(kind: int, payload: bytes) -> bytes:
    """A NAL unit (7.3.1.1) of layer 0, its payload's forbidden sequences of bytes broken by a 3 (7.4.2)."""
    unit = bytearray([kind << 1, 1])
    zeros = 0
    for byte in payload:
        if zeros >= 2 and byte < 4:
            unit.append(3)
            zeros = 0
        unit.append(byte)
        zeros = 0 if byte else zeros + 1
    return bytes(unit)


def unescaped(payload: bytes) -> bytes:
    """A NAL unit's payload without those bytes."""
    return payload.replace(b"\0\0\3", b"\0\0")


def read_pcm(bits: BitReader) -> tuple[int, ...]:
    """pcm_enabled_flag and what follows it, which has the same form in BPG's header."""
    if not bits.u(1):
        return ()
    return bits.u(4), bits.u(4), bits.ue(), bits.ue(), bits.u(1)


def write_pcm(bits: BitWriter, tools: Tools) -> None:
    """The other way round."""
    bits.u(1, bool(tools.pcm))
    if tools.pcm:
        bits.u(4, *tools.pcm[:2])
        bits.ue(*tools.pcm[2:4])
        bits.u(1, tools.pcm[4])


def refuse_extension(bits: BitReader) -> None:
    """sps_extension_present_flag and what follows it, likewise, as long as it adds nothing.

    Lossless files of libbpg's second encoder use tools of the range extension, and FFmpeg decodes them otherwise
    than libbpg does. Raises CodecError.
    """
    added = bits.u(8) if bits.u(1) else 0
    if added == 0x80:
        added = bits.u(9)
    if added:
        raise CodecError("a BPG file with HEVC's range extension is none of ours")


def write_profile(bits: BitWriter) -> None:
    """profile_tier_level (7.3.3) of Main 4:4:4 16 Still Picture at level 8.5, as BPG prescribes (BPG 3.3)."""
    bits.u(3, 0)
    bits.u(5, 4)
    bits.u(32, 1 << 27)  # compatible with profile 4 alone, counted from the first bit
    bits.u(4, 0b1001)  # progressive, frames only
    bits.u(9, 0b000000110)  # any depth and chroma, all intra, one picture
    bits.u(35, 0)
    bits.u(8, 255)
