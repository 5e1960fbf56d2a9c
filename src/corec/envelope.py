"""The envelope: the few bytes by which Corec knows a file of its own. docs/format.md has the rules.

    byte 0     format version (high nibble, 1), 2/3 (bit 3), step given (bit 2), odd width (bit 1), odd height (bit 0)
    byte 1..   model number, unsigned LEB128
    last byte  if the step is given: 16 log2 of the quantiser step, plus 64

Nothing here knows a container: codecs carry these bytes wherever their format has room.
"""

import math
from dataclasses import dataclass

from corec.errors import EnvelopeError

VERSION = 1


@dataclass(frozen=True)
class Envelope:
    """What the decoder must know beyond the codec's own header."""

    model: int
    """Model number of the manifest, 0 or more."""
    odd_width: bool
    """At scale 1/2 or 2/3: the picture is one column narrower than 2 or 3/2 times the compact image. Else false."""
    odd_height: bool
    """The same for rows."""
    two_thirds: bool = False
    """Whether the model is used at 2/3 of the picture's size, not at its own 1/2."""
    step: int | None = None
    """For codecs whose header does not tell the quantiser step: its code, see step_code."""


def step_code(step: float) -> int:
    """A quantiser step in levels, 1/16 to 3,922, in a byte: the nearest code, 4.4 % from the next."""
    return min(255, max(0, round(16 * math.log2(step) + 64)))


def step_of(code: int) -> float:
    """The step of a code."""
    return 2 ** ((code - 64) / 16)


def pack(envelope: Envelope) -> bytes:
    """The envelope's bytes: two for model numbers below 128, three with a step."""
    if envelope.model < 0:
        raise ValueError(f"model number {envelope.model} is negative")
    has_step = envelope.step is not None
    bits = envelope.two_thirds << 3 | has_step << 2 | envelope.odd_width << 1 | envelope.odd_height
    packed = bytearray([VERSION << 4 | bits])
    number = envelope.model
    while number > 127:
        packed.append(number & 127 | 128)
        number >>= 7
    packed.append(number)
    if envelope.step is not None:
        packed.append(envelope.step)
    return bytes(packed)


def unpack(data: bytes) -> Envelope:
    """The envelope of these bytes. Raises EnvelopeError for anything that pack does not write."""
    if not data:
        raise EnvelopeError("the envelope is empty")
    version = data[0] >> 4
    if version != VERSION:
        raise EnvelopeError(f"the file has envelope version {version}; this Corec reads version {VERSION}: update it")
    has_step = bool(data[0] & 4)
    step = data[-1] if has_step else None
    number = 0
    for position, byte in enumerate(data[1:-1] if has_step else data[1:]):
        number |= (byte & 127) << 7 * position
        if byte < 128:
            break
    envelope = Envelope(number, bool(data[0] & 2), bool(data[0] & 1), bool(data[0] & 8), step)
    if pack(envelope) != data:
        raise EnvelopeError("the envelope is damaged: it is not well formed")
    return envelope
