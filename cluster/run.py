"""A whole build: the spec resolved, the store laid out, every missing unit computed, and layers
that have all their units sealed.

Running the same build again does what is missing, no more: committed units are skipped, failed ones
tried again. So a run that was stopped, by Ctrl-C or a lost machine, is resumed by its own command.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

from circuit_atlas.cluster.executor import Event, Executor, Planned
from circuit_atlas.cluster.ledger import Ledger, Summary
from circuit_atlas.cluster.local_executor import LocalExecutor
from circuit_atlas.cluster.process import sigterm_interrupts
from circuit_atlas.cluster.retries import Policy
from circuit_atlas.jobs.spec.build_spec import BuildSpec
from circuit_atlas.jobs.tasks.plan import Build, make_tasks, resolve
from circuit_atlas.jobs.tasks.stored_directions import with_stored_directions
from circuit_atlas.jobs.tasks.worker import WorkerJob
from circuit_atlas.storage_schema.compaction import compact
from circuit_atlas.storage_schema.header import LayerIndex
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.opening import open_store
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.records import FailureRecord, Receipt
from circuit_atlas.storage_schema.template import create
from circuit_atlas.storage_schema.writer import Writer

__all__ = ["Summary", "build", "executor_for"]


def build(
    spec: BuildSpec, *, executor: Executor, on_event: Callable[[Event], None] | None = None
) -> Summary:
    """Build what `spec` asks for and its atlas lacks. `on_event` sees every event as it comes.

    Raises:
        InputError: the spec, the model or the images cannot be used; nothing was written.
        MismatchError: the atlas there was built from something else; nothing was changed.
        WriteError, InfrastructureError: the run cannot go on; what is committed stays.
        KeyboardInterrupt: Ctrl-C or SIGTERM; the workers are stopped, what is committed stays.
    """
    started_s = time.monotonic()
    ledger = Ledger()
    with sigterm_interrupts():
        spec = with_stored_directions(spec)
        resolved = resolve(spec)
        objects = open_store(spec.run.store, create=True)
        create(objects, resolved.header, resolved.layers, resolved.images, resolved.plan)
        committed = {name: Reader(objects).commits(name) for name, _ in resolved.plan.units}
        tell = on_event or _ignore
        units = sum(len(numbers) for _, numbers in resolved.plan.units)
        missing = sum(len(set(n) - committed[name].keys()) for name, n in resolved.plan.units)
        if missing:
            with executor:
                tasks = make_tasks(resolved, spec, committed, workers=executor.workers)
                tell(Planned(missing, units - missing, len(tasks), resolved.remarks))
                job = WorkerJob(spec, executor.workers)
                policy = Policy(retries=spec.run.retries, deadline_s=spec.run.deadline_s)
                with contextlib.closing(executor.run(tasks, job, policy=policy)) as events:
                    for event in events:
                        ledger.note(event, partial(_fail, resolved, objects))
                        tell(event)
        else:
            tell(Planned(0, units - missing, 0))
    return ledger.summary(skipped=units - missing, wall_s=time.monotonic() - started_s)


def executor_for(
    spec: BuildSpec, *, kind: Literal["local", "ray"] = "ray", address: str = "local"
) -> Executor:
    """The executor that the `[run]` section asks for; `address` as in `RayExecutor`."""
    if kind == "local":
        return LocalExecutor()
    # Ray takes a third of a second to import, and a build in this process needs none of it.
    from circuit_atlas.cluster.ray_executor import RayExecutor

    run = spec.run
    return RayExecutor(address, workers=run.workers, threads=run.threads, device=run.device)


def _seal(objects: Objects, layers: Sequence[LayerIndex]) -> None:
    """Write the layers that have all units that any build asked for once more, in few files."""
    reader = Reader(objects)
    planned = dict(reader.plan().units)
    for index in layers:
        if reader.commits(index.layer).keys() >= set(planned[index.layer]):
            compact(objects, reader.header, index)


def _fail(build: Build, objects: Objects, record: FailureRecord) -> Receipt:
    index = next(layer for layer in build.layers if layer.layer == record.key.layer)
    return Writer(objects, build.header, index).fail(record)


def _ignore(event: Event) -> None:
    del event
