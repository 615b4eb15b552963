"""Work on feature visualizations, in tasks."""

from __future__ import annotations

from circuit_atlas.jobs.visualization.plan import VisualizationWork
from circuit_atlas.storage_schema.visualization_plan import VisualizationPlan


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
