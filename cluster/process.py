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
# Where there are no terminals, there is no SIGHUP.
_HANGUP = {signal.SIGHUP} if hasattr(signal, "SIGHUP") else set[signal.Signals]()
_STOPPING = (signal.SIGINT, signal.SIGTERM, *_HANGUP)
_UNHANDLED = (signal.SIG_DFL, signal.default_int_handler)


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
def signals_interrupt() -> Iterator[None]:
    """Turns SIGTERM, by which a cluster ends a program, and SIGHUP, by which a terminal that is
    closed does, into the KeyboardInterrupt of Ctrl-C, with the signal's number.

    What comes soon after the first of them is ignored: it would cut off the ending that is under
    way. Whoever waits for a store, in any thread, waits no longer. Only the main thread can handle
    signals: in another, all keep the meaning they had, as does Ctrl-C where the caller handles it
    in its own way, and SIGHUP where it is ignored, as `nohup` has it.
    """
    first: list[tuple[float, int]] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        del frame
        now_s = time.monotonic()
        if not first or now_s - first[0][0] > _ENDING_S:
            first[:] = [(now_s, number)]
            end_waits()
            raise KeyboardInterrupt(number)

    with interruptible_waits() as end_waits, _all_restored() as here:
        if here:
            for number in _STOPPING:
                if signal.getsignal(number) in _UNHANDLED or number == signal.SIGTERM:
                    signal.signal(number, interrupt)
        try:
            yield
        except Exception as error:
            # What is cut off may end in an error of its own, as where a terminal takes no line.
            if first:
                raise KeyboardInterrupt(first[0][1]) from error
            raise


@contextlib.contextmanager
def interrupts_deferred() -> Iterator[None]:
    """Holds Ctrl-C, SIGTERM and SIGHUP back from what must not be cut off, then raises
    KeyboardInterrupt where one came. Only the main thread gets signals."""
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        del frame
        came.append(number)

    with _all_restored() as here:
        if here:
            for number in _STOPPING:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    signal.signal(number, note)
        yield
    if came:
        raise KeyboardInterrupt


@contextlib.contextmanager
def deaf_to_hangups() -> Iterator[None]:
    """Has the processes that are started meanwhile not hear SIGHUP, which a closed terminal sends
    to all of a program's: their driver hears it, and ends them in good order."""
    if not _HANGUP:
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HANGUP)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _apply(changes: Mapping[str, str | None]) -> None:
    for name, value in changes.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@contextlib.contextmanager
def _all_restored() -> Iterator[bool]:
    """As `_restored`, for all signals that end a program."""
    with contextlib.ExitStack() as every:
        here = [every.enter_context(_restored(number)) for number in _STOPPING]
        yield here[0]


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
