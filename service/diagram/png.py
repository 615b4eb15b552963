"""An SVG file as a PNG, by resvg."""

from __future__ import annotations

import os
import sys
from functools import cache
from pathlib import Path

from circuit_atlas.service.analysis.arguments import whole
from circuit_atlas.service.diagram.shapes import FONT_FAMILY
from circuit_atlas.storage_schema.errors import QueryError

_TEXT = '<svg xmlns="http://www.w3.org/2000/svg" width="40" height="40">{}</svg>'
_LETTER = f'<text x="2" y="32" font-family="{FONT_FAMILY}" font-size="30">H</text>'
_FONT_FOLDERS = {
    "darwin": ("/System/Library/Fonts", "/Library/Fonts", "~/Library/Fonts"),
    "win32": (r"%WINDIR%\Fonts", r"%LOCALAPPDATA%\Microsoft\Windows\Fonts"),
}
_UNIX_FONT_FOLDERS = (
    "/usr/share/fonts",
    "/usr/local/share/fonts",
    "~/.local/share/fonts",
    "~/.fonts",
)
MOST_PIXELS = 12_000


def png(svg: str, *, width: int) -> bytes:
    """Draw the file on white, `width` pixels wide. Text is set in the first of the fonts that it
    names, or else in any that the machine has.

    QueryError where resvg_py is not installed, the width is no number in range, or the machine has
    no font at all: text would be missing without a word.
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

    def has_letters(family: str | None) -> bool:
        with_letter, without = (
            resvg_py.svg_to_bytes(svg_string=_TEXT.format(inside), sans_serif_family=family)
            for inside in (_LETTER, "")
        )
        return bool(with_letter != without)

    family = None
    if not has_letters(None):
        family = next(filter(has_letters, _families()), None)
        if family is None:
            raise QueryError(
                "a PNG would have no text, because this machine has no font: install one (Debian: "
                "apt-get install fonts-dejavu-core), or save as .svg or .html"
            )
    return bytes(
        resvg_py.svg_to_bytes(
            svg_string=svg,
            width=pixels,
            background="#ffffff",
            dpi=96,
            sans_serif_family=family,
        )
    )


@cache
def _families() -> tuple[str, ...]:
    """The families of the machine's fonts, as their files name them."""
    from PIL import ImageFont

    found: dict[str, None] = {}
    for folder in _FONT_FOLDERS.get(sys.platform, _UNIX_FONT_FOLDERS):
        for file in sorted(Path(os.path.expandvars(folder)).expanduser().rglob("*.[ot]t[fc]")):
            try:
                family, _ = ImageFont.truetype(str(file)).getname()
            except OSError:  # of a kind that is not read here
                continue
            if family:
                found[family] = None
    return tuple(found)
