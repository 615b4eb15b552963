"""A unit at a glance: its visualization, the images that it responds to most, and its curves."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape

from circuit_atlas.service.client.feature_visualization import FeatureVisualization
from circuit_atlas.service.client.top_images import TopImages
from circuit_atlas.service.comparison.line_chart import LineChart, Series

_IMAGES = 8
_SIDE = 96  # CSS pixels
_FLOOR = "random"


def stored_unit_html(
    title: str,
    *,
    label: str | None,
    images: TopImages,
    visualizations: Sequence[FeatureVisualization],
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    fractions: Sequence[float],
) -> str:
    """Show a unit that is stored, for a notebook.

    Args:
        title: which it is.
        label: what it stands for.
        images: that it responds to most.
        visualizations: of which the first is shown.
        curves: fractions and r of its circuits, by criterion; none of a dead unit.
        fractions: of the atlas.
    """
    told = f"<p>stands for {escape(label)}</p>" if label else ""
    shown = images.html(limit=_IMAGES, side=_SIDE)
    made = "".join(_visualization(one) for one in visualizations[:1])
    row = f'<div style="display:flex;gap:16px">{made}{shown}</div>'
    return f"<p>{escape(title)}</p>{told}{row}{_chart(curves, fractions)}"


def _visualization(found: FeatureVisualization) -> str:
    data = base64.b64encode(found.png).decode()
    variant = escape(found.variant)
    return (
        f'<figure style="margin:0"><img alt="{variant}" src="data:image/png;base64,{data}" '
        f'style="height:{_SIDE}px;margin:0"><figcaption style="font-size:11px">{variant}'
        "</figcaption></figure>"
    )


def _chart(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], fractions: Sequence[float]
) -> str:
    """r of the circuits, a line a criterion."""
    if not curves:
        return ""
    none = [None] * len(fractions)
    series = []
    for criterion, (at, r) in curves.items():
        known = dict(zip(at, r, strict=True))
        values = [known.get(fraction) for fraction in fractions]
        series.append(Series(criterion, values, none, none, floor=criterion == _FLOOR))
    title = "Pearson r with the whole network, by the fraction of kernels kept"
    return f"<div>{LineChart(title, fractions, series).svg()}</div>"
