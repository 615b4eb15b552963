"""How far visualizations are: of each unit or channel which were asked for, are made, or failed."""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import Literal

from circuit_atlas.storage_schema import layout, segments, visualization_paths
from circuit_atlas.storage_schema.commit import Failure
from circuit_atlas.storage_schema.keys import Whose
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.records import FailureRecord
from circuit_atlas.storage_schema.visualization_plan import VisualizationPlan

Bearer = tuple[str, int]
"""A layer and its unit, or a convolution and its output channel."""


@dataclass(frozen=True)
class Listing:
    """Holds what is stored of feature visualizations, by one listing and without a look inside.

    Attributes:
        variants: of each unit or channel, the names of the visualizations that it has.
        failures: of each, the paths of the records of failed attempts.
        plans: paths of the plans.
    """

    variants: dict[Bearer, tuple[str, ...]]
    failures: dict[Bearer, tuple[str, ...]]
    plans: tuple[str, ...]


@dataclass(frozen=True)
class VisualizationState:
    """Says how far the visualizations of one unit or channel are.

    Attributes:
        layer: its layer, or the convolution.
        of: whether it is a unit of the layer or a channel of the convolution.
        number: its number.
        planned: names of the visualizations that some run asked for, and of those that are there.
        made: those of them that are there.
        failure: why the latest attempt at the others failed; None where none did, or where all
            are there by now.
    """

    layer: str
    of: Whose
    number: int
    planned: tuple[str, ...]
    made: tuple[str, ...]
    failure: FailureRecord | None

    @property
    def state(self) -> Literal["done", "failed", "missing"]:
        """Tell how far it is: `done`, all are there; `failed`, an attempt at the others failed;
        `missing`, some have not been tried yet."""
        if self.failure is not None:
            return "failed"
        return "done" if self.made == self.planned else "missing"


def listed(objects: Objects) -> Listing:
    """Tell what is stored of feature visualizations."""
    variants: dict[Bearer, list[str]] = {}
    failures: dict[Bearer, list[str]] = {}
    plans = []
    for entry in objects.list(layout.VISUALIZATIONS):
        path = entry.path
        if visualization_paths.is_visualization_plan(path):
            plans.append(path)
        elif (named := visualization_paths.visualized(path)) is not None:
            variants.setdefault(named[:2], []).append(named[2])
        elif (failed := visualization_paths.failed_visualization(path)) is not None:
            failures.setdefault((_layer(path), failed), []).append(path)
    return Listing(
        {bearer: tuple(sorted(names)) for bearer, names in sorted(variants.items())},
        {bearer: tuple(paths) for bearer, paths in sorted(failures.items())},
        tuple(plans),
    )


def states(
    objects: Objects, found: Listing, *, stored: Callable[[str], Container[int]]
) -> tuple[VisualizationState, ...]:
    """Tell how far all of them are: units before channels, by layer and number.

    Args:
        objects: the store.
        found: what it has.
        stored: the units that a layer has circuits of. Those of an older circuit-atlas are in no
            plan: those of such units are taken for theirs, the others for those of channels.
    """
    asked: dict[Bearer, set[str]] = {}
    of: dict[Bearer, Whose] = {}
    for path, text in zip(found.plans, objects.get_listed(found.plans), strict=True):
        for some in VisualizationPlan.stored_at(objects, path, text).visualizations:
            for number in some.numbers:
                bearer = some.layer, number
                asked.setdefault(bearer, set()).update(some.variants)
                # Asked for as a channel once, and as a unit when its layer was in the spec too.
                if of.get(bearer) != "unit":
                    of[bearer] = some.of
    unasked = (found.variants.keys() | found.failures.keys()) - of.keys()
    units = {layer: stored(layer) for layer in sorted({layer for layer, _ in unasked})}
    for layer, number in unasked:
        of[layer, number] = "unit" if number in units[layer] else "channel"
    planned = {b: tuple(sorted(asked.get(b, set()) | {*found.variants.get(b, ())})) for b in of}
    failures = _latest(
        objects,
        [
            path
            for bearer, paths in found.failures.items()
            # Of what is in no plan nobody knows whether all is there.
            if bearer in unasked or planned[bearer] != found.variants.get(bearer, ())
            for path in paths
        ],
    )
    all_states = (
        VisualizationState(
            layer=layer,
            of=of[layer, number],
            number=number,
            planned=planned[layer, number],
            made=found.variants.get((layer, number), ()),
            failure=failures.get((layer, number)),
        )
        for layer, number in of
    )
    return tuple(sorted(all_states, key=lambda one: (one.of != "unit", one.layer, one.number)))


def _latest(objects: Objects, paths: list[str]) -> dict[Bearer, FailureRecord]:
    """The latest failure of each unit or channel."""
    found = [
        Failure.stored_at(objects, path, data)
        for path, data in zip(paths, objects.get_listed(paths), strict=True)
    ]
    records = [one.record for one in sorted(found, key=lambda failure: failure.time_s)]
    return {(record.key.layer, record.key.unit): record for record in records}


def _layer(path: str) -> str:
    """The layer, or convolution, that a path below `features` is of."""
    return segments.unescape(path.split("/")[1])
