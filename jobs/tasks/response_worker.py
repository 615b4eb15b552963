"""The tasks that find what all images do to units, and the worker that does them.

A chunk of images goes through the network once, for all layers that lack it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from circuit_atlas.jobs.engine.targets import Response, respond
from circuit_atlas.jobs.engine.traced_layer import TracedLayer
from circuit_atlas.jobs.network.joined import joined
from circuit_atlas.jobs.network.step import Step
from circuit_atlas.jobs.tasks.beating import Beating
from circuit_atlas.jobs.tasks.crops import ChannelMaxima
from circuit_atlas.jobs.tasks.memory import images_forward, is_out_of_memory
from circuit_atlas.jobs.tasks.plan import Task
from circuit_atlas.jobs.tasks.progress import Progress
from circuit_atlas.jobs.tasks.worker_job import PreparedWorker, WorkerJob, check_seen
from circuit_atlas.storage_schema import response_paths, responses
from circuit_atlas.storage_schema.at_once import at_once
from circuit_atlas.storage_schema.errors import InfrastructureError
from circuit_atlas.storage_schema.header import LayerIndex
from circuit_atlas.storage_schema.keys import UnitKey
from circuit_atlas.storage_schema.network import is_stored
from circuit_atlas.storage_schema.network_tables import CHANNELS
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.records import Receipt
from circuit_atlas.storage_schema.response_tables import CHUNK
from circuit_atlas.storage_schema.wording import one_line

STAGE = "responses"
"""The layer of the keys of chunks of images that go through the network."""
# The maps of thousands of directions would not fit beside each other.
_UNITS_TOGETHER = 256


def response_tasks(model: str, chunks: Sequence[int]) -> tuple[Task, ...]:
    """Puts chunks of images into tasks, one each: a chunk takes a processor some seconds."""
    return tuple(Task(STAGE, (UnitKey(model, STAGE, chunk),), of="chunk") for chunk in chunks)


def chunks_of(places: Mapping[int, int]) -> dict[int, tuple[int, ...]]:
    """Puts images into chunks by the places of their pixels, which are then read in order.

    Args:
        places: of each image that can be used, by id.

    Returns:
        Ids of the images of each chunk that has any, by its number.
    """
    found: dict[int, list[int]] = {}
    for image, place in sorted(places.items(), key=lambda item: item[1]):
        found.setdefault(place // responses.CHUNK_IMAGES, []).append(image)
    return {chunk: tuple(images) for chunk, images in found.items()}


def chunks_there(objects: Objects, layer: LayerIndex, key: str) -> dict[int, str]:
    """Gives the path of each chunk of a set of units that no worker has to compute, by number:
    where the layer's network is not stored, of those alone whose channels are there too."""
    found = responses.chunks(objects, layer.layer, key)
    if is_stored(objects, layer):
        return found
    channels = responses.chunks(objects, layer.layer, response_paths.CHANNELS_OF_CHUNKS)
    return {chunk: path for chunk, path in found.items() if chunk in channels}


@dataclass(frozen=True)
class ResponseJob(WorkerJob):
    """What a worker that finds responses is made from.

    Attributes:
        units: those whose responses are asked for, by layer.
    """

    units: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def open(self) -> ResponseWorker:
        """Opens the worker, in the process that calls; errors as of `CircuitJob.open`."""
        return ResponseWorker(self.prepare(), self.units)


