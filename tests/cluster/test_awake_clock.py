"""The clock of deadlines: time passes on it as long as somebody looks."""

from __future__ import annotations

from collections.abc import Iterator

from circuit_atlas.cluster.awake_clock import AwakeClock


def clock(*times_s: float) -> AwakeClock:
    times: Iterator[float] = iter(times_s)
    return AwakeClock(lambda: next(times))


def test_time_passes_while_somebody_looks() -> None:
    awake = clock(100.0, 100.5, 104.0, 113.9)
    assert [awake.now_s() for _ in range(3)] == [100.5, 104.0, 113.9]


def test_hours_of_sleep_are_left_out() -> None:
    awake = clock(100.0, 101.0, 7301.0, 7302.5, 20000.0)
    assert [awake.now_s() for _ in range(4)] == [101.0, 101.0, 102.5, 102.5]
