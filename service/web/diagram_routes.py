"""Circuits as drawings: what the viewer draws from, and a vector file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from circuit_atlas.service.circuit.circuit import Circuit
from circuit_atlas.service.diagram.data import Content
from circuit_atlas.service.diagram.drawing import Diagram
from circuit_atlas.service.web import limits
from circuit_atlas.service.web.compare_routes import Asked, Left, Right
from circuit_atlas.service.web.errors import responses
from circuit_atlas.service.web.questions import (
    AtlasServed,
    CircuitReference,
    LayerName,
    UnitName,
    UnitReference,
    Version,
)
from circuit_atlas.service.web.responses import AnswerSource, Rendered, digest
from circuit_atlas.service.web.server_state import Served

router = APIRouter(tags=["diagrams"])
_SVG = "image/svg+xml"
_FILE: dict[int | str, dict[str, Any]] = {
    200: {"description": "The drawing.", "content": {_SVG: {"schema": {"type": "string"}}}},
    **responses(413),
}
Edges = Annotated[
    int,
    Query(
        description="Kernels drawn at most, the best first; `counts` says of how many.",
        ge=1,
        le=limits.EDGES,
    ),
]


@router.get(
    "/layers/{layer}/units/{unit}/diagram", response_model=Content, responses=responses(413)
)
async def diagram(
    request: Request,
    served: AtlasServed,
    layer: LayerName,
    unit: UnitName,
    asked: CircuitReference,
    edges: Edges = 2000,
    v: Version = None,
) -> Response:
    """A circuit laid out: its kernels on a path from the image to the unit, channels in columns by
    depth. Pictures are named by image and box, not held."""
    del v
    locate = _of_unit(served, layer, unit, asked, edges, _json)
    return await served.answers.reply(request, locate)


@router.get("/layers/{layer}/units/{unit}/diagram.svg", response_class=Response, responses=_FILE)
async def diagram_file(
    request: Request,
    served: AtlasServed,
    layer: LayerName,
    unit: UnitName,
    asked: CircuitReference,
    edges: Edges = 2000,
    v: Version = None,
) -> Response:
    """The same as a vector file for a paper."""
    del v
    locate = _of_unit(served, layer, unit, asked, edges, _svg)
    return await served.answers.reply(request, locate)


@router.get("/compare/diagram", response_model=Content, responses=responses(413))
async def overlay(
    request: Request, served: AtlasServed, left: Left, right: Right, edges: Edges = 2000
) -> Response:
    """Two circuits drawn over each other: what both share, and what one alone has."""
    return await served.answers.reply(request, _of_both(served, left, right, edges, _json))


@router.get("/compare/diagram.svg", response_class=Response, responses=_FILE)
async def overlay_file(
    request: Request, served: AtlasServed, left: Left, right: Right, edges: Edges = 2000
) -> Response:
    """The same as a vector file."""
    return await served.answers.reply(request, _of_both(served, left, right, edges, _svg))


Form = Callable[[Diagram, str], Rendered]


def _of_unit(
    served: Served, layer: str, unit: str, asked: UnitReference, edges: int, form: Form
) -> Callable[[], AnswerSource]:
    def locate() -> AnswerSource:
        one = served.unit(layer, unit)
        name = f"{one.layer.name}-{one.info.name}"
        # Which channels have feature visualizations may change while the unit does not.
        version = digest(served.unit_version(one), served.features.index().version)
        return AnswerSource(version, lambda: form(drawn(asked.circuit(served, one)), name))

    def drawn(circuit: Circuit) -> Diagram:
        return circuit.diagram(edges=edges)

    return locate


def _of_both(
    served: Served, left: Asked, right: Asked, edges: int, form: Form
) -> Callable[[], AnswerSource]:
    def locate() -> AnswerSource:
        one, two = left.unit_of(served), right.unit_of(served)
        version = digest(
            served.unit_version(one), served.unit_version(two), served.features.index().version
        )

        def render() -> Rendered:
            circuit = left.reference.circuit(served, one)
            other = right.reference.circuit(served, two)
            return form(circuit.diagram(against=other, edges=edges), f"{one.name}-{two.name}")

        return AnswerSource(version, render)

    return locate


def _json(diagram: Diagram, name: str) -> Rendered:
    del name
    return Rendered(diagram.to_json().encode())


def _svg(diagram: Diagram, name: str) -> Rendered:
    return Rendered(diagram.svg().encode(), _SVG, f"{name}.svg")
