"""Old generations and remains are deleted, the newest whole one never, whenever it is cut off."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from circuit_atlas.storage_schema import layer_paths, network, sealed
from circuit_atlas.storage_schema.compaction import compact
from circuit_atlas.storage_schema.errors import WriteError
from circuit_atlas.storage_schema.http_objects import HttpObjects
from circuit_atlas.storage_schema.old_generations import delete_old, old_generations
from circuit_atlas.storage_schema.opening import open_store
from circuit_atlas.storage_schema.verify import verify
from circuit_atlas.storage_schema.writer import Writer
from tests.storage_schema.sealing import (
    LAYER,
    UNITS,
    KilledError,
    Mortal,
    Unsealed,
    everything,
    widened,
)


@pytest.fixture
def seal(header, layer):
    return lambda objects: compact(objects, header, widened(layer), anew=True)


@pytest.fixture
def sealed_twice(tmp_path, lay_out, header, layer, record, network_record, seal):
    """Two whole generations, and between them what is left of one that was cut off."""
    objects, wide = open_store(tmp_path / "wide", create=True), widened(layer)
    lay_out(objects, layers=[wide])
    network.store(objects, wide, network_record)
    for unit in range(UNITS):
        Writer(objects, header, wide).commit(record(unit))
    seal(objects)
    with pytest.raises(KilledError):
        seal(Mortal(objects, at=4, after=True))
    seal(objects)
    return objects


def names(objects):
    return [(g.number, g.whole) for g in sealed.generations(objects, LAYER)]


def test_all_but_the_newest_whole_one_go(sealed_twice):
    assert names(sealed_twice) == [(1, True), (2, False), (3, True)]
    before = everything(Unsealed(sealed_twice))
    deleted = list(delete_old(sealed_twice, LAYER, older_than_s=0))
    assert [(old.whole, len(old.files), due) for old, due in deleted] == [
        (True, 9, True),
        (False, 4, True),
    ]
    assert names(sealed_twice) == [(3, True)]
    assert everything(sealed_twice) == before
    assert verify(sealed_twice) == ()
    assert list(delete_old(sealed_twice, LAYER, older_than_s=0)) == []
    folders = Path(sealed_twice.location, layer_paths.sealed(LAYER)).iterdir()
    assert len(list(folders)) == 1


def test_young_ones_are_kept_for_those_who_read_or_write_them(sealed_twice):
    now_s = time.time()
    kept = list(delete_old(sealed_twice, LAYER, now_s=now_s))
    assert [due for _, due in kept] == [False, False]
    # An old generation is as old as the newer one that readers take: not as its own files.
    first, newest = (g.files[0].path for g in sealed.generations(sealed_twice, LAYER)[::2])
    ages = [old.age_s for old in old_generations(sealed_twice, LAYER, now_s=now_s + 5000)]
    assert all(5000 <= age < 5600 for age in ages)
    for path, hours in ((first, 30), (newest, 1)):
        file = Path(sealed_twice.location, path).parent / "manifest.json"
        past = now_s - hours * 3600
        os.utime(file, (past, past))
    whole, _ = old_generations(sealed_twice, LAYER, now_s=now_s)
    assert whole.age_s == pytest.approx(3600, abs=1)
    deleted = list(delete_old(sealed_twice, LAYER, older_than_s=3500, now_s=now_s))
    assert [due for _, due in deleted] == [True, False]
    assert names(sealed_twice) == [(2, False), (3, True)]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("deletion", [1, 2, 9, 10, 13])
def test_cut_off_anywhere_it_leaves_the_same_atlas(sealed_twice, deletion, after):
    before = everything(Unsealed(sealed_twice))
    with pytest.raises(KilledError):
        list(delete_old(Mortal(sealed_twice, at=deletion, after=after), LAYER, older_than_s=0))
    assert everything(sealed_twice) == before
    assert {finding.kind for finding in verify(sealed_twice)} <= {"unreferenced"}
    list(delete_old(sealed_twice, LAYER, older_than_s=0))
    assert names(sealed_twice) == [(3, True)]
    assert everything(sealed_twice) == before


def test_remains_alone_go_and_a_layer_without_any_is_no_error(sealed_twice):
    for generation in sealed.generations(sealed_twice, LAYER):
        sealed_twice.delete([layer_paths.manifest(LAYER, generation.name)])
    assert len(list(delete_old(sealed_twice, LAYER, older_than_s=0))) == 3
    assert names(sealed_twice) == []
    assert list(delete_old(sealed_twice, "other", older_than_s=0)) == []


def test_a_served_atlas_refuses():
    with pytest.raises(WriteError, match="a served atlas is read-only"):
        HttpObjects("http://127.0.0.1:1").delete(["x"])
