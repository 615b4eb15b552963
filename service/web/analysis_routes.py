"""What the circuits of a unit and a layer say together: groups, maps, similar units, uses."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from circuit_atlas.service.analysis.polysemanticity import KEEP
from circuit_atlas.service.analysis.polysemanticity import of_unit as polysemanticity
from circuit_atlas.service.client.unit import Unit
from circuit_atlas.service.web import limits
from circuit_atlas.service.web.errors import responses
from circuit_atlas.service.web.layer_snapshot import LayerView
from circuit_atlas.service.web.layerwide import LayerMasks, LayerUses
from circuit_atlas.service.web.questions import (
    Ablation,
    AtlasServed,
    Criterion,
    Form,
    Keep,
    LayerName,
    Pages,
    UnitName,
    Version,
)
from circuit_atlas.service.web.responding import note
from circuit_atlas.service.web.responses import (
    AnswerSource,
    Rendered,
    digest,
    plain,
    to_file,
    to_json,
)
from circuit_atlas.service.web.rows import Progress, answer, rows_of

router = APIRouter(prefix="/layers/{layer}", tags=["analysis"])


class GroupedImage(BaseModel):
    """A top image and its group."""

    image: int
    name: str
    label: str | None = Field(description="Null: none is known.")
    rank: int = Field(description="0 for the largest response.")
    response: float
    group: int = Field(description="From 0, the largest group first.")


class GroupPair(BaseModel):
    """How much the circuits of two groups' images share."""

    group: int
    other: int
    between: float | None = Field(description="Mean agreement of an image of each.")
    within: float | None = Field(description="The same within the groups. Null: undefined.")
    difference: float | None = Field(description="1 - between / within, in [0, 1].")


class GroupsAnswer(BaseModel):
    """The sub-feature groups of a unit."""

    criterion: str
    groups: int = Field(description="How many.")
    silhouette: float | None = Field(description="How well they part, -1 to 1. Null: one group.")
    polysemanticity: float | None = Field(
        description="0 for one feature, 1 where images of different groups share no more kernels "
        "than chance. Null: undefined."
    )
    pairs: list[GroupPair] = Field(description="What it is the mean of.")
    rows: list[GroupedImage] = Field(description="The top images, by rank.")


class SelectivityRow(BaseModel):
    """What a group's circuit preserves of its own images, and of the others'."""

    group: int
    level: int
    fraction: float
    kernels: int = Field(description="Of the group's circuit.")
    images: int = Field(description="Of the group.")
    others: int = Field(description="The unit's other top images.")
    preserved: float | None = Field(
        description="Response to the group's images, over that of the whole network."
    )
    leaked: float | None = Field(description="The same over the other images.")
    selectivity: float | None = Field(description="preserved - leaked.")


class MapPoint(BaseModel):
    """A top image on the map."""

    image: int
    x: float
    y: float
    name: str
    label: str | None
    rank: int
    response: float
    group: int | None = Field(description="Null: the atlas has no groups.")


class MapAnswer(BaseModel):
    """A map of a unit's top images: near each other where it computes them by the same kernels."""

    criterion: str
    method: str
    methods: list[str] = Field(description="Those there are.")
    explained: list[float] | None = Field(
        description="Each axis' share of the variance. Null: the images do not differ."
    )
    points: list[MapPoint]


class SimilarRow(BaseModel):
    """A unit whose circuit shares kernels."""

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
    """A unit whose circuit holds the kernels asked for."""

    unit: int
    name: str
    kernels: int = Field(description="How many of them it holds.")
    share: float | None = Field(description="Of the score of its whole circuit.")
    rank: int = Field(description="How many of its kernels stand before the best of these.")


_Chosen: dict[str, Any] = {
    "criterion": (str, Field(description="The score that chose the circuits.")),
    "keep": (float, Field(description="The fraction that they keep.")),
    "progress": (Progress, Field(description="How many circuits are read.")),
}
SelectivityRows = rows_of(SelectivityRow)
SimilarRows = rows_of(SimilarRow, **_Chosen)
UseRows = rows_of(UseRow, **_Chosen)


