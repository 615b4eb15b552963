"""Feature visualizations of an atlas: what is missing is planned, and tasks run on any executor.

As a build, the same command again does what is missing, no more: pictures that are there are
skipped, whatever settings made them, and failed ones tried again.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import replace

from circuit_atlas.cluster.executor import Event, Executor, Planned
from circuit_atlas.cluster.ledger import Ledger, Summary
from circuit_atlas.cluster.process import sigterm_interrupts
from circuit_atlas.cluster.retries import Policy
from circuit_atlas.jobs.spec.build_spec import BuildSpec
from circuit_atlas.jobs.tasks.plan import resolve
from circuit_atlas.jobs.tasks.stored_directions import with_stored_directions
from circuit_atlas.jobs.visualization.plan import plan_features
from circuit_atlas.jobs.visualization.worker import FeatureJob
from circuit_atlas.storage_schema.opening import open_store
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.template import check_same
from circuit_atlas.storage_schema.visualizations import FeatureWriter


def make_features(
    spec: BuildSpec, *, executor: Executor, on_event: Callable[[Event], None] | None = None
) -> Summary:
    """Make the visualizations that `spec` asks for and its atlas lacks, of the units that are
    built. In the summary a unit, or a channel of a convolution, counts once.

    Raises:
        NotAnAtlasError: there is no atlas at the spec's store.
        InputError: the spec, the model or the images cannot be used, or nothing is built yet.
        MismatchError: the atlas was built from something else; nothing was changed.
        WriteError, InfrastructureError: the run cannot go on; pictures that are stored stay.
        KeyboardInterrupt: Ctrl-C or SIGTERM; the workers are stopped, what is stored stays.
    """
    started_s = time.monotonic()
    ledger = Ledger()
    with sigterm_interrupts():
        objects = open_store(spec.run.store)
        reader = Reader(objects)
        spec = with_stored_directions(spec)
        build = resolve(spec)
        check_same(reader.header, build.header, place=objects.place)
        plan = plan_features(build, spec, reader)
        tell = on_event or _ignore
        writer = FeatureWriter(objects)
        # Before anything else: who looks on sees how much there is to come.
        writer.plan(plan.wanted)
        planned = Planned(
            sum(len(numbers) for _, numbers in plan.units),
            plan.skipped,
            0,
            plan.remarks,
            channels=sum(len(numbers) for _, numbers in plan.nodes),
            work="features",
        )
        if plan.missing:
            with executor:
                tasks = plan.tasks(build.header.model, workers=executor.workers)
                tell(replace(planned, tasks=len(tasks)))
                job = FeatureJob(spec, executor.workers)
                policy = Policy(retries=spec.run.retries, deadline_s=spec.run.deadline_s)
                with contextlib.closing(executor.run(tasks, job, policy=policy)) as events:
                    for event in events:
                        ledger.note(event, writer.fail)
                        tell(event)
        else:
            tell(planned)
    wall_s = time.monotonic() - started_s
    return ledger.summary(skipped=plan.skipped, wall_s=wall_s, channels=plan.channels)


def _ignore(event: Event) -> None:
    del event
