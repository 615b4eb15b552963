"""The recipe for a criterion, followed: its file, its line, and its test."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from circuit_atlas.jobs.scores import per_image
from circuit_atlas.jobs.spec.circuits import Criterion

ROOT = Path(__file__).parents[2]
RECIPE = (ROOT / "docs" / "pages" / "contributing.md").read_text(encoding="utf-8")
MODULE = "circuit_atlas.jobs.scores.activation"


@pytest.fixture
def blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", RECIPE, re.MULTILINE | re.DOTALL)


def _module(name: str, code: str) -> ModuleType:
    module = ModuleType(name)
    exec(compile(code, name, "exec"), module.__dict__)
    return module


def test_the_recipes_criterion_passes_the_recipes_test(monkeypatch, blocks):
    formula, test = blocks
    monkeypatch.setitem(sys.modules, MODULE, _module(MODULE, formula))
    monkeypatch.setitem(per_image.PER_IMAGE, "activation", per_image.score_of("activation"))
    _module("test_activation", test).test_it_is_the_mean_of_each_kernels_map("grouped")


def test_the_recipes_line_goes_into_the_list_of_the_spec():
    (lines,) = re.findall(r"^```text\n(Criterion = .*?)^```$", RECIPE, re.MULTILINE | re.DOTALL)
    source = (ROOT / "jobs" / "spec" / "circuits.py").read_text(encoding="utf-8")
    assert lines.count('    "activation",\n') == 1
    assert lines.replace('    "activation",\n', "") in source
    assert "activation" not in Criterion.__args__
