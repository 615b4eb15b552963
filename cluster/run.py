"""A whole build: the spec resolved, the store laid out, every missing unit computed, and each layer
sealed that has all of its units.

Running the same build again does what is missing, no more: committed units are skipped, failed ones
tried again. So a run that was stopped, by Ctrl-C or a lost machine, is resumed by the same command.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from circuit_atlas.cluster.executor import Event, Executor, Planned, TaskDone
from circuit_atlas.cluster.images import ImageStage
from circuit_atlas.cluster.ledger import Summary
from circuit_atlas.cluster.local_executor import LocalExecutor
from circuit_atlas.cluster.networks import restore_networks
from circuit_atlas.cluster.process import signals_interrupt
from circuit_atlas.cluster.responses import find_responses
from circuit_atlas.cluster.sealing import Sealing
from circuit_atlas.cluster.work import Session, Work, ignore, run_work
from circuit_atlas.jobs.spec.build_spec import BuildSpec
from circuit_atlas.jobs.tasks.plan import Build, make_tasks, resolve
from circuit_atlas.jobs.tasks.worker import CircuitJob
from circuit_atlas.storage_schema import heartbeat
from circuit_atlas.storage_schema.errors import SpecError, WriteError
from circuit_atlas.storage_schema.layer_listing import committed_units
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.opening import open_store
from circuit_atlas.storage_schema.patience import outages_told
from circuit_atlas.storage_schema.records import FailureRecord, Receipt
from circuit_atlas.storage_schema.template import create
from circuit_atlas.storage_schema.writer import Writer

__all__ = ["Summary", "build", "executor_for"]


def build(
    spec: BuildSpec,
    *,
    executor: Executor,
    on_event: Callable[[Event], None] | None = None,
    max_units: int | None = None,
) -> Summary:
    """Builds what `spec` asks for and its atlas lacks.

    Args:
        spec: what to build, and where.
        executor: how tasks reach workers.
        on_event: sees every event as it comes. Default: nothing does.
        max_units: builds so many units at most, the first that are missing. Default: all.

    Raises:
        InputError: the spec, the model or the images cannot be used; nothing was written.
        MismatchError: the atlas there was built from something else; nothing was changed.
        WriteError, InfrastructureError: the run cannot go on; what is committed stays.
        KeyboardInterrupt: Ctrl-C or SIGTERM; the workers are stopped, what is committed stays.
    """
    started_s = time.monotonic()
    if max_units is not None and max_units < 1:
        raise SpecError(f"max_units={max_units}: give 1 or more, or leave it out")
    with signals_interrupt(), outages_told(on_event or ignore), Session(executor) as session:
        images = ImageStage(session, on_event)
        resolved = resolve(spec, self_check=spec.run.self_check, prepare=images)
        objects = open_store(spec.run.store, create=True, patience_s=spec.run.store_patience_s)
        create(
            objects,
            resolved.header,
            resolved.layers,
            resolved.images,
            resolved.plan,
            pixels=resolved.store_pixels(objects),
            directions=resolved.directions,
            unit_labels=resolved.unit_labels,
        )
        images.finish(objects)
        find_responses(resolved, objects, session=session, on_event=on_event)
        committed = committed_units(objects, (name for name, _ in resolved.plan.units))
        restore_networks(resolved, objects, committed=committed)
        units = sum(len(numbers) for _, numbers in resolved.plan.units)
        missing = sum(len(set(n) - committed[name]) for name, n in resolved.plan.units)
        now = missing if max_units is None else min(missing, max_units)
        told = (*resolved.remarks, *_left_text(now, missing)) if missing else ()
        work = Work(
            Planned(now, units - missing, 0, told),
            tasks=lambda workers: make_tasks(
                resolved, spec, committed, workers=workers, max_units=max_units
            ),
            job=CircuitJob(resolved.spec, trace=resolved.trace),
            fail=_fail(resolved, objects),
        )
        with Sealing(objects, resolved.layers, committed=committed) as sealing:

            def watch(event: Event) -> None:
                for receipt in event.receipts if isinstance(event, TaskDone) else ():
                    sealing.note(receipt)
                if on_event is not None:
                    on_event(event)

            summary = run_work(work, spec.run, session=session, on_event=watch, started_s=started_s)
            heartbeat.remove_stale(objects, now_s=time.time())
            try:
                sealing.finish()
            except WriteError:
                # A finished atlas that cannot be written, as on a read-only disk, is finished.
                if missing:
                    raise
        return replace(
            summary,
            left=missing - now,
            left_out=resolved.left_out,
            passed_over=dict(resolved.passed_over),
        )


def executor_for(
    spec: BuildSpec, *, kind: Literal["local", "ray"] = "ray", address: str = "local"
) -> Executor:
    """Gives the executor that the `[run]` section asks for.

    Args:
        spec: the build's.
        kind: "local" for this process. Default: "ray".
        address: as in `RayExecutor`. Default: "local", a Ray of its own on this machine.
    """
    if kind == "local":
        return LocalExecutor()
    # Ray takes a third of a second to import, and a build in this process needs none of it.
    from circuit_atlas.cluster.ray_executor import RayExecutor

    run = spec.run
    return RayExecutor(
        address,
        workers=run.workers,
        max_workers=run.max_workers,
        threads=run.threads,
        device=run.device,
    )


def _left_text(now: int, missing: int) -> tuple[str, ...]:
    """What a run leaves to later ones, where it does."""
    if now == missing:
        return ()
    return (f"{now} of {missing} missing units are built this time; {missing - now} are left",)


def _fail(build: Build, objects: Objects) -> Callable[[FailureRecord], Receipt]:
    """What records a unit as failed."""
    layers = {index.layer: index for index in build.layers}

    def fail(record: FailureRecord) -> Receipt:
        return Writer(objects, build.header, layers[record.key.layer]).fail(record)

    return fail
