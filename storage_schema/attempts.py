"""The number of an attempt at a unit: drawn, and part of the name of all that it writes."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import TypeVar

from circuit_atlas.storage_schema.arrays import ATTEMPTS
from circuit_atlas.storage_schema.errors import ContestedError

_DRAWS = 3
_T = TypeVar("_T")


def attempted(write: Callable[[int], _T]) -> _T:
    """Return what `write` gives for a number that is drawn.

    Where it finds that another attempt has drawn the same, and writes other bytes under it, a
    number is drawn again.

    Raises:
        ContestedError: so it went three times, which is no chance.
    """
    for _ in range(_DRAWS - 1):
        try:
            return write(secrets.randbelow(ATTEMPTS))
        except ContestedError:
            continue
    return write(secrets.randbelow(ATTEMPTS))
