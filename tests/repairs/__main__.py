"""`python -m tests.repairs`: atlases damaged at random, repaired, built on and compared.

Each trial damages one to three files of a copy of a small atlas, of whatever kind and in whatever
way; then `circuit-atlas repair` and a build have to give the masks and tables of the undisturbed
atlas. Prints the seed of each failure, and a table of what was damaged. With `--beside` one or two
repairs begin at random requests of a build of what is missing.
"""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
import time
import traceback
from pathlib import Path

import click

from tests.repairs.atlases import make, prepared
from tests.repairs.beside import Beside, trial_beside
from tests.repairs.trial import Outcome, content, table, trial


@click.command()
@click.option("--count", default=200, show_default=True, help="How many.")
@click.option("--seed", default=0, show_default=True, help="Of the first; each takes the next.")
@click.option("--kind", help="Of the files to damage, as the table names it; else any.")
@click.option("--beside", is_flag=True, help="Repair while a build runs, at any moment of it.")
def main(count: int, seed: int, kind: str | None, beside: bool) -> None:
    """Try so many damaged atlases, every other one with images of each unit's own."""
    outcomes: list[Outcome] = []
    besides: list[Beside] = []
    failed, started_s = 0, time.monotonic()
    with tempfile.TemporaryDirectory() as scratch, prepared(Path(scratch)):
        folder = Path(scratch)
        atlases = {sampled: folder / f"atlas-{sampled}" for sampled in (False, True)}
        for sampled, store in atlases.items():
            make(folder, store, sampled=sampled)
        expected = {sampled: content(store) for sampled, store in atlases.items()}
        for number in range(seed, seed + count):
            sampled = bool(number % 2)
            said = io.StringIO()
            try:
                with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                    given = (folder, atlases[sampled], expected[sampled])
                    scratch = folder / "damaged"
                    if beside:
                        besides.append(
                            trial_beside(*given, sampled=sampled, seed=number, scratch=scratch)
                        )
                    else:
                        outcomes.append(
                            trial(*given, sampled=sampled, seed=number, scratch=scratch, kind=kind)
                        )
            except Exception as error:
                failed += 1
                click.echo(f"seed {number} failed\n{said.getvalue()}")
                click.echo("".join(traceback.format_exception(error)))
    if beside:
        began = sum(one.repairs for one in besides)
        click.echo(
            f"{count} atlases damaged, {began} repairs as they were built on, {failed} not as they "
            f"were; {time.monotonic() - started_s:.0f} s"
        )
        sys.exit(1 if failed else 0)
    click.echo(table(outcomes))
    computed = sum(outcome.computed for outcome in outcomes)
    whole = sum(outcome.whole for outcome in outcomes)
    click.echo(
        f"{count} atlases damaged, {failed} not as they were; {computed} units computed again, "
        f"{whole} of them whole; {time.monotonic() - started_s:.0f} s"
    )
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
