"""A drawn circuit, and the forms it is had in."""

from __future__ import annotations

import base64
from collections.abc import Callable
from html import escape
from pathlib import Path

from circuit_atlas.service.circuit.saved_file import path_of, write_whole
from circuit_atlas.service.diagram.data import Content
from circuit_atlas.service.diagram.node_images import NodeImages
from circuit_atlas.storage_schema.errors import QueryError
from circuit_atlas.storage_schema.wording import listed

ENDINGS = (".svg", ".html", ".png")
_NOTEBOOK_HEIGHT = 680  # CSS pixels: controls, drawing and the lines under it


class Diagram:
    """Is a circuit, laid out. In a notebook it shows by itself.

    Attributes:
        content: all that is drawn, and the counts.
    """

    def __init__(self, content: Content, node_images: NodeImages) -> None:
        self.content = content
        self._images = node_images

    def save(self, path: str | Path) -> Path:
        """Write a file, whole or not at all; what it is follows from its ending.

        `.svg`: a vector file for a paper. `.html`: one page that works without a network.
        `.png`: its pixels; needs `circuit-atlas[diagram]`.

        Returns:
            The path, `~` put in full.

        Raises:
            QueryError: another ending, no path at all, or what a PNG needs is not installed.
            WriteError: it cannot be written.
        """
        target = path_of(path)
        forms: dict[str, Callable[[], bytes]] = {
            ".svg": lambda: self.svg().encode(),
            ".html": lambda: self.html().encode(),
            ".png": self.png,
        }
        form = forms.get(target.suffix.lower())
        if form is None:
            raise QueryError(
                f"{target.name!r} is no kind of file that a diagram is saved as: end its name with "
                + listed(ENDINGS, last="or")
            )
        write_whole(target, form())
        return target

    def svg(self, *, features: bool = False) -> str:
        """Return a vector file of at most 180 x 225 mm: text as text, no scripts, light background.

        Args:
            features: show feature visualizations, and crops only of channels that have none.
        """
        from circuit_atlas.service.diagram.svg import svg

        return svg(self.content, self._images, featured=features)

    def png(self, *, width: int = 2400, features: bool = False) -> bytes:
        """Return the vector file as a PNG of some width in pixels.

        QueryError where `circuit-atlas[diagram]` is not installed, or the machine has none
        of the fonts that text is set in.
        """
        from circuit_atlas.service.diagram.png import png

        return png(self.svg(features=features), width=width)

    def html(self) -> str:
        """Return one page that holds all it needs: it makes no request."""
        from circuit_atlas.service.diagram.page import page

        return page(self.content, self._images)

    def to_json(self) -> str:
        """Tell what the renderer draws from, see `data.py`; images are named by image, not
        held."""
        return self.content.to_json()

    def __repr__(self) -> str:
        counts = self.content.counts
        return (
            f"<Diagram {self.content.title}; {counts.drawn:,} of {counts.on_path:,} kernels on a "
            f"path drawn, circuit of {counts.circuit:,}; {counts.crossings_after:,} crossings>"
        )

    def _repr_html_(self) -> str:
        # A frame of its own: scripts of a notebook's cell are not run by every front end, and the
        # page's styles stay its own. It covers the SVG, which is left where frames are taken out,
        # as by sites that show notebooks.
        title = escape(self.content.title)
        drawn = base64.b64encode(self.svg().encode()).decode()
        return (
            f'<div style="position:relative;height:{_NOTEBOOK_HEIGHT}px">'
            f'<img alt="{title}" src="data:image/svg+xml;base64,{drawn}" '
            f'style="height:100%;max-width:100%;margin:0;background:#fff">'
            f'<iframe title="{title}" width="100%" height="{_NOTEBOOK_HEIGHT}" '
            'style="position:absolute;inset:0;border:0;background:#fff" sandbox="allow-scripts" '
            f'srcdoc="{escape(self.html())}"></iframe></div>'
        )

    def _repr_svg_(self) -> str:
        # For what shows pictures alone: exported pages and documents.
        return self.svg()
