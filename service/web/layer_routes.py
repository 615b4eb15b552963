"""A layer: its facts, its units as rows, and how large their faithful circuits are."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from circuit_atlas.service.web import limits
from circuit_atlas.service.web.atlas_routes import LayerFacts, layer_facts
from circuit_atlas.service.web.digests import LayerDigests
from circuit_atlas.service.web.errors import responses
from circuit_atlas.service.web.layer_snapshot import LayerView
from circuit_atlas.service.web.questions import (
    Ablation,
    AtlasServed,
    Criterion,
    Form,
    LayerName,
    Pages,
    Split,
    Threshold,
)
from circuit_atlas.service.web.responding import note
from circuit_atlas.service.web.responses import AnswerSource, Rendered, digest, to_file, to_json
from circuit_atlas.service.web.rows import Progress, rows_of
from circuit_atlas.service.web.server_state import Served
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

router = APIRouter(tags=["layers"])
_NUMBER = re.compile(r"[+-]?(\d{1,20}(\.\d{0,20})?|\.\d{1,20})([eE][+-]?\d{1,3})?", re.ASCII)
_STATES = r"^(done|dead|failed|planned)(,(done|dead|failed|planned))*$"


class ConvolutionFacts(BaseModel):
    """One convolution on a layer's kernel axis."""

    name: str = Field(description="The module's path in the model.")
    out_channels: int
    in_channels: int = Field(description="Of one group.")
    groups: int
    kernel_size: tuple[int, int] = Field(description="Height and width.")
    depth: int = Field(description="Convolutions on the longest path from the image to it.")
    one_row: bool = Field(description="Each unit reaches one output channel of it alone.")
    kernels: int = Field(description="Kernels of it on the axis.")


class LayerAnswer(LayerFacts):
    """A layer, with its convolutions and directions."""

    upstream: list[ConvolutionFacts] = Field(description="The convolutions on its kernel axis.")
    directions: list[str] = Field(description="Names of its directions.")
    first_unit: int | None = Field(description="The first unit that is stored. Null: none is.")


class ProtocolFacts(BaseModel):
    """By which measure units are compared."""

    criterion: str
    ablation: str
    split: str
    threshold: float
    at: float = Field(description="Kept fraction of the circuits of the other measures.")
    fractions: list[float] = Field(description="The ladder, largest first: the order of `r`.")


class ColumnFacts(BaseModel):
    """A column to sort and filter by."""

    name: str
    type: Literal["number", "text", "state"] = Field(
        description="How it is filtered: by `min.` and `max.`, by `has.`, or by `state`."
    )
    sentence: str
    unit: str = Field(description="Of its values.")


class UnitRow(BaseModel):
    """A unit in a list."""

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
    """How far a list of units is."""

    measured: int = Field(
        description="Units whose polysemanticity is known, which comes after the facts of all. "
        "While fewer are than are stored, ask again."
    )

    def why(self) -> str | None:
        """Why the list is not whole yet, or None where it is."""
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
    """How large a unit's faithful circuit is."""

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


@router.get("/layers/{layer}", response_model=LayerAnswer, responses=responses())
async def layer_answer(request: Request, served: AtlasServed, layer: LayerName) -> Response:
    """A layer: how far it is, and the convolutions on its kernel axis."""

    def locate() -> AnswerSource:
        view = served.view(layer)
        version = digest(served.version, view.version, served.features.index().version)
        return AnswerSource(version, lambda: to_json(facts(view)))

    def facts(view: LayerView) -> LayerAnswer:
        index = view.layer.index
        done = [unit for unit, commit in view.commits.items() if commit.state == "done"]
        return LayerAnswer(
            **layer_facts(view, features=served.features.index().has(view.layer.name)).model_dump(),
            upstream=[
                ConvolutionFacts(
                    name=c.name,
                    out_channels=c.out_channels,
                    in_channels=c.in_channels,
                    groups=c.groups,
                    kernel_size=c.kernel_size,
                    depth=c.depth,
                    one_row=c.one_row,
                    kernels=c.size,
                )
                for c in index.index.convolutions
            ],
            directions=[info.name for info in index.units if info.direction is not None],
            first_unit=min(done, default=None),
        )

    return await served.answers.reply(request, locate)


