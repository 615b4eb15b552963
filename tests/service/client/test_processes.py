"""One atlas read by pools of processes, by many threads, and inside an event loop."""

from __future__ import annotations

import asyncio
import multiprocessing
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from multiprocessing.pool import Pool
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch.utils.data import DataLoader, Dataset

from circuit_atlas.service import Atlas
from circuit_atlas.storage_schema.errors import StoreError
from circuit_atlas.storage_schema.opening import open_store
from tests.patience import PATIENCE_S, until
from tests.service.stores import object_store

# Python 3.12 warns of every fork of a process that has threads, as any has that read an atlas.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
UNITS = ("conv2", 0), ("conv2", 1), ("conv3", 0), ("conv3", 1), ("conv3", 2)
_opened: dict[str, Atlas] = {}
_hanging = multiprocessing.get_context("fork").Event()


def facts(atlas: Atlas, layer: str, number: int) -> tuple[Any, ...]:
    """What takes every way of reading: listings, documents, chunks, tables and pixels."""
    unit = atlas.layer(layer).unit(number)
    circuit = unit.circuit(keep=0.5)
    return (
        atlas.layers,
        atlas.status().to_pylist(),
        circuit.ids.tolist(),
        unit.faithfulness().to_pylist(),
        unit.top_images().to_pylist(),
        atlas.images().num_rows,
    )


def facts_here(unit: tuple[str, int]) -> tuple[Any, ...]:
    """The same of the atlas that the parent opened."""
    return facts(_opened["atlas"], *unit)


def facts_anew(location: str) -> tuple[Any, ...]:
    return facts(Atlas.open(location), *UNITS[0])


@pytest.fixture
def opened(location: Path) -> Iterator[Atlas]:
    """An atlas that this process has read from."""
    _opened["atlas"] = Atlas.open(location)
    facts_here(UNITS[-1])
    yield _opened["atlas"]
    _opened.clear()


@pytest.fixture
def pool() -> Iterator[Callable[[], Pool]]:
    """Makes a pool of processes that are forked when it is called."""
    pools: list[Pool] = []
    others = set(multiprocessing.active_children())

    def make() -> Pool:
        pools.append(multiprocessing.get_context("fork").Pool(2))
        return pools[-1]

    yield make
    end(pools, within_s=PATIENCE_S, others=others)


def end(pools: list[Pool], *, within_s: float, others: set[BaseProcess]) -> None:
    """Ends pools, by force and as a failure where they do not end by themselves."""

    def ask() -> None:
        for each in pools:
            each.terminate()
            each.join()

    # A pool waits without an end for what hangs in it.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(within_s)
    if asking.is_alive():
        for process in set(multiprocessing.active_children()) - others:
            process.kill()
        pytest.fail(f"a pool of processes has not ended within {within_s} s")


def ignore_the_end() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _hanging.set()
    time.sleep(PATIENCE_S)


def test_a_pool_that_hangs_is_ended_by_force():
    others = set(multiprocessing.active_children())
    hanging = multiprocessing.get_context("fork").Pool(1)
    hanging.apply_async(ignore_the_end)
    until(lambda: _hanging.is_set(), "the pool's process to hang")
    with pytest.raises(pytest.fail.Exception, match=r"has not ended within 0\.2 s"):
        end([hanging], within_s=0.2, others=others)
    until(
        lambda: set(multiprocessing.active_children()) <= others, "the pool's process to be killed"
    )


def test_a_pool_reads_a_folder_that_was_read_before(opened, pool):
    right = [facts(opened, *unit) for unit in UNITS]
    assert pool().map_async(facts_here, UNITS).get(PATIENCE_S) == right


def test_a_pool_opens_a_folder_anew(opened, pool):
    found = pool().apply_async(facts_anew, (opened.location,)).get(PATIENCE_S)
    assert found == facts(opened, *UNITS[0])


class Masks(Dataset):
    """Circuits by index, as somebody trains on them."""

    def __init__(self, atlas: Atlas) -> None:
        self.atlas = atlas

    def __len__(self) -> int:
        return len(UNITS)

    def __getitem__(self, at: int) -> Any:
        layer, number = UNITS[at]
        return self.atlas.layer(layer).unit(number).circuit(keep=0.5).ids.copy()


def test_a_data_loaders_workers_read_a_folder(opened):
    data = Masks(opened)
    right = [data[at] for at in range(len(data))]
    loader = DataLoader(
        data, batch_size=None, num_workers=2, timeout=PATIENCE_S, multiprocessing_context="fork"
    )
    for found, wanted in zip(loader, right, strict=True):
        np.testing.assert_array_equal(np.asarray(found), wanted)


def test_a_pool_reads_an_address_that_was_read_before(address, pool):
    _opened["atlas"] = atlas = Atlas.open(address)
    right = [facts(atlas, *unit) for unit in UNITS]
    try:
        # All at once, with what the parent asks: an answer that comes to another is seen.
        asked = [pool().map_async(facts_here, UNITS * 2), pool().map_async(facts_here, UNITS)]
        assert [facts(atlas, *unit) for unit in UNITS] == right
        assert [each.get(PATIENCE_S) for each in asked] == [right * 2, right]
        assert pool().apply_async(facts_anew, (address,)).get(PATIENCE_S) == right[0]
    finally:
        _opened.clear()


def test_a_bucket_is_an_error_at_once_that_says_what_to_do(tmp_path, pool):
    with object_store(tmp_path / "log") as environment, pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        bucket = open_store("s3://bucket")
        bucket.put("atlas.json", b"")
        for ask in (bucket.list, partial(open_there, "s3://bucket")):
            with pytest.raises(StoreError, match=r"forked .* start processes by spawn"):
                pool().apply_async(ask).get(PATIENCE_S)


def open_there(location: str) -> None:
    open_store(location).list()


def put(location: str) -> None:
    open_store(location).put("stray", b"")


def test_a_process_that_was_forked_writes_nothing(opened, pool):
    with pytest.raises(StoreError, match="writes nothing"):
        pool().apply_async(put, (opened.location,)).get(PATIENCE_S)
    assert not Path(opened.location, "stray").exists()


def test_an_atlas_goes_to_a_process_that_is_spawned(opened):
    again = pickle.loads(pickle.dumps(opened))
    assert facts(again, *UNITS[0]) == facts(opened, *UNITS[0])


def test_many_threads_read_one_atlas(location):
    right = [facts(Atlas.open(location), *unit) for unit in UNITS]
    atlas, start = Atlas.open(location), threading.Barrier(len(UNITS) * 2)

    def read(unit: tuple[str, int]) -> tuple[Any, ...]:
        start.wait()
        return facts(atlas, *unit)

    with ThreadPoolExecutor(start.parties) as threads:
        assert list(threads.map(read, UNITS * 2)) == right * 2


def test_an_atlas_is_read_inside_an_event_loop(atlas):
    async def read() -> tuple[Any, ...]:
        return facts(atlas, *UNITS[0])

    assert asyncio.run(read()) == facts(atlas, *UNITS[0])
