"""Damaged atlases are put right, whoever builds or reads meanwhile; `python -m tests.repairs` tries
hundreds."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from circuit_atlas.service.web.app import create_app
from circuit_atlas.storage_schema.opening import open_store
from circuit_atlas.storage_schema.repair import repair
from tests.repairs.atlases import finish, spec
from tests.repairs.beside import trial_beside
from tests.repairs.conftest import Whole
from tests.repairs.trial import trial
from tests.service.stores import served

_ASKED = (
    "layers/2/units",
    "layers/2/units/3",
    "layers/2/units/3/similar?keep=0.5",
    "layers/2/uses?convolution=0&keep=0.5",
)
_OF_ATTEMPT = {"attempt", "compute_s", "criteria_s", "version", "etag"}
"""What tells one attempt at a unit from another."""


@pytest.mark.parametrize("seed", range(8))
def test_masks_and_tables_are_those_of_the_undisturbed_atlas(
    folder: Path, whole: Callable[[bool], Whole], tmp_path: Path, seed: int
) -> None:
    sampled = bool(seed % 2)
    outcome = trial(
        folder,
        whole(sampled).location,
        whole(sampled).content,
        sampled=sampled,
        seed=seed,
        scratch=tmp_path / "damaged",
    )
    assert outcome.whole == 0, "a unit was computed again whose own files were whole"


@pytest.mark.parametrize("seed", [101])
def test_so_they_are_where_repairs_run_beside_the_build(
    folder: Path, whole: Callable[[bool], Whole], tmp_path: Path, seed: int
) -> None:
    sampled = bool(seed % 2)
    outcome = trial_beside(
        folder,
        whole(sampled).location,
        whole(sampled).content,
        sampled=sampled,
        seed=seed,
        scratch=tmp_path / "damaged",
    )
    assert outcome.repairs, "none began in time"


@pytest.mark.parametrize(
    "pattern", ["layers/2/arrays.zarr/level/actgrad/c.3.*", "layers/2/sealed/2-*/masks.parquet"]
)
def test_a_server_sees_what_a_repair_and_a_build_leave(
    folder: Path, whole: Callable[[bool], Whole], tmp_path: Path, pattern: str
) -> None:
    """What it answers is right, or lacks the unit, or is an error."""
    atlas = tmp_path / "atlas"
    shutil.copytree(whole(True).location, atlas)
    (path,) = atlas.glob(pattern)
    with served(create_app(atlas)) as address, httpx.Client(base_url=f"{address}/api/v1/") as api:
        sound = answers(api)
        assert not any(isinstance(answer, int) for answer in sound.values()), sound
        path.write_bytes(path.read_bytes()[:-9])
        assert repair(open_store(atlas)).steps
        repaired = answers(api)
        finish(spec(folder, atlas, sampled=True))
        assert of_any_attempt(answers(api)) == of_any_attempt(sound)
    for asked, answer in repaired.items():
        if isinstance(answer, int) or answer == sound[asked]:
            continue
        if "rows" in answer:
            assert without_unit(answer) == without_unit(sound[asked])
        else:
            assert answer["state"] != "done"


def answers(api: httpx.Client) -> dict[str, Any]:
    """What the server says; the status where that is an error's."""
    found = {path: api.get(path) for path in _ASKED}
    assert {answer.status_code for answer in found.values()} <= {200, 404, 409, 500}
    return {
        path: answer.json() if answer.status_code == 200 else answer.status_code
        for path, answer in found.items()
    }


def of_any_attempt(found: Any) -> Any:
    """An answer without when and how often its units were computed."""
    if isinstance(found, dict):
        return {key: of_any_attempt(one) for key, one in found.items() if key not in _OF_ATTEMPT}
    return [of_any_attempt(one) for one in found] if isinstance(found, list) else found


def without_unit(answer: dict[str, Any]) -> list[Any]:
    """The rows of the other units."""
    return [row for row in answer["rows"] if row["unit"] != 3]
