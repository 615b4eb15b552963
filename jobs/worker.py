"""One task, from its units to their commit records."""

from __future__ import annotations

import time
import traceback
from dataclasses import dataclass

import torch

from circuit_atlas.jobs.block import Block, compute_unit, open_block
from circuit_atlas.jobs.plan import Task, resolve_source
from circuit_atlas.jobs.source import Source
from circuit_atlas.jobs.spec import BuildSpec
from circuit_atlas.storage_schema.errors import (
    AtlasError,
    InfrastructureError,
    StoreError,
)
from circuit_atlas.storage_schema.keys import UnitKey
from circuit_atlas.storage_schema.objects import open_store
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.records import FailureRecord, Receipt
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
        try:
            block = open_block(self._source, layer, self._header, [k.unit for k in task.units])
        except (StoreError, InfrastructureError):
            raise
        except Exception as error:
            if len(task.units) == 1:
                return (writer.fail(_failure(task.units[0], error)),)
            alone = (Task(task.layer, (key,)) for key in task.units)
            return tuple(receipt for single in alone for receipt in self.run(single))
        return tuple(self._unit(writer, block, key) for key in task.units)

    def _unit(self, writer: Writer, block: Block, key: UnitKey) -> Receipt:
        started = time.perf_counter()
        try:
            return writer.commit(compute_unit(block, key, started=started))
        except (StoreError, InfrastructureError):
            raise
        except Exception as error:
            return writer.fail(_failure(key, error))


def _failure(key: UnitKey, error: Exception) -> FailureRecord:
    return FailureRecord(
        key=key,
        kind=error.kind if isinstance(error, AtlasError) else type(error).__name__,
        message=(str(error).strip().splitlines() or [type(error).__name__])[0],
        trace="".join(traceback.format_exception(error)),
    )
