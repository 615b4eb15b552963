"""`python -m tests.damage`: damages every kind of file of a tiny atlas, and writes the page."""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import click

from tests.damage.everything import build
from tests.damage.page import page
from tests.damage.part import tried
from tests.damage.trials import Damaged

_PAGE = Path("docs/pages/damages.md")


@click.command()
@click.option("--seed", default=0, show_default=True, help="Of the damages.")
@click.option("--kind", "chosen", help="Of files whose kind contains this alone; writes no page.")
@click.option("--processes", default=2, show_default=True, help="Each damages an atlas of its own.")
def main(seed: int, chosen: str | None, processes: int) -> None:
    """Damage an atlas, and tell what is not found and what is answered wrong."""
    with tempfile.TemporaryDirectory() as folder:
        damaged = Damaged(build(Path(folder) / "atlas"))
    kinds = [kind for kind in damaged.kinds() if chosen is None or chosen in kind]
    parts = [kinds[start::processes] for start in range(processes)]
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=spawn) as pool:
        found = {
            kind: some for part in pool.map(partial(tried, seed), parts) for kind, some in part
        }
    trials = [trial for kind in kinds for trial in found[kind]]
    if chosen is None:
        _PAGE.write_text(page(trials, questions=len(damaged.answers)))
    if any(trial.wrong for trial in trials):
        sys.exit(1)


if __name__ == "__main__":
    main()
