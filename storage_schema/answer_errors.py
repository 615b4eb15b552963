"""What may come of a question to a store in place of an answer.

`Patience` repeats what is a ConnectionError or a TimeoutError, and a status that time mends.
"""

from __future__ import annotations

from http import HTTPStatus


class TooLongError(Exception):
    """An object has more bytes than were asked for."""

    def __init__(self, size_bytes: int) -> None:
        super().__init__(size_bytes)
        self.size_bytes = size_bytes


class StatusError(OSError):
    """A web server answers with a status that is no success."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status

    def __str__(self) -> str:
        # In words of the standard: a server's own may say anything.
        phrase = next((known.phrase for known in HTTPStatus if known == self.status), "")
        return f"the server answers with status code: {self.status} {phrase}".rstrip()


class MissingObjectError(FileNotFoundError):
    """A web server has no such object.

    Attributes:
        said: how its answer begins, some KiB at most; None where it was asked for the head alone.
    """

    def __init__(self, said: bytes | None) -> None:
        super().__init__("the server answers with status code: 404 Not Found")
        self.said = said

    def __reduce__(self) -> tuple[type[MissingObjectError], tuple[bytes | None]]:
        return MissingObjectError, (self.said,)


class UnusableAnswerError(OSError):
    """A web server's answer cannot be read, which asking again would not change."""


class WholeObjectsError(UnusableAnswerError):
    """A web server sends objects as a whole alone, where a part was asked for."""
