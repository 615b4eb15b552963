"""The whole process' environment and signal handlers, changed for a while."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from types import FrameType


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

    Only the main thread can handle signals: in another, SIGTERM keeps the meaning it had.
    """
    with _restored(signal.SIGTERM) as here:
        if here:
            signal.signal(signal.SIGTERM, _interrupt)
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


def _interrupt(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise KeyboardInterrupt
