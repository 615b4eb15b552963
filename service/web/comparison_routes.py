"""The criteria of a layer held against each other: what the page and its files are made of."""

from __future__ import annotations

from types import GenericAlias
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import Field

from circuit_atlas.service.comparison.comparison import compare
from circuit_atlas.service.comparison.query import ComparisonQuery
from circuit_atlas.service.web import limits
from circuit_atlas.service.web.answer_route import AnswerRoute
from circuit_atlas.service.web.errors import TooLargeError
from circuit_atlas.service.web.parameters import FormParameters, LayerName, Server
from circuit_atlas.service.web.responding import note
from circuit_atlas.service.web.responses import AnswerSource, Body, digest, to_file
from circuit_atlas.service.web.rows import Rows, page, row_model, rows_of
from circuit_atlas.storage_schema.comparison_columns import AREAS, COMPARISON, COST, PAIRS
from circuit_atlas.storage_schema.errors import QueryError

router = APIRouter(tags=["layers"], route_class=AnswerRoute)


def _rows(name: str, sentence: str, columns: Any, description: str) -> Any:
    """The field of a further table of an answer."""
    return GenericAlias(list, (row_model(name, sentence, columns),)), Field(description=description)


CriterionRow = row_model(
    "CriterionRow", "Tells what circuits of one size by one criterion preserve.", COMPARISON
)
CriterionRows = rows_of(
    CriterionRow,
    areas=_rows("AreaRow", "Tells it of all sizes together.", AREAS, "Over all fractions."),
    pairs=_rows("PairRow", "Holds two criteria against each other.", PAIRS, "Two by two."),
    costs=_rows("CostRow", "Tells what choosing kernels cost.", COST, "Of choosing kernels."),
    units=(int, Field(description="Units that are compared.")),
    ablation=(str, Field(description="What stood for a dropped kernel.")),
    remarks=(list[str], Field(description="What is missing, and what to do about it.")),
)


class ComparisonTableParameters(FormParameters):
    """Chooses what is compared, and the form of the answer."""

    ablation: str | None = Field(
        default=None,
        description="What stands for a dropped kernel; the atlas' first where not given.",
        max_length=limits.TEXT,
    )
    table: Literal["table", "areas", "pairs", "cost", "units"] = Field(
        default="table",
        description="Which table a file has; JSON has all of them but r of each unit.",
    )


@router.get("/layers/{layer}/comparison", response_model=CriterionRows)
def comparison(
    server: Server, layer: LayerName, query: Annotated[ComparisonTableParameters, Query()]
) -> AnswerSource:
    """Hold all criteria against each other, over the units of a layer that are done."""
    snapshot, reader = server.snapshot(layer), server.atlas.reader
    asked = ComparisonQuery.of(reader, ablation=query.ablation)
    facts = server.facts(snapshot)

    def render() -> Rows | Body:
        done = [unit for unit, commit in snapshot.commits.items() if commit.state == "done"]
        units = sorted(facts.units.intersection(done) - facts.problems.keys())
        if not units:
            raise QueryError(f"no unit of {snapshot.index.layer!r} has a circuit to compare")
        if len(units) > limits.COMPARED:
            raise TooLargeError(
                f"{len(units):,} units are more than this server compares ({limits.COMPARED:,}): "
                "ask from Python, by atlas.compare_criteria"
            )
        found = compare(
            reader,
            snapshot,
            asked,
            units=units,
            faithfulness=facts.faithfulness,
            over_images=len(units) <= limits.DETAILED,
        )
        if query.form != "json":
            name = f"{snapshot.index.layer}-comparison-{query.table}"
            return to_file(found.tables[query.table], query.form, name=name)
        return page(
            CriterionRows,
            found.table.to_pylist(),
            total=found.table.num_rows,
            limit=found.table.num_rows,
            note=note(snapshot.missing, facts.problems.values()),
            areas=found.areas.to_pylist(),
            pairs=found.pairs.to_pylist(),
            costs=found.cost.to_pylist(),
            units=len(units),
            ablation=asked.ablation,
            remarks=found.notes,
        )

    problems = repr(sorted(facts.problems))
    return AnswerSource(digest(server.version, snapshot.version, problems), render)
