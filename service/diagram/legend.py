"""What the marks of a drawing mean, in words, and where each entry stands under it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from circuit_atlas.service.diagram.drawn import Drawn
from circuit_atlas.service.diagram.look import SIDES as SIDE_PARTS
from circuit_atlas.service.diagram.shapes import EXCITE, INHIBIT, SIDES, UNKNOWN, weighted

_LETTER_MM = 1.4  # of the text, on average
_APART_MM = 3.5
_MARKS_MM = {"stroke": 5.0, "widths": 11.4, "weights": 10.0, "none": 0.0}
_IMAGES = {
    "features": "nodes: images made to drive the channel",
    "mixed": "nodes: images made to drive the channel, or where it is largest",
    "crops": "nodes: where the channel is largest",
    "both": "nodes: where the channel is largest, and an image made to drive it",
}


@dataclass(frozen=True)
class Entry:
    """Holds one entry: a mark, with its colour where it has one, and what it means."""

    mark: Literal["stroke", "widths", "weights", "none"]
    text: str
    colour: str = ""

    @property
    def mark_mm(self) -> float:
        """Return the room of the mark."""
        return _MARKS_MM[self.mark]


def entries(drawn: Drawn) -> Iterator[Entry]:
    """Tell what is to be explained of a drawing: of what is not drawn, nothing."""
    content, look = drawn.content, drawn.look
    if content.sides:
        for part, label, colour in zip(
            SIDE_PARTS, ("shared", "only left", "only right"), SIDES, strict=True
        ):
            if part not in look.hide:
                yield Entry("stroke", label, colour)
    else:
        unknown = any(not c for c in content.edges.contribution)
        for part, colour, there in (
            ("excitation", EXCITE, True),
            ("inhibition", INHIBIT, True),
            ("unknown", UNKNOWN, unknown),
        ):
            if there and part not in look.hide:
                yield Entry("stroke", "sign unknown" if part == "unknown" else part, colour)
    yield Entry("widths", "width: root of the score over its convolution's largest")
    if weighted(drawn):
        yield Entry("weights", "weights of a kernel, below and above 0")
    if drawn.images != "none":
        yield Entry("none", _IMAGES["mixed" if _mixed(drawn) else drawn.images])
    yield Entry("none", "under the name: kernels drawn / in the circuit")


def _mixed(drawn: Drawn) -> bool:
    """Whether nodes that have no visualization show a crop beside others that show one."""
    nodes = drawn.content.nodes
    lacking = any(nodes.crops[node] and not nodes.feature[node] for node in drawn.nodes)
    return drawn.images == "features" and lacking


def placed(some: Iterator[Entry], width_mm: float) -> Sequence[tuple[Entry, float, int]]:
    """Place entries one after the other in rows of a width: each with its position and row."""
    found: list[tuple[Entry, float, int]] = []
    x, row = 0.0, 0
    for entry in some:
        wide = entry.mark_mm + _LETTER_MM * len(entry.text)
        if x and x + wide > width_mm:
            x, row = 0.0, row + 1
        found.append((entry, x, row))
        x += wide + _APART_MM
    return found
