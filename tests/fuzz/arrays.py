"""Chunks of Zarr arrays, and their metadata: altered by chance, or of few bytes for gigabytes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import google_crc32c
import numpy as np

from circuit_atlas.storage_schema.commit import StoredObject
from circuit_atlas.storage_schema.reader import Reader
from tests.fuzz.atlases import LAYER, commit_of, put_altered
from tests.fuzz.mutation import altered as altered_bytes
from tests.fuzz.watch import Prepare, Run
from tests.service.conftest import write_atlas

_MAGIC = b"\x28\xb5\x2f\xfd"
_BLOCK = 1 << 17
_UNIT = 0


def altered(folder: Path) -> Run:
    """A unit's chunk, or an array's metadata, with some bytes altered."""

    def change(data: bytes, random: Random) -> bytes:
        # With a checksum that holds, so that what lies below it is looked at too.
        return (
            _checked(altered_bytes(data[:-4], random))
            if random.random() < 0.7
            else (altered_bytes(data, random))
        )

    return _of_chunks(change)(folder)


def bombs(folder: Path) -> Run:
    """A unit's chunk that says, or unpacks to, another size than the array's chunks have."""
    return _of_chunks(lambda data, random: random.choice(_BOMBS)(data, random))(folder)


def _of_chunks(change: Callable[[bytes, Random], bytes]) -> Prepare:
    def prepare(folder: Path) -> Run:
        atlas = folder / "atlas"
        write_atlas(atlas)
        commit = commit_of(atlas, _UNIT)
        record = next((atlas / "layers" / LAYER / "commits").glob(f"{_UNIT}.json"))
        chunks = [stored for stored in commit.objects if "/arrays.zarr/" in stored.path]
        kept = record.read_bytes()

        def run(random: Random) -> None:
            stored = random.choice(chunks)
            metadata = next(
                parent / "zarr.json"
                for parent in (atlas / stored.path).parents
                if (parent / "zarr.json").exists()
            )
            whole, described = (atlas / stored.path).read_bytes(), metadata.read_bytes()
            try:
                put_altered(atlas, _UNIT, stored, change(whole, random))
                if random.random() < 0.3:
                    metadata.write_bytes(_other_metadata(described, random))
                _read(atlas, stored)
            finally:
                (atlas / stored.path).write_bytes(whole)
                metadata.write_bytes(described)
                record.write_bytes(kept)

        return run

    return prepare


def _read(atlas: Path, stored: StoredObject) -> None:
    reader = Reader(atlas)
    commit = reader.commit(LAYER, _UNIT)
    assert commit is not None
    name, criterion = stored.path.split("/arrays.zarr/")[1].split("/")[:2]
    reads: dict[str, Callable[[], Any]] = {
        "contribution": lambda: reader.contribution(commit),
        "response_map": lambda: reader.response_maps(commit),
        "score": lambda: reader.scores(commit, criterion),
        "level": lambda: reader.levels(commit, criterion),
        "packed": lambda: reader.levels(commit, criterion),
        "image_score": lambda: reader.image_scores(commit, criterion),
        "image_scale": lambda: reader.image_scores(commit, criterion),
    }
    np.asarray(reads[name]()).sum()


def _checked(data: bytes) -> bytes:
    return data + int(google_crc32c.value(data)).to_bytes(4, "little")


def frame(size_bytes: int, *, said: int | None, checked: bool = False) -> bytes:
    """A frame of zstd that unpacks to zeros, four bytes for 128 KiB.

    Args:
        size_bytes: what it unpacks to.
        said: what it says that it unpacks to; None for nothing.
        checked: that it has a checksum, which is a wrong one.
    """
    flag = 4 if checked else 0
    if said is None:
        head = bytes([flag, 0x70])  # a window of 16 MiB
    else:
        head = bytes([0xE0 | flag]) + (said % 2**64).to_bytes(8, "little")
    blocks = []
    left = size_bytes
    while True:
        size = min(left, _BLOCK)
        left -= size
        blocks.append(((size << 3) | 2 | (not left)).to_bytes(3, "little") + b"\0")
        if not left:
            break
    return _MAGIC + head + b"".join(blocks) + (b"\0" * 4 if checked else b"")


def _size(random: Random) -> int:
    return random.choice((0, 1, 2**17, 2**20, 2**30, 2**32, 2**34))


def _long(data: bytes, random: Random) -> bytes:
    """Says what it unpacks to, whatever is expected."""
    del data
    size = _size(random)
    return _checked(frame(size, said=size, checked=random.random() < 0.1))


def _silent(data: bytes, random: Random) -> bytes:
    """Does not say what it unpacks to."""
    del data
    return _checked(frame(_size(random), said=None))


def _lying(data: bytes, random: Random) -> bytes:
    """Says the size that is expected, or any, and unpacks to another."""
    del data
    said = random.choice((0, 52, 4 * 52, 2**40, 2**63, 2**64 - 1, 2**64 - 2))
    return _checked(frame(_size(random), said=said))


def _several(data: bytes, random: Random) -> bytes:
    """Many frames one behind the other, some of them to be skipped."""
    skipped = b"\x50\x2a\x4d\x18" + (8).to_bytes(4, "little") + b"\0" * 8
    pieces = [random.choice((data[:-4], skipped, frame(2**20, said=2**20))) for _ in range(40)]
    return _checked(b"".join(pieces))


def _random(data: bytes, random: Random) -> bytes:
    """A frame's beginning, and then anything."""
    del data
    return _checked(_MAGIC + random.randbytes(random.choice((0, 1, 20, 5000))))


_BOMBS: Sequence[Callable[[bytes, Random], bytes]] = (_long, _silent, _lying, _several, _random)


def _other_metadata(data: bytes, random: Random) -> bytes:
    """An array's metadata that says something else, or is a bomb itself."""
    content = json.loads(data)
    changes: Sequence[Callable[[], object]] = (
        lambda: content.update(shape=[2**60] * len(content["shape"])),
        lambda: content.update(data_type=random.choice(("float64", "string", "bytes", "r8", {}))),
        lambda: content.update(codecs=[{"name": "gzip", "configuration": {"level": 1}}]),
        lambda: content.update(codecs=[{"name": "numcodecs.pickle", "configuration": {}}]),
        lambda: content.update(fill_value="x" * 10**6),
        lambda: content["chunk_grid"]["configuration"].update(chunk_shape=[1, 1, 2**40]),
        lambda: content.update(attributes={"a": list(range(10**5))}),
    )
    random.choice(changes)()
    text = json.dumps(content).encode()
    return random.choice((text, text, b"[" * 10**5, altered_bytes(data, random)))
