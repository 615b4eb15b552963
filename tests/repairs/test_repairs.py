"""A dozen damaged atlases are put right; `python -m tests.repairs` tries hundreds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.repairs.beside import trial_beside
from tests.repairs.trial import Content, trial


@pytest.mark.parametrize("seed", range(12))
def test_masks_and_tables_are_those_of_the_undisturbed_atlas(
    folder: Path, expected: dict[bool, Content], tmp_path: Path, seed: int
) -> None:
    sampled = bool(seed % 2)
    outcome = trial(
        folder,
        folder / f"atlas-{sampled}",
        expected[sampled],
        sampled=sampled,
        seed=seed,
        scratch=tmp_path / "damaged",
    )
    assert outcome.whole == 0, "a unit was computed again whose own files were whole"


@pytest.mark.parametrize("seed", [100, 101])
def test_so_they_are_where_repairs_run_beside_the_build(
    folder: Path, expected: dict[bool, Content], tmp_path: Path, seed: int
) -> None:
    sampled = bool(seed % 2)
    outcome = trial_beside(
        folder,
        folder / f"atlas-{sampled}",
        expected[sampled],
        sampled=sampled,
        seed=seed,
        scratch=tmp_path / "damaged",
    )
    assert outcome.repairs, "none began in time"
