"""The gallery's atlas: a few units of SqueezeNet 1.1, with learned circuits, on free pictures."""

from __future__ import annotations

from pathlib import Path

from pictures import make

from circuit_atlas.cluster.local_executor import LocalExecutor
from circuit_atlas.cluster.visualizations import build_visualizations
from circuit_atlas.jobs.spec.build_spec import BuildSpec
from circuit_atlas.service import Atlas, build

LAYER = "features.6.expand3x3"
UNITS = [0, 16, 32, 48]  # none chosen for what it is
KEEP = 0.05
"""The fraction of the kernels that the stories' circuits keep."""


def built(folder: Path) -> Atlas:
    """Builds what is missing of the atlas in `folder`, its pictures and visualizations included."""
    spec = _spec(folder / "pictures", folder / "atlas")
    atlas = build(spec, executor="local", on_event=_tell)
    build_visualizations(spec, executor=LocalExecutor(), on_event=_tell)
    return atlas


def _spec(pictures: Path, store: Path) -> BuildSpec:
    held_out = make(pictures)
    return BuildSpec.from_values(
        {
            "model": {"reference": "demo:squeezenet1_1"},
            "preprocessing": {"resize": [224, 224]},
            "images": {"source": str(pictures), "held_out": held_out},
            "layers": [{"name": LAYER, "units": UNITS, "activation": "post"}],
            "circuits": {
                "criteria": ["learned", "actgrad"],
                "fractions": [1, 0.3, 0.1, KEEP],
                "top_images": 24,
            },
            # As in the demo, fewer steps than by default: the whole takes minutes.
            "learned": {"steps": 50, "groups": True},
            # One of each unit and of each channel in the stories' circuits, as drawings show them.
            "features": {"fractions": [], "negative": False, "node_fraction": KEEP},
            "run": {"store": str(store), "units_per_task": 2},
        }
    )


def _tell(event: object) -> None:
    """Prints what a build is at, a line for each thing that is done."""
    name = type(event).__name__
    if name != "TaskProgress":
        print(name, str(event)[:160], flush=True)  # noqa: T201
