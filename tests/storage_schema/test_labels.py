"""Labels of units: the last that a build brought count, and are checked when read."""

from __future__ import annotations

import pytest
from obstore.store import MemoryStore

from circuit_atlas.storage_schema import labels, layer_paths
from circuit_atlas.storage_schema.errors import CorruptError
from circuit_atlas.storage_schema.objects import Objects


@pytest.fixture
def objects() -> Objects:
    return Objects(MemoryStore(), location="memory:")


def paths(objects: Objects) -> list[str]:
    return sorted(entry.path for entry in objects.list(layer_paths.all_labels("a/b")))


def test_no_labels_are_no_error(objects: Objects) -> None:
    assert labels.read(objects, "a/b") == {}


def test_the_last_labels_count_and_the_same_are_stored_once(objects: Objects) -> None:
    for n in range(11):
        texts = {3: "tabby, tabby cat", 0: f"tench {n}"}
        labels.store(objects, "a/b", texts)
        labels.store(objects, "a/b", texts)
        assert labels.read(objects, "a/b") == texts
        assert len(paths(objects)) == n + 1
    assert labels.read(objects, "other") == {}


def test_altered_labels_are_found(objects: Objects) -> None:
    objects.put_if_absent(layer_paths.labels("a/b", 0), b'{"schema": 2, "labels": [[0, "cat"]]}')
    with pytest.raises(CorruptError, match="does not match the checksum"):
        labels.read(objects, "a/b")
