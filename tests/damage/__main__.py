"""`python -m tests.damage`: damages every kind of file of a tiny atlas, and writes the page."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import click

from tests.damage.everything import build
from tests.damage.page import page
from tests.damage.trials import Damaged, Trial

_PAGE = Path("docs/pages/damages.md")


@click.command()
@click.option("--seed", default=0, show_default=True, help="Of the damages.")
@click.option("--kind", "chosen", help="Of files whose kind contains this alone; writes no page.")
def main(seed: int, chosen: str | None) -> None:
    """Damage an atlas, and tell what is not found and what is answered wrong."""
    trials: list[Trial] = []
    with tempfile.TemporaryDirectory() as folder:
        damaged = Damaged(build(Path(folder) / "atlas"))
        for kind in damaged.kinds():
            if chosen is None or chosen in kind:
                trials += damaged.trials(kind, seed=seed)
                _tell([trial for trial in trials if trial.kind == kind])
    if chosen is None:
        _PAGE.write_text(page(trials, questions=len(damaged.answers)))
    if any(trial.wrong for trial in trials):
        sys.exit(1)


def _tell(trials: list[Trial]) -> None:
    lost = [trial for trial in trials if not trial.found]
    click.echo(f"{trials[0].kind}: {len(trials) - len(lost)} of {len(trials)} found")
    for trial in trials:
        if trial.wrong or not trial.found:
            what = f"wrong: {', '.join(trial.wrong[:4])}" if trial.wrong else "not found"
            click.echo(f"    {trial.damage} of {trial.path}: {what}")


if __name__ == "__main__":
    main()
