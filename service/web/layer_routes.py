"""A layer: its facts, its units as rows, and how large their faithful circuits are."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field, model_validator

from circuit_atlas.service.analysis.query import CircuitQuery
from circuit_atlas.service.analysis.summary import distribution as layer_distribution
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
from circuit_atlas.service.web.rows import Rows, page, row_model, rows_of
from circuit_atlas.service.web.server_state import ServerState
from circuit_atlas.service.web.unit_rows import (
    BOX,
    LISTED,
    POSITION,
    circuit_query,
    columns,
    filtered,
    in_order,
    kind,
    listed_units,
    to_rows,
)
from circuit_atlas.storage_schema.columns import Column
from circuit_atlas.storage_schema.errors import QueryError
from circuit_atlas.storage_schema.layer_columns import DISTRIBUTION

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
    title: str = Field(description="What heads it on a page.")
    sentence: str = Field(description="What it means.")
    unit: str = Field(description="Of its values.")

    @classmethod
    def of(cls, column: Column) -> ColumnFacts:
        """Take what is declared of a column."""
        return cls(
            name=column.name,
            type=kind(column),
            title=column.title,
            sentence=column.sentence,
            unit=column.unit,
        )


class UnitParts(BaseModel):
    """Holds what is a list in a unit's row, and columns of their own in a file."""

    state: Literal["done", "dead", "failed", "planned"]
    r: list[float | None] = Field(
        description="Pearson r of each sparsity level's circuit, null where undefined; empty for a "
        "unit without circuits, or that cannot be read."
    )
    box: tuple[int, int, int, int] | None = Field(
        description="Receptive field of the largest output on its top image: top, left, bottom, "
        "right, half-open, in pixels of the network's input."
    )
    position: tuple[int, int] | None = Field(description="Row and column of that output.")


UnitRow = row_model(
    "UnitRow",
    "Describes a unit in a list.",
    tuple(c for c in LISTED if c.name not in ("state", *BOX, *POSITION)),
    base=UnitParts,
)


UnitRows = rows_of(
    UnitRow,
    columns=(list[ColumnFacts], Field(description="What units can be sorted and filtered by.")),
    protocol=(ProtocolFacts, Field(description="By which measure they are compared.")),
)


DistributionRow = row_model(
    "DistributionRow", "Tells how r is spread at one sparsity level.", DISTRIBUTION
)
Distribution = rows_of(
    DistributionRow,
    protocol=(ProtocolFacts, Field(description="By which measure they are compared.")),
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
    index = snapshot.index
    done = [unit for unit, commit in snapshot.commits.items() if commit.state == "done"]
    features = server.features.has(snapshot.layer.name)
    return LayerAnswer(
        **layer_facts(snapshot.overview, features=features).model_dump(),
        upstream=[
            ConvolutionFacts.model_validate({**vars(c), "kernels": c.size})
            for c in index.index.convolutions
        ],
        directions=list(index.direction_names),
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
    circuits = _circuits(server, query, query.at)
    facts = server.facts(snapshot)

    def render() -> Rows | Body:
        known = columns(server)
        table = filtered(
            listed_units(server, snapshot, facts, circuits),
            known,
            states=() if query.state is None else query.state.split(","),
            texts=texts,
            bounds=bounds,
        )
        table = in_order(table, known, by=query.sort, descending=query.order == "desc")
        part = table.slice(query.offset, query.rows)
        if query.form != "json":
            return to_file(part, query.form, name=f"{snapshot.index.layer}-units")
        return page(
            UnitRows,
            to_rows(part, server.atlas.header.fractions),
            total=table.num_rows,
            offset=query.offset,
            limit=query.rows,
            note=note(snapshot.missing, ()),
            columns=[ColumnFacts.of(column) for column in known],
            protocol=protocol_facts(server, circuits),
        )

    features = server.features.version
    problems = repr(sorted(facts.problems))
    version = digest(server.version, snapshot.version, problems, features)
    return AnswerSource(version, render)


@router.get("/layers/{layer}/distribution", response_model=Distribution)
def distribution(
    server: Server, layer: LayerName, query: Annotated[DistributionParameters, Query()]
) -> AnswerSource:
    """Tell how r is spread over the units that are done, and for how many each stored circuit is
    the smallest that reaches the threshold: what the charts of a layer are made of."""
    snapshot = server.snapshot(layer)
    circuits = _circuits(server, query)
    facts = server.facts(snapshot)

    def render() -> Rows | Body:
        table = layer_distribution(facts, snapshot, circuits)
        if query.form != "json":
            return to_file(table, query.form, name=f"{snapshot.index.layer}-distribution")
        return page(
            Distribution,
            table.to_pylist(),
            total=table.num_rows,
            limit=table.num_rows,
            note=note(snapshot.missing, facts.problems.values()),
            protocol=protocol_facts(server, circuits),
        )

    problems = repr(sorted(facts.problems))
    return AnswerSource(digest(server.version, snapshot.version, problems), render)


def _circuits(
    server: ServerState, query: MeasureParameters, at: float | None = None
) -> CircuitQuery:
    return circuit_query(server, query.criterion, query.ablation, query.split, query.threshold, at)


def protocol_facts(server: ServerState, query: CircuitQuery) -> ProtocolFacts:
    """Tell what units were compared by."""
    return ProtocolFacts(
        criterion=query.criterion,
        ablation=query.ablation,
        split=query.split,
        threshold=query.threshold,
        at=query.fraction,
        fractions=list(server.atlas.header.fractions),
    )
