"""What every worker starts from: its process set up, the spec opened, and its share of memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import torch

from circuit_atlas.jobs.network.allocator import keep_freed_memory
from circuit_atlas.jobs.spec.build_spec import BuildSpec
from circuit_atlas.jobs.tasks.atlas_header import atlas_header
from circuit_atlas.jobs.tasks.atlas_images import atlas_images
from circuit_atlas.jobs.tasks.memory import default_budget
from circuit_atlas.jobs.tasks.opened_spec import OpenedSpec
from circuit_atlas.storage_schema.errors import MismatchError
from circuit_atlas.storage_schema.header import AtlasHeader
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.opening import open_store
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.template import check_same


@dataclass(frozen=True)
class WorkerJob:
    """All that a worker needs to start, small enough to send anywhere.

    Attributes:
        spec: the build's, with the preprocessing written out.
        workers: how many may share a machine, and its memory. Default: 1.
        trace: the planner's trace of the model. Default: the worker traces it.
    """

    spec: BuildSpec
    workers: int = 1
    trace: bytes | None = None

    @property
    def threads(self) -> int:
        """Threads that the worker computes with."""
        return self.spec.run.threads

    def sharing(self, workers: int) -> Self:
        """Gives the job for a machine that so many workers may share."""
        return replace(self, workers=workers)

    def prepare(self) -> PreparedWorker:
        """Sets this process' threads and precision, loads the model, and opens the store with the
        images in it.

        Raises:
            InputError: the spec cannot be used here.
            StoreError: there is no atlas.
        """
        torch.set_num_threads(self.threads)
        keep_freed_memory()
        tf32 = self.spec.circuits.precision == "tf32"
        torch.backends.cuda.matmul.allow_tf32 = tf32
        torch.backends.cudnn.allow_tf32 = tf32
        run = self.spec.run
        objects = open_store(run.store, patience_s=run.store_patience_s)
        assert self.spec.preprocessing is not None, "a resolved spec"
        images = atlas_images(Reader(objects), self.spec.preprocessing)
        opened = OpenedSpec(self.spec, images=images, trace=self.trace)
        budget_bytes = self.spec.run.memory_bytes or default_budget(
            opened.device, workers=self.workers
        )
        return PreparedWorker(opened, objects, atlas_header(opened), budget_bytes)


@dataclass(frozen=True)
class PreparedWorker:
    """What a worker holds between its tasks.

    Attributes:
        opened: the model and the images.
        objects: the store.
        header: the atlas' header, as this machine sees the model and the images. Layers are opened
            as tasks come: a spec may have many.
        budget_bytes: memory that the worker may take beside the program, the weights and the
            images.
    """

    opened: OpenedSpec
    objects: Objects
    header: AtlasHeader
    budget_bytes: int


def check_seen(stored: AtlasHeader, seen: AtlasHeader, *, location: str) -> None:
    """Does what `check_same` does, for an atlas that was just laid out with this worker's spec."""
    if stored.weights_sha256 != seen.weights_sha256:
        raise MismatchError(
            f"the model {seen.model!r} has other weights in this worker than when the atlas at "
            f"{location} was laid out ({stored.weights_sha256[:12]} -> "
            f"{seen.weights_sha256[:12]}): a model function has to return the same weights at each "
            "call, on every machine; draw them by a seed, or keep them in a file and name it under "
            "model.weights"
        )
    check_same(stored, seen, location=location)
