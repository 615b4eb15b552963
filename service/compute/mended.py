"""A run that meets damage in its atlas repairs it and begins anew: no torn file ends it, and no
repair that somebody else runs beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from circuit_atlas.cluster.executor import Damaged
from circuit_atlas.service.client.repair_text import done_text
from circuit_atlas.storage_schema import set_aside
from circuit_atlas.storage_schema.errors import AtlasError, CorruptError, StoreError
from circuit_atlas.storage_schema.opening import open_store
from circuit_atlas.storage_schema.repair import repair

T = TypeVar("T")
# Each time a repair has ended; whoever repairs without end is not waited for.
_MOST_RUNS = 4
_ANEW = "a repair was at work meanwhile: beginning anew"


def mended(run: Callable[[], T], *, location: str, on_event: Callable[[Damaged], None]) -> T:
    """Do a run, and again where it met damage that a repair put right, or where a repair beside it
    set something aside, that the run had counted on or could not find.

    Args:
        run: does what is missing, however often it is called.
        location: of the atlas.
        on_event: is told what is damaged, and then what was done about it.

    Raises:
        CorruptError: what a repair cannot put right, such as the header.
        AtlasError: as of `run`.
    """
    for _ in range(_MOST_RUNS - 1):
        before = _set_aside(location)
        try:
            done = run()
        except (StoreError, FileNotFoundError) as error:
            if _is_more(before, location):
                on_event(Damaged((str(error), _ANEW)))
            elif isinstance(error, CorruptError | FileNotFoundError):
                on_event(Damaged((str(error), "every object of the atlas is looked at")))
                objects = open_store(location)
                put_right = repair(objects)
                if not put_right.steps and not _is_more(before, location):
                    raise
                on_event(Damaged(tuple(done_text(objects, put_right)) or (_ANEW,)))
            else:
                raise
        else:
            if not _is_more(before, location):
                return done
            on_event(Damaged(("a repair was at work meanwhile: what is missing now is done",)))
    return run()


def _set_aside(location: str) -> frozenset[str] | None:
    """The paths of what repairs have set aside; None where nobody can tell, as of no atlas yet."""
    try:
        # A hint: the run itself waits for a store that does not answer.
        objects = open_store(location, patience_s=0)
        return frozenset(path for one in set_aside.listed(objects) for path in one.paths)
    except AtlasError:
        return None


def _is_more(before: frozenset[str] | None, location: str) -> bool:
    """Whether more is set aside than before."""
    now = _set_aside(location)
    return now is not None and bool(now - (before or frozenset()))
