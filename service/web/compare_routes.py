"""Two circuits held against each other, of any two units of the atlas."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, Field

from circuit_atlas.service.circuit import Circuit
from circuit_atlas.service.unit import Unit
from circuit_atlas.service.web import limits
from circuit_atlas.service.web.answers import Source, digest, plain, to_json
from circuit_atlas.service.web.errors import responses
from circuit_atlas.service.web.questions import IDS, AtlasServed, Reference, reference
from circuit_atlas.service.web.served import Served

router = APIRouter(prefix="/compare", tags=["compare"])


class Side(BaseModel):
    """One of two circuits."""

    title: str
    layer: str
    unit: int
    name: str
    kernels: int = Field(description="Kernels of the circuit.")
    reachable: int = Field(description="Kernels that it was chosen from.")


class ConvolutionOverlap(BaseModel):
    """What two circuits have in common in one convolution."""

    convolution: str
    depth: int
    shared: int = Field(description="Kernels of both.")
    left: int = Field(description="Kernels of the left one alone.")
    right: int = Field(description="Kernels of the right one alone.")
    iou: float | None = Field(description="Shared over all. Null: neither has any there.")


class Comparison(BaseModel):
    """Two circuits held against each other."""

    left: Side
    right: Side
    shared: int = Field(description="Kernels of both.")
    only_left: int = Field(description="Kernels of the left one alone.")
    only_right: int = Field(description="Kernels of the right one alone.")
    iou: float | None = Field(description="Shared over all. Null: both are empty.")
    convolutions: list[ConvolutionOverlap]


@dataclass(frozen=True)
class Asked:
    """A unit and a circuit of it."""

    layer: str
    unit: str
    reference: Reference

    def unit_of(self, served: Served) -> Unit:
        """The unit; QueryError where there is none."""
        return served.views.layer(self.layer).unit(self.unit)


async def left_circuit(
    layer: Annotated[
        str, Query(alias="left.layer", description="The layer.", max_length=limits.TEXT)
    ],
    unit: Annotated[
        str,
        Query(
            alias="left.unit",
            description="The unit: its number, or its direction's name.",
            max_length=limits.TEXT,
        ),
    ],
    criterion: Annotated[
        str | None,
        Query(alias="left.criterion", description="As of a circuit.", max_length=limits.TEXT),
    ] = None,
    keep: Annotated[
        float | None, Query(alias="left.keep", description="As of a circuit.", gt=0, le=1)
    ] = None,
    kernels: Annotated[
        int | None,
        Query(alias="left.kernels", description="As of a circuit.", ge=1, le=limits.NUMBER),
    ] = None,
    images: Annotated[
        str | None,
        Query(
            alias="left.images",
            description="As of a circuit.",
            pattern=IDS,
            max_length=10 * limits.IMAGES,
        ),
    ] = None,
) -> Asked:
    """The circuit on the left."""
    return Asked(layer, unit, reference(criterion, keep, kernels, images))


async def right_circuit(
    layer: Annotated[
        str, Query(alias="right.layer", description="The layer.", max_length=limits.TEXT)
    ],
    unit: Annotated[
        str,
        Query(
            alias="right.unit",
            description="The unit: its number, or its direction's name.",
            max_length=limits.TEXT,
        ),
    ],
    criterion: Annotated[
        str | None,
        Query(alias="right.criterion", description="As of a circuit.", max_length=limits.TEXT),
    ] = None,
    keep: Annotated[
        float | None, Query(alias="right.keep", description="As of a circuit.", gt=0, le=1)
    ] = None,
    kernels: Annotated[
        int | None,
        Query(alias="right.kernels", description="As of a circuit.", ge=1, le=limits.NUMBER),
    ] = None,
    images: Annotated[
        str | None,
        Query(
            alias="right.images",
            description="As of a circuit.",
            pattern=IDS,
            max_length=10 * limits.IMAGES,
        ),
    ] = None,
) -> Asked:
    """The circuit on the right."""
    return Asked(layer, unit, reference(criterion, keep, kernels, images))


Left = Annotated[Asked, Depends(left_circuit)]
Right = Annotated[Asked, Depends(right_circuit)]


@router.get("", response_model=Comparison, responses=responses(413))
async def compare(request: Request, served: AtlasServed, left: Left, right: Right) -> Response:
    """What two circuits share, overall and by convolution."""

    def locate() -> Source:
        units = left.unit_of(served), right.unit_of(served)
        version = digest(*(served.unit_version(unit) for unit in units))
        return Source(version, lambda: to_json(compared(*units)))

    def compared(one: Unit, two: Unit) -> Comparison:
        a, b = left.reference.circuit(served, one), right.reference.circuit(served, two)
        overlap = a.iou_by_layer(b).to_pylist()
        depths = {c.name: c.depth for side in (b, a) for c in side.index.convolutions}
        lefts = {row["convolution"]: row["kernels"] for row in a.layers().to_pylist()}
        rows = []
        for row in overlap:
            name, shared = row["convolution"], row["intersection"]
            own = lefts.get(name, 0) - shared
            rows.append(
                ConvolutionOverlap(
                    convolution=name,
                    depth=depths[name],
                    shared=shared,
                    left=own,
                    right=row["union"] - shared - own,
                    iou=row["iou"],
                )
            )
        shared = sum(row.shared for row in rows)
        return Comparison(
            left=_side(one, a),
            right=_side(two, b),
            shared=shared,
            only_left=len(a) - shared,
            only_right=len(b) - shared,
            iou=plain(a.iou(b)),
            convolutions=rows,
        )

    return await served.answers.reply(request, locate)


def _side(unit: Unit, circuit: Circuit) -> Side:
    return Side(
        title=circuit.title,
        layer=unit.layer.name,
        unit=unit.number,
        name=unit.info.name,
        kernels=len(circuit),
        reachable=len(circuit.reachable),
    )
