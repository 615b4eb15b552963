"""A circuit -> the content of its drawing."""

from __future__ import annotations

import operator
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from circuit_atlas.service.circuit.circuit import Circuit, aligned
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
from circuit_atlas.service.diagram.kernels import DrawnKernels, gather
from circuit_atlas.service.diagram.layout import lay_out
from circuit_atlas.service.diagram.node_images import NodeImages
from circuit_atlas.service.diagram.paths import Mask, Paths
from circuit_atlas.service.diagram.titles import images_of, titled
from circuit_atlas.service.diagram.topology import Goal, topology
from circuit_atlas.storage_schema.errors import QueryError

MOST_EDGES = 20_000
"""Kernels that one drawing holds, at most."""
_NO_PATH = (
    "No path from the image to the unit is left in this circuit: on every way between them a "
    "kernel is missing. Keep more kernels to see one."
)
_TOO_FEW = "Every path from the image to the unit needs more kernels than may be drawn: draw more."


def diagram(
    circuit: Circuit, *, against: Circuit | None, edges: int, node_images: bool, features: bool
) -> Diagram:
    """Draw a circuit, see `Circuit.diagram`."""
    content, stored = draw(
        circuit, against=against, edges=edges, node_images=node_images, features=features
    )
    return Diagram(content, NodeImages(circuit.origins[0].reader, stored))


def draw(
    circuit: Circuit, *, against: Circuit | None, edges: int, node_images: bool, features: bool
) -> tuple[Content, dict[int, Feature]]:
    """Work out what a diagram holds, and where the visualizations of its nodes lie; the arguments
    are those of `Circuit.diagram`."""
    most = _most(edges)
    if against is not None:
        aligned(circuit, against)
    goals = _goals((circuit, *(() if against is None else (against,))))
    kernels = gather(circuit, against)
    scene, levels = _scene(goals, kernels, most)
    graph, layout = scene.graph, scene.layout
    stored = features_of(goals, graph, layout.nodes) if features else {}
    bands, band_of = bands_of(scene)
    nodes = nodes_of(scene, band_of, stored, node_images=node_images)
    circuits = [circuit, *([] if against is None else [against])]
    titles = tuple(titled(one) for one in circuits)
    header = goals[0].reader.header
    content = Content(
        version=VERSION,
        title=" against ".join(titles),
        model=header.model,
        criterion=", ".join(dict.fromkeys(o.criterion for c in circuits for o in c.origins)),
        layers=tuple(origin.layer.layer for origin in goals),
        units=tuple(origin.unit.name for origin in goals),
        sides=titles if against is not None else (),
        chosen_for=tuple(images_of(one) for one in circuits),
        note="" if len(scene.drawn) else _TOO_FEW if levels[0].on_path else _NO_PATH,
        width=(float(layout.x.max(initial=0.0)) + 1.2) * ROW,
        height=(float(layout.y.max(initial=0.0)) + 1.0) * ROW,
        input_height=header.input_height,
        input_width=header.input_width,
        counts=Counts(
            reachable=kernels.reachable,
            circuit=levels[0].kernels,
            on_path=levels[0].on_path,
            drawn=len(scene.drawn),
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
    goals: tuple[Origin, ...], kernels: DrawnKernels, most: int
) -> tuple[Scene, tuple[SparsityLevel, ...]]:
    """Where the drawn kernels stand, and the slider's steps."""
    graph = topology(kernels.index, [_goal(origin) for origin in goals])
    start, end = graph.ends(kernels.ordinal, kernels.out, kernels.channel)
    levels, bits, wire_bits = _levels(Paths(graph, start, end), kernels, most)
    drawn = np.flatnonzero(bits)
    wires = np.flatnonzero(wire_bits)
    layout = lay_out(
        graph,
        np.concatenate([start[drawn], graph.link_from[wires]]),
        np.concatenate([end[drawn], graph.link_to[wires]]),
    )
    scene = Scene(goals, kernels, graph, layout, start, end, drawn, bits[drawn], wire_bits[wires])
    return scene, levels


def _goal(origin: Origin) -> Goal:
    layer, reader = origin.layer.layer, origin.reader
    direction = reader.direction(layer, origin.unit.number)
    vector = None if direction is None else direction.vector
    return Goal(origin.layer, reader.wiring(layer), origin.unit, vector)


def _most(edges: int) -> int:
    try:
        most = operator.index(edges)
    except TypeError:
        raise QueryError(f"edges={edges!r} is no whole number") from None
    if not 1 <= most <= MOST_EDGES:
        raise QueryError(f"edges={most} is out of range: give 1 to {MOST_EDGES}")
    return most


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


def _levels(
    paths: Paths, kernels: DrawnKernels, most: int
) -> tuple[tuple[SparsityLevel, ...], NDArray[np.int64], NDArray[np.int64]]:
    """The slider's steps, and on which of them each kernel and each link is drawn, as bits."""
    steps = kernels.steps
    on_path = [paths.on_path(step.member)[0] for step in steps]
    anywhere: Mask = np.logical_or.reduce(on_path)
    if int(anywhere.sum()) <= most:
        chosen = anywhere
    else:
        strength = np.nan_to_num(kernels.share, nan=0.0).astype(np.float64)
        chosen = paths.best(steps[0].member, strength, most)
    bits = np.zeros(len(kernels), np.int64)
    wires = np.zeros(len(paths.topology.link_from), np.int64)
    levels = []
    for number, (step, whole) in enumerate(zip(steps, on_path, strict=True)):
        drawn, links = paths.on_path(whole & chosen)
        bits |= drawn.astype(np.int64) << number
        wires |= links.astype(np.int64) << number
        levels.append(
            SparsityLevel(step.fraction, int(step.member.sum()), int(whole.sum()), int(drawn.sum()))
        )
    return tuple(levels), bits, wires


def _image_names(origin: Origin, nodes: Nodes) -> tuple[tuple[int, str], ...]:
    """The images that crops are of, and what they are called."""
    used = sorted({crop[0] for some in nodes.crops for crop in some})
    table = origin.reader.images(columns=["id", "name", "label"])
    rows = {row["id"]: row for row in table.to_pylist()}
    return tuple((number, rows[number]["label"] or rows[number]["name"]) for number in used)
