"""Two circuits held against each other, of any two units of the atlas."""

from __future__ import annotations

from typing import Annotated, Any

import pyarrow as pa
from fastapi import APIRouter, Query
from pydantic import BaseModel, Field, create_model

from circuit_atlas.service.circuit.circuit import Circuit
from circuit_atlas.service.client.unit import Unit
from circuit_atlas.service.web import limits
from circuit_atlas.service.web.answer_route import AnswerRoute
from circuit_atlas.service.web.parameters import (
    CircuitParameters,
    FormParameters,
    Parameters,
    Server,
)
from circuit_atlas.service.web.responses import AnswerSource, Body, digest, plain, to_file
from circuit_atlas.service.web.server_state import ServerState

router = APIRouter(prefix="/compare", tags=["compare"], route_class=AnswerRoute)


class Side(BaseModel):
    """Describes one of two circuits."""

    title: str
    layer: str
    unit: int
    name: str
    kernels: int = Field(description="Kernels of the circuit.")
    reachable_kernels: int = Field(description="Kernels that it was chosen from.")


class ConvolutionOverlap(BaseModel):
    """Says what two circuits have in common in one convolution."""

    convolution: str
    depth: int
    shared: int = Field(description="Kernels of both.")
    left: int = Field(description="Kernels of the left one alone.")
    right: int = Field(description="Kernels of the right one alone.")
    iou: float | None = Field(description="Shared over all. Null: neither has any there.")


_OVERLAP = pa.schema(
    [
        ("convolution", pa.string()),
        ("depth", pa.int32()),
        ("shared", pa.int64()),
        ("left", pa.int64()),
        ("right", pa.int64()),
        ("iou", pa.float64()),
    ]
)


class Comparison(BaseModel):
    """Compares two circuits."""

    left: Side
    right: Side
    shared: int = Field(description="Kernels of both.")
    only_left: int = Field(description="Kernels of the left one alone.")
    only_right: int = Field(description="Kernels of the right one alone.")
    iou: float | None = Field(description="Shared over all. Null: both are empty.")
    convolutions: list[ConvolutionOverlap]


class SideParameters(CircuitParameters):
    """Chooses a unit and a circuit of it; in a query each name has `left.` or `right.` before
    it."""

    layer: str = Field(description="The layer.", max_length=limits.TEXT)
    unit: str = Field(
        description="The unit: its number, or its direction's name.", max_length=limits.TEXT
    )

    def unit_of(self, server: ServerState) -> Unit:
        """Return the unit; QueryError where there is none."""
        return server.snapshots.layer(self.layer).unit(self.unit)


_SIDE = ("layer", "unit", "criterion", "keep", "kernels", "images")


def _two_sided(model: type[Parameters]) -> type[Parameters]:
    """Give a model the fields of both sides, made from those of one."""
    fields: dict[str, Any] = {}
    for side in ("left", "right"):
        for name in _SIDE:
            of_one = SideParameters.model_fields[name]
            fields[f"{side}_{name}"] = (
                Annotated[(of_one.annotation, *of_one.metadata)],
                Field(
                    default=... if of_one.is_required() else of_one.default,
                    alias=f"{side}.{name}",
                    description=of_one.description,
                ),
            )
    return create_model(model.__name__, __base__=model, __doc__=model.__doc__, **fields)


@_two_sided
class ComparisonParameters(Parameters):
    """Chooses two circuits."""

    @property
    def left(self) -> SideParameters:
        """Return what chooses the left circuit."""
        return self._side("left")

    @property
    def right(self) -> SideParameters:
        """Return what chooses the right circuit."""
        return self._side("right")

    def _side(self, side: str) -> SideParameters:
        return SideParameters(**{name: getattr(self, f"{side}_{name}") for name in _SIDE})


class ComparisonFileParameters(ComparisonParameters, FormParameters):
    """Chooses two circuits and the form of the answer."""


@router.get("", response_model=Comparison)
def compare(server: Server, query: Annotated[ComparisonFileParameters, Query()]) -> AnswerSource:
    """Tell what two circuits share, overall and by convolution; a file has it by convolution."""
    left, right = query.left, query.right
    one, two = left.unit_of(server), right.unit_of(server)

    def render() -> Comparison | Body:
        whole = _compared(one, left.circuit(server, one), two, right.circuit(server, two))
        if query.form == "json":
            return whole
        rows = [row.model_dump() for row in whole.convolutions]
        table = pa.Table.from_pylist(rows, _OVERLAP)
        return to_file(table, query.form, name=f"{one.name}-{two.name}")

    return AnswerSource(digest(server.unit_version(one), server.unit_version(two)), render)


def _compared(one: Unit, left: Circuit, two: Unit, right: Circuit) -> Comparison:
    depths = {c.name: c.depth for side in (right, left) for c in side.index.convolutions}
    lefts = {row["convolution"]: row["kernels"] for row in left.by_convolution().to_pylist()}
    rows = []
    for row in left.iou_by_convolution(right).to_pylist():
        name, shared = row["convolution"], row["shared"]
        alone = lefts.get(name, 0) - shared
        rows.append(
            ConvolutionOverlap(
                convolution=name,
                depth=depths[name],
                shared=shared,
                left=alone,
                right=row["either"] - shared - alone,
                iou=row["iou"],
            )
        )
    shared = sum(row.shared for row in rows)
    return Comparison(
        left=_side(one, left),
        right=_side(two, right),
        shared=shared,
        only_left=len(left) - shared,
        only_right=len(right) - shared,
        iou=plain(left.iou(right)),
        convolutions=rows,
    )


def _side(unit: Unit, circuit: Circuit) -> Side:
    return Side(
        title=circuit.title,
        layer=unit.layer,
        unit=unit.number,
        name=unit.info.name,
        kernels=len(circuit),
        reachable_kernels=len(circuit.reachable),
    )
