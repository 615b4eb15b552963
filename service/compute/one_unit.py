"""One unit computed in this process and stored, by the steps of a worker's task."""

from __future__ import annotations

import torch

from circuit_atlas.jobs.engine.traced_layer import TracedLayer
from circuit_atlas.jobs.tasks.block import open_block
from circuit_atlas.jobs.tasks.memory import default_budget, is_out_of_memory, needs
from circuit_atlas.jobs.tasks.network_record import network_record
from circuit_atlas.jobs.tasks.opened_spec import OpenedSpec
from circuit_atlas.jobs.tasks.plan import Build, resolve_opened
from circuit_atlas.jobs.tasks.units import compute
from circuit_atlas.storage_schema import network
from circuit_atlas.storage_schema.errors import InfrastructureError, NonFiniteError, UnitError
from circuit_atlas.storage_schema.keys import UnitKey
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.records import FailureRecord
from circuit_atlas.storage_schema.template import create
from circuit_atlas.storage_schema.wording import one_line
from circuit_atlas.storage_schema.writer import Writer


def compute_unit(source: OpenedSpec, objects: Objects) -> None:
    """Lays an atlas out in an empty store and puts the spec's one unit there.

    Raises:
        InputError: the layer or the unit cannot be used.
        UnitError: the unit failed.
        InfrastructureError: memory ran out with one image at a time.
    """
    build = resolve_opened(source)
    create(objects, build.header, build.layers, build.images, build.plan)
    ((name, (unit,)),) = build.plan.units
    layer = source.layer(name)
    key = UnitKey(build.header.model, name, unit)
    together = _together(source, layer, build)
    while True:
        try:
            _store(source, objects, build, layer, key, together)
            return
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            if together == 1:
                raise InfrastructureError(
                    f"memory ran out with one image at a time ({one_line(error)}): choose an "
                    "earlier layer, or a device with more memory"
                ) from error
        together //= 2
        if source.device.type == "cuda":
            torch.cuda.empty_cache()


def _together(source: OpenedSpec, layer: TracedLayer, build: Build) -> int:
    """How many images go through the network at a time."""
    images = len(source.images.scoring) + len(source.images.held_out)
    budget_bytes = default_budget(source.device, workers=1, threads=torch.get_num_threads())
    portion = needs(layer, build.header, images=images).portion(
        budget_bytes, batch_size=source.spec.run.batch_size
    )
    return portion.images if portion else 1


def _store(
    source: OpenedSpec,
    objects: Objects,
    build: Build,
    layer: TracedLayer,
    key: UnitKey,
    together: int,
) -> None:
    """The layer's network and the unit's record, so many images at a time."""
    scoring = source.images.scoring
    batches = source.batches(scoring, together)
    network.store(objects, layer.index, lambda: network_record(layer, scoring, batches))
    block = open_block(source, layer, build.header, [key.unit], together=together)
    (record,) = compute(block, [key])
    if isinstance(record, FailureRecord):
        raise _FAILURES.get(record.kind, UnitError)(record.message)
    Writer(objects, build.header, layer.index).commit(record)


_FAILURES = {NonFiniteError.kind: NonFiniteError}
