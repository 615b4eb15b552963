"""A layer: its facts, its units as rows, and how large their faithful circuits are."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field, model_validator

from circuit_atlas.service.web import limits
from circuit_atlas.service.web.answer_route import AnswerRoute
from circuit_atlas.service.web.atlas_routes import LayerFacts, layer_facts
from circuit_atlas.service.web.errors import unknown_parameter
from circuit_atlas.service.web.layer_snapshot import LayerSnapshot
from circuit_atlas.service.web.parameters import (
    AblationParameters,
    FormParameters,
    LayerName,
    PageParameters,
    Server,
)
from circuit_atlas.service.web.responding import note
from circuit_atlas.service.web.responses import AnswerSource, Body, digest, to_file
from circuit_atlas.service.web.rows import Progress, Rows, page, rows_of
from circuit_atlas.service.web.server_state import ServerState
from circuit_atlas.service.web.unit_rows import (
    Chosen,
    choose,
    columns,
    filtered,
    in_order,
    to_table,
    unit_row,
)
from circuit_atlas.storage_schema.errors import QueryError

router = APIRouter(tags=["layers"], route_class=AnswerRoute)
_NUMBER = re.compile(r"[+-]?(\d{1,20}(\.\d{0,20})?|\.\d{1,20})([eE][+-]?\d{1,3})?", re.ASCII)
_STATES = r"^(done|dead|failed|planned)(,(done|dead|failed|planned))*$"
_FILTERS = ("min", "max", "has")


class ConvolutionFacts(BaseModel):
    """Describes one convolution on a layer's kernel axis."""

    name: str = Field(description="The module's path in the model.")
    out_channels: int
    in_channels: int = Field(description="Of one group.")
    groups: int
    kernel_size: tuple[int, int] = Field(description="Height and width.")
    depth: int = Field(description="Convolutions on the longest path from the image to it.")
    one_row: bool = Field(description="Each unit reaches one output channel of it alone.")
    kernels: int = Field(description="Kernels of it on the axis.")


class LayerAnswer(LayerFacts):
    """Describes a layer, with its convolutions and directions."""

    upstream: list[ConvolutionFacts] = Field(description="The convolutions on its kernel axis.")
    directions: list[str] = Field(description="Names of its directions.")
    first_unit: int | None = Field(description="The first unit that is stored. Null: none is.")


class ProtocolFacts(BaseModel):
    """Says by which measure units are compared."""

    criterion: str
    ablation: str
    split: str
    threshold: float
    at: float = Field(description="Kept fraction of the circuits of the other measures.")
    fractions: list[float] = Field(description="Kept fractions, largest first: the order of `r`.")


class ColumnFacts(BaseModel):
    """Describes a column to sort and filter by."""

    name: str
    type: Literal["number", "text", "state"] = Field(
        description="How it is filtered: by `min.` and `max.`, by `has.`, or by `state`."
    )
    sentence: str
    unit: str = Field(description="Of its values.")


class UnitRow(BaseModel):
    """Describes a unit in a list."""

    unit: int = Field(description="Its number.")
    name: str = Field(description="Its number as text, or its direction's name.")
    state: Literal["done", "dead", "failed", "planned"]
    error: str | None = Field(description="Why it failed or cannot be read.")
    kernels: int | None = Field(description="Kernels that can reach it. Null: not stored.")
    keep: float | None = Field(
        description="Kept fraction of the smallest circuit that reaches the threshold. Null: none "
        "does, or its facts are not read yet."
    )
    circuit_kernels: int | None = Field(description="Kernels of that circuit.")
    r: list[float | None] = Field(
        description="Pearson r of each level's circuit, null where undefined; empty for a unit "
        "without circuits or whose facts are not read yet."
    )
    groups: int | None = Field(description="Sub-feature groups. Null: not known.")
    silhouette: float | None = Field(description="Of the groups. Null: one group, or not known.")
    polysemanticity: float | None = Field(
        description="0 for one feature, 1 where images of different groups share no more kernels "
        "than chance. Null: undefined, or not known yet."
    )
    feature: str | None = Field(
        description="Name of its visualization, `positive` where there is that. Null: it has none."
    )
    spearman: float | None = Field(description="Of the circuit of the fraction `at`.")
    relative_l1: float | None = Field(description="The same.")
    change_at_maximum: float | None = Field(description="The same.")
    image: int | None = Field(description="The image with the largest response.")
    image_name: str | None = Field(description="Its name.")
    label: str | None = Field(description="Its label. Null: none is known.")
    box: tuple[int, int, int, int] | None = Field(
        description="Receptive field of the maximum on it: top, left, bottom, right, half-open, in "
        "pixels of the network's input."
    )
    position: tuple[int, int] | None = Field(description="Row and column of that maximum.")
    response: float | None = Field(description="Response to that image.")
    maximum: float | None = Field(description="Largest output on that image.")


