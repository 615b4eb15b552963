"""Many requests at once, and more than there is room for."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from circuit_atlas.service.web.app import create_app
from circuit_atlas.service.web.cache import ByteCache, FreshValue
from circuit_atlas.service.web.errors import BusyError
from circuit_atlas.service.web.limits import Limits
from circuit_atlas.service.web.work import Work
from circuit_atlas.storage_schema.errors import QueryError
from tests.patience import PATIENCE_S
from tests.service.stores import served

MANY = 50


def questions(address: str) -> list[str]:
    """Fifty different ones."""
    api = f"{address}/api/v1"
    found = [
        f"{api}/layers/{layer}/units/{unit}/{what}"
        for layer, units in (("conv3", (0, 1, 2)), ("conv2", (0, 1)))
        for unit in units
        for what in (
            "circuit?keep=0.5",
            "circuit?keep=0.3",
            "diagram?keep=0.5",
            "faithfulness",
            "responses",
            "groups",
            "map",
            "similar",
            "subfeatures",
            "diagram.svg",
        )
    ]
    assert len(found) == MANY
    return found


def test_fifty_at_once_are_all_answered(location):
    with served(create_app(location)) as address, ThreadPoolExecutor(MANY) as pool:
        start = threading.Barrier(MANY)

        def ask(url: str) -> tuple[int, bytes]:
            with httpx.Client(verify=False) as client:  # a connection of its own
                start.wait()
                found = client.get(url)
                return found.status_code, found.content

        asked = questions(address)
        answers = list(pool.map(ask, asked))
        assert [status for status, _ in answers] == [200] * MANY
        again = [httpx.get(url).content for url in asked]
        assert [body for _, body in answers] == again


def test_more_than_may_wait_are_told_to_come_back(location):
    limits = Limits(threads=1, waiting=0)
    app = create_app(location, limits=limits)
    going, blocked = threading.Event(), threading.Event()

    def wait() -> None:
        blocked.set()
        assert going.wait(PATIENCE_S)

    with served(app) as address, httpx.Client(base_url=f"{address}/api/v1/") as api:
        pool = app.state.server.work
        inner = pool._threads.submit(wait)  # the only thread is taken
        assert blocked.wait(PATIENCE_S)
        with ThreadPoolExecutor(1) as other:
            first = other.submit(httpx.get, f"{address}/api/v1/images")
            while not pool._taken:  # until the first waits
                time.sleep(0.001)
            found = api.get("atlas")
            going.set()
            assert first.result().status_code == 200
        inner.result()
        assert found.status_code == 503
        assert found.headers["retry-after"] == "1"
        assert found.json()["error"]["kind"] == "busy"
        assert api.get("atlas").status_code == 200


def test_the_same_question_is_worked_out_once():
    async def main() -> None:
        work = Work(threads=4, waiting=4, patience_s=60)
        calls, going = [], threading.Event()

        def answer() -> int:
            calls.append(1)
            going.wait(PATIENCE_S)
            return len(calls)

        asked = [asyncio.create_task(work.run("key", answer)) for _ in range(20)]
        await asyncio.sleep(0)
        asked[0].cancel()  # one who goes away stops nothing
        going.set()
        found = await asyncio.gather(*asked[1:])
        assert found == [1] * 19
        assert await work.run("key", answer) == 2  # and later, it is worked out anew
        work.close()

    asyncio.run(main())


def test_as_many_wait_as_may_and_errors_give_their_place_back():
    async def main() -> None:
        work = Work(threads=1, waiting=1, patience_s=60)
        going = threading.Event()

        def fail() -> None:
            going.wait(PATIENCE_S)
            raise ZeroDivisionError

        asked = [asyncio.create_task(work.run(key, fail)) for key in ("a", "b")]
        await asyncio.sleep(0)
        with pytest.raises(BusyError, match="2 requests wait already"):
            await work.run("c", fail)
        assert work._taken == 2
        going.set()
        for task in asked:
            with pytest.raises(ZeroDivisionError):
                await task
        assert not work._taken
        assert await work.run("c", lambda: 3) == 3
        work.close()

    asyncio.run(main())


def test_who_has_waited_long_enough_is_told_to_come_back_for_the_same_answer():
    async def main() -> None:
        work = Work(threads=1, waiting=1, patience_s=0.01)
        going = threading.Event()
        begun = []

        def hang() -> int:
            begun.append(1)
            going.wait(PATIENCE_S)
            return 5

        for _ in range(3):
            with pytest.raises(BusyError, match=r"no answer in 0\.01 s, as the store is slow"):
                await work.run("key", hang)
        assert begun == [1]  # it goes on, and whoever asks again waits for the same
        going.set()
        while work._taken:
            await asyncio.sleep(0.01)
        work.close()

    asyncio.run(main())


def test_a_cache_keeps_to_its_bytes_and_drops_the_least_used():
    cache: ByteCache[str] = ByteCache(10)
    for key in "abc":
        cache.put(key, key, size_bytes=3)
    assert cache.get("a") == "a"
    cache.put("d", "d", size_bytes=3)
    assert [cache.get(key) for key in "abcd"] == ["a", None, "c", "d"]
    assert (cache.used_bytes, len(cache)) == (9, 3)
    cache.put("a", "large", size_bytes=10)
    assert [cache.get(key) for key in "acd"] == ["large", None, None]
    cache.put("b", "too large", size_bytes=11)
    assert cache.get("b") is None
    assert cache.used_bytes == 10


def test_a_value_is_read_again_once_it_is_old_and_others_go_on_meanwhile():
    seen: list[int | None] = []
    going, reading = threading.Event(), threading.Event()

    def read(last: int | None) -> int:
        seen.append(last)
        if last is not None:
            reading.set()
            assert going.wait(PATIENCE_S)
        return len(seen)

    lasting = FreshValue(read, fresh_s=1000)
    assert [lasting.get(), lasting.get()] == [1, 1]
    seen.clear()
    value = FreshValue(read, fresh_s=0)
    assert value.get() == 1
    time.sleep(0.001)
    with ThreadPoolExecutor(1) as pool:
        again = pool.submit(value.get)
        assert reading.wait(PATIENCE_S)
        assert value.get() == 1
        going.set()
        assert again.result() == 2
    assert seen == [None, 1]


def test_a_value_that_cannot_be_read_is_tried_again():
    answers = iter([QueryError("gone"), 3])

    def read(last: int | None) -> int:
        del last
        answer = next(answers)
        if isinstance(answer, QueryError):
            raise answer
        return answer

    value = FreshValue(read, fresh_s=1000)
    with pytest.raises(QueryError, match="gone"):
        value.get()
    assert value.get() == 3
