"""A spec -> a plan of the work, or the work done with its progress shown."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Literal, TextIO

from circuit_atlas.storage_schema import layout
from circuit_atlas.storage_schema.at_once import at_once
from circuit_atlas.storage_schema.layer_listing import committed_units
from circuit_atlas.storage_schema.opening import find_store
from circuit_atlas.storage_schema.patience import READERS_S
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.template import check_location, check_same, is_laid_out

if TYPE_CHECKING:
    from circuit_atlas.cluster.executor import Event
    from circuit_atlas.cluster.run import Summary
    from circuit_atlas.jobs.spec.build_spec import BuildSpec
    from circuit_atlas.jobs.tasks.estimate import Estimate

ExecutorKind = Literal["ray", "local"]


def plan_build(spec: BuildSpec, *, max_units: int | None = None) -> Estimate:
    """Return the work that a build of `spec` has left to do, that of its first `max_units` units
    where so many are asked for. Loads the model and the images, writes nothing.

    Raises:
        InputError: the spec, the model or the images cannot be used, or a layer fails its
            self-check.
        NotAnAtlasError: the store is a file, or holds other things.
        MismatchError: the store holds an atlas of something else.
    """
    from circuit_atlas.jobs.tasks.estimate import estimate
    from circuit_atlas.jobs.tasks.look import LookedAt
    from circuit_atlas.jobs.tasks.plan import make_tasks, missing_units, resolve

    # A person looks on, and nothing is lost where a store does not answer.
    run = spec.run.model_copy(
        update={"store_patience_s": min(spec.run.store_patience_s, READERS_S)}
    )
    spec = spec.model_copy(update={"run": run})
    objects = find_store(run.store)
    if objects is not None:
        check_location(objects)
    looked = LookedAt(objects)
    build = resolve(spec, self_check=spec.run.self_check, prepare=looked)
    done: Mapping[str, frozenset[int]] = {}
    if objects is not None and objects.exists(layout.HEADER):
        if looked.at_all:
            check_same(Reader(objects).header, build.header, location=objects.location)
        # Whether they are the same: nothing is committed of a layer that is not there.
        at_once(partial(is_laid_out, objects), build.layers)
        done = committed_units(objects, (index.layer for index in build.layers))
    workers = run.workers or run.max_workers or os.cpu_count() or 1
    tasks = make_tasks(build, spec, done, workers=workers, max_units=max_units)
    missing = sum(map(len, missing_units(build, done).values()))
    left = missing - sum(len(task.units) for task in tasks)
    found = estimate(
        build,
        tasks,
        images=looked.images,
        image_sums=run.image_sums,
        left=left,
        pixels_bytes=looked.pixels_bytes,
    )
    return replace(found, remarks=(*found.remarks, *looked.remarks))


def run_build(
    spec: BuildSpec,
    *,
    executor: ExecutorKind,
    address: str,
    progress: TextIO,
    plain: bool = False,
    max_units: int | None = None,
    log_json: bool = False,
) -> Summary:
    """Build what is missing, with progress on a stream; `max_units` and errors as of
    `compute.build`."""
    from circuit_atlas.cluster.progress import open_view
    from circuit_atlas.service.compute.build import Finished, build

    summaries: list[Summary] = []
    with open_view(progress, plain=plain, log_json=log_json) as view:

        def show(event: Event | Finished) -> None:
            if isinstance(event, Finished):
                summaries.append(event.summary)
            else:
                view.show(event)

        build(spec, executor=executor, address=address, max_units=max_units, on_event=show)
    return summaries[0]


def run_features(
    spec: BuildSpec,
    *,
    executor: ExecutorKind,
    address: str,
    progress: TextIO,
    plain: bool = False,
    log_json: bool = False,
) -> Summary:
    """Make the visualizations that are missing; errors as `build_visualizations`."""
    from circuit_atlas.cluster.progress import open_view
    from circuit_atlas.cluster.run import executor_for
    from circuit_atlas.cluster.visualizations import build_visualizations
    from circuit_atlas.service.compute.mended import mended

    with open_view(progress, plain=plain, log_json=log_json) as view:
        workers = executor_for(spec, kind=executor, address=address)
        run = partial(build_visualizations, spec, executor=workers, on_event=view.show)
        return mended(run, location=spec.run.store, on_event=view.show)
