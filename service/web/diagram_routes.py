"""Circuits as drawings: what the viewer draws from, and a vector file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import Field

from circuit_atlas.service.diagram.data import Content
from circuit_atlas.service.diagram.draw import EDGES
from circuit_atlas.service.diagram.drawing import Diagram
from circuit_atlas.service.diagram.figure import NARROWEST_MM, WIDEST_MM, WIDTH_MM
from circuit_atlas.service.diagram.kernels import Side
from circuit_atlas.service.diagram.look import LARGEST, SMALLEST, Look, NodeKind
from circuit_atlas.service.diagram.node_sheet import Shows
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
_SVG, _PNG, _JPEG = "image/svg+xml", "image/png", "image/jpeg"
_FILE = body_of(_SVG, "The drawing.")
_PIXELS = body_of(_PNG, "The drawing.")
_SHEET = body_of(_JPEG, "The images of nodes.")
_UNIT = "/layers/{layer}/units/{unit}/diagram"


class EdgeParameters(Parameters):
    """Says how much is drawn."""

    edges: int = Field(
        default=EDGES,
        description="Kernels drawn at most: whole paths, those that carry the most of the "
        "response; `counts` says of how many, `levels` how much they carry.",
        ge=1,
        le=limits.EDGES,
    )
    share: float = Field(
        default=1.0,
        description="No more kernels than it takes to carry this share of the response.",
        gt=0,
        le=1,
    )


class LookParameters(Parameters):
    """Says how a drawing is looked at: the state of a page's sliders and boxes, by the names that
    it has in the page's address."""

    fraction: float | None = Field(
        default=None, alias="d.fraction", description="Kept fraction, one of `levels`.", gt=0, le=1
    )
    node_kind: NodeKind | None = Field(
        default=None,
        alias="d.images",
        description="What nodes show. Default: visualizations where there are any, else crops.",
    )
    node_size: float = Field(
        default=1.0, alias="d.nodes", description="Size of nodes.", ge=SMALLEST, le=LARGEST
    )
    line_width: float = Field(
        default=1.0, alias="d.kernels", description="Width of lines.", ge=SMALLEST, le=LARGEST
    )
    hide: str | None = Field(
        default=None,
        alias="d.hide",
        description="Kernels that are not drawn, such as `inhibition,unknown`, or `left` of two.",
        max_length=limits.TEXT,
    )
    selection: str | None = Field(
        default=None,
        alias="d.selection",
        description="`CONVOLUTION:CHANNEL` or `CONVOLUTION:OUT:IN`, whose paths alone are drawn.",
        max_length=2 * limits.TEXT,
    )
    width_mm: float = Field(
        default=WIDTH_MM,
        description="Of the figure on paper; its text has 7 points or more there.",
        ge=NARROWEST_MM,
        le=WIDEST_MM,
    )

    @property
    def look(self) -> Look:
        """Return it as the drawing takes it."""
        return Look(
            fraction=self.fraction,
            images=self.node_kind,
            nodes=self.node_size,
            kernels=self.line_width,
            hide=tuple(part for part in (self.hide or "").split(",") if part),
            selection=self.selection,
        )


class DiagramParameters(CircuitParameters, EdgeParameters):
    """Chooses a circuit that is drawn."""


class SheetParameters(Parameters):
    """Says what nodes show on a sheet."""

    shows: Shows = Field(
        default="features",
        description="`features`: a visualization where there is one, else a crop; `crops`: the "
        "part of an image where the channel is largest.",
    )


class NodesParameters(DiagramParameters, SheetParameters):
    """Chooses a circuit whose nodes are shown, and by what."""


class FigureParameters(DiagramParameters, LookParameters):
    """Chooses a circuit that is drawn, and how it is looked at."""


class OverlayParameters(ComparisonParameters, EdgeParameters):
    """Chooses two circuits that are drawn over each other, or one of them beside the other."""

    side: Side | None = Field(
        default=None,
        description="Draw this one of the two alone, where both over each other would lie.",
    )


class OverlayNodesParameters(OverlayParameters, SheetParameters):
    """Chooses two circuits whose nodes are shown, and by what."""


class OverlayFigureParameters(OverlayParameters, LookParameters):
    """Chooses two circuits that are drawn, and how they are looked at."""


@router.get(_UNIT, response_model=Content)
def diagram(
    server: Server, layer: LayerName, unit: UnitName, query: Annotated[DiagramParameters, Query()]
) -> AnswerSource:
    """Lay out a circuit: its kernels on a path from the image to the unit, channels in columns by
    depth. Images are named by id and box, not held."""
    return _of_unit(server, layer, unit, query, _json)


