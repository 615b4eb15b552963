"""A run that meets damage in its atlas repairs it and begins anew: no torn file ends it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from circuit_atlas.cluster.executor import Damaged
from circuit_atlas.service.client.repair_text import done_text
from circuit_atlas.storage_schema.errors import CorruptError
from circuit_atlas.storage_schema.opening import open_store
from circuit_atlas.storage_schema.repair import repair

T = TypeVar("T")


def mended(run: Callable[[], T], *, location: str, on_event: Callable[[Damaged], None]) -> T:
    """Do a run, and once more where it met damage that a repair put right.

    Args:
        run: does what is missing, however often it is called.
        location: of the atlas.
        on_event: is told what is damaged, and then what was done about it.

    Raises:
        CorruptError: what a repair cannot put right, such as the header.
        AtlasError: as of `run`.
    """
    try:
        return run()
    except CorruptError as error:
        on_event(Damaged((str(error), "every object of the atlas is looked at")))
        objects = open_store(location)
        done = repair(objects)
        if not done.steps:
            raise
    on_event(Damaged(tuple(done_text(objects, done))))
    return run()
