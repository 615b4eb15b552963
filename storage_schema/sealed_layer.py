"""One whole generation of a layer, read: its commit records, its tables, its masks."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from circuit_atlas.storage_schema import layer_paths, row_groups, sealed
from circuit_atlas.storage_schema.commit import COMMIT_RECORD, Commit, Form
from circuit_atlas.storage_schema.documents import accepted, decode
from circuit_atlas.storage_schema.errors import CorruptError
from circuit_atlas.storage_schema.objects import Entry, Objects
from circuit_atlas.storage_schema.row_groups import RowGroup
from circuit_atlas.storage_schema.sealed import Manifest
from circuit_atlas.storage_schema.table import Table

_REMEDY = "run `circuit-atlas compact --anew`"


class SealedLayer:
    """A generation whose manifest and commit records were read. Nothing of it ever changes; where
    it is deleted meanwhile, reading raises FileNotFoundError."""

    def __init__(self, objects: Objects, manifest: Manifest) -> None:
        """Read the commit records: FileNotFoundError or CorruptError as of `row_groups.read`."""
        self._objects = objects
        self.manifest = manifest
        rows = self._rows(sealed.COMMITS, groups=None)
        units, etags, records = (rows[name].to_pylist() for name in ("unit", "etag", "record"))
        self._etags: dict[int, str | None] = dict(zip(units, etags, strict=True))
        self._records: dict[int, bytes] = dict(zip(units, records, strict=True))
        self._commits: dict[int, Commit] = {}
        self._location = objects.at(manifest.file(sealed.COMMITS.stored_name).path)

    def record(self, unit: int) -> bytes | None:
        """Return the commit record of a unit as it was sealed, byte for byte; None where it was
        not."""
        return self._records.get(unit)

    def commit(self, unit: int) -> Commit | None:
        """Return the commit of a unit as it was sealed; None where it was not."""
        if unit not in self._commits and unit in self._records:
            # The file's checksum holds for the record too: what `unseal` would look at again.
            try:
                content = decode(self._records[unit])
            except ValueError as error:
                raise CorruptError(
                    f"{self._location}: unit {unit} has no record: {error}"
                ) from error
            self._commits[unit] = accepted(
                Commit, content, location=self._location, what=COMMIT_RECORD, remedy=_REMEDY
            )
        return self._commits.get(unit)

    def holds_listed(self, unit: int, entry: Entry) -> bool:
        """Tell whether the commit record that a listing shows of a unit is the one that was
        sealed; not where it may be another."""
        record = self._records.get(unit)
        return (
            record is not None
            and len(record) == entry.size_bytes
            and entry.etag is not None
            and entry.etag == self._etags[unit]
        )

    def listed_commit(self, unit: int, entry: Entry) -> Commit | None:
        """Return the commit of a unit whose commit record a listing shows, or None where it may be
        another than the one that was sealed."""
        return self.commit(unit) if self.holds_listed(unit, entry) else None

    def recorded_commit(self, unit: int, record: bytes) -> Commit | None:
        """Return the commit of a unit whose commit record was read, or None where it is another
        than the one that was sealed."""
        return self.commit(unit) if self._records.get(unit) == record else None

    def holds(self, commit: Commit) -> bool:
        """Tell whether the unit was sealed as this commit has it."""
        own = self.commit(commit.unit)
        return own is commit or own == commit

    def table(
        self, table: Table, units: Collection[int], *, columns: Sequence[str] | None = None
    ) -> pa.Table:
        """Return the rows of some of its units, ascending, all columns or some after `unit`."""
        whole = sealed.of_layer(table)
        names = whole.stored_schema.names if columns is None else ["unit", *columns]
        groups = self._groups(table.stored_name, units)
        rows = self._rows(whole, groups=groups, columns=names)
        asked = np.isin(rows["unit"].to_numpy(), np.fromiter(units, np.int32, len(units)))
        return rows if asked.all() else rows.filter(pa.array(asked))

    def masks(
        self, criterion: str, units: Collection[int]
    ) -> Iterator[tuple[int, Form, NDArray[np.uint8]]]:
        """Give unit, form and chunk of some of its units that are done, ascending; a row group,
        some megabytes, is held at a time. Chunks are flat."""
        for group in self._groups(sealed.MASKS.stored_name, units, criterion=criterion):
            rows = self._rows(sealed.MASKS, groups=[group], columns=["unit", "form", "chunk"])
            for batch in rows.to_batches():
                numbers, forms = (batch.column(n).to_pylist() for n in (0, 1))
                for unit, form, chunk in zip(numbers, forms, batch.column(2), strict=True):
                    if unit in units:
                        yield unit, form, np.frombuffer(chunk.as_buffer(), np.uint8)

    def _groups(
        self, name: str, units: Collection[int], *, criterion: str | None = None
    ) -> list[int]:
        """The row groups of a file in which some units may have rows."""
        asked = np.sort(np.fromiter(units, np.int64, len(units)))

        def holds(group: RowGroup) -> bool:
            at = np.searchsorted(asked, group.first)
            return bool(at < len(asked) and asked[at] <= group.last)

        return [
            number
            for number, group in enumerate(self.manifest.file(name).row_groups)
            if group.criterion == criterion and holds(group)
        ]

    def _rows(
        self, table: Table, *, groups: Sequence[int] | None, columns: Sequence[str] | None = None
    ) -> pa.Table:
        file = self.manifest.file(table.stored_name)
        chosen = range(len(file.row_groups)) if groups is None else groups
        try:
            return row_groups.read(self._objects, file, table, groups=chosen, columns=columns)
        except FileNotFoundError as error:
            path = layer_paths.manifest(self.manifest.layer, self.manifest.generation)
            if self._objects.exists(path):
                raise CorruptError(
                    f"{error}: run `circuit-atlas compact --anew`, which writes it again from what "
                    "it was made of"
                ) from error
            raise  # the generation was deleted, its manifest first


def open_newest(
    objects: Objects, layer: str, held: SealedLayer | None = None
) -> SealedLayer | None:
    """Open the newest whole generation of a layer; None where there is none.

    Args:
        objects: the store.
        layer: its name.
        held: an open generation, which is the answer where there is none newer.

    CorruptError where the generation cannot be read.
    """
    whole = [listed for listed in sealed.generations(objects, layer) if listed.whole]
    # The newest may be deleted as it is read, by another that is newer than the listing.
    for generation in reversed(whole):
        if held is not None and held.manifest.generation == generation.name:
            return held
        path = layer_paths.manifest(layer, generation.name)
        try:
            return SealedLayer(objects, Manifest.stored_at(objects, path, objects.get(path)))
        except FileNotFoundError:
            continue
    return None
