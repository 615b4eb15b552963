"""`python -m tests.chaos`: builds broken on purpose, and what came of each.

All faults take hours of one core with `--times 30`; names choose some, by their start.
"""

from __future__ import annotations

import contextlib
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from tests.chaos.faults import NAMES, OF_DISKS, Trials
from tests.chaos.faults_store import can_mount
from tests.chaos.table import table
from tests.chaos.trial import Outcome


@click.command()
@click.argument("names", nargs=-1)
@click.option("--seed", type=int, help="Of the first trial. Default: drawn, and printed.")
@click.option("--times", default=1, show_default=True, help="Trials of each fault.")
def main(names: tuple[str, ...], seed: int | None, times: int) -> None:
    """Break builds on purpose, by the faults whose names begin so, or by all."""
    chosen = [name for name in NAMES if not names or name.startswith(names)]
    if not can_mount():
        chosen = [name for name in chosen if name not in OF_DISKS]
    first = random.randrange(10**6) if seed is None else seed
    outcomes: list[Outcome] = []
    with _private_home() as folder, Trials(folder) as trials:
        for name in chosen:
            for n in range(times):
                outcome = trials.run(name, first + n)
                outcomes.append(outcome)
                _tell(outcome)
    click.echo(table(outcomes))
    if not all(outcome.well for outcome in outcomes):
        raise SystemExit(1)


def _tell(outcome: Outcome) -> None:
    click.echo(
        f"{time.strftime('%H:%M:%S')} {outcome.fault} --seed {outcome.seed}: "
        f"{'well' if outcome.well else 'NOT WELL'}, met {outcome.faults}, lost {outcome.lost}, "
        f"wrong {outcome.wrong}, computed again {outcome.again}, {outcome.seconds:.1f} s"
    )
    for complaint in outcome.complaints:
        click.echo(f"    {complaint}")


@contextlib.contextmanager
def _private_home() -> Iterator[Path]:
    """A short folder that is also HOME, where Ray keeps a token, and where it keeps its logs."""
    # What was killed may have written to it until now.
    temporary = tempfile.TemporaryDirectory(prefix="ca", ignore_cleanup_errors=True)
    with pytest.MonkeyPatch.context() as patch, temporary as folder:
        patch.setenv("HOME", folder)
        patch.setenv("RAY_TMPDIR", folder)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.delenv("RAY_ADDRESS", raising=False)
        yield Path(folder)


if __name__ == "__main__":
    main()
