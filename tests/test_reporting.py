"""What the end of a run says."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]

BROKEN = """
import pytest

@pytest.fixture(scope="session")
def server():
    raise RuntimeError("waited 60 s for a server")

@pytest.mark.parametrize("n", range(5))
def test_of_it(server, n): ...

def test_of_its_own(): ...

def test_elsewhere():
    pytest.skip("there is no browser")
"""


def run(pytester: pytest.Pytester, text: str) -> pytest.RunResult:
    pytester.makepyfile(test_some=text)
    return pytester.runpytest("-p", "tests.reporting")


def test_a_fixture_that_fails_says_once_what_it_waited_for(pytester):
    result = run(pytester, BROKEN)
    result.assert_outcomes(errors=1, passed=1, skipped=5)
    said = result.stdout.str()
    assert said.count("E       RuntimeError: waited 60 s for a server") == 1
    assert "4 skipped: it needs what failed for test_some.py::test_of_it[0]\n" in said
    assert "1 skipped: there is no browser\n" in said
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_fixtures_that_fail_each_for_itself_are_all_told_of(pytester):
    result = run(pytester, BROKEN.replace('scope="session"', 'scope="function"'))
    result.assert_outcomes(errors=5, passed=1, skipped=1)


def test_nothing_is_said_where_nothing_is_skipped(pytester):
    result = run(pytester, "def test_it(): ...")
    result.stdout.no_fnmatch_line("*= skipped =*")
