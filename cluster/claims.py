"""Builds of one atlas at one time: each says that it runs and what it is at, and leaves what others
are at to the last.

All of it is a hint in the store, see `storage_schema.claim`. A store that refuses it costs a build
nothing but that two may compute the same units. While no other build runs, nothing is waited for:
claims are put and removed in threads beside the run's own, and left out where these do not keep up.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Self

from circuit_atlas.cluster.executor import Event, TaskDone, TaskLost, TaskStarted
from circuit_atlas.storage_schema import claim, heartbeat, layout
from circuit_atlas.storage_schema.claim import Claim
from circuit_atlas.storage_schema.errors import StoreError
from circuit_atlas.storage_schema.heartbeat import EVERY_S, STALE_S
from circuit_atlas.storage_schema.keys import UnitKey
from circuit_atlas.storage_schema.objects import Entry, Objects
from circuit_atlas.storage_schema.patience import Patience

if TYPE_CHECKING:
    from circuit_atlas.jobs.tasks.plan import Task

# How often a build that waits for another looks whether it still has to.
_LOOK_S = 2.0
# How often every build looks whether another runs.
_WATCH_S = 2.0
# Threads that put and remove claims, and how many requests may wait for them.
_LANES = 4
_MOST_WAITING = 1000
# A store that does not answer holds up the end of a stage, and of a build, for so long at most.
_PATIENCE_S = 2.0


class Presence:
    """This build among those of its atlas: its mark in the store, and what theirs say. Entered as
    long as it runs.

    Whether another build runs is told by its mark being replaced, and at first sight by how much
    older it is than this build's own: machines whose clocks differ agree.
    """

    def __init__(self, objects: Objects, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Takes the store of the atlas, and a clock that gives seconds."""
        # What is late is of no use to anybody.
        self.objects = Objects(objects.store, location=objects.location, patience=Patience(0))
        name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(2)}"
        self._claim = Claim(name, socket.gethostname(), os.getpid(), time.time())
        self._document = self._claim.to_json().encode()
        self._path = layout.build_mark(name)
        self._clock = clock
        self._marked_s = self._looked_s = float("-inf")
        # Of each other mark: what it was when it was last looked at, and since when, on the clock.
        self._marks: dict[str, tuple[Entry, float]] = {}
        self._told: set[str] = set()
        self._claims: set[str] = set()
        # Claims of other builds, with the paths of their marks.
        self._held: dict[str, str] = {}
        # Claims of this build that are in the store.
        self._own: set[str] = set()
        # One thread each, so that what is asked of a claim is done in that order.
        self._lanes = tuple(ThreadPoolExecutor(1) for _ in range(_LANES))
        self._room = threading.Semaphore(_MOST_WAITING)
        self._ended, self._given_up = threading.Event(), threading.Event()
        self._marking = threading.Thread(target=self._mark_on, daemon=True)

    def __enter__(self) -> Self:
        self.mark()
        self._marking.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        self._marking.join(_PATIENCE_S)
        self._given_up.set()

    def mark(self) -> None:
        """Writes the mark, as is done every 12 s."""
        with contextlib.suppress(StoreError):
            self.objects.put(self._path, self._document)
            self._marked_s = self._clock()

    def look(self, *, within_s: float) -> None:
        """Looks which builds run and what is claimed, unless that was done within so many
        seconds."""
        now_s = self._clock()
        if now_s - self._looked_s < within_s:
            return
        self._looked_s = now_s
        with contextlib.suppress(StoreError):
            # The claims first: whoever made one has put its mark before.
            self._claims = {entry.path for entry in self.objects.list(layout.CLAIMS)}
            self._note(claim.marks(self.objects), now_s)

    def met(self) -> list[Claim]:
        """Gives the builds that run beside this one and were not given before."""
        found = []
        for path in self._marks.keys() - self._told:
            other = claim.read(self.objects, path) if self._runs(path) else None
            if other is not None and not _was_killed(other):
                self._told.add(path)
                found.append(other)
        return sorted(found, key=lambda other: other.since_s)

    def claim(self, paths: Iterable[str]) -> frozenset[str]:
        """Puts claims where no other build that runs has one; gives those that are put, or will
        be."""
        self.look(within_s=EVERY_S)
        asked = [path for path in paths if not self._is_held(path)]
        if not any(map(self._runs, self._marks)):
            for path in asked:
                self._later(path, self._create_or_take)
            return frozenset(asked)
        claimed = [self._lane(path).submit(self._create_or_take, path) for path in asked]
        return frozenset(path for path, own in zip(asked, claimed, strict=True) if own.result())

    def _create_or_take(self, path: str) -> bool:
        return self._create(path) or self._take(path)

    def release(self, paths: Iterable[str]) -> None:
        """Removes claims of this build, soon."""
        for path in paths:
            self._later(path, self._remove)

    def _later(self, path: str, act: Callable[[str], object]) -> None:
        """Does something about a claim in a thread beside, unless too much waits there."""
        if self._room.acquire(blocking=False):
            self._lane(path).submit(self._do, path, act)

    def _lane(self, path: str) -> ThreadPoolExecutor:
        return self._lanes[hash(path) % _LANES]

    def _do(self, path: str, act: Callable[[str], object]) -> None:
        self._room.release()
        if not self._given_up.is_set():
            act(path)

    def _mark_on(self) -> None:
        """Marks and looks until the build ends, and then removes what is of no more use."""
        while not self._ended.wait(_WATCH_S):
            if self._clock() - self._marked_s >= EVERY_S:
                self.mark()
            self.look(within_s=_WATCH_S)
        for lane in self._lanes:
            lane.shutdown()
        with contextlib.suppress(StoreError):
            self.objects.delete([*self._own])
            self._tidy()
            self.objects.delete([self._path])

    def _note(self, marks: dict[str, Entry], now_s: float) -> None:
        """Takes the marks that there are."""
        own = marks.pop(self._path, None)
        found = {}
        for path, entry in marks.items():
            last = self._marks.get(path)
            if last is None:
                age_s = self._older_s(entry, own, now_s)
                found[path] = (entry, now_s - age_s)
            elif (last[0].etag, last[0].modified_s) != (entry.etag, entry.modified_s):
                found[path] = (entry, now_s)
            else:
                found[path] = last
        self._marks = found

    def _older_s(self, entry: Entry, own: Entry | None, now_s: float) -> float:
        """How old an object is, by the store's clock, which the own mark tells; 0 where nothing
        tells."""
        if own is None or own.modified_s is None or entry.modified_s is None:
            return 0.0
        return max(0.0, own.modified_s + now_s - self._marked_s - entry.modified_s)

    def _runs(self, mark: str) -> bool:
        """Whether the build of a mark runs."""
        return mark in self._marks and self._clock() - self._marks[mark][1] < STALE_S

    def _is_held(self, path: str) -> bool:
        """Whether a claim is known to be of another build that runs."""
        mark = self._held.get(path)
        if mark is None:
            return False
        self.look(within_s=_LOOK_S)
        if path in self._claims and self._runs(mark):
            return True
        del self._held[path]
        return False

    def _create(self, path: str) -> bool:
        """Whether there was no other build's claim."""
        try:
            if not self.objects.create(path, self._document):
                return False
        except StoreError:
            return True
        self._own.add(path)
        return True

    def _remove(self, path: str) -> None:
        if path in self._own:
            with contextlib.suppress(StoreError):
                self.objects.delete([path])
                self._own.discard(path)

    def _take(self, path: str) -> bool:
        """Whether a claim that is there does not count: then it is this build's now."""
        other = claim.read(self.objects, path)
        if other is not None and other.build != self._claim.build:
            mark = layout.build_mark(other.build)
            if mark not in self._marks:
                self.look(within_s=0.0)
            if self._runs(mark) and not _was_killed(other):
                self._held[path] = mark
                self._claims.add(path)
                return False
        with contextlib.suppress(StoreError):
            self.objects.put(path, self._document)
            self._own.add(path)
        return True

    def _tidy(self) -> None:
        """Removes what builds left that were killed."""
        self.look(within_s=0.0)
        left = [mark for mark in self._marks if not self._runs(mark)]
        for path in self._claims if left else ():
            other = claim.read(self.objects, path)
            if other is not None and not self._runs(layout.build_mark(other.build)):
                left.append(path)
        self.objects.delete(left)


