"""Sealed generations: what was committed of a layer by some moment, written once more in few files.

A fragment a unit costs ten to a hundred times what one file costs to scan. So a layer's tables,
commit records and masks are written again, a file each, under a generation's name of their own, and
its manifest last: a generation without a manifest is none. Nothing is true because it is sealed:
which units are done, and by which attempt, is said by the commit records alone, and a sealed unit
counts as long as its commit record is the one that was sealed.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from functools import cache
from typing import Annotated

import pyarrow as pa

from circuit_atlas.storage_schema import documents, layer_paths
from circuit_atlas.storage_schema.bounds import Count, Name
from circuit_atlas.storage_schema.columns import UNIT, Column
from circuit_atlas.storage_schema.documents import seal
from circuit_atlas.storage_schema.errors import CorruptError
from circuit_atlas.storage_schema.objects import Entry, Objects
from circuit_atlas.storage_schema.own_path import require_own
from circuit_atlas.storage_schema.ranking import KEEP
from circuit_atlas.storage_schema.row_groups import SealedFile
from circuit_atlas.storage_schema.table import Table
from circuit_atlas.storage_schema.unit_tables import FRAGMENTS, GROUPS, SELECTIVITY
from circuit_atlas.storage_schema.version import NETWORK_SINCE

COMMITS = Table(
    "commits",
    "The commit records of a sealed generation, a row a unit, ascending.",
    (
        UNIT,
        Column(
            "etag",
            pa.string(),
            "",
            "Tag",
            "The store's tag of the commit record when it was sealed: while a listing shows the "
            "same, the record is the same.",
            null="The store has none.",
        ),
        Column("record", pa.binary(), "JSON", "Record", "The commit record, byte for byte."),
    ),
    once=(("unit",),),
    ascending="unit",
)
MASKS = Table(
    "masks",
    "The circuits of a sealed generation: a row a criterion and unit that is done, by criterion, "
    "then ascending. Row groups hold one criterion each.",
    (
        Column("criterion", pa.string(), "", "Criterion", "Which score chose the kernels."),
        UNIT,
        Column(
            "form",
            pa.string(),
            "",
            "Form",
            "Which array the bytes are from.",
            among=("level", "packed"),
        ),
        Column(
            "chunk",
            pa.binary(),
            "",
            "Chunk",
            "The unit's chunk of that array, its last axis fastest.",
        ),
    ),
    once=(("criterion", "unit"),),
)
POLYSEMANTICITY = Table(
    "polysemanticity",
    f"How polysemantic a unit is by its stored groups, where circuits keep {KEEP:g}: a row for "
    "each criterion with scores of single images.",
    (
        Column("criterion", pa.string(), "", "Criterion", "Whose scores."),
        Column(
            "polysemanticity",
            pa.float64(),
            "0 to 1",
            "Polysemanticity",
            "0 for one feature, 1 where images of different groups share no more kernels than "
            "chance.",
            null="It is undefined.",
            least=0,
            most=1,
        ),
    ),
    once=(("criterion",),),
)


@cache
def of_layer(table: Table) -> Table:
    """Return a table of single units as a generation holds it: of all its units, which stand
    ascending."""
    return replace(
        table,
        columns=(UNIT, *table.columns),
        once=tuple((UNIT.name, *names) for names in table.once),
        ascending=UNIT.name,
    )


def tables_of(schema: int) -> tuple[Table, ...]:
    """Return the tables that units of an atlas have, by its schema version."""
    return tuple(
        table
        for table in FRAGMENTS
        if schema >= NETWORK_SINCE or table not in (GROUPS, SELECTIVITY)
    )


@dataclass(frozen=True)
class Manifest:
    """Makes a generation whole."""

    layer: Annotated[Name, "Layer."]
    generation: Annotated[Name, "Its name: a number that goes up, and eight hex digits by chance."]
    units: Annotated[Count, "How many units it holds."]
    objects: Annotated[tuple[SealedFile, ...], "Its files."]

    def find(self, name: str) -> SealedFile | None:
        """Return the file of a table, of `commits` or of `masks`; None where it names none, as of
        `polysemanticity` in a generation of before there was that."""
        path = layer_paths.sealed_file(self.layer, self.generation, name)
        return next((file for file in self.objects if file.path == path), None)

    def file(self, name: str) -> SealedFile:
        """Do the same, and raise CorruptError where it names none."""
        file = self.find(name)
        if file is not None:
            return file
        path = layer_paths.sealed_file(self.layer, self.generation, name)
        raise CorruptError(
            f"{layer_paths.manifest(self.layer, self.generation)} names no {path}: run "
            "`circuit-atlas compact --anew`"
        )

    @property
    def size_bytes(self) -> int:
        """Return the size in bytes of its files, the manifest aside."""
        return sum(file.size_bytes for file in self.objects)

    def to_json(self) -> str:
        """Return the text of the manifest."""
        return seal(
            {
                "layer": self.layer,
                "generation": self.generation,
                "units": self.units,
                "objects": [file.content() for file in self.objects],
            }
        )

    @classmethod
    def from_json(cls, text: str | bytes, *, location: str) -> Manifest:
        """Read what `to_json` wrote; CorruptError or SchemaError where that cannot be read."""
        return documents.read(
            cls,
            text,
            location=location,
            what="manifest of a sealed layer",
            remedy="delete it: what it was made of is stored too",
        )

    def inconsistency(self) -> str | None:
        """Say what does not go together; None where all does."""
        folder = f"{layer_paths.sealed(self.layer)}/{self.generation}/"
        for file in self.objects:
            if not file.path.startswith(folder):
                return f"names `{file.path}`, which is no file of the generation"
            if (fault := file.inconsistency()) is not None:
                return f"says that `{file.path}` {fault}"
        return None

    @classmethod
    def stored_at(cls, objects: Objects, path: str, data: bytes) -> Manifest:
        """Do the same for what lies at a path; CorruptError where it is another generation's."""
        manifest = cls.from_json(data, location=objects.at(path))
        own = layer_paths.manifest(manifest.layer, manifest.generation)
        whose = f"{manifest.layer} {manifest.generation}"
        require_own(objects, path, own, what=f"the manifest of {whose}")
        return manifest


