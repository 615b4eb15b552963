"""Fonts that matplotlib brings along, so that no test depends on those of the machine."""

from __future__ import annotations

from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_FOUND = find_spec("matplotlib")
assert _FOUND is not None
assert _FOUND.origin is not None
FOLDER = Path(_FOUND.origin).parent / "mpl-data" / "fonts"
DEJAVU = tuple(FOLDER / "ttf" / f"DejaVuSans{weight}.ttf" for weight in ("", "-Bold"))
_CONFIGURATION = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "urn:fontconfig:fonts.dtd">
<fontconfig>
  <dir>{fonts}</dir>
  <cachedir>{cache}</cachedir>
  <alias binding="same"><family>sans-serif</family>
    <prefer><family>DejaVu Sans</family></prefer></alias>
  <alias binding="same"><family>monospace</family>
    <prefer><family>DejaVu Sans Mono</family></prefer></alias>
  <match target="pattern">
    <edit name="hintstyle" mode="assign"><const>hintslight</const></edit></match>
</fontconfig>
"""


@contextmanager
def fontconfig() -> Iterator[dict[str, str]]:
    """The environment of a program that is to find these fonts by fontconfig, and no others."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "fonts.conf"
        file.write_text(_CONFIGURATION.format(fonts=FOLDER / "ttf", cache=f"{folder}/cache"))
        yield {"FONTCONFIG_FILE": str(file)}