@router.get(f"{_UNIT}.svg", response_class=Response, responses=_FILE)
def diagram_file(
    server: Server, layer: LayerName, unit: UnitName, query: Annotated[FigureParameters, Query()]
) -> AnswerSource:
    """Draw the same as a vector file for a paper, as a reader looks at it."""
    return _of_unit(server, layer, unit, query, _svg(query))


@router.get(f"{_UNIT}.png", response_class=Response, responses=_PIXELS)
def diagram_pixels(
    server: Server, layer: LayerName, unit: UnitName, query: Annotated[FigureParameters, Query()]
) -> AnswerSource:
    """Draw the same as a picture of 350 pixels an inch."""
    return _of_unit(server, layer, unit, query, _png(query))


@router.get(f"{_UNIT}/nodes", response_class=Response, responses=_SHEET)
def node_images(
    server: Server, layer: LayerName, unit: UnitName, query: Annotated[NodesParameters, Query()]
) -> AnswerSource:
    """Send the images of the drawing's nodes, small, on one sheet: that of node n in column n % 16
    of row n // 16, of drawings of 400 nodes at most."""
    return _of_unit(server, layer, unit, query, _sheet(query))


@router.get("/compare/diagram", response_model=Content)
def overlay(server: Server, query: Annotated[OverlayParameters, Query()]) -> AnswerSource:
    """Lay out two circuits over each other: what both share, and what one alone has."""
    return _of_both(server, query, _json)


@router.get("/compare/diagram.svg", response_class=Response, responses=_FILE)
def overlay_file(
    server: Server, query: Annotated[OverlayFigureParameters, Query()]
) -> AnswerSource:
    """Draw the same as a vector file, as a reader looks at it."""
    return _of_both(server, query, _svg(query))


@router.get("/compare/diagram.png", response_class=Response, responses=_PIXELS)
def overlay_pixels(
    server: Server, query: Annotated[OverlayFigureParameters, Query()]
) -> AnswerSource:
    """Draw the same as a picture of 350 pixels an inch."""
    return _of_both(server, query, _png(query))


@router.get("/compare/diagram/nodes", response_class=Response, responses=_SHEET)
def overlay_node_images(
    server: Server, query: Annotated[OverlayNodesParameters, Query()]
) -> AnswerSource:
    """Send the images of the nodes of a drawing of two circuits, as of one."""
    return _of_both(server, query, _sheet(query))


Form = Callable[[Diagram, str], Body]


def _of_unit(
    server: ServerState, layer: str, unit: str, query: DiagramParameters, form: Form
) -> AnswerSource:
    one = server.unit(layer, unit)

    def render() -> Body:
        drawn = query.circuit(server, one).diagram(edges=query.edges, share=query.share)
        return form(drawn, f"{one.layer}-{one.info.name}")

    # Which channels have feature visualizations may change while the unit does not.
    version = digest(server.unit_version(one), server.features.version)
    return AnswerSource(version, render)


def _of_both(server: ServerState, query: OverlayParameters, form: Form) -> AnswerSource:
    left, right = query.left, query.right
    one, two = left.unit_of(server), right.unit_of(server)

    def render() -> Body:
        circuit, other = left.circuit(server, one), right.circuit(server, two)
        drawn = circuit.diagram(
            against=other, side=query.side, edges=query.edges, share=query.share
        )
        return form(drawn, f"{one.name}-{two.name}")

    versions = server.unit_version(one), server.unit_version(two)
    return AnswerSource(digest(*versions, server.features.version), render)


def _json(diagram: Diagram, name: str) -> Body:
    del name
    return Body(diagram.to_json().encode(), JSON)


def _svg(query: LookParameters) -> Form:
    def form(diagram: Diagram, name: str) -> Body:
        figure = diagram.figure(width_mm=query.width_mm, look=query.look)
        return Body(figure.svg.encode(), _SVG, f"{name}.svg")

    return form


def _png(query: LookParameters) -> Form:
    def form(diagram: Diagram, name: str) -> Body:
        figure = diagram.figure(width_mm=query.width_mm, look=query.look)
        return Body(figure.png(), _PNG, f"{name}.png")

    return form


def _sheet(query: SheetParameters) -> Form:
    def form(diagram: Diagram, name: str) -> Body:
        del name
        return Body(diagram.node_sheet(query.shows), _JPEG)

    return form
