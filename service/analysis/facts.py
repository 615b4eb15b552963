"""What is stored of a layer's units, read once and kept as tables that grow unit after unit.

All that is told over a layer is worked out of these: the summary of its units, the smallest
faithful circuits, how r is spread, and which units respond to an image.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from circuit_atlas.storage_schema import unit_tables
from circuit_atlas.storage_schema.circuit_columns import ACTING
from circuit_atlas.storage_schema.columns import UNIT, schema_of
from circuit_atlas.storage_schema.commit import Commit
from circuit_atlas.storage_schema.errors import CorruptError
from circuit_atlas.storage_schema.header import LayerIndex
from circuit_atlas.storage_schema.layer_columns import TOP_IMAGE
from circuit_atlas.storage_schema.measures import AUC, MEASURES, PEARSON_IMAGES
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.sealed import POLYSEMANTICITY
from circuit_atlas.storage_schema.version import NETWORK_SINCE

_ROWS = 2**20  # of responses, which are read together
_TOP = tuple(column.name for column in TOP_IMAGE)
_FAITHFULNESS = (
    "criterion",
    "ablation",
    "split",
    "level",
    "kernels",
    ACTING.name,
    *(column.name for column in MEASURES),
    PEARSON_IMAGES.name,
    *(column.name for column in AUC),
)
_GROUPS = ("criterion", "groups", "silhouette")
_EMPTY = {
    "faithfulness": schema_of([UNIT, *unit_tables.FAITHFULNESS.columns]).empty_table(),
    "groups": schema_of([UNIT, *unit_tables.GROUPS.columns]).empty_table(),
    "responses": schema_of([UNIT, *unit_tables.RESPONSES.columns]).empty_table(),
    "polysemanticity": schema_of([UNIT, *POLYSEMANTICITY.columns]).empty_table(),
}


@dataclass(frozen=True)
class UnitBlock:
    """Holds the facts of some units.

    Attributes:
        faithfulness: unit, criterion, ablation, split, level, kernels, acting and the measures.
        top: unit and `TOP_IMAGE`, a row for each unit that has a top image.
        groups: unit, criterion, groups and silhouette, a row for each unit and criterion; without
            rows in an atlas that is too old to have groups.
        polysemanticity: unit, criterion and polysemanticity, a row for each unit that is done and
            sealed and each criterion with scores of single images.
        responses: response to each image, NaN where there is none, by unit; empty where responses
            are not kept. Shape of each: (images,).
    """

    faithfulness: pa.Table
    top: pa.Table
    groups: pa.Table
    polysemanticity: pa.Table
    responses: dict[int, NDArray[np.float64]]


class LayerFacts:
    """Holds the facts of a layer's units, as far as they are read.

    One thread may read while others ask.

    Attributes:
        index: the layer's units and kernel axis.
        commits: of the units that are read, or cannot be.
        problems: why a unit could not be read, by unit; it has no facts then.
    """

    def __init__(self, reader: Reader, index: LayerIndex, *, images: int | None = None) -> None:
        """Nothing is read yet.

        Args:
            reader: of the atlas.
            index: of the layer.
            images: of the atlas, where responses to all of them are to be kept. Default: only those
                to each unit's top image are.
        """
        self.reader = reader
        self.index = index
        self.commits: dict[int, Commit] = {}
        self.problems: dict[int, str] = {}
        self._images = images
        self._responses: dict[int, NDArray[np.float64]] = {}
        self._tables = UnitBlock(
            _EMPTY["faithfulness"].select(["unit", *_FAITHFULNESS]),
            _EMPTY["responses"].select(["unit", *_TOP]),
            _EMPTY["groups"].select(["unit", *_GROUPS]),
            _EMPTY["polysemanticity"],
            self._responses,
        )

    @property
    def units(self) -> frozenset[int]:
        """Give the numbers of the units that are read, or cannot be."""
        return frozenset(self.commits)

    @property
    def faithfulness(self) -> pa.Table:
        """Give those rows of all units that are read, as of `UnitBlock`."""
        return self._tables.faithfulness

    @property
    def top(self) -> pa.Table:
        """Give those rows of all units that are read, as of `UnitBlock`."""
        return self._tables.top

    @property
    def groups(self) -> pa.Table:
        """Give those rows of all units that are read, as of `UnitBlock`."""
        return self._tables.groups

    @property
    def polysemanticity(self) -> pa.Table:
        """Give those rows of all units that are read, as of `UnitBlock`: of those that were sealed
        when they were read."""
        return self._tables.polysemanticity

    def responses(self, units: Iterable[int]) -> tuple[list[int], NDArray[np.float64]]:
        """Return those of some units that are read, and their responses. Shape: (units, images)."""
        known = [unit for unit in units if unit in self._responses]
        rows = [self._responses[unit] for unit in known]
        return known, np.stack(rows) if rows else np.empty((0, self._images or 0))

    def read(self, commits: Mapping[int, Commit]) -> None:
        """Read those of some stored units that are not read yet; CorruptError for an altered one.

        A million responses at a time, of which there are as many as units times images.
        """
        new = sorted(commits.keys() - self.commits.keys())
        images = self.reader.images(columns=["id"]).num_rows
        size = max(1, _ROWS // max(1, images))
        for at in range(0, len(new), size):
            self._add({unit: commits[unit] for unit in new[at : at + size]})

    def read_each(self, commits: Mapping[int, Commit]) -> None:
        """Do the same, but put an altered unit into `problems`, so that it keeps none of the others
        from being read."""
        new = sorted(commits.keys() - self.commits.keys())
        try:
            self.read(commits)
        except CorruptError as error:
            if len(new) == 1:
                self.problems[new[0]] = " ".join(str(error).split())
                self.commits = {**self.commits, new[0]: commits[new[0]]}
                return
            # Halved again and again, a thousand units with an altered one take twenty reads.
            for half in (new[: len(new) // 2], new[len(new) // 2 :]):
                self.read_each({unit: commits[unit] for unit in half})

    def _block(self, commits: Mapping[int, Commit]) -> UnitBlock:
        """Read some units, a few requests for all of them together."""
        name, some = self.index.layer, set(commits)
        table = partial(self.reader.table, name, commits=commits)
        measured = table("responses", columns=[*_TOP, "rank"])
        stored = set(pc.unique(measured["unit"]).to_pylist())
        if stored != some:
            missing = min(some - stored)
            raise CorruptError(f"unit {missing} of {name} has no responses any more")
        first = measured.filter(pc.equal(measured["rank"], 0))
        groups = _EMPTY["groups"].select(["unit", *_GROUPS])
        if self.reader.header.schema >= NETWORK_SINCE:
            groups = _a_row_a_criterion(table("groups", columns=_GROUPS))
        return UnitBlock(
            table("faithfulness", columns=_FAITHFULNESS),
            first.drop_columns(["rank"]),
            groups,
            self.reader.polysemanticity(name, commits),
            {} if self._images is None else _by_unit(measured, self._images),
        )

    def _add(self, commits: Mapping[int, Commit]) -> None:
        new = self._block(commits)
        blocks = [self._tables, new]
        self._responses.update(new.responses)
        self._tables = UnitBlock(
            pa.concat_tables([block.faithfulness for block in blocks]).combine_chunks(),
            pa.concat_tables([block.top for block in blocks]).combine_chunks(),
            pa.concat_tables([block.groups for block in blocks]).combine_chunks(),
            pa.concat_tables([block.polysemanticity for block in blocks]).combine_chunks(),
            self._responses,
        )
        self.commits = {**self.commits, **commits}  # last: only now do they count


def response_matrix(responses: pa.Table, images: int) -> tuple[list[int], NDArray[np.float64]]:
    """Return the units of some rows of responses, ascending, and their response to each image, NaN
    where there is none. Shape: (units, images)."""
    units, row = np.unique(responses["unit"].to_numpy(), return_inverse=True)
    matrix = np.full((len(units), images), np.nan)
    matrix[row, responses["image"].to_numpy()] = responses["response"].to_numpy()
    return [int(unit) for unit in units], matrix


def _by_unit(responses: pa.Table, images: int) -> dict[int, NDArray[np.float64]]:
    units, matrix = response_matrix(responses, images)
    return dict(zip(units, matrix, strict=True))


def _a_row_a_criterion(groups: pa.Table) -> pa.Table:
    """How many groups each unit has and their silhouette, by criterion: the same in all rows."""
    counts = groups.group_by(["unit", "criterion"], use_threads=False).aggregate(
        [(name, "max") for name in _GROUPS[1:]]
    )
    return counts.rename_columns(["unit", *_GROUPS]).cast(
        _EMPTY["groups"].select(["unit", *_GROUPS]).schema
    )
