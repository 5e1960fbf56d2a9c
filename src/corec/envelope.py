"""The envelope: the few bytes by which Corec knows a file of its own. docs/format.md has the rules.

    byte 0     format version (high nibble, 1); bits: 3 resized, 2 step given, 1 odd width, 0 odd height
    byte 1     if resized: which size (high nibble), columns (bits 3, 2) and rows (bits 1, 0) that are missing
    then       model number, unsigned LEB128
    last byte  if the step is given: 16 log2 of the quantiser step, plus 64

Nothing here knows a container: codecs carry these bytes wherever their format has room.
"""

import math
from dataclasses import dataclass

from corec.errors import EnvelopeError

VERSION = 1
SCALES = 1.5, 3.0
"""Picture over compact image, where that is not the model's own: 2/3 and 1/3 of the size."""


@dataclass(frozen=True)
class Envelope:
    """What the decoder must know beyond the codec's own header."""

    model: int
    """Model number of the manifest, 0 or more."""
    missing_width: int
    """By how many columns the picture is narrower than the compact image times the scale: 0 or 1, at scale 3 also 2."""
    missing_height: int
    """The same for rows."""
    resized: float = 0.0
    """The scale, one of SCALES, if it is not the model's own."""
    step: int | None = None
    """For codecs whose header does not tell the quantiser step: its code, see step_code."""


def step_code(step: float) -> int:
    """A quantiser step in levels, 1/16 to 3,922, in a byte: the nearest code, 4.4 % from the next."""
    return min(255, max(0, round(16 * math.log2(step) + 64)))


def step_of(code: int) -> float:
    """The step of a code."""
    return 2 ** ((code - 64) / 16)


def pack(envelope: Envelope) -> bytes:
    """The envelope's bytes: two for model numbers below 128, one more with a step, and one at another size."""
    if envelope.model < 0:
        raise ValueError(f"model number {envelope.model} is negative")
    has_step = envelope.step is not None
    columns, rows, resized = envelope.missing_width, envelope.missing_height, bool(envelope.resized)
    odd = 0 if resized else columns << 1 | rows
    packed = bytearray([VERSION << 4 | resized << 3 | has_step << 2 | odd])
    if resized:
        packed.append(SCALES.index(envelope.resized) << 4 | columns << 2 | rows)
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
    missing, resized, at = (data[0] >> 1 & 1, data[0] & 1), 0.0, 1
    if data[0] & 8:
        size = data[1] if len(data) > 1 else 0
        if size >> 4 >= len(SCALES):
            raise EnvelopeError("the file's image is of a size that this Corec does not know: update it")
        missing, resized, at = (size >> 2 & 3, size & 3), SCALES[size >> 4], 2
    number = 0
    for position, byte in enumerate(data[at:-1] if has_step else data[at:]):
        number |= (byte & 127) << 7 * position
        if byte < 128:
            break
    envelope = Envelope(number, *missing, resized, step)
    if pack(envelope) != data:
        raise EnvelopeError("the envelope is damaged: it is not well formed")
    return envelope
