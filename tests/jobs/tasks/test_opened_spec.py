"""Weights that do not fit in all: told where no layer needs the rest, refused where one does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models import squeezenet1_1

from circuit_atlas.jobs.spec.build_spec import BuildSpec
from circuit_atlas.jobs.tasks import opened_spec
from circuit_atlas.jobs.tasks.opened_spec import OpenedSpec
from circuit_atlas.jobs.tasks.plan import resolve
from circuit_atlas.storage_schema.errors import ModelError
from tests.jobs.builds import write_noise


def spec(folder: Path, layer: str, **model: Any) -> BuildSpec:
    return BuildSpec.from_values(
        {
            "model": {"reference": "torchvision:squeezenet1_1", "weights": "w.pt", **model},
            "preprocessing": {"resize": [32, 32]},
            "images": {"source": "images"},
            "layers": [{"name": layer, "units": [0]}],
        },
        folder=folder,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images, and the weights of a network for eight classes."""
    write_noise(tmp_path / "images", count=4, side=32)
    module = nn.DataParallel(squeezenet1_1(num_classes=8))
    torch.save({"net": module.state_dict(), "epoch": 3}, tmp_path / "w.pt")
    return tmp_path


def test_what_no_layer_needs_may_not_fit(folder: Path) -> None:
    found = resolve(spec(folder, "features.3.squeeze")).remarks
    assert found[0] == (
        "of the weights 'w.pt' are taken those under 'net', without 'module.' before their names"
    )
    assert "'classifier.1.weight' is [8, 512, 1, 1] and should be [1000, 512, 1, 1]" in found[1]
    with pytest.raises(ModelError, match=r"in what layer 'classifier.1' is computed from: other"):
        resolve(spec(folder, "classifier.1"))


def test_the_arguments_make_it_fit(folder: Path) -> None:
    build = resolve(spec(folder, "classifier.1", arguments={"num_classes": 8}))
    assert len(build.remarks) == 1
    assert build.layers[0].channels == 8


def test_whatever_an_operation_runs_into_is_told_of_the_layer(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise IndexError("tuple index\nout of range")

    monkeypatch.setattr("circuit_atlas.jobs.tasks.opened_spec.open_layer", fail)
    with pytest.raises(ModelError, match=r"layer 'features.3' .*: IndexError: tuple index out of"):
        resolve(spec(folder, "features.3"))


def test_a_worker_takes_the_planners_trace(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = spec(folder, "features.3.squeeze")
    build = resolve(asked)
    assert build.trace is not None

    def fail(*_: object) -> None:
        raise AssertionError("traced again")

    monkeypatch.setattr(opened_spec, "trace", fail)
    opened = OpenedSpec(asked, trace=build.trace)
    assert opened.layer("features.3.squeeze").index == build.layers[0]
