"""One measured line of the table, and how it is written down."""

from __future__ import annotations

import os
import platform
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter

import torch


@dataclass
class Row:
    """What one piece of work took.

    Attributes:
        work: what was done, on what.
        of: what the times are of, such as "unit and image".
        ours_s: seconds of ours.
        slow_s: seconds of the slow reference, where there is one.
        limit_s: seconds of the multiply-adds alone, at the rate of a large matrix product.
        part_s: seconds of the part that the limit is of, where that is not all of it.
        peak_bytes: memory beyond what the program, its model and its images take.
        facts: whatever else was measured.
    """

    work: str
    of: str
    ours_s: float
    slow_s: float | None = None
    limit_s: float | None = None
    part_s: float | None = None
    peak_bytes: int | None = None
    facts: dict[str, float] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        """The slow reference's time over ours."""
        return None if self.slow_s is None else self.slow_s / self.ours_s

    @property
    def share(self) -> float | None:
        """The limit over the time of the part that it is of."""
        return None if self.limit_s is None else self.limit_s / (self.part_s or self.ours_s)

    def to_json(self) -> dict[str, object]:
        """All of it."""
        return {**asdict(self), "ratio": self.ratio, "share_of_limit": self.share}


def best_s(work: Callable[[], object], *, times: int) -> float:
    """Seconds of the fastest of several runs, after one that is not counted."""
    work()
    best = float("inf")
    for _ in range(times):
        started = perf_counter()
        work()
        best = min(best, perf_counter() - started)
    return best


def spend(work: Iterator[object]) -> None:
    """Do work that comes in pieces, and keep none of them."""
    deque(work, maxlen=0)


def once_s(work: Callable[[], object]) -> float:
    """Seconds of a single run."""
    started = perf_counter()
    work()
    return perf_counter() - started


class Peak:
    """Memory that this process takes beyond what it had before, as the kernel counts it."""

    def __init__(self) -> None:
        Path("/proc/self/clear_refs").write_text("5")
        self._before = _status("VmRSS")

    def bytes(self) -> int:
        """At its highest since this object was made."""
        return _status("VmHWM") - self._before


def machine() -> dict[str, object]:
    """What the numbers were measured on."""
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
    }


def _status(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise LookupError(key)
