"""Values and tables for people, as text."""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Sequence

import pyarrow as pa

_GAP = "  "
_CUT = ".."
_NARROWEST = 9
_ITEMS = 6  # of a list


def text_table(table: pa.Table, *, indent: str = "  ", width: int | None = None) -> str:
    """Show a table as lines of aligned columns under their names, numbers to the right.

    Args:
        table: its rows.
        indent: what each line begins with.
        width: of a line, at most: the widest texts are cut, and where that does not do, the last
            columns are left out, which a line says. Default: as wide as it comes.

    >>> print(text_table(pa.table({"layer": ["a", "bc"], "units": [5, 1234]}), indent=""))
    layer  units
    a          5
    bc     1,234
    >>> print(text_table(pa.table({"name": ["abcdefghijkl"], "n": [5]}), indent="", width=12))
    name       n
    abcdefg..  5
    """
    columns: list[tuple[list[str], bool]] = []
    for name, column in zip(table.column_names, table.columns, strict=True):
        values = column.to_pylist()
        texts = [_line(text) for text in (name, *(cell(value) for value in values))]
        columns.append((texts, any(isinstance(value, str) for value in values)))
    widths, shown = _widths(columns, len(indent), width)
    padded = []
    for (texts, left), wide in zip(columns[:shown], widths, strict=False):
        cut = [_shortened(text, wide) for text in texts]
        blank = [" " * (wide - columns_of(text)) for text in cut]
        both = zip(cut, blank, strict=True)
        padded.append([text + space if left else space + text for text, space in both])
    lines = [f"{indent}{_GAP.join(texts)}".rstrip() for texts in zip(*padded, strict=True)]
    if width is not None and shown < len(columns):
        names = ", ".join(table.column_names[shown:])
        note = f"{indent}not shown, for want of width: {names}"
        lines += textwrap.wrap(note, width, subsequent_indent=indent + _GAP)
    return "\n".join(lines)


def _widths(
    columns: Sequence[tuple[Sequence[str], bool]], indent: int, width: int | None
) -> tuple[list[int], int]:
    """How wide each column is, and how many of them are shown."""
    widths = [max(columns_of(text) for text in texts) for texts, _ in columns]
    shown = len(widths)
    if width is None:
        return widths, shown
    while shown > 1:
        over = indent + sum(widths[:shown]) + len(_GAP) * (shown - 1) - width
        if over <= 0:
            break
        texts = [n for n in range(shown) if columns[n][1] and widths[n] > _NARROWEST]
        if texts:
            widest = max(texts, key=lambda n: widths[n])
            widths[widest] = max(_NARROWEST, widths[widest] - over)
        else:
            shown -= 1
    return widths, shown


def columns_of(text: str) -> int:
    """Count the columns of a terminal that a text takes: two for a wide character, as of Chinese,
    none for an accent that is set over another.

    >>> columns_of("ab"), columns_of("日本"), columns_of("e\u0301")
    (2, 4, 1)
    """
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def _shortened(text: str, columns: int) -> str:
    if columns_of(text) <= columns:
        return text
    while columns_of(text) > columns - len(_CUT):
        text = text[:-1]
    return text + _CUT


def _line(text: str) -> str:
    """A text that stays in its line and means nothing to a terminal, whatever a name holds."""
    plain = ("\ufffd" if unicodedata.category(c) in ("Cc", "Cf", "Cs") else c for c in text)
    return "".join(plain)


def cell(value: object) -> str:
    """Show one value: three decimals or digits, nothing for null, bytes by their number, the first
    few of a list.

    >>> [cell(v) for v in (None, 0.25, 1e-5, 1234.5, 20000, "a", b"jpeg", [0.5, None])]
    ['', '0.250', '1e-05', '1,234', '20,000', 'a', '4 bytes', '0.500, -']
    >>> cell([1] * 10)
    '1, 1, 1, 1, 1, 1, and 4 more'
    """
    if value is None:
        return ""
    if isinstance(value, list):
        shown = [cell(item) or "-" for item in value[:_ITEMS]]
        more = len(value) - len(shown)
        return ", ".join([*shown, f"and {more:,} more"] if more else shown)
    if isinstance(value, float):
        if abs(value) >= 1000:
            return f"{value:,.0f}"
        return f"{value:.3f}" if value == 0 or abs(value) >= 0.001 else f"{value:.3g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    return str(value)


def size(count: int) -> str:
    """Show bytes for people.

    >>> size(512), size(20_000), size(3_400_000), size(5_000_000_000)
    ('512 B', '20 kB', '3.4 MB', '5.0 GB')
    """
    if count < 1000:
        return f"{count} B"
    value = float(count)
    for unit in ("kB", "MB", "GB", "TB"):
        value /= 1000
        if value < 1000 or unit == "TB":
            break
    return f"{value:.0f} {unit}" if unit == "kB" else f"{value:.1f} {unit}"


def difference_text(difference: float | None) -> str:
    """Write how far a self-check found the engine from the model itself.

    >>> difference_text(2.56e-07), difference_text(None)
    ('differs by 3e-07', 'not done')
    """
    return "not done" if difference is None else f"differs by {difference:.1g}"
