"""The images of nodes: where a channel is largest, cut from the images, or a visualization."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress

import numpy as np
from numpy.typing import NDArray

from circuit_atlas.service.circuit.origin import Origin
from circuit_atlas.service.diagram.data import Crop
from circuit_atlas.service.diagram.topology import CHANNEL, Topology

_MOST = 4
_PLAIN = "positive"
_COLUMNS = ("image", "box_top", "box_left", "box_bottom", "box_right")


@dataclass(frozen=True)
class Feature:
    """Says where a visualization lies: the layer's or convolution's name, the channel, the
    variant."""

    layer: str
    unit: int
    variant: str


def crops_of(
    goals: Sequence[Origin], graph: Topology, nodes: NDArray[np.int64]
) -> dict[int, list[Crop]]:
    """Return the best crops of each node that has any, the best first.

    A unit's are those of its top images; another channel's are where it is largest over the
    scoring images. Of a goal whose atlas has other images than the first one's there are none: a
    drawing names images by their ids there.
    """
    found: dict[int, list[Crop]] = {}
    images = goals[0].reader.header.images_sha256
    pictured = [origin.reader.header.images_sha256 == images for origin in goals]
    names = {c.name: base for c, base in zip(graph.index.convolutions, graph.base, strict=True)}
    wanted = {int(node) for node in nodes[graph.kind[nodes] == CHANNEL]}
    for origin in compress(goals, pictured):
        layer = origin.layer.layer
        table = origin.reader.channels(layer).sort_by(
            [("convolution", "ascending"), ("channel", "ascending"), ("rank", "ascending")]
        )
        bases = [names[name] for name in table["convolution"].to_pylist()]
        node_of = np.asarray(bases, np.int64) + table["channel"].to_numpy()
        held = np.isin(node_of, np.asarray(sorted(wanted - found.keys()), np.int64))
        boxes = np.stack([table[name].to_numpy()[held] for name in _COLUMNS], axis=1)
        for node, row in zip(node_of[held].tolist(), boxes.tolist(), strict=True):
            found.setdefault(node, []).append((row[0], row[1], row[2], row[3], row[4]))
    for origin, node in compress(zip(goals, graph.units, strict=True), pictured):
        found[node] = _of_unit(origin)
    return found


def _of_unit(origin: Origin) -> list[Crop]:
    rows = origin.reader.responses(origin.commit).to_pylist()
    ranked = sorted((r for r in rows if r["rank"] is not None), key=lambda r: r["rank"])
    if origin.images:
        chosen = [r for r in ranked if r["image"] in origin.images]
        ranked = chosen or ranked
    return [
        (row["image"], row["box_top"], row["box_left"], row["box_bottom"], row["box_right"])
        for row in ranked[:_MOST]
    ]


def features_of(
    goals: Sequence[Origin], graph: Topology, nodes: NDArray[np.int64]
) -> dict[int, Feature]:
    """Return the visualization of each node that has any in the first goal's atlas: `positive`, or
    else its first."""
    reader = goals[0].reader
    found: dict[int, Feature] = {}
    for number, (convolution, base) in enumerate(
        zip(graph.index.convolutions, graph.base, strict=True)
    ):
        own = nodes[(graph.kind[nodes] == CHANNEL) & (graph.owner[nodes] == number)]
        variants = reader.feature_variants(convolution.name) if len(own) else {}
        for node in own.tolist():
            names = variants.get(node - base, ())
            if names:
                found[node] = Feature(convolution.name, node - base, _chosen(names))
    for origin, node in zip(goals, graph.units, strict=True):
        names = reader.feature_variants(origin.layer.layer).get(origin.unit.number, ())
        if names:
            found[node] = Feature(origin.layer.layer, origin.unit.number, _chosen(names))
    return found


def _chosen(names: Sequence[str]) -> str:
    return _PLAIN if _PLAIN in names else names[0]
