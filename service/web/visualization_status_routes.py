"""How far feature visualizations are: by layer and convolution, by unit, and why some failed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import pyarrow as pa
from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from circuit_atlas.service.client import visualization_status
from circuit_atlas.service.client.next_steps import visualizations_left
from circuit_atlas.service.web.answer_route import AnswerRoute
from circuit_atlas.service.web.parameters import LayerName, PageParameters, Server
from circuit_atlas.service.web.responses import AnswerSource, Body, digest
from circuit_atlas.service.web.rows import Rows, page_or_file, rows_of
from circuit_atlas.service.web.server_state import ServerState
from circuit_atlas.storage_schema.keys import Whose
from circuit_atlas.storage_schema.visualization_states import VisualizationState

router = APIRouter(tags=["visualizations"], route_class=AnswerRoute)


class FeatureStatusRow(BaseModel):
    """Says how far the visualizations of a layer's units are, or those of a convolution's
    channels."""

    layer: str = Field(description="The layer, or the convolution's name.")
    of: Whose = Field(description="What has them: units of a layer, or channels of a convolution.")
    planned: int = Field(description="How many were to get some.")
    done: int = Field(description="Those that have all of theirs.")
    failed: int = Field(description="Those where an attempt at what they lack failed.")
    missing: int = Field(description="Those where some are still to be made.")
    visualizations: int = Field(description="Visualizations that are there.")
    visualizations_planned: int = Field(description="Visualizations that there are to be.")


class FeatureUnitRow(BaseModel):
    """Says how far the feature visualizations of one unit are."""

    unit: int = Field(description="Its number.")
    name: str = Field(description="Its number as text, or its direction's name.")
    state: Literal["done", "failed", "missing"]
    visualizations: int = Field(description="Visualizations that are there.")
    visualizations_planned: int = Field(description="Visualizations that there are to be.")
    error: str | None = Field(description="Why it failed. Null: it did not.")


class FeatureFailureRow(BaseModel):
    """Says why the feature visualizations of a unit or channel failed."""

    layer: str = Field(description="Its layer, or the convolution's name.")
    of: Whose
    unit: int = Field(description="Its number.")
    name: str = Field(description="Its number as text, or its direction's name.")
    kind: str = Field(description="Kind of the error, for programs.")
    message: str = Field(description="The error, in a line.")


FeatureStatusRows = rows_of(FeatureStatusRow)
FeatureUnitRows = rows_of(FeatureUnitRow)
FeatureFailureRows = rows_of(FeatureFailureRow)


@router.get("/features", response_model=FeatureStatusRows)
def features(server: Server, query: Annotated[PageParameters, Query()]) -> AnswerSource:
    """Tell how far visualizations are, by layer and by convolution; while some are missing or
    failed, `note` says what to run. There are no rows where none were asked for."""
    return _source(server, query, "features", FeatureStatusRows, visualization_status.by_layer)


@router.get("/features/failures", response_model=FeatureFailureRows)
def failures(server: Server, query: Annotated[PageParameters, Query()]) -> AnswerSource:
    """List the units and channels whose feature visualizations failed, and why."""

    def table(states: Sequence[VisualizationState]) -> pa.Table:
        return visualization_status.failures(states, server.atlas.reader)

    return _source(server, query, "feature-failures", FeatureFailureRows, table)


@router.get("/layers/{layer}/features", response_model=FeatureUnitRows)
def layer_features(
    server: Server, layer: LayerName, query: Annotated[PageParameters, Query()]
) -> AnswerSource:
    """Tell how far the feature visualizations of each unit of a layer are."""
    name = server.layer(layer).name

    def table(states: Sequence[VisualizationState]) -> pa.Table:
        return visualization_status.of_layer(states, name, server.atlas.reader)

    return _source(server, query, f"{name}-features", FeatureUnitRows, table, layer=name)


def _source(
    server: ServerState,
    query: PageParameters,
    name: str,
    model: type[Rows],
    table: Callable[[Sequence[VisualizationState]], pa.Table],
    *,
    layer: str | None = None,
) -> AnswerSource:
    """Answer with a table of the states of all feature visualizations, or of those of a layer's
    units."""
    index = server.features
    # Whose a visualization is that no plan names depends on which units are stored.
    layers = [overview.version for overview in server.snapshots.overviews()]

    def render() -> Rows | Body:
        reader = server.atlas.reader
        states = [
            one
            for one in reader.visualization_states(index.listing)
            if layer is None or (one.of, one.layer) == ("unit", layer)
        ]
        left = visualizations_left(states, model=reader.header.model)
        return page_or_file(table(states), model, query, name=name, note=left)

    return AnswerSource(digest(server.version, index.progress, *layers), render)
