"""Where names of bands stand: level, above their bands, on no node and on no other name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from circuit_atlas.service.diagram.data import ROW, Band
from circuit_atlas.service.diagram.drawn import Drawn
from circuit_atlas.service.diagram.name_forms import broken, endings
from circuit_atlas.service.diagram.shapes import JOINTS, Scale

_ONE_COLUMN = 400.0  # points of room where no other column is near
_GAP = 0.3  # of the size of the font, between two names
_LINE = 1.15  # of the size of the font, from one line to the next
_STRIP = 0.6  # rows that a band's strip reaches beyond the middle of its last node
_HIGHEST = 10  # lines that a name is raised at most, on a leader, past names beside it
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


Box = tuple[float, float, float, float]
"""Left, right, top and bottom in points."""


@dataclass(frozen=True)
class Name:
    """Holds a band's name in lines, with how many of its kernels are drawn in the last where there
    is room; in points the middle `x`, and `y`, what the last line stands on; `raised` where a line
    leads from there to the band."""

    band: Band
    lines: tuple[str, ...]
    counted: bool
    x: float
    y: float
    raised: bool


def names(drawn: Drawn, scale: Scale, *, side: float) -> list[Name]:
    """Return the names for which there is room, with `side` points beside the drawing.

    A name that is wider than its column is broken at its dots. Where it would touch another name or
    a node, it is raised; where that is not enough, it loses first its count and then its first
    parts; and at last it is left out: below a column's first name sooner than that, and the unit's
    and both ends' last.
    """
    content = drawn.content
    bands = [band for band in content.bands if band.kind not in JOINTS]
    columns = sorted({band.x for band in bands})
    apart = min((b - a for a, b in pairwise(columns)), default=_ONE_COLUMN)
    half_node = scale.half_strip
    taken: list[Box] = [
        (
            band.x - half_node,
            band.x + half_node,
            band.top - _STRIP * ROW,
            band.bottom + _STRIP * ROW,
        )
        for band in bands
    ]
    found = []
    for band in _in_order(bands):
        foot = band.top - _STRIP * ROW - 0.4 * scale.text
        for lines, counted, raised in _forms(drawn, band, apart, scale.text):
            half = max(_width(line, scale.text) for line in lines) / 2
            x = min(max(band.x, half - side), content.width + side - half)
            y = foot - raised * _LINE * scale.text
            gap = _GAP * scale.text / 2
            high = (len(lines) - 1) * _LINE * scale.text + 0.8 * scale.text
            box = (x - half - gap, x + half + gap, y - high, y + 0.25 * scale.text)
            leader = (band.x - gap, band.x + gap, box[3], foot)
            if not any(_touch(box, other) or _touch(leader, other) for other in taken):
                taken += [box, leader] if raised else [box]
                found.append(Name(band, lines, counted, x, y, raised > 0))
                break
    return found


def lines_of(name: Name, size: float) -> Iterator[tuple[str, float, bool]]:
    """Give each line, what it stands on, and whether it counts kernels."""
    last = len(name.lines) - 1
    for number, line in enumerate(name.lines):
        yield line, name.y - (last - number) * _LINE * size, name.counted and number == last


def _forms(
    drawn: Drawn, band: Band, room: float, size: float
) -> Iterator[tuple[tuple[str, ...], bool, int]]:
    """The forms of a band's name, the most telling first: lines, whether the last is the count, and
    by how many lines it is raised."""
    fitting = broken(band.label, room - _GAP * size, lambda text: _width(text, size))
    lines = dict.fromkeys(((band.label,), fitting))
    if band.kernels:
        number = drawn.content.bands.index(band)
        count = f"{drawn.of_bands[number]:,}/{band.kernels[drawn.number]:,}"
        for raised in range(_HIGHEST + 1):
            yield from (((*some, count), True, raised) for some in lines)
    for raised in range(_HIGHEST + 1):
        yield from ((some, False, raised) for some in lines)
    for end in endings(band.label):
        yield (end,), False, 0


def _touch(one: Box, other: Box) -> bool:
    return one[0] < other[1] and other[0] < one[1] and one[2] < other[3] and other[2] < one[3]


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


def _width(text: str, size: float) -> float:
    codes = (ord(character) - ord(" ") for character in text)
    return size / 1000 * sum(_WIDTHS[n] if n in range(len(_WIDTHS)) else 1000 for n in codes)
