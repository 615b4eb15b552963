"""How long a store that does not answer is waited for, and who hears of it.

Two layers repeat a request. The store's client does so at once, twice within a second or so
(`RETRIES`), where the server says that it is busy or no connection comes about. What it leaves is
waited for here, with growing pauses: an outage of minutes, and a request of which nobody knows
whether it was carried out. Errors that time does not mend are raised at once.
"""

from __future__ import annotations

import contextlib
import errno
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, TypeVar

from obstore.exceptions import BaseError, GenericError

from circuit_atlas.storage_schema.answer_errors import StatusError
from circuit_atlas.storage_schema.wording import http_status, in_words, system_number

if TYPE_CHECKING:
    from obstore.store import RetryConfig

READERS_S = 10.0
"""How long those wait that read an atlas and build nothing: a person looks on."""
RETRIES: RetryConfig = {
    "max_retries": 2,
    "retry_timeout": timedelta(seconds=5),
    "backoff": {
        "init_backoff": timedelta(milliseconds=50),
        "max_backoff": timedelta(milliseconds=500),
        "base": 2,
    },
}
"""What the store's client repeats by itself."""

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0
# What is over sooner is not worth a line.
_QUIET_S = 2.0
# Of a network, or of a folder that lies on another machine. A full, broken or read-only disk is
# none of them: it stays so until somebody does something.
_PASSING = frozenset(
    (
        errno.EAGAIN,
        errno.EPIPE,
        errno.ECONNABORTED,
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.ESTALE,
        errno.ETIMEDOUT,
    )
)
_PASSING_STATUSES = frozenset((408, 425, 429, 500, 502, 503, 504))
# Where the client looks for credentials when it was given none.
_CREDENTIAL_SERVICES = re.compile(r"//(169\.254\.\d+\.\d+|metadata(\.google\.internal)?)[/:]")
# Of what the client says without a status, what only a change of settings mends.
_SETTINGS = ("LocalFileSystem", "redirect without LOCATION", "invalid peer certificate")

# How soon a wait ends that is interrupted. Nothing wakes it: what wakes threads holds a lock, and a
# signal's handler may run while its own thread holds that.
_TICK_S = 0.1

_T = TypeVar("_T")


@dataclass(frozen=True)
class Outage:
    """Says that a store does not answer and is waited for; or that it answers again.

    Attributes:
        store: its folder or URL.
        answer: what it says to the request that waits.
        since_s: when that request was first made, in seconds since 1970 UTC.
        limit_s: for how long it is waited for, in seconds.
        ended_s: when it was answered; None while it waits.
    """

    store: str
    answer: str
    since_s: float
    limit_s: float
    ended_s: float | None = None

    def __str__(self) -> str:
        if self.ended_s is not None:
            return f"{self.store} answers again after {self.ended_s - self.since_s:.0f} s"
        return (
            f"waiting for {self.store} since {_clock(self.since_s)} ({self.answer}), for "
            f"{self.limit_s:g} s at most"
        )


class StillOutError(Exception):
    """A store gave no answer for as long as it is waited for. Those who asked say what they
    asked."""


class Patience:
    """Repeats requests to one store until they are answered, as long as it has patience. Safe to
    share between threads.

    Attributes:
        limit_s: how long a request is repeated, in seconds, from when it was first made; 0 raises
            every error at once.
    """

    def __init__(self, limit_s: float = READERS_S) -> None:
        self.limit_s = limit_s
        self._lock = threading.Lock()
        self._outage: Outage | None = None

    def __reduce__(self) -> tuple[type[Patience], tuple[float]]:
        return Patience, (self.limit_s,)

    def ask(self, store: str, question: Callable[[], _T]) -> _T:
        """Return the answer to a question, which may be asked several times; `store` names who is
        asked.

        Raises:
            StillOutError: it was not answered in time, or somebody interrupts.
            BaseError, OSError: as the question does, where waiting mends nothing.
        """
        waiting = _Wait(self, store)
        while True:
            try:
                answer = question()
            except (BaseError, OSError) as error:
                _sleep(waiting.pause_s(error))
            else:
                waiting.end()
                return answer

    def begin(self, outage: Outage) -> None:
        """Tell of an outage, unless it is known."""
        with self._lock:
            known, self._outage = self._outage is not None, self._outage or outage
        if not known:
            _tell(outage)

    def end(self, *, answered: bool) -> None:
        """Forget the outage; tell that it is over where the store has answered."""
        with self._lock:
            outage, self._outage = self._outage, None
        if outage is not None and answered:
            _tell(replace(outage, ended_s=time.time()))


