"""Whether a path is one that an atlas has: what may be read of it by those who see nothing else.

Made from the documented paths, so that the two cannot part.
"""

from __future__ import annotations

import re
from functools import cache

from circuit_atlas.storage_schema import layout

# As `segments.escape` writes names: no separator, no dot at the start, nothing to be escaped.
_SEGMENT = r"[A-Za-z0-9_=-]+(?:\.[A-Za-z0-9_=-]+)*"
_LONGEST = 1024
_PARTS = {
    "sha256": "[0-9a-f]{64}",
    "unit": r"\d{1,10}",
    "attempt": r"\d{1,10}",
    "table": "[a-z_]{1,40}",
    "generation": r"\d{1,10}-[0-9a-f]{8}",
    "number": r"\d{1,10}",
    "source": "[0-9a-f]{64}",
    "units": "[0-9a-f]{64}",
    "chunk": r"\d{1,10}",
    "repair": r"\d{8}T\d{6}Z-[0-9a-f]{4}",
}


def is_object(path: str) -> bool:
    """Tell whether an object of an atlas may lie at `path`.

    >>> is_object("layers/visualizations.7/commits/3.json"), is_object("layers/../atlas.json")
    (True, False)
    """
    return len(path) <= _LONGEST and _objects().fullmatch(path) is not None


def is_folder(path: str) -> bool:
    """Tell whether objects of an atlas may lie below `path`; the root is the empty text.

    >>> is_folder(""), is_folder("layers/visualizations.7/commits"), is_folder("/etc")
    (True, True, False)
    """
    return not path or (len(path) <= _LONGEST and _folders().fullmatch(path) is not None)


def _templates() -> list[str]:
    return [template for template, _ in layout.PATHS]


@cache
def _objects() -> re.Pattern[str]:
    return re.compile("|".join(_pattern(template) for template in _templates()), re.ASCII)


@cache
def _folders() -> re.Pattern[str]:
    patterns: set[str] = set()
    for template in _templates():
        *folders, last = template.split("/")
        patterns.update(_pattern("/".join(folders[:n])) for n in range(1, len(folders) + 1))
        if not last:  # a folder of whatever depth
            patterns.add(f"{_pattern(template.rstrip('/'))}(?:/{_SEGMENT})*")
    return re.compile("|".join(sorted(patterns)), re.ASCII)


def _pattern(template: str) -> str:
    """A documented path as a regular expression: `<layer>` is any name, `x/` all below x."""
    parts = re.split(r"<(\w+)>", template.rstrip("/"))
    text = "".join(
        _PARTS.get(part, _SEGMENT) if index % 2 else re.escape(part)
        for index, part in enumerate(parts)
    )
    return f"{text}(?:/{_SEGMENT})+" if template.endswith("/") else text
