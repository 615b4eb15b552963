"""Criteria held against each other over the units of a layer: computed, and as a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as arrow_csv

from circuit_atlas.service.analysis.units import LayerStates
from circuit_atlas.service.comparison import tables
from circuit_atlas.service.comparison.findings import Findings, Subject
from circuit_atlas.service.comparison.image_draws import ImageDraws
from circuit_atlas.service.comparison.measures import COLUMNS, Measures, measures
from circuit_atlas.service.comparison.query import RANDOM, ComparisonQuery, compared_commits
from circuit_atlas.service.comparison.report import Report, Section
from circuit_atlas.service.comparison.sections import headline, method, sections, titled
from circuit_atlas.service.comparison.tables import Numbers
from circuit_atlas.storage_schema.errors import WriteError
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.segments import escape
from circuit_atlas.storage_schema.wording import in_words

NAME = "comparison"
"""Of the files of a report."""
_NOT_DRAWN = "No interval over images of so many units here: Python and the command line draw it."


@dataclass(frozen=True)
class Comparison(Findings):
    """Is what the circuits that several criteria choose preserve, over the units of a layer.

    `table`, `areas`, `pairs`, `cost` and `units` are Arrow tables; `notes` says what is missing.
    """

    def __repr__(self) -> str:
        subject = self.subject
        lines = [headline(self), *(f"note: {note}" for note in self.notes)]
        told = "".join(f"\n  {line}" for line in lines)
        units = f"{subject.units} unit{'' if subject.units == 1 else 's'}"
        return f"<Comparison of criteria over {units} of {subject.layer}{told}>"

    def to_html(self) -> str:
        """Return the report as one HTML file, which asks for nothing."""
        return report([self]).to_html()

    def to_markdown(self) -> str:
        """Return the report as Markdown; its charts are files that `save` writes."""
        return report([self]).to_markdown()

    def save(self, folder: str | Path) -> tuple[Path, ...]:
        """Write the report, its charts and its tables into a folder; return what was written.

        WriteError where that cannot be done.
        """
        return save([self], folder)


def compare(
    reader: Reader,
    states: LayerStates,
    query: ComparisonQuery,
    *,
    units: Sequence[int | str] | None = None,
    faithfulness: pa.Table | None = None,
    over_images: bool = True,
) -> Comparison:
    """Compare criteria over some units of a layer.

    Args:
        reader: of the atlas.
        states: of the layer's units.
        query: which criteria, and how.
        units: numbers, or names of directions. Default: all that are done.
        faithfulness: a table of at least these units, with the columns `unit` and `COLUMNS`, where
            it was read already.
        over_images: draw images anew too, for which a file a unit is read. Default: do.

    Raises:
        QueryError: no unit is done, or one of those that are asked for is not stored or dead.
    """
    index, commits = states.index, compared_commits(reader, states, units)
    if faithfulness is None:
        faithfulness = reader.table(index.layer, "faithfulness", columns=COLUMNS, commits=commits)
    header, compared = reader.header, tuple(commits)
    splits = reader.images(columns=["split"])["split"].to_pylist()
    found = measures(faithfulness, query, compared, header.fractions)
    draws = ImageDraws(reader, commits, query) if over_images else None
    numbers = Numbers(query, compared, header.fractions, found, {} if draws is None else draws.r)
    cost = tables.cost_table(query.criteria, commits)
    return Comparison(
        subject=Subject(
            model=header.model,
            layer=index.layer,
            explained=index.explained,
            ablation=query.ablation,
            connected=header.connected,
            criteria=query.criteria,
            images={split: splits.count(split) for split in query.splits},
            fractions=header.fractions,
            level=query.level,
            units=len(compared),
            draws=query.draws,
            seed=query.seed,
        ),
        table=tables.comparison_table(numbers),
        areas=tables.area_table(numbers),
        pairs=tables.pair_table(numbers),
        cost=cost,
        units=tables.unit_rows(numbers, index),
        notes=(
            *(_left_out(states) if units is None else ()),
            *_notes(query, found, cost),
            *([_NOT_DRAWN] if draws is None else draws.notes),
        ),
    )


def report(compared: Sequence[Comparison], *, further: Sequence[Section] = ()) -> Report:
    """Make the report of one or more layers, with further sections before how it is measured."""
    parts: list[Section] = []
    for one in compared:
        prefix = f"{one.subject.layer}: " if len(compared) > 1 else ""
        parts += sections(one, prefix=prefix)
    title = titled([one.subject.model for one in compared])
    return Report(title, [*parts, *further, method(compared[0].subject)])


def save(
    compared: Sequence[Comparison], folder: str | Path, *, further: Sequence[Section] = ()
) -> tuple[Path, ...]:
    """Write the report of some layers and all their tables into a folder, which is made where it is
    not there; return what was written. WriteError where that cannot be done."""
    into = Path(folder).expanduser()
    try:
        into.mkdir(parents=True, exist_ok=True)
        paths = list(report(compared, further=further).save(into, name=NAME))
        for one in compared:
            for name, table in one.tables.items():
                paths.append(into / f"{escape(one.subject.layer)}-{name}.csv")
                arrow_csv.write_csv(table, paths[-1])
    except OSError as error:
        raise WriteError(
            f"the report cannot be written to {str(into)!r}: {in_words(error)}; give another folder"
        ) from error
    return tuple(paths)


def _left_out(states: LayerStates) -> list[str]:
    """Which units that were asked for are not compared."""
    counts = states.counts()
    told = {
        "dead (the response never changes)": counts["dead"],
        "failed": counts["failed"],
        "not computed yet": counts["missing"],
    }
    parts = ", ".join(f"{count} {what}" for what, count in told.items() if count)
    return [f"Units left out: {parts}."] if parts else []


def _notes(query: ComparisonQuery, found: Measures, cost: pa.Table) -> list[str]:
    """What is missing, and what to do about it."""
    notes = []
    if RANDOM not in query.criteria:
        notes.append(
            'There is no random floor: add "random" to the criteria of [circuits], and build into '
            "another store."
        )
    if "held_out" not in query.splits:
        notes.append(
            "No image is held out: r is measured on the images that chose the kernels, and says "
            "nothing of others; set held_out under [images], and build into another store."
        )
    if found.r.shape[2] == 1:
        notes.append("One unit: no interval over units, and a median is its own r.")
    if found.r.shape[3] == 1:
        notes.append("One kept fraction: the area is r there.")
    if not any(cost["units"].to_pylist()):
        notes.append("These units were stored before the cost of each criterion was.")
    return notes