class _Wait:
    """One request that is repeated."""

    def __init__(self, patience: Patience, store: str) -> None:
        self._patience, self._store = patience, store
        self._since_s, self._began_s = time.monotonic(), time.time()
        self._pause_s = 0.0

    def pause_s(self, error: Exception) -> float:
        """How long to wait before the next try; raises where there is to be none."""
        limit_s = self._patience.limit_s
        if not (limit_s and is_passing(error)):
            self.end()  # that is an answer, too
            raise error
        waited_s = time.monotonic() - self._since_s
        if waited_s >= limit_s or _process.interrupted:
            self._patience.end(answered=False)
            raise StillOutError(
                f"{_answer(error)}, for {waited_s:.0f} s since {_clock(self._began_s)}; run again "
                "when the store answers"
            ) from error
        self._pause_s = min(2 * self._pause_s or _FIRST_PAUSE_S, _LONGEST_PAUSE_S)
        # By chance, or all that wait would ask at once.
        pause_s = min(self._pause_s * random.uniform(0.5, 1.0), limit_s - waited_s)
        if waited_s + pause_s > _QUIET_S:
            self._patience.begin(Outage(self._store, _answer(error), self._began_s, limit_s))
        return pause_s

    def end(self) -> None:
        """Notes that the request was answered."""
        if self._pause_s:
            self._patience.end(answered=True)


def is_passing(error: Exception) -> bool:
    """Tell whether time may mend an error of a store: nobody answers, or it has too much to do."""
    number = system_number(error)
    if number:
        return number in _PASSING
    if isinstance(error, TimeoutError | ConnectionError):
        return True
    if not isinstance(error, GenericError | StatusError):
        return False
    text = str(error)
    if lacks_credentials(error) or any(words in text for words in _SETTINGS):
        return False
    status = http_status(error)
    return status is None or status[0] in _PASSING_STATUSES


def lacks_credentials(error: Exception) -> bool:
    """Tell whether the client asked the machine for credentials, as it does where it has none."""
    return _CREDENTIAL_SERVICES.search(str(error)) is not None


@contextlib.contextmanager
def outages_told(tell: Callable[[Outage], None]) -> Iterator[None]:
    """Tell of every outage that this process waits for, once it has lasted two seconds, and of its
    end. Whoever came last is told, in the thread that waits."""
    _process.listeners.append(tell)
    try:
        yield
    finally:
        _process.listeners.remove(tell)


@contextlib.contextmanager
def interruptible_waits() -> Iterator[Callable[[], None]]:
    """Give what ends all waits of this process, those to come included, until this is left. A
    signal's handler may call it: KeyboardInterrupt ends the main thread's wait alone."""
    _process.interrupted = False
    try:
        yield _process.interrupt
    finally:
        _process.interrupted = False


def interruptible(question: Callable[[], _T]) -> _T:
    """Return the answer to a question, asked by another thread where this is the main one: it alone
    hears Ctrl-C, and not as long as it waits inside the store's client, which may take 30 s."""
    if threading.current_thread() is not threading.main_thread():
        return question()
    answer: Future[_T] = Future()

    def ask() -> None:
        try:
            answer.set_result(question())
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=ask, daemon=True).start()
    # Not all systems interrupt a wait without an end, where another thread gets the signal.
    while not wait([answer], timeout=_TICK_S).done:
        continue
    return answer.result()


class _Process:
    """What all waits of this process share, as they share its terminal and its signals."""

    def __init__(self) -> None:
        self.listeners: list[Callable[[Outage], None]] = []
        self.interrupted = False

    def interrupt(self) -> None:
        self.interrupted = True


_process = _Process()


def _tell(outage: Outage) -> None:
    if _process.listeners:
        _process.listeners[-1](outage)


def _sleep(pause_s: float) -> None:
    end_s = time.monotonic() + pause_s
    while not _process.interrupted and (left_s := end_s - time.monotonic()) > 0:
        time.sleep(min(left_s, _TICK_S))


def _answer(error: Exception) -> str:
    """What the store says, without what to do about it."""
    return in_words(error).partition(": see ")[0]


def _clock(at_s: float) -> str:
    return f"{datetime.fromtimestamp(at_s):%H:%M:%S}"
