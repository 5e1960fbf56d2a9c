"""Boxes: the units of length, type and content that JP2 and JPEG XL files are made of (T.800, I.4)."""

from collections.abc import Iterator

from corec.errors import CodecError


def boxes(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(type, start, stop) of the content of each box of a file. Raises CodecError where one is cut short."""
    at = 0
    while at < len(data):
        length, kind, start = int.from_bytes(data[at : at + 4]), data[at + 4 : at + 8], at + 8
        if length == 1:  # the true one follows the type, in eight bytes
            length, start = int.from_bytes(data[at + 8 : at + 16]), at + 16
        stop = at + length if length else len(data)  # 0: to the end of the file
        if not start <= stop <= len(data):
            raise CodecError("the file is damaged: a box is cut short")
        yield kind, start, stop
        at = stop


def exchanged(data: bytes, start: int, stop: int, content: bytes) -> bytes:
    """The file with other content in the box whose content is at start:stop, and the box's length to fit."""
    grown = len(content) - (stop - start)
    before = bytearray(data[:start])
    if len(before) >= 16 and before[-16:-12] == b"\0\0\0\1":
        before[-8:] = (int.from_bytes(before[-8:]) + grown).to_bytes(8)
    elif any(before[-8:-4]):
        before[-8:-4] = (int.from_bytes(before[-8:-4]) + grown).to_bytes(4)
    return bytes(before) + content + data[stop:]
