"""Visualizations of units and channels, and the crops of images where a channel is largest."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from urllib.parse import quote

import pyarrow.compute as pc
from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel, Field

from circuit_atlas.service.web import limits
from circuit_atlas.service.web.errors import NotFoundError, found, responses
from circuit_atlas.service.web.middleware import segment
from circuit_atlas.service.web.questions import (
    AtlasServed,
    LayerName,
    Pages,
    UnitName,
    Version,
)
from circuit_atlas.service.web.responses import AnswerSource, Rendered, digest, to_json
from circuit_atlas.service.web.rows import answer, rows_of, table_model
from circuit_atlas.service.web.server_state import Served
from circuit_atlas.storage_schema.errors import QueryError
from circuit_atlas.storage_schema.tables import CHANNELS
from circuit_atlas.storage_schema.visualizations import FeatureRecord

router = APIRouter(tags=["pictures"])
_PNG: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The picture.",
        "content": {"image/png": {"schema": {"type": "string", "format": "binary"}}},
    },
    **responses(),
}
Variant = Annotated[
    str,
    Path(
        description="Which picture: `positive`, or as `features` lists it.",
        max_length=limits.TEXT,
        examples=["positive"],
    ),
]
ConvolutionName = Annotated[
    str,
    Path(
        description="A convolution's name, percent-encoded.",
        max_length=3 * limits.TEXT,
        examples=["features.0"],
    ),
]
Channel = Annotated[int, Path(description="Its output channel.", ge=0, le=limits.NUMBER)]
ChannelRows = table_model("ChannelRow", CHANNELS)


class FeatureRow(BaseModel):
    """A feature visualization: a picture made to drive a unit or channel."""

    variant: str = Field(description="Its name.")
    sign: Literal["positive", "negative"] = Field(
        description="Made for the largest response, or for the smallest."
    )
    criterion: str | None = Field(
        description="Score that chose the circuit that it runs through. Null: the whole network."
    )
    ablation: str | None = Field(description="What stands for a dropped kernel there.")
    keep: float | None = Field(description="Kept fraction of that circuit.")
    kernels: int | None = Field(description="Kernels of it.")
    group: int | None = Field(description="Sub-feature group that it is of. Null: all images.")
    response: float = Field(description="The objective at the picture.")
    best_photo_response: float = Field(description="The same at the best image of the set.")
    photo: int = Field(description="Id of that image.")
    beats_photos: bool = Field(description="Whether the picture is beyond every image.")
    contrast: float = Field(description="Distance from mid-grey, 0 to 0.5.")
    objective: str
    seed: int
    steps: int
    height: int
    width: int
    url: str = Field(description="Where it is, from the root of the API.")
    version: str = Field(description="Digest of the picture: its `v`.")


FeatureRows = rows_of(FeatureRow)


@router.get(
    "/layers/{layer}/units/{unit}/features", response_model=FeatureRows, responses=responses()
)
async def unit_features(
    request: Request, served: AtlasServed, layer: LayerName, unit: UnitName
) -> Response:
    """The unit's feature visualizations: of the whole network first, then through its circuits."""

    def locate() -> AnswerSource:
        one = served.unit(layer, unit)
        base = f"layers/{_escaped(one.layer.name)}/units/{_escaped(one.info.name)}/features"
        return _listed(served, one.layer.name, one.number, base)

    return await served.answers.reply(request, locate)


@router.get(
    "/layers/{layer}/units/{unit}/features/{variant}", response_class=Response, responses=_PNG
)
async def unit_feature(
    request: Request,
    served: AtlasServed,
    layer: LayerName,
    unit: UnitName,
    variant: Variant,
    v: Version = None,
) -> Response:
    """One feature visualization of the unit. `v`: its version."""
    del v

    def locate() -> AnswerSource:
        one = served.unit(layer, unit)
        return _picture(served, one.layer.name, one.number, segment(variant))

    return await served.answers.reply(request, locate)


@router.get(
    "/channels/{convolution}/{channel}/features", response_model=FeatureRows, responses=responses()
)
async def channel_features(
    request: Request, served: AtlasServed, convolution: ConvolutionName, channel: Channel
) -> Response:
    """Feature visualizations of a channel of an upstream convolution."""
    name = segment(convolution)

    def locate() -> AnswerSource:
        _check_channel(served, name, channel)
        return _listed(served, name, channel, f"channels/{_escaped(name)}/{channel}/features")

    return await served.answers.reply(request, locate)


