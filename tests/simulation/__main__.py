"""`python -m tests.simulation`: what the driver's own work takes in a run of 200,000 units.

A thousand workers that take no time are lost at one in a hundred an hour; planner, loop, writer and
reader are the real ones. Each line is measured in a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import click

from tests.service.stores import object_store
from tests.simulation import figures
from tests.simulation.large_build import Size
from tests.simulation.requests import requests

_LOOPS = (0.25, 0.5, 1.0)
_FEW = Size(64, per_layer=16, images=8)
FIGURES = {
    "build": figures.build,
    "resume": figures.resume,
    "plan": figures.planned,
    "whole": figures.whole,
}


@click.command()
@click.option("--units", default=200_000, show_default=True, help="How many.")
@click.option("--keep", type=click.Path(path_type=Path), help="Build here, and leave it.")
@click.option("--figure", help="Measure this alone in this process and print its JSON.")
@click.option("--log", type=click.Path(path_type=Path), help="Of the bucket's server.")
def main(units: int, keep: Path | None, figure: str | None, log: Path | None) -> None:
    """Simulate a run, and print its figures."""
    if figure is not None:
        click.echo(json.dumps(_figure(figure, units, store=keep, log=log)))
        return
    for share in _LOOPS:
        _tell(f"loop of {units * share:,.0f} units", _measure("loop", units=int(units * share)))
    with tempfile.TemporaryDirectory() as folder:
        store = keep or Path(folder) / "atlas"
        for name in FIGURES:
            _tell(name, _measure(name, units=units, store=store))
            if name == "build":
                _tell("status", _status(store))
        address = Path(folder) / "s3.log"
        with object_store(address) as environment:
            found = _measure("requests", units=_FEW.units, log=address, more=environment)
            _tell("requests to S3", found)


def _figure(name: str, units: int, *, store: Path | None, log: Path | None) -> Mapping[str, float]:
    if name == "loop":
        return figures.loop(Size(units, images=0))
    if log is not None:
        return requests("s3://bucket/atlas", log, _FEW)
    assert store is not None
    return FIGURES[name](store, Size(units))


def _measure(
    name: str,
    *,
    units: int,
    store: Path | None = None,
    log: Path | None = None,
    more: Mapping[str, str] | None = None,
) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.simulation", "--figure", name, "--units", str(units)]
    command += [] if store is None else ["--keep", str(store)]
    command += [] if log is None else ["--log", str(log)]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=True, env={**os.environ, **(more or {})}
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _status(store: Path) -> dict[str, float]:
    """`circuit-atlas status`, from its start to its end."""
    command = [sys.executable, "-m", "tests.simulation.status", str(store)]
    started_s = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return {"seconds": time.perf_counter() - started_s, **found}


def _tell(what: str, found: Mapping[str, float]) -> None:
    told = ", ".join(f"{name} {_text(name, value)}" for name, value in found.items())
    click.echo(f"{what}: {told}")


def _text(name: str, value: float) -> str:
    if name.endswith("bytes"):
        return f"{value / 2**20:,.0f} MiB"
    return f"{value:,.0f}" if value == int(value) else f"{value:,.2f}"


if __name__ == "__main__":
    main()
