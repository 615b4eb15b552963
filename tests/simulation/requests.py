"""Requests that a bucket gets, as its server logs them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from circuit_atlas.service.client.atlas_status import AtlasStatus
from circuit_atlas.storage_schema.compaction import compact
from circuit_atlas.storage_schema.opening import open_store
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.template import create
from circuit_atlas.storage_schema.writer import Writer
from tests.simulation.figures import Figures, planned, whole
from tests.simulation.large_build import Size, large_build, large_spec
from tests.simulation.stored_units import unit_record

_REQUEST = re.compile(r"(?:GET|HEAD|PUT|POST|DELETE) /bucket")


def requests(store: str, log: Path, size: Size) -> Figures:
    """Count what it takes to write units with the real writer, to seal a layer, and to look.

    Args:
        store: URL of an atlas that is not there yet.
        log: what the server of the bucket writes.
        size: of a build with few units.
    """
    build = large_build(large_spec(store, size), size)
    layers = len(build.layers)

    def counted(work: Callable[[], object]) -> int:
        before = _logged(log)
        work()
        return _logged(log) - before

    def lay_out() -> None:
        objects = open_store(store)
        pixels = build.store_pixels(objects)
        create(objects, build.header, build.layers, build.images, build.plan, pixels=pixels)

    def write() -> None:
        objects = open_store(store)
        for index in build.layers:
            writer = Writer(objects, build.header, index)
            for unit in index.units:
                writer.commit(unit_record(build.header, index, unit.number))

    def seal() -> None:
        for index in build.layers:
            compact(open_store(store), build.header, index)

    found = {
        "layout_a_layer": counted(lay_out) / layers,
        "unit": counted(write) / size.units,
        "seal_a_unit": counted(seal) / size.units,
    }
    looks = {
        "resume": lambda: whole(store, size),
        "plan": lambda: planned(store, size),
        "status": lambda: AtlasStatus.read(Reader(store)),
    }
    return found | {f"{name}_a_layer": counted(look) / layers for name, look in looks.items()}


def _logged(log: Path) -> int:
    return len(_REQUEST.findall(log.read_text(encoding="utf-8", errors="replace")))
