"""The envelope: the few bytes by which Corec knows a file of its own. docs/format.md has the rules.

    byte 0     format version (high nibble, 1), odd width (bit 1), odd height (bit 0); bits 3 and 2 are 0
    byte 1..   model number, unsigned LEB128

Nothing here knows a container: codecs carry these bytes wherever their format has room.
"""

from dataclasses import dataclass

from corec.errors import EnvelopeError

VERSION = 1


@dataclass(frozen=True)
class Envelope:
    """What the decoder must know beyond the codec's own header."""

    model: int
    """Model number of the manifest, 0 or more."""
    odd_width: bool
    """At scale 1/2: the picture is one column narrower than twice the compact image. Else false."""
    odd_height: bool
    """The same for rows."""


def pack(envelope: Envelope) -> bytes:
    """The envelope's bytes: two for model numbers below 128."""
    if envelope.model < 0:
        raise ValueError(f"model number {envelope.model} is negative")
    packed = bytearray([VERSION << 4 | envelope.odd_width << 1 | envelope.odd_height])
    number = envelope.model
    while number > 127:
        packed.append(number & 127 | 128)
        number >>= 7
    packed.append(number)
    return bytes(packed)


def unpack(data: bytes) -> Envelope:
    """The envelope of these bytes. Raises EnvelopeError for anything that pack does not write."""
    if not data:
        raise EnvelopeError("the envelope is empty")
    version = data[0] >> 4
    if version != VERSION:
        raise EnvelopeError(f"the file has envelope version {version}; this Corec reads version {VERSION}: update it")
    if data[0] & 12:
        raise EnvelopeError("the envelope is damaged: a reserved bit is set")
    number = 0
    for position, byte in enumerate(data[1:]):
        number |= (byte & 127) << 7 * position
        if byte < 128:
            break
    envelope = Envelope(number, bool(data[0] & 2), bool(data[0] & 1))
    if pack(envelope) != data:
        raise EnvelopeError("the envelope is damaged: its model number is not well formed")
    return envelope
