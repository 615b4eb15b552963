"""How wide what is printed may be: as the terminal, or as it likes where there is none."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator

_NARROWEST = 40
_INDENT = "    "


def width() -> int | None:
    """Return how many columns the terminal has that stdout is; None for a pipe or a file."""
    if not sys.stdout.isatty():
        return None
    return max(_NARROWEST, shutil.get_terminal_size().columns)


def wrapped(lines: Iterable[str], *, columns: int | None) -> Iterator[str]:
    """Break lines of prose that are too wide; what goes on is indented. Several lines in one, as of
    a table, stay.

    >>> list(wrapped(["  built with  numpy 2.1, torch 2.9"], columns=24))
    ['  built with  numpy 2.1,', '      torch 2.9']
    """
    for line in lines:
        if columns is None or len(line) <= columns or "\n" in line:
            yield line
            continue
        indent = line[: len(line) - len(line.lstrip())]
        yield from textwrap.wrap(
            line,
            columns,
            subsequent_indent=indent + _INDENT,
            break_long_words=False,
            break_on_hyphens=False,
        )
