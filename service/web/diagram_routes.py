"""Circuits as drawings: what the viewer draws from, and a vector file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import Field

from circuit_atlas.service.diagram.data import Content
from circuit_atlas.service.diagram.drawing import Diagram
from circuit_atlas.service.web import limits
from circuit_atlas.service.web.answer_route import AnswerRoute
from circuit_atlas.service.web.compare_routes import ComparisonParameters
from circuit_atlas.service.web.errors import body_of
from circuit_atlas.service.web.parameters import (
    CircuitParameters,
    LayerName,
    Parameters,
    Server,
    UnitName,
)
from circuit_atlas.service.web.responses import JSON, AnswerSource, Body, digest
from circuit_atlas.service.web.server_state import ServerState

router = APIRouter(tags=["diagrams"], route_class=AnswerRoute)
_SVG = "image/svg+xml"
_FILE = body_of(_SVG, "The drawing.")
_UNIT = "/layers/{layer}/units/{unit}/diagram"


class EdgeParameters(Parameters):
    """Says how much is drawn."""

    edges: int = Field(
        default=2000,
        description="Kernels drawn at most, the best first; `counts` says of how many.",
        ge=1,
        le=limits.EDGES,
    )


class DiagramParameters(CircuitParameters, EdgeParameters):
    """Chooses a circuit that is drawn."""


class OverlayParameters(ComparisonParameters, EdgeParameters):
    """Chooses two circuits that are drawn over each other."""


@router.get(_UNIT, response_model=Content)
def diagram(
    server: Server, layer: LayerName, unit: UnitName, query: Annotated[DiagramParameters, Query()]
) -> AnswerSource:
    """Lay out a circuit: its kernels on a path from the image to the unit, channels in columns by
    depth. Images are named by id and box, not held."""
    return _of_unit(server, layer, unit, query, _json)


@router.get(f"{_UNIT}.svg", response_class=Response, responses=_FILE)
def diagram_file(
    server: Server, layer: LayerName, unit: UnitName, query: Annotated[DiagramParameters, Query()]
) -> AnswerSource:
    """Draw the same as a vector file for a paper."""
    return _of_unit(server, layer, unit, query, _svg)


@router.get("/compare/diagram", response_model=Content)
def overlay(server: Server, query: Annotated[OverlayParameters, Query()]) -> AnswerSource:
    """Lay out two circuits over each other: what both share, and what one alone has."""
    return _of_both(server, query, _json)


@router.get("/compare/diagram.svg", response_class=Response, responses=_FILE)
def overlay_file(server: Server, query: Annotated[OverlayParameters, Query()]) -> AnswerSource:
    """Draw the same as a vector file."""
    return _of_both(server, query, _svg)


Form = Callable[[Diagram, str], Body]


def _of_unit(
    server: ServerState, layer: str, unit: str, query: DiagramParameters, form: Form
) -> AnswerSource:
    one = server.unit(layer, unit)

    def render() -> Body:
        drawn = query.circuit(server, one).diagram(edges=query.edges)
        return form(drawn, f"{one.layer}-{one.info.name}")

    # Which channels have feature visualizations may change while the unit does not.
    version = digest(server.unit_version(one), server.features.version)
    return AnswerSource(version, render)


def _of_both(server: ServerState, query: OverlayParameters, form: Form) -> AnswerSource:
    left, right = query.left, query.right
    one, two = left.unit_of(server), right.unit_of(server)

    def render() -> Body:
        circuit, other = left.circuit(server, one), right.circuit(server, two)
        return form(circuit.diagram(against=other, edges=query.edges), f"{one.name}-{two.name}")

    versions = server.unit_version(one), server.unit_version(two)
    return AnswerSource(digest(*versions, server.features.version), render)


def _json(diagram: Diagram, name: str) -> Body:
    del name
    return Body(diagram.to_json().encode(), JSON)


def _svg(diagram: Diagram, name: str) -> Body:
    return Body(diagram.svg().encode(), _SVG, f"{name}.svg")