@router.get(
    "/channels/{convolution}/{channel}/features/{variant}",
    response_class=Response,
    responses=_PNG,
)
async def channel_feature(
    request: Request,
    served: AtlasServed,
    convolution: ConvolutionName,
    channel: Channel,
    variant: Variant,
    v: Version = None,
) -> Response:
    """One feature visualization of a channel. `v`: its version."""
    del v
    name = segment(convolution)

    def locate() -> AnswerSource:
        _check_channel(served, name, channel)
        return _picture(served, name, channel, segment(variant))

    return await served.answers.reply(request, locate)


@router.get(
    "/layers/{layer}/channels/{convolution}/{channel}",
    response_model=ChannelRows,
    responses=responses(files=True),
)
async def channel_crops(
    request: Request,
    served: AtlasServed,
    layer: LayerName,
    convolution: ConvolutionName,
    channel: Channel,
    paging: Pages,
) -> Response:
    """Where an output channel of a convolution upstream of the layer is largest, over the scoring
    images: at most four images, with the receptive field of the maximum."""
    name = segment(convolution)

    def locate() -> AnswerSource:
        one = served.layer(layer)
        convolutions = {c.name: c for c in one.index.index.convolutions}
        if name not in convolutions or channel >= convolutions[name].out_channels:
            known = ", ".join(convolutions)
            raise NotFoundError(
                f"layer {one.name!r} has no channel {channel} of a convolution {name!r} upstream: "
                f"its convolutions are {known}"
            )
        table = found(lambda: served.atlas.reader.channels(one.name))
        wanted = pc.and_(pc.equal(table["convolution"], name), pc.equal(table["channel"], channel))
        rows = table.filter(wanted)
        return AnswerSource(
            digest(served.version, one.name),
            lambda: answer(rows, ChannelRows, paging, name=f"{name}-{channel}"),
        )

    return await served.answers.reply(request, locate)


def _check_channel(served: Served, convolution: str, channel: int) -> None:
    """NotFoundError where no layer has that channel of a convolution upstream."""
    for name in served.views.names():
        for one in served.views.layer(name).index.index.convolutions:
            if one.name == convolution and channel < one.out_channels:
                return
    raise NotFoundError(
        f"no layer of the atlas has a channel {channel} of a convolution {convolution!r} upstream"
    )


def _escaped(name: str) -> str:
    return quote(name, safe="")


def _listed(served: Served, layer: str, unit: int, base: str) -> AnswerSource:
    records = served.atlas.reader.feature_visualizations(layer, unit)
    version = digest(served.version, *(record.picture.sha256 for record in records))

    def render() -> Rendered:
        return to_json(
            FeatureRows.model_validate(
                {
                    "total": len(records),
                    "offset": 0,
                    "limit": limits.ROWS,
                    "complete": True,
                    "rows": [_row(record, base) for record in records],
                }
            )
        )

    return AnswerSource(version, render)


def _picture(served: Served, layer: str, unit: int, variant: str) -> AnswerSource:
    reader = served.atlas.reader
    try:
        record = reader.feature_visualization(layer, unit, variant)
    except QueryError as error:
        raise NotFoundError(str(error)) from error
    if record is None:
        raise NotFoundError(f"{layer}/{unit} has no feature visualization {variant!r}")
    return AnswerSource(
        _version(record), lambda: Rendered(reader.visualization_image(record), "image/png")
    )


def _version(record: FeatureRecord) -> str:
    return digest(record.picture.sha256)


def _row(record: FeatureRecord, base: str) -> FeatureRow:
    circuit = record.circuit
    return FeatureRow(
        variant=record.variant,
        sign=record.sign,
        criterion=None if circuit is None else circuit.criterion,
        ablation=None if circuit is None else circuit.ablation,
        keep=None if circuit is None else circuit.fraction,
        kernels=None if circuit is None else circuit.kernels,
        group=None if circuit is None else circuit.group,
        response=record.response,
        best_photo_response=record.photo_response,
        photo=record.photo,
        beats_photos=record.beats_photos,
        contrast=record.contrast,
        objective=record.objective,
        seed=record.seed,
        steps=record.steps,
        height=record.height,
        width=record.width,
        url=f"{base}/{_escaped(record.variant)}",
        version=_version(record),
    )
