"""How far feature visualizations are: by layer and convolution, by unit, and why some failed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import pyarrow as pa
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from circuit_atlas.service.client import visualization_status
from circuit_atlas.service.client.next_steps import pictures_left
from circuit_atlas.service.web.errors import responses
from circuit_atlas.service.web.questions import AtlasServed, LayerName, Pages, Paging
from circuit_atlas.service.web.responses import AnswerSource, Rendered, digest
from circuit_atlas.service.web.rows import Rows, answer, rows_of
from circuit_atlas.service.web.server_state import Served
from circuit_atlas.storage_schema.keys import Whose
from circuit_atlas.storage_schema.visualization_states import VisualizationState

router = APIRouter(tags=["pictures"])


class FeatureStatusRow(BaseModel):
    """How far the visualizations of a layer's units are, or those of a convolution's channels."""

    layer: str = Field(description="The layer, or the convolution's name.")
    of: Whose = Field(description="What has them: units of a layer, or channels of a convolution.")
    planned: int = Field(description="How many were to get some.")
    done: int = Field(description="Those that have all of theirs.")
    failed: int = Field(description="Those where an attempt at what they lack failed.")
    missing: int = Field(description="Those where some are still to be made.")
    pictures: int = Field(description="Pictures that are there.")
    pictures_planned: int = Field(description="Pictures that there are to be.")


class FeatureUnitRow(BaseModel):
    """How far the feature visualizations of one unit are."""

    unit: int = Field(description="Its number.")
    name: str = Field(description="Its number as text, or its direction's name.")
    state: Literal["done", "failed", "missing"]
    pictures: int = Field(description="Pictures that are there.")
    pictures_planned: int = Field(description="Pictures that there are to be.")
    error: str | None = Field(description="Why it failed. Null: it did not.")


class FeatureFailureRow(BaseModel):
    """Why the feature visualizations of a unit or channel failed."""

    layer: str = Field(description="Its layer, or the convolution's name.")
    of: Whose
    unit: int = Field(description="Its number.")
    name: str = Field(description="Its number as text, or its direction's name.")
    kind: str = Field(description="Kind of the error, for programs.")
    message: str = Field(description="The error, in a line.")


FeatureStatusRows = rows_of(FeatureStatusRow)
FeatureUnitRows = rows_of(FeatureUnitRow)
FeatureFailureRows = rows_of(FeatureFailureRow)


@router.get("/features", response_model=FeatureStatusRows, responses=responses(files=True))
async def features(request: Request, served: AtlasServed, paging: Pages) -> Response:
    """How far visualizations are, by layer and by convolution; while some are missing or failed,
    `note` says what to run. No rows: none were asked for."""

    def locate() -> AnswerSource:
        return _source(served, paging, "features", FeatureStatusRows, visualization_status.by_layer)

    return await served.answers.reply(request, locate)


@router.get(
    "/features/failures", response_model=FeatureFailureRows, responses=responses(files=True)
)
async def failures(request: Request, served: AtlasServed, paging: Pages) -> Response:
    """The units and channels whose feature visualizations failed, and why."""

    def table(states: Sequence[VisualizationState]) -> pa.Table:
        return visualization_status.failures(states, served.atlas.reader)

    def locate() -> AnswerSource:
        return _source(served, paging, "feature-failures", FeatureFailureRows, table)

    return await served.answers.reply(request, locate)


@router.get(
    "/layers/{layer}/features", response_model=FeatureUnitRows, responses=responses(files=True)
)
async def layer_features(
    request: Request, served: AtlasServed, layer: LayerName, paging: Pages
) -> Response:
    """How far the feature visualizations of each unit of a layer are."""

    def locate() -> AnswerSource:
        name = served.layer(layer).name

        def table(states: Sequence[VisualizationState]) -> pa.Table:
            return visualization_status.of_layer(states, name, served.atlas.reader)

        return _source(served, paging, f"{name}-features", FeatureUnitRows, table, layer=name)

    return await served.answers.reply(request, locate)


def _source(
    served: Served,
    paging: Paging,
    name: str,
    model: type[Rows],
    table: Callable[[Sequence[VisualizationState]], pa.Table],
    *,
    layer: str | None = None,
) -> AnswerSource:
    """A table of the states of all feature visualizations, or of those of a layer's units."""
    index = served.features.index()
    # Whose a picture is that no plan names depends on which units are stored.
    views = [served.views.view(one).version for one in served.views.names()]

    def render() -> Rendered:
        reader = served.atlas.reader
        states = [
            one
            for one in reader.visualization_states(index.listing)
            if layer is None or (one.of, one.layer) == ("unit", layer)
        ]
        left = pictures_left(states, model=reader.header.model)
        return answer(table(states), model, paging, name=name, complete=left is None, note=left)

    return AnswerSource(digest(served.version, index.progress, *views), render)
