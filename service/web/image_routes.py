"""The image set: facts, files, and the units that respond most to one image."""

from __future__ import annotations

from typing import Annotated, Literal

import pyarrow.compute as pc
from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, Field

from circuit_atlas.service.analysis.responding import measured
from circuit_atlas.service.web import limits
from circuit_atlas.service.web.answer_route import AnswerRoute
from circuit_atlas.service.web.errors import body_of
from circuit_atlas.service.web.image_set import box_of
from circuit_atlas.service.web.image_sheet import SheetParameters, cells_of, image_sheet
from circuit_atlas.service.web.parameters import ImageId, PageParameters, Server
from circuit_atlas.service.web.responding import responding
from circuit_atlas.service.web.responses import AnswerSource, Body, digest, to_file
from circuit_atlas.service.web.rows import Rows, page, page_or_file, row_model, rows_of
from circuit_atlas.service.web.thumbnail import CropParameters, thumbnail
from circuit_atlas.storage_schema.errors import QueryError
from circuit_atlas.storage_schema.image_table import IMAGES
from circuit_atlas.storage_schema.layer_columns import RESPONDING

router = APIRouter(tags=["images"], route_class=AnswerRoute)

ImageRow = row_model(
    "ImageRow",
    "Describes an image of the set.",
    IMAGES.columns,
)
ImageRows = rows_of(ImageRow)


class ImageUnitParts(BaseModel):
    """Holds what is a list in the row of a unit, and columns of their own in a file."""

    position: tuple[int, int] = Field(description="Row and column of the largest output.")
    box: tuple[int, int, int, int] = Field(
        description="Its receptive field: top, left, bottom, right, half-open, in pixels of the "
        "network's input."
    )
    feature: str | None = Field(
        description="Name of the unit's feature visualization. Null: it has none."
    )


ImageUnit = row_model(
    "ImageUnit",
    "Says how a unit responds to an image.",
    tuple(column for column in RESPONDING if not column.name.startswith(("box_", "position_"))),
    base=ImageUnitParts,
)
ImageUnits = rows_of(ImageUnit)


class ImagesParameters(PageParameters):
    """Chooses images of the set."""

    label: str | None = Field(
        default=None, description="Only images of this label.", max_length=limits.TEXT
    )
    split: Literal["scoring", "held_out", "left_out"] | None = Field(
        default=None, description="Only this split."
    )
    q: str | None = Field(
        default=None, description="Only images with this in their name.", max_length=limits.TEXT
    )


class ImageUnitsParameters(PageParameters):
    """Chooses units that respond to an image."""

    layer: str | None = Field(
        default=None, description="Only units of this layer.", max_length=limits.TEXT
    )


@router.get("/images", response_model=ImageRows)
def images(server: Server, query: Annotated[ImagesParameters, Query()]) -> AnswerSource:
    """List the image set, those left out included."""

    def render() -> Rows | Body:
        table = server.images.table
        if query.label is not None:
            table = table.filter(pc.equal(table["label"], query.label))
        if query.split is not None:
            table = table.filter(pc.equal(table["split"], query.split))
        if query.q is not None:
            table = table.filter(pc.match_substring(table["name"], query.q, ignore_case=True))
        return page_or_file(table, ImageRows, query, name="images")

    return AnswerSource(server.version, render)


@router.get(
    "/images/sheet",
    response_class=Response,
    responses=body_of("image/jpeg", "The images, eight in a row, each with a margin of 4 pixels."),
)
def images_sheet(server: Server, query: Annotated[SheetParameters, Query()]) -> AnswerSource:
    """Send several images, small, as one. Each has the shape of the network's input, or is square
    where a part of it is shown. `v`: the atlas' version."""
    cells = cells_of(query)
    for cell in cells:
        server.images.check(cell.image)
    if len({cell.box is None for cell in cells}) > 1:
        raise QueryError("cells are of whole images or of parts, not of both: ask twice")
    high, wide = server.atlas.header.input_height, server.atlas.header.input_width
    height = query.width if cells[0].box else max(1, round(query.width * high / wide))

    def render() -> Body:
        file = server.image_reader.file
        return Body(image_sheet(cells, width=query.width, height=height, file=file), "image/jpeg")

    return AnswerSource(server.version, render)


@router.get("/images/{image}", response_model=ImageRow)
def image_facts(server: Server, image: ImageId) -> AnswerSource:
    """Describe one image."""
    row = server.images.facts(image)
    return AnswerSource(server.version, lambda: ImageRow.model_validate(row))


@router.get(
    "/images/{image}/file",
    response_class=Response,
    responses=body_of("image/jpeg", "The image as the network sees it."),
)
def image_file(
    server: Server, image: ImageId, query: Annotated[CropParameters, Query()]
) -> AnswerSource:
    """Send the image as the network sees it, resized and cropped; or less of it. `v`: the atlas'
    version."""
    server.images.check(image)

    def render() -> Body:
        return thumbnail(Body(server.image_reader.file(image), "image/jpeg"), "jpeg", query)

    return AnswerSource(server.version, render)


@router.get("/images/{image}/units", response_model=ImageUnits)
def image_units(
    server: Server, image: ImageId, query: Annotated[ImageUnitsParameters, Query()]
) -> AnswerSource:
    """List the units that respond to an image most: first those for which fewest other images have
    a larger response, then those for which it comes nearest to the largest."""
    server.images.check(image)
    names = server.snapshots.names() if query.layer is None else (query.layer,)
    snapshots = [server.snapshots.of(name) for name in names]
    units = responding(server, snapshots, image)
    features = server.features

    def render() -> Rows | Body:
        reader = server.atlas.reader
        if query.form != "json":
            table = measured(reader, units.rows.slice(query.offset, query.rows), image)
            return to_file(table, query.form, name=f"image-{image}-units")
        limit = min(query.rows or limits.DETAILED, limits.DETAILED)
        table = measured(reader, units.rows.slice(query.offset, limit), image)
        rows = [
            {
                **row,
                "position": (row["position_y"], row["position_x"]),
                "box": box_of(row),
                "feature": features.first(row["layer"], row["unit"]),
            }
            for row in table.to_pylist()
        ]
        return page(
            ImageUnits,
            rows,
            total=units.rows.num_rows,
            offset=query.offset,
            limit=limit,
            note=units.note,
        )

    version = digest(
        server.version,
        *(snapshot.version for snapshot in snapshots),
        units.note or "",
        features.version,
    )
    return AnswerSource(version, render)
