"""Where a drawing's points lie on the stage of a page that shows all of it."""

from __future__ import annotations

from circuit_atlas.service.diagram.data import Content

BORDER = 1
BESIDE, ABOVE, BELOW = 16, 46, 6
"""Pixels that the page leaves around the drawing: letters and names stand there."""
NEAREST = 2.2
"""Pixels a point at most."""


def scale_of(box: dict[str, float], content: Content) -> float:
    """Pixels a point, on a stage with that bounding box."""
    wide = box["width"] - 2 * BORDER - 2 * BESIDE
    high = box["height"] - 2 * BORDER - ABOVE - BELOW
    return min(wide / content.width, high / content.height, NEAREST)


def on_stage(box: dict[str, float], content: Content, x: float, y: float) -> tuple[float, float]:
    """The position on the page of a point of the drawing."""
    scale = scale_of(box, content)
    return (
        box["x"] + box["width"] / 2 + (x - content.width / 2) * scale,
        box["y"] + (box["height"] + ABOVE - BELOW) / 2 + (y - content.height / 2) * scale,
    )
