"""r of every compared circuit over images drawn anew, from stored sums of single images."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from circuit_atlas.service.circuit.display import size
from circuit_atlas.service.comparison.bootstrap import r_of_drawn_images
from circuit_atlas.service.comparison.query import ComparisonQuery
from circuit_atlas.storage_schema.commit import Commit
from circuit_atlas.storage_schema.reader import Reader

MOST_BYTES = 2**29
"""Of what is drawn, at most."""
_SUMS = ("positions", "circuit", "full", "circuit_squares", "full_squares", "products")


class ImageDraws:
    """Holds what was drawn of each split.

    Attributes:
        r: by split, (draws, criteria, units, levels); without the splits that cannot be drawn.
        notes: why some of it is not there, a line each.
    """

    def __init__(
        self, reader: Reader, commits: Mapping[int, Commit], query: ComparisonQuery
    ) -> None:
        """Read the sums of all units, and draw."""
        self.r: dict[str, NDArray[np.float32]] = {}
        self.notes: list[str] = []
        levels = len(reader.header.fractions)
        circuits = len(query.criteria) * levels
        size_bytes = 4 * query.draws * len(commits) * circuits * len(query.splits)
        if size_bytes > MOST_BYTES:
            self.notes.append(
                f"No interval over images: {len(commits)} units take {size(size_bytes)} of draws, "
                f"more than {size(MOST_BYTES)}; compare fewer units or criteria."
            )
            return
        drawn: dict[str, list[NDArray[np.float32]]] = {split: [] for split in query.splits}
        lacking = 0
        for commit in commits.values():
            rows = reader.image_sums(commit)
            if rows is None:
                lacking += 1
                continue
            if lacking:
                continue  # without all of them there is no interval
            for split in query.splits:
                sums = _sums(rows, query, split, levels)
                r = r_of_drawn_images(sums, draws=query.draws, seed=query.seed)
                drawn[split].append(r.reshape(query.draws, len(query.criteria), levels))
        if lacking:
            self.notes.append(
                f"No interval over images: {lacking} of {len(commits)} units were built without "
                "sums of single images; set image_sums = true under [run], and build into another "
                "store. The command compare asks for them where it builds a unit itself."
            )
            return
        images = reader.images(columns=["split"])["split"].to_pylist()
        for split, of_units in drawn.items():
            if images.count(split) < 2:
                self.notes.append(f"No interval over {split.replace('_', '-')} images: there is 1.")
            else:
                self.r[split] = np.stack(of_units, axis=2)


def _sums(rows: pa.Table, query: ComparisonQuery, split: str, levels: int) -> NDArray[np.float64]:
    """The sums of one unit over one split's images: (6, criteria x levels, images)."""
    chosen = pc.and_(
        pc.and_(pc.equal(rows["ablation"], query.ablation), pc.equal(rows["split"], split)),
        pc.is_in(rows["criterion"], pa.array(query.criteria)),
    )
    rows = rows.filter(chosen)
    criterion = pc.index_in(rows["criterion"], pa.array(query.criteria)).to_numpy()
    images, image = np.unique(rows["image"].to_numpy(), return_inverse=True)
    sums = np.zeros((len(_SUMS), len(query.criteria) * levels, len(images)))
    circuit = criterion * levels + rows["level"].to_numpy()
    for at, name in enumerate(_SUMS):
        sums[at, circuit, image] = rows[name].to_numpy()
    return sums
