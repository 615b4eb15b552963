"""The stage of a run that prepares its images, on the same workers as all else."""

from __future__ import annotations

import time
from collections.abc import Callable

from circuit_atlas.cluster.executor import IMAGES, Event, Planned
from circuit_atlas.cluster.work import Session, Work, run_work
from circuit_atlas.jobs.images.preparation import Preparation
from circuit_atlas.jobs.images.prepared_images import PreparedImages, gathered
from circuit_atlas.jobs.tasks.atlas_images import mark_whole, of_source
from circuit_atlas.jobs.tasks.image_worker import ImageJob, image_tasks
from circuit_atlas.storage_schema import layout
from circuit_atlas.storage_schema.errors import InfrastructureError
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.opening import open_store
from circuit_atlas.storage_schema.pixels import CHUNK_IMAGES
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.records import FailureRecord, Receipt
from circuit_atlas.storage_schema.template import check_location, check_names

# So many are read here in less time than a worker takes to start.
_FEW_CHUNKS = 4


class ImageStage:
    """Prepares the images of a run, on its workers, into its store."""

    def __init__(self, session: Session, on_event: Callable[[Event], None] | None) -> None:
        """Takes how tasks reach workers, and what sees every event as it comes."""
        self._session, self._on_event = session, on_event
        self._new: tuple[Preparation, PreparedImages] | None = None

    def __call__(self, preparation: Preparation) -> PreparedImages:
        """Prepares those images of a source that are not prepared yet, and opens all of them.

        Where the store's atlas was built from the source as it is now, no image is read. Where
        there is no folder for the store, it is made.

        Raises:
            ImageError: none can be read, or none is left for scoring.
            NotAnAtlasError: the store holds other things.
            MismatchError: the store has an atlas of other images.
            WriteError, InfrastructureError: the run cannot go on; what is prepared stays.
        """
        run = preparation.spec.run
        objects = open_store(run.store, create=True, patience_s=run.store_patience_s)
        check_location(objects)
        if objects.exists(layout.HEADER):
            known = of_source(preparation, Reader(objects))
            if known is not None:
                return known
            check_names(objects, [entry.name for entry in preparation.listing.entries])
        chunker, spec = preparation.chunker, preparation.spec
        there = chunker.prepared(objects)
        missing = set(range(chunker.chunks)) - there
        if missing:
            work = Work(
                Planned(len(missing), len(there), 0, stage=IMAGES),
                tasks=lambda _: image_tasks(spec.model.reference, missing),
                job=ImageJob(spec.run, chunker),
                fail=_fail,
            )
            few = len(missing) <= _FEW_CHUNKS
            run_work(
                work,
                spec.run,
                session=self._session,
                on_event=None if few else self._on_event,
                started_s=time.monotonic(),
                here=few,
            )
        images = gathered(preparation, objects)
        self._new = preparation, images
        return images

    def finish(self, objects: Objects) -> None:
        """Puts on record which source the atlas' images are of, once the atlas is laid out: later
        starts read none of them."""
        if self._new is not None:
            preparation, images = self._new
            mark_whole(preparation, images, objects)


def _fail(record: FailureRecord) -> Receipt:
    start = record.key.unit * CHUNK_IMAGES
    raise InfrastructureError(
        f"images {start} to {start + CHUNK_IMAGES - 1}, in the order of the source, could not be "
        f"prepared: {record.message}"
    )
