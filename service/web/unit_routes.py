"""One unit: its facts and its stored tables."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from fastapi import APIRouter, Query
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from circuit_atlas.service.client.unit import Unit
from circuit_atlas.service.web import limits
from circuit_atlas.service.web.answer_route import AnswerRoute
from circuit_atlas.service.web.image_set import box_of
from circuit_atlas.service.web.parameters import (
    ImageId,
    LayerName,
    PageParameters,
    Server,
    UnitName,
)
from circuit_atlas.service.web.responses import AnswerSource, digest
from circuit_atlas.service.web.rows import Rows, page_or_file, table_model
from circuit_atlas.service.web.server_state import ServerState
from circuit_atlas.storage_schema.errors import QueryError
from circuit_atlas.storage_schema.unit_tables import (
    FAITHFULNESS,
    RESPONSES,
    SELECTIVITY,
    SUBFEATURES,
)
from circuit_atlas.storage_schema.version import NETWORK_SINCE

router = APIRouter(prefix="/layers/{layer}/units/{unit}", tags=["units"], route_class=AnswerRoute)

ResponseRows = table_model("ResponseRow", RESPONSES)
FaithfulnessRows = table_model("FaithfulnessRow", FAITHFULNESS)
SubfeatureRows = table_model("SubfeatureRow", SUBFEATURES)
SelectivityByImageRows = table_model("SelectivityByImageRow", SELECTIVITY)


class TopImage(BaseModel):
    """Describes one of the images that a unit responds to most."""

    rank: int = Field(description="0 for the largest response.")
    image: int = Field(description="Its id.")
    name: str
    label: str | None = Field(description="Class of the image. Null: none is known.")
    response: float = Field(description="The response explained.")
    maximum: float = Field(description="Largest output over positions.")
    position: tuple[int, int] = Field(description="Row and column of that maximum.")
    box: tuple[int, int, int, int] = Field(
        description="Its receptive field: top, left, bottom, right, half-open, in pixels of the "
        "network's input."
    )


class Stored(BaseModel):
    """Says what is stored of a unit."""

    circuits: bool = Field(description="Circuits and their faithfulness.")
    subfeatures: bool = Field(description="Faithfulness of the circuits of single images.")
    image_scores: list[str] = Field(description="Criteria with circuits of sets of images.")
    groups: bool = Field(description="Sub-feature groups.")
    selectivity: bool = Field(description="What the groups' circuits make of the images.")
    response_maps: bool = Field(description="Its output on its top images.")
    contribution: bool = Field(description="Signed contribution of each kernel.")
    features: list[str] = Field(description="Names of its feature visualizations.")


class UnitAnswer(BaseModel):
    """Describes a unit, whatever its state."""

    layer: str
    unit: int = Field(description="Its number.")
    name: str = Field(description="Its number as text, or its direction's name.")
    unit_label: str | None = Field(description="What it stands for. Null: nothing says so.")
    state: Literal["done", "dead", "failed", "planned", "not built"]
    error: str | None = Field(description="Why it failed.")
    reachable_kernels: int | None = Field(
        description="Kernels that can reach it. Null: not stored."
    )
    direction: list[float] | None = Field(
        description="The weight of each channel of the layer. Null: it is a single channel."
    )
    bias: float | None = Field(description="What is added to the sum. Null: a single channel.")
    activation: Literal["none", "relu"] | None = Field(
        description="What the sum ends in. Null: a single channel."
    )
    version: str | None = Field(description="A digest of what is stored of it. Null: nothing is.")
    previous: int | None = Field(description="The stored unit before it. Null: there is none.")
    next: int | None = Field(description="The stored unit after it. Null: there is none.")
    top: list[TopImage] = Field(description="Its top images, best first.")
    has: Stored


class SubfeatureParameters(PageParameters):
    """Chooses circuits of single images."""

    image: int | None = Field(
        default=None, description="Only circuits of this image.", ge=0, le=limits.NUMBER
    )


@router.get("", response_model=UnitAnswer)
def unit_answer(server: Server, layer: LayerName, unit: UnitName) -> AnswerSource:
    """Describe a unit: its state, its top images, and what is stored of it."""
    snapshot = server.snapshot(layer)
    one = server.unit(layer, unit)
    version = digest(server.version, snapshot.version, server.features.version)
    return AnswerSource(version, lambda: _facts(server, one))


@router.get("/responses", response_model=ResponseRows)
def unit_responses(
    server: Server, layer: LayerName, unit: UnitName, query: Annotated[PageParameters, Query()]
) -> AnswerSource:
    """Tell what each image does to the unit."""
    one = server.unit(layer, unit)
    return _table(server, one, "responses", lambda: one.responses().to_arrow(), ResponseRows, query)


class ResponseDistributionAnswer(BaseModel):
    """Tells how a unit's responses are spread over all images that can be used."""

    images: int = Field(description="Images that are counted.")
    mean: float | None = Field(description="Mean of the responses. Null: no image is counted.")
    sd: float | None = Field(description="Their standard deviation. Null: no image is counted.")
    edges: list[float] = Field(description="Ends of the histogram's steps, ascending.")
    counts: list[int] = Field(description="Images in each step.")


@router.get("/response-distribution", response_model=ResponseDistributionAnswer)
def unit_response_distribution(server: Server, layer: LayerName, unit: UnitName) -> AnswerSource:
    """Tell how the unit's responses are spread over all images that can be used."""
    one = server.unit(layer, unit)
    return AnswerSource(
        server.unit_version(one),
        lambda: ResponseDistributionAnswer.model_validate(asdict(one.distribution())),
    )


