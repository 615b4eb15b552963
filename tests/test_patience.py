"""Tests are patient, and say what they waited for."""

from __future__ import annotations

import ast
from itertools import count
from pathlib import Path

import httpx
import pytest

from tests.patience import PATIENCE_S, until

HERE = Path(__file__).parent


def test_what_does_not_come_is_named():
    with pytest.raises(AssertionError, match=r"^waited 0\.01 s for the sun"):
        until(lambda: False, "the sun", within_s=0.01)
    times = count()
    until(lambda: next(times) == 3, "the fourth time")
    assert next(times) == 4


def test_httpx_is_as_patient_as_tests_are():
    with httpx.Client() as client:
        assert client.timeout == httpx.Timeout(PATIENCE_S)


def test_no_test_waits_less_for_what_is_not_its_subject():
    """Limits that a test sets for what it tests have other names, such as `deadline_s`."""
    short = []
    for path in HERE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            limits = [word.value for word in node.keywords if word.arg == "timeout"]
            if isinstance(node.func, ast.Attribute) and node.func.attr == "wait":
                limits += node.args
            for limit in limits:
                value = limit.value if isinstance(limit, ast.Constant) else None
                if isinstance(value, int | float) and 0 < value < PATIENCE_S:
                    short.append(f"{path.relative_to(HERE)}:{node.lineno}")
    assert short == []
