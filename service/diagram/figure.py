"""A drawing for print, of one width."""

from __future__ import annotations

from pathlib import Path

from circuit_atlas.service.analysis import arguments
from circuit_atlas.service.circuit.saved_file import path_of, write_whole
from circuit_atlas.service.diagram.data import Content
from circuit_atlas.service.diagram.drawn import Drawn
from circuit_atlas.service.diagram.look import Look
from circuit_atlas.service.diagram.node_images import NodeImages
from circuit_atlas.storage_schema.errors import QueryError

WIDTH_MM = 174.0
"""Of a figure where nothing else is said: two columns of a journal."""
NARROWEST_MM, WIDEST_MM = 60.0, 400.0
_PNG_DPI = 350


class Figure:
    """Is a drawing for print. In a notebook it shows by itself, as SVG.

    Attributes:
        svg: the file: text as text, no scripts, node images in it.
        width_mm: its width.
    """

    def __init__(
        self, content: Content, node_images: NodeImages, *, look: Look, width_mm: float
    ) -> None:
        width_mm = arguments.between(width_mm, NARROWEST_MM, WIDEST_MM, what="width_mm")
        if not isinstance(look, Look):
            raise QueryError(f"look={look!r} is none: give a Look, such as Look(nodes=1.5)")
        from circuit_atlas.service.diagram.svg import svg

        self.width_mm = width_mm
        self.svg = svg(Drawn(content, look), node_images, width_mm=width_mm)

    def png(self, *, width: int | None = None) -> bytes:
        """Return it as a PNG of some width in pixels. Default: 350 a inch of its width in print.

        QueryError where `circuit-atlas[diagram]` is not installed, the width is out of range, or
        the machine has no font.
        """
        from circuit_atlas.service.diagram.png import png

        return png(
            self.svg, width=round(self.width_mm / 25.4 * _PNG_DPI) if width is None else width
        )

    def save(self, path: str | Path) -> Path:
        """Write a `.svg` or a `.png`, whole or not at all.

        Returns:
            The path, `~` put in full.

        Raises:
            QueryError: another ending, no path at all, or what a PNG needs is not installed.
            WriteError: it cannot be written.
        """
        target = path_of(path)
        ending = target.suffix.lower()
        if ending not in (".svg", ".png"):
            raise QueryError(f"{target.name!r} is no figure: end its name with '.svg' or '.png'")
        write_whole(target, self.svg.encode() if ending == ".svg" else self.png())
        return target

    def _repr_svg_(self) -> str:
        return self.svg
