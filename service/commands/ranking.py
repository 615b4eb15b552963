"""The units of a layer by how faithful their circuits are."""

from __future__ import annotations

import math
from dataclasses import dataclass

from circuit_atlas.service.client.atlas import Atlas, Layer
from circuit_atlas.storage_schema.errors import QueryError
from circuit_atlas.storage_schema.wording import nearest


@dataclass(frozen=True)
class Protocol:
    """Which of the stored faithfulness rows are compared.

    Attributes:
        criterion: the score that ranked the kernels.
        ablation: what stood for dropped kernels.
        split: `held_out`, or `scoring` where no image is held out.
        level: the sparsity level, an index of the header's fractions.
        fraction: the kept fraction of that level.
    """

    criterion: str
    ablation: str
    split: str
    level: int
    fraction: float


@dataclass(frozen=True)
class UnitScore:
    """One unit's faithfulness: the kernels its circuit keeps, and Pearson r or None where that
    is undefined."""

    unit: int
    kernels: int
    pearson: float | None

    @property
    def r(self) -> float:
        """Pearson r, undefined counted as 0."""
        return self.pearson or 0.0


def protocol(atlas: Atlas, *, keep: float, criterion: str | None = None) -> Protocol:
    """The atlas' first ablation, its first or the given criterion, its held-out images where it has
    any, and the stored fraction that is nearest to `keep` in ratio.

    QueryError for an unknown criterion or a fraction outside (0, 1].
    """
    header = atlas.header
    chosen = header.criteria[0] if criterion is None else criterion
    if chosen not in header.criteria:
        raise QueryError(
            f"the atlas has no criterion {chosen!r}: "
            + nearest(chosen, header.criteria, what="criteria")
        )
    if not 0 < keep <= 1:
        raise QueryError(f"keep={keep!r} is outside (0, 1]: give a fraction such as 0.1")
    level = min(
        range(len(header.fractions)), key=lambda r: abs(math.log(header.fractions[r] / keep))
    )
    held_out = "held_out" in atlas.images()["split"].to_pylist()
    split = "held_out" if held_out else "scoring"
    return Protocol(chosen, header.ablations[0], split, level, header.fractions[level])


def standings(layer: Layer, chosen: Protocol) -> tuple[UnitScore, ...]:
    """The layer's units that are done, the most faithful first, ties by number."""
    wanted = (chosen.criterion, chosen.ablation, chosen.split, chosen.level)
    found = [
        UnitScore(row["unit"], row["kernels"], row["pearson"])
        for row in layer.faithfulness()
        .select(["unit", "criterion", "ablation", "split", "level", "kernels", "pearson"])
        .to_pylist()
        if (row["criterion"], row["ablation"], row["split"], row["level"]) == wanted
    ]
    return tuple(sorted(found, key=lambda standing: (-standing.r, standing.unit)))
