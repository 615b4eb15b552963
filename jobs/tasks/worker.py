"""One task, from its units to their commit records."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from circuit_atlas.jobs.engine.traced_layer import TracedLayer
from circuit_atlas.jobs.network.allocator import give_back_freed_memory
from circuit_atlas.jobs.tasks.beating import Beating
from circuit_atlas.jobs.tasks.block import forward_together, open_block
from circuit_atlas.jobs.tasks.crops import channel_crops
from circuit_atlas.jobs.tasks.memory import Needs, Portion, needs
from circuit_atlas.jobs.tasks.network_record import network_record
from circuit_atlas.jobs.tasks.plan import Task
from circuit_atlas.jobs.tasks.progress import Progress
from circuit_atlas.jobs.tasks.sample import images_of
from circuit_atlas.jobs.tasks.unit_loop import run_units
from circuit_atlas.jobs.tasks.units import compute, failure
from circuit_atlas.jobs.tasks.worker_job import PreparedWorker, WorkerJob, check_seen
from circuit_atlas.storage_schema import labels, layer_paths, responses
from circuit_atlas.storage_schema.errors import (
    InfrastructureError,
    StoreError,
    UnitError,
)
from circuit_atlas.storage_schema.keys import UnitKey
from circuit_atlas.storage_schema.network import NetworkRecord, store
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.records import CircuitRecord, FailureRecord, Receipt
from circuit_atlas.storage_schema.sample import images_of_unit
from circuit_atlas.storage_schema.template import is_laid_out
from circuit_atlas.storage_schema.wording import one_line
from circuit_atlas.storage_schema.writer import Writer

# On a processor, what units share is a fiftieth of their work for so many, and more of them would
# only take more memory.
_MOST_UNITS = 16


class CircuitJob(WorkerJob):
    """What a worker that computes circuits is made from."""

    def open(self) -> CircuitWorker:
        """Opens the worker, in the process that calls.

        Raises:
            InputError: the spec cannot be used here.
            StoreError: there is no atlas, or one laid out for other weights or images than this
                machine sees.
        """
        return CircuitWorker(self.prepare())


class CircuitWorker:
    """Computes tasks and writes their results; keeps the model and the images between tasks."""

    fatal: tuple[type[Exception], ...] = (StoreError, InfrastructureError)

    def __init__(self, prepared: PreparedWorker) -> None:
        """Looks up the store; MismatchError where the atlas was laid out for other weights or
        images than this machine sees."""
        self._opened, self._objects = prepared.opened, prepared.objects
        self.progress = Progress()
        self._beating = Beating(self._objects, self.progress, "units")
        self._header = prepared.header
        self._budget_bytes = prepared.budget_bytes
        self._needs: dict[str, Needs] = {}
        self._writers: dict[str, Writer] = {}
        self._networks: set[str] = set()
        self._unit_labels: dict[str, dict[int, str]] = {}
        self._reader = Reader(self._objects)
        check_seen(self._reader.header, self._header, location=self._objects.location)

    def run(self, task: Task) -> tuple[Receipt, ...]:
        """Commits every unit of the task or records it as failed: one receipt each.

        As many units go together as the budget holds; where memory runs out all the same, half of
        them do. An error of one unit is that unit's alone. Errors of the store or of the machine
        are raised.
        """
        self.progress.begin(task.of)
        with self._beating.during(task):
            return run_units(task.units, self)

    def units_together(self, keys: Sequence[UnitKey]) -> int:
        """Says how many units of the keys' layer the budget holds; one where each has images of
        its own."""
        return 1 if self._header.sample else self._portion(keys[0].layer).units

    def compute(self, keys: Sequence[UnitKey]) -> Iterator[Receipt]:
        """Computes units of one layer together and commits them; but for those that are committed
        already, by a worker that was lost later in its task, or by another build."""
        layer = self._opened.layer(keys[0].layer)
        writer = self._writer(layer.index.layer)
        committed = {key: writer.committed(key.unit) for key in keys}
        yield from (receipt for receipt in committed.values() if receipt is not None)
        keys = [key for key in keys if committed[key] is None]
        if not keys:
            return
        together = self._portion(layer.index.layer).images
        self._store_network(layer, together)
        numbers = [key.unit for key in keys]
        block = open_block(
            self._opened,
            layer,
            self._header,
            numbers,
            together=together,
            unit_labels=self._labels(layer.index.layer),
            of_units=images_of(
                self._reader, self._header, self._opened.images, layer.index.layer, numbers[0]
            ),
            progress=self.progress,
        )
        for result in compute(block, keys):
            yield _stored(writer, result)
        del block
        give_back_freed_memory()

    def store_network(self, name: str) -> None:
        """Stores what the units of a layer share, where all of them are stored and that is gone."""
        self._store_network(self._opened.layer(name), self._portion(name).images)

    def halve(self, keys: Sequence[UnitKey], error: Exception) -> None:
        """Uses half of the memory from now on; InfrastructureError where there is no half."""
        if self._portion(keys[0].layer) == Portion(1, 1):
            raise InfrastructureError(
                f"memory ran out with one unit and one image at a time ({one_line(error)}); "
                "use fewer workers, or a machine with more memory"
            ) from error
        self._budget_bytes //= 2
        if self._opened.device.type == "cuda":
            torch.cuda.empty_cache()

    def fail(self, record: FailureRecord) -> Receipt:
        """Records a unit as failed."""
        return self._writer(record.key.layer).fail(record)

    def _writer(self, layer: str) -> Writer:
        if layer not in self._writers:
            index = self._opened.layer(layer).index
            is_laid_out(self._objects, index)  # as this worker sees its directions
            self._writers[layer] = Writer(self._objects, self._header, index)
        return self._writers[layer]

    def _labels(self, layer: str) -> dict[int, str]:
        if layer not in self._unit_labels:
            self._unit_labels[layer] = labels.read(self._objects, layer)
        return self._unit_labels[layer]

    def _portion(self, layer: str) -> Portion:
        if layer not in self._needs:
            every = self._opened.images
            images = images_of_unit(
                self._header.sample, scoring=len(every.scoring), held_out=len(every.held_out)
            )
            self._needs[layer] = needs(self._opened.layer(layer), self._header, images=images)
        on_processor = self._opened.device.type == "cpu"
        fitting = self._needs[layer].portion(
            self._budget_bytes,
            batch_size=self._opened.spec.run.batch_size,
            most_units=_MOST_UNITS if on_processor else None,
        )
        return fitting or Portion(1, 1)

    def _store_network(self, layer: TracedLayer, together: int) -> None:
        """Stores what the layer's units share, before the first of them."""
        if layer.index.layer in self._networks:
            return

        def record() -> NetworkRecord:
            if self._header.sample is not None and self._objects.exists(layer_paths.channels(name)):
                # The stage of responses has seen all images: no worker looks again, unless a repair
                # set aside what it stored.
                return network_record(layer, responses.found_channels(self._objects, name))
            scoring = self._opened.images.scoring
            batches = self._opened.batches(scoring, forward_together(self._opened, together))
            seen = self.progress.images(batches, "network", len(scoring))
            return network_record(layer, channel_crops(layer, scoring, seen))

        name = layer.index.layer
        store(self._objects, layer.index, record)
        self._networks.add(name)


def _stored(writer: Writer, result: CircuitRecord | FailureRecord) -> Receipt:
    if isinstance(result, FailureRecord):
        return writer.fail(result)
    try:
        return writer.commit(result)
    except UnitError as error:
        return writer.fail(failure(result.key, error))
