"""Visualizations of units and channels, and the crops of images where a channel is largest."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import quote

import pyarrow.compute as pc
from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel, Field

from circuit_atlas.service.analysis.channel import layers_with_channel
from circuit_atlas.service.web import limits
from circuit_atlas.service.web.answer_route import AnswerRoute
from circuit_atlas.service.web.errors import NotFoundError, body_of, named_in_path
from circuit_atlas.service.web.middleware import segment
from circuit_atlas.service.web.parameters import LayerName, PageParameters, Server, UnitName
from circuit_atlas.service.web.responses import AnswerSource, Body, digest
from circuit_atlas.service.web.rows import Rows, page, page_or_file, rows_of, table_model
from circuit_atlas.service.web.server_state import ServerState
from circuit_atlas.service.web.thumbnail import ThumbnailParameters, thumbnail
from circuit_atlas.storage_schema.errors import QueryError
from circuit_atlas.storage_schema.network_tables import CHANNELS
from circuit_atlas.storage_schema.visualizations import FeatureRecord

router = APIRouter(tags=["visualizations"], route_class=AnswerRoute)
_PNG = body_of("image/png", "The visualization; a JPEG where it is asked for smaller.")
Variant = Annotated[
    str,
    Path(
        description="Which visualization: `positive`, or as `features` lists it.",
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
    """Describes a feature visualization: an image made to drive a unit or channel."""

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
    response: float = Field(description="The objective at the visualization.")
    best_image_response: float = Field(description="The same at the best image of the set.")
    best_image: int = Field(description="Id of that image.")
    beats_images: bool = Field(description="Whether the visualization is beyond every image.")
    contrast: float = Field(description="Distance from mid-grey, 0 to 0.5.")
    objective: str
    seed: int
    steps: int
    height: int
    width: int
    url: str = Field(description="Where it is, from the root of the API.")
    version: str = Field(description="Digest of the visualization: its `v`.")


FeatureRows = rows_of(FeatureRow)


@router.get("/layers/{layer}/units/{unit}/features", response_model=FeatureRows)
def unit_features(server: Server, layer: LayerName, unit: UnitName) -> AnswerSource:
    """List the unit's feature visualizations: of the whole network first, then through its
    circuits."""
    one = server.unit(layer, unit)
    base = f"layers/{_escaped(one.layer)}/units/{_escaped(one.info.name)}/features"
    return _listing(server, one.layer, one.number, base)


@router.get(
    "/layers/{layer}/units/{unit}/features/{variant}", response_class=Response, responses=_PNG
)
def unit_feature(
    server: Server,
    layer: LayerName,
    unit: UnitName,
    variant: Variant,
    query: Annotated[ThumbnailParameters, Query()],
) -> AnswerSource:
    """Send one feature visualization of the unit. `v`: its version."""
    one = server.unit(layer, unit)
    return _visualization(server, one.layer, one.number, segment(variant), query)


@router.get("/channels/{convolution}/{channel}/features", response_model=FeatureRows)
def channel_features(
    server: Server, convolution: ConvolutionName, channel: Channel
) -> AnswerSource:
    """List the feature visualizations of a channel of an upstream convolution."""
    name = segment(convolution)
    _check_channel(server, name, channel)
    return _listing(server, name, channel, f"channels/{_escaped(name)}/{channel}/features")


@router.get(
    "/channels/{convolution}/{channel}/features/{variant}", response_class=Response, responses=_PNG
)
def channel_feature(
    server: Server,
    convolution: ConvolutionName,
    channel: Channel,
    variant: Variant,
    query: Annotated[ThumbnailParameters, Query()],
) -> AnswerSource:
    """Send one feature visualization of a channel. `v`: its version."""
    name = segment(convolution)
    _check_channel(server, name, channel)
    return _visualization(server, name, channel, segment(variant), query)


@router.get("/layers/{layer}/channels/{convolution}/{channel}", response_model=ChannelRows)
def channel_crops(
    server: Server,
    layer: LayerName,
    convolution: ConvolutionName,
    channel: Channel,
    query: Annotated[PageParameters, Query()],
) -> AnswerSource:
    """Tell where an output channel of a convolution upstream of the layer is largest, over the
    scoring images: at most four images, with the receptive field of the maximum."""
    name = segment(convolution)
    one = server.layer(layer)
    convolutions = {c.name: c for c in one.index.index.convolutions}
    if name not in convolutions or channel >= convolutions[name].out_channels:
        known = ", ".join(convolutions)
        raise NotFoundError(
            f"layer {one.name!r} has no channel {channel} of a convolution {name!r} upstream: "
            f"its convolutions are {known}"
        )
    table = named_in_path(lambda: server.atlas.reader.channels(one.name))
    wanted = pc.and_(pc.equal(table["convolution"], name), pc.equal(table["channel"], channel))
    rows = table.filter(wanted)
    return AnswerSource(
        digest(server.version, one.name),
        lambda: page_or_file(rows, ChannelRows, query, name=f"{name}-{channel}"),
    )


def _check_channel(server: ServerState, convolution: str, channel: int) -> None:
    """Raise NotFoundError where no layer has that channel of a convolution upstream."""
    reader = server.atlas.reader
    named_in_path(lambda: layers_with_channel(reader, convolution=convolution, channel=channel))


def _escaped(name: str) -> str:
    return quote(name, safe="")


def _listing(server: ServerState, layer: str, unit: int, base: str) -> AnswerSource:
    records = server.atlas.reader.feature_visualizations(layer, unit)
    version = digest(server.version, *(record.image.sha256 for record in records))

    def render() -> Rows:
        rows = [_row(record, base) for record in records]
        return page(FeatureRows, rows, total=len(rows), limit=limits.ROWS)

    return AnswerSource(version, render)


def _visualization(
    server: ServerState, layer: str, unit: int, variant: str, query: ThumbnailParameters
) -> AnswerSource:
    reader = server.atlas.reader
    try:
        record = reader.feature_visualization(layer, unit, variant)
    except QueryError as error:
        raise NotFoundError(str(error)) from error
    if record is None:
        raise NotFoundError(f"{layer}/{unit} has no feature visualization {variant!r}")
    name = f"{reader.header.model}-{layer}-{unit}-{variant}.png"

    def render() -> Body:
        whole = Body(reader.visualization_image(record), "image/png", name, inline=True)
        return thumbnail(whole, "png", query)

    return AnswerSource(_version(record), render)


def _version(record: FeatureRecord) -> str:
    return digest(record.image.sha256)


def _row(record: FeatureRecord, base: str) -> FeatureRow:
    circuit = record.circuit
    through = (
        dict.fromkeys(("criterion", "ablation", "keep", "kernels", "group"))
        if circuit is None
        else {**vars(circuit), "keep": circuit.fraction}
    )
    return FeatureRow.model_validate(
        {
            **vars(record),
            **through,
            "url": f"{base}/{_escaped(record.variant)}",
            "version": _version(record),
        }
    )
