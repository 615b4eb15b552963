"""One wrong value, or one row too many, in one table of an atlas whose records fit it."""

from __future__ import annotations

import contextlib
import io
import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from tempfile import mkdtemp
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from circuit_atlas.service import Atlas
from circuit_atlas.service.commands.cli import main
from circuit_atlas.storage_schema import layout, responses, row_groups, sealed
from circuit_atlas.storage_schema.compaction import compact
from circuit_atlas.storage_schema.documents import parse, seal, sha256
from circuit_atlas.storage_schema.errors import AtlasError, QueryError
from circuit_atlas.storage_schema.image_table import IMAGES
from circuit_atlas.storage_schema.network_tables import NETWORK
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.opening import open_store
from circuit_atlas.storage_schema.response_tables import DISTRIBUTIONS, STEPS
from circuit_atlas.storage_schema.row_groups import Block
from circuit_atlas.storage_schema.sealed import Manifest
from circuit_atlas.storage_schema.table import Table
from circuit_atlas.storage_schema.unit_tables import FRAGMENTS
from tests.fuzz.atlases import LAYER, read_all
from tests.fuzz.files import QUESTIONS, error_is_ours
from tests.fuzz.watch import Run, made
from tests.service.conftest import write_atlas

_COMMANDS = (
    ("show",),
    ("show", LAYER),
    ("show", LAYER, "0"),
    ("show", LAYER, "1", "--json"),
    ("status",),
    ("verify",),
    ("diagram", LAYER, "0"),
)
_NUMBERS = (-1, -(2**31), 2**31 - 1, 99_999, 7)
_FLOATS = (math.nan, math.inf, -math.inf, 1e308, -1e308, -1.0, 7.0)
_TEXTS = ("", "none of these", "x" * 5000, "a\nb", "<script>", "force", "held_out")
_INTERNAL = 70
_OF_LAYER = (
    "units",
    "features",
    "faithfulness",
    "responses",
    "subfeatures",
    "summary",
    "distribution",
    "polysemanticity",
    "masks",
    "similarity",
)
_OF_UNIT = (
    "faithfulness",
    "responses",
    "distribution",
    "subfeatures",
    "top_images",
    "similar",
    "groups",
    "polysemanticity",
    "stability",
    "certificate",
    "selectivity",
    "projection",
    "_repr_html_",
)


def values(folder: Path) -> Run:
    """An atlas of which a table is right but for one value or row: opened by the client, commands
    and the server."""
    from starlette.testclient import TestClient

    from circuit_atlas.service.web.app import create_app

    whole = folder / "whole"
    write_atlas(whole)
    _complete(open_store(whole))
    tables = _tables(whole)

    def run(random: Random) -> None:
        scratch = Path(mkdtemp(dir=folder))
        atlas = scratch / "atlas"
        shutil.copytree(whole, atlas)
        try:
            _alter(atlas, *random.choice(tables), random)
            made()
            refused: AtlasError | None = None
            for read in (lambda: read_all(atlas), lambda: _ask_client(atlas)):
                try:
                    read()
                except AtlasError as error:
                    refused = error
            for command in random.sample(_COMMANDS, 2):
                _command(atlas, command, scratch)
            with TestClient(create_app(atlas), raise_server_exceptions=False) as client:
                for path in random.sample(QUESTIONS, 8):
                    answer = client.get(f"/api/v1/{path}")
                    assert error_is_ours(answer.status_code, answer.content), (path, answer.text)
            if refused is not None:
                raise refused
        finally:
            shutil.rmtree(scratch)

    return run


def _complete(objects: Objects) -> None:
    """Add what the small atlas has not: responses to all images, and a sealed generation."""
    reader = Atlas.open(objects.location).reader
    lists = {
        f"{split}_{what}": [[0, 1], [1, 0], [0, 1]]
        for split in ("scoring", "held_out")
        for what in ("images", "responses", "positions")
    }
    numbers = {name: [1.0, 2.0, 3.0] for name in ("mean", "sd", "low", "high")}
    rows = DISTRIBUTIONS.from_columns(
        {"unit": [0, 1, 2], "images": [5] * 3, **numbers, "counts": [[1] * STEPS] * 3, **lists}
    )
    responses.put_distributions(objects, LAYER, [0, 1, 2], rows)
    compact(objects, reader.header, reader.layer(LAYER))


def _tables(atlas: Path) -> list[tuple[str, Table]]:
    """Path and table of every Parquet file that a client reads."""
    of_units = {table.stored_name: table for table in FRAGMENTS}
    of_layers = {table.name: table for table in NETWORK}
    special = {t.stored_name: t for t in (sealed.COMMITS, sealed.MASKS)}
    found = []
    for file in sorted(atlas.rglob("*.parquet")):
        path = file.relative_to(atlas).as_posix()
        if path == layout.IMAGES:
            found.append((path, IMAGES))
        elif "/units/" in path:
            found.append((path, of_units[file.stem]))
        elif "/responses/" in path:
            found.append((path, DISTRIBUTIONS))
        elif "/sealed/" not in path:
            found.append((path, of_layers[file.stem]))
        elif file.stem in special:
            found.append((path, special[file.stem]))
        elif file.stem in of_units:
            found.append((path, sealed.of_layer(of_units[file.stem])))
    return found


