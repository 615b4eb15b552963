"""`python -m tests.benchmarks`: how long the work takes, against the slow way and the limit.

Each line is measured in a process of its own with one thread, as a worker is by default.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click
import torch

from circuit_atlas.jobs.network.allocator import keep_freed_memory
from tests.benchmarks.measured import machine
from tests.benchmarks.report import chart, table, to_json
from tests.benchmarks.works import WORKS


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(WORKS)))
@click.option("--small", is_flag=True, help="Little work: whether all runs, not how fast.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write it all here.")
@click.option("--chart", "chart_path", type=click.Path(path_type=Path), help="Draw it here.")
@click.option("--line", is_flag=True, help="Measure one work in this process and print its JSON.")
def main(
    names: tuple[str, ...],
    small: bool,
    json_path: Path | None,
    chart_path: Path | None,
    line: bool,
) -> None:
    """Measure NAMES, or everything."""
    if line:
        torch.set_num_threads(1)
        keep_freed_memory()
        click.echo(json.dumps({**WORKS[names[0]][small]().to_json(), "machine": machine()}))
        return
    rows = []
    for name in names or WORKS:
        click.echo(f"measuring {name}", err=True)
        command = [sys.executable, "-m", "tests.benchmarks", name, "--line"]
        done = subprocess.run([*command, *["--small"] * small], stdout=subprocess.PIPE, text=True)
        if done.returncode:
            raise click.ClickException(f"{name} ended with {done.returncode}")
        rows.append(json.loads(done.stdout.splitlines()[-1]))
    found = rows[0]["machine"]
    click.echo(table(rows, found))
    if json_path is not None:
        json_path.write_text(to_json(rows, found), encoding="utf-8")
    if chart_path is not None:
        chart(rows, chart_path)


if __name__ == "__main__":
    main()
