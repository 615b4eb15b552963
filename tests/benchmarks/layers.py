"""Whole layers read: from the sealed generation, against a small file for each unit and table."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

import httpx

from circuit_atlas.service import Atlas
from circuit_atlas.service.analysis.masks import Masks
from circuit_atlas.service.client.layer import Layer
from circuit_atlas.service.web.app import create_app
from circuit_atlas.storage_schema.compaction import compact
from circuit_atlas.storage_schema.unit_tables import FRAGMENTS
from tests.benchmarks.measured import Row, once_s
from tests.service.large import LAYER, write_large
from tests.service.stores import served

_PATIENCE_S = 600.0


def summary(*, units: int, times: int = 5) -> Row:
    """`layer.summary()`, of an atlas that was just opened."""
    return _read("a layer's summary", units, times, lambda layer: layer.summary())


def tables(*, units: int, times: int = 5) -> Row:
    """Every row of the five tables."""
    return _read(
        "all tables of a layer",
        units,
        times,
        lambda layer: [layer.reader.table(layer.name, table.name) for table in FRAGMENTS],
    )


def masks(*, units: int, times: int = 5) -> Row:
    """The circuits of one kept fraction."""
    return _read("all circuits of a layer", units, times, _masks)


def _masks(layer: Layer) -> Masks:
    return Masks(layer.reader, layer.index).add_all()


def answer(name: str, *, units: int, times: int = 5) -> Row:
    """The first answer of a new server to a question about the whole layer, which is complete."""

    def first_s(folder: Path) -> float:
        with served(create_app(folder)) as address:
            started = perf_counter()
            found = httpx.get(f"{address}/api/v1/layers/{LAYER}/{name}", timeout=_PATIENCE_S)
            taken_s = perf_counter() - started
        assert found.json()["complete"]
        return taken_s

    return _measured(f"a new server's first answer to `{name}`", units, times, first_s)


def _read(work: str, units: int, times: int, ask: Callable[[Layer], object]) -> Row:
    def read_s(folder: Path) -> float:
        return once_s(lambda: ask(Atlas.open(folder).layer(LAYER)))

    return _measured(work, units, times, read_s)


def _measured(work: str, units: int, times: int, seconds: Callable[[Path], float]) -> Row:
    """Each time of an atlas that is opened anew. Files are in the system's memory."""
    with _atlas(units) as folder:
        fragments_s = _fastest_s(seconds, folder, times=min(2, times))
        reader = Atlas.open(folder).reader
        index = reader.layer(LAYER)
        sealing_s = once_s(lambda: compact(reader.objects, reader.header, index))
        sealed_s = _fastest_s(seconds, folder, times=times)
    return Row(
        work=f"{work}, {units:,} units",
        of="layer",
        ours_s=sealed_s,
        slow_s=fragments_s,
        facts={"sealing_s": sealing_s},
    )


def _fastest_s(seconds: Callable[[Path], float], folder: Path, *, times: int) -> float:
    """The fastest of several times, after one that is not counted."""
    return min([seconds(folder) for _ in range(times + 1)][1:])


@contextmanager
def _atlas(units: int) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        # Two processes write sooner where their start takes less than the writing.
        write_large(Path(folder), units, processes=2 if units > 100 else 1)
        yield Path(folder)
