"""Circuits and visualizations of some units, made in this process."""

from __future__ import annotations

from typing import Any

from circuit_atlas.jobs.spec.build_spec import BuildSpec
from circuit_atlas.jobs.tasks.plan import Task, resolve
from circuit_atlas.jobs.tasks.worker import CircuitJob
from circuit_atlas.jobs.visualization.worker import VisualizationJob
from circuit_atlas.storage_schema.keys import UnitKey
from circuit_atlas.storage_schema.reader import Reader
from tests.jobs.builds import lay_out


def built(spec: BuildSpec, layer: str, units: tuple[int, ...]) -> Reader:
    lay_out(spec)
    model = spec.model.reference
    CircuitJob(resolve(spec).spec).open().run(
        Task(layer, tuple(UnitKey(model, layer, n) for n in units))
    )
    return Reader(spec.run.store)


def made(spec: BuildSpec, layer: str, *units: int) -> tuple[Any, ...]:
    keys = tuple(UnitKey(spec.model.reference, layer, unit) for unit in units)
    return VisualizationJob(resolve(spec).spec).open().run(Task(layer, keys))