@router.get("/faithfulness", response_model=FaithfulnessRows)
def unit_faithfulness(
    server: Server, layer: LayerName, unit: UnitName, query: Annotated[PageParameters, Query()]
) -> AnswerSource:
    """Tell how well the unit's circuits preserve its response; there are no rows for a dead
    unit."""
    one = server.unit(layer, unit)
    return _table(
        server, one, "faithfulness", lambda: one.faithfulness().to_arrow(), FaithfulnessRows, query
    )


@router.get("/subfeatures", response_model=SubfeatureRows)
def unit_subfeatures(
    server: Server,
    layer: LayerName,
    unit: UnitName,
    query: Annotated[SubfeatureParameters, Query()],
) -> AnswerSource:
    """Tell how well the circuits of its single top images do, each on its image."""
    one = server.unit(layer, unit)

    def rows() -> pa.Table:
        table = one.subfeatures().to_arrow()
        return table if query.image is None else table.filter(pc.equal(table["image"], query.image))

    return _table(server, one, "subfeatures", rows, SubfeatureRows, query)


@router.get("/selectivity-by-image", response_model=SelectivityByImageRows)
def unit_selectivity_by_image(
    server: Server, layer: LayerName, unit: UnitName, query: Annotated[PageParameters, Query()]
) -> AnswerSource:
    """Tell what each group's circuit preserves of the unit's top images; there are no rows for one
    group."""
    one = server.unit(layer, unit)

    def rows() -> pa.Table:
        return server.atlas.reader.selectivity(one.commit)

    return _table(server, one, "selectivity-by-image", rows, SelectivityByImageRows, query)


class ResponseMap(BaseModel):
    """Holds a unit's output on one of its top images."""

    image: int
    rank: int
    height: int = Field(description="Rows of positions.")
    width: int = Field(description="Columns of positions.")
    minimum: float
    maximum: float
    values: list[list[float]] = Field(
        description="The output, row by row, to seven digits of the largest."
    )


@router.get("/response-map/{image}", response_model=ResponseMap)
def response_map(server: Server, layer: LayerName, unit: UnitName, image: ImageId) -> AnswerSource:
    """Tell the unit's output over all positions on one of its top images."""
    one = server.unit(layer, unit)

    def render() -> ResponseMap:
        top = one.top_images()["image"].to_pylist()
        if image not in top:
            ids = ", ".join(str(known) for known in top) or "none"
            raise QueryError(
                f"unit {one.name} has maps of its top images alone ({ids}), not of {image}"
            )
        rank = top.index(image)
        values = server.atlas.reader.response_maps(one.commit)[rank]
        return ResponseMap(
            image=image,
            rank=rank,
            height=values.shape[0],
            width=values.shape[1],
            minimum=float(values.min()),
            maximum=float(values.max()),
            values=_rounded(values),
        )

    return AnswerSource(server.unit_version(one), render)


def _rounded(values: NDArray[np.float32]) -> list[list[float]]:
    """Round to seven digits of the largest, as float32 has, whatever the size of the unit's
    output."""
    largest = float(np.abs(values).max())
    digits = 6 - math.floor(math.log10(largest)) if largest > 0 else 0
    rounded: list[list[float]] = values.astype(np.float64).round(digits).tolist()
    return rounded


def _table(
    server: ServerState,
    one: Unit,
    name: str,
    table: Callable[[], pa.Table],
    model: type[Rows],
    query: PageParameters,
) -> AnswerSource:
    """Answer with one of a unit's stored tables."""
    name = f"{one.layer}-{one.info.name}-{name}"
    return AnswerSource(
        server.unit_version(one), lambda: page_or_file(table(), model, query, name=name)
    )


def _facts(server: ServerState, one: Unit) -> UnitAnswer:
    snapshot = server.snapshots.of(one.layer)
    stored = sorted(snapshot.commits)
    commit, failure = snapshot.commits.get(one.number), snapshot.failures.get(one.number)
    done = commit is not None and commit.state == "done"
    header = server.atlas.header
    direction = one.reader.direction(one.layer, one.number)
    new = done and header.schema >= NETWORK_SINCE
    top: list[dict[str, Any]] = [] if commit is None else one.top_images().to_pylist()
    return UnitAnswer.model_validate(
        {
            "layer": one.layer,
            "unit": one.number,
            "name": one.info.name,
            "unit_label": snapshot.labels.get(one.number),
            "state": snapshot.state(one.number),
            "error": None if failure is None else f"{failure.kind}: {failure.message}",
            "reachable_kernels": None if commit is None else commit.kernels,
            "direction": None if direction is None else direction.vector.tolist(),
            "bias": None if direction is None else direction.bias,
            "activation": None if direction is None else direction.activation,
            "version": None if commit is None else server.unit_version(one),
            "previous": max((number for number in stored if number < one.number), default=None),
            "next": min((number for number in stored if number > one.number), default=None),
            "top": [
                {
                    **row,
                    "position": (row["position_y"], row["position_x"]),
                    "box": box_of(row),
                }
                for row in top
            ],
            "has": Stored(
                circuits=done,
                subfeatures=done,
                image_scores=list(header.image_criteria) if done else [],
                groups=new,
                selectivity=new,
                response_maps=new,
                contribution=new,
                features=list(server.features.of(one.layer, one.number)),
            ),
        }
    )
