"""Rows of small pictures with a line of text each, as an SVG 174 mm wide."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from PIL import Image

WIDTH_MM = 174
"""Of every figure of the gallery, on paper."""
_WIDTH = WIDTH_MM / 25.4 * 72  # points: one unit of the file
_TEXT = 8  # points
_GAP = 4
_PIXELS = 128  # of a picture in the file, a side


@dataclass(frozen=True)
class Row:
    """A line of text, and the pictures under it."""

    text: str
    pictures: Sequence[Image.Image]


def strip(rows: Sequence[Row], *, columns: int) -> str:
    """Writes the SVG: pictures are square, `columns` of them fill the width."""
    side = (_WIDTH + _GAP) / columns - _GAP
    lines, y = [], 0.0
    for row in rows:
        lines.append(f'<text y="{y + _TEXT:.1f}">{escape(row.text)}</text>')
        y += 1.5 * _TEXT
        for start in range(0, len(row.pictures), columns):
            for column, picture in enumerate(row.pictures[start : start + columns]):
                lines.append(
                    f'<image x="{column * (side + _GAP):.1f}" y="{y:.1f}" width="{side:.1f}" '
                    f'height="{side:.1f}" href="{_data_url(picture)}"/>'
                )
            y += side + _GAP
        y += _GAP
    height = y - 2 * _GAP
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH_MM}mm" '
            f'height="{height / 72 * 25.4:.1f}mm" viewBox="0 0 {_WIDTH:.1f} {height:.1f}" '
            f'font-family="Helvetica, Arial, sans-serif" font-size="{_TEXT}">',
            f'<rect width="{_WIDTH:.1f}" height="{height:.1f}" fill="#ffffff"/>',
            *lines,
            "</svg>\n",
        ]
    )


def _data_url(picture: Image.Image) -> str:
    data = io.BytesIO()
    small = picture.convert("RGB").resize((_PIXELS, _PIXELS), Image.Resampling.LANCZOS)
    small.save(data, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}"
