"""`python -m tests.endings`: each command that takes its time, ended in each way.

Prints how soon each ended, and who was left two seconds later.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import get_args

import click
import pytest

from tests.endings.commands import COMMANDS, prepared
from tests.endings.trial import How, tried


@click.command()
@click.argument("names", nargs=-1)
def main(names: tuple[str, ...]) -> None:
    """End all commands, or those whose names begin with one of NAMES."""
    bad = 0
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="ca") as home:
        patch.setenv("HOME", home)
        patch.setenv("RAY_TMPDIR", home)
        with prepared(Path(home)) as folder:
            for command in COMMANDS:
                if names and not command.name.startswith(names):
                    continue
                for how in get_args(How):
                    outcome = tried(command, how, folder)
                    if outcome is None:
                        continue
                    took = "" if outcome.ended_s is None else f"{outcome.ended_s:.1f} s"
                    left = "; ".join(outcome.left) or "nobody"
                    bad += bool(outcome.left)
                    code = outcome.code
                    click.echo(f"{command.name:13} {how:10} code {code:4} {took:>7}  left: {left}")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
