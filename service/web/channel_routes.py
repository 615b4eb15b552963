"""A channel upstream: where it is largest, its kernels, and the layers that it is upstream of."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from circuit_atlas.service.analysis.channel import layers_with_channel
from circuit_atlas.service.web.answer_route import AnswerRoute
from circuit_atlas.service.web.errors import named_in_path
from circuit_atlas.service.web.image_set import box_of
from circuit_atlas.service.web.middleware import segment
from circuit_atlas.service.web.parameters import PageParameters, Server
from circuit_atlas.service.web.responses import AnswerSource, Body, digest
from circuit_atlas.service.web.rows import Rows, page_or_file, rows_of
from circuit_atlas.service.web.server_state import ServerState
from circuit_atlas.service.web.visualization_routes import Channel, ConvolutionName

router = APIRouter(
    prefix="/channels/{convolution}/{channel}", tags=["channels"], route_class=AnswerRoute
)


class ChannelCrop(BaseModel):
    """Says where the channel is largest on one image."""

    rank: int = Field(description="0 for the largest.")
    image: int = Field(description="Its id.")
    name: str
    label: str | None = Field(description="Class of the image. Null: none is known.")
    maximum: float = Field(description="Largest value over positions, before the activation.")
    box: tuple[int, int, int, int] = Field(
        description="Its receptive field: top, left, bottom, right, half-open, in pixels of the "
        "network's input."
    )


class ChannelAnswer(BaseModel):
    """Describes an output channel of a convolution upstream."""

    convolution: str
    channel: int
    channels: int = Field(description="Output channels of the convolution.")
    layers: list[str] = Field(description="Layers of the atlas that it lies upstream of.")
    features: list[str] = Field(description="Names of its feature visualizations.")
    crops: list[ChannelCrop] = Field(
        description="The scoring images on which it is largest, at most four."
    )


class ChannelKernelRow(BaseModel):
    """Describes a kernel that makes the channel, or reads it."""

    end: Literal["in", "out"] = Field(description="`in`: it makes the channel; `out`: it reads it.")
    convolution: str = Field(description="Whose kernel it is.")
    out_channel: int = Field(description="Its output channel.")
    in_channel: int = Field(description="Its input channel, over all channels of the input.")
    source: str | None = Field(description="Convolution at its start. Null: the image.")
    source_channel: int | None = Field(
        description="Output channel of `source` that feeds it. Null: several are mixed."
    )
    weight_norm: float | None = Field(
        description="Square root of the sum of its squared weights. Null: they are unknown."
    )
    weight_sum: float | None = Field(description="Sum of its weights. Null: they are unknown.")


ChannelKernelRows = rows_of(ChannelKernelRow)


class ChannelKernelParameters(PageParameters):
    """Chooses kernels of a channel."""

    end: Literal["in", "out"] | None = Field(
        default=None, description="Only kernels that make the channel, or only those that read it."
    )


@router.get("", response_model=ChannelAnswer)
def channel_answer(server: Server, convolution: ConvolutionName, channel: Channel) -> AnswerSource:
    """Describe an output channel of a convolution upstream: where it is largest over the scoring
    images, and the layers whose circuits may use it."""
    name = segment(convolution)
    layers = _layers(server, name, channel)
    version = digest(server.version, *layers, server.features.version)
    return AnswerSource(version, lambda: _facts(server, name, channel, layers))


@router.get("/kernels", response_model=ChannelKernelRows)
def channel_kernels(
    server: Server,
    convolution: ConvolutionName,
    channel: Channel,
    query: Annotated[ChannelKernelParameters, Query()],
) -> AnswerSource:
    """List the kernels that make a channel and those that read it, the largest first."""
    name = segment(convolution)
    layers = _layers(server, name, channel)

    def render() -> Rows | Body:
        table = server.atlas.channel_kernels(name, channel).to_arrow()
        if query.end is not None:
            table = table.filter(pc.equal(table["end"], query.end))
        return page_or_file(table, ChannelKernelRows, query, name=f"{name}-{channel}-kernels")

    return AnswerSource(digest(server.version, *layers), render)


def _layers(server: ServerState, convolution: str, channel: int) -> tuple[str, ...]:
    reader = server.atlas.reader
    return named_in_path(
        lambda: layers_with_channel(reader, convolution=convolution, channel=channel)
    )


def _facts(
    server: ServerState, convolution: str, channel: int, layers: tuple[str, ...]
) -> ChannelAnswer:
    one = next(
        one
        for one in server.atlas.reader.layer(layers[0]).index.convolutions
        if one.name == convolution
    )
    return ChannelAnswer(
        convolution=convolution,
        channel=channel,
        channels=one.out_channels,
        layers=list(layers),
        features=list(server.features.of(convolution, channel)),
        crops=[
            ChannelCrop.model_validate({**server.images.facts(row["image"]), **row})
            for row in _crops(server, layers[0], convolution, channel)
        ],
    )


def _crops(server: ServerState, layer: str, convolution: str, channel: int) -> list[dict[str, Any]]:
    table = server.atlas.reader.channels(layer)
    wanted = pc.and_(
        pc.equal(table["convolution"], convolution), pc.equal(table["channel"], channel)
    )
    rows: pa.Table = table.filter(wanted)
    return [{**row, "box": box_of(row)} for row in rows.to_pylist()]
