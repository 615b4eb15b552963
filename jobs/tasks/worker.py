"""One task, from its units to their commit records."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import torch

from circuit_atlas.jobs.engine.traced_layer import TracedLayer
from circuit_atlas.jobs.network.allocator import keep_freed_memory
from circuit_atlas.jobs.spec.build_spec import BuildSpec
from circuit_atlas.jobs.tasks.memory import Needs, Portion, default_budget, is_out_of_memory, needs
from circuit_atlas.jobs.tasks.network_record import network_record
from circuit_atlas.jobs.tasks.opened_spec import OpenedSpec
from circuit_atlas.jobs.tasks.plan import Task, resolve_source
from circuit_atlas.jobs.tasks.shared import open_block
from circuit_atlas.jobs.tasks.units import compute, failure
from circuit_atlas.storage_schema.errors import (
    InfrastructureError,
    MismatchError,
    StoreError,
    UnitError,
)
from circuit_atlas.storage_schema.header import AtlasHeader
from circuit_atlas.storage_schema.keys import UnitKey
from circuit_atlas.storage_schema.network import store
from circuit_atlas.storage_schema.opening import open_store
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.records import CircuitRecord, FailureRecord, Receipt
from circuit_atlas.storage_schema.template import check_same
from circuit_atlas.storage_schema.wording import one_line
from circuit_atlas.storage_schema.writer import Writer


@dataclass(frozen=True)
class WorkerJob:
    """All that a worker needs to start, small enough to send anywhere.

    Attributes:
        spec: the build's.
        workers: how many share the tasks, and perhaps a machine.
    """

    spec: BuildSpec
    workers: int

    @property
    def threads(self) -> int:
        """Threads that the worker computes with."""
        return self.spec.run.threads

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
        tf32 = job.spec.circuits.precision == "tf32"
        torch.backends.cuda.matmul.allow_tf32 = tf32
        torch.backends.cudnn.allow_tf32 = tf32
        self._source = OpenedSpec(job.spec)
        self._objects = open_store(job.spec.run.store, create=False)
        build = resolve_source(self._source)
        self._header = build.header
        run = self._source.spec.run
        self._needs: dict[str, Needs] = {}
        self._networks: set[str] = set()
        self._budget_bytes = run.memory_bytes or default_budget(
            self._source.device, workers=job.workers, threads=job.threads
        )
        _check_same(Reader(self._objects).header, build.header, place=self._objects.place)

    def run(self, task: Task) -> tuple[Receipt, ...]:
        """Every unit of the task, committed or recorded as failed: one receipt each.

        So many units go together as the budget holds; where memory runs out all the same, half of
        them do. An error of one unit is that unit's alone. Errors of the store or of the machine
        are raised.
        """
        layer = self._source.layer(task.layer)
        writer = Writer(self._objects, self._header, layer.index)
        receipts: dict[UnitKey, Receipt] = {}
        waiting = deque([task.units])
        while waiting:
            group = waiting.popleft()
            portion = self._portion(layer)
            if len(group) > portion.units:
                waiting.appendleft(group[portion.units :])
                group = group[: portion.units]
            try:
                self._store_network(layer, portion.images)
                numbers = [key.unit for key in group]
                together = portion.images
                block = open_block(self._source, layer, self._header, numbers, together=together)
                for result in compute(block, group):
                    receipts[result.key] = _stored(writer, result)
            except (StoreError, InfrastructureError):
                raise
            except Exception as error:
                left = tuple(key for key in group if key not in receipts)
                if is_out_of_memory(error):
                    self._halve(portion, error)
                    waiting.appendleft(left)
                elif len(left) == 1:
                    receipts[left[0]] = writer.fail(failure(left[0], error))
                else:
                    # What went wrong for several units at once is that of one of them.
                    waiting.extendleft((key,) for key in reversed(left))
        return tuple(receipts[key] for key in task.units)

    def _store_network(self, layer: TracedLayer, together: int) -> None:
        """What the layer's units share in the store, before the first of them."""
        if layer.index.layer in self._networks:
            return
        scoring = self._source.images.scoring
        batches = self._source.batches(scoring, together)
        store(self._objects, layer.index, lambda: network_record(layer, scoring, batches))
        self._networks.add(layer.index.layer)

    def _portion(self, layer: TracedLayer) -> Portion:
        if layer.index.layer not in self._needs:
            images = len(self._source.images.scoring) + len(self._source.images.held_out)
            self._needs[layer.index.layer] = needs(layer, self._header, images=images)
        found = self._needs[layer.index.layer].portion(
            self._budget_bytes, batch_size=self._source.spec.run.batch_size
        )
        return found or Portion(1, 1)

    def _halve(self, portion: Portion, error: Exception) -> None:
        if portion == Portion(1, 1):
            raise InfrastructureError(
                f"memory ran out with one unit and one image at a time ({one_line(error)}); "
                "use fewer workers, or a machine with more memory"
            ) from error
        self._budget_bytes //= 2
        if self._source.device.type == "cuda":
            torch.cuda.empty_cache()


def _check_same(stored: AtlasHeader, seen: AtlasHeader, *, place: str) -> None:
    """As `check_same`, for an atlas that was just laid out with the very spec of this worker."""
    if stored.weights_sha256 != seen.weights_sha256:
        raise MismatchError(
            f"the model {seen.model!r} has other weights in this worker than when the atlas at "
            f"{place} was laid out ({stored.weights_sha256[:12]} -> {seen.weights_sha256[:12]}): "
            "a model function has to return the same weights at each call, on every machine; draw "
            "them by a seed, or keep them in a file and name it under model.weights"
        )
    check_same(stored, seen, place=place)


def _stored(writer: Writer, result: CircuitRecord | FailureRecord) -> Receipt:
    if isinstance(result, FailureRecord):
        return writer.fail(result)
    try:
        return writer.commit(result)
    except UnitError as error:
        return writer.fail(failure(result.key, error))