@dataclass(frozen=True)
class Generation:
    """Says what a listing shows of one generation of a layer.

    Attributes:
        name: its name.
        files: its objects by path, the manifest included.
        whole: whether its manifest is there.
    """

    name: str
    files: tuple[Entry, ...]
    whole: bool

    @property
    def number(self) -> int:
        """Return the number that its name begins with."""
        return int(self.name.partition("-")[0])

    @property
    def size_bytes(self) -> int:
        """Return the size in bytes of its objects."""
        return sum(file.size_bytes for file in self.files)


def generations(objects: Objects, layer: str) -> tuple[Generation, ...]:
    """Return every generation of a layer, the oldest first, by one listing; whole or not."""
    files: dict[str, list[Entry]] = {}
    for entry in objects.list(layer_paths.sealed(layer)):
        name = layer_paths.generation_of(entry.path)
        if name is not None:
            files.setdefault(name, []).append(entry)
    listed = [
        Generation(name, tuple(entries), any(layer_paths.is_manifest(e.path) for e in entries))
        for name, entries in files.items()
    ]
    return tuple(sorted(listed, key=lambda generation: (generation.number, generation.name)))


def newest(objects: Objects, layer: str) -> str | None:
    """Return the name of the newest whole generation of a layer, by one listing; None where there
    is none."""
    whole = [generation.name for generation in generations(objects, layer) if generation.whole]
    return whole[-1] if whole else None


def next_name(existing: tuple[Generation, ...]) -> str:
    """Return a name that sorts after those of all others. Two that are drawn at once differ."""
    number = max((generation.number for generation in existing), default=0) + 1
    return f"{number}-{secrets.token_hex(4)}"
