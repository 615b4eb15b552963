"""What feature visualizations are to be made: a spec and what an atlas holds -> ordered tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from circuit_atlas.jobs.spec.build_spec import BuildSpec
from circuit_atlas.jobs.tasks.plan import Build, Task
from circuit_atlas.jobs.visualization.variants import (
    criterion_of,
    groups_of,
    nodes_of,
    variants_of_unit,
)
from circuit_atlas.storage_schema.errors import QueryError
from circuit_atlas.storage_schema.keys import UnitKey, Whose
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.visualization_plan import VisualizationPlan
from circuit_atlas.storage_schema.visualizations import variant_name

# Units have several pictures each, channels a single small one.
_UNITS_PER_TASK = 4
_NODES_PER_TASK = 32
_TASKS_PER_WORKER = 4


@dataclass(frozen=True)
class FeaturePlan:
    """Work on feature visualizations.

    Attributes:
        units: for each layer, units that lack pictures.
        nodes: for each convolution, channels that lack theirs.
        skipped: units and channels that have all of theirs.
        wanted: all pictures that are asked for, those that are there included.
        remarks: what a person should know beforehand.
    """

    units: tuple[tuple[str, tuple[int, ...]], ...]
    nodes: tuple[tuple[str, tuple[int, ...]], ...]
    skipped: int
    wanted: VisualizationPlan
    remarks: tuple[str, ...]

    @property
    def channels(self) -> int:
        """Channels that the spec asks pictures of, or has."""
        return sum(len(some.numbers) for some in self.wanted.pictures if some.of == "channel")

    @property
    def missing(self) -> int:
        """Units and channels that lack pictures."""
        return sum(len(numbers) for _, numbers in (*self.units, *self.nodes))

    def tasks(self, model: str, *, workers: int) -> tuple[Task, ...]:
        """The work in blocks that so many workers share, units first: they take longest."""
        return (
            *_blocks(model, self.units, "unit", _UNITS_PER_TASK, workers),
            *_blocks(model, self.nodes, "channel", _NODES_PER_TASK, workers),
        )


def plan_features(build: Build, spec: BuildSpec, reader: Reader) -> FeaturePlan:
    """The units and channels of the spec that are stored and lack pictures.

    Raises:
        SpecError: the atlas has no circuits of the spec's criterion or fractions.
        QueryError: no unit of the spec is stored.
    """
    wanted = spec.features
    criterion_of(wanted, reader.header)
    units: list[tuple[str, tuple[int, ...]]] = []
    channels: dict[str, set[int]] = {}
    stored: dict[str, set[int]] = {}
    asked: list[tuple[str, Whose, int, tuple[str, ...]]] = []
    absent = skipped = 0
    for layer, numbers in build.plan.units:
        commits = reader.commits(layer) if layer in reader.layers() else {}
        live = [commits[n] for n in numbers if n in commits and commits[n].state == "done"]
        absent += sum(n not in commits for n in numbers)
        has = reader.feature_variants(layer)
        missing = []
        for commit in live:
            groups = len(groups_of(reader, commit, wanted))
            names = variants_of_unit(reader.header, wanted, groups=groups)
            asked.append((layer, "unit", commit.unit, names))
            if set(names) - set(has.get(commit.unit, ())):
                missing.append(commit.unit)
        stored.setdefault(layer, set()).update(commit.unit for commit in live)
        skipped += len(live) - len(missing)
        if missing:
            units.append((layer, tuple(missing)))
        if wanted.nodes:
            for name, numbers in nodes_of(reader, live, wanted).items():
                channels.setdefault(name, set()).update(numbers)
    if not any(stored.values()):
        raise QueryError(
            f"no unit that the spec names has a circuit in {reader.objects.place}: run "
            "`circuit-atlas build` with the same spec first"
        )
    nodes = []
    for name, found in channels.items():
        has = reader.feature_variants(name)
        own = sorted(found - stored.get(name, set()))
        asked += [(name, "channel", n, (variant_name("positive"),)) for n in own]
        lacking = tuple(n for n in own if variant_name("positive") not in has.get(n, ()))
        skipped += len(own) - len(lacking)
        if lacking:
            nodes.append((name, lacking))
    remarks = (f"{absent} units of the spec are not built yet: they get no pictures",)
    return FeaturePlan(
        units=tuple(units),
        nodes=tuple(nodes),
        skipped=skipped,
        wanted=VisualizationPlan.of(asked),
        remarks=remarks if absent else (),
    )


def _blocks(
    model: str,
    numbers: Sequence[tuple[str, tuple[int, ...]]],
    of: Whose,
    most: int,
    workers: int,
) -> list[Task]:
    total = sum(len(some) for _, some in numbers)
    size = max(1, min(most, -(-total // (_TASKS_PER_WORKER * workers))))
    return [
        Task(layer, tuple(UnitKey(model, layer, n) for n in some[start : start + size]), of)
        for layer, some in numbers
        for start in range(0, len(some), size)
    ]