def _alter(atlas: Path, path: str, table: Table, random: Random) -> None:
    """Alter a table, and what the atlas says of its file."""
    file = atlas / path
    old = file.read_bytes()
    rows = pq.read_table(pa.BufferReader(old), use_threads=False)
    if random.random() < 0.75:
        rows = _with_a_wrong_value(rows, random)
    else:
        rows = random.choice(_ROWS)(rows, random)
    rows = pa.Table.from_arrays(rows.columns, schema=rows.schema)
    if "/sealed/" in path:
        _put_sealed(atlas, path, rows, table)
        return
    data = table.to_parquet(rows.replace_schema_metadata(table.stored_schema.metadata))
    file.write_bytes(data)
    for document in atlas.rglob("*.json"):
        text = document.read_bytes()
        if sha256(old).encode() in text and "/sealed/" not in str(document):
            content = parse(text.replace(sha256(old).encode(), sha256(data).encode()))
            for stored in content["objects"]:
                if stored["path"] == path:
                    stored["size_bytes"] = len(data)
            content.pop("sha256")
            document.write_text(seal(content))


def _put_sealed(atlas: Path, path: str, rows: pa.Table, table: Table) -> None:
    """Put a file of a sealed generation, in as many row groups, and a manifest that fits it."""
    (document,) = (atlas / path).parent.glob("manifest.json")
    manifest = Manifest.from_json(document.read_bytes(), location="x")
    (old,) = (file for file in manifest.objects if file.path == path)
    count = len(old.row_groups)
    size = -(-max(rows.num_rows, 1) // count)
    blocks = [
        Block(rows.slice(n * size, size), group.first, group.last, group.criterion)
        for n, group in enumerate(old.row_groups)
    ]
    data, new = row_groups.write(blocks, table.stored_schema, path=path)
    (atlas / path).write_bytes(data)
    others = tuple(new if file.path == path else file for file in manifest.objects)
    changed = Manifest(manifest.layer, manifest.generation, manifest.units, others)
    document.write_text(changed.to_json())


def _with_a_wrong_value(rows: pa.Table, random: Random) -> pa.Table:
    if not rows.num_rows:
        return rows
    number, row = random.randrange(rows.num_columns), random.randrange(rows.num_rows)
    field = rows.schema.field(number)
    column = rows.column(number).to_pylist()
    column[row] = _wrong(field.type, column[row], random)
    if field.nullable and random.random() < 0.2:
        column[row] = None
    return rows.set_column(number, field, pa.array(column, field.type))


def _wrong(kind: pa.DataType, value: Any, random: Random) -> Any:
    if pa.types.is_list(kind):
        inner = list(value or ())
        way = random.randrange(4)
        if way == 0 or not inner:
            return inner[:-1]
        if way == 1:
            return [*inner, inner[0]]
        if way == 2:
            return []
        at = random.randrange(len(inner))
        return [*inner[:at], _wrong(kind.value_type, inner[at], random), *inner[at + 1 :]]
    if pa.types.is_boolean(kind):
        return not value
    if pa.types.is_integer(kind):
        most = 2 ** (kind.bit_width - 1)
        return max(-most, min(most - 1, random.choice(_NUMBERS)))
    if pa.types.is_floating(kind):
        return random.choice(_FLOATS)
    if pa.types.is_string(kind):
        return random.choice(_TEXTS)
    return random.choice((b"", value[:-1], value + b"\0", b"\xff" * len(value)))


def _twice(rows: pa.Table, random: Random) -> pa.Table:
    if not rows.num_rows:
        return rows
    return pa.concat_tables([rows, rows.slice(random.randrange(rows.num_rows), 1)])


def _backwards(rows: pa.Table, random: Random) -> pa.Table:
    del random
    return rows.take(pa.array(range(rows.num_rows - 1, -1, -1), pa.int64()))


def _one_less(rows: pa.Table, random: Random) -> pa.Table:
    at = random.randrange(max(rows.num_rows, 1))
    return pa.concat_tables([rows.slice(0, at), rows.slice(at + 1)])


def _none(rows: pa.Table, random: Random) -> pa.Table:
    del random
    return rows.slice(0, 0)


_ROWS: Sequence[Callable[[pa.Table, Random], pa.Table]] = (_twice, _backwards, _one_less, _none)


def _ask_client(folder: Path) -> None:
    """Ask what programs ask; AtlasError where a part cannot be answered."""
    faults: list[AtlasError] = []

    def ask(question: Callable[[], Any]) -> None:
        try:
            question()
        except QueryError:
            pass
        except AtlasError as error:
            faults.append(error)

    atlas = Atlas.open(folder)
    ask(atlas.images)
    ask(atlas.status)
    for image in range(6):
        ask(lambda image=image: atlas.responding(image))
    layer = atlas.layer(LAYER)
    for name in _OF_LAYER:
        ask(getattr(layer, name))
    ask(lambda: atlas.search("a"))
    ask(lambda: atlas.compare_criteria(layer=LAYER))
    for number in range(3):
        unit = layer.unit(number)
        for name in _OF_UNIT:
            ask(getattr(unit, name))
        ask(lambda unit=unit: unit.circuit(keep=0.5).diagram())
        ask(lambda number=number: atlas.reader.distribution(LAYER, number))
    if faults:
        raise faults[0]


def _command(atlas: Path, command: Sequence[str], scratch: Path) -> None:
    """Run a command; it may refuse."""
    name, *arguments = command
    if name == "diagram":
        arguments += ["-o", str(scratch / "diagram.svg")]
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = main([name, str(atlas), *arguments])
    assert code != _INTERNAL, (command, said.getvalue())
