"""One task, from its units to their commit records."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from circuit_atlas.jobs.allocator import keep_freed_memory
from circuit_atlas.jobs.block import open_block
from circuit_atlas.jobs.plan import Task, resolve_source
from circuit_atlas.jobs.source import Source
from circuit_atlas.jobs.spec import BuildSpec
from circuit_atlas.jobs.units import compute, failure
from circuit_atlas.storage_schema.errors import InfrastructureError, StoreError, UnitError
from circuit_atlas.storage_schema.keys import UnitKey
from circuit_atlas.storage_schema.objects import open_store
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.records import CircuitRecord, FailureRecord, Receipt
from circuit_atlas.storage_schema.template import check_same
from circuit_atlas.storage_schema.writer import Writer


@dataclass(frozen=True)
class WorkerJob:
    """All that a worker needs to start, small enough to send anywhere."""

    spec: BuildSpec
    threads: int

    def open(self) -> Worker:
        """The worker, in the process that calls."""
        return Worker(self)


class Worker:
    """Computes tasks and writes their results; keeps the model and the images between tasks."""

    def __init__(self, job: WorkerJob) -> None:
        """Loads the model and the images and looks up the store.

        Raises:
            InputError: the spec cannot be used here.
            MismatchError: this machine sees other weights or images than the atlas was laid out
                for.
        """
        torch.set_num_threads(job.threads)
        keep_freed_memory()
        self._source = Source(job.spec)
        self._objects = open_store(job.spec.run.store, create=False)
        build = resolve_source(self._source)
        self._header = build.header
        check_same(Reader(self._objects).header, build.header, place=self._objects.place)

    def run(self, task: Task) -> tuple[Receipt, ...]:
        """Every unit of the task, committed or recorded as failed: one receipt each.

        An error of one unit is that unit's alone. Errors of the store or of the machine are raised.
        """
        layer = self._source.layer(task.layer)
        writer = Writer(self._objects, self._header, layer.index)
        receipts: dict[UnitKey, Receipt] = {}
        try:
            block = open_block(self._source, layer, self._header, [k.unit for k in task.units])
            for result in compute(block, task.units):
                receipts[result.key] = _stored(writer, result)
        except (StoreError, InfrastructureError):
            raise
        except Exception as error:
            # What went wrong for several units at once is that of one of them: each on its own.
            if len(task.units) == 1:
                return (writer.fail(failure(task.units[0], error)),)
            for key in task.units:
                if key not in receipts:
                    (receipts[key],) = self.run(Task(task.layer, (key,)))
        return tuple(receipts[key] for key in task.units)


def _stored(writer: Writer, result: CircuitRecord | FailureRecord) -> Receipt:
    if isinstance(result, FailureRecord):
        return writer.fail(result)
    try:
        return writer.commit(result)
    except UnitError as error:
        return writer.fail(failure(result.key, error))
