"""What repairs took out of an atlas and keep: nothing reads it, and it can be looked into or put
back.

Each repair has a folder of its own, named by the time; below it, objects have the paths that they
had. An object is copied there before it goes from where it was, so that none is ever lost.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from circuit_atlas.storage_schema import layout
from circuit_atlas.storage_schema.documents import sha256
from circuit_atlas.storage_schema.errors import CorruptError
from circuit_atlas.storage_schema.objects import Objects

Kept = Literal["kept", "gone", "changed"]
_TIME = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True)
class SetAside:
    """Describes what one repair set aside.

    Attributes:
        repair: name of its folder.
        paths: of the objects, as they lie now.
        size_bytes: their size.
        age_s: how long ago the repair began, by the clock of its machine.
    """

    repair: str
    paths: tuple[str, ...]
    size_bytes: int
    age_s: float


def new_name() -> str:
    """Return the name of a repair that begins now. Two that begin at once differ."""
    return f"{datetime.now(UTC):{_TIME}}-{secrets.token_hex(2)}"


def keep(objects: Objects, repair: str, path: str, *, found_sha256: str | None) -> Kept:
    """Copy an object to where a repair keeps it; whether that was done, it is gone, or has changed.
    One that is too long to be read is moved there.

    Args:
        objects: the store.
        repair: name of the repair.
        path: of the object.
        found_sha256: digest of what is to be set aside; None where it could not be read. Another
            object was written since, by a build or another repair, and stays.

    UnreadableError where the disk does not give it, CorruptError where nothing is read of what lies
    there, as of a link, WriteError where the store refuses.
    """
    try:
        data = objects.get(path)
    except FileNotFoundError:
        return "gone"
    except CorruptError:
        objects.move(path, layout.set_aside(repair, path))
        return "kept"
    if found_sha256 != sha256(data):
        return "changed"
    objects.create(layout.set_aside(repair, path), data)
    return "kept"


def listed(objects: Objects) -> tuple[SetAside, ...]:
    """Return what each repair set aside, the oldest first, by one listing."""
    found: dict[str, list[tuple[str, int]]] = {}
    for entry in objects.list(layout.SET_ASIDE):
        if (repair := layout.repair_of(entry.path)) is not None:
            found.setdefault(repair, []).append((entry.path, entry.size_bytes))
    return tuple(
        SetAside(
            repair, tuple(p for p, _ in of_repair), sum(n for _, n in of_repair), _age_s(repair)
        )
        for repair, of_repair in sorted(found.items())
    )


def delete(objects: Objects, repairs: Iterable[SetAside]) -> None:
    """Delete for good what repairs set aside; WriteError where the store refuses."""
    for repair in repairs:
        objects.delete(repair.paths)


def _age_s(repair: str) -> float:
    """How old a repair is by its name; of a name that no repair gave, nothing is known: 0."""
    try:
        began = datetime.strptime(repair.partition("-")[0], _TIME).replace(tzinfo=UTC)
    except ValueError:
        return 0.0
    return (datetime.now(UTC) - began).total_seconds()
