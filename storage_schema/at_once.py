"""Several questions to a store at once: over a network, most of what each takes is waiting."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

S = TypeVar("S")
T = TypeVar("T")
_THREADS = 16


def at_once(ask: Callable[[S], T], items: Iterable[S]) -> list[T]:
    """Return what `ask` says of each item, in their order; raises what it raises for the first of
    them that fails."""
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(ask, items))
