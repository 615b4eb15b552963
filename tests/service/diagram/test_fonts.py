"""Text of a drawing, whichever fonts a machine has."""

from __future__ import annotations

import contextlib
import io
import shutil
import string
from functools import partial

import pytest
from fontTools.afmLib import AFM
from fontTools.agl import UV2AGL
from fontTools.ttLib import TTFont
from matplotlib import font_manager, ft2font
from PIL import Image

from circuit_atlas.service.diagram import names, png
from circuit_atlas.service.diagram.drawing import Diagram
from circuit_atlas.storage_schema.errors import QueryError
from tests.fonts import DEJAVU, FOLDER
from tests.service.diagram import wirings
from tests.service.diagram.planted import unit_of

SAYS = (
    r"^a PNG would have no text, because this machine has no font: install one \(Debian: apt-get "
    r"install fonts-dejavu-core\), or save as \.svg or \.html$"
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
def test_without_any_font_a_picture_says_what_to_install(diagram, monkeypatch):
    monkeypatch.setattr(png, "_families", tuple)
    with pytest.raises(QueryError, match=SAYS):
        diagram.figure().png()


def test_text_is_set_in_any_font_there_is(diagram, monkeypatch, tmp_path):
    """As on a machine with a font that no drawing names."""
    resvg = pytest.importorskip("resvg_py")
    (tmp_path / "fonts").mkdir()
    shutil.copy(FOLDER / "ttf" / "STIXGeneral.ttf", tmp_path / "fonts")
    render = partial(
        resvg.svg_to_bytes, skip_system_fonts=True, font_dirs=[str(tmp_path / "fonts")]
    )
    monkeypatch.setattr(resvg, "svg_to_bytes", render)
    monkeypatch.setattr(png, "_UNIX_FONT_FOLDERS", (str(tmp_path / "fonts"),))
    monkeypatch.setattr(png, "_FONT_FOLDERS", {})
    png._families.cache_clear()
    try:
        pixels = Image.open(io.BytesIO(diagram.figure().png(width=800))).convert("L")
    finally:
        png._families.cache_clear()
    # The title stands in the uppermost strip, and nothing else does.
    assert pixels.crop((0, 0, 800, 30)).getextrema()[0] < 80


def test_this_machine_has_a_font_or_says_that_it_has_none(diagram):
    pytest.importorskip("resvg_py")
    if here():
        assert diagram.figure().png(width=100).startswith(b"\x89PNG")
    else:
        with pytest.raises(QueryError, match=SAYS):
            diagram.figure().png()
