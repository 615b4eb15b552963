"""A circuit -> the content of its drawing."""

from __future__ import annotations

import base64
import operator
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from circuit_atlas.service.circuit import Circuit, aligned
from circuit_atlas.service.diagram.crops import Feature, crops_of, features_of
from circuit_atlas.service.diagram.data import (
    ROW,
    VERSION,
    Band,
    Bends,
    Content,
    Counts,
    Edges,
    Nodes,
    Rung,
    Weights,
    Wires,
)
from circuit_atlas.service.diagram.drawing import Diagram
from circuit_atlas.service.diagram.kernels import Kernels, gather
from circuit_atlas.service.diagram.layout import Layout, lay_out
from circuit_atlas.service.diagram.paths import Mask, Paths
from circuit_atlas.service.diagram.pictures import Pictures
from circuit_atlas.service.diagram.topology import (
    CHANNEL,
    IMAGE_NODE,
    KINDS,
    UNIT,
    Goal,
    Topology,
    topology,
)
from circuit_atlas.service.origin import Origin
from circuit_atlas.storage_schema.errors import QueryError

MOST_EDGES = 20_000
"""Kernels that one drawing holds, at most."""
_LABELS = {"image": "image", "sum": "sum", "product": "gate", "mix": "mixed", "unit": "unit"}


def diagram(
    circuit: Circuit, *, against: Circuit | None, edges: int, pictures: bool, features: bool
) -> Diagram:
    """See `Circuit.diagram`."""
    content, stored = draw(
        circuit, against=against, edges=edges, pictures=pictures, features=features
    )
    return Diagram(content, Pictures(circuit.origins[0].reader, stored))


def draw(
    circuit: Circuit, *, against: Circuit | None, edges: int, pictures: bool, features: bool
) -> tuple[Content, dict[int, Feature]]:
    """What a diagram holds, and where the feature images of its nodes lie; the arguments are those
    of `Circuit.diagram`."""
    most = _most(edges)
    if against is not None:
        aligned(circuit, against)
    goals = _goals((circuit, *(() if against is None else (against,))))
    kernels = gather(circuit, against)
    graph = topology(
        kernels.index,
        [Goal(o.layer, o.reader.wiring(o.layer.layer), o.unit) for o in goals],
    )
    start, end = graph.ends(kernels.ordinal, kernels.out, kernels.channel)
    paths = Paths(graph, start, end)
    rungs, bits, wire_bits = _rungs(paths, kernels, most)
    drawn = np.flatnonzero(bits)
    wires = np.flatnonzero(wire_bits)
    layout = lay_out(
        graph,
        np.concatenate([start[drawn], graph.link_from[wires]]),
        np.concatenate([end[drawn], graph.link_to[wires]]),
    )
    return _Writer(
        circuit, against, goals, kernels, graph, layout, drawn, bits[drawn], wire_bits[wires]
    ).content(rungs, start[drawn], pictures=pictures, features=features)


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


def _rungs(
    paths: Paths, kernels: Kernels, most: int
) -> tuple[tuple[Rung, ...], NDArray[np.int64], NDArray[np.int64]]:
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
    rungs = []
    for number, (step, whole) in enumerate(zip(steps, on_path, strict=True)):
        drawn, links = paths.on_path(whole & chosen)
        bits |= drawn.astype(np.int64) << number
        wires |= links.astype(np.int64) << number
        rungs.append(
            Rung(step.fraction, int(step.member.sum()), int(whole.sum()), int(drawn.sum()))
        )
    return tuple(rungs), bits, wires


