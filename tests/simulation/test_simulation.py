"""The simulation in small: nothing is timed, and every unit is where it should be."""

from __future__ import annotations

from pathlib import Path

import pytest

from circuit_atlas.service.client.atlas_status import AtlasStatus
from circuit_atlas.storage_schema import layer_paths
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.opening import open_store
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.sealed import newest
from tests.simulation import figures
from tests.simulation.large_build import Size

SIZE = Size(100, per_layer=40, images=20, workers=10)


def test_units_of_lost_workers_are_done_by_others() -> None:
    found = figures.loop(Size(2000, images=0, workers=100), losses_an_hour=5.0)
    assert found["workers_lost"] > 20
    assert found["tasks"] >= 125


def test_an_atlas_is_built_resumed_planned_and_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "atlas"
    found = figures.build(store, SIZE)
    assert (found["done"] + found["dead"], found["failed"], found["lost"]) == (100, 0, 0)
    reader = Reader(store)
    status = AtlasStatus.read(reader)
    for row in status.layers.to_pylist():
        states = [commit.state for commit in reader.commits(row["layer"]).values()]
        assert row == {
            "layer": row["layer"],
            "planned": len(states),
            "done": states.count("done"),
            "dead": states.count("dead"),
            "failed": 0,
            "missing": 0,
        }
        assert newest(reader.objects, row["layer"])
    lacking = [(layer, 3) for layer in reader.layers()]
    open_store(store).delete([layer_paths.commit(*unit) for unit in lacking])
    read: list[str] = []
    get = Objects.get
    monkeypatch.setattr(Objects, "get", lambda self, path: read.append(path) or get(self, path))
    figures.resume(store, SIZE)
    figures.planned(store, SIZE)
    # Neither one by one nor as they were sealed.
    assert not [path for path in read if "/commits/" in path or "/sealed/" in path]
    figures.whole(store, SIZE)
    assert AtlasStatus.read(Reader(store)).layers["missing"].to_pylist() == [0, 0, 0]