@router.get(
    "/units/{unit}/groups", response_model=GroupsAnswer, responses=responses(413, files=True)
)
async def groups(
    request: Request,
    served: AtlasServed,
    layer: LayerName,
    unit: UnitName,
    criterion: Criterion = None,
    number: Annotated[
        int | None,
        Query(
            alias="groups",
            description="How many, found anew from the stored scores; the stored groups where not "
            "given.",
            ge=1,
            le=limits.IMAGES,
        ),
    ] = None,
    form: Form = "json",
    v: Version = None,
) -> Response:
    """The unit's sub-feature groups: top images that it computes by the same kernels."""
    del v

    def locate() -> AnswerSource:
        one = served.unit(layer, unit)
        return AnswerSource(served.unit_version(one), lambda: render(one))

    def render(one: Unit) -> Rendered:
        if number is not None:
            served.check_scores(one)
        found = one.groups(criterion=criterion, groups=number)
        table = found.table()
        if form != "json":
            return to_file(table, form, name=f"{one.layer.name}-{one.info.name}-groups")
        served.check_scores(one)
        measure = polysemanticity(one, found, keep=KEEP)
        return to_json(
            GroupsAnswer(
                criterion=found.criterion,
                groups=len(found),
                silhouette=found.silhouette,
                polysemanticity=measure.value,
                pairs=[GroupPair(**row) for row in measure.pairs.to_pylist()],
                rows=[GroupedImage(**row) for row in table.to_pylist()],
            )
        )

    return await served.answers.reply(request, locate)


@router.get(
    "/units/{unit}/selectivity", response_model=SelectivityRows, responses=responses(files=True)
)
async def selectivity(
    request: Request,
    served: AtlasServed,
    layer: LayerName,
    unit: UnitName,
    paging: Pages,
    criterion: Criterion = None,
    ablation: Ablation = None,
    v: Version = None,
) -> Response:
    """How much of the responses to its own images each group's circuit preserves, and to the
    others'; no rows for one group. `selectivity-by-image` has what it is made of."""
    del v

    def locate() -> AnswerSource:
        one = served.unit(layer, unit)
        name = f"{one.layer.name}-{one.info.name}-selectivity"
        return AnswerSource(
            served.unit_version(one),
            lambda: answer(
                one.selectivity(criterion=criterion, ablation=ablation),
                SelectivityRows,
                paging,
                name=name,
            ),
        )

    return await served.answers.reply(request, locate)


@router.get("/units/{unit}/map", response_model=MapAnswer, responses=responses(413, files=True))
async def image_map(
    request: Request,
    served: AtlasServed,
    layer: LayerName,
    unit: UnitName,
    criterion: Criterion = None,
    method: Annotated[
        Literal["pca"], Query(description="How images are brought to two dimensions.")
    ] = "pca",
    form: Form = "json",
    v: Version = None,
) -> Response:
    """The unit's top images in two dimensions, by the kernels that it computes them by. A circuit
    with `images` is that of some of them."""
    del v

    def locate() -> AnswerSource:
        one = served.unit(layer, unit)
        return AnswerSource(served.unit_version(one), lambda: render(one))

    def render(one: Unit) -> Rendered:
        served.check_scores(one)
        found = one.projection(criterion=criterion, method=method)
        if form != "json":
            return to_file(found, form, name=f"{one.layer.name}-{one.info.name}-map")
        facts = {key.decode(): text.decode() for key, text in found.schema.metadata.items()}
        explained = json.loads(facts["explained_variance"])
        return to_json(
            MapAnswer(
                criterion=facts["criterion"],
                method=facts["method"],
                methods=["pca"],
                explained=None if None in explained else explained,
                points=[
                    MapPoint(**{key: plain(value) for key, value in row.items()})
                    for row in found.to_pylist()
                ],
            )
        )

    return await served.answers.reply(request, locate)


