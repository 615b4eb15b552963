"""What all images do to the units of a layer: stored chunk by chunk, then summed up in one table.

Several builds may ask for units of one layer. Those that no earlier build has are a set of their
own, named by a digest of their numbers: so a build that is resumed finds its chunks again. A chunk
has its SHA-256 in its name, and the table of a set has a record, put last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated

import pyarrow as pa
import pyarrow.compute as pc

from circuit_atlas.storage_schema import documents, layer_paths, response_paths
from circuit_atlas.storage_schema.bounds import UnitNumber, ascend
from circuit_atlas.storage_schema.commit import ONE, StoredObject
from circuit_atlas.storage_schema.documents import canonical, seal, sha256
from circuit_atlas.storage_schema.errors import CorruptError
from circuit_atlas.storage_schema.network_tables import CHANNELS
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.own_path import require_own
from circuit_atlas.storage_schema.response_tables import DISTRIBUTIONS, STEPS
from circuit_atlas.storage_schema.table import Table
from circuit_atlas.storage_schema.wording import REPAIR

CHUNK_IMAGES = 512
"""Places of images a chunk: so many that a file of some hundred units is worth a request."""


@dataclass(frozen=True)
class ResponsesRecord:
    """Names the table of a set of units."""

    units: Annotated[tuple[UnitNumber, ...], "Their numbers, ascending."]
    objects: Annotated[tuple[StoredObject, ...], ONE, "The table."]

    @classmethod
    def from_json(cls, text: str | bytes, *, location: str) -> ResponsesRecord:
        """Read the document; CorruptError or SchemaError where there is none."""
        return documents.read(cls, text, location=location, what="record of responses")

    def inconsistency(self) -> str | None:
        """Say what does not go together; None where all does."""
        if not ascend(self.units):
            return "has `units` that do not ascend"
        (stored,) = self.objects
        if not response_paths.is_distributions(stored.path, key_of(self.units)):
            return f"names `{stored.path}`, which is no table of these units"
        return None

    @classmethod
    def stored_at(cls, objects: Objects, path: str, data: bytes) -> ResponsesRecord:
        """Do the same for what lies at a path; CorruptError where it is that of other units or of
        another layer, or names another table than that beside it."""
        record = cls.from_json(data, location=objects.at(path))
        layer = response_paths.responses_layer(path)
        own = response_paths.responses_record(layer, key_of(record.units))
        require_own(objects, path, own, what="the record of other units' responses")
        table = response_paths.distributions(layer, key_of(record.units))
        if [stored.path for stored in record.objects] != [table]:
            named = ", ".join(stored.path for stored in record.objects)
            raise CorruptError(
                f"{objects.at(path)} names {named or 'no table'} and not {table}, moved here from "
                f"another layer: {REPAIR}"
            )
        return record


def key_of(units: Sequence[int]) -> str:
    """Return the name of a set of units."""
    return sha256(canonical(sorted(units)).encode())


def put_chunk(objects: Objects, layer: str, key: str, chunk: int, data: bytes) -> None:
    """Store a Parquet file of what a chunk of images does to a set of units, or to the channels of
    the layer's network; WriteError where the store refuses."""
    objects.put_if_absent(response_paths.response_chunk(layer, key, chunk, sha256(data)), data)


def chunks(objects: Objects, layer: str, key: str) -> dict[int, str]:
    """Return the path of every chunk of a set that is there, by number: one listing.

    Where two workers made one chunk and rounded otherwise, the first by name counts.
    """
    found: dict[int, str] = {}
    for entry in objects.list(response_paths.response_chunks(layer, key)):
        named = response_paths.chunk_of_responses(entry.path)
        if named is not None:
            found.setdefault(named[0], entry.path)
    return dict(sorted(found.items()))


