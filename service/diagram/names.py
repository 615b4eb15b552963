"""Where names of bands stand in a drawing that nobody can point at: above, and none on another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from circuit_atlas.service.diagram.data import ROW, Band, Content
from circuit_atlas.service.diagram.shapes import JOINTS, Scale

_ONE_COLUMN = 400.0  # points of room where no other column is near
_GAP = 0.3  # of the size of the font, between two names
# Thousandths of the size of the font, from the space to "~": of Helvetica or of DejaVu Sans,
# whichever is wider there, because the file may be shown in either.
# fmt: off
_WIDTHS = (
    318, 401, 460, 838, 637, 951, 780, 275, 391, 391, 500, 838, 318, 361, 318, 337, 637, 637,
    637, 637, 637, 637, 637, 637, 637, 637, 337, 337, 838, 838, 838, 556, 1015, 685, 687, 722,
    771, 667, 611, 778, 752, 295, 500, 667, 558, 863, 749, 788, 667, 788, 722, 667, 611, 732,
    685, 989, 686, 667, 686, 391, 337, 391, 838, 556, 500, 613, 635, 550, 635, 616, 353, 635,
    634, 278, 278, 580, 278, 975, 634, 612, 635, 635, 412, 521, 393, 634, 592, 818, 592, 592,
    525, 637, 337, 637, 838,
)
# fmt: on


@dataclass(frozen=True)
class Name:
    """Holds a band's name, or the end of it; in points its middle `x`, and `y`, what it stands
    on."""

    band: Band
    text: str
    x: float
    y: float


def names(content: Content, scale: Scale, *, side: float) -> Iterator[Name]:
    """Return the names for which there is room, with `side` points beside the drawing.

    Paths lose their first parts where the columns are close. What would still touch another name
    is left out: below a column's first name sooner than that, and the unit's and both ends' last.
    """
    bands = [band for band in content.bands if band.kind not in JOINTS]
    columns = sorted({band.x for band in bands})
    apart = min((b - a for a, b in pairwise(columns)), default=_ONE_COLUMN)
    taken: list[tuple[float, float, float]] = []
    for band in _in_order(bands):
        text = _fitted(band.name, apart, scale.text)
        half = _width(text, scale.text) / 2
        x = min(max(band.x, half - side), content.width + side - half)
        y = band.top - ROW * 0.6 - 0.8 * scale.mm
        reach = half + _GAP * scale.text / 2
        if all(
            abs(x - other) >= reach + others or abs(y - line) >= scale.text
            for other, line, others in taken
        ):
            taken.append((x, y, reach))
            yield Name(band, text, x, y)


def _in_order(bands: list[Band]) -> list[Band]:
    """The unit and both ends, then the uppermost of each column, then what is below it."""
    ends = {min(band.x for band in bands), max(band.x for band in bands)} if bands else set()
    upper: dict[float, float] = {}
    for band in bands:
        upper[band.x] = min(band.top, upper.get(band.x, band.top))

    def order(band: Band) -> tuple[int, float, float]:
        outer = band.unit or band.x in ends
        return (0 if outer else 1 if band.top == upper[band.x] else 2, band.x, band.top)

    return sorted(bands, key=order)


def _fitted(name: str, room: float, size: float) -> str:
    """The name without as many of its path's first parts as there is no room for."""
    parts = name.split(".")
    while _width(".".join(parts), size) > room and any(map(str.isalpha, "".join(parts[1:]))):
        parts = parts[1:]
    return ".".join(parts)


def _width(text: str, size: float) -> float:
    codes = (ord(character) - ord(" ") for character in text)
    return size / 1000 * sum(_WIDTHS[n] if n in range(len(_WIDTHS)) else 1000 for n in codes)