class UnitProgress(Progress):
    """Says how far a list of units is."""

    measured: int = Field(
        description="Units whose polysemanticity is known, which comes after the facts of all. "
        "While fewer are than are stored, ask again."
    )

    def why(self) -> str | None:
        """Say why the list is not whole yet; None where it is."""
        if (why := super().why()) is not None or self.measured == self.of:
            return why
        return f"the polysemanticity of {self.measured:,} of {self.of:,} units is known so far"


UnitRows = rows_of(
    UnitRow,
    columns=(list[ColumnFacts], Field(description="What units can be sorted and filtered by.")),
    protocol=(ProtocolFacts, Field(description="By which measure they are compared.")),
    progress=(UnitProgress, Field(description="How many units' facts are read.")),
)


class DistributionRow(BaseModel):
    """Says how large a unit's faithful circuit is."""

    unit: int
    name: str
    kernels: int = Field(description="Kernels that can reach it.")
    keep: float | None = Field(description="Of the smallest circuit that reaches the threshold.")
    circuit_kernels: int | None = Field(description="Its kernels. Null: none reaches it.")
    r: list[float | None] = Field(description="Pearson r of each level's circuit.")


Distribution = rows_of(
    DistributionRow,
    protocol=(ProtocolFacts, Field(description="By which measure they are compared.")),
    progress=(Progress, Field(description="How many units' facts are read.")),
)


class MeasureParameters(AblationParameters):
    """Chooses how circuits are measured."""

    split: Literal["scoring", "held_out"] | None = Field(
        default=None,
        description="Which images; the held-out ones where there are any and nothing is given.",
    )
    threshold: float = Field(
        default=0.9, description="The Pearson r that a circuit has to reach.", ge=-1, le=1
    )


class UnitsParameters(MeasureParameters, PageParameters):
    """Chooses units of a layer, also by `min.COLUMN`, `max.COLUMN` and `has.COLUMN`."""

    model_config = ConfigDict(extra="allow")

    at: float | None = Field(
        default=None,
        description="Stored fraction of the circuits whose Spearman correlation, relative L1 and "
        "change at the maximum are told; the nearest to a tenth where not given.",
        gt=0,
        le=1,
    )
    sort: str = Field(
        default="unit", description="A column, see `columns`.", max_length=limits.TEXT
    )
    order: Literal["asc", "desc"] = Field(default="asc", description="Nulls are last in both.")
    state: str | None = Field(
        default=None,
        description="Only these states, with commas.",
        pattern=_STATES,
        max_length=60,
    )

    @model_validator(mode="after")
    def _known(self) -> UnitsParameters:
        """Raise QueryError for a parameter that is no filter, either."""
        for name in self.model_extra or {}:
            if name.partition(".")[0] not in _FILTERS or "." not in name:
                fields = type(self).model_fields
                known = sorted(field.alias or own for own, field in fields.items())
                filters = [f"{start}.*" for start in _FILTERS]
                raise QueryError(unknown_parameter(name, [*filters, *known]))
        return self

    def bounds(self) -> list[tuple[str, str, float]]:
        """Return `min` or `max`, column and value of each bound; QueryError where one is no
        number."""
        bounds = []
        for side, column, text in self._filters("min", "max"):
            given = f"{side}.{column}={text[:40]!r}"
            if not _NUMBER.fullmatch(text):
                raise QueryError(f"{given} is no number")
            if not math.isfinite(float(text)):
                raise QueryError(f"{given} is no finite number")
            bounds.append((side, column, float(text)))
        return bounds

    def texts(self) -> list[tuple[str, str]]:
        """Return column and text of each `has`; QueryError where a text is too long."""
        texts = []
        for _, column, text in self._filters("has"):
            if len(text) > limits.TEXT:
                raise QueryError(
                    f"has.{column} has {len(text)} characters: at most {limits.TEXT} are taken"
                )
            texts.append((column, text))
        return texts

    def _filters(self, *starts: str) -> Iterator[tuple[str, str, str]]:
        for name, text in (self.model_extra or {}).items():
            start, _, column = name.partition(".")
            if start in starts:
                yield start, column[: limits.TEXT], text


class DistributionParameters(MeasureParameters, FormParameters):
    """Chooses how circuits are measured, and the form of the answer."""


@router.get("/layers/{layer}", response_model=LayerAnswer)
def layer_answer(server: Server, layer: LayerName) -> AnswerSource:
    """Describe a layer: how far it is, and the convolutions on its kernel axis."""
    snapshot = server.snapshot(layer)
    version = digest(server.version, snapshot.version, server.features.version)
    return AnswerSource(version, lambda: _facts(server, snapshot))


