"""Shorter forms of a band's name, broken into lines or cut to its end.

The pages have the same rule in `viewer/diagram/name_forms.js`; both are held against one table of
cases, `tests/service/diagram/name_forms.json`.
"""

from __future__ import annotations

import re
from collections.abc import Callable

_MOST_LINES = 5
# Up to a dot; numbers that follow each other stay together.
_PIECE = re.compile(r"(?:\d+\.)+(?:\d+$)?|[^.]*\.|[^.]+$")


def broken(label: str, room: float, width: Callable[[str], float]) -> tuple[str, ...]:
    """Break a path after dots into as few lines as fit a width, or leave it whole where those would
    be more than five.

    >>> broken("features.10.0.conv", 9, len)
    ('features.', '10.0.conv')
    """
    lines = [""]
    for piece in _PIECE.findall(label):
        if lines[-1] and width(lines[-1] + piece) > room:
            lines.append("")
        lines[-1] += piece
    return tuple(lines) if len(lines) <= _MOST_LINES else (label,)


def endings(label: str) -> list[str]:
    """List the ends of a path that hold a letter, the longest first.

    >>> endings("layer1.0.conv1")
    ['…0.conv1', '…conv1']
    """
    parts = label.split(".")
    ends = (".".join(parts[first:]) for first in range(1, len(parts)))
    return [f"…{end}" for end in ends if re.search("[A-Za-z]", end)]
