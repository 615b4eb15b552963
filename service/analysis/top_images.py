"""The images that a unit responds to most."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from circuit_atlas.storage_schema.commit import Commit
from circuit_atlas.storage_schema.reader import Reader


def top_images(reader: Reader, commit: Commit) -> pa.Table:
    """List a unit's top images by rank, with their names and labels, see `Unit.top_images`."""
    responses = reader.responses(commit)
    top = responses.filter(pc.is_valid(responses["rank"])).sort_by("rank")
    images = reader.images(columns=["id", "name", "label"])
    row = pc.index_in(top["image"], images["id"].combine_chunks())
    measured = top.drop_columns(["rank", "image", "split"])
    return pa.table(
        {
            "rank": top["rank"],
            "image": top["image"],
            "name": images["name"].take(row),
            "label": images["label"].take(row),
            **dict(zip(measured.column_names, measured.columns, strict=True)),
        }
    )
