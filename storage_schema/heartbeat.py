"""What a worker is at, as it says so itself: in memory, and every few seconds in the store.

A heartbeat decides nothing and no record names it. It lets anybody who can read the store see which
units run; it is replaced as they go on, and removed when the worker's task ends. One that stays as
it is, is of a worker that was killed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Annotated

from circuit_atlas.storage_schema import documents, layout
from circuit_atlas.storage_schema.bounds import Count, Name, Seconds, UnitNumber
from circuit_atlas.storage_schema.documents import seal
from circuit_atlas.storage_schema.errors import StoreError
from circuit_atlas.storage_schema.keys import Numbered
from circuit_atlas.storage_schema.objects import Entry, Objects
from circuit_atlas.storage_schema.own_path import require_own

EVERY_S = 12.0
"""How often a worker that is at a task replaces its heartbeat."""
STALE_S = 45.0
"""A heartbeat that is older than this is of a worker that was killed, or cannot write any more."""
_THREADS = 16
_SHOWN = 3


@dataclass(frozen=True)
class Activity:
    """Says which units a worker computes together, and how far it is with the step it is at."""

    layer: Annotated[Name, "Layer, or convolution."]
    of: Annotated[
        Numbered, "What `units` numbers: units, channels of a convolution, or chunks of images."
    ]
    units: Annotated[
        tuple[UnitNumber, ...],
        "Numbers of the units that are computed together.",
    ]
    step: Annotated[Name, "What it is at, such as `scores`; empty before the first step."] = ""
    done: Annotated[Count, "How much of the step is done."] = 0
    total: Annotated[Count, "Of how much."] = 0
    noun: Annotated[Name, "What is counted, such as `images`; empty where it is a share alone."] = (
        ""
    )

    @property
    def subject(self) -> str:
        """Name the units.

        >>> Activity("features.7", "unit", (0, 1, 2, 3)).subject
        'features.7 units 0-3'
        >>> Activity("conv1", "channel", (5,)).subject
        'conv1 channel 5'
        """
        return f"{self.layer} {numbered(self.of, self.units)}"

    @property
    def amount(self) -> str:
        """Say how far the step is.

        >>> Activity("conv", "unit", (1,), "scores", 12, 20, "images").amount
        '12/20 images'
        >>> Activity("conv", "unit", (1,), "learned", 2, 5).amount
        '40 %'
        """
        if not self.total:
            return ""
        if self.noun:
            return f"{self.done}/{self.total} {self.noun}"
        return f"{100 * self.done // self.total} %"

    def __str__(self) -> str:
        words = " ".join(word for word in (self.step, self.amount) if word)
        return f"{self.subject}: {words}" if words else self.subject


@dataclass(frozen=True)
class Heartbeat:
    """Says what one worker is at."""

    worker: Annotated[Name, "Name of the worker: its machine, process and four letters."]
    stage: Annotated[
        Name,
        "Of the run it works for: `units`, `images` that are prepared, `responses` for what all "
        "images do to units, or `features` for feature visualizations.",
    ]
    joined_s: Annotated[Seconds, "When it was ready, in seconds since 1970 UTC, by its clock."]
    started_s: Annotated[Seconds, "When its task began, by the same clock."]
    written_s: Annotated[Seconds, "When this was written, by the same clock."]
    units: Annotated[Count, "Units, or channels, of its task."]
    ended: Annotated[Count, "Those of them that are stored or failed."]
    failed: Annotated[Count, "Those of them that failed."]
    activity: Annotated[Activity | None, "What it is at; null before the first units."]

    def to_json(self) -> str:
        """Return the document's text."""
        return seal(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes, *, location: str) -> Heartbeat:
        """Read what `to_json` wrote; CorruptError or SchemaError where that cannot be read."""
        return documents.read(cls, text, location=location, what="heartbeat")

    @classmethod
    def stored_at(cls, objects: Objects, path: str, data: bytes) -> Heartbeat:
        """Do the same for what lies at a path; CorruptError where it is another worker's."""
        beat = cls.from_json(data, location=objects.at(path))
        require_own(
            objects, path, layout.heartbeat(beat.worker), what=f"the heartbeat of {beat.worker}"
        )
        return beat

    def age_s(self, now_s: float) -> float:
        """Say how long ago it was written, by the clock of `now_s`."""
        return max(0.0, now_s - self.written_s)


def write(objects: Objects, heartbeat: Heartbeat) -> None:
    """Write or replace a worker's heartbeat; WriteError where the store refuses."""
    objects.put(layout.heartbeat(heartbeat.worker), heartbeat.to_json().encode())


def remove(objects: Objects, worker: str) -> None:
    """Remove a worker's heartbeat; WriteError where the store refuses."""
    objects.delete([layout.heartbeat(worker)])


def read(objects: Objects) -> tuple[Heartbeat, ...]:
    """Return the heartbeats that are there, by worker: one listing, and a read each.

    `written_s` is by the store's clock where it says so. One that is removed meanwhile, or cannot
    be read, is left out.
    """
    entries = [entry for entry in objects.list(layout.RUNS) if layout.is_heartbeat(entry.path)]
    if not entries:
        return ()
    with ThreadPoolExecutor(min(_THREADS, len(entries))) as pool:
        beats = pool.map(lambda entry: _read(objects, entry), entries)
        return tuple(beat for beat in beats if beat is not None)


def remove_stale(objects: Objects, *, now_s: float) -> None:
    """Remove the heartbeats of workers that were killed, as far as the store lets it: one
    listing."""
    with contextlib.suppress(StoreError):
        objects.delete(
            [
                entry.path
                for entry in objects.list(layout.RUNS)
                if layout.is_heartbeat(entry.path)
                and entry.modified_s is not None
                and now_s - entry.modified_s > STALE_S
            ]
        )


def numbered(of: str, numbers: Sequence[int]) -> str:
    """Name units or channels by their numbers, in few words.

    >>> numbered("unit", (0, 1, 2)), numbered("unit", (7,))
    ('units 0-2', 'unit 7')
    >>> numbered("channel", (1, 5, 9, 12))
    'channels 1, 5, 9 and 1 more'
    """
    noun = of if len(numbers) == 1 else f"{of}s"
    if len(numbers) > 1 and list(numbers) == list(range(numbers[0], numbers[-1] + 1)):
        return f"{noun} {numbers[0]}-{numbers[-1]}"
    shown = ", ".join(str(number) for number in numbers[:_SHOWN])
    return f"{noun} {shown}" + (f" and {len(numbers) - _SHOWN} more" if numbers[_SHOWN:] else "")


def _read(objects: Objects, entry: Entry) -> Heartbeat | None:
    try:
        beat = Heartbeat.stored_at(objects, entry.path, objects.get(entry.path))
    except (FileNotFoundError, StoreError):
        return None
    return beat if entry.modified_s is None else replace(beat, written_s=entry.modified_s)
