"""Whole layers read: from the sealed generation, against a small file for each unit and table."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from circuit_atlas.service import Atlas
from circuit_atlas.service.client.atlas import Layer
from circuit_atlas.storage_schema.compaction import compact
from circuit_atlas.storage_schema.tables import FRAGMENTS
from tests.benchmarks.measured import Row, best_s, once_s
from tests.service.large import LAYER, write_large


def summary(*, units: int) -> Row:
    """`layer.summary()`, of an atlas that was just opened."""
    return _measured("a layer's summary", units, lambda layer: layer.summary())


def tables(*, units: int) -> Row:
    """Every row of the five tables."""
    return _measured(
        "all tables of a layer",
        units,
        lambda layer: [layer.reader.table(layer.name, table.name) for table in FRAGMENTS],
    )


def masks(*, units: int) -> Row:
    """The circuits of one kept fraction."""
    return _measured("all circuits of a layer", units, lambda layer: layer.masks())


def _measured(work: str, units: int, ask: Callable[[Layer], object]) -> Row:
    """Each time of an atlas that is opened anew. Files are in the system's memory."""
    with _atlas(units) as folder:

        def fresh() -> object:
            return ask(Atlas.open(folder).layer(LAYER))

        fragments_s = best_s(fresh, times=2)
        reader = Atlas.open(folder).reader
        index = reader.layer(LAYER)
        sealing_s = once_s(lambda: compact(reader.objects, reader.header, index))
        sealed_s = best_s(fresh, times=5)
    return Row(
        work=f"{work}, {units:,} units",
        of="layer",
        ours_s=sealed_s,
        slow_s=fragments_s,
        facts={"sealing_s": sealing_s},
    )


@contextmanager
def _atlas(units: int) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        write_large(Path(folder), units)
        yield Path(folder)