class ResponseWorker:
    """Puts chunks of images through the network, and stores what they do to units."""

    def __init__(self, prepared: PreparedWorker, units: Mapping[str, tuple[int, ...]]) -> None:
        """Looks up the store; MismatchError as of `CircuitWorker`."""
        self._opened, self._objects = prepared.opened, prepared.objects
        self.progress = Progress()
        self._beating = Beating(self._objects, self.progress, STAGE)
        header, location = prepared.header, self._objects.location
        check_seen(Reader(self._objects).header, header, location=location)
        self._units = units
        self._keys = {name: responses.key_of(numbers) for name, numbers in units.items()}
        self._response = prepared.opened.spec.circuits.response
        infos = prepared.opened.images.infos
        self._scoring = frozenset(prepared.opened.images.scoring)
        self._chunks = chunks_of({info.id: info.place for info in infos if info.problem is None})
        layers = [prepared.opened.layer(name) for name in units]
        self._together = images_forward(
            joined([layer.network for layer in layers]),
            maps=max(
                min(_UNITS_TOGETHER, len(units[layer.index.layer]))
                * layer.index.height
                * layer.index.width
                for layer in layers
            ),
            budget_bytes=prepared.budget_bytes,
            most=prepared.opened.spec.run.batch_size,
        )

    def run(self, task: Task) -> tuple[Receipt, ...]:
        """Stores what the chunks of a task do: one receipt each.

        Raises:
            WriteError: the store refuses.
            InfrastructureError: memory ran out with one image at a time.
        """
        self.progress.begin(task.of)
        self.progress.together(task.units)
        with self._beating.during(task):
            return self._run(task)

    def _run(self, task: Task) -> tuple[Receipt, ...]:
        receipts = []
        for key in task.units:
            started = time.perf_counter()
            size_bytes = self._store(key.unit)
            compute_s = time.perf_counter() - started
            receipts.append(Receipt(key, "done", 0, size_bytes, compute_s, of="chunk"))
            self.progress.ended(receipts[-1])
        return tuple(receipts)

    def _store(self, chunk: int) -> int:
        """Runs a chunk for the layers that lack it; the bytes that were stored."""
        lacking = at_once(lambda name: self._lacks(name, chunk), self._keys)
        missing = [
            self._opened.layer(name)
            for name, lacks in zip(self._keys, lacking, strict=True)
            if lacks
        ]
        size_bytes = 0
        for found in self._computed(missing, self._chunks[chunk]):
            size_bytes += self._put(found, chunk)
        return size_bytes

    def _lacks(self, name: str, chunk: int) -> bool:
        """Whether a layer lacks a chunk; a worker that was lost later in it may have stored it, or
        another build."""
        index = self._opened.layer(name).index
        return chunk not in chunks_there(self._objects, index, self._keys[name])

    def _put(self, found: _Found, chunk: int) -> int:
        """Stores what a chunk does to one layer: last, and so where all of it is there, what it
        does to its units."""
        name, size_bytes = found.layer, 0
        if found.channels is not None:
            data = CHANNELS.to_parquet(found.channels)
            responses.put_chunk(self._objects, name, response_paths.CHANNELS_OF_CHUNKS, chunk, data)
            size_bytes += len(data)
        data = CHUNK.to_parquet(
            CHUNK.from_columns(
                {
                    "image": self._chunks[chunk],
                    "responses": _lists(found.responses),
                    "positions": _lists(found.positions),
                }
            )
        )
        responses.put_chunk(self._objects, name, self._keys[name], chunk, data)
        return size_bytes + len(data)

    def _computed(self, layers: Sequence[TracedLayer], images: Sequence[int]) -> Sequence[_Found]:
        """What images do to the units of layers, and to the channels of networks that are not
        stored."""
        if not layers:
            return ()
        while True:
            try:
                return self._in_one_pass(layers, images)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                if self._together == 1:
                    raise InfrastructureError(
                        f"memory ran out with one image at a time ({one_line(error)}); use fewer "
                        "workers, or a machine with more memory"
                    ) from error
                self._together //= 2

    def _in_one_pass(
        self, layers: Sequence[TracedLayer], images: Sequence[int]
    ) -> Sequence[_Found]:
        passed = _Pass(self._units, layers, self._response)
        new = [layer for layer in layers if not is_stored(self._objects, layer.index)]
        maxima, start = ChannelMaxima(new), 0
        network = joined([layer.network for layer in layers])
        with torch.no_grad():
            batches = self._opened.batches(images, self._together)
            for batch in self.progress.images(batches, "responses", len(images)):
                of_batch = images[start : start + len(batch)]
                rows = [n for n, image in enumerate(of_batch) if image in self._scoring]
                scoring = [of_batch[row] for row in rows]
                crops = partial(maxima.see, rows=rows, images=scoring)
                network.output(batch, partial(_see, passed.see, crops))
                start += len(batch)
        return [
            _Found(
                layer.index.layer,
                *passed.found(layer.index.layer),
                maxima.table(layer) if layer in new else None,
            )
            for layer in layers
        ]


@dataclass(frozen=True)
class _Found:
    """What images do to a layer: (images, units) responses and flat positions of maxima, and
    `network_tables.CHANNELS`, None where that is stored."""

    layer: str
    responses: NDArray[np.float32]
    positions: NDArray[np.int32]
    channels: pa.Table | None


class _Pass:
    """Sees the outputs of layers as images go through, and keeps what they are for units."""

    def __init__(
        self,
        units: Mapping[str, tuple[int, ...]],
        layers: Sequence[TracedLayer],
        response: Response,
    ) -> None:
        self._units, self._response = units, response
        self._by_step: dict[str, list[TracedLayer]] = {}
        self._parts: dict[str, list[tuple[Tensor, Tensor]]] = {}
        for layer in layers:
            self._by_step.setdefault(layer.network.target.name, []).append(layer)

    def see(self, step: Step, value: Tensor) -> None:
        """Looks at the result of a step, (images, channels, height, width)."""
        for layer in self._by_step.get(step.name, ()):
            name = layer.index.layer
            part = _of_units(layer, self._units[name], value, self._response)
            self._parts.setdefault(name, []).append(part)

    def found(self, layer: str) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Gives responses and positions of all images seen, (images, units) both."""
        values, positions = zip(*self._parts[layer], strict=True)
        return (
            torch.cat(values).cpu().numpy().astype(np.float32),
            torch.cat(positions).cpu().numpy().astype(np.int32),
        )


def _see(
    units: Callable[[Step, Tensor], None],
    channels: Callable[[Step, Tensor], None],
    step: Step,
    value: Tensor,
) -> None:
    units(step, value)
    channels(step, value)


def _of_units(
    layer: TracedLayer, numbers: Sequence[int], output: Tensor, response: Response
) -> tuple[Tensor, Tensor]:
    """Response of each unit and flat position of its maximum, (images, units) both."""
    values, positions = [], []
    for start in range(0, len(numbers), _UNITS_TOGETHER):
        maps = layer.targets(numbers[start : start + _UNITS_TOGETHER]).maps(output)
        values.append(respond(maps, response).T)
        positions.append(maps.flatten(2).argmax(2).T)
    return torch.cat(values, 1), torch.cat(positions, 1)


def _lists(values: NDArray[np.generic]) -> pa.Array:
    """A list a row."""
    rows, columns = values.shape
    offsets = np.arange(rows + 1, dtype=np.int32) * columns
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values.reshape(-1)))
