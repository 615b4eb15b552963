"""The schema page, made from the definitions: `python -m circuit_atlas.storage_schema.page`."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, get_type_hints

from circuit_atlas.storage_schema import layout, quantise, sealed
from circuit_atlas.storage_schema.arrays import ARRAYS, ATTEMPTS, AXES
from circuit_atlas.storage_schema.claim import Claim
from circuit_atlas.storage_schema.commit import Commit, Failure, StoredObject
from circuit_atlas.storage_schema.directions import DirectionsRecord
from circuit_atlas.storage_schema.document_schema import stored_keys, values_of
from circuit_atlas.storage_schema.header import AtlasHeader, LayerIndex, UnitInfo
from circuit_atlas.storage_schema.heartbeat import Activity, Heartbeat
from circuit_atlas.storage_schema.image_table import IMAGES
from circuit_atlas.storage_schema.kernels import Convolution
from circuit_atlas.storage_schema.labels import UnitLabels
from circuit_atlas.storage_schema.network_tables import NETWORK
from circuit_atlas.storage_schema.pixels import ImagesRecord, PixelForm, PixelsRecord
from circuit_atlas.storage_schema.prepared import PreparedChunk, PreparedImage, PreparedSource
from circuit_atlas.storage_schema.response_tables import RESPONSE_TABLES
from circuit_atlas.storage_schema.responses import ResponsesRecord
from circuit_atlas.storage_schema.row_groups import RowGroup, SealedFile, Stretch
from circuit_atlas.storage_schema.sample import Drawn, Sample
from circuit_atlas.storage_schema.sealed import COMMITS, MASKS, POLYSEMANTICITY, Manifest
from circuit_atlas.storage_schema.table import Table
from circuit_atlas.storage_schema.template import Plan
from circuit_atlas.storage_schema.unit_tables import FRAGMENTS, ON_REQUEST
from circuit_atlas.storage_schema.version import SCHEMA_VERSION
from circuit_atlas.storage_schema.visualization_plan import PlannedVisualizations, VisualizationPlan
from circuit_atlas.storage_schema.visualizations import FeatureCircuit, FeatureRecord
from circuit_atlas.storage_schema.wiring import Wiring

_DOCUMENTS: tuple[tuple[str, type[Any]], ...] = (
    ("`atlas.json`", AtlasHeader),
    ("`atlas.json`, `sample`", Sample),
    ("`atlas.json`, `sample`, each split", Drawn),
    ("`layer.json`", LayerIndex),
    ("`layer.json`, each of `units`", UnitInfo),
    ("`layer.json`, `directions`", DirectionsRecord),
    ("`layer.json`, each of `index`", Convolution),
    ("`images.json`", ImagesRecord),
    ("`images.json`, `pixels`", PixelsRecord),
    ("`images.json`, `pixels`, `form`", PixelForm),
    ("The record of a prepared chunk", PreparedChunk),
    ("The record of a prepared chunk, each of `images`", PreparedImage),
    ("The record of a prepared source", PreparedSource),
    ("A commit record", Commit),
    (
        "A commit record, each of `objects`; also of `layer.json`, `network.json`, `images.json` "
        "and the record of a table of responses",
        StoredObject,
    ),
    ("Labels of units", UnitLabels),
    ("The record of a table of responses", ResponsesRecord),
    ("`wiring.json`", Wiring),
    ("A feature visualization's record", FeatureRecord),
    ("A feature visualization's record, `circuit`", FeatureCircuit),
    ("A plan of feature visualizations", VisualizationPlan),
    ("A plan of feature visualizations, each of `pictures`", PlannedVisualizations),
    ("A failure record", Failure),
    ("A plan", Plan),
    ("`manifest.json` of a sealed generation", Manifest),
    ("`manifest.json`, each of `objects`", SealedFile),
    ("`manifest.json`, each of `row_groups`", RowGroup),
    ("`manifest.json`, each `stretch`, and `metadata`", Stretch),
    ("A worker's heartbeat", Heartbeat),
    ("A worker's heartbeat, `activity`", Activity),
    ("A claim, and a build's mark", Claim),
)

_SIZES = (
    f"A document has {layout.SMALL_BYTES // 2**20} MiB at most; `atlas.json`, plans, `layer.json`, "
    "`images.json`, `wiring.json`, labels, manifests and records of responses have "
    f"{layout.LARGE_BYTES // 2**20} MiB."
)

_PER = {
    "criterion": "each criterion",
    "image criterion": "each criterion with per-image scores",
    "redrawn criterion": "each criterion of the header's `redrawn`",
    "grouped criterion": "each criterion of the header's `grouped`",
    "unit": "the unit",
}


def page() -> str:
    """Return the whole page as Markdown."""
    return "\n".join(
        [
            "# What is stored",
            "",
            f"Schema version {SCHEMA_VERSION}. Made by `python -m "
            "circuit_atlas.storage_schema.page` from the definitions; change those.",
            "",
            "A unit is done when its commit record exists, and readers trust commit records alone: "
            "a chunk that is there, or one that is missing, says nothing. No object is ever "
            "overwritten, but for heartbeats of workers, marks of builds and claims, which nothing "
            "depends on.",
            "",
            "## Paths",
            "",
            *_rows(("path", "what"), ((f"`{path}`", what) for path, what in layout.PATHS)),
            "Names of layers and criteria are escaped in paths: letters, digits, `_`, `-` and "
            "inner dots stay, every other byte is `=XX`.",
            "",
            *_documents(),
            *_arrays(),
            *_tables(),
            *_sealed(),
        ]
    )


def _documents() -> list[str]:
    lines = [
        "## JSON documents",
        "",
        "Each holds the schema version under `schema`, and under `sha256` the SHA-256 of its other "
        "keys as JSON with sorted keys and no spaces. It is written a key a line, each value in "
        "that form, and one in which any byte differs is refused. One that lies at another's path "
        "is refused as well. Readers hold every value against what is said here, pass over keys "
        "that they do not know, and take the default for one that an earlier version did not "
        f"write. {_SIZES}",
        "",
    ]
    for title, kind in _DOCUMENTS:
        lines += [f"### {title}", "", *_rows(("key", "value", "what"), _keys(kind))]
    return lines


def _keys(kind: type[Any]) -> Iterator[tuple[str, str, str]]:
    """Each key of a document, what may stand under it, and what that is."""
    hints, values = get_type_hints(kind, include_extras=True), values_of(kind)
    for name, key in stored_keys(kind).items():
        said = (mark for mark in getattr(hints[name], "__metadata__", ()) if type(mark) is str)
        if (sentence := next(said, None)) is not None:
            yield f"`{key}`", values[key], sentence


def _arrays() -> list[str]:
    lines = [
        "## Arrays",
        "",
        "A layer's `arrays.zarr` holds each of these once for every criterion that has it, as "
        "`<array>/<criterion>`, or once, as `<array>`. A chunk is one unit and one attempt, and "
        "the whole of the other axes; little-endian, zstd, then CRC-32C. The unit's commit record "
        "has its SHA-256.",
        "",
        *_rows(("axis", "what"), ((f"`{name}`", what) for name, what in AXES)),
        f"The `attempts` axis has {ATTEMPTS:,} positions, so that every attempt draws one.",
        "",
    ]
    for spec in ARRAYS:
        lines += [
            f"### `{spec.name}`",
            "",
            f"{spec.sentence}",
            "",
            f"- axes: {', '.join(f'`{axis}`' for axis in spec.axes)}",
            f"- dtype: `{spec.dtype}`",
            f"- unit: {spec.unit}",
            f"- fill value: {spec.fill_meaning}",
            f"- one for: {_PER[spec.per]}",
            "",
        ]
    return [*lines, "### Quantisation", "", inspect.getdoc(quantise) or "", ""]


def _tables() -> list[str]:
    lines = [
        "## Tables",
        "",
        "The names are those that readers, SQL and HTTP know; `stored as` is the name in the file "
        "where that is another one. Readers hold every value against `values`, and floating ones "
        "are finite where nothing else is said there.",
        "",
    ]
    for table in (IMAGES, *NETWORK, *RESPONSE_TABLES, *FRAGMENTS, *ON_REQUEST):
        lines += _table(table)
    return lines


def _table(table: Table) -> list[str]:
    columns = (
        (
            f"`{column.name}`",
            f"`{column.stored_as}`" if column.stored_as else "",
            f"{column.type}",
            column.unit,
            column.allowed,
            column.sentence,
            column.null or "never",
        )
        for column in table.columns
    )
    return [
        f"### `{table.name}`",
        "",
        f"{table.sentence} File: `{table.stored_name}.parquet`.{_order(table)}",
        "",
        *_rows(("column", "stored as", "type", "unit", "values", "what", "null"), columns),
    ]


def _order(table: Table) -> str:
    """What readers hold rows against."""
    said = [
        f" No two rows have the same {' and '.join(f'`{name}`' for name in names)}."
        for names in table.once
    ]
    if table.ascending:
        said.append(f" They ascend by `{table.ascending}`.")
    if table.numbered:
        said.append(f" `{table.numbered}` numbers them from 0.")
    return "".join(said)


def _sealed() -> list[str]:
    return [
        "## Sealed generations",
        "",
        f"{' '.join((inspect.getdoc(sealed) or '').split())}",
        "",
        "Readers take the generation whose name has the largest number, and among these the last "
        "in order; what was committed since they read as it was stored. A generation holds each "
        "of a unit's tables, with a column `unit` before the others and rows by ascending unit, "
        "and three more. `polysemanticity` is in no generation that an earlier version wrote:",
        "",
        *_table(sealed.of_layer(POLYSEMANTICITY)),
        *_table(COMMITS),
        *_table(MASKS),
    ]


def _rows(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table and the empty line after it."""
    cells = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(row)} |" for row in cells] + [""]


if __name__ == "__main__":
    sys.stdout.write(page())
