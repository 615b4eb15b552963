"""A drawn circuit, and the forms it is had in."""

from __future__ import annotations

import base64
from html import escape
from pathlib import Path

from circuit_atlas.service.circuit.saved_file import path_of, write_whole
from circuit_atlas.service.diagram.data import Content
from circuit_atlas.service.diagram.figure import WIDTH_MM, Figure
from circuit_atlas.service.diagram.look import Look
from circuit_atlas.service.diagram.node_images import NodeImages
from circuit_atlas.service.diagram.node_sheet import Shows, node_sheet
from circuit_atlas.storage_schema.errors import QueryError
from circuit_atlas.storage_schema.wording import listed

ENDINGS = (".svg", ".html", ".png")
_NOTEBOOK_HEIGHT = 720  # CSS pixels: controls, drawing and the lines under it
# A frame is narrow, so the controls take two lines. The page is seen through until its script has
# drawn; one of another colour scheme than the notebook's would be opaque.
_FRAMED = """
<style>:root { --ca-stage: max(22rem, calc(100vh - 17rem)); }</style>
<style id="until-drawn">
:root { color-scheme: normal !important; }
html, body { background: none !important; }
body { visibility: hidden; }
</style>
<script type="module">
if (document.querySelector("#diagram canvas")) document.getElementById("until-drawn").remove();
</script>
"""


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

        `.svg`, `.png`: the figure as `figure()` gives it; a PNG needs `circuit-atlas[diagram]`.
        `.html`: one page to look around in that works without a network.

        Returns:
            The path, `~` put in full.

        Raises:
            QueryError: another ending, no path at all, or what a PNG needs is not installed.
            WriteError: it cannot be written.
        """
        target = path_of(path)
        ending = target.suffix.lower()
        if ending not in ENDINGS:
            raise QueryError(
                f"{target.name!r} is no kind of file that a diagram is saved as: end its name with "
                + listed(ENDINGS, last="or")
            )
        if ending != ".html":
            return self.figure().save(target)
        write_whole(target, self.html().encode())
        return target

    def figure(self, *, width_mm: float = WIDTH_MM, look: Look | None = None) -> Figure:
        """Draw it for print, on white, with everything in one file: node images, names, legend.

        Args:
            width_mm: of the figure on paper, 60 to 400. Text has 7 points or more at that size.
            look: what a reader of the page chooses with its sliders and boxes. Default: what a
                page shows first, so visualizations in the nodes of channels that have one.

        Raises:
            QueryError: the width is out of range; or the look names what the drawing has not.
        """
        return Figure(self.content, self._images, look=look or Look(), width_mm=width_mm)

    def node_sheet(self, shows: Shows = "features") -> bytes:
        """Draw the images of its nodes on one sheet, small, as a page shows them; as
        `node_sheet.node_sheet`."""
        return node_sheet(self.content, self._images, shows)

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
        # as by sites that show notebooks, and shows through where no script runs in the frame.
        title = escape(self.content.title)
        framed = self.html().replace("</body>", f"{_FRAMED}</body>")
        drawn = base64.b64encode(self.figure().svg.encode()).decode()
        return (
            f'<div style="position:relative;height:{_NOTEBOOK_HEIGHT}px">'
            f'<img alt="{title}" src="data:image/svg+xml;base64,{drawn}" '
            f'style="height:100%;max-width:100%;margin:0;background:#fff">'
            f'<iframe title="{title}" width="100%" height="{_NOTEBOOK_HEIGHT}" '
            'style="position:absolute;inset:0;border:0" sandbox="allow-scripts" '
            f'srcdoc="{escape(framed)}"></iframe></div>'
        )

    def _repr_svg_(self) -> str:
        # For what shows pictures alone: exported pages and documents.
        return self.figure().svg
