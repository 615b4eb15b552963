"""A circuit -> the content of its drawing."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Real

import numpy as np
from numpy.typing import NDArray

from circuit_atlas.service.circuit.algebra import aligned
from circuit_atlas.service.circuit.circuit import Circuit
from circuit_atlas.service.circuit.origin import Origin
from circuit_atlas.service.diagram.columns import (
    Scene,
    bands_of,
    bends_of,
    edges_of,
    nodes_of,
    weights_of,
    wires_of,
)
from circuit_atlas.service.diagram.crops import Feature, features_of
from circuit_atlas.service.diagram.data import ROW, VERSION, Content, Counts, Nodes, SparsityLevel
from circuit_atlas.service.diagram.drawing import Diagram
from circuit_atlas.service.diagram.influence import carried, whole_paths
from circuit_atlas.service.diagram.kernels import DrawnKernels, Side, gather
from circuit_atlas.service.diagram.layout import lay_out
from circuit_atlas.service.diagram.node_images import NodeImages
from circuit_atlas.service.diagram.paths import Mask, Paths
from circuit_atlas.service.diagram.titles import images_of, titled
from circuit_atlas.service.diagram.topology import Goal, Topology, topology
from circuit_atlas.storage_schema.errors import QueryError

MOST_EDGES = 20_000
"""Kernels that one drawing holds, at most."""
EDGES = 200
"""Kernels that a drawing holds where nothing else is said: as many as a reader can follow."""
_NO_PATH = (
    "No path from the image to the unit is left in this circuit: on every way between them a "
    "kernel is missing. Keep more kernels to see one."
)
_TOO_FEW = "Every path from the image to the unit needs more kernels than may be drawn: draw more."


@dataclass(frozen=True)
class Asked:
    """Says what of one circuit or of two is drawn, see `Circuit.diagram`."""

    edges: int = EDGES
    share: float = 1.0
    side: Side | None = None
    node_images: bool = True
    features: bool = True

    def __post_init__(self) -> None:
        """QueryError where a number is out of range, or a side is none."""
        try:
            most = operator.index(self.edges)
        except TypeError:
            raise QueryError(f"edges={self.edges!r} is no whole number") from None
        if not 1 <= most <= MOST_EDGES:
            raise QueryError(f"edges={most} is out of range: give 1 to {MOST_EDGES}")
        if not isinstance(self.share, Real):
            raise QueryError(f"share={self.share!r} is no number: give more than 0, and 1 at most")
        if not 0 < self.share <= 1:
            raise QueryError(
                f"share={self.share:g} is out of range: give more than 0, and 1 at most"
            )
        if not isinstance(self.side, str | None) or self.side not in (None, "left", "right"):
            raise QueryError(f"side={self.side!r} is none: give 'left' or 'right', or leave it out")


def diagram(circuit: Circuit, *, against: Circuit | None, asked: Asked) -> Diagram:
    """Draw a circuit, see `Circuit.diagram`."""
    content, stored = draw(circuit, against=against, asked=asked)
    return Diagram(content, NodeImages(circuit.origins[0].reader, stored))


def draw(
    circuit: Circuit, *, against: Circuit | None, asked: Asked
) -> tuple[Content, dict[int, Feature]]:
    """Work out what a diagram holds, and where the visualizations of its nodes lie."""
    if asked.side is not None and against is None:
        raise QueryError(f"side={asked.side!r} is of two circuits: give `against` too")
    if against is not None:
        aligned(circuit, against)
    circuits = [circuit, *([] if against is None else [against])]
    goals = _goals(circuits)
    scene, levels = _scene(goals, circuits, gather(circuit, against), asked)
    graph, layout = scene.graph, scene.layout
    stored = features_of(goals, graph, layout.nodes) if asked.features else {}
    bands, band_of = bands_of(scene)
    nodes = nodes_of(scene, band_of, stored, node_images=asked.node_images)
    titles = tuple(titled(one) for one in circuits)
    beside = ""
    if asked.side is not None:
        own = ("left", "right").index(asked.side)
        circuits, titles, beside = [circuits[own]], (titles[own],), titles[1 - own]
    ends = _goals(circuits)
    header = goals[0].reader.header
    drawn = len(scene.seen)
    content = Content(
        version=VERSION,
        title=" against ".join(titles),
        model=header.model,
        criterion=", ".join(dict.fromkeys(o.criterion for c in circuits for o in c.origins)),
        layers=tuple(origin.layer.layer for origin in ends),
        units=tuple(origin.unit.name for origin in ends),
        sides=titles if len(titles) > 1 else (),
        beside=beside,
        chosen_for=tuple(images_of(one) for one in circuits),
        note="" if drawn else _TOO_FEW if levels[0].on_path else _NO_PATH,
        width=(float(layout.x.max(initial=0.0)) + 1.2) * ROW,
        height=(float(layout.y.max(initial=0.0)) + 1.0) * ROW,
        input_height=header.input_height,
        input_width=header.input_width,
        counts=Counts(
            reachable=scene.kernels.reachable,
            circuit=levels[0].kernels,
            on_path=levels[0].on_path,
            drawn=drawn,
            crossings_before=layout.before,
            crossings_after=layout.after,
        ),
        levels=levels,
        bands=bands,
        nodes=nodes,
        bends=bends_of(layout),
        edges=edges_of(scene),
        wires=wires_of(scene),
        weights=weights_of(scene),
        images=_image_names(goals[0], nodes),
    )
    rows = {node: row for row, node in enumerate(layout.nodes.tolist())}
    return content, {rows[node]: feature for node, feature in stored.items() if node in rows}


def _scene(
    goals: tuple[Origin, ...], circuits: Sequence[Circuit], kernels: DrawnKernels, asked: Asked
) -> tuple[Scene, tuple[SparsityLevel, ...]]:
    """Where the drawn kernels stand, and the slider's steps."""
    graph = topology(kernels.index, [_goal(origin) for origin in goals])
    start, end = graph.ends(kernels.ordinal, kernels.out, kernels.channel)
    every = Paths(graph, start, end)
    each = [
        Paths(replace(graph, units=_units(graph, goals, circuit)), start, end)
        for circuit in circuits
    ]
    chosen = _chosen(every, each, kernels, asked)
    _, bits, wire_bits = _levels(every, each, kernels, chosen)
    drawn, wires = np.flatnonzero(bits), np.flatnonzero(wire_bits)
    layout = lay_out(
        graph,
        np.concatenate([start[drawn], graph.link_from[wires]]),
        np.concatenate([end[drawn], graph.link_to[wires]]),
    )
    if asked.side is not None:
        own = each[("left", "right").index(asked.side)]
        kernels, every, each = kernels.of(asked.side), own, [own]
    levels, bits, wire_bits = _levels(every, each, kernels, chosen)
    scene = Scene(goals, kernels, graph, layout, start, end, drawn, bits[drawn], wire_bits[wires])
    return scene, levels


