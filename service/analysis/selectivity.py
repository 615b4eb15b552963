"""How much of its own images' responses a sub-feature's circuit preserves, and of the others'."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from circuit_atlas.service.analysis import arguments
from circuit_atlas.storage_schema.commit import Commit
from circuit_atlas.storage_schema.reader import Reader

_KEYS = ["group", "level", "fraction", "kernels"]


def selectivity(
    reader: Reader, commit: Commit, *, criterion: str | None, ablation: str | None
) -> pa.Table:
    """Compare what each group's circuit preserves and leaks, see `Unit.selectivity`."""
    chosen = arguments.group_criterion(reader, criterion)
    dropped = arguments.ablation(reader, ablation)
    rows = reader.selectivity(commit)
    rows = rows.filter(
        pc.and_(pc.equal(rows["criterion"], chosen), pc.equal(rows["ablation"], dropped))
    )
    inside, outside = _shares(rows, inside=True), _shares(rows, inside=False)
    # A group that holds every image has no others: its rows stay, without a share of theirs.
    both = inside.join(outside, keys=_KEYS, right_suffix=" of others", use_threads=False)
    both = both.sort_by([("group", "ascending"), ("level", "ascending")]).combine_chunks()
    preserved, leaked = both["share"], both["share of others"]
    count = [(column, both[column]) for column in _KEYS]
    return pa.table(
        {
            **dict(count),
            "images": both["images"],
            "others": pc.fill_null(both["images of others"], 0),
            "preserved": preserved,
            "leaked": leaked,
            "selectivity": pc.subtract(preserved, leaked),
        }
    )


def _shares(rows: pa.Table, *, inside: bool) -> pa.Table:
    """Images, and sum of |r of the circuit| over that of |r of the whole network|, null where the
    latter is 0, for each group and level."""
    side = rows.filter(pc.equal(rows["inside"], inside))
    sums = (
        side.select([*_KEYS, "image"])
        .append_column("circuit", pc.abs(side["response"]))
        .append_column("whole", pc.abs(side["full"]))
        .group_by(_KEYS, use_threads=False)
        .aggregate([("image", "count"), ("circuit", "sum"), ("whole", "sum")])
    )
    whole = sums["whole_sum"]
    share = pc.divide(sums["circuit_sum"], pc.if_else(pc.greater(whole, 0), whole, None))
    return (
        sums.select(_KEYS)
        .append_column("images", pc.cast(sums["image_count"], pa.int32()))
        .append_column("share", share)
    )
