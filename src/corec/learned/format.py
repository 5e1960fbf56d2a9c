"""The .corec file: what stands before the range-coded bytes. docs/format.md has the rules.

43 6f 72   "Cor"
81         format version 1, bit 7 set; bit 5 set, a1: a gray picture by a model for colour
LEB128     model number
1 byte     level
LEB128     width, height, and number of the bytes that follow the checksum
2 bytes    checksum of all others, the high byte first
...        range-coded symbols
"""

from binascii import crc_hqx
from collections.abc import Iterator
from dataclasses import dataclass

from corec.errors import CodecError, EnvelopeError

NAME = "learned"
SUFFIXES = (".corec",)
MAGIC = b"Cor"
VERSION = 1
GRAY = 0x20
LARGEST_NUMBER = (1 << 32) - 1


@dataclass(frozen=True)
class Header:
    """What the decoder must know before the first symbol."""

    model: int
    """Number in the manifest."""
    level: int
    """0 to 255, the coarsest first; how many there are is the model's affair."""
    width: int
    height: int
    """Of the picture, in pixels."""
    gray: bool = False
    """Whether the picture is the luma of what the model gives, which is for colour."""


def accept(data: bytes) -> bool:
    """Whether the bytes begin like a .corec file of any version: no text in UTF-8 does."""
    return data[:3] == MAGIC and len(data) > 3 and data[3] & 0xC0 == 0x80


def pack(header: Header, coded: bytes) -> bytes:
    """The file."""
    numbers = leb128(header.width) + leb128(header.height) + leb128(len(coded))
    head = MAGIC + bytes([0x80 | GRAY * header.gray | VERSION]) + leb128(header.model) + bytes([header.level]) + numbers
    return head + checksum(head, coded) + coded


def unpack(data: bytes) -> tuple[Header, bytes]:
    """The header and the range-coded bytes of a file that accept() takes.

    Raises EnvelopeError for a later version, CodecError for damage of any kind.
    """
    version = data[3] & 0x1F
    if version != VERSION:
        raise EnvelopeError(f"the file is of .corec version {version}; this Corec reads version {VERSION}: update it")
    rest = iter(memoryview(data)[4:])
    try:
        model = number(rest)
        level = next(rest)
        width, height, length = number(rest), number(rest), number(rest)
        told = bytes([next(rest), next(rest)])
    except StopIteration:
        raise CodecError("the file is damaged: it ends within its header") from None
    header = Header(model, level, width, height, bool(data[3] & GRAY))
    at = header_bytes(header, length)
    if len(data) - at != length:
        what = "ends too early" if len(data) - at < length else "goes on behind its end"
        raise CodecError(f"the file is damaged: it {what} ({len(data)} bytes, not {at + length})")
    if checksum(data[: at - 2], data[at:]) != told:
        raise CodecError("the file is damaged: its checksum differs")
    return header, data[at:]


def header_bytes(header: Header, length: int) -> int:
    """Bytes before `length` range-coded ones."""
    numbers = header.model, header.width, header.height, length
    return len(MAGIC) + 1 + 1 + sum(len(leb128(n)) for n in numbers) + 2


def checksum(*parts: bytes) -> bytes:
    """CRC-16 of the parts' bytes one after another: x^16 + x^12 + x^5 + 1, high bit first, from ffff."""
    value = 0xFFFF
    for part in parts:
        value = crc_hqx(part, value)
    return value.to_bytes(2, "big")


def leb128(value: int) -> bytes:
    """A number as 7 bits a byte, the lowest first, bit 7 set on all but the last byte."""
    packed = bytearray()
    while value > 127:
        packed.append(value & 127 | 128)
        value >>= 7
    return bytes([*packed, value])


def number(data: Iterator[int]) -> int:
    """The number that begins here. Raises CodecError for what leb128 does not write, and above 32 bits."""
    value = 0
    for place in range(0, 35, 7):
        byte = next(data)
        value |= (byte & 127) << place
        if byte < 128:
            if value > LARGEST_NUMBER or (byte == 0 and place):
                break
            return value
    raise CodecError("the file is damaged: a number in its header is not well formed")
