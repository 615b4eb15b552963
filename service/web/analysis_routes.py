"""What the circuits of a unit and a layer say together: maps, similar units, uses."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from circuit_atlas.service.analysis.masks import Masks
from circuit_atlas.service.web import limits
from circuit_atlas.service.web.answer_route import AnswerRoute
from circuit_atlas.service.web.parameters import (
    CriterionParameters,
    FormParameters,
    FractionParameters,
    LayerName,
    PageParameters,
    Server,
    UnitName,
)
from circuit_atlas.service.web.responding import note
from circuit_atlas.service.web.responses import AnswerSource, Body, digest, plain, to_file
from circuit_atlas.service.web.rows import Rows, page, page_or_file, rows_of

router = APIRouter(prefix="/layers/{layer}", tags=["analysis"], route_class=AnswerRoute)


class MapPoint(BaseModel):
    """Places a top image on the map."""

    image: int
    x: float
    y: float
    name: str
    label: str | None
    rank: int
    response: float
    group: int | None = Field(description="Null: the atlas has no groups.")


class MapAnswer(BaseModel):
    """Maps a unit's top images: two are near each other where the unit computes them by the same
    kernels."""

    criterion: str
    method: str
    methods: list[str] = Field(description="Those there are.")
    explained: list[float] | None = Field(
        description="Each axis' share of the variance. Null: the images do not differ."
    )
    points: list[MapPoint]


class SimilarRow(BaseModel):
    """Names a unit whose circuit shares kernels."""

    unit: int
    name: str
    iou: float = Field(description="Kernels of both circuits over kernels of either.")
    shared: int = Field(description="Kernels of both.")
    kernels: int = Field(description="Of its circuit.")
    image: int | None = Field(description="The image it responds to most. Null: none is ranked.")
    box: tuple[int, int, int, int] | None = Field(
        description="Receptive field of the maximum on it: top, left, bottom, right."
    )


class UseRow(BaseModel):
    """Names a unit whose circuit holds the kernels asked for."""

    unit: int
    name: str
    kernels: int = Field(description="How many of them it holds.")
    share: float | None = Field(description="Of the score of its whole circuit.")
    rank: int = Field(description="How many of its kernels stand before the best of these.")


_Chosen: dict[str, Any] = {
    "criterion": (str, Field(description="The score that chose the circuits.")),
    "keep": (float, Field(description="The fraction that they keep.")),
}
SimilarRows = rows_of(SimilarRow, **_Chosen)
UseRows = rows_of(UseRow, **_Chosen)


class MapParameters(CriterionParameters, FormParameters):
    """Chooses a map of a unit's top images."""

    method: Literal["pca"] = Field(
        default="pca", description="How images are brought to two dimensions."
    )


class SimilarParameters(FractionParameters, PageParameters):
    """Chooses the circuits that are compared."""


class UsesParameters(FractionParameters, PageParameters):
    """Chooses the kernels that are looked for."""

    convolution: str = Field(
        description="A convolution on the kernel axis.", max_length=limits.TEXT
    )
    out: int | None = Field(default=None, description="Its output channel.", ge=0, le=limits.NUMBER)
    channel: int | None = Field(
        default=None, alias="in", description="Its input channel.", ge=0, le=limits.NUMBER
    )


@router.get("/units/{unit}/map", response_model=MapAnswer)
def image_map(
    server: Server, layer: LayerName, unit: UnitName, query: Annotated[MapParameters, Query()]
) -> AnswerSource:
    """Map the unit's top images in two dimensions, by the kernels that it computes them by. A
    circuit with `images` is that of some of them."""
    one = server.unit(layer, unit)

    def render() -> MapAnswer | Body:
        server.check_scores(one)
        table = one.projection(criterion=query.criterion, method=query.method).to_arrow()
        if query.form != "json":
            return to_file(table, query.form, name=f"{one.layer}-{one.info.name}-map")
        facts = {key.decode(): text.decode() for key, text in table.schema.metadata.items()}
        explained = json.loads(facts["explained_variance"])
        return MapAnswer(
            criterion=facts["criterion"],
            method=facts["method"],
            methods=["pca"],
            explained=None if None in explained else explained,
            points=[
                MapPoint(**{key: plain(value) for key, value in row.items()})
                for row in table.to_pylist()
            ],
        )

    return AnswerSource(server.unit_version(one), render)


@router.get("/units/{unit}/similar", response_model=SimilarRows)
def similar(
    server: Server, layer: LayerName, unit: UnitName, query: Annotated[SimilarParameters, Query()]
) -> AnswerSource:
    """List the units of the layer whose circuits share most with this unit's, of a stored
    fraction."""
    snapshot = server.snapshot(layer)
    one = server.unit(layer, unit)
    masks = server.masks.masks(snapshot, keep=query.keep, criterion=query.criterion)

    def render() -> Rows | Body:
        table = masks.masks.similar(one.number, limit=max(1, len(masks.commits)))
        if query.form != "json":
            name = f"{one.layer}-{one.info.name}-similar"
            return page_or_file(table, SimilarRows, query, name=name)
        limit = min(query.rows or limits.DETAILED, limits.DETAILED)
        part = table.slice(query.offset, limit)
        tops = server.tops(snapshot, part["unit"].to_pylist())
        rows = [
            {
                **row,
                "image": None if top is None else top[0],
                "box": None if top is None else top[1],
            }
            for row, top in zip(part.to_pylist(), tops, strict=True)
        ]
        return page(
            SimilarRows,
            rows,
            total=table.num_rows,
            offset=query.offset,
            limit=limit,
            note=note(snapshot.missing, masks.problems.values()),
            **_chosen(masks.masks),
        )

    # Of an atlas that was mended meanwhile more can be told.
    problems = repr(sorted(masks.problems))
    version = digest(server.unit_version(one), snapshot.version, problems)
    return AnswerSource(version, render)


@router.get("/uses", response_model=UseRows)
def uses(
    server: Server, layer: LayerName, query: Annotated[UsesParameters, Query()]
) -> AnswerSource:
    """List the units whose circuits hold kernels of a convolution: all of them, those of an output
    channel, those of an input channel, or the one of both; of a stored fraction."""
    snapshot = server.snapshot(layer)
    users = server.masks.uses(
        snapshot,
        keep=query.keep,
        criterion=query.criterion,
        convolution=query.convolution,
        out=query.out,
        channel=query.channel,
    )

    def render() -> Rows | Body:
        return page_or_file(
            users.table,
            UseRows,
            query,
            name=f"{snapshot.layer.name}-uses",
            note=note(snapshot.missing, users.problems.values()),
            **_chosen(users.masks),
        )

    problems = repr(sorted(users.problems))
    version = digest(server.version, snapshot.version, problems)
    return AnswerSource(version, render)


def _chosen(masks: Masks) -> dict[str, object]:
    return {"criterion": masks.criterion, "keep": masks.keep}