def read_chunk(objects: Objects, path: str, table: Table) -> pa.Table:
    """Return the rows of a chunk, of `CHUNK` or of `network_tables.CHANNELS`; CorruptError where it
    is missing or altered."""
    data, named = _get(objects, path), response_paths.chunk_of_responses(path)
    location = objects.at(path)
    if named is None or sha256(data) != named[1]:
        raise CorruptError(f"{location} is cut or altered: delete it and run the build again")
    return table.from_parquet(data, location=location, digest=named[1])


def put_distributions(
    objects: Objects, layer: str, units: Sequence[int], rows: pa.Table
) -> ResponsesRecord:
    """Store the table of a set of units, and its record; WriteError where the store refuses."""
    key = key_of(units)
    path, record = (
        response_paths.distributions(layer, key),
        response_paths.responses_record(layer, key),
    )
    objects.put_if_absent(path, DISTRIBUTIONS.to_parquet(rows))
    # Read back: a racing build's may lie there, rounded otherwise.
    data = objects.get(path)
    stored = StoredObject(path, len(data), sha256(data))
    document = {"units": sorted(units), "objects": [asdict(stored)]}
    objects.put_if_absent(record, seal(document).encode())
    return ResponsesRecord(tuple(sorted(units)), (stored,))


def records(objects: Objects, layer: str) -> dict[str, ResponsesRecord]:
    """Return the record of each set of the layer's units whose table is there, by its key."""
    folder = response_paths.responses(layer)
    paths = [f"{folder}/{name}" for name in objects.names(folder)]
    paths = [path for path in paths if response_paths.is_responses(path)]
    return {
        path.rsplit("/", 1)[1].removesuffix(".json"): ResponsesRecord.stored_at(objects, path, data)
        for path, data in zip(paths, objects.get_listed(paths), strict=True)
    }


def distributions(objects: Objects, record: ResponsesRecord) -> pa.Table:
    """Return `DISTRIBUTIONS` of a set of units; CorruptError where it is missing or altered."""
    (stored,) = record.objects
    data, location = _get(objects, stored.path), objects.at(stored.path)
    if sha256(data) != stored.sha256:
        raise CorruptError(f"{location} is cut or altered: {REPAIR}")
    rows = DISTRIBUTIONS.from_parquet(data, location=location, digest=stored.sha256)
    if (fault := _fault(rows, record)) is not None:
        raise CorruptError(f"{location} {fault}: {REPAIR}")
    return rows


def _fault(rows: pa.Table, record: ResponsesRecord) -> str | None:
    """Say what does not go together in the rows of a set of units; None where all does."""
    if rows["unit"].to_pylist() != list(record.units):
        return "is of other units than its record"
    some = rows.filter(pc.greater(rows["images"], 0))
    if any(some[name].null_count for name in ("mean", "sd", "low", "high")):
        return "counts images of which it knows nothing"
    if pc.any(pc.greater(some["low"], some["high"])).as_py():
        return "has a smallest response above the largest"
    if set(pc.list_value_length(some["counts"]).to_pylist()) - {STEPS}:
        return f"has a histogram of other than {STEPS} steps"
    for split in ("scoring", "held_out"):
        of_images, *others = (
            pc.list_value_length(rows[f"{split}_{name}"])
            for name in ("images", "responses", "positions")
        )
        if any(not of_images.equals(other) for other in others):
            return "has lists of top images that differ in length"
    return None


def put_channels(objects: Objects, layer: str, rows: pa.Table) -> None:
    """Store where each channel of a layer's network responds most, for the worker that stores the
    rest of it; WriteError where the store refuses."""
    objects.put_if_absent(layer_paths.channels(layer), CHANNELS.to_parquet(rows))


def found_channels(objects: Objects, layer: str) -> pa.Table:
    """Return what `put_channels` stored; CorruptError where it is missing or altered."""
    path = layer_paths.channels(layer)
    return CHANNELS.from_parquet(_get(objects, path), location=objects.at(path))


def _get(objects: Objects, path: str) -> bytes:
    try:
        return objects.get(path)
    except FileNotFoundError as error:
        raise CorruptError(f"{error}, and was there: {REPAIR}") from error
