"""Images read one after the other; of an object store several at once, ahead of who takes them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

from circuit_atlas.jobs.images.entry import Entry, ReadsBytes
from circuit_atlas.jobs.images.object_folder import ObjectBytes

AT_ONCE = 16
"""So many objects are asked for at once: each answer takes tens of milliseconds to come, whatever
its size."""


def read_in_order(read: ReadsBytes, entries: Sequence[Entry]) -> Iterator[bytes | OSError]:
    """Reads images in the order given: the bytes of each, or why they cannot be read.

    Raises InfrastructureError where an object store gives no answer.
    """
    if not isinstance(read, ObjectBytes):
        yield from (_read(read, entry) for entry in entries)
        return
    waiting = iter(entries)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        asked: deque[Future[bytes | OSError]] = deque(
            pool.submit(_read, read, entry) for entry in islice(waiting, AT_ONCE)
        )
        while asked:
            data = asked.popleft().result()
            asked.extend(pool.submit(_read, read, entry) for entry in islice(waiting, 1))
            yield data


def _read(read: ReadsBytes, entry: Entry) -> bytes | OSError:
    try:
        return read(entry)
    except OSError as error:
        return error
