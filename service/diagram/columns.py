"""A laid-out graph as columns of numbers: bands, nodes, edges, wires, weights."""

from __future__ import annotations

import base64
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from circuit_atlas.service.circuit.origin import Origin
from circuit_atlas.service.diagram.crops import Feature, crops_of
from circuit_atlas.service.diagram.data import ROW, Band, Bends, Edges, Nodes, Weights, Wires
from circuit_atlas.service.diagram.kernels import DrawnKernels
from circuit_atlas.service.diagram.labels import labels
from circuit_atlas.service.diagram.layout import Layout
from circuit_atlas.service.diagram.topology import CHANNEL, IMAGE_NODE, KINDS, UNIT, Topology

Ints = NDArray[np.int64]

_LABELS = {"image": "image", "sum": "sum", "product": "gate", "mix": "mixed"}


@dataclass(frozen=True)
class Scene:
    """Says what is drawn and where.

    Attributes:
        goals: the units that it ends at.
        kernels: all that may be drawn.
        graph: all nodes.
        layout: where the drawn ones lie.
        start, end: nodes of every kernel.
        drawn: the kernels that are laid out, ascending.
        bits: on which steps each of them is; on none where it is laid out for a circuit beside it.
        wire_bits: the same of each link.
    """

    goals: tuple[Origin, ...]
    kernels: DrawnKernels
    graph: Topology
    layout: Layout
    start: Ints
    end: Ints
    drawn: Ints
    bits: Ints
    wire_bits: Ints

    @property
    def seen(self) -> Ints:
        """Return which of the laid out kernels are on any step."""
        return np.flatnonzero(self.bits)


def bands_of(scene: Scene) -> tuple[tuple[Band, ...], Ints]:
    """Return the bands, and the band of each drawn node."""
    graph, layout, kernels = scene.graph, scene.layout, scene.kernels
    nodes = layout.nodes
    kinds, owners = graph.kind[nodes].astype(np.int64), graph.owner[nodes]
    pairs, band_of = np.unique(np.stack([kinds, owners]), axis=1, return_inverse=True)
    band_of = band_of.ravel()
    ends = set(graph.units)
    short = labels([convolution.name for convolution in graph.index.convolutions])
    counts = [
        np.bincount(kernels.ordinal[step.member], minlength=len(graph.index.convolutions))
        for step in kernels.steps
    ]
    bands = []
    for number, (kind, owner) in enumerate(pairs.T.tolist()):
        here = np.flatnonzero(band_of == number)
        channel = kind == CHANNEL
        convolution = graph.index.convolutions[owner] if channel else None
        beside = graph.concatenated[owner] if channel else ()
        name = _LABELS.get(KINDS[kind], "") if convolution is None else convolution.name
        if kind == UNIT:
            name = scene.goals[owner].name
        bands.append(
            Band(
                kind=KINDS[kind],
                name=name,
                label=short.get(name, name),
                depth=convolution.depth if convolution else 0 if kind == IMAGE_NODE else None,
                channels=(
                    convolution.out_channels
                    if convolution
                    else int((graph.kind == IMAGE_NODE).sum())
                    if kind == IMAGE_NODE
                    else len(here)
                ),
                kernel=convolution.kernel_size if convolution else None,
                x=float(layout.x[here[0]]) * ROW,
                top=float(layout.y[here].min()) * ROW,
                bottom=float(layout.y[here].max()) * ROW,
                concatenated=tuple(
                    "image" if n < 0 else graph.index.convolutions[n].name for n in beside
                ),
                unit=any(int(node) in ends for node in nodes[here]),
                kernels=tuple(int(count[owner]) for count in counts) if channel else (),
            )
        )
    return tuple(bands), band_of


