"""How stable a unit's circuit is: kernels that stay when it is found anew, and those certified."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import pyarrow as pa
from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from circuit_atlas.service.analysis.query import nearest_fraction
from circuit_atlas.service.analysis.stability import CORE
from circuit_atlas.service.circuit.kernel_table import ranked_kernels
from circuit_atlas.service.client.unit import Unit
from circuit_atlas.service.web.answer_route import AnswerRoute
from circuit_atlas.service.web.parameters import (
    FractionParameters,
    LayerName,
    PageParameters,
    Server,
    UnitName,
)
from circuit_atlas.service.web.responses import AnswerSource, Body
from circuit_atlas.service.web.rows import Rows, page_or_file, rows_of

router = APIRouter(
    prefix="/layers/{layer}/units/{unit}", tags=["analysis"], route_class=AnswerRoute
)

EDITS = (1, 2, 3)


class StableKernel(BaseModel):
    """Describes a kernel of the stable core."""

    convolution: str
    out_channel: int
    in_channel: int = Field(description="Over all channels of the convolution's input.")
    share: float = Field(description="Of the circuits found anew, those that hold it.")
    position: int = Field(description="Place on the unit's kernel axis.")


class StableConvolution(BaseModel):
    """Says how much of a circuit is stable in one convolution."""

    convolution: str
    kernels: int = Field(description="Kernels of the circuit.")
    stable: int = Field(description="Kernels of the stable core.")


class CertifiedKernels(BaseModel):
    """Counts the kernels whose place no so many edits of the images can change."""

    edits: int = Field(description="Images taken away or added, in any mixture.")
    inside: int = Field(description="Kernels that stay in the circuit.")


StabilityRows = rows_of(
    StableKernel,
    criterion=(str, Field(description="The score that ranks the kernels.")),
    keep=(float, Field(description="The fraction that circuits keep.")),
    kernels=(int, Field(description="Kernels of a circuit.")),
    draws=(int, Field(description="Circuits that were found anew.")),
    images=(int, Field(description="Images drawn from, as many each time. 0: other seeds.")),
    at_least=(float, Field(description="Of the circuits, those that hold a kernel of the core.")),
    layers=(list[StableConvolution], Field(description="By convolution.")),
    certified=(
        list[CertifiedKernels],
        Field(description="By edits; empty where the criterion scores no single images."),
    ),
    confidence=(
        float | None,
        Field(description="That no kernel is certified wrongly. Null: none is certified."),
    ),
)


class StabilityParameters(FractionParameters, PageParameters):
    """Chooses the circuit whose stability is asked for."""


@router.get("/stability", response_model=StabilityRows)
def stability(
    server: Server, layer: LayerName, unit: UnitName, query: Annotated[StabilityParameters, Query()]
) -> AnswerSource:
    """List the stable core of a circuit: the kernels that nearly all circuits hold that are found
    anew, from as many of the unit's top images drawn with replacement or from other seeds of a
    training; and count those that are certified to stay. Of the stored fraction nearest to a tenth
    where none is given, and of the first criterion that can be drawn anew."""
    one = server.unit(layer, unit)
    keep = nearest_fraction(one.reader) if query.keep is None else query.keep

    def render() -> Rows | Body:
        server.check_scores(one)
        found = one.stability(keep=keep, criterion=query.criterion)
        core = found.core()
        criterion = found.origin.criterion
        whole = one.circuit(keep=keep, criterion=criterion).by_convolution()
        table = ranked_kernels(core).drop_columns(["score"])
        shares = pa.array(found.share[core.positions], pa.float64())
        confidence, certified = _certified(one, keep, criterion)
        return page_or_file(
            table.append_column("share", shares),
            StabilityRows,
            query,
            name=f"{one.layer}-{one.info.name}-stability",
            criterion=criterion,
            keep=keep,
            kernels=found.kernels,
            draws=found.draws,
            images=len(found.images),
            at_least=CORE,
            layers=[
                {**row, "stable": stable}
                for row, stable in zip(
                    whole.select(["convolution", "kernels"]).to_pylist(),
                    core.by_convolution()["kernels"].to_pylist(),
                    strict=True,
                )
            ],
            certified=certified,
            confidence=confidence,
        )

    return AnswerSource(server.unit_version(one), render)


def _certified(one: Unit, keep: float, criterion: str) -> tuple[float | None, list[dict[str, int]]]:
    """The confidence of a certificate, and its kernels inside, by edits; none where the criterion
    scores no single images, or there are fewer images than edits."""
    if criterion not in one.reader.header.image_criteria:
        return None, []
    edits = [number for number in EDITS if number <= one.commit.top_images]
    found = one.certificate(keep=keep, criterion=criterion, edits=edits[0])
    inside = found.certified_edits[found.decision == 1]
    return found.confidence, [
        {"edits": number, "inside": int(np.count_nonzero(inside >= number))} for number in edits
    ]
