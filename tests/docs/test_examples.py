"""What the pages show of Python runs, in the order in which it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from circuit_atlas.cluster.local_executor import LocalExecutor
from circuit_atlas.cluster.run import build
from circuit_atlas.jobs.spec.build_spec import BuildSpec

PAGES = Path(__file__).parents[2] / "docs" / "pages"


def _blocks(text: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Has two of the demo's units, on few and small images, under its name."""
    made: Path = tmp_path_factory.mktemp("examples")
    spec = BuildSpec.from_values(
        {
            "model": {"reference": "demo:squeezenet1_1"},
            "preprocessing": {"resize": [64, 64]},
            "images": {"source": "demo:photos", "held_out": "odd", "limit": 4},
            "layers": [{"name": "features.7.expand3x3", "units": [64, 80]}],
            "circuits": {"fractions": [1.0, 0.1], "top_images": 2},
            "run": {"store": str(made / "circuit-atlas-demo"), "self_check": False},
        }
    )
    assert build(spec, executor=LocalExecutor()).done == 2
    return made


def test_the_examples_of_an_atlas_run(folder, monkeypatch):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.switch_backend("agg")
    monkeypatch.chdir(folder)
    section = (PAGES / "python.md").read_text().partition("\n## An atlas\n")[2]
    blocks = _blocks(section.partition("\n## ")[0])
    assert len(blocks) > 8
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "python.md", "exec"), names)
    pyplot.close("all")
    written = {path.name for path in folder.iterdir()}
    assert {"unit64.html", "units.csv", "unit64.json", "unit64.png"} <= written
