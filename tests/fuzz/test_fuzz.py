"""Five hundred hostile files, each read or refused within limits; `python -m tests.fuzz` opens as
many as one likes."""

from __future__ import annotations

import sys

import pytest

from tests.fuzz.watch import outcomes

# Kinds that one child runs, as what it imports takes longest.
CASES = {
    "documents": 200,
    "parquet, altered+parquet, odd+parquet, bombs+sealed tables": 200,
    "arrays, altered+arrays, bombs+links and special files+names": 60,
    "server": 4,
    "values": 16,
    "weights": 36,
}

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux alone tells of memory")


@pytest.mark.parametrize("kinds", CASES)
def test_hostile_files_are_read_or_refused(kinds, tmp_path):
    numbers = range(CASES[kinds])
    found = list(outcomes(kinds, numbers, tmp_path))
    assert [outcome.number for outcome in found] == list(numbers)
    assert [outcome for outcome in found if outcome.is_fault] == []
    assert any(outcome.result == "refused" for outcome in found) or kinds == "server"
