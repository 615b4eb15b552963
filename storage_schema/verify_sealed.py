"""Holds a sealed generation against what it was made of: commit records, fragments and chunks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa

from circuit_atlas.storage_schema import fragments, sealed, sealed_polysemanticity
from circuit_atlas.storage_schema.commit import Commit, Form
from circuit_atlas.storage_schema.header import AtlasHeader, LayerIndex
from circuit_atlas.storage_schema.objects import Entry, Objects
from circuit_atlas.storage_schema.sealed import Manifest
from circuit_atlas.storage_schema.sealed_layer import SealedLayer
from circuit_atlas.storage_schema.table import Table
from circuit_atlas.storage_schema.unit_arrays import UnitArrays

_THREADS = 8
_SHOWN = 3
_ROUNDING = 1e-9


def differences(
    objects: Objects,
    header: AtlasHeader,
    index: LayerIndex,
    manifest: Manifest,
    commits: Mapping[int, tuple[Entry, Commit]],
) -> Iterator[tuple[str, str]]:
    """Give path and message of each file of a generation that differs from what its units stored.

    Args:
        objects: the store.
        header: the atlas' header.
        index: the layer.
        manifest: of the generation, whose files are as it names them.
        commits: the units whose objects are whole, as listed. Those that were committed anew since
            are not compared.

    CorruptError where the generation cannot be read.
    """
    layer = SealedLayer(objects, manifest)
    wrong = [
        unit
        for unit, (entry, commit) in commits.items()
        if layer.listed_commit(unit, entry) not in (None, commit)
    ]
    if wrong:
        yield _told(objects, manifest, sealed.COMMITS.stored_name, wrong)
    held = {unit: commit for unit, (_, commit) in commits.items() if layer.holds(commit)}
    for table in sealed.tables_of(header.schema):
        wrong = list(_rows(objects, layer, table, held))
        if wrong:
            yield _told(objects, manifest, table.stored_name, wrong)
    if manifest.find(sealed.POLYSEMANTICITY.stored_name) is not None:
        wrong = _polysemanticity(objects, header, index, layer, held)
        if wrong:
            yield _told(objects, manifest, sealed.POLYSEMANTICITY.stored_name, wrong)
    wrong = sorted(set(_masks(UnitArrays(objects, header), header, index, layer, held)))
    if wrong:
        yield _told(objects, manifest, sealed.MASKS.stored_name, wrong)


def _rows(
    objects: Objects, layer: SealedLayer, table: Table, held: Mapping[int, Commit]
) -> Iterator[int]:
    """Units whose rows of a table differ."""
    rest = dict(sorted(held.items()))
    ends = [group.last for group in layer.manifest.file(table.stored_name).row_groups]
    for end in [*ends[:-1], max(rest, default=0)]:  # as many at a time as a row group holds
        some = {unit: commit for unit, commit in rest.items() if unit <= end}
        if not some:
            continue
        rest = {unit: commit for unit, commit in rest.items() if unit > end}
        pieces = fragments.read(objects, list(some.values()), table)
        stored = [fragments.with_unit(rows, unit) for unit, rows in zip(some, pieces, strict=True)]
        rows = layer.table(table, some.keys())
        if _same(rows, pa.concat_tables(stored)):
            continue
        for unit, piece in zip(some, stored, strict=True):
            if not _same(layer.table(table, {unit}), piece):
                yield unit


def _polysemanticity(
    objects: Objects,
    header: AtlasHeader,
    index: LayerIndex,
    layer: SealedLayer,
    held: Mapping[int, Commit],
) -> list[int]:
    """Units of which it differs from what their scores and groups give."""
    table = layer.table(sealed.POLYSEMANTICITY, held)
    columns = (table[name].to_pylist() for name in table.column_names)
    present = {(unit, criterion): value for unit, criterion, value in zip(*columns, strict=True)}
    done = [commit for commit in held.values() if commit.state == "done"]
    expected = {}
    with ThreadPoolExecutor(_THREADS) as pool:
        for unit, rows in sealed_polysemanticity.of_units(objects, header, index, done, pool):
            for row in rows.to_pylist():
                expected[unit, row["criterion"]] = row["polysemanticity"]
    keys = present.keys() | expected.keys()
    return sorted(
        {
            key[0]
            for key in keys
            if key not in present or key not in expected or _apart(present[key], expected[key])
        }
    )


def _apart(first: float | None, second: float | None) -> bool:
    # Another processor may add in another order; what the sum is of is counted, and the same.
    if first is None or second is None:
        return first is not second
    return abs(first - second) > _ROUNDING


def _same(first: pa.Table, second: pa.Table) -> bool:
    # Where they seem to differ it may be by NaN, which Arrow holds unequal to itself.
    return first.equals(second) or repr(first.to_pylist()) == repr(second.to_pylist())


def _masks(
    stored: UnitArrays,
    header: AtlasHeader,
    index: LayerIndex,
    layer: SealedLayer,
    held: Mapping[int, Commit],
) -> Iterator[int]:
    """Units whose circuits differ."""
    done = {unit: commit for unit, commit in held.items() if commit.state == "done"}

    def differs(one: tuple[str, int, Form, bytes]) -> bool:
        criterion, unit, form, chunk = one
        circuits = stored.circuits(index, done[unit], criterion)
        return (circuits.form, circuits.chunk.tobytes()) != (form, chunk)

    with ThreadPoolExecutor(_THREADS) as pool:
        for criterion in header.criteria:
            missing = set(done)
            for group in _groups(layer, criterion, done):
                missing -= {unit for _, unit, _, _ in group}
                for one, wrong in zip(group, pool.map(differs, group), strict=True):
                    if wrong:
                        yield one[1]
            yield from missing


def _groups(
    layer: SealedLayer, criterion: str, done: Mapping[int, Commit]
) -> Iterator[list[tuple[str, int, Form, bytes]]]:
    """The circuits of some units, a few at a time."""
    group = []
    for unit, form, chunk in layer.masks(criterion, done.keys()):
        group.append((criterion, unit, form, chunk.tobytes()))
        if len(group) == 8 * _THREADS:
            yield group
            group = []
    yield group


def _told(objects: Objects, manifest: Manifest, name: str, units: list[int]) -> tuple[str, str]:
    path = manifest.file(name).path
    shown = ", ".join(str(unit) for unit in units[:_SHOWN]) + ", ..." * (len(units) > _SHOWN)
    return path, (
        f"{objects.at(path)} differs from what was stored of unit {shown}: run "
        "`circuit-atlas compact --anew`, which writes it again"
    )
