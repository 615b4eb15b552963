"""The images that a unit responds to most, as a table that shows them."""

from __future__ import annotations

import base64
from html import escape
from typing import Any

import pyarrow as pa

from circuit_atlas.service.circuit.atlas_table import AtlasTable
from circuit_atlas.service.circuit.display import cell
from circuit_atlas.storage_schema.reader import Reader

_SHOWN = 12
_SIDE = 112  # CSS pixels


class TopImages(AtlasTable):
    """Is the table of a unit's top images; in a notebook it shows them, with the part that the
    largest response comes from."""

    def __init__(self, table: pa.Table, reader: Reader) -> None:
        super().__init__(table)
        self._reader = reader

    def _repr_html_(self) -> str:
        return self.html(limit=_SHOWN)

    def html(self, *, limit: int, side: int = _SIDE) -> str:
        """Show the first images.

        Args:
            limit: how many.
            side: height of each, in CSS pixels.
        """
        rows = self.to_arrow().slice(0, limit).to_pylist()
        jpegs = self._reader.jpegs([row["image"] for row in rows])
        header = self._reader.header
        size = header.input_height, header.input_width
        figures = "".join(_figure(row, jpegs[row["image"]], size, side) for row in rows)
        more = len(self) - len(rows)
        foot = f"<div>and {more:,} more</div>" if more > 0 else ""
        return f'<div style="display:flex;flex-wrap:wrap;gap:8px">{figures}</div>{foot}'


def _figure(row: dict[str, Any], jpeg: bytes | None, size: tuple[int, int], side: int) -> str:
    """One image under which its name, label and response stand, with the box of its maximum."""
    height, width = size
    shown_width = round(side * width / height)
    name = row["label"] or row["name"]
    caption = (
        f'<figcaption style="font-size:11px;line-height:1.3;overflow:hidden;'
        f'text-overflow:ellipsis;white-space:nowrap">{escape(name)}'
        f"<br>{cell(row['response'])}</figcaption>"
    )
    if jpeg is None:
        return f'<figure style="margin:0;width:{shown_width}px">{caption}</figure>'
    top, left = max(0, row["box_top"]) / height, max(0, row["box_left"]) / width
    bottom, right = min(height, row["box_bottom"]) / height, min(width, row["box_right"]) / width
    box = (
        f"position:absolute;top:{top:.1%};left:{left:.1%};width:{right - left:.1%};"
        f"height:{bottom - top:.1%};box-sizing:border-box;border:2px solid #f90"
    )
    data = base64.b64encode(jpeg).decode()
    title = escape(f"{row['name']}: image {row['image']}, rank {row['rank']}")
    return (
        f'<figure style="margin:0;width:{shown_width}px" title="{title}">'
        f'<div style="position:relative;width:{shown_width}px;height:{side}px">'
        f'<img alt="{title}" src="data:image/jpeg;base64,{data}" '
        f'style="width:100%;height:100%;margin:0"><div style="{box}"></div></div>'
        f"{caption}</figure>"
    )
