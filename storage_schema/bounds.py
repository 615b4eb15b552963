"""What the values in a document may be: types with bounds, for the annotations of its dataclasses.

`document_schema` holds every value that is read against them.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Annotated, Any

from msgspec import Meta

FORM = "form"
"""Key in the `extra` of a type's `Meta` that names the form of its texts, in words."""
MOST = 2**31 - 1
"""The largest number of a unit, and the largest count: both stand in columns of 32 bits."""
_PATH, _SHA256 = "path inside the atlas", "64 hexadecimal digits"
_LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_=-"
# Of a path's bytes letters become `a`, what parts them `.`, and what none has `!`.
_PATH_BYTES = bytes(
    ord("a" if byte in _LETTERS else "." if byte in b"./\n" else "!") for byte in range(256)
)
_HEXADECIMAL = b"0123456789abcdef"

UnitNumber = Annotated[int, Meta(ge=0, le=MOST)]
"""Number of a unit, an image, a channel, an attempt."""
Count = Annotated[int, Meta(ge=0, le=MOST)]
Positive = Annotated[int, Meta(ge=1, le=MOST)]
Side = Annotated[int, Meta(ge=1, le=2**20)]
"""Height or width, in pixels or positions, or a number of channels."""
SizeBytes = Annotated[int, Meta(ge=0, le=2**50)]
Seed = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Checksum32 = Annotated[int, Meta(ge=0, le=2**32 - 1)]
NotNegative = Annotated[float, Meta(ge=0)]
Seconds = Annotated[float, Meta(ge=0)]
"""A time that something took, or one since 1970 UTC."""
Fraction = Annotated[float, Meta(gt=0, le=1)]
"""A kept fraction."""
Name = Annotated[str, Meta(max_length=4096)]
Sha256 = Annotated[str, Meta(extra={FORM: _SHA256})]
StorePath = Annotated[str, Meta(extra={FORM: _PATH})]
"""A path of the form that `layout` writes."""


def fit(form: str, texts: Sequence[str]) -> bool:
    """Tell whether texts are of a form: one look at many takes less time than a look at each."""
    return not texts or _FORMS[form](texts)


def _are_paths(texts: Sequence[str]) -> bool:
    lines = "\n".join(["", *texts, ""]).encode(errors="surrogatepass")
    form = lines.translate(_PATH_BYTES)
    # Relative to the atlas' root: no segment is empty, or begins or ends with a dot.
    return lines.count(b"\n") == len(texts) + 1 and b"!" not in form and b".." not in form


def _are_digests(texts: Sequence[str]) -> bool:
    digits = "".join(texts).encode(errors="surrogatepass")
    return {*map(len, texts)} == {64} and not digits.translate(None, _HEXADECIMAL)


_FORMS: Mapping[str, Callable[[Sequence[str]], bool]] = {
    _PATH: _are_paths,
    _SHA256: _are_digests,
}


def ascend(values: Sequence[Any]) -> bool:
    """Tell whether values ascend strictly."""
    return all(map(operator.lt, values, values[1:]))


def repeated(values: Iterable[Hashable]) -> Hashable | None:
    """Return the first value that comes a second time; None where each comes once."""
    seen: set[Hashable] = set()
    for value in values:
        if value in seen:
            return value
        seen.add(value)
    return None
