"""`python -m tests.gpu`: every test that needs a GPU, and how much faster one is than a processor.

For whoever has one: it takes under 8 minutes, and says on which GPU it ran.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import torch
from torch import Tensor

from circuit_atlas.jobs.circuits.circuit_runs import CircuitRun, run_circuits
from circuit_atlas.jobs.circuits.masks import nested_masks
from circuit_atlas.jobs.engine.traced_layer import TracedLayer, open_layer
from circuit_atlas.jobs.network.model_graph import ModelGraph
from circuit_atlas.jobs.scores.learned import Training, learned_scores
from circuit_atlas.jobs.scores.over_images import random_scores
from circuit_atlas.jobs.spec.circuits import FRACTIONS
from tests.benchmarks.engine import scored
from tests.benchmarks.measured import once_s, spend
from tests.benchmarks.subjects import ALEXNET, DEMO, RESNET, BenchmarkSubject

_TESTS_S = 300
Work = Callable[[TracedLayer, Tensor, int], object]


@click.command()
@click.option("--device", default="cuda", help="Another device, to try the command itself.")
@click.option("--small", is_flag=True, help="Little work: whether all runs, not how fast.")
def main(device: str, small: bool) -> None:
    """Run the tests that need a GPU, and measure work on it against one thread of the processor."""
    if device == "cuda":
        if not torch.cuda.is_available():
            raise click.ClickException("torch finds no CUDA GPU here")
        click.echo(torch.cuda.get_device_name())
        tests = [sys.executable, "-m", "pytest", "-q", "--numprocesses=0", "-m", "gpu", "tests"]
        root = Path(__file__).parents[1]
        if subprocess.run(tests, cwd=root, timeout=_TESTS_S).returncode:
            raise click.ClickException("the tests failed")
    for line in measured(device, small=small):
        click.echo(line)


def measured(device: str, *, small: bool) -> Iterator[str]:
    """Measure each work on a device with many units, and on the processor with few: a line each,
    with seconds a unit."""
    few = 1 if small else 4
    works: tuple[tuple[str, BenchmarkSubject, Work, int, int], ...] = (
        ("actgrad", DEMO, _actgrad, 128, 20),
        ("actgrad", ALEXNET, _actgrad, 256, 16),
        ("actgrad", RESNET, _actgrad, 64, 4),
        ("circuits", DEMO, _circuits, 16, 20),
        ("learned", DEMO, _learned, 8, 20),
    )
    for name, subject, work, units, images in works[: 1 if small else None]:
        count = 2 if small else units
        there = _seconds(subject, work, device, count, 2 if small else images) / count
        here = _seconds(subject, work, "cpu", few, 2 if small else images) / few
        yield (
            f"{name}, {subject.name}: {there:.4f} s a unit on {device} ({count} units), "
            f"{here:.4f} on one thread of the processor, {here / there:.1f} times as fast"
        )


def _seconds(subject: BenchmarkSubject, work: Work, device: str, units: int, images: int) -> float:
    """The second run's: the first one makes and chooses what later ones use again."""
    torch.set_num_threads(1)
    graph = ModelGraph(subject.make().eval().requires_grad_(False).to(device), (3, 224, 224))
    layer = open_layer(graph, subject.layer_name)
    pictures = subject.pictures(images).to(device)

    def whole() -> None:
        work(layer, pictures, units)
        if device == "cuda":
            torch.cuda.synchronize()

    whole()
    return once_s(whole)


def _actgrad(layer: TracedLayer, pictures: Tensor, units: int) -> None:
    together = units if pictures.is_cuda else 16
    spend(scored(layer, units, pictures, "actgrad", together=together))


def _circuits(layer: TracedLayer, pictures: Tensor, units: int) -> None:
    with torch.no_grad():
        full = layer.network.output(pictures).transpose(0, 1).cpu().numpy()
    runs = []
    for unit in range(units):
        masks = nested_masks(random_scores(layer, unit, seed=0), FRACTIONS)
        runs.append(CircuitRun(unit, "zero", masks, full[unit], range(len(pictures))))
    run_circuits(layer, runs, lambda _: pictures.split(16), means=None)


def _learned(layer: TracedLayer, pictures: Tensor, units: int) -> None:
    learned_scores(
        layer,
        {unit: random_scores(layer, unit, seed=0) for unit in range(units)},
        lambda indices: pictures[list(indices)],
        len(pictures),
        fractions=(0.5, 0.1),
        training=Training(steps=20, crop=None, batch=8, rate=0.0015, seed=0),
        response="sum_abs",
    )


if __name__ == "__main__":
    main()
