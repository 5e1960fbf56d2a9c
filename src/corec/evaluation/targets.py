"""How many bytes a picture may have: those of an anchor's own file, so many bits a pixel, or just so many."""

import math
from dataclasses import dataclass

from corec.codecs import hevc
from corec.codecs.registry import codec_named
from corec.errors import CodecError, RateError
from corec.evaluation.contenders import File, coded, coded_at
from corec.evaluation.jpegs import WHOLE, jpeg
from corec.picture import Picture

RATES = (0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0)
"""Bits per pixel of curves, unless others are asked for."""
BYTES = "bytes"
COARSEST_QP = 51
"""Of HEVC."""
BPGENC = 3
"""bpgenc -q 47 makes a file whose slice has a quantiser parameter of 44: x265 lowers that of still pictures."""


@dataclass(frozen=True)
class Target:
    """One allowance, which every picture translates into bytes of its own."""

    codec: str
    """Whose file's bytes; empty for bits per pixel, "bytes" for a number of them."""
    setting: float
    """The codec's: quality of jpeg, bpgenc's QP of bpg, bits per pixel of jpeg2000, quantiser step of the others."""

    @property
    def name(self) -> str:
        if self.codec == BYTES:
            return f"{self.setting:.0f} bytes"
        return f"{self.codec}@{self.setting:g}" if self.codec else f"{self.setting:g} bpp"

    @property
    def bound(self) -> str:
        """For titles."""
        return f"at most {'the bytes of ' if '@' in self.name else ''}{self.name}"

    def allowance(self, picture: Picture) -> tuple[int, File | None]:
        """The bytes allowed for a picture, and the anchor's file that has them. Raises CorecError."""
        if not self.codec:
            return int(self.setting * picture.width * picture.height / 8), None
        if self.codec == BYTES:
            return int(self.setting), None
        if self.codec == "jpeg":
            file = File(jpeg(picture, round(self.setting)), self.setting)
        else:
            codec = codec_named(self.codec)
            if self.codec == "jpeg2000":
                file = coded(codec, picture, int(self.setting * picture.width * picture.height / 8))
            else:
                step = hevc.step_of(self.setting - BPGENC) if self.codec == "bpg" else self.setting
                file = coded_at(codec, picture, step)
        return len(file.data), file


def target(name: str) -> Target:
    """The target of a name such as jpeg@5. Raises RateError."""
    codec, _, setting = name.partition("@")
    try:
        value = float(setting)
        finest, coarsest = codec_named(codec).STEPS
        fits = {"jpeg": value in WHOLE, "bpg": value <= COARSEST_QP, "jpeg2000": value < math.inf}
        if not (value > 0 and fits.get(codec, finest <= value <= coarsest)):
            raise ValueError(setting)
    except (ValueError, CodecError):
        raise RateError(
            f"an anchor is jpeg@QUALITY (1 to 95), jpeg2000@BPP, bpg@QP (to 51) or CODEC@STEP, not {name!r}"
        ) from None
    return Target(codec, value)
