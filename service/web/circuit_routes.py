"""The circuits of a unit: counts by convolution, and kernels."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from circuit_atlas.service.circuit.circuit import Circuit
from circuit_atlas.service.web.errors import responses
from circuit_atlas.service.web.questions import (
    AtlasServed,
    CircuitReference,
    LayerName,
    Pages,
    UnitName,
    Version,
)
from circuit_atlas.service.web.responses import AnswerSource, Rendered
from circuit_atlas.service.web.rows import answer, rows_of

router = APIRouter(prefix="/layers/{layer}/units/{unit}", tags=["circuits"])


class ConvolutionCount(BaseModel):
    """How much of a circuit lies in one convolution."""

    convolution: str
    depth: int = Field(description="Convolutions on the longest path from the image to it.")
    kernels: int = Field(description="Kernels of the circuit.")
    total: int = Field(description="Kernels that can reach the unit.")


class KernelRow(BaseModel):
    """One kernel of a circuit."""

    convolution: str
    out_channel: int
    in_channel: int = Field(description="Over all channels of the convolution's input.")
    score: float | None = Field(description="By which it was chosen.")
    position: int | None = Field(description="Place on the unit's kernel axis.")


CircuitAnswer = rows_of(
    KernelRow,
    title=(str, Field(description="What it is a circuit of.")),
    kernels=(int, Field(description="Kernels of the circuit.")),
    reachable=(int, Field(description="Kernels that it was chosen from.")),
    layers=(list[ConvolutionCount], Field(description="Its kernels by convolution.")),
)


@router.get("/circuit", response_model=CircuitAnswer, responses=responses(413, files=True))
async def circuit(
    request: Request,
    served: AtlasServed,
    layer: LayerName,
    unit: UnitName,
    asked: CircuitReference,
    paging: Pages,
    order: Annotated[
        Literal["position", "score"],
        Query(description="Kernels by place on the axis, or the best first."),
    ] = "position",
    v: Version = None,
) -> Response:
    """A circuit of the unit: of a kept fraction or number of kernels, by a criterion, of all images
    or of some of the unit's top images. Without either, the stored fraction nearest to a tenth."""
    del v

    def locate() -> AnswerSource:
        one = served.unit(layer, unit)
        name = f"{one.layer.name}-{one.info.name}-circuit"
        return AnswerSource(
            served.unit_version(one), lambda: render(asked.circuit(served, one), name)
        )

    def render(found: Circuit, name: str) -> Rendered:
        table = found.kernels()
        if order == "score":
            best = np.argsort(-found.scores, kind="stable")
            table = table.take(best)
        return answer(
            table,
            CircuitAnswer,
            paging,
            name=name,
            more={
                "title": found.title,
                "kernels": len(found),
                "reachable": len(found.reachable),
                "layers": found.by_convolution().to_pylist(),
            },
        )

    return await served.answers.reply(request, locate)
