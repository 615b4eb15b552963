"""The image set: facts, pictures, and the units that respond most to one image."""

from __future__ import annotations

from typing import Annotated, Literal

import pyarrow.compute as pc
from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from circuit_atlas.service.web import limits
from circuit_atlas.service.web.digests import box_of
from circuit_atlas.service.web.errors import responses
from circuit_atlas.service.web.questions import AtlasServed, ImageId, Pages, Version
from circuit_atlas.service.web.responding import Responding, detailed, responding
from circuit_atlas.service.web.responses import AnswerSource, Rendered, digest, to_file, to_json
from circuit_atlas.service.web.rows import Progress, answer, row_model, rows_of
from circuit_atlas.storage_schema.tables import IMAGES

router = APIRouter(tags=["images"])

ImageRow = row_model(
    "ImageRow",
    "An image of the set.",
    tuple(column for column in IMAGES.columns if column.name != "picture"),
)
ImageRows = rows_of(ImageRow)


class ImageUnit(BaseModel):
    """A unit by how it responds to an image."""

    layer: str = Field(description="The unit's layer.")
    unit: int = Field(description="Its number.")
    name: str = Field(description="Its number as text, or its direction's name.")
    place: int = Field(description="How many of the unit's images have a larger response.")
    rank: int | None = Field(
        description="Place among its top images. Null: it is none of them, so its circuit for this "
        "image cannot be had."
    )
    response: float = Field(description="The unit's response to the image.")
    share: float | None = Field(
        description="Of the unit's largest response. Null: that is not above zero."
    )
    maximum: float = Field(description="Largest output on the image.")
    position: tuple[int, int] = Field(description="Row and column of that maximum.")
    box: tuple[int, int, int, int] = Field(
        description="Its receptive field: top, left, bottom, right, half-open, in pixels of the "
        "network's input."
    )
    feature: str | None = Field(
        description="Name of the unit's feature visualization. Null: it has none."
    )


ImageUnits = rows_of(
    ImageUnit, progress=(Progress, Field(description="How many units were looked at."))
)


@router.get("/images", response_model=ImageRows, responses=responses(files=True))
async def images(
    request: Request,
    served: AtlasServed,
    paging: Pages,
    label: Annotated[
        str | None, Query(description="Only images of this label.", max_length=limits.TEXT)
    ] = None,
    split: Annotated[
        Literal["scoring", "held_out", "left_out"] | None, Query(description="Only this split.")
    ] = None,
    q: Annotated[
        str | None,
        Query(description="Only images with this in their name.", max_length=limits.TEXT),
    ] = None,
) -> Response:
    """The image set, those left out included."""

    def render() -> Rendered:
        table = served.images.table
        if label is not None:
            table = table.filter(pc.equal(table["label"], label))
        if split is not None:
            table = table.filter(pc.equal(table["split"], split))
        if q is not None:
            table = table.filter(pc.match_substring(table["name"], q, ignore_case=True))
        return answer(table, ImageRows, paging, name="images")

    return await served.answers.reply(request, lambda: AnswerSource(served.version, render))


@router.get("/images/{image}", response_model=ImageRow, responses=responses())
async def image_facts(request: Request, served: AtlasServed, image: ImageId) -> Response:
    """One image."""

    def locate() -> AnswerSource:
        row = served.images.facts(image)
        return AnswerSource(served.version, lambda: to_json(ImageRow.model_validate(row)))

    return await served.answers.reply(request, locate)


@router.get(
    "/images/{image}/picture",
    response_class=Response,
    responses={
        200: {
            "description": "The picture as the network sees it.",
            "content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}},
        },
        **responses(),
    },
)
async def picture(
    request: Request, served: AtlasServed, image: ImageId, v: Version = None
) -> Response:
    """The picture as the network sees it, resized and cropped. `v`: the atlas' version."""
    del v

    def locate() -> AnswerSource:
        served.images.check(image)
        return AnswerSource(
            served.version, lambda: Rendered(served.pictures.picture(image), "image/jpeg")
        )

    return await served.answers.reply(request, locate)


@router.get("/images/{image}/units", response_model=ImageUnits, responses=responses(files=True))
async def image_units(
    request: Request,
    served: AtlasServed,
    image: ImageId,
    paging: Pages,
    layer: Annotated[
        str | None, Query(description="Only units of this layer.", max_length=limits.TEXT)
    ] = None,
) -> Response:
    """The units that respond to an image most: first those for which fewest other images have a
    larger response, then those for which it comes nearest to the largest."""

    def locate() -> AnswerSource:
        served.images.check(image)
        names = served.views.names() if layer is None else (layer,)
        views = [served.views.view(name) for name in names]
        found = responding(served, views, image)
        version = digest(
            served.version,
            *(view.version for view in views),
            str(found.progress.read),
            served.features.index().version,
        )
        return AnswerSource(version, lambda: render(found))

    def render(found: Responding) -> Rendered:
        found.progress.check(paging.form)
        many = min(paging.rows, limits.DETAILED)
        table = detailed(served, found, offset=paging.offset, rows=many)
        if paging.form != "json":
            return to_file(table, paging.form, name=f"image-{image}-units")
        features = served.features.index()
        return to_json(
            ImageUnits.model_validate(
                {
                    "total": len(found.rows),
                    "offset": paging.offset,
                    "limit": many,
                    "complete": found.note is None,
                    "note": found.note,
                    "progress": found.progress,
                    "rows": [
                        {
                            **row,
                            "position": (row["position_y"], row["position_x"]),
                            "box": box_of(row),
                            "feature": features.first(row["layer"], row["unit"]),
                        }
                        for row in table.to_pylist()
                    ],
                }
            )
        )

    return await served.answers.reply(request, locate)
