"""The atlas as a whole: what it was built from, how far it is, and a search."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pyarrow as pa
from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from circuit_atlas.service.web import limits
from circuit_atlas.service.web.answer_route import AnswerRoute
from circuit_atlas.service.web.layer_snapshot import LayerOverview
from circuit_atlas.service.web.parameters import PageParameters, Parameters, Server
from circuit_atlas.service.web.responses import (
    API_VERSION,
    AnswerSource,
    Body,
    code_version,
    digest,
)
from circuit_atlas.service.web.rows import Rows, page, page_or_file, rows_of
from circuit_atlas.service.web.server_state import ServerState

router = APIRouter(tags=["atlas"], route_class=AnswerRoute)


class ServerFacts(BaseModel):
    """Says what answers here."""

    server: Literal["circuit-atlas"] = Field(description="Always this.")
    version: str = Field(description="Version of the package.")
    api: int = Field(description="Version of the API, the number in its paths.")


class ImageCounts(BaseModel):
    """Counts the images."""

    total: int
    scoring: int = Field(description="They chose the circuits.")
    held_out: int = Field(description="They took no part in it.")
    left_out: int = Field(description="They could not be read.")


class LayerFacts(BaseModel):
    """Describes a layer, and how far it is built."""

    layer: str = Field(description="The module's path in the model.")
    planned: int = Field(description="Units that were asked for.")
    done: int = Field(description="Units with circuits.")
    dead: int = Field(description="Units whose response never changes.")
    failed: int = Field(description="Units that failed.")
    missing: int = Field(description="Units that were asked for and are not computed yet.")
    channels: int = Field(description="Channels of the layer's output.")
    height: int = Field(description="Height of its output, in positions.")
    width: int = Field(description="Width of its output, in positions.")
    activation: str = Field(
        description="`post` where the response is what a unit passes on, `pre` for the output."
    )
    explained: str = Field(description="Where the response is taken, in words.")
    kernels: int = Field(description="Kernels on the axis that its units share.")
    convolutions: int = Field(description="Convolutions upstream, itself included.")
    features: bool = Field(description="Whether feature visualizations are stored.")
    version: str = Field(description="Changes whenever a unit is stored or fails.")


class Size(BaseModel):
    """Measures an image in pixels."""

    height: int
    width: int


class AtlasFacts(BaseModel):
    """Describes an atlas: what it was built from, and its layers."""

    location: str = Field(description="The last segment of where it lies.")
    version: str = Field(description="A digest of what it was built from: `v` of its images.")
    server: ServerFacts
    schema_version: int = Field(alias="schema", description="Version of the store's schema.")
    model: str = Field(description="The model's reference in the spec.")
    response: str = Field(description="The response that is explained.")
    criteria: list[str] = Field(description="The scores that every unit has, the default first.")
    image_criteria: list[str] = Field(description="Those with scores of single images.")
    group_criteria: list[str] = Field(
        description="Those with stored sub-feature groups, and circuits of each."
    )
    redrawable: list[str] = Field(
        description="Those whose circuits can be found anew, to see which kernels stay."
    )
    fractions: list[float] = Field(description="Kept fractions, largest first.")
    connected: bool = Field(
        description="Whether kernels on dead ends gave way to others that act, in stored circuits."
    )
    ablations: list[str] = Field(description="What stands for a dropped kernel.")
    splits: list[Literal["held_out", "scoring"]] = Field(
        description="Those with images, the default first."
    )
    top_images: int = Field(description="Images that a unit has scores of its own for, at most.")
    seed: int
    input: Size = Field(description="The network's input.")
    weights_sha256: str
    images_sha256: str
    spec: dict[str, Any] = Field(description="The part of the spec that decides the numbers.")
    versions: dict[str, str] = Field(description="Packages that the first build ran with.")
    images: ImageCounts
    complete: bool = Field(description="Whether no unit is missing.")
    layers: list[LayerFacts]
    limits: dict[str, int] = Field(description="Largest values that questions may have.")


class Match(BaseModel):
    """Names something that a search matched."""

    kind: Literal["layer", "unit", "direction", "label", "image"]
    text: str = Field(description="Its name; of a unit with a label, that too.")
    layer: str | None = Field(description="The layer, or the unit's. Null: a label or image.")
    unit: int | None = Field(description="The unit's number. Null: no unit or direction.")
    image: int | None = Field(
        description="The image's id, or of a unit that of its top image. Null: there is none."
    )
    box: tuple[int, int, int, int] | None = Field(
        description="What a unit sees of its top image: top, left, bottom, right. Null: no unit."
    )
    count: int | None = Field(description="Units of a layer, or images of a label.")


_ARROW = {"str": pa.string(), "int": pa.int64(), "bool": pa.bool_()}
_LAYERS = pa.schema(
    [pa.field(name, _ARROW[str(kind)]) for name, kind in LayerFacts.__annotations__.items()]
)
Layers = rows_of(LayerFacts)
Matches = rows_of(Match)


class SearchParameters(Parameters):
    """Says what is searched for."""

    q: str = Field(
        description="Part of the name of a layer, direction or image, or of the label of a unit or "
        "image; a unit's number; or `layer/unit`.",
        min_length=1,
        max_length=limits.TEXT,
    )
    limit: int = Field(default=20, description="Matches at most.", ge=1, le=limits.MATCHES)


@router.get("/atlas", response_model=AtlasFacts)
def atlas(server: Server) -> AnswerSource:
    """Tell what the atlas was built from, and how far each layer is."""
    overviews = server.snapshots.overviews()
    return AnswerSource(_version(server, overviews), lambda: _facts(server, overviews))


@router.get("/layers", response_model=Layers)
def layers(server: Server, query: Annotated[PageParameters, Query()]) -> AnswerSource:
    """List the layers, and how far each is built: those of `/atlas`, also as a file."""
    overviews = server.snapshots.overviews()

    def render() -> Rows | Body:
        index = server.features
        rows = [
            layer_facts(overview, features=index.has(overview.layer.name)) for overview in overviews
        ]
        table = pa.Table.from_pylist([row.model_dump() for row in rows], _LAYERS)
        return page_or_file(table, Layers, query, name="layers")

    return AnswerSource(_version(server, overviews), render)


@router.get("/search", response_model=Matches)
def search(server: Server, query: Annotated[SearchParameters, Query()]) -> AnswerSource:
    """Search layers, units, labels and images by name: whole matches come first, then starts, then
    parts."""
    limit = query.limit

    def render() -> Rows:
        # One more than is shown, to know whether there are more.
        matches = server.atlas.search(query.q, limit=limit + 1).to_arrow()
        total = matches.num_rows
        note = f"the first {limit} matches; there are more" if total > limit else None
        rows = [_with_image(server, row) for row in matches.slice(0, limit).to_pylist()]
        return page(Matches, rows, total=total, limit=limit, note=note)

    overviews = server.snapshots.overviews()
    return AnswerSource(digest(server.version, *(one.version for one in overviews)), render)


def _with_image(server: ServerState, row: dict[str, Any]) -> dict[str, Any]:
    """Add to a unit what it sees of its top image."""
    top = None
    if row["unit"] is not None:
        (top,) = server.tops(server.snapshots.of(row["layer"]), [row["unit"]])
    return {**row, "box": None} if top is None else {**row, "image": top[0], "box": top[1]}


def server_facts() -> ServerFacts:
    """Tell what answers here."""
    return ServerFacts(server="circuit-atlas", version=code_version(), api=API_VERSION)


def _version(server: ServerState, overviews: list[LayerOverview]) -> str:
    """Digest the state of the atlas with all its layers and feature visualizations."""
    features = server.features.version
    return digest(server.version, features, *(overview.version for overview in overviews))


def layer_facts(overview: LayerOverview, *, features: bool) -> LayerFacts:
    """Describe a layer and how far it is built."""
    index = overview.layer.index
    return LayerFacts(
        layer=index.layer,
        **overview.counts(),
        channels=index.channels,
        height=index.height,
        width=index.width,
        activation=index.activation,
        explained=index.explained,
        kernels=index.index.size,
        convolutions=len(index.index.convolutions),
        features=features,
        version=overview.version,
    )


def _facts(server: ServerState, overviews: list[LayerOverview]) -> AtlasFacts:
    header = server.atlas.header
    splits = server.images.table["split"].to_pylist()
    index = server.features
    layers = [
        layer_facts(overview, features=index.has(overview.layer.name)) for overview in overviews
    ]
    return AtlasFacts.model_validate(
        {
            **vars(header),
            "group_criteria": header.group_criteria,
            "redrawable": header.redrawable,
            "location": server.name,
            "version": server.version,
            "server": server_facts(),
            "splits": [name for name in ("held_out", "scoring") if name in splits],
            "input": Size(height=header.input_height, width=header.input_width),
            "spec": header.spec_content,
            "versions": dict(header.versions),
            "images": {
                "total": len(splits),
                **{name: splits.count(name) for name in ("scoring", "held_out", "left_out")},
            },
            "complete": not any(layer.missing for layer in layers),
            "layers": layers,
            "limits": {
                "rows": limits.ROWS,
                "edges": limits.EDGES,
                "images": limits.IMAGES,
                "text": limits.TEXT,
                "url_bytes": server.limits.url_bytes,
            },
        }
    )
