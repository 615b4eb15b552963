"""How polysemantic units are, by groups of their top images: P of
`storage_schema.polysemanticity`."""

from __future__ import annotations

from dataclasses import fields
from numbers import Real

import pyarrow as pa

from circuit_atlas.service.analysis import arguments
from circuit_atlas.service.analysis.groups import ImageGroups, stored_groups
from circuit_atlas.service.circuit.atlas_table import html_table
from circuit_atlas.storage_schema.commit import Commit
from circuit_atlas.storage_schema.errors import QueryError
from circuit_atlas.storage_schema.header import LayerIndex
from circuit_atlas.storage_schema.polysemanticity import Polysemanticity, polysemanticity
from circuit_atlas.storage_schema.reader import Reader


class UnitPolysemanticity(Polysemanticity):
    """Is P of a unit; in a notebook it shows with the groups that it was worked out of."""

    def __repr__(self) -> str:
        value = "undefined" if self.value is None else f"{self.value:.3f}"
        return (
            f"<Polysemanticity {value}: {len(self.within)} groups by {self.criterion}, circuits "
            f"that keep {self.keep:g}>"
        )

    def _repr_html_(self) -> str:
        return html_table(self.pairs, caption=repr(self)[1:-1])


def of_groups(
    reader: Reader, commit: Commit, groups: ImageGroups, *, keep: float
) -> UnitPolysemanticity:
    """Work out P of a unit and groups of its top images; QueryError unless 0 < keep < 1."""
    if not isinstance(keep, Real) or not 0 < float(keep) < 1:
        raise QueryError(
            f"keep={keep!r} leaves nothing to compare: give a fraction between 0 and 1, such as 0.1"
        )
    scores = reader.image_scores(commit, arguments.image_criterion(reader, groups.criterion))
    found = polysemanticity(scores, groups.labels, criterion=groups.criterion, keep=float(keep))
    return UnitPolysemanticity(**{f.name: getattr(found, f.name) for f in fields(found)})


def of_layer(reader: Reader, index: LayerIndex, *, criterion: str | None, keep: float) -> pa.Table:
    """Work out P of a layer's units by their stored groups, see `Layer.polysemanticity`."""
    chosen = arguments.image_criterion(reader, criterion)
    rows = []
    for number, commit in reader.commits(index.layer).items():
        if commit.state == "done":
            groups = stored_groups(reader, commit, criterion=chosen)
            rows.append(
                {
                    "unit": number,
                    "name": index.unit(number).name,
                    "groups": len(set(groups.labels)),
                    "silhouette": groups.silhouette,
                    "polysemanticity": of_groups(reader, commit, groups, keep=keep).value,
                }
            )
    return pa.Table.from_pylist(rows, _LAYER)


_LAYER = pa.schema(
    [
        pa.field("unit", pa.int32(), nullable=False),
        pa.field("name", pa.string(), nullable=False),
        pa.field("groups", pa.int16(), nullable=False),
        pa.field("silhouette", pa.float64()),
        pa.field("polysemanticity", pa.float64()),
    ]
)
