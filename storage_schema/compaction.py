"""Writes a layer's sealed generation from its commit records, fragments and chunks.

The files come first and the manifest last, each put if absent, under a name that no other has: so
whenever it ends, and however many do it at once, readers find whole generations alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa

from circuit_atlas.storage_schema import (
    fragments,
    layer_paths,
    row_groups,
    sealed,
    sealed_polysemanticity,
)
from circuit_atlas.storage_schema.commit import Commit
from circuit_atlas.storage_schema.errors import WriteError
from circuit_atlas.storage_schema.header import AtlasHeader, LayerIndex
from circuit_atlas.storage_schema.layer_listing import list_committed
from circuit_atlas.storage_schema.objects import Entry, Objects
from circuit_atlas.storage_schema.row_groups import Block, SealedFile
from circuit_atlas.storage_schema.sealed import COMMITS, MASKS, POLYSEMANTICITY, Manifest
from circuit_atlas.storage_schema.sealed_layer import open_newest
from circuit_atlas.storage_schema.table import Table
from circuit_atlas.storage_schema.unit_arrays import Circuits, UnitArrays
from circuit_atlas.storage_schema.version import NETWORK_SINCE

_UNITS_AT_ONCE = 32
_THREADS = 8
# Of a row group: large enough to be read at the speed of the disk, small enough that who asks for a
# few hundred units does not read a thousand.
_ROWS = 2**14
_CHUNK_BYTES = 16 * 2**20


@dataclass(frozen=True)
class _Committed:
    """A unit, and its commit record as it was listed and read."""

    unit: int
    entry: Entry
    record: bytes
    commit: Commit


def compact(
    objects: Objects, header: AtlasHeader, index: LayerIndex, *, anew: bool = False
) -> Manifest | None:
    """Write a layer's units once more, in few files, unless its newest generation has all of them.

    Args:
        objects: the store.
        header: the atlas' header.
        index: the layer.
        anew: write even where the newest generation has all units.

    Returns:
        What was written, or None where nothing was to be done.

    Raises:
        StoreError: something committed cannot be read, or was deleted meanwhile.
        WriteError: the store refused. What was written of the generation is no part of the atlas.
    """
    layer = index.layer
    entries = list_committed(objects, layer)
    if not entries or not (anew or _has_news(objects, layer, entries)):
        return None
    committed = _read(objects, entries)
    name = sealed.next_name(sealed.generations(objects, layer))
    files = []
    for table in sealed.tables_of(header.schema):
        blocks = _row_blocks(objects, [one.commit for one in committed], table)
        files.append(_put(objects, layer, name, sealed.of_layer(table), blocks))
    if header.schema >= NETWORK_SINCE:
        blocks = _polysemanticity_blocks(objects, header, index, committed)
        files.append(_put(objects, layer, name, sealed.of_layer(POLYSEMANTICITY), blocks))
    blocks = _mask_blocks(UnitArrays(objects, header), header, index, committed)
    files.append(_put(objects, layer, name, MASKS, blocks, plain=["chunk"]))
    blocks = iter([_record_block(committed)])
    files.append(_put(objects, layer, name, COMMITS, blocks, plain=["etag", "record"]))
    manifest = Manifest(layer, name, len(committed), tuple(files))
    _require_files(objects, manifest)
    _put_new(objects, layer_paths.manifest(layer, name), manifest.to_json().encode())
    return manifest


def _has_news(objects: Objects, layer: str, entries: dict[int, Entry]) -> bool:
    """Whether a unit was committed since the newest generation, or may have been: after an atlas
    was copied its store tags every object anew, and readers would look into every commit record."""
    newest = open_newest(objects, layer)
    return newest is None or any(
        not newest.holds_listed(unit, entry) for unit, entry in entries.items()
    )


def _read(objects: Objects, entries: dict[int, Entry]) -> list[_Committed]:
    """The commit records, by ascending unit."""
    committed = []
    units = sorted(entries)
    records = objects.get_listed([entries[unit].path for unit in units])
    for unit, record in zip(units, records, strict=True):
        commit = Commit.stored_at(objects, entries[unit].path, record)
        committed.append(_Committed(unit, entries[unit], record, commit))
    return committed


def _row_blocks(objects: Objects, commits: Sequence[Commit], table: Table) -> Iterator[Block]:
    """The rows of one table of all units, read some units at a time."""
    pieces: list[pa.Table] = []
    units: list[int] = []
    for at in range(0, len(commits), _UNITS_AT_ONCE):
        some = commits[at : at + _UNITS_AT_ONCE]
        for commit, rows in zip(some, fragments.read(objects, some, table), strict=True):
            pieces.append(fragments.with_unit(rows, commit.unit))
            units.append(commit.unit)
            if sum(map(len, pieces)) >= _ROWS:
                yield _block(pieces, units)
                pieces, units = [], []
    if pieces:
        yield _block(pieces, units)


def _block(pieces: Sequence[pa.Table], units: Sequence[int]) -> Block:
    return Block(pa.concat_tables(pieces), units[0], units[-1])


def _polysemanticity_blocks(
    objects: Objects, header: AtlasHeader, index: LayerIndex, committed: Sequence[_Committed]
) -> Iterator[Block]:
    """How polysemantic the units that are done are: a row or a few each, all in one block."""
    done = [one.commit for one in committed if one.commit.state == "done"]
    with ThreadPoolExecutor(_THREADS) as pool:
        rows = dict(sealed_polysemanticity.of_units(objects, header, index, done, pool))
    if rows:
        yield _block([fragments.with_unit(r, unit) for unit, r in rows.items()], list(rows))


def _mask_blocks(
    stored: UnitArrays, header: AtlasHeader, index: LayerIndex, committed: Sequence[_Committed]
) -> Iterator[Block]:
    """The circuits of all units that are done, criterion by criterion."""
    done = [one.commit for one in committed if one.commit.state == "done"]
    with ThreadPoolExecutor(_THREADS) as pool:
        for criterion in header.criteria:
            waiting: list[tuple[int, Circuits]] = []
            for at in range(0, len(done), _UNITS_AT_ONCE):
                some = done[at : at + _UNITS_AT_ONCE]
                circuits = pool.map(lambda c, name=criterion: stored.circuits(index, c, name), some)
                waiting += zip((commit.unit for commit in some), circuits, strict=True)
                if sum(circuits.chunk.nbytes for _, circuits in waiting) >= _CHUNK_BYTES:
                    yield _mask_block(criterion, waiting)
                    waiting = []
            if waiting:
                yield _mask_block(criterion, waiting)


def _mask_block(criterion: str, circuits: Sequence[tuple[int, Circuits]]) -> Block:
    units = [unit for unit, _ in circuits]
    rows = MASKS.from_columns(
        {
            "criterion": [criterion] * len(circuits),
            "unit": units,
            "form": [one.form for _, one in circuits],
            "chunk": [one.chunk.tobytes() for _, one in circuits],
        }
    )
    return Block(rows, units[0], units[-1], criterion)


def _record_block(committed: Sequence[_Committed]) -> Block:
    units = [one.unit for one in committed]
    rows = COMMITS.from_columns(
        {
            "unit": units,
            "etag": [one.entry.etag for one in committed],
            "record": [one.record for one in committed],
        }
    )
    return Block(rows, units[0], units[-1])


def _put(
    objects: Objects,
    layer: str,
    generation: str,
    table: Table,
    blocks: Iterator[Block],
    *,
    plain: Sequence[str] = (),
) -> SealedFile:
    path = layer_paths.sealed_file(layer, generation, table.stored_name)
    data, file = row_groups.write(blocks, table.stored_schema, path=path, plain=plain)
    _put_new(objects, path, data)
    return file


def _put_new(objects: Objects, path: str, data: bytes) -> None:
    if not objects.create(path, data):
        raise WriteError(
            f"{objects.at(path)} is there already: two generations drew the same name; run again"
        )


def _require_files(objects: Objects, manifest: Manifest) -> None:
    """WriteError where a file is gone: deleted as left over, by one that was told not to wait."""
    prefix = layer_paths.sealed(manifest.layer)
    there = {entry.path for entry in objects.list(f"{prefix}/{manifest.generation}")}
    for file in manifest.objects:
        if file.path not in there:
            raise WriteError(f"{objects.at(file.path)} was deleted as it was written: run again")
