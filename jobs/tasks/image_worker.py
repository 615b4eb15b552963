"""The tasks that prepare images, and the worker that does them."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from circuit_atlas.jobs.images.preparation import Chunker
from circuit_atlas.jobs.spec.run import RunSpec
from circuit_atlas.jobs.tasks.beating import Beating
from circuit_atlas.jobs.tasks.plan import Task
from circuit_atlas.jobs.tasks.progress import Progress
from circuit_atlas.storage_schema import layout
from circuit_atlas.storage_schema.keys import UnitKey
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.opening import open_store
from circuit_atlas.storage_schema.records import Receipt

STAGE = "images"
"""The layer of the keys of chunks of images."""
# A worker is asked for work again after some seconds.
_CHUNKS_PER_TASK = 8


@dataclass(frozen=True)
class ImageJob:
    """What a worker that prepares images is made from.

    Attributes:
        run: names the store, and the threads of a worker.
        chunker: prepares chunks.
    """

    run: RunSpec
    chunker: Chunker

    @property
    def threads(self) -> int:
        """Threads that the worker computes with."""
        return self.run.threads

    def sharing(self, workers: int) -> ImageJob:
        """Gives the job for a machine that so many workers may share: the same, since each holds a
        chunk or two."""
        del workers
        return self

    def open(self) -> ImageWorker:
        """Opens the worker, in the process that calls; StoreError where there is no store."""
        torch.set_num_threads(self.threads)
        objects = open_store(self.run.store, patience_s=self.run.store_patience_s)
        progress = Progress()
        return ImageWorker(objects, self.chunker, progress, Beating(objects, progress, STAGE))


@dataclass(frozen=True)
class ImageWorker:
    """Prepares chunks of images.

    Attributes:
        objects: where their pixels go.
        chunker: prepares them.
        progress: is told of each chunk.
        beating: tells the store of it.
    """

    objects: Objects
    chunker: Chunker
    progress: Progress
    beating: Beating

    def run(self, task: Task) -> tuple[Receipt, ...]:
        """Prepares the chunks of a task that are not prepared yet: one receipt each, of 0 bytes
        where it was. Raises WriteError where the store refuses."""
        self.progress.begin(task.of)
        self.progress.together(task.units)
        self.progress.step("decoded", len(task.units), "chunks")
        with self.beating.during(task):
            return self._run(task)

    def _run(self, task: Task) -> tuple[Receipt, ...]:
        receipts = []
        for key in task.units:
            started = time.perf_counter()
            # By a worker that was lost later in its task, or by another build.
            there = self.objects.exists(layout.prepared_chunk(self.chunker.key, key.unit))
            size_bytes = 0 if there else self.chunker.prepare(self.objects, key.unit)
            compute_s = time.perf_counter() - started
            receipts.append(Receipt(key, "done", 0, size_bytes, compute_s, of="chunk"))
            self.progress.ended(receipts[-1])
            self.progress.advance()
        return tuple(receipts)


def image_tasks(model: str, chunks: Iterable[int]) -> tuple[Task, ...]:
    """Puts chunks of images, which are for a model, into tasks."""
    keys = [UnitKey(model, STAGE, chunk) for chunk in sorted(chunks)]
    return tuple(
        Task(STAGE, tuple(keys[start : start + _CHUNKS_PER_TASK]), of="chunk")
        for start in range(0, len(keys), _CHUNKS_PER_TASK)
    )
