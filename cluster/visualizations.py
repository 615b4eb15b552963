"""The feature visualizations of an atlas: those that are missing, made on any executor.

As with a build, the same command again does what is missing, no more: visualizations that are
stored are skipped, whatever settings made them, and failed ones tried again.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from circuit_atlas.cluster.executor import FEATURES, Event, Executor, Planned
from circuit_atlas.cluster.images import ImageStage
from circuit_atlas.cluster.ledger import Summary
from circuit_atlas.cluster.process import signals_interrupt
from circuit_atlas.cluster.work import Session, Work, ignore, run_work
from circuit_atlas.jobs.spec.build_spec import BuildSpec
from circuit_atlas.jobs.tasks.plan import resolve
from circuit_atlas.jobs.visualization.plan import plan_visualizations
from circuit_atlas.jobs.visualization.worker import VisualizationJob
from circuit_atlas.storage_schema import heartbeat
from circuit_atlas.storage_schema.opening import open_store
from circuit_atlas.storage_schema.patience import outages_told
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.template import check_same
from circuit_atlas.storage_schema.visualizations import FeatureWriter


def build_visualizations(
    spec: BuildSpec, *, executor: Executor, on_event: Callable[[Event], None] | None = None
) -> Summary:
    """Makes the feature visualizations that `spec` asks for and its atlas lacks, of the units that
    are built. In the summary a unit, or a channel of a convolution, counts once.

    Args:
        spec: what to make, and where the atlas is.
        executor: how tasks reach workers.
        on_event: sees every event as it comes. Default: nothing does.

    Raises:
        NotAnAtlasError: there is no atlas at the spec's store.
        InputError: the spec, the model or the images cannot be used, or nothing is built yet.
        MismatchError: the atlas was built from something else; nothing was changed.
        WriteError, InfrastructureError: the run cannot go on; what is stored stays.
        KeyboardInterrupt: Ctrl-C or SIGTERM; the workers are stopped, what is stored stays.
    """
    started_s = time.monotonic()
    with signals_interrupt(), outages_told(on_event or ignore), Session(executor) as session:
        objects = open_store(spec.run.store, patience_s=spec.run.store_patience_s)
        reader = Reader(objects)
        images = ImageStage(session, on_event)
        build = resolve(spec, prepare=images)
        check_same(reader.header, build.header, location=objects.location)
        images.finish(objects)
        missing = plan_visualizations(build, spec, reader)
        writer = FeatureWriter(objects)
        # Before anything else: who looks on sees how much there is to come.
        writer.plan(missing.plan)
        work = Work(
            Planned(
                sum(len(numbers) for _, numbers in missing.units),
                missing.skipped,
                0,
                missing.remarks,
                channels=sum(len(numbers) for _, numbers in missing.nodes),
                stage=FEATURES,
            ),
            tasks=lambda workers: missing.tasks(build.header.model, workers=workers),
            job=VisualizationJob(build.spec, trace=build.trace),
            fail=writer.fail,
            channels=missing.channels,
        )
        summary = run_work(work, spec.run, session=session, on_event=on_event, started_s=started_s)
        heartbeat.remove_stale(objects, now_s=time.time())
        return summary
