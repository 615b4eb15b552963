"""Puts a damaged atlas right, as far as the store itself tells how, and says what is left to redo.

Nothing is lost on the way: what is damaged is copied aside before it goes, a document before the
objects that it names, and what can be made again replaces the damaged at once. So a repair that is
cut off at any moment leaves damage that the next one finds, or a unit less that the next build
computes. What a build writes meanwhile stays, and so does what the disk does not give: it may be
whole.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from circuit_atlas.storage_schema import set_aside
from circuit_atlas.storage_schema.compaction import compact
from circuit_atlas.storage_schema.documents import sha256
from circuit_atlas.storage_schema.errors import (
    CorruptError,
    QueryError,
    StoreError,
    UnreadableError,
    WriteError,
)
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.repair_plan import Step, plan_repair
from circuit_atlas.storage_schema.sealed import Manifest
from circuit_atlas.storage_schema.verify import Finding, verify

# A build puts a record within a second or so of what it names. Where that takes longer, the build
# finds what it wrote set aside, and begins anew.
_WRITTEN_S = 2.0


@dataclass(frozen=True)
class Repair:
    """Says what a repair found and did, or would do.

    Attributes:
        name: of the folder below `set-aside` that holds what it set aside.
        findings: what was damaged.
        steps: what was done about it.
        aside: paths of what was set aside, as they were.
        size_bytes: size of that.
        changed: paths of what was written anew since it was found damaged, and left as it is.
        sealed: the generations that were written.
        unsealed: layers whose generation was set aside and could not be written again, which the
            next build does.
    """

    name: str
    findings: tuple[Finding, ...]
    steps: tuple[Step, ...]
    aside: tuple[str, ...] = ()
    size_bytes: int = 0
    changed: tuple[str, ...] = ()
    sealed: tuple[Manifest, ...] = ()
    unsealed: tuple[str, ...] = ()

    @property
    def unreadable(self) -> tuple[str, ...]:
        """Return the paths of what cannot be read, and is left alone."""
        return tuple(one.path for one in self.findings if one.kind == "unreadable")


def look(objects: Objects) -> Repair:
    """Say what a repair would do, and change nothing.

    Raises:
        NotAnAtlasError: there is no atlas, or its header is missing.
        CorruptError: the header is altered.
        StoreError: the store cannot be read.
    """
    harmful = tuple(finding for finding in verify(objects) if finding.harmful)
    return Repair(set_aside.new_name(), harmful, plan_repair(objects, harmful))


def repair(objects: Objects) -> Repair:
    """Do it. Run again, it does what is left.

    Raises:
        NotAnAtlasError, CorruptError, StoreError: as of `look`; nothing was changed.
        WriteError: the store refused; what was done stays, and nothing is lost.
    """
    planned = look(objects)
    done = _Done(objects, planned.name)
    for step in planned.steps:
        done.do(step)
    layers = sorted({step.layer for step in planned.steps if step.subject == "sealed"})
    sealed, unsealed = _seal(objects, layers) if layers else ((), ())
    return Repair(
        planned.name,
        planned.findings,
        tuple(done.steps),
        tuple(done.aside),
        sum(one.size_bytes for one in set_aside.listed(objects) if one.repair == planned.name),
        tuple(done.changed),
        sealed,
        unsealed,
    )


class _Done:
    """Does steps, and keeps what was done."""

    def __init__(self, objects: Objects, name: str) -> None:
        self._objects, self._name = objects, name
        self.steps: list[Step] = []
        self.aside: list[str] = []
        self.changed: list[str] = []

    def do(self, step: Step) -> None:
        """Do one step, unless an object of it was written anew since it was looked at."""
        put = dict(step.put)
        for path, found_sha256 in step.aside:
            if self._is_anew(path, found_sha256):
                return
        if step.aside and self._are_written(step.absent):
            return
        for path, found_sha256 in step.aside:
            try:
                kept = set_aside.keep(self._objects, self._name, path, found_sha256=found_sha256)
            except (UnreadableError, CorruptError):
                put.pop(path, None)
                continue
            if kept == "changed":
                self.changed.append(path)
                return
            if kept == "kept":
                self.aside.append(path)
            if path in put:
                self._objects.put(path, put.pop(path))
            else:
                self._objects.delete([path])
        for path, data in put.items():
            self._objects.put_if_absent(path, data)
        self.steps.append(step)

    def _are_written(self, paths: Sequence[str]) -> bool:
        """Whether something lies now where nothing was found. What a build writes last is waited
        for: what it names may be there already."""
        until_s = time.monotonic() + (_WRITTEN_S if paths else 0)
        while not any(self._is_anew(path, None) for path in paths):
            if time.monotonic() >= until_s:
                return False
            time.sleep(_WRITTEN_S / 10)
        return True

    def _is_anew(self, path: str, found_sha256: str | None) -> bool:
        """Whether something else can be read at a path than what was found there."""
        try:
            anew = sha256(self._objects.get(path)) != found_sha256
        except (FileNotFoundError, UnreadableError, CorruptError):
            return False
        if anew:
            self.changed.append(path)
        return anew


def _seal(objects: Objects, layers: Sequence[str]) -> tuple[tuple[Manifest, ...], tuple[str, ...]]:
    """Write a generation of layers that lost one; and those of which none could be written."""
    reader = Reader(objects)
    sealed, unsealed = [], []
    for name in layers:
        try:
            manifest = compact(objects, reader.header, reader.layer(name))
        except WriteError:
            raise
        except (QueryError, StoreError):  # its index was damaged too
            unsealed.append(name)
        else:
            sealed += [manifest] if manifest else []
    return tuple(sealed), tuple(unsealed)