@router.get(
    "/layers/{layer}/units",
    response_model=UnitRows,
    responses=responses(files=True),
    openapi_extra={"x-parameters": ["min.*", "max.*", "has.*"]},
)
async def units(
    request: Request,
    served: AtlasServed,
    layer: LayerName,
    paging: Pages,
    criterion: Criterion = None,
    ablation: Ablation = None,
    split: Split = None,
    threshold: Threshold = 0.9,
    at: Annotated[
        float | None,
        Query(
            description="Stored fraction of the circuits whose Spearman correlation, relative L1 "
            "and change at the maximum are told; the nearest to a tenth where not given.",
            gt=0,
            le=1,
        ),
    ] = None,
    sort: Annotated[
        str, Query(description="A column, see `columns`.", max_length=limits.TEXT)
    ] = "unit",
    order: Annotated[Literal["asc", "desc"], Query(description="Nulls are last in both.")] = "asc",
    state: Annotated[
        str | None,
        Query(description="Only these states, with commas.", pattern=_STATES, max_length=60),
    ] = None,
) -> Response:
    """The units of a layer, filtered, sorted, in pages.

    Besides the parameters listed, `min.COLUMN` and `max.COLUMN` bound any column of numbers, and
    `has.COLUMN` is what any column of texts has to hold, in capitals or not.
    """
    bounds, texts = _bounds(request), _texts(request)

    def locate() -> AnswerSource:
        view = served.view(layer)
        chosen = choose(served, criterion, ablation, split, threshold, at)
        digests = served.digests(view)
        version = digest(
            served.version, view.version, digests.version, served.features.index().version
        )
        return AnswerSource(version, lambda: render(view, digests, chosen))

    def render(view: LayerView, digests: LayerDigests, chosen: Chosen) -> Rendered:
        known = columns(served)
        fractions = digests.fractions
        # Before the rows are made: more may be read meanwhile, and less must not be told to be all.
        progress = UnitProgress(read=digests.read, measured=digests.measured, of=len(view.commits))
        progress.check(paging.form)
        index = served.features.index()
        name = view.layer.name

        def row_of(unit: int) -> dict[str, Any]:
            feature = index.first(name, unit)
            return unit_row(view, digests, unit, chosen, feature=feature, images=served.images)

        rows = [row_of(info.number) for info in view.units]
        rows = filtered(
            rows,
            known,
            fractions=fractions,
            states=() if state is None else state.split(","),
            texts=texts,
            bounds=bounds,
        )
        rows = in_order(rows, known, fractions=fractions, by=sort, descending=order == "desc")
        count = paging.rows
        part = rows[paging.offset : paging.offset + count]
        # A page comes with its pictures and circuits, though others are still being read.
        digests.read_some(row["unit"] for row in part[: served.limits.on_a_page])
        part = [row_of(row["unit"]) for row in part]
        if paging.form != "json":
            return to_file(to_table(part, fractions), paging.form, name=f"{name}-units")
        why = note(progress, view.missing)
        return to_json(
            UnitRows.model_validate(
                {
                    "total": len(rows),
                    "offset": paging.offset,
                    "limit": count,
                    "complete": why is None,
                    "note": why,
                    "columns": [vars(column) for column in known],
                    "protocol": protocol_facts(served, chosen),
                    "progress": progress,
                    "rows": part,
                }
            )
        )

    return await served.answers.reply(request, locate)


@router.get(
    "/layers/{layer}/distribution", response_model=Distribution, responses=responses(files=True)
)
async def distribution(
    request: Request,
    served: AtlasServed,
    layer: LayerName,
    criterion: Criterion = None,
    ablation: Ablation = None,
    split: Split = None,
    threshold: Threshold = 0.9,
    form: Form = "json",
) -> Response:
    """For every unit with circuits, the smallest that reaches the threshold, and r at each level:
    what histograms are made of."""

    def locate() -> AnswerSource:
        view = served.view(layer)
        chosen = choose(served, criterion, ablation, split, threshold)
        digests = served.digests(view)
        version = digest(served.version, view.version, digests.version)
        return AnswerSource(version, lambda: render(view, digests, chosen))

    def render(view: LayerView, digests: LayerDigests, chosen: Chosen) -> Rendered:
        progress = Progress(read=digests.read, of=len(view.commits))
        progress.check(form)
        every = (unit_row(view, digests, unit, chosen) for unit in sorted(view.commits))
        rows = [row for row in every if row["r"]]
        if form != "json":
            table = to_table(rows, digests.fractions, only=DistributionRow.model_fields)
            return to_file(table, form, name=f"{view.layer.name}-distribution")
        why = note(progress, view.missing)
        return to_json(
            Distribution.model_validate(
                {
                    "total": len(rows),
                    "offset": 0,
                    "limit": limits.LISTED,
                    "complete": why is None and len(rows) <= limits.LISTED,
                    "note": why,
                    "protocol": protocol_facts(served, chosen),
                    "progress": progress,
                    "rows": [
                        {name: row[name] for name in DistributionRow.model_fields}
                        for row in rows[: limits.LISTED]
                    ],
                }
            )
        )

    return await served.answers.reply(request, locate)


def protocol_facts(served: Served, chosen: Chosen) -> ProtocolFacts:
    """What units were compared by."""
    return ProtocolFacts(
        **vars(chosen.protocol),
        threshold=chosen.threshold,
        at=served.atlas.header.fractions[chosen.level],
        fractions=list(served.atlas.header.fractions),
    )


def _bounds(request: Request) -> list[tuple[str, str, float]]:
    """`min.COLUMN` and `max.COLUMN` of a query; QueryError where a value is no number."""
    found = []
    for name, text in request.query_params.multi_items():
        side, _, column = name.partition(".")
        if side not in ("min", "max"):
            continue
        if not _NUMBER.fullmatch(text):
            raise QueryError(f"{name[: limits.TEXT]}={text[:40]!r} is no number")
        value = float(text)
        if not math.isfinite(value):
            raise QueryError(f"{name[: limits.TEXT]}={text[:40]!r} is no finite number")
        found.append((side, column[: limits.TEXT], value))
    return found


def _texts(request: Request) -> list[tuple[str, str]]:
    """`has.COLUMN` of a query; QueryError where a text is too long."""
    found = []
    for name, text in request.query_params.multi_items():
        start, _, column = name.partition(".")
        if start != "has":
            continue
        if len(text) > limits.TEXT:
            raise QueryError(
                f"{name[: limits.TEXT]} has {len(text)} characters: at most {limits.TEXT} are taken"
            )
        found.append((column[: limits.TEXT], text))
    return found
