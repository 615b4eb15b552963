"""An SVG file as a PNG, by resvg."""

from __future__ import annotations

from circuit_atlas.service.analysis.arguments import whole
from circuit_atlas.service.diagram.shapes import FONT_FAMILY, FONTS
from circuit_atlas.storage_schema.errors import QueryError
from circuit_atlas.storage_schema.wording import listed

_TEXT = '<svg xmlns="http://www.w3.org/2000/svg" width="40" height="40">{}</svg>'
_LETTER = f'<text x="2" y="32" font-family="{FONT_FAMILY}" font-size="30">H</text>'
MOST_PIXELS = 12_000


def png(svg: str, *, width: int) -> bytes:
    """Draw the file on white, `width` pixels wide.

    QueryError where resvg_py is not installed, the width is no number in range, or the machine has
    none of the fonts that text is set in: it would be missing without a word.
    """
    pixels = whole(width, what="width")
    if not 16 <= pixels <= MOST_PIXELS:
        raise QueryError(f"width={pixels} is out of range: give 16 to {MOST_PIXELS} pixels")
    try:
        import resvg_py
    except ModuleNotFoundError:
        raise QueryError(
            "a PNG needs the package 'resvg_py', which is not installed: "
            "python -m pip install 'circuit-atlas[diagram]'; or save as .svg or .html"
        ) from None
    if resvg_py.svg_to_bytes(svg_string=_TEXT.format(_LETTER)) == resvg_py.svg_to_bytes(
        svg_string=_TEXT.format("")
    ):
        raise QueryError(
            "a PNG would have no text, because this machine has no font named "
            f"{listed(FONTS, last='or')}: install one (Debian: apt-get install "
            "fonts-dejavu-core), or save as .svg or .html"
        )
    return bytes(resvg_py.svg_to_bytes(svg_string=svg, width=pixels, background="#ffffff", dpi=96))