def _was_killed(build: Claim) -> bool:
    """Whether a build was of this machine, and its process is no more: who starts a build again
    that was killed does not wait for its mark to grow old."""
    if build.host != socket.gethostname() or os.name != "posix":
        return False
    try:
        os.kill(build.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # there, and another user's
        return False
    return False


class Claims:
    """The claims of one stage of a run, on the tasks that are under way. Entered around it."""

    def __init__(self, presence: Presence, stage: str) -> None:
        """Takes the build's presence, and the name of the stage."""
        self._presence, self._stage = presence, stage
        self._under_way: Counter[str] = Counter()
        self._workers: dict[Task, str] = {}

    def __enter__(self) -> Self:
        self._presence.look(within_s=0.0)
        return self

    def __exit__(self, *exception: object) -> None:
        """Removes what is left, as after Ctrl-C: claims, and heartbeats of workers that were
        ended."""
        if self._under_way or self._workers:
            removing = threading.Thread(target=self._remove, daemon=True)
            removing.start()
            removing.join(_PATIENCE_S)

    def _remove(self) -> None:
        self._presence.release(self._under_way)
        with contextlib.suppress(StoreError):
            for worker in self._workers.values():
                heartbeat.remove(self._presence.objects, worker)

    def claim(self, task: Task) -> tuple[UnitKey, ...]:
        """Claims the units of a task that is about to begin; gives those that no other build is
        at."""
        paths = claim.paths(self._stage, task.of, task.units)
        claimed = self._presence.claim(path for path in paths if not self._under_way[path])
        taken = [path for path in paths if path in claimed or self._under_way[path]]
        self._under_way.update(taken)
        units = {key for path in taken for key in paths[path]}
        return tuple(key for key in task.units if key in units)

    def note(self, event: Event) -> None:
        """Gives up the claims of a task that has ended, for good or to be tried again."""
        if isinstance(event, TaskStarted):
            self._workers[event.task] = event.worker
        elif isinstance(event, TaskDone | TaskLost):
            worker = self._workers.pop(event.task, "")
            if isinstance(event, TaskLost):
                with contextlib.suppress(StoreError):
                    heartbeat.remove(self._presence.objects, worker)
            paths = claim.paths(self._stage, event.task.of, event.task.units)
            self._under_way.subtract(paths.keys())
            ended = [path for path in paths if self._under_way[path] <= 0]
            for path in ended:
                del self._under_way[path]
            self._presence.release(ended)
