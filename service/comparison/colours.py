"""The pages' colours: as they are named in a page, and as they are in a file of its own."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

_TOKEN = re.compile(r"^\s*--([\w-]+): (.+?);", re.MULTILINE)
_LIGHT = re.compile(r"light-dark\((#\w+), #\w+\)")
_OTHER = re.compile(r"var\(--([\w-]+)\)")


def style_sheet() -> str:
    """Return the style sheet that names them, for a page that is light or dark as its reader is."""
    text: str = (files("circuit_atlas.service") / "viewer" / "tokens.css").read_text("utf-8")
    return text


def in_page(name: str) -> str:
    """Name a colour in a page that has `style_sheet`.

    >>> in_page("ink")
    'var(--ink)'
    """
    return f"var(--{name})"


def on_white(name: str) -> str:
    """Return a colour as it is on white paper, in hexadecimal.

    >>> on_white("series-random") == on_white("ink-3")
    True
    """
    value = _tokens()[name]
    light, other = _LIGHT.fullmatch(value), _OTHER.fullmatch(value)
    if light is not None:
        return light[1]
    return value if other is None else on_white(other[1])


def of_criterion(name: str) -> str:
    """Return the name of a criterion's colour, the same as everywhere on the pages."""
    return f"series-{name}" if f"series-{name}" in _tokens() else "series-other"


@cache
def _tokens() -> dict[str, str]:
    return dict(_TOKEN.findall(style_sheet()))
