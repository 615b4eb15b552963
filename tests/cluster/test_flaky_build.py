"""Builds on a store that misbehaves: whole, right, and told of; and on a disk that does."""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import obstore
import pytest

from circuit_atlas.cluster.executor import Event, Planned, TaskDone, TaskStarted
from circuit_atlas.cluster.local_executor import LocalExecutor
from circuit_atlas.cluster.run import Summary, build
from circuit_atlas.jobs.spec.build_spec import BuildSpec
from circuit_atlas.storage_schema import attempts, layer_paths, patience
from circuit_atlas.storage_schema.errors import StoreError, WriteError
from circuit_atlas.storage_schema.opening import open_store
from circuit_atlas.storage_schema.patience import Outage
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.verify import verify
from tests import flaky_store as flaky
from tests.flaky_store import FAULTS, Faults, FlakyStore, flaky_store
from tests.patience import PATIENCE_S

MODEL = """
import torch
from torch import nn

def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 8, 3, padding=1), nn.ReLU()
    )
"""
UNITS = 11


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network, and images of noise."""
    folder = tmp_path_factory.mktemp("flaky")
    (folder / "flaky_models.py").write_text(MODEL)
    rng = np.random.default_rng(0)
    np.save(folder / "images.npy", rng.normal(size=(8, 3, 6, 6)).astype(np.float32))
    return folder


@pytest.fixture(autouse=True)
def importable(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(folder)


@pytest.fixture
def store() -> Iterator[FlakyStore]:
    with flaky_store(seed=0) as started, started.environment():
        yield started


def spec(folder: Path, store: str | Path, **run: Any) -> BuildSpec:
    return BuildSpec.from_values(
        {
            "model": {"reference": "flaky_models:network"},
            "images": {"source": str(folder / "images.npy"), "held_out": 0.5},
            "preprocessing": {"mean": [0, 0, 0], "std": [1, 1, 1]},
            "layers": [{"name": "2"}, {"name": "0", "units": [0, 2, 5]}],
            "circuits": {
                "criteria": ["actgrad", "random"],
                "fractions": [1, 0.5, 0.1],
                "top_images": 2,
            },
            "run": {
                "store": str(store),
                "self_check": False,
                "units_per_task": 3,
                "store_patience_s": PATIENCE_S,
                **run,
            },
        }
    )


def run(asked: BuildSpec, on_event: Callable[[Event], None] | None = None) -> Summary:
    return build(asked, executor=LocalExecutor(), on_event=on_event)


def masks(location: str | Path) -> dict[tuple[str, int, str, int], bytes]:
    reader = Reader(open_store(location))
    return {
        (layer, unit, criterion, level): reader.mask(commit, criterion, level).tobytes()
        for layer in reader.layers()
        for unit, commit in reader.commits(layer).items()
        for criterion in reader.header.criteria
        for level in range(len(reader.header.fractions))
    }


@pytest.fixture(scope="module")
def undisturbed(folder: Path) -> dict[tuple[str, int, str, int], bytes]:
    """The masks of an atlas that was built in a folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        assert run(spec(folder, folder / "undisturbed")).done == UNITS
    return masks(folder / "undisturbed")


def once(kind: type[Event], do: Callable[[], object]) -> Callable[[Event], None]:
    """Does something at the first event of a kind."""
    left = [do]

    def on_event(event: Event) -> None:
        if isinstance(event, kind) and left:
            left.pop()()

    return on_event


@pytest.mark.parametrize("kinds", [("lost", "lost_500"), FAULTS], ids=["lost", "all"])
def test_where_one_request_in_ten_goes_wrong_all_units_are_built(
    folder: Path, store: FlakyStore, undisturbed: dict[Any, bytes], kinds: Any
) -> None:
    store.faults = Faults(rate=0.1, kinds=kinds, slow_s=0.1)
    summary = run(spec(folder, store.location))
    assert (summary.done, summary.failed, summary.lost, summary.retried) == (UNITS, 0, 0, 0)
    assert set(store.failed) == set(kinds)
    store.faults = Faults()
    assert masks(store.location) == undisturbed
    assert verify(open_store(store.location)) == ()


