"""How much of its own images' responses a sub-feature's circuit preserves, and of the others'."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from circuit_atlas.service.analysis import arguments
from circuit_atlas.service.analysis.top_images import top_images
from circuit_atlas.storage_schema.commit import Commit
from circuit_atlas.storage_schema.errors import QueryError
from circuit_atlas.storage_schema.ranking import kernels_kept
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


def score_selectivity(
    reader: Reader, commit: Commit, members: Mapping[int, Sequence[int]], *, criterion: str | None
) -> pa.Table:
    """Compare what the circuits of any groups of top images hold of the images' scores, see
    `Unit.score_selectivity`."""
    if not isinstance(members, Mapping):
        raise QueryError(
            f"groups={members!r} are no groups of images: give ids by group, such as {{0: [8, 2]}}"
        )
    chosen = arguments.image_criterion(reader, criterion)
    scores = reader.image_scores(commit, chosen).astype(np.float64)
    scores = scores[:, ~np.isnan(scores).any(0)]
    ranked = top_images(reader, commit)["image"].to_pylist()
    fractions = reader.header.fractions
    counts = [kernels_kept(fraction, commit.kernels) for fraction in fractions]
    rows = []
    for group, given in members.items():
        images = [arguments.whole(image, what="image") for image in _some(given, group)]
        if unknown := [image for image in images if image not in ranked]:
            known = ", ".join(map(str, ranked))
            raise QueryError(
                f"image {unknown[0]} is none of the unit's top images: name some of {known}"
            )
        inside = np.isin(ranked, images)
        # Ties by position, as circuits are chosen.
        order = np.argsort(-scores[inside].mean(0), kind="stable")
        held = [_held(scores[side].sum(0)[order], counts) for side in (inside, ~inside)]
        for level, (fraction, own, others) in enumerate(zip(fractions, *held, strict=True)):
            rows.append(
                {
                    "group": group,
                    "level": level,
                    "fraction": fraction,
                    "kernels": counts[level],
                    "images": int(inside.sum()),
                    "others": int((~inside).sum()),
                    "preserved": own,
                    "leaked": others,
                    "selectivity": None if own is None or others is None else own - others,
                }
            )
    return pa.Table.from_pylist(rows, _SCORE_SCHEMA)


def _held(sums: NDArray[np.float64], counts: Sequence[int]) -> list[float | None]:
    """Share of the sum that the first `counts` hold; None where there is none."""
    whole = float(sums.sum())
    held = np.cumsum(sums)
    return [float(held[count - 1]) / whole if whole else None for count in counts]


_SCORE_SCHEMA = pa.schema(
    [
        pa.field("group", pa.int32(), nullable=False),
        pa.field("level", pa.int32(), nullable=False),
        pa.field("fraction", pa.float64(), nullable=False),
        pa.field("kernels", pa.int32(), nullable=False),
        pa.field("images", pa.int32(), nullable=False),
        pa.field("others", pa.int32(), nullable=False),
        pa.field("preserved", pa.float64()),
        pa.field("leaked", pa.float64()),
        pa.field("selectivity", pa.float64()),
    ]
)


def _shares(rows: pa.Table, *, inside: bool) -> pa.Table:
    """Images, and sum of |r of the circuit| over that of |r of the whole network|, null where the
    latter is 0, for each group and level."""
    side = rows.filter(pc.equal(rows["inside"], inside))
    sums = (
        side.select([*_KEYS, "image"])
        .append_column("circuit", pc.abs(side["response"]))
        .append_column("whole", pc.abs(side["response_full"]))
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


def _some(images: Sequence[int], group: object) -> list[int]:
    """The images of a group, one at least."""
    if isinstance(images, str) or not isinstance(images, Iterable):
        raise QueryError(f"the images of group {group} are {images!r}: give a list of ids")
    if not (found := list(images)):
        raise QueryError(f"group {group} has no images: name one at least")
    return found
