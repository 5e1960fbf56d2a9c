"""A JPEG 2000 codestream (T.800, Annex A), taken apart and put together smaller."""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Self

from corec.codecs import packets
from corec.codecs.packets import Packet
from corec.errors import CodecError

SIZ, COD, QCD, COM, SOT = 0x51, 0x52, 0x5C, 0x64, 0x90
SOD, EOC = b"\xff\x93", b"\xff\xd9"
RAW = b"\xff\x4f\xff\x51"
"""SOC and SIZ, with which a codestream begins."""


@dataclass
class Codestream:
    """A main header and the packets of its only tile."""

    head: bytes
    """From SOC to COD."""
    quantisation: bytes
    """QCD."""
    tile: list[Packet]

    @classmethod
    def taken_apart(cls, data: bytes, height: int, width: int, components: int) -> Self:
        """OpenJPEG's codestream, from now on one of a single quality layer; three components are said to be YCbCr."""
        parts = main_header(data)
        siz, cod, qcd = (data[slice(*parts[marker])] for marker in (SIZ, COD, QCD))
        tile = packets.layout(height, width, cod[9], components, 4 << cod[10])
        body = data[parts[SOT][1] + len(SOD) : -len(EOC)]
        if packets.read(body, tile, int.from_bytes(cod[6:8])) != len(body):
            raise CodecError("OpenJPEG's packets are not as expected")
        return cls(RAW[:2] + siz + cod[:6] + bytes([0, 1, components == 3]) + cod[9:], qcd, tile)

    def together(self, written: list[bytes] | None = None) -> bytes:
        """The codestream's bytes: one tile of one part. written: its packets, if they are known."""
        body = b"".join(written or map(packets.write, self.tile))
        start = struct.pack(">BBHHIBB", 0xFF, SOT, 10, 0, len(body) + 14, 0, 1)
        return self.head + self.quantisation + start + SOD + body + EOC

    def derived(self) -> "Codestream":
        """The same with the quantiser step of the LL band alone, from which decoders derive the others (E-5).

        OpenJPEG writes each band's own, 3 levels + 1 of them. They are so near to the derived ones that decoded
        coefficients change by a few percent. Where derived ones allow a band more bit planes, its blocks are told
        of as many more zeros. Where they do not fit, it is the codestream itself.
        """
        old = self.quantisation
        steps = [int.from_bytes(old[at : at + 2]) for at in range(5, len(old), 2)]
        exponent, mantissa = steps[0] >> 11, steps[0] & 2047
        planes = [exponent - max(0, (number - 1) // 3) - (step >> 11) for number, step in enumerate(steps)]
        ratios = [
            2.0**-more * (2048 + mantissa) / (2048 + (step & 2047)) for more, step in zip(planes, steps, strict=True)
        ]
        if min(planes) < 0 or max(abs(ratio - 1) for ratio in ratios) > 0.1:
            return self
        tile = [[band.with_zeros(planes[band.number]) for band in packet] for packet in self.tile]
        return Codestream(self.head, struct.pack(">BBHB", 0xFF, QCD, 5, old[4] & 0xE0 | 1) + old[5:7], tile)

    def filled(self, size: int) -> "Codestream":
        """What `size` bytes hold of it: all blocks' first quality layers, then of the next those that fit."""
        tile = [[replace(band, blocks=[*band.blocks]) for band in packet] for packet in self.tile]
        made = Codestream(self.head, self.quantisation, tile)
        blocks = [
            (number, band, index, block)
            for number, packet in enumerate(tile)
            for band in packet
            for index, block in enumerate(band.blocks)
            if block
        ]
        low, high = -1, max((block.layers[-1][0] + 1 for *_, block in blocks), default=0)
        while high - low > 1:
            middle = (low + high) // 2
            for _, band, index, block in blocks:
                band.blocks[index] = block.until(middle)
            low, high = (middle, high) if len(made.together()) <= size else (low, middle)
        for _, band, index, block in blocks:
            band.blocks[index] = block.until(low)
        rest = size - len(made.together())
        full = set()
        for layer, which in sorted((entry[0], which) for which, item in enumerate(blocks) for entry in item[3].layers):
            number, band, index, block = blocks[which]
            before, after = band.blocks[index], block.until(layer)
            if layer <= low or which in full or after is None:
                continue
            without = len(packets.write(tile[number]))
            band.blocks[index] = after
            grown = len(packets.write(tile[number])) - without
            if grown <= rest:
                rest -= grown
            else:
                band.blocks[index] = before
                full.add(which)
        return made

    def shorten(self, same: Callable[[bytes], bool]) -> None:
        """Cut the last bytes of each code block as long as the codestream shows the same.

        OpenJPEG ends a block three bytes behind what its coder has put out, which is often more than decoders need.
        """
        written = [packets.write(packet) for packet in self.tile]
        for number, packet in enumerate(self.tile):
            for block in (block for band in packet for block in band.blocks if block):
                while True:
                    data, whole = block.data, written[number]
                    block.data = data[:-1].rstrip(b"\xff")  # decoders go on with bits 1
                    written[number] = packets.write(packet)
                    if not block.data or not same(self.together(written)):
                        block.data, written[number] = data, whole
                        break


def segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """(marker, start, stop) of the main header's segments and of the first SOT, the last one."""
    at = 2
    while True:
        length = int.from_bytes(data[at + 2 : at + 4])
        if data[at : at + 1] != b"\xff" or length < 2 or at + 2 + length > len(data):
            raise CodecError("the JPEG 2000 data is damaged: a segment is missing or cut short")
        yield data[at + 1], at, at + 2 + length
        if data[at + 1] == SOT:
            return
        at += 2 + length


def main_header(data: bytes) -> dict[int, tuple[int, int]]:
    """Marker -> (start, stop) of the first segment of each kind, as segments() gives them."""
    parts: dict[int, tuple[int, int]] = {}
    for marker, start, stop in segments(data):
        parts.setdefault(marker, (start, stop))
    lengths = {marker: stop - start for marker, (start, stop) in parts.items()}
    if lengths.get(SIZ, 0) < 43 or lengths.get(COD, 0) < 14 or lengths[SOT] != 12:
        raise CodecError("the JPEG 2000 data is damaged: its main header is not whole")
    return parts


def refuse_cut(data: bytes, at: int, count: int) -> None:
    """Raise CodecError unless tile-parts, of so many tiles, follow each other from here to an EOC: OpenJPEG may show
    part of a picture."""
    tiles = set()
    while data[at : at + 2] == b"\xff\x90":
        tiles.add(int.from_bytes(data[at + 4 : at + 6]))
        length = int.from_bytes(data[at + 6 : at + 10])
        if length == 0 and data.endswith(EOC):  # the last one, to the end
            at = len(data) - len(EOC)
            break
        if length < 14:
            break
        at += length
    if data[at : at + 2] != EOC or len(tiles) < count:
        raise CodecError("the JPEG 2000 data is damaged: it is cut short")


def tiles_of(data: bytes, at: int) -> int:
    """How many tiles an image has, by its SIZ segment. Raises CodecError."""
    width, height, _, _, tile_width, tile_height, left, top = struct.unpack_from(">8I", data, at + 6)
    if not tile_width or not tile_height:
        raise CodecError("the JPEG 2000 data is damaged: its tiles have no pixels")
    return -(-(width - left) // tile_width) * -(-(height - top) // tile_height)