class _Writer:
    """Turns a laid-out graph into columns of numbers."""

    def __init__(
        self,
        circuit: Circuit,
        against: Circuit | None,
        goals: tuple[Origin, ...],
        kernels: Kernels,
        graph: Topology,
        layout: Layout,
        drawn: NDArray[np.int64],
        bits: NDArray[np.int64],
        wire_bits: NDArray[np.int64],
    ) -> None:
        self.circuit, self.against, self.goals = circuit, against, goals
        self.kernels, self.graph, self.layout = kernels, graph, layout
        self.drawn, self.bits, self.wire_bits = drawn, bits, wire_bits

    def content(
        self,
        rungs: tuple[Rung, ...],
        source: NDArray[np.int64],
        *,
        pictures: bool,
        features: bool,
    ) -> tuple[Content, dict[int, Feature]]:
        layout, header = self.layout, self.goals[0].reader.header
        bands, band_of = self._bands()
        stored = features_of(self.goals, self.graph, layout.nodes) if features else {}
        nodes = self._nodes(band_of, source, stored, pictures=pictures)
        lines = len(self.drawn)
        first_bend = len(layout.nodes)
        wires = self._wires(lines)
        used = sorted({crop[0] for some in nodes.crops for crop in some})
        height = float(layout.y.max(initial=0.0)) + 1.0
        width = float(layout.x.max(initial=0.0)) + 1.2
        none = rungs[0].on_path == 0
        circuits = [self.circuit, *([] if self.against is None else [self.against])]
        content = Content(
            version=VERSION,
            title=self.circuit.title,
            model=header.model,
            criterion=", ".join(dict.fromkeys(o.criterion for c in circuits for o in c.origins)),
            layers=tuple(origin.layer.layer for origin in self.goals),
            units=tuple(origin.unit.name for origin in self.goals),
            sides=() if self.against is None else (self.circuit.title, self.against.title),
            note=_NOTE if none else _TOO_FEW if not lines else "",
            width=width * ROW,
            height=height * ROW,
            input_height=header.input_height,
            input_width=header.input_width,
            counts=Counts(
                reachable=self.kernels.reachable,
                circuit=rungs[0].kernels,
                on_path=rungs[0].on_path,
                drawn=lines,
                crossings_before=layout.before,
                crossings_after=layout.after,
            ),
            rungs=rungs,
            bands=bands,
            nodes=nodes,
            bends=Bends(
                node=layout.bend_of.tolist(),
                x=_points(layout.x[first_bend:]),
                y=_points(layout.y[first_bend:]),
            ),
            edges=self._edges(source),
            wires=wires,
            weights=self._weights(),
            images=_image_names(self.goals[0], used),
        )
        places = {node: place for place, node in enumerate(layout.nodes.tolist())}
        return content, {places[n]: f for n, f in stored.items() if n in places}

    def _bands(self) -> tuple[tuple[Band, ...], NDArray[np.int64]]:
        graph, layout = self.graph, self.layout
        nodes = layout.nodes
        kinds, owners = graph.kind[nodes].astype(np.int64), graph.owner[nodes]
        pairs, band_of = np.unique(np.stack([kinds, owners]), axis=1, return_inverse=True)
        band_of = band_of.ravel()
        ends = set(graph.units)
        bands = []
        for number, (kind, owner) in enumerate(pairs.T.tolist()):
            here = np.flatnonzero(band_of == number)
            channel = kind == CHANNEL
            convolution = graph.index.convolutions[owner] if channel else None
            beside = graph.concatenated[owner] if channel else ()
            name = _LABELS.get(KINDS[kind], "") if convolution is None else convolution.name
            if kind == UNIT:
                name = self.goals[owner].name
            bands.append(
                Band(
                    kind=KINDS[kind],
                    name=name,
                    depth=convolution.depth if convolution else 0 if kind == IMAGE_NODE else None,
                    channels=convolution.out_channels if convolution else len(here),
                    kernel=convolution.kernel_size if convolution else None,
                    x=float(layout.x[here[0]]) * ROW,
                    top=float(layout.y[here].min()) * ROW,
                    bottom=float(layout.y[here].max()) * ROW,
                    concatenated=tuple(
                        "image" if n < 0 else graph.index.convolutions[n].name for n in beside
                    ),
                    unit=any(int(node) in ends for node in nodes[here]),
                )
            )
        return tuple(bands), band_of

    def _nodes(
        self,
        band_of: NDArray[np.int64],
        source: NDArray[np.int64],
        stored: dict[int, Feature],
        *,
        pictures: bool,
    ) -> Nodes:
        graph, layout, kernels = self.graph, self.layout, self.kernels
        start, end = graph.ends(kernels.ordinal, kernels.out, kernels.channel)
        image = graph.kind[end] == -1
        known = np.nan_to_num(kernels.score)
        held = kernels.steps[0].member

        def summed(values: NDArray[np.float64]) -> NDArray[np.float64]:
            values = np.where(held, values, 0.0)
            into = np.bincount(end, values, graph.size)
            out = np.bincount(np.maximum(start, 0), np.where(start >= 0, values, 0), graph.size)
            found: NDArray[np.float64] = np.where(graph.kind == IMAGE_NODE, out, into)
            return found[layout.nodes]

        del image
        bits = np.zeros(graph.size, np.int64)
        np.bitwise_or.at(bits, source, self.bits)
        np.bitwise_or.at(bits, end[self.drawn], self.bits)
        points = np.concatenate([layout.nodes, np.full(len(layout.bend_of), -1)])
        lines = slice(len(self.drawn), len(self.drawn) + len(self.wire_bits))
        np.bitwise_or.at(bits, points[layout.line_to[lines]], self.wire_bits)
        channels = graph.channel[layout.nodes]
        crops = crops_of(self.goals, graph, layout.nodes) if pictures else {}
        contribution = summed(kernels.contribution)
        return Nodes(
            band=band_of.tolist(),
            channel=channels.tolist(),
            x=_points(layout.x[: len(layout.nodes)]),
            y=_points(layout.y[: len(layout.nodes)]),
            score=summed(known).tolist(),
            share=summed(kernels.share).tolist(),
            contribution=_nullable(contribution),
            rungs=bits[layout.nodes].tolist(),
            crops=[crops.get(int(node), []) for node in layout.nodes],
            feature=[
                stored[node].variant if node in stored else "" for node in layout.nodes.tolist()
            ],
        )

    def _edges(self, source: NDArray[np.int64]) -> Edges:
        kernels, layout, drawn = self.kernels, self.layout, self.drawn
        lines = slice(0, len(drawn))
        return Edges(
            source=np.searchsorted(layout.nodes, source).tolist(),
            start=layout.line_from[lines].tolist(),
            end=layout.line_to[lines].tolist(),
            channel=kernels.channel[drawn].tolist(),
            score=_nullable(kernels.score[drawn]),
            share=kernels.share[drawn].tolist(),
            contribution=_nullable(kernels.contribution[drawn]),
            other=_nullable(kernels.other[drawn]),
            strength=[round(v, 3) for v in kernels.strength[drawn].tolist()],
            side=kernels.side[drawn].tolist(),
            rungs=self.bits.tolist(),
        )

    def _wires(self, lines: int) -> Wires:
        """Links, then the lines from nodes to their bends, which are there while a line that
        starts from them is."""
        layout = self.layout
        links = len(self.wire_bits)
        start, end = layout.line_from[lines:], layout.line_to[lines:]
        bits = np.zeros(len(start), np.int64)
        bits[:links] = self.wire_bits
        first = len(layout.nodes)
        at_point = np.zeros(first + len(layout.bend_of), np.int64)
        np.bitwise_or.at(at_point, layout.line_from[:lines], self.bits)
        np.bitwise_or.at(at_point, start[:links], self.wire_bits)
        # A node's bends are numbered along its line, so the last one's bits go back to the first.
        for bend in range(len(layout.bend_of) - 1, -1, -1):
            before = int(start[links + bend])
            bits[links + bend] = at_point[first + bend]
            if before >= first:
                at_point[before] |= at_point[first + bend]
        return Wires(start.tolist(), end.tolist(), bits.tolist())

    def _weights(self) -> Weights:
        kernels, drawn = self.kernels, self.drawn
        found: dict[int, NDArray[np.float32]] = {}
        names = {c.name: n for n, c in enumerate(kernels.index.convolutions)}
        for origin in self.goals:
            own = origin.layer.index.convolutions
            stored = origin.reader.weights(origin.layer.layer)
            for convolution, weight in zip(own, stored, strict=True):
                if weight is not None:
                    found.setdefault(names[convolution.name], weight)
        scale: list[float | None] = []
        pieces = []
        for ordinal, out, channel in zip(
            kernels.ordinal[drawn].tolist(),
            kernels.out[drawn].tolist(),
            kernels.channel[drawn].tolist(),
            strict=True,
        ):
            weight = found.get(ordinal)
            if weight is None:
                scale.append(None)
                continue
            values = weight[out, channel % weight.shape[1]]
            largest = float(np.abs(values).max())
            scale.append(largest)
            pieces.append(np.rint(values * (127 / largest if largest else 0)).astype(np.int8))
        data = b"".join(piece.tobytes() for piece in pieces)
        return Weights(scale, base64.b64encode(data).decode())


_NOTE = (
    "No path from the image to the unit is left in this circuit: "
    "each of its kernels reads or writes a channel that no other of them joins. "
    "Keep more kernels to see one."
)
_TOO_FEW = "Every path from the image to the unit needs more kernels than may be drawn: draw more."


def _points(values: NDArray[np.float64]) -> list[float]:
    return [round(value * ROW, 1) for value in values.tolist()]


def _nullable(values: NDArray[np.float64]) -> list[float | None]:
    return [None if value != value else value for value in values.tolist()]


def _image_names(origin: Origin, used: Sequence[int]) -> tuple[tuple[int, str], ...]:
    table = origin.reader.images(columns=["id", "name", "label"])
    rows = {row["id"]: row for row in table.to_pylist()}
    return tuple((number, rows[number]["label"] or rows[number]["name"]) for number in used)
