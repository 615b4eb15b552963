"""The stage of a run that finds what all images do to the units that have images of their own."""

from __future__ import annotations

import time
from collections.abc import Callable

import pyarrow.compute as pc

from circuit_atlas.cluster.executor import RESPONSES, Event, Planned
from circuit_atlas.cluster.work import Session, Work, run_work
from circuit_atlas.jobs.tasks.crops import merged_crops
from circuit_atlas.jobs.tasks.distributions import distributions
from circuit_atlas.jobs.tasks.plan import Build
from circuit_atlas.jobs.tasks.response_worker import (
    ResponseJob,
    chunks_of,
    chunks_there,
    response_tasks,
)
from circuit_atlas.storage_schema import response_paths, responses
from circuit_atlas.storage_schema.errors import InfrastructureError
from circuit_atlas.storage_schema.network import is_stored
from circuit_atlas.storage_schema.network_tables import CHANNELS
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.records import FailureRecord, Receipt, Split

# So many are done here in less time than a worker takes to start.
_FEW_CHUNKS = 1
_SPLITS: tuple[Split, Split] = ("scoring", "held_out")


def find_responses(
    build: Build,
    objects: Objects,
    *,
    session: Session,
    on_event: Callable[[Event], None] | None,
) -> None:
    """Stores the responses of the units that the build asks for and no build asked for before;
    nothing where units have all images.

    Raises:
        CorruptError: what is stored of an earlier run is altered.
        WriteError, InfrastructureError: the run cannot go on; what is stored stays.
    """
    if build.header.sample is None:
        return
    units = {name: _unknown(objects, name, numbers) for name, numbers in build.plan.units}
    units = {name: numbers for name, numbers in units.items() if numbers}
    if not units:
        return
    table = build.images.filter(pc.is_null(build.images["problem"]))
    places = dict(zip(table["id"].to_pylist(), table["place"].to_pylist(), strict=True))
    chunks = chunks_of(places)
    layers = {layer.layer: layer for layer in build.layers}

    def there_of(name: str) -> dict[int, str]:
        return chunks_there(objects, layers[name], responses.key_of(units[name]))

    there = {name: there_of(name) for name in units}
    missing = [chunk for chunk in chunks if any(chunk not in found for found in there.values())]
    if missing:
        model = build.header.model
        few = len(missing) <= _FEW_CHUNKS
        run_work(
            Work(
                Planned(len(missing), len(chunks) - len(missing), 0, stage=RESPONSES),
                tasks=lambda _: response_tasks(model, missing),
                job=ResponseJob(build.spec, trace=build.trace, units=units),
                fail=_fail,
            ),
            build.spec.run,
            session=session,
            on_event=None if few else on_event,
            started_s=time.monotonic(),
            here=few,
        )
    images = {
        split: table.filter(pc.equal(table["split"], split))["id"].to_pylist() for split in _SPLITS
    }
    for name, numbers in units.items():
        if not is_stored(objects, layers[name]):
            parts = responses.chunks(objects, name, response_paths.CHANNELS_OF_CHUNKS).values()
            crops = merged_crops(responses.read_chunk(objects, path, CHANNELS) for path in parts)
            responses.put_channels(objects, name, crops)
        rows = distributions(
            objects, tuple(there_of(name).values()), units=numbers, images=images, top=_top(build)
        )
        responses.put_distributions(objects, name, numbers, rows)


def _unknown(objects: Objects, layer: str, numbers: tuple[int, ...]) -> tuple[int, ...]:
    """Those units of a layer, ascending, whose responses no build has found."""
    records = responses.records(objects, layer).values()
    known = {unit for record in records for unit in record.units}
    return tuple(sorted(set(numbers) - known))


def _top(build: Build) -> dict[Split, int]:
    """How many top images of each split are kept."""
    sample, least = build.header.sample, build.header.top_images
    rules = {"scoring": sample and sample.scoring, "held_out": sample and sample.held_out}
    return {split: max(least, rule.top if (rule := rules[split]) else 0) for split in _SPLITS}


def _fail(record: FailureRecord) -> Receipt:
    raise InfrastructureError(
        f"the responses to chunk {record.key.unit} of the images could not be found: "
        f"{record.message}"
    )
