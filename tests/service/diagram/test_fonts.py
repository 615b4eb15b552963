"""Text of a drawing, whichever fonts a machine has."""

from __future__ import annotations

import contextlib
import string

import pytest
from fontTools.afmLib import AFM
from fontTools.agl import UV2AGL
from fontTools.ttLib import TTFont
from matplotlib import font_manager, ft2font

from circuit_atlas.service.diagram import names
from circuit_atlas.service.diagram.drawing import Diagram
from circuit_atlas.service.diagram.shapes import FONTS
from circuit_atlas.storage_schema.errors import QueryError
from tests.fonts import DEJAVU, FOLDER
from tests.service.diagram import wirings
from tests.service.diagram.planted import unit_of

SAYS = (
    "^a PNG would have no text, because this machine has no font named 'Helvetica', 'Arial', "
    r"'Liberation Sans', 'DejaVu Sans' or 'Noto Sans': install one \(Debian: apt-get install "
    r"fonts-dejavu-core\), or save as \.svg or \.html$"
)


@pytest.fixture
def diagram(tmp_path) -> Diagram:
    return unit_of(tmp_path / "atlas", wirings.plain(), 1).circuit(keep=1).diagram()


def here() -> set[str]:
    """Families that this machine has."""
    found = set()
    for file in font_manager.findSystemFonts():
        with contextlib.suppress(OSError, RuntimeError):  # of a kind that is not read here
            found.add(ft2font.FT2Font(file).family_name)
    return found


def test_a_letter_is_as_wide_as_the_wider_of_two_fonts():
    helvetica = AFM(str(FOLDER / "pdfcorefonts" / "Helvetica.afm"))
    dejavu = TTFont(DEJAVU[0])
    cmap, metrics = dejavu.getBestCmap(), dejavu["hmtx"]
    for letter in f"{string.ascii_letters}{string.digits}{string.punctuation} ":
        wide = (
            helvetica[UV2AGL[ord(letter)]][1] / 1000,
            metrics[cmap[ord(letter)]][0] / dejavu["head"].unitsPerEm,
        )
        assert max(wide) <= names._width(letter, 1.0) < max(wide) + 0.001, letter


@pytest.mark.usefixtures("no_fonts")
def test_without_any_font_a_picture_says_what_to_install(diagram):
    with pytest.raises(QueryError, match=SAYS):
        diagram.png()


def test_this_machine_has_a_font_or_says_that_it_has_none(diagram):
    pytest.importorskip("resvg_py")
    if here() & {*FONTS}:
        assert diagram.png(width=100).startswith(b"\x89PNG")
    else:
        with pytest.raises(QueryError, match=SAYS):
            diagram.png()
