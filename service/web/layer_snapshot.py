"""Which units of a layer are stored: looked at again after a while, as an atlas may be growing."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from functools import cached_property

from circuit_atlas.service.client.atlas import Atlas, Layer
from circuit_atlas.service.web.responses import digest
from circuit_atlas.storage_schema import layout
from circuit_atlas.storage_schema.commit import Commit
from circuit_atlas.storage_schema.errors import MismatchError, NotAnAtlasError
from circuit_atlas.storage_schema.header import AtlasHeader, UnitInfo
from circuit_atlas.storage_schema.records import FailureRecord


def commit_version(commit: Commit) -> str:
    """A digest of everything that is stored of a unit."""
    return digest(commit.state, *(stored.sha256 for stored in commit.objects))


@dataclass(frozen=True)
class LayerSnapshot:
    """A layer as it was when it was looked at."""

    layer: Layer
    commits: dict[int, Commit]
    failures: dict[int, FailureRecord]
    planned: frozenset[int]

    @cached_property
    def version(self) -> str:
        """A digest of the set of units that are stored, failed or planned."""
        return digest(
            self.layer.name,
            *(f"{unit} {commit_version(commit)}" for unit, commit in sorted(self.commits.items())),
            *(f"{unit} {f.kind} {f.message}" for unit, f in sorted(self.failures.items())),
            repr(sorted(self.planned)),
        )

    @cached_property
    def units(self) -> tuple[UnitInfo, ...]:
        """Every unit that was asked for or is stored, by number."""
        numbers = sorted({*self.planned, *self.commits, *self.failures})
        return tuple(self.layer.index.unit(number) for number in numbers)

    @cached_property
    def missing(self) -> int:
        """Units that were asked for and are neither stored nor failed."""
        return len(self.planned - self.commits.keys() - self.failures.keys())

    def state(self, unit: int) -> str:
        """done, dead, failed, planned, or not built."""
        commit = self.commits.get(unit)
        if commit is not None:
            return commit.state
        if unit in self.failures:
            return "failed"
        return "planned" if unit in self.planned else "not built"


class LayerSnapshots:
    """Snapshots of an atlas' layers, each good for a few seconds. Safe to share between threads."""

    def __init__(self, atlas: Atlas, *, fresh_s: float) -> None:
        self.atlas = atlas
        self.fresh_s = fresh_s
        self._names: tuple[float, tuple[str, ...]] | None = None
        self._planned: tuple[float, dict[str, tuple[int, ...]]] | None = None
        self._snapshots: dict[str, tuple[float, LayerSnapshot]] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    def names(self) -> tuple[str, ...]:
        """Names of the layers, sorted; StoreError where the atlas is gone or is another one now."""
        if self._names is None or self._old(self._names[0]):
            self._check()
            self._names = (time.monotonic(), self.atlas.layers)
        return self._names[1]

    def layer(self, name: str) -> Layer:
        """A layer by name; QueryError where there is none."""
        if name in self.names():
            return Layer(self.atlas, self.atlas.reader.layer(name))
        return self.atlas.layer(name)

    def of(self, name: str) -> LayerSnapshot:
        """What is stored of a layer; QueryError where there is none.

        While one thread looks anew, the others go on with what was seen last.
        """
        layer = self.layer(name)
        with self._lock:
            lock = self._locks.setdefault(name, threading.Lock())
        last = self._snapshots.get(name)
        if last is not None and not self._old(last[0]):
            return last[1]
        if last is not None and lock.locked():
            return last[1]
        with lock:
            last = self._snapshots.get(name)
            if last is None or self._old(last[0]):
                last = (time.monotonic(), self._look(layer))
                self._snapshots[name] = last
        return last[1]

    def _check(self) -> None:
        """What was read of an atlas holds for no other one at its location."""
        objects = self.atlas.reader.objects
        try:
            header = objects.get(layout.HEADER)
        except FileNotFoundError:
            raise NotAnAtlasError(f"{objects.place} is gone: put it back where it was") from None
        if AtlasHeader.from_json(header, place=objects.at(layout.HEADER)) != self.atlas.header:
            raise MismatchError(
                f"{objects.place} is another atlas than when it was opened: start the server again"
            )

    def _look(self, layer: Layer) -> LayerSnapshot:
        reader = self.atlas.reader
        commits = reader.commits(layer.name)
        failures = reader.failures(layer.name)
        if self._planned is None or self._old(self._planned[0]):
            self._planned = (time.monotonic(), dict(reader.plan().units))
        planned = frozenset(self._planned[1].get(layer.name, ()))
        snapshot = LayerSnapshot(layer, commits, failures, planned)
        last = self._snapshots.get(layer.name)
        # The same object where nothing changed, with what it has worked out.
        return last[1] if last is not None and last[1].version == snapshot.version else snapshot

    def _old(self, since: float) -> bool:
        return time.monotonic() - since > self.fresh_s