def test_a_build_waits_for_a_store_that_is_out_and_says_so(
    folder: Path,
    store: FlakyStore,
    undisturbed: dict[Any, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(patience, "_QUIET_S", 0.5)
    events: list[Event] = []

    def go_out() -> None:
        store.go_out()
        threading.Timer(1.5, store.come_back).start()

    went = once(TaskDone, go_out)

    def on_event(event: Event) -> None:
        events.append(event)
        went(event)

    summary = run(spec(folder, store.location), on_event)
    assert (summary.done, summary.retried) == (UNITS, 0)
    told = [event for event in events if isinstance(event, Outage)]
    assert [outage.ended_s is None for outage in told] == [True, False]
    assert (told[0].store, told[0].answer) == (store.location, "no answer")
    assert store.refused > 3
    assert masks(store.location) == undisturbed


def test_past_its_patience_a_build_ends_in_one_line_and_goes_on_later(
    folder: Path, store: FlakyStore, undisturbed: dict[Any, bytes]
) -> None:
    asked = spec(folder, store.location, store_patience_s=0.5)
    with pytest.raises(StoreError, match="; run again when the store answers") as caught:
        run(asked, once(TaskDone, lambda: store.go_out("slow_down")))
    assert "\n" not in str(caught.value)
    store.come_back()
    stored = len(masks(store.location))
    assert 0 < stored < len(undisturbed)
    summary = run(asked)
    assert summary.skipped * len(undisturbed) == stored * UNITS
    assert summary.done + summary.skipped == UNITS
    assert masks(store.location) == undisturbed


@pytest.mark.parametrize(("event", "how"), [(Planned, "reset"), (TaskStarted, "silent")])
def test_ctrl_c_ends_a_wait_at_once(
    folder: Path, store: FlakyStore, event: type[Event], how: flaky.Outage
) -> None:
    pressed_s: list[float] = []

    def press() -> None:
        pressed_s.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    def go_out() -> None:
        store.go_out(how)
        threading.Timer(1.0, press).start()

    with pytest.raises(KeyboardInterrupt):
        run(spec(folder, store.location, store_patience_s=1e6), once(event, go_out))
    assert time.monotonic() - pressed_s[0] < 5.0
    store.come_back()
    assert run(spec(folder, store.location)).failed == 0


def test_a_unit_that_finds_its_names_taken_fails_alone_and_is_built_later(
    folder: Path, tmp_path: Path, undisturbed: dict[Any, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = layer_paths.fragment("2", 1, 7, "responses")
    with monkeypatch.context() as patch:
        patch.setattr(attempts.secrets, "randbelow", lambda _: 7)
        summary = run(
            spec(folder, tmp_path / "atlas"),
            once(TaskStarted, lambda: open_store(tmp_path / "atlas").create(taken, b"theirs")),
        )
    assert (summary.done, summary.failed) == (UNITS - 1, 1)
    assert [(r.key.layer, r.key.unit, r.kind) for r in summary.failures] == [("2", 1, "contested")]
    assert run(spec(folder, tmp_path / "atlas")).done == 1
    assert masks(tmp_path / "atlas") == undisturbed


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (errno.ENOSPC, "the disk is full: free some space and run the same command again"),
        (errno.EACCES, "permission denied: give write permission"),
        (errno.EROFS, "it is read-only: choose a store that can be written"),
        (errno.EIO, r"the disk has a fault \(input/output error\): see what the system's log says"),
    ],
)
def test_a_disk_that_fails_ends_a_build_in_one_line_that_goes_on_once_it_is_mended(
    folder: Path,
    tmp_path: Path,
    undisturbed: dict[Any, bytes],
    monkeypatch: pytest.MonkeyPatch,
    code: int,
    says: str,
) -> None:
    asked = spec(folder, tmp_path / "atlas")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        fails = once(TaskDone, lambda: patch.setattr(obstore, "put", refuse))
        with pytest.raises(WriteError, match=f"cannot write {tmp_path}/atlas/.*: {says}") as caught:
            run(asked, fails)
    assert "\n" not in str(caught.value)
    summary = run(asked)
    assert summary.skipped == 3
    assert summary.done == UNITS - 3
    assert masks(tmp_path / "atlas") == undisturbed


def test_a_folder_that_is_removed_is_told_of_and_built_on_when_it_is_back(
    folder: Path, tmp_path: Path, undisturbed: dict[Any, bytes]
) -> None:
    place, aside = tmp_path / "atlas", tmp_path / "aside"
    with pytest.raises(StoreError) as caught:
        run(spec(folder, place), once(TaskDone, lambda: place.rename(aside)))
    assert "\n" not in str(caught.value)
    assert not place.exists()
    aside.rename(place)
    assert run(spec(folder, place)).skipped == 3
    assert masks(place) == undisturbed
