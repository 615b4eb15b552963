"""Works out the rows of `sealed.POLYSEMANTICITY`: P of each unit by its stored groups.

Some milliseconds a unit, as it takes the scores of every top image: too long for a question over a
layer, so it is done once, when the layer is sealed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor

import pyarrow as pa
import pyarrow.compute as pc

from circuit_atlas.storage_schema import fragments
from circuit_atlas.storage_schema.commit import Commit
from circuit_atlas.storage_schema.grouping import labels_of
from circuit_atlas.storage_schema.header import AtlasHeader, LayerIndex
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.polysemanticity import polysemanticity
from circuit_atlas.storage_schema.ranking import KEEP
from circuit_atlas.storage_schema.sealed import POLYSEMANTICITY
from circuit_atlas.storage_schema.unit_arrays import UnitArrays
from circuit_atlas.storage_schema.unit_tables import GROUPS, RESPONSES

_UNITS_AT_ONCE = 32


def of_units(
    objects: Objects,
    header: AtlasHeader,
    index: LayerIndex,
    commits: Sequence[Commit],
    pool: Executor,
) -> Iterator[tuple[int, pa.Table]]:
    """Give unit and rows of some units that are done, in their order.

    Args:
        objects: the store.
        header: of an atlas that is new enough for groups.
        index: the layer.
        commits: of the units.
        pool: its threads work out a unit each, whose scores they hold.

    CorruptError where something stored is missing, cut or altered.
    """
    stored = UnitArrays(objects, header)

    def rows(commit: Commit, groups: pa.Table, responses: pa.Table) -> pa.Table:
        return _rows(stored, header, index, commit, groups, responses)

    for at in range(0, len(commits), _UNITS_AT_ONCE):
        some = commits[at : at + _UNITS_AT_ONCE]
        groups = fragments.read(objects, some, GROUPS, columns=["criterion", "image", "group"])
        responses = fragments.read(objects, some, RESPONSES, columns=["image", "rank"])
        tables = pool.map(rows, some, groups, responses)
        yield from zip((commit.unit for commit in some), tables, strict=True)


def _rows(
    stored: UnitArrays,
    header: AtlasHeader,
    index: LayerIndex,
    commit: Commit,
    groups: pa.Table,
    responses: pa.Table,
) -> pa.Table:
    """One unit's rows, a row a criterion."""
    top = responses.filter(pc.is_valid(responses["rank"])).sort_by("rank")["image"].to_pylist()
    values = []
    for criterion in header.image_criteria:
        of_criterion = groups.filter(pc.equal(groups["criterion"], criterion))
        scores = stored.image_scores(index, commit, criterion)
        labels = labels_of(of_criterion, top, what=str(commit.key))
        values.append(polysemanticity(scores, labels, criterion=criterion, keep=KEEP).value)
    return POLYSEMANTICITY.from_columns(
        {"criterion": header.image_criteria, "polysemanticity": values}
    )
