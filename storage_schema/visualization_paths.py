"""Paths of feature visualizations, and of the plans of them."""

from __future__ import annotations

import re

from circuit_atlas.storage_schema.layout import VISUALIZATIONS
from circuit_atlas.storage_schema.segments import escape, unescape

_VISUALIZATION = re.compile(rf"{VISUALIZATIONS}/([^/]+)/(\d+)/([^/]+)\.json")
_VISUALIZATION_PLAN = re.compile(rf"{VISUALIZATIONS}/plans/[0-9a-f]{{64}}\.json")
_VISUALIZATION_FAILURE = re.compile(rf"{VISUALIZATIONS}/[^/]+/failures/(\d+)\.(\d+)\.json")


def visualizations(layer_name: str, unit: int | None = None) -> str:
    """Return the path of the visualizations of a layer or convolution, or of one of its units or
    channels."""
    folder = f"{VISUALIZATIONS}/{escape(layer_name)}"
    return folder if unit is None else f"{folder}/{unit}"


def visualization(layer_name: str, unit: int, variant: str) -> str:
    """Return the path of the record of one visualization."""
    return f"{visualizations(layer_name, unit)}/{escape(variant)}.json"


def visualization_image(layer_name: str, unit: int, variant: str, attempt: int) -> str:
    """Return the path of the image itself."""
    return f"{visualizations(layer_name, unit)}/{escape(variant)}.{attempt}.png"


def visualization_failure(layer_name: str, unit: int, attempt: int) -> str:
    """Return the path of one record of a failure at a unit's visualizations."""
    return f"{visualizations(layer_name)}/failures/{unit}.{attempt}.json"


def visualization_plan(sha256: str) -> str:
    """Return the path of one plan of visualizations."""
    return f"{VISUALIZATIONS}/plans/{sha256}.json"


def visualized(path: str) -> tuple[str, int, str] | None:
    """Return the layer, unit and variant of the visualization whose record lies at `path`.

    None where it is no such record, nor where an atlas would have it at another path: systems leave
    files of their own in folders.
    """
    match = _VISUALIZATION.fullmatch(path)
    if match is None:
        return None
    layer_name, unit, variant = unescape(match[1]), int(match[2]), unescape(match[3])
    return (layer_name, unit, variant) if visualization(layer_name, unit, variant) == path else None


def failed_visualization(path: str) -> int | None:
    """Return the unit whose failure lies at `path`, or None where it is no failure at
    visualizations."""
    match = _VISUALIZATION_FAILURE.fullmatch(path)
    return int(match[1]) if match else None


def is_visualization_plan(path: str) -> bool:
    """Tell whether a plan of visualizations lies at `path`."""
    return _VISUALIZATION_PLAN.fullmatch(path) is not None
