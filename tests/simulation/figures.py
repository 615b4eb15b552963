"""What the driver's own work takes, measured in the process that calls."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self
from unittest import mock

from circuit_atlas.cluster import run, sealing
from circuit_atlas.cluster.executor import Event, Job, Planned, TaskProgress, Worker, unwatched
from circuit_atlas.cluster.local_executor import LocalExecutor
from circuit_atlas.cluster.progress import open_view
from circuit_atlas.cluster.retries import Policy, unclaimed
from circuit_atlas.cluster.work import Session, Work, run_work
from circuit_atlas.jobs.images.prepared_images import Prepare
from circuit_atlas.jobs.spec.build_spec import BuildSpec
from circuit_atlas.jobs.tasks import plan
from circuit_atlas.jobs.tasks.plan import Task, make_tasks
from circuit_atlas.service.commands.build_commands import plan_build
from circuit_atlas.storage_schema.header import AtlasHeader, LayerIndex
from circuit_atlas.storage_schema.keys import UnitKey
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.opening import open_store
from circuit_atlas.storage_schema.records import FailureRecord, Receipt
from tests.simulation.large_build import Size, large_build, large_spec
from tests.simulation.peak import peak_bytes
from tests.simulation.stored_units import StoredUnits
from tests.simulation.virtual_cluster import VirtualCluster

Figures = dict[str, float]
# Enough to see what a sealed layer takes; sealing is a worker's work in seconds, not the loop's.
_SEALED = 8


def loop(size: Size, *, losses_an_hour: float = 0.01) -> Figures:
    """Run tasks past the driver's loop, ledger and progress, and store nothing but claims."""
    spec = large_spec("nowhere", size)
    resolved = large_build(spec, size)

    def done(key: UnitKey) -> Receipt:
        return Receipt(key, "done", 1, 80_000, 60.0)

    def fail(record: FailureRecord) -> Receipt:
        return Receipt(record.key, "failed", 1, 0, 0.0, kind=record.kind, message=record.message)

    cluster = VirtualCluster(done, workers=size.workers, losses_an_hour=losses_an_hour)
    work = Work(
        Planned(size.units, 0, 0),
        tasks=lambda workers: make_tasks(resolved, spec, {}, workers=workers),
        job=_NoJob(),
        fail=fail,
    )
    before_bytes, started_s, tasks = peak_bytes(), time.process_time(), 0
    with (
        open_view(io.StringIO(), plain=True) as view,
        TemporaryDirectory() as folder,
        Session(cluster) as session,
    ):
        settings = spec.run.model_copy(update={"store": folder})

        def show(event: Event) -> None:
            nonlocal before_bytes, started_s, tasks
            view.show(event)
            if isinstance(event, Planned):
                before_bytes, started_s, tasks = peak_bytes(), time.process_time(), event.tasks

        summary = run_work(work, settings, session=session, on_event=show, started_s=0.0)
    spent_s = time.process_time() - started_s
    assert summary.done == size.units
    return {
        "tasks": tasks,
        "hours": cluster.now_s / 3600,
        "workers_lost": cluster.lost,
        "tasks_a_second": cluster.taken / spent_s,
        "peak_bytes": peak_bytes(),
        "grown_bytes": peak_bytes() - before_bytes,
    }


def build(store: str | Path, size: Size) -> Figures:
    """Build an atlas whose units are stored and not computed; of its layers, some are sealed."""
    spec = large_spec(store, size)
    resolved = large_build(spec, size)
    fake = StoredUnits(open_store(store, create=True), resolved)
    cluster = VirtualCluster(fake.store, workers=size.workers)
    before_bytes, started_s = peak_bytes(), time.process_time()
    with _resolving(resolved):
        summary = run.build(spec, executor=cluster)
    spent_s = time.process_time() - started_s
    return {
        "done": summary.done,
        "dead": summary.dead,
        "failed": summary.failed,
        "lost": summary.lost,
        "retried": summary.retried,
        "processor_s": spent_s,
        "stored_s": fake.spent_s,
        "peak_bytes": peak_bytes(),
        "grown_bytes": peak_bytes() - before_bytes,
    }


def resume(store: str | Path, size: Size) -> Figures:
    """Run the build again, as far as to its first task."""
    spec = large_spec(store, size)
    resolved = large_build(spec, size)
    return _timed(resolved, lambda: run.build(spec, executor=_Started()), ends=_StartedError)


def whole(store: str | Path, size: Size) -> Figures:
    """Run the build again to its end: what is missing is stored, what had failed fails again."""
    spec = large_spec(store, size)
    resolved = large_build(spec, size)
    cluster = VirtualCluster(StoredUnits(open_store(store), resolved).store)
    return _timed(resolved, lambda: run.build(spec, executor=cluster))


def planned(store: str | Path, size: Size) -> Figures:
    """Do what `circuit-atlas plan` does."""
    spec = large_spec(store, size)
    resolved = large_build(spec, size)
    return _timed(resolved, lambda: plan_build(spec))


def _timed(
    resolved: plan.Build, work: Callable[[], object], *, ends: type[Exception] | None = None
) -> Figures:
    before_bytes = peak_bytes()
    with _resolving(resolved):
        started_s, started_cpu_s = time.perf_counter(), time.process_time()
        try:
            work()
        except Exception as error:
            if ends is None or not isinstance(error, ends):
                raise
        spent_s, cpu_s = time.perf_counter() - started_s, time.process_time() - started_cpu_s
    return {
        "seconds": spent_s,
        "processor_s": cpu_s,
        "peak_bytes": peak_bytes(),
        "grown_bytes": peak_bytes() - before_bytes,
    }


class _StartedError(Exception):
    """The first task would begin now."""


class _Started(LocalExecutor):
    """An executor that ends the run where its workers would start."""

    workers = 1000

    def run(
        self,
        tasks: Sequence[Task],
        job: Job,
        *,
        policy: Policy,
        claim: Callable[[Task], Sequence[UnitKey]] = unclaimed,
        on_progress: Callable[[TaskProgress], None] = unwatched,
    ) -> Generator[Event, None, None]:
        del tasks, job, policy, claim, on_progress
        raise _StartedError
        yield


@contextmanager
def _resolving(resolved: plan.Build) -> Iterator[None]:
    """A spec that resolves to this, without a model and images; and few layers are sealed."""

    def resolve(spec: BuildSpec, *, self_check: bool = False, prepare: Prepare) -> plan.Build:
        del spec, self_check, prepare
        return resolved

    sealed = {index.layer for index in resolved.layers[:_SEALED]}

    def compact(objects: Objects, header: AtlasHeader, index: LayerIndex) -> object:
        return really(objects, header, index) if index.layer in sealed else None

    really = sealing.compact
    with (
        mock.patch.object(run, "resolve", resolve),
        mock.patch.object(plan, "resolve", resolve),
        mock.patch.object(sealing, "compact", compact),
    ):
        yield


class _NoJob:
    """What no worker is made from."""

    threads = 1

    def sharing(self, workers: int) -> Self:
        del workers
        return self

    def open(self) -> Worker:
        raise AssertionError("no worker is started")
