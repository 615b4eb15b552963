"""Work on feature visualizations, in tasks."""

from __future__ import annotations

import pytest

from circuit_atlas.jobs.tasks.plan import resolve
from circuit_atlas.jobs.visualization.plan import VisualizationWork, plan_visualizations
from circuit_atlas.storage_schema.errors import QueryError, SpecError
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.visualization_plan import VisualizationPlan
from tests.jobs.builds import lay_out


def test_tasks_say_whether_they_are_of_units_or_of_channels():
    plan = VisualizationPlan.of([("inner", "channel", n, ("positive",)) for n in range(5)])
    work = VisualizationWork(
        units=(("outer", (3, 7)),),
        nodes=(("inner", (0, 4)),),
        skipped=3,
        plan=plan,
        remarks=(),
    )
    assert work.channels == 5, "those that have theirs included"
    tasks = work.tasks("toy", workers=1)
    assert [(task.layer, task.of, [key.unit for key in task.units]) for task in tasks] == [
        ("outer", "unit", [3]),
        ("outer", "unit", [7]),
        ("inner", "channel", [0]),
        ("inner", "channel", [4]),
    ]


def test_an_atlas_without_its_units_and_criteria_it_lacks(odd):
    spec = odd()
    lay_out(spec)
    reader = Reader(spec.run.store)
    with pytest.raises(QueryError, match="no unit that the spec names has a circuit in"):
        plan_visualizations(resolve(spec), spec, reader)
    with pytest.raises(SpecError, match=r"features\.criterion: the atlas has no 'snip'"):
        plan_visualizations(resolve(spec), odd(criterion="snip"), reader)
    with pytest.raises(SpecError, match=r"features.fractions.*2.0 is outside \(0, 1\]"):
        odd(fractions=[2.0])
