"""Arrow tables for people: HTML in a notebook, columns in a terminal."""

from __future__ import annotations

import unicodedata
from html import escape

import pyarrow as pa

_ROWS = 20


def html_table(table: pa.Table, *, caption: str) -> str:
    """Show a table as HTML under a caption: the first rows, and how many more there are."""
    head = "".join(f"<th>{escape(name)}</th>" for name in table.column_names)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell(value))}</td>" for value in row.values()) + "</tr>"
        for row in table.slice(0, _ROWS).to_pylist()
    )
    more = table.num_rows - _ROWS
    foot = f"<div>and {more} more rows</div>" if more > 0 else ""
    return (
        f"<table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table>{foot}"
    )


def text_table(table: pa.Table, *, indent: str = "  ") -> str:
    """Show a table as lines of aligned columns under their names, numbers to the right.

    >>> print(text_table(pa.table({"layer": ["a", "bc"], "units": [5, 1234]}), indent=""))
    layer  units
    a          5
    bc     1,234
    """
    columns = []
    for name, column in zip(table.column_names, table.columns, strict=True):
        values = column.to_pylist()
        texts = [_line(text) for text in (name, *(cell(value) for value in values))]
        width = max(len(text) for text in texts)
        left = any(isinstance(value, str) for value in values)
        columns.append([text.ljust(width) if left else text.rjust(width) for text in texts])
    lines = ("  ".join(texts) for texts in zip(*columns, strict=True))
    return "\n".join(f"{indent}{line}".rstrip() for line in lines)


def _line(text: str) -> str:
    """A text that stays in its line and means nothing to a terminal, whatever a name holds."""
    plain = ("\ufffd" if unicodedata.category(c) in ("Cc", "Cf", "Cs") else c for c in text)
    return "".join(plain)


def cell(value: object) -> str:
    """Show one value: three decimals or digits, nothing for null, bytes by their number.

    >>> [cell(v) for v in (None, 0.25, 1e-5, 1234.5, 20000, "a", b"jpeg")]
    ['', '0.250', '1e-05', '1,234', '20,000', 'a', '4 bytes']
    """
    if value is None:
        return ""
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
