"""How faithful a unit's circuits are by the fraction of kernels that they keep."""

from __future__ import annotations

from circuit_atlas.service.analysis import arguments
from circuit_atlas.storage_schema.commit import Commit
from circuit_atlas.storage_schema.reader import Reader


def faithfulness_curves(
    reader: Reader, commit: Commit, *, split: str | None = None, ablation: str | None = None
) -> dict[str, tuple[list[float], list[float]]]:
    """Return the fractions and Pearson r of the stored circuits of each criterion, by its name,
    without those whose r is undefined.

    Args:
        reader: of the atlas.
        commit: of the unit.
        split: of the images. Default: `held_out` where there are such.
        ablation: what stood for dropped kernels. Default: the atlas' first.

    Raises:
        QueryError: no such split or ablation.
    """
    on, by = arguments.split(reader, split), arguments.ablation(reader, ablation)
    curves: dict[str, tuple[list[float], list[float]]] = {}
    for row in reader.faithfulness(commit).to_pylist():
        if (row["split"], row["ablation"]) == (on, by) and row["pearson"] is not None:
            fractions, values = curves.setdefault(row["criterion"], ([], []))
            fractions.append(row["fraction"])
            values.append(row["pearson"])
    return curves
