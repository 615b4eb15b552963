"""Every size that the HTTP API allows, in one place. What goes past one is refused with a 4xx."""

from __future__ import annotations

from dataclasses import dataclass, fields

TEXT = 256
"""Characters of a name, a search or a criterion."""
NUMBER = 10**9
"""Largest whole number in a question."""
IMAGES = 256
"""Images that a circuit may be asked of."""
ROWS = 1000
"""Rows of one page of JSON."""
PAGE = 100
"""Rows of a page where nothing is said."""
LISTED = 10_000
"""Units of one chart."""
EDGES = 20_000
"""Kernels drawn in one diagram."""
DETAILED = 200
"""Units of one answer that a file each is read for."""
COMPARED = 2000
"""Units of a comparison of criteria, each drawn thousands of times."""
MATCHES = 100
"""Matches of one search."""


@dataclass(frozen=True)
class Limits:
    """Bounds what one server takes of its machine. A test gives smaller ones.

    Attributes:
        url_bytes: length of path and query together, as sent.
        answer_bytes: size of one answer, raw objects aside: these are streamed.
        threads: requests that compute at once; the others wait.
        waiting: requests that may wait; one more is told to come back (503).
        streams: raw objects that are sent at once; one more is told to come back.
        listed: raw objects of one listing; of more it tells the folders.
        cache_bytes: answers kept, compressed ones included.
        digest_bytes: facts kept of the units of all layers.
        mask_bytes: circuits kept of all units of layers, as bits.
        use_bytes: answers kept to which units use a kernel.
        score_bytes: scores of a unit's images that one question may read; with the next, what
            keeps an answer within about a second of one core.
        kernels: of a circuit that is listed, drawn or compared.
        patience_s: how long a client waits for an answer; then it is told to come back.
        fresh_s: for how long a look at which units are stored is good.
    """

    url_bytes: int = 8192
    answer_bytes: int = 64 * 2**20
    threads: int = 4
    waiting: int = 256
    streams: int = 128
    listed: int = 10_000
    cache_bytes: int = 64 * 2**20
    digest_bytes: int = 256 * 2**20
    mask_bytes: int = 256 * 2**20
    use_bytes: int = 16 * 2**20
    score_bytes: int = 128 * 2**20
    kernels: int = 800_000
    patience_s: float = 30.0
    fresh_s: float = 2.0

    def __post_init__(self) -> None:
        """Raise ValueError for a bound that is negative."""
        for field in fields(self):
            if getattr(self, field.name) < 0:
                raise ValueError(f"{field.name}={getattr(self, field.name)!r} is negative")