def _facts(server: ServerState, snapshot: LayerSnapshot) -> LayerAnswer:
    index = snapshot.layer.index
    done = [unit for unit, commit in snapshot.commits.items() if commit.state == "done"]
    return LayerAnswer(
        **layer_facts(snapshot, features=server.features.has(snapshot.layer.name)).model_dump(),
        upstream=[
            ConvolutionFacts.model_validate({**vars(c), "kernels": c.size})
            for c in index.index.convolutions
        ],
        directions=[info.name for info in index.units if info.direction is not None],
        first_unit=min(done, default=None),
    )


@router.get("/layers/{layer}/units", response_model=UnitRows)
def units(
    server: Server, layer: LayerName, query: Annotated[UnitsParameters, Query()]
) -> AnswerSource:
    """List the units of a layer, filtered, sorted, in pages.

    Besides the parameters listed, `min.COLUMN` and `max.COLUMN` bound any column of numbers, and
    `has.COLUMN` is what any column of texts has to hold, in capitals or not.
    """
    bounds, texts = query.bounds(), query.texts()
    snapshot = server.snapshot(layer)
    name = snapshot.layer.name
    chosen = _choose(server, query, query.at)
    digests = server.digests(snapshot)
    fractions = digests.fractions
    features = server.features

    def row_of(unit: int) -> dict[str, Any]:
        feature = features.first(name, unit)
        return unit_row(snapshot, digests, unit, chosen, feature=feature, images=server.images)

    def render() -> Rows | Body:
        known = columns(server)
        # Before the rows are made: more may be read meanwhile, and less must not be told to be all.
        progress = UnitProgress(
            read=digests.read, measured=digests.measured, of=len(snapshot.commits)
        )
        progress.check(query.form)
        rows = filtered(
            [row_of(info.number) for info in snapshot.units],
            known,
            fractions=fractions,
            states=() if query.state is None else query.state.split(","),
            texts=texts,
            bounds=bounds,
        )
        descending = query.order == "desc"
        rows = in_order(rows, known, fractions=fractions, by=query.sort, descending=descending)
        end = None if query.rows is None else query.offset + query.rows
        part = rows[query.offset : end]
        # A page comes with its images and circuits, though others are still being read.
        digests.read_some(row["unit"] for row in part[: server.limits.on_a_page])
        part = [row_of(row["unit"]) for row in part]
        if query.form != "json":
            return to_file(to_table(part, fractions), query.form, name=f"{name}-units")
        return page(
            UnitRows,
            part,
            total=len(rows),
            offset=query.offset,
            limit=query.rows,
            note=note(progress, snapshot.missing),
            columns=[vars(column) for column in known],
            protocol=protocol_facts(server, chosen),
            progress=progress,
        )

    version = digest(server.version, snapshot.version, digests.version, features.version)
    return AnswerSource(version, render)


@router.get("/layers/{layer}/distribution", response_model=Distribution)
def distribution(
    server: Server, layer: LayerName, query: Annotated[DistributionParameters, Query()]
) -> AnswerSource:
    """Tell for every unit with circuits the smallest that reaches the threshold, and r at each
    level: what histograms are made of."""
    snapshot = server.snapshot(layer)
    chosen = _choose(server, query)
    digests = server.digests(snapshot)

    def render() -> Rows | Body:
        progress = Progress(read=digests.read, of=len(snapshot.commits))
        progress.check(query.form)
        every = (unit_row(snapshot, digests, unit, chosen) for unit in sorted(snapshot.commits))
        rows = [row for row in every if row["r"]]
        if query.form != "json":
            table = to_table(rows, digests.fractions, only=DistributionRow.model_fields)
            return to_file(table, query.form, name=f"{snapshot.layer.name}-distribution")
        why = note(progress, snapshot.missing)
        if why is None and len(rows) > limits.LISTED:
            why = f"the first {limits.LISTED:,} of {len(rows):,} units: a file has all of them"
        return page(
            Distribution,
            [
                {name: row[name] for name in DistributionRow.model_fields}
                for row in rows[: limits.LISTED]
            ],
            total=len(rows),
            limit=limits.LISTED,
            note=why,
            protocol=protocol_facts(server, chosen),
            progress=progress,
        )

    return AnswerSource(digest(server.version, snapshot.version, digests.version), render)


def _choose(server: ServerState, query: MeasureParameters, at: float | None = None) -> Chosen:
    return choose(server, query.criterion, query.ablation, query.split, query.threshold, at)


def protocol_facts(server: ServerState, chosen: Chosen) -> ProtocolFacts:
    """Tell what units were compared by."""
    return ProtocolFacts(
        **vars(chosen.protocol),
        threshold=chosen.threshold,
        at=server.atlas.header.fractions[chosen.level],
        fractions=list(server.atlas.header.fractions),
    )
