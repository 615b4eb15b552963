"""How long a store is waited for: what is asked again, what is told, and what ends a wait."""

from __future__ import annotations

import errno
import pickle
import threading
import time
from collections.abc import Callable

import pytest
from obstore.exceptions import GenericError, PermissionDeniedError

from circuit_atlas.storage_schema import patience
from circuit_atlas.storage_schema.patience import (
    Outage,
    Patience,
    StillOutError,
    interruptible_waits,
    is_passing,
    outages_told,
)
from tests.patience import PATIENCE_S, until

STORE = "s3://bucket/atlas"


def status(code: str) -> GenericError:
    return GenericError(
        f"Generic S3 error: Error performing PUT http://host/bucket/a in 2.5ms, after 2 retries, "
        f"max_retries: 2, retry_timeout: 5s  - Server returned non-2xx status code: {code}: \n\n"
        "Debug source:\n..."
    )


def no_answer() -> GenericError:
    return GenericError("Generic S3 error: error sending request for url (http://host/bucket/a)")


class Store:
    """Answers after so many errors; counts what it is asked."""

    def __init__(self, errors: int, error: Callable[[], Exception] = no_answer) -> None:
        self.left, self.error, self.asked = errors, error, 0

    def __call__(self) -> str:
        self.asked += 1
        if self.left:
            self.left -= 1
            raise self.error()
        return "answer"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses of milliseconds, and outages that are told of at once."""
    monkeypatch.setattr(patience, "_FIRST_PAUSE_S", 0.002)
    monkeypatch.setattr(patience, "_LONGEST_PAUSE_S", 0.01)
    monkeypatch.setattr(patience, "_QUIET_S", 0.0)


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (no_answer(), True),
        (status("429 Too Many Requests"), True),
        (status("500 Internal Server Error"), True),
        (status("503 Service Unavailable"), True),
        (status("400 Bad Request"), False),
        (status("413 Payload Too Large"), False),
        (status("501 Not Implemented"), False),
        (GenericError("Generic S3 error: HTTP error: error decoding response body"), True),
        (GenericError("error sending request: tcp connect error (os error 111)"), True),
        (GenericError("Generic S3 error: Received redirect without LOCATION, this"), False),
        (GenericError("error sending request: invalid peer certificate: UnknownIssuer"), False),
        (GenericError("Generic LocalFileSystem error: Unable to open file"), False),
        (GenericError("Generic LocalFileSystem error: stale (os error 116)"), True),
        (GenericError("Generic LocalFileSystem error: No space left (os error 28)"), False),
        (PermissionDeniedError("403 Forbidden"), False),
        (GenericError("Error performing PUT http://169.254.169.254/latest/api/token in 1s"), False),
        (GenericError("error sending request for url (http://metadata.google.internal/x)"), False),
        (OSError(errno.EROFS, "read-only"), False),
        (OSError(errno.EIO, "fault"), False),
        (ConnectionResetError(errno.ECONNRESET, "reset"), True),
        (FileNotFoundError("none"), False),
        (TimeoutError("late"), True),
        (ValueError("other"), False),
    ],
)
def test_what_time_may_mend(error: Exception, passes: bool) -> None:
    assert is_passing(error) == passes


def test_a_question_is_asked_until_it_is_answered() -> None:
    store = Store(5)
    assert Patience(PATIENCE_S).ask(STORE, store) == "answer"
    assert store.asked == 6


def test_what_waiting_does_not_mend_is_asked_once() -> None:
    for limit_s, error in ((PATIENCE_S, lambda: status("400 Bad Request")), (0, no_answer)):
        store = Store(1, error)
        with pytest.raises(GenericError):
            Patience(limit_s).ask(STORE, store)
        assert store.asked == 1


def test_past_its_limit_a_wait_says_for_how_long_it_was() -> None:
    started_s = time.monotonic()
    store = Store(10**9, lambda: status("503 Service Unavailable"))
    with pytest.raises(
        StillOutError,
        match=r"503 Service Unavailable, for 0 s since \d\d:\d\d:\d\d; run again when the store a",
    ):
        Patience(0.3).ask(STORE, store)
    assert 0.3 <= time.monotonic() - started_s < PATIENCE_S
    assert 20 < store.asked < 300  # pauses grow no further than 10 ms, and shrink by chance


def test_pauses_grow_and_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.undo()
    monkeypatch.setattr(patience, "_sleep", pauses.append)
    Patience(1e9).ask(STORE, Store(40))
    wholes = [min(0.1 * 2**n, 5.0) for n in range(40)]
    assert all(whole / 2 <= pause <= whole for whole, pause in zip(wholes, pauses, strict=True))
    assert len({pause / whole for whole, pause in zip(wholes, pauses, strict=True)}) == 40


def test_an_outage_is_told_once_and_so_is_its_end() -> None:
    told: list[Outage] = []
    shared = Patience(PATIENCE_S)
    begun = threading.Barrier(4)

    def ask() -> None:
        store = Store(8, lambda: status("503 Service Unavailable"))

        def question() -> str:
            if store.asked < 2:
                begun.wait(PATIENCE_S)
            return store()

        shared.ask(STORE, question)

    with outages_told(told.append):
        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert 2 <= len(told) <= 8
    assert len(told) % 2 == 0
    for begin, end in zip(told[::2], told[1::2], strict=True):
        assert (begin.store, begin.answer) == (STORE, "503 Service Unavailable")
        assert begin.ended_s is None
        assert end.ended_s is not None
        assert str(begin).startswith(f"waiting for {STORE} since ")
        assert str(begin).endswith(f" (503 Service Unavailable), for {PATIENCE_S:g} s at most")
        assert str(end) == f"{STORE} answers again after 0 s"


def test_that_there_is_no_such_object_is_an_answer() -> None:
    told: list[Outage] = []
    store = Store(4)

    def question() -> str:
        store()
        raise FileNotFoundError("none")

    with outages_told(told.append), pytest.raises(FileNotFoundError):
        Patience(PATIENCE_S).ask(STORE, question)
    assert [outage.ended_s is None for outage in told] == [True, False]


def test_what_is_over_soon_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_QUIET_S", PATIENCE_S)
    told: list[Outage] = []
    with outages_told(told.append):
        Patience(PATIENCE_S).ask(STORE, Store(5))
    assert told == []


def test_an_interrupt_ends_the_waits_of_all_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_FIRST_PAUSE_S", 1e6)
    monkeypatch.setattr(patience, "_LONGEST_PAUSE_S", 1e6)
    ended: list[Exception] = []
    stores = [Store(10**9) for _ in range(3)]

    def wait(store: Store) -> None:
        with pytest.raises(StillOutError) as caught:
            Patience(1e9).ask(STORE, store)
        ended.append(caught.value)

    with interruptible_waits() as interrupt:
        threads = [threading.Thread(target=wait, args=(store,)) for store in stores]
        for thread in threads:
            thread.start()
        until(lambda: all(store.asked for store in stores), "all to wait")
        interrupt()
        for thread in threads:
            thread.join(PATIENCE_S)
        assert len(ended) == 3
    assert Patience(PATIENCE_S).ask(STORE, lambda: "answer") == "answer"


def test_it_survives_pickling() -> None:
    assert pickle.loads(pickle.dumps(Patience(7.0))).limit_s == 7.0
