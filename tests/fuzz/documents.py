"""Hostile JSON documents of every kind, each read in an atlas that is right but for it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

from circuit_atlas.storage_schema.documents import sha256
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.opening import open_store
from tests.fuzz import hostile_json
from tests.fuzz.small_atlas import SEALED_COMMIT, Kind, sealed_commit, small_atlas
from tests.fuzz.watch import Run

_OVERSIZED = 2**33
_SECRET = b"a secret"
_OUTSIDE = ("../outside", "../atlas/atlas.json", "/etc/hostname", "layers/../atlas.json")


def altered(folder: Path) -> Run:
    """Build the atlas in a folder, and read all of it once.

    What is returned puts the document of a seed into its place, reads it as programs do, and puts
    back what was there; AssertionError, with the kind as a note, where it was read and must not be.
    """
    (folder / "outside").write_bytes(_SECRET)
    root = folder / "atlas"
    objects = open_store(root, create=True)
    kinds = small_atlas(objects)
    for kind in kinds.values():
        kind.read(objects)

    def run(random: Random) -> None:
        name = random.choice(list(kinds))
        try:
            files, must_fail = _made(name, kinds[name], objects, random)
            _read(kinds[name], objects, root, files)
        except Exception as error:
            error.add_note(name)
            raise
        assert not must_fail, f"{name} was read"

    return run


def _read(kind: Kind, objects: Objects, root: Path, files: Mapping[str, bytes | None]) -> None:
    before = {path: objects.get(path) for path in files}
    try:
        for path, data in files.items():
            _put(root / path, data)
        kind.read(objects)
    finally:
        for path, data in before.items():
            _put(root / path, data)


def _put(file: Path, data: bytes | None) -> None:
    if data is None:  # a file of many zeros that takes no room
        with file.open("wb") as stream:
            stream.truncate(_OVERSIZED)
    else:
        file.write_bytes(data)


def _made(
    name: str, kind: Kind, objects: Objects, random: Random
) -> tuple[Mapping[str, bytes | None], bool]:
    """What is put where, None of what is too long; and whether it must be refused."""
    good = objects.get(kind.path)
    data, must_fail = _document(kind, good, random)
    if name == SEALED_COMMIT:
        return sealed_commit(objects, data or b""), must_fail
    return {kind.path: data}, must_fail


def _document(kind: Kind, good: bytes, random: Random) -> tuple[bytes | None, bool]:
    content: dict[str, Any] = json.loads(good)
    del content["sha256"]
    what = random.random()
    if what < 0.3:
        return hostile_json.sealed(hostile_json.altered_value(content, random)), False
    if what < 0.45:
        return hostile_json.altered_text(content, random), False
    if what < 0.65:
        return hostile_json.sealed(hostile_json.regrown(content, kind.dataclass, random)), False
    if what < 0.8:
        grown = hostile_json.grown(kind.dataclass, random)
        return hostile_json.sealed({"schema": content["schema"], **grown}), False
    if what < 0.84 and content.get("objects"):
        named = {"path": random.choice(_OUTSIDE), "sha256": sha256(_SECRET), "size_bytes": 8}
        random.choice(content["objects"]).update(named)
        return hostile_json.sealed(content), True
    # Of a record in a sealed generation the file's checksum is looked at alone.
    if what < 0.85 and kind.own_checksum:
        return None, True
    data = hostile_json.spoiled(good, random)
    return data, kind.own_checksum and data != good
