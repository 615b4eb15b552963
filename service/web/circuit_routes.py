"""The circuits of a unit: counts by convolution, and kernels."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from circuit_atlas.service.circuit.kernel_table import ranked_kernels
from circuit_atlas.service.web.answer_route import AnswerRoute
from circuit_atlas.service.web.parameters import (
    CircuitParameters,
    LayerName,
    PageParameters,
    Server,
    UnitName,
)
from circuit_atlas.service.web.responses import AnswerSource, Body
from circuit_atlas.service.web.rows import Rows, page_or_file, rows_of

router = APIRouter(
    prefix="/layers/{layer}/units/{unit}", tags=["circuits"], route_class=AnswerRoute
)


class ConvolutionCount(BaseModel):
    """Says how much of a circuit lies in one convolution."""

    convolution: str
    depth: int = Field(description="Convolutions on the longest path from the image to it.")
    kernels: int = Field(description="Kernels of the circuit.")
    reachable_kernels: int = Field(description="Kernels that can reach the unit.")


class KernelRow(BaseModel):
    """Describes one kernel of a circuit."""

    convolution: str
    out_channel: int
    in_channel: int = Field(description="Over all channels of the convolution's input.")
    score: float | None = Field(description="By which it was chosen.")
    position: int | None = Field(description="Place on the unit's kernel axis.")


CircuitAnswer = rows_of(
    KernelRow,
    title=(str, Field(description="What it is a circuit of.")),
    kernels=(int, Field(description="Kernels of the circuit.")),
    reachable_kernels=(int, Field(description="Kernels that it was chosen from.")),
    layers=(list[ConvolutionCount], Field(description="Its kernels by convolution.")),
)


class CircuitPageParameters(CircuitParameters, PageParameters):
    """Chooses a circuit and the order of its kernels."""

    order: Literal["position", "score"] = Field(
        default="position", description="Kernels by position on the axis, or the best first."
    )


@router.get("/circuit", response_model=CircuitAnswer)
def circuit(
    server: Server,
    layer: LayerName,
    unit: UnitName,
    query: Annotated[CircuitPageParameters, Query()],
) -> AnswerSource:
    """List the kernels of a circuit of the unit: of a kept fraction or number of kernels, by a
    criterion, of all images or of some of the unit's top images. Without fraction or number it is
    that of the stored fraction nearest to a tenth."""
    one = server.unit(layer, unit)

    def render() -> Rows | Body:
        chosen = query.circuit(server, one)
        table = ranked_kernels(chosen)
        if query.order == "score":
            table = table.take(np.argsort(-chosen.scores, kind="stable"))
        return page_or_file(
            table,
            CircuitAnswer,
            query,
            name=f"{one.layer}-{one.info.name}-circuit",
            title=chosen.title,
            kernels=len(chosen),
            reachable_kernels=len(chosen.reachable),
            layers=chosen.by_convolution().to_pylist(),
        )

    return AnswerSource(server.unit_version(one), render)
