"""Two circuits held against each other, of any two units of the atlas."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any

import pyarrow as pa
from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, Field

from circuit_atlas.service.circuit.circuit import Circuit
from circuit_atlas.service.client.unit import Unit
from circuit_atlas.service.web import limits
from circuit_atlas.service.web.errors import responses
from circuit_atlas.service.web.questions import IDS, AtlasServed, Form, UnitReference, reference
from circuit_atlas.service.web.responses import (
    AnswerSource,
    Rendered,
    digest,
    plain,
    to_file,
    to_json,
)
from circuit_atlas.service.web.server_state import Served

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
    reference: UnitReference

    def unit_of(self, served: Served) -> Unit:
        """The unit; QueryError where there is none."""
        return served.views.layer(self.layer).unit(self.unit)


def _asked_on(side: str) -> Callable[..., Awaitable[Asked]]:
    """A reader of the parameters that start with `left.` or `right.`."""

    def query(name: str, description: str = "As of a circuit.", **more: Any) -> Any:
        return Query(alias=f"{side}.{name}", description=description, **more)

    of_layer = query("layer", "The layer.", max_length=limits.TEXT)
    of_unit = query(
        "unit", "The unit: its number, or its direction's name.", max_length=limits.TEXT
    )
    of_criterion = query("criterion", default=None, max_length=limits.TEXT)
    of_keep = query("keep", default=None, gt=0, le=1)
    of_kernels = query("kernels", default=None, ge=1, le=limits.NUMBER)
    of_images = query("images", default=None, pattern=IDS, max_length=10 * limits.IMAGES)

    async def asked(
        layer: str = of_layer,
        unit: str = of_unit,
        criterion: str | None = of_criterion,
        keep: float | None = of_keep,
        kernels: int | None = of_kernels,
        images: str | None = of_images,
    ) -> Asked:
        return Asked(layer, unit, reference(criterion, keep, kernels, images))

    return asked


Left = Annotated[Asked, Depends(_asked_on("left"))]
Right = Annotated[Asked, Depends(_asked_on("right"))]


@router.get("", response_model=Comparison, responses=responses(413, files=True))
async def compare(
    request: Request, served: AtlasServed, left: Left, right: Right, form: Form = "json"
) -> Response:
    """What two circuits share, overall and by convolution; as a file, by convolution."""

    def locate() -> AnswerSource:
        units = left.unit_of(served), right.unit_of(served)
        version = digest(*(served.unit_version(unit) for unit in units))
        return AnswerSource(version, lambda: render(*units))

    def render(one: Unit, two: Unit) -> Rendered:
        found = compared(one, two)
        if form == "json":
            return to_json(found)
        rows = [row.model_dump() for row in found.convolutions]
        return to_file(pa.Table.from_pylist(rows, _OVERLAP), form, name=f"{one.name}-{two.name}")

    def compared(one: Unit, two: Unit) -> Comparison:
        a, b = left.reference.circuit(served, one), right.reference.circuit(served, two)
        overlap = a.iou_by_convolution(b).to_pylist()
        depths = {c.name: c.depth for side in (b, a) for c in side.index.convolutions}
        lefts = {row["convolution"]: row["kernels"] for row in a.by_convolution().to_pylist()}
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
