"""The whole process' environment and signal handlers, changed for a while."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from types import FrameType

from circuit_atlas.storage_schema.patience import interruptible_waits

# How long an ending may take before another interrupt cuts it off.
_ENDING_S = 10.0


@contextlib.contextmanager
def environment(changes: Mapping[str, str | None]) -> Iterator[None]:
    """Sets variables, or removes those given as None, for libraries that read nothing else."""
    before = {name: os.environ.get(name) for name in changes}
    _apply(changes)
    try:
        yield
    finally:
        _apply(before)


@contextlib.contextmanager
def sigterm_kept() -> Iterator[None]:
    """Puts the caller's SIGTERM handler back, for libraries that replace it."""
    with _restored(signal.SIGTERM):
        yield


@contextlib.contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """Turns SIGTERM, by which a cluster ends a program, into the KeyboardInterrupt of Ctrl-C.

    What comes soon after the first of either is ignored: it would cut off the ending that is under
    way. Whoever waits for a store, in any thread, waits no longer. Only the main thread can handle
    signals: in another, both keep the meaning they had, as does Ctrl-C where the caller handles it
    in its own way.
    """
    since_s: list[float] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        del number, frame
        now_s = time.monotonic()
        if not since_s or now_s - since_s[0] > _ENDING_S:
            since_s[:] = [now_s]
            end_waits()
            raise KeyboardInterrupt

    with (
        interruptible_waits() as end_waits,
        _restored(signal.SIGTERM) as here,
        _restored(signal.SIGINT),
    ):
        if here:
            signal.signal(signal.SIGTERM, interrupt)
            if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
                signal.signal(signal.SIGINT, interrupt)
        yield


@contextlib.contextmanager
def interrupts_deferred() -> Iterator[None]:
    """Holds Ctrl-C and SIGTERM back from what must not be cut off, then raises KeyboardInterrupt
    where one came. Only the main thread gets signals."""
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        del frame
        came.append(number)

    with _restored(signal.SIGINT) as here, _restored(signal.SIGTERM):
        if here:
            signal.signal(signal.SIGINT, note)
            signal.signal(signal.SIGTERM, note)
        yield
    if came:
        raise KeyboardInterrupt


def _apply(changes: Mapping[str, str | None]) -> None:
    for name, value in changes.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@contextlib.contextmanager
def _restored(number: signal.Signals) -> Iterator[bool]:
    if threading.current_thread() is not threading.main_thread():
        yield False
        return
    before = signal.getsignal(number)
    try:
        yield True
    finally:
        signal.signal(number, before)
