"""Everything that Corec raises on purpose.

    CorecError              any of the below; its text is one line for a user
      PictureError          a picture that cannot be read, held or written
      CodecError            a file that its codec cannot read or write
        TooLargeError       a picture that a format cannot hold
      EnvelopeError         not a file of ours, or one from a Corec that knows more
      ModelError            a model that is unknown, retired, missing or altered
      RateError             a size, quality or effort that cannot be met
      RecipeError           a recipe or training folder that cannot be used
      FileError             a source or destination that cannot be used
      MissingExtraError     an optional dependency that is not installed

Exceptions of other libraries end where we call them and go on as one of these.
"""


class CorecError(Exception):
    """Something a user can understand and act on."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(line.strip() for line in message.splitlines()))


class PictureError(CorecError):
    """A picture that cannot be read, held or written."""


class CodecError(CorecError):
    """A file that its codec cannot read or write."""


class TooLargeError(CodecError):
    """A picture that a format cannot hold."""


class EnvelopeError(CorecError):
    """Not a file of ours, or one from a Corec that knows more."""


class ModelError(CorecError):
    """A model that is unknown, retired, missing or altered."""


class RateError(CorecError):
    """A size, quality or effort that cannot be met; `smallest` is about the fewest bytes that can, if known."""

    def __init__(self, message: str, smallest: int | None = None) -> None:
        super().__init__(message)
        self.smallest = smallest

    @classmethod
    def too_small(cls, size: int, smallest: int) -> "RateError":
        """The error for a size that even the coarsest setting exceeds."""
        few = "1 byte is" if size == 1 else f"{size} bytes are"
        return cls(f"{few} too few for this picture: the smallest size is about {smallest} bytes", smallest)


class RecipeError(CorecError):
    """A recipe or training folder that cannot be used."""


class FileError(CorecError):
    """A source or destination that cannot be used."""


class MissingExtraError(CorecError):
    """An optional dependency that is not installed."""
