"""A plan of many layers is told with its sums, and with what is left to another run."""

from __future__ import annotations

from circuit_atlas.jobs.tasks.estimate import Estimate, LayerEstimate
from circuit_atlas.service.commands.plan_report import plan_text


def estimate(layers: int, *, left: int = 0) -> Estimate:
    return Estimate(
        layers=tuple(
            LayerEstimate(
                layer=f"layer.{n}",
                explained="after relu",
                units=n * 100,
                kernels=10,
                tasks=n,
                size_bytes=2000,
                self_check=None,
            )
            for n in range(layers)
        ),
        left=left,
        images=20,
        left_out=2,
        passed_over={".tga": 1},
        size_bytes=2000 * layers,
        remarks=("the last",),
    )


def test_fifty_layers_have_a_line_each_and_one_of_sums() -> None:
    lines = plan_text(estimate(50, left=7000)).splitlines()
    assert [line.split()[0] for line in lines[:51]] == [
        "layer",
        *(f"layer.{n}" for n in range(50)),
    ]
    assert lines[51:] == [
        "122,500 units of 50 layers in 1,225 tasks",
        "7,000 more missing units are left",
        "20 images, 2 more cannot be read; 100 kB at most in all; passed over: 1 .tga",
        "note: the last",
    ]


def test_one_layer_needs_no_sums() -> None:
    assert len(plan_text(estimate(1)).splitlines()) == 4