def nodes_of(
    scene: Scene, band_of: Ints, stored: dict[int, Feature], *, node_images: bool
) -> Nodes:
    """Make one entry for each drawn node; `stored` has the feature visualizations by node."""
    graph, layout, kernels = scene.graph, scene.layout, scene.kernels
    start, end = scene.start, scene.end
    known = np.nan_to_num(kernels.score)
    held = kernels.steps[0].member

    def summed(values: NDArray[np.float64]) -> NDArray[np.float64]:
        values = np.where(held, values, 0.0)
        into = np.bincount(end, values, graph.size)
        out = np.bincount(np.maximum(start, 0), np.where(start >= 0, values, 0), graph.size)
        found: NDArray[np.float64] = np.where(graph.kind == IMAGE_NODE, out, into)
        return found[layout.nodes]

    bits = np.zeros(graph.size, np.int64)
    np.bitwise_or.at(bits, start[scene.drawn], scene.bits)
    np.bitwise_or.at(bits, end[scene.drawn], scene.bits)
    points = np.concatenate([layout.nodes, np.full(len(layout.bend_of), -1)])
    lines = slice(len(scene.drawn), len(scene.drawn) + len(scene.wire_bits))
    np.bitwise_or.at(bits, points[layout.line_to[lines]], scene.wire_bits)
    channels = graph.channel[layout.nodes]
    crops = crops_of(scene.goals, graph, layout.nodes) if node_images else {}
    contribution = summed(kernels.contribution)
    return Nodes(
        band=band_of.tolist(),
        channel=channels.tolist(),
        x=_points(layout.x[: len(layout.nodes)]),
        y=_points(layout.y[: len(layout.nodes)]),
        score=summed(known).tolist(),
        share=summed(kernels.share).tolist(),
        contribution=_nullable(contribution),
        levels=bits[layout.nodes].tolist(),
        crops=[crops.get(int(node), []) for node in layout.nodes],
        feature=[stored[node].variant if node in stored else "" for node in layout.nodes.tolist()],
    )


def bends_of(layout: Layout) -> Bends:
    """Make one entry for each bend."""
    first = len(layout.nodes)
    return Bends(
        node=layout.bend_of.tolist(), x=_points(layout.x[first:]), y=_points(layout.y[first:])
    )


def edges_of(scene: Scene) -> Edges:
    """Make one entry for each drawn kernel."""
    kernels, layout, seen = scene.kernels, scene.layout, scene.seen
    drawn = scene.drawn[seen]
    return Edges(
        source=np.searchsorted(layout.nodes, scene.start[drawn]).tolist(),
        start=layout.line_from[seen].tolist(),
        end=layout.line_to[seen].tolist(),
        channel=kernels.channel[drawn].tolist(),
        score=_nullable(kernels.score[drawn]),
        share=kernels.share[drawn].tolist(),
        contribution=_nullable(kernels.contribution[drawn]),
        other=_nullable(kernels.other[drawn]),
        strength=[round(v, 3) for v in kernels.strength[drawn].tolist()],
        side=kernels.side[drawn].tolist(),
        levels=scene.bits[seen].tolist(),
    )


def wires_of(scene: Scene) -> Wires:
    """Return the links, then the lines from nodes to their bends, which are there while a line that
    starts from them is."""
    layout, lines = scene.layout, len(scene.drawn)
    links = len(scene.wire_bits)
    start, end = layout.line_from[lines:], layout.line_to[lines:]
    bits = np.zeros(len(start), np.int64)
    bits[:links] = scene.wire_bits
    first = len(layout.nodes)
    at_point = np.zeros(first + len(layout.bend_of), np.int64)
    np.bitwise_or.at(at_point, layout.line_from[:lines], scene.bits)
    np.bitwise_or.at(at_point, start[:links], scene.wire_bits)
    # A node's bends are numbered along its line, so the last one's bits go back to the first.
    for bend in range(len(layout.bend_of) - 1, -1, -1):
        before = int(start[links + bend])
        bits[links + bend] = at_point[first + bend]
        if before >= first:
            at_point[before] |= at_point[first + bend]
    return Wires(start.tolist(), end.tolist(), bits.tolist())


def weights_of(scene: Scene) -> Weights:
    """Return the weights of each drawn kernel; those of one convolution follow one another."""
    kernels, drawn = scene.kernels, scene.drawn[scene.seen]
    found: dict[str, NDArray[np.float32]] = {}
    for origin in scene.goals:
        stored = origin.reader.weights(origin.layer.layer)
        for convolution, weight in zip(origin.layer.index.convolutions, stored, strict=True):
            if weight is not None:
                found.setdefault(convolution.name, weight)
    scale: list[float | None] = []
    pieces = []
    for ordinal, convolution in enumerate(kernels.index.convolutions):
        here = drawn[kernels.ordinal[drawn] == ordinal]
        weight = found.get(convolution.name)
        if weight is None:
            scale += [None] * len(here)
            continue
        values = weight[kernels.out[here], kernels.channel[here] % weight.shape[1]]
        largest = np.abs(values).max(axis=(1, 2), initial=0.0)
        scale += largest.tolist()
        unit = np.where(largest > 0, 127 / np.where(largest > 0, largest, 1), 0)
        pieces.append(np.rint(values * unit[:, None, None]).astype(np.int8).tobytes())
    return Weights(scale, base64.b64encode(b"".join(pieces)).decode())


def _points(values: NDArray[np.float64]) -> list[float]:
    return [round(value * ROW, 1) for value in values.tolist()]


def _nullable(values: NDArray[np.float64]) -> list[float | None]:
    return [None if value != value else value for value in values.tolist()]
