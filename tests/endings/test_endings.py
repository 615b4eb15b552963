"""Commands that are ended soon do, and leave nobody: a few of `python -m tests.endings`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.endings.commands import COMMANDS, prepared
from tests.endings.trial import How, tried

_NAMED = {command.name: command for command in COMMANDS}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, private_home: Path) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch, prepared(tmp_path_factory.mktemp("e")) as found:
        patch.setenv("RAY_TMPDIR", str(private_home))
        yield found


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("build", "an error"),
        pytest.param("build on Ray", "by itself", marks=pytest.mark.ray),
        ("features", "SIGHUP"),
        ("demo", "Ctrl-C"),
        ("submit", "Ctrl-C"),
        ("submit", "SIGTERM"),
        ("submit", "SIGHUP"),
    ],
)
def test_a_command_leaves_nobody(name: str, how: How, folder: Path) -> None:
    outcome = tried(_NAMED[name], how, folder)
    assert outcome is not None
    expected = {"by itself": 0, "an error": 2}.get(how, 130)
    assert outcome.code == expected, outcome.text
    assert not outcome.left
    assert "Traceback" not in outcome.text
    if name == "submit":
        assert outcome.text.count("no longer following; the job goes on: ") == 1
