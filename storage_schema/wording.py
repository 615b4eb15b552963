"""How an error line is put: on one line, with the names that were probably meant."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Sequence

REPAIR = "run `circuit-atlas repair` on the atlas, or restore it from a copy"
"""What to do about damage in an atlas, as messages end."""

_OS_ERROR = re.compile(r"\(os error (\d+)\)")
_STATUS = re.compile(r"status code: (\d{3}) ?([A-Za-z' -]*)")
_CODE = re.compile(r"<Code>(\w+)</Code>")


def one_line(error: BaseException) -> str:
    """Return the error's text without line breaks, or its type's name where it has no text."""
    return " ".join(str(error).split()) or type(error).__name__


def in_words(error: BaseException) -> str:
    """Tell what an error says: the system's words, without the path that our messages begin with; a
    server's status, with the code of S3 and its kin; or a first line, without those of debugging
    that obstore adds."""
    number = system_number(error)
    if number:
        return os.strerror(number)
    status = http_status(error)
    if status is not None:
        code = _CODE.search(str(error))
        return f"{status[0]} {status[1]}".strip() + (f" ({code[1]})" if code else "")
    text = str(error).partition("\n")[0]
    if "error sending request" in text:  # in obstore's words, which name the whole URL
        return "no answer: see whether the server runs and can be reached"
    if "error following redirect" in text:
        return "it redirects without end"
    return text or type(error).__name__


def system_number(error: BaseException) -> int:
    """Return the system's number of an error, also of one that obstore tells of; 0 for none."""
    if isinstance(error, OSError) and error.errno:
        return error.errno
    match = _OS_ERROR.search(str(error))
    return int(match.group(1)) if match else 0


def http_status(error: BaseException) -> tuple[int, str] | None:
    """Return a server's status and its words, of an error that obstore tells of; None where there
    is none."""
    match = _STATUS.search(str(error))
    return (int(match[1]), match[2].strip()) if match else None


def nearest(name: object, known: Iterable[str], *, what: str) -> str:
    """Return a clause to end a message with: the nearest of the known names, or all of them if few.

    `name` is what was given, text or not.

    >>> nearest("sead", ["seed", "response"], what="keys")
    "did you mean 'seed'?"
    >>> nearest("zzz", ["seed", "response"], what="keys")
    "the keys are 'seed' and 'response'"
    >>> nearest("zzz", ["seed"], what="keys")
    "there is only 'seed'"
    """
    options = list(dict.fromkeys(known))
    close = difflib.get_close_matches(str(name), options, n=3, cutoff=0.6)
    if close:
        return f"did you mean {listed(close, last='or')}?"
    if not options:
        return f"there are no {what}"
    if len(options) == 1:
        return f"there is only {options[0]!r}"
    if len(options) <= 12:
        return f"the {what} are {listed(options)}"
    return f"there are {len(options)} {what}, {listed(options, most=5)}"


def listed(names: Sequence[object], *, last: str = "and", most: int = 12) -> str:
    """List names for a sentence, no more than `most` of them.

    >>> listed(["a", "b", "c"], most=2)
    "'a', 'b' and 1 more"
    """
    shown = [repr(name) for name in names[:most]]
    if len(names) > most:
        shown.append(f"{len(names) - most} more")
    if len(shown) <= 1:
        return "".join(shown)
    return f"{', '.join(shown[:-1])} {last} {shown[-1]}"
