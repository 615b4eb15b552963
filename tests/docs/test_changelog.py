"""The changelog's table of modules: what is there today, and what is not any more."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

CHANGELOG = (Path(__file__).parents[2] / "CHANGELOG.md").read_text(encoding="utf-8")


def _there(module: str) -> bool:
    try:
        return importlib.util.find_spec(f"circuit_atlas.{module}") is not None
    except ModuleNotFoundError:  # a package above it is gone
        return False


def test_modules_are_where_it_says():
    table = CHANGELOG.partition("### Modules")[2].partition("\n### ")[0]
    moved = re.findall(r"^\| `([\w.]+)` \| `([\w.]+)` \|$", table, re.MULTILINE)
    assert len(moved) > 60
    assert [now for _, now in moved if not _there(now)] == []
    before = {before for before, now in moved} - {now for _, now in moved}
    # What is now a package of that name held other things.
    packages = {"jobs.circuits", "jobs.images", "jobs.network", "jobs.scores", "jobs.spec"}
    packages |= {"service.circuit", "service.client"}
    assert sorted(name for name in before if _there(name)) == sorted(packages)