@router.get(
    "/units/{unit}/similar", response_model=SimilarRows, responses=responses(413, files=True)
)
async def similar(
    request: Request,
    served: AtlasServed,
    layer: LayerName,
    unit: UnitName,
    paging: Pages,
    keep: Keep = None,
    criterion: Criterion = None,
) -> Response:
    """The units of the layer whose circuits share most with this unit's, of a stored fraction."""

    def locate() -> AnswerSource:
        view = served.view(layer)
        one = served.unit(layer, unit)
        own = served.unit_version(one)
        masks = served.layerwide.masks(view, keep=keep, criterion=criterion)
        # Counted before the answer is made: more may be read meanwhile, and less must not be told
        # to be the whole.
        progress = Progress(read=masks.read, of=masks.of)
        # Of an atlas that was mended meanwhile more can be told.
        version = digest(own, view.version, str(progress.read), repr(sorted(masks.problems)))
        return AnswerSource(version, lambda: render(view, one, masks, progress))

    def render(view: LayerView, one: Unit, masks: LayerMasks, progress: Progress) -> Rendered:
        progress.check(paging.form)
        table = masks.masks.similar(one.number, limit=limits.LISTED)
        name = f"{one.layer.name}-{one.info.name}-similar"
        if paging.form != "json":
            return answer(table, SimilarRows, paging, name=name)
        many = min(paging.rows, limits.DETAILED)
        part = table.slice(paging.offset, many)
        tops = served.tops(view, part["unit"].to_pylist())
        why = note(progress, view.missing, masks.problems)
        return to_json(
            SimilarRows.model_validate(
                {
                    "total": table.num_rows,
                    "offset": paging.offset,
                    "limit": many,
                    "complete": why is None,
                    "note": why,
                    **_chosen(masks, progress),
                    "rows": [
                        {
                            **row,
                            "image": None if top is None else top[0],
                            "box": None if top is None else top[1],
                        }
                        for row, top in zip(part.to_pylist(), tops, strict=True)
                    ],
                }
            )
        )

    return await served.answers.reply(request, locate)


@router.get("/uses", response_model=UseRows, responses=responses(413, files=True))
async def uses(
    request: Request,
    served: AtlasServed,
    layer: LayerName,
    paging: Pages,
    convolution: Annotated[
        str, Query(description="A convolution on the kernel axis.", max_length=limits.TEXT)
    ],
    out: Annotated[
        int | None, Query(description="Its output channel.", ge=0, le=limits.NUMBER)
    ] = None,
    channel: Annotated[
        int | None,
        Query(alias="in", description="Its input channel.", ge=0, le=limits.NUMBER),
    ] = None,
    keep: Keep = None,
    criterion: Criterion = None,
) -> Response:
    """Which units' circuits hold kernels of a convolution: all of them, those of an output channel,
    those of an input channel, or the one of both; of a stored fraction."""

    def locate() -> AnswerSource:
        view = served.view(layer)
        found, masks = served.layerwide.uses(
            view,
            keep=keep,
            criterion=criterion,
            convolution=convolution,
            out=out,
            channel=channel,
        )
        progress = Progress(read=found.read, of=masks.of)
        version = digest(
            served.version, view.version, str(progress.read), repr(sorted(found.problems))
        )
        return AnswerSource(version, lambda: render(view, found, masks, progress))

    def render(
        view: LayerView, found: LayerUses, masks: LayerMasks, progress: Progress
    ) -> Rendered:
        progress.check(paging.form)
        why = note(progress, view.missing, found.problems)
        return answer(
            found.table,
            UseRows,
            paging,
            name=f"{view.layer.name}-uses",
            complete=why is None,
            note=why,
            more=_chosen(masks, progress),
        )

    return await served.answers.reply(request, locate)


def _chosen(masks: LayerMasks, progress: Progress) -> dict[str, object]:
    return {
        "criterion": masks.masks.criterion,
        "keep": masks.masks.keep,
        "progress": progress,
    }
