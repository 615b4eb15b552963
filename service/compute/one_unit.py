"""One unit computed in this process and stored, by a worker with a task of one."""

from __future__ import annotations

from circuit_atlas.jobs.tasks.memory import default_budget
from circuit_atlas.jobs.tasks.opened_spec import OpenedSpec
from circuit_atlas.jobs.tasks.plan import Task, resolve_opened
from circuit_atlas.jobs.tasks.worker import CircuitWorker
from circuit_atlas.jobs.tasks.worker_job import PreparedWorker
from circuit_atlas.storage_schema.errors import NonFiniteError, UnitError
from circuit_atlas.storage_schema.keys import UnitKey
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.template import create


def compute_unit(opened: OpenedSpec, objects: Objects) -> None:
    """Lays an atlas out in an empty store and puts the spec's one unit there.

    Raises:
        InputError: the layer or the unit cannot be used.
        UnitError: the unit failed; where in the code is a note of the error.
        InfrastructureError: memory ran out with one image at a time.
    """
    build = resolve_opened(opened, self_check=opened.spec.run.self_check, whole=True)
    create(
        objects,
        build.header,
        build.layers,
        build.images,
        build.plan,
        pixels=build.store_pixels(objects),
        directions=build.directions,
        unit_labels=build.unit_labels,
    )
    ((layer, (unit,)),) = build.plan.units
    budget_bytes = default_budget(opened.device, workers=1)
    worker = CircuitWorker(PreparedWorker(opened, objects, build.header, budget_bytes))
    (receipt,) = worker.run(Task(layer, (UnitKey(build.header.model, layer, unit),)))
    if receipt.state == "failed":
        record = Reader(objects).failures(layer)[unit]
        kind = NonFiniteError if record.kind == NonFiniteError.kind else UnitError
        error = kind(record.message)
        error.add_note(record.trace)
        raise error
