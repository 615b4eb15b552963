"""The self-check of a build: before any work, on the build's own image, and kept in the atlas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from circuit_atlas.jobs.engine import gradient_rules
from circuit_atlas.jobs.spec.build_spec import BuildSpec
from circuit_atlas.jobs.tasks.estimate import estimate
from circuit_atlas.jobs.tasks.plan import resolve
from circuit_atlas.service import Atlas, build
from circuit_atlas.service.commands.cli import cli
from circuit_atlas.storage_schema.errors import ModelError
from circuit_atlas.storage_schema.opening import open_store
from circuit_atlas.storage_schema.template import create
from tests.jobs.builds import write_noise

MODEL = """
import torch
from torch import nn

def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.SiLU(), nn.Conv2d(4, 3, 3))
"""


@pytest.fixture
def values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    (tmp_path / "self_check_models.py").write_text(MODEL)
    monkeypatch.syspath_prepend(tmp_path)
    write_noise(tmp_path / "pictures", count=4, side=9)
    return {
        "model": {"reference": "self_check_models:network"},
        "preprocessing": {"resize": [9, 9]},
        "images": {"source": str(tmp_path / "pictures")},
        "layers": [{"name": "2", "units": [0]}],
        "circuits": {"fractions": [0.5]},
        "run": {"store": str(tmp_path / "atlas")},
    }


def halved_silu(monkeypatch: pytest.MonkeyPatch) -> None:
    right = gradient_rules.RULES["silu"]

    def half(walk, step, gradient):
        for each in right(walk, step, gradient):
            yield each._replace(gradient=each.gradient * 0.5)

    monkeypatch.setitem(gradient_rules.RULES, "silu", half)


def test_the_difference_is_kept_and_shown(values):
    spec = BuildSpec.from_values(values)
    build(spec, executor="local")
    index = Atlas.open(spec.run.store).layer("2").index
    assert index.self_check is not None
    assert 0 <= index.self_check < 1e-4
    shown = CliRunner().invoke(cli, ["show", spec.run.store])
    assert f"differs by {index.self_check:.1g}" in shown.output
    layer = CliRunner().invoke(cli, ["show", spec.run.store, "2"])
    assert f"self-check: differs by {index.self_check:.1g}" in layer.output


def test_a_layer_that_differs_is_refused_before_anything_is_written(values, monkeypatch):
    halved_silu(monkeypatch)
    spec = BuildSpec.from_values(values)
    with pytest.raises(ModelError, match="they part at 'silu'"):
        build(spec, executor="local")
    assert not Path(spec.run.store, "atlas.json").exists()
    values["run"]["self_check"] = False
    atlas = build(BuildSpec.from_values(values), executor="local")
    assert atlas.layer("2").index.self_check is None
    shown = CliRunner().invoke(cli, ["show", spec.run.store])
    assert "not done" in shown.output


def test_workers_do_not_repeat_it(values, monkeypatch):
    halved_silu(monkeypatch)
    resolve(BuildSpec.from_values(values))


def test_another_difference_is_no_other_layer(values):
    """Rounding differs from machine to machine; a build goes on all the same."""
    spec = BuildSpec.from_values(values)
    found = resolve(spec, self_check=True)
    objects = open_store(spec.run.store, create=True)
    pixels = found.store_pixels(objects)
    create(objects, found.header, found.layers, found.images, found.plan, pixels=pixels)
    unchecked = resolve(spec)
    create(
        objects,
        unchecked.header,
        unchecked.layers,
        unchecked.images,
        unchecked.plan,
        pixels=pixels,
    )
    assert estimate(found, (), images=1).layers[0].self_check == found.layers[0].self_check
