"""`python -m tests.zoo`: the engine on the networks that people use, held against an oracle.

Builds every network with random weights, downloads nothing, and takes about an hour on one core. It
goes on where it was stopped: what stands in `results.json` is not tried again.

Two packages are in no extra. facenet-pytorch asks for an old torch, and works with this one:
`pip install --no-deps facenet-pytorch`. torchxrayvision imports all that it asks for:
`pip install torchxrayvision`.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import click
import torch

from tests.zoo.networks import networks
from tests.zoo.page import page
from tests.zoo.trial import Trial, try_network

RESULTS = Path(__file__).parent / "results.json"
PAGE = Path(__file__).parents[2] / "docs" / "pages" / "networks.md"


def read_results(path: Path = RESULTS) -> dict[str, Trial]:
    """Reads what was found, by the network's key."""
    rows = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    trials = [Trial(**{**row, "layers": tuple(row["layers"])}) for row in rows]
    return {trial.key: trial for trial in trials}


def _write(found: dict[str, Trial]) -> None:
    ordered = [found[network.key] for network in networks() if network.key in found]
    lines = ",\n".join(json.dumps(trial.to_json()) for trial in ordered)
    RESULTS.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    PAGE.write_text(page(ordered), encoding="utf-8")


@click.command()
@click.argument("names", nargs=-1)
@click.option("--again", is_flag=True, help="Try networks that were tried before too.")
@click.option("--keep-going", is_flag=True, help="Go on after a network that raises a fault.")
def main(names: tuple[str, ...], again: bool, keep_going: bool) -> None:
    """Try the networks whose names contain one of NAMES, or all."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    found = read_results()
    for network in networks():
        wanted = not names or any(name in network.key for name in names)
        if not wanted or (network.key in found and not again):
            continue
        try:
            found[network.key] = try_network(network)
        except AssertionError as fault:
            click.echo(f"FAULT {fault}")
            if not keep_going:
                raise
            continue
        trial = found[network.key]
        click.echo(
            f"{trial.state:8} {trial.key:50} error {trial.error} self-check {trial.self_check} "
            f"{trial.seconds} s {trial.refused}"
        )
        _write(found)
    _write(found)


if __name__ == "__main__":
    main()
