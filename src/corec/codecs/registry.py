"""The standard codecs: all of them, by name, and by their files."""

from typing import Any

from corec.codecs.base import Codec
from corec.errors import CodecError

CARRIED = {"jpeg": ("jxl",)}
"""Codec -> those whose files can hold the very levels of its own: its models are theirs, too."""


def codecs() -> tuple[Codec, ...]:
    """All codecs."""
    from corec.codecs import avif, bpg, heic, jpeg, jpeg2000, jxl, webp

    modules: tuple[Any, ...] = (jpeg, jpeg2000, bpg, heic, webp, avif, jxl)
    return modules


def codec_named(name: str) -> Codec:
    """The codec of this name. Raises CodecError."""
    for codec in codecs():
        if name == codec.NAME:
            return codec
    raise CodecError(f"no codec {name!r}; there are: {', '.join(c.NAME for c in codecs())}")


def codec_of(data: bytes) -> Codec:
    """The codec whose file this is, by its first bytes. Raises CodecError."""
    for codec in codecs():
        if codec.accept(data):
            return codec
    if not data:
        raise CodecError("the file is empty")
    raise CodecError(f"the file is of no format that Corec writes: {', '.join(c.NAME for c in codecs())} and .corec")
