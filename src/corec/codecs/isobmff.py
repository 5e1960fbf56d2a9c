"""HEIF files (ISO/IEC 23008-12), which AVIF and HEIC are: boxes, and the envelope in one of them.

A box (ISO/IEC 14496-12, 4.2) is its length in 32 bits, four characters for its kind, and its content.
Readers skip kinds that they do not know.
"""

import struct

from corec.codecs.base import ENVELOPE_SIZES
from corec.codecs.boxes import box, boxes
from corec.errors import CodecError

ENVELOPE = b"Corc"
"""The kind of the box that holds the envelope."""
FULL = (b"meta",)
"""Kinds whose boxes follow four bytes of version and flags (14496-12, 4.2.2: FullBox)."""


def full_box(kind: bytes, version: int, *parts: bytes) -> bytes:
    """A box whose content begins with its version and 24 flags, all 0."""
    return box(kind, struct.pack(">I", version << 24), *parts)


def content(data: bytes, *kinds: bytes) -> bytes:
    """What the first box of each of these kinds holds, each inside the one before. Raises CodecError without one."""
    for wanted in kinds:
        found = next((data[start:stop] for kind, start, stop in boxes(data) if kind == wanted), None)
        if found is None:
            raise CodecError(f"the file is damaged: it has no box {wanted.decode()}")
        data = found[4:] if wanted in FULL else found
    return data


def brands(data: bytes) -> set[bytes]:
    """The brands of the file type box (14496-12, 4.3) at the beginning; none where there is no such box."""
    length = int.from_bytes(data[:4])
    if data[4:8] != b"ftyp" or not 16 <= length <= len(data):
        return set()
    return {data[8:12], *(data[at : at + 4] for at in range(16, length, 4))}


def embed(data: bytes, envelope: bytes) -> bytes:
    """The file with the envelope's box at its end, where it moves nothing that the file refers to."""
    return data + box(ENVELOPE, envelope)


def extract(data: bytes) -> bytes | None:
    """The envelope of a file, or None. Raises CodecError where boxes do not follow each other to the file's end."""
    found = [
        data[start:stop] for kind, start, stop in boxes(data) if kind == ENVELOPE and stop - start in ENVELOPE_SIZES
    ]
    return found[0] if found else None


def overhead(envelope: bytes, data: bytes) -> int:
    """Bytes that an envelope costs."""
    return len(box(ENVELOPE, envelope))
