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


def box(kind: bytes, *parts: bytes) -> bytes:
    """A box of the parts, one behind the other, of less than 4 GiB."""
    content = b"".join(parts)
    return (8 + len(content)).to_bytes(4) + kind + content