def _units(graph: Topology, goals: Sequence[Origin], circuit: Circuit) -> tuple[int, ...]:
    """The nodes of one circuit's units."""
    own = {(origin.layer.layer, origin.unit.number) for origin in circuit.origins}
    return tuple(
        node
        for node, origin in zip(graph.units, goals, strict=True)
        if (origin.layer.layer, origin.unit.number) in own
    )


def _goal(origin: Origin) -> Goal:
    layer, reader = origin.layer.layer, origin.reader
    direction = reader.direction(layer, origin.unit.number)
    vector = None if direction is None else direction.vector
    return Goal(origin.layer, reader.wiring(layer), origin.unit, vector)


def _goals(circuits: Sequence[Circuit]) -> tuple[Origin, ...]:
    """The units that the circuits are of, each once."""
    goals: dict[tuple[str, int], Origin] = {}
    for circuit in circuits:
        if not circuit.origins:
            raise QueryError(
                f"{circuit.title} was made by hand: a diagram needs a circuit of a unit, as "
                "`Unit.circuit` gives it"
            )
        for origin in circuit.origins:
            goals.setdefault((origin.layer.layer, origin.unit.number), origin)
    return tuple(goals.values())


def _chosen(every: Paths, each: Sequence[Paths], kernels: DrawnKernels, asked: Asked) -> Mask:
    """The kernels that are drawn: all on a path if those are not too many, else of each circuit
    whole paths."""
    anywhere: Mask = np.logical_or.reduce([every.on_path(s.member)[0] for s in kernels.steps])
    if int(anywhere.sum()) <= asked.edges and asked.share == 1:
        return anywhere
    members = kernels.steps[0].members
    room, chosen, share = asked.edges, anywhere, asked.share
    while True:
        chosen = np.logical_or.reduce(
            [
                whole_paths(paths, member, own.weight, among=chosen, most=room, share=share)
                for paths, member, own in zip(each, members, kernels.by_circuit, strict=True)
            ]
        )
        # Two circuits share the room: each gets as much as leaves no more of both than asked for.
        over = int(chosen.sum()) - asked.edges
        if over <= 0:
            return chosen
        room, share = room - (over + 1) // 2, 1.0


def _levels(
    every: Paths, each: Sequence[Paths], kernels: DrawnKernels, chosen: Mask
) -> tuple[tuple[SparsityLevel, ...], NDArray[np.int64], NDArray[np.int64]]:
    """The slider's steps, and on which of them each kernel and each link is drawn, as bits."""
    bits = np.zeros(len(kernels), np.int64)
    wires = np.zeros(len(every.topology.link_from), np.int64)
    levels = []
    for number, step in enumerate(kernels.steps):
        whole, _ = every.on_path(step.member)
        drawn, links = every.on_path(whole & chosen)
        bits |= drawn.astype(np.int64) << number
        wires |= links.astype(np.int64) << number
        share = min(
            carried(paths, drawn & member, member, own.weight)
            for paths, member, own in zip(each, step.members, kernels.by_circuit, strict=True)
        )
        levels.append(
            SparsityLevel(
                step.fraction, int(step.member.sum()), int(whole.sum()), int(drawn.sum()), share
            )
        )
    return tuple(levels), bits, wires


def _image_names(origin: Origin, nodes: Nodes) -> tuple[tuple[int, str], ...]:
    """The images that crops are of, and what they are called."""
    used = sorted({crop[0] for some in nodes.crops for crop in some})
    table = origin.reader.images(columns=["id", "name", "label"])
    rows = {row["id"]: row for row in table.to_pylist()}
    return tuple((number, rows[number]["label"] or rows[number]["name"]) for number in used)
