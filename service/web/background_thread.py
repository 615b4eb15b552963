"""Work that takes longer than a request may: one thread, in small steps, requests first."""

from __future__ import annotations

import logging
import threading
from typing import Protocol

from circuit_atlas.service.web.work import Work
from circuit_atlas.storage_schema.errors import AtlasError

_LOG = logging.getLogger(__name__)
# How long a step waits for requests to end, at most: they come first, but not for ever.
_GIVE_WAY_S = 0.2


class Chore(Protocol):
    """Is done in steps."""

    def step(self) -> bool:
        """Do a little, some tens of milliseconds; return whether more is left."""
        ...


class Background:
    """Does chores, the one asked for last first. The thread starts with the first chore."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._chores: list[Chore] = []
        self._change = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    def ask(self, chore: Chore, *, most: int | None = None) -> bool:
        """See to a chore before the others; return False where it is new and `most` wait
        already."""
        with self._change:
            if self._closed:
                return False
            if chore in self._chores:
                self._chores.remove(chore)
            elif most is not None and len(self._chores) >= most:
                return False
            self._chores.append(chore)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="circuit-atlas-background", daemon=True
                )
                self._thread.start()
            self._change.notify_all()
        return True

    def close(self) -> None:
        """Stop after the step that is being done."""
        with self._change:
            self._closed = True
            self._change.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._chores or self._closed)
                if self._closed:
                    return
                chore = self._chores[-1]
            self._work.wait_idle(_GIVE_WAY_S)
            try:
                more = chore.step()
            except AtlasError as error:
                # The request that needs what could not be read says so; here nobody listens.
                _LOG.warning("in the background: %s", error)
                more = False
            except Exception:
                _LOG.exception("in the background")
                more = False
            if not more:
                with self._change:
                    if chore in self._chores:
                        self._chores.remove(chore)
