"""The plan of feature visualizations: from a spec and what an atlas holds to ordered tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from circuit_atlas.jobs.spec.build_spec import BuildSpec
from circuit_atlas.jobs.spec.visualization import FeaturesSpec
from circuit_atlas.jobs.tasks.plan import Build, Task
from circuit_atlas.jobs.visualization.ascent import CHANNELS
from circuit_atlas.jobs.visualization.variants import (
    criterion_of,
    groups_of,
    nodes_of,
    variant_names,
)
from circuit_atlas.storage_schema.commit import Commit
from circuit_atlas.storage_schema.errors import QueryError, SpecError
from circuit_atlas.storage_schema.keys import UnitKey, Whose
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.visualization_plan import VisualizationPlan
from circuit_atlas.storage_schema.visualizations import variant_name

# Units have several visualizations each, channels a single small one.
_UNITS_PER_TASK = 4
_NODES_PER_TASK = 32
_TASKS_PER_WORKER = 4


@dataclass(frozen=True)
class VisualizationWork:
    """The work that feature visualizations still need.

    Attributes:
        units: for each layer, the units that lack visualizations.
        nodes: for each convolution, the channels that lack theirs.
        skipped: how many units and channels have all of theirs.
        plan: all visualizations that the spec asks for, those that are stored included.
        remarks: what to tell beforehand, a line each.
    """

    units: tuple[tuple[str, tuple[int, ...]], ...]
    nodes: tuple[tuple[str, tuple[int, ...]], ...]
    skipped: int
    plan: VisualizationPlan
    remarks: tuple[str, ...]

    @property
    def channels(self) -> int:
        """Channels that the spec asks visualizations of, stored or not."""
        return sum(len(part.numbers) for part in self.plan.visualizations if part.of == "channel")

    def tasks(self, model: str, *, workers: int) -> tuple[Task, ...]:
        """Puts the work into tasks for so many workers, units first: they take longest."""
        return (
            *_blocks(model, self.units, "unit", _UNITS_PER_TASK, workers),
            *_blocks(model, self.nodes, "channel", _NODES_PER_TASK, workers),
        )


def plan_visualizations(build: Build, spec: BuildSpec, reader: Reader) -> VisualizationWork:
    """Finds the units and channels of the spec that are stored and lack visualizations.

    Raises:
        SpecError: the atlas has no circuits of the spec's criterion or fractions, or its images are
            neither grey nor of three colours.
        QueryError: no unit of the spec is stored.
    """
    features = spec.features
    criterion_of(features, reader.header)
    if build.channels not in CHANNELS:
        raise SpecError(
            f"feature visualizations are images of {' or '.join(map(str, CHANNELS))} channels, and "
            f"this network takes {build.channels}: there are none for it"
        )
    units: list[tuple[str, tuple[int, ...]]] = []
    channels: dict[str, set[int]] = {}
    done: dict[str, set[int]] = {}
    names_of: list[tuple[str, Whose, int, tuple[str, ...]]] = []
    absent = skipped = 0
    for layer, numbers in build.plan.units:
        commits = reader.commits(layer) if layer in reader.layers() else {}
        live = [commits[n] for n in numbers if n in commits and commits[n].state == "done"]
        absent += sum(n not in commits for n in numbers)
        named = _unit_names(reader, live, features)
        names_of += [(layer, "unit", unit, names) for unit, names in named.items()]
        missing = _lacking(reader, layer, named)
        done.setdefault(layer, set()).update(named)
        skipped += len(live) - len(missing)
        if missing:
            units.append((layer, missing))
        if features.nodes:
            for name, nodes in nodes_of(reader, live, features).items():
                channels.setdefault(name, set()).update(nodes)
    if not any(done.values()):
        raise QueryError(
            f"no unit that the spec names has a circuit in {reader.objects.location}: run "
            "`circuit-atlas build` with the same spec first"
        )
    lacking_nodes = []
    for name, of_convolution in channels.items():
        only_nodes = sorted(of_convolution - done.get(name, set()))
        named = dict.fromkeys(only_nodes, (variant_name("positive"),))
        names_of += [(name, "channel", channel, names) for channel, names in named.items()]
        missing = _lacking(reader, name, named)
        skipped += len(named) - len(missing)
        if missing:
            lacking_nodes.append((name, missing))
    remarks = (f"{absent} units of the spec are not built yet: they get no visualizations",)
    return VisualizationWork(
        units=tuple(units),
        nodes=tuple(lacking_nodes),
        skipped=skipped,
        plan=VisualizationPlan.of(names_of),
        remarks=remarks if absent else (),
    )


def _unit_names(
    reader: Reader, commits: Sequence[Commit], features: FeaturesSpec
) -> dict[int, tuple[str, ...]]:
    """Names of the visualizations that each unit is to have."""
    return {
        commit.unit: variant_names(
            reader.header, features, groups=len(groups_of(reader, commit, features))
        )
        for commit in commits
    }


def _lacking(
    reader: Reader, layer: str, names_of: Mapping[int, tuple[str, ...]]
) -> tuple[int, ...]:
    """The units of a layer, or channels of a convolution, for which a name is not stored."""
    stored = reader.feature_variants(layer)
    return tuple(n for n, names in names_of.items() if set(names) - set(stored.get(n, ())))


def _blocks(
    model: str,
    numbers: Sequence[tuple[str, tuple[int, ...]]],
    of: Whose,
    most: int,
    workers: int,
) -> list[Task]:
    total = sum(len(of_layer) for _, of_layer in numbers)
    size = max(1, min(most, -(-total // (_TASKS_PER_WORKER * workers))))
    return [
        Task(layer, tuple(UnitKey(model, layer, n) for n in of_layer[start : start + size]), of)
        for layer, of_layer in numbers
        for start in range(0, len(of_layer), size)
    ]
