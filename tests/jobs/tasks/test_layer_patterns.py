"""Patterns of layers become the layers that they stand for, in order, and say what is left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from circuit_atlas.jobs.spec.build_spec import BuildSpec
from circuit_atlas.jobs.tasks import opened_spec
from circuit_atlas.jobs.tasks.plan import Build, make_tasks, missing_units, resolve
from circuit_atlas.jobs.tasks.worker import CircuitJob
from circuit_atlas.storage_schema.errors import ModelError
from tests.jobs.builds import lay_out, write_noise

# `stem` and `whole` hold others and give what the last of them gives; `relu` runs twice; the
# pooled map of `pool` has no convolution before it, and `norm` makes no map of the image.
MODEL = """
import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, channels, out):
        super().__init__()
        self.squeeze = nn.Conv2d(channels, out, 1)
        self.expand = nn.Conv2d(out, out, 3, padding=1)
        self.relu = nn.ReLU()

    def forward(self, maps):
        maps = self.relu(self.squeeze(maps))
        return self.relu(self.expand(maps) + maps)


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 3)
        self.pool = nn.AvgPool2d(1)
        self.blocks = nn.Sequential(Block(3, 4), *(Block(4, 4) for _ in range(2)))

    def forward(self, images):
        maps = self.blocks(self.pool(images))
        return self.head(maps.mean((2, 3)))


def network():
    torch.manual_seed(0)
    return Network()
"""
BLOCKS = [f"blocks.{n}" for n in range(3)]
ALL = [f"{block}{part}" for block in BLOCKS for part in (".squeeze", ".expand", "")] + ["head"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "patterned_network.py").write_text(MODEL)
    monkeypatch.syspath_prepend(tmp_path)
    write_noise(tmp_path / "pictures", count=4, side=8)
    return tmp_path


def spec(folder: Path, layers: object, **circuits: Any) -> BuildSpec:
    return BuildSpec.from_values(
        {
            "model": {"reference": "patterned_network:network"},
            "preprocessing": {"resize": [8, 8]},
            "images": {"source": str(folder / "pictures")},
            "layers": layers,
            "circuits": circuits,
            "run": {"store": str(folder / "atlas")},
        }
    )


def tables(*layers: str | dict[str, object]) -> list[dict[str, object]]:
    return [{"name": each} if isinstance(each, str) else each for each in layers]


def names(build: Build) -> list[str]:
    return [layer.layer for layer in build.layers]


def test_all_is_every_response_once_in_the_order_of_the_forward_pass(folder: Path) -> None:
    build = resolve(spec(folder, "all"))
    assert names(build) == ALL
    assert [name for name, _ in build.plan.units] == ALL
    refused, same = (remark for remark in build.remarks if "left out" in remark)
    assert refused == (
        "left out of the layers that patterns match: 1 that cannot be explained, 'pool'; of "
        "'pool': layer 'pool': no convolution with weights of its own computes it, so it has no "
        "circuit; choose a later layer"
    )
    assert same == (
        "left out of the layers that patterns match: 4 with the response of another layer, "
        "'blocks.0.relu', 'blocks.1.relu', 'blocks' and 1 more; that of 'blocks.0.relu' is that of "
        "'blocks.0'"
    )


def test_an_atlas_of_a_pattern_is_that_of_the_names(folder: Path) -> None:
    pattern = spec(folder, tables({"name": "blocks.2.*[sd]*", "units": "0:3"}))
    found = resolve(pattern)
    named = spec(
        folder,
        tables(
            *({"name": f"blocks.2.{part}", "units": [0, 1, 2]} for part in ("squeeze", "expand"))
        ),
    )
    assert names(found) == names(resolve(named))
    lay_out(pattern)
    assert found.plan == resolve(named).plan
    assert found.header == resolve(named).header
    assert found.spec.layers[0].units == "0:3"
    assert BuildSpec.from_toml(pattern.to_toml()) == pattern


def test_a_name_goes_before_patterns_and_the_last_pattern_before_the_others(folder: Path) -> None:
    build = resolve(
        spec(
            folder,
            tables(
                "head",
                {"name": "blocks.[01].*", "units": [0, 1]},
                {"name": "blocks.1.expand", "units": [3], "activation": "pre"},
                {"name": "*.squeeze", "units": [2]},
            ),
        )
    )
    squeezes = [(f"blocks.{n}.squeeze", (2,)) for n in range(2, 3)]
    assert build.plan.units == (
        ("head", (0, 1, 2)),
        ("blocks.0.squeeze", (2,)),
        ("blocks.0.expand", (0, 1)),
        ("blocks.0.relu", (0, 1)),
        ("blocks.1.squeeze", (2,)),
        ("blocks.1.expand", (3,)),
        ("blocks.1.relu", (0, 1)),
        *squeezes,
    )
    assert [layer.activation for layer in build.layers if layer.activation == "pre"] == ["pre"]


def test_a_name_stands_for_its_response_whatever_a_pattern_matches_before(folder: Path) -> None:
    build = resolve(spec(folder, tables("blocks.0*", "blocks.0.relu")))
    assert names(build) == ["blocks.0.squeeze", "blocks.0.expand", "blocks.0.relu"]
    both = resolve(spec(folder, tables("blocks.0", "blocks.0.relu")))
    assert names(both) == ["blocks.0", "blocks.0.relu"], "what is named is built"


@pytest.mark.parametrize(
    ("layers", "circuits", "message"),
    [
        (
            tables("blocks.*.expnd"),
            {},
            r"^no layer of the model matches 'blocks.\*.expnd': did you mean 'blocks.\d.expand'",
        ),
        (
            tables("p*"),
            {},
            r"^no layer that 'p\*' matches can be explained; the first of 1: layer 'pool': no conv",
        ),
        (
            tables("blocks.0", "head*"),
            {"response": [7, 7]},
            r"no layer that 'head\*' matches .*: circuits.response: position \[7, 7\] lies outside",
        ),
        (tables({"name": "blocks.0.*", "units": [9]}), {}, "unit 9 of layer 'blocks.0.squeeze'"),
    ],
)
def test_a_pattern_that_gives_nothing_is_told_in_a_line(
    folder: Path, layers: object, circuits: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        resolve(spec(folder, layers, **circuits))


def test_tasks_go_through_the_layers_one_after_the_other(folder: Path) -> None:
    asked = spec(folder, tables("blocks.2", "*.expand"))
    build = resolve(asked)
    order = ["blocks.2", *(f"{block}.expand" for block in BLOCKS)]
    tasks = make_tasks(build, asked, {}, workers=1)
    assert [task.layer for task in tasks] == order, "no smaller tasks than the workers need"
    tasks = make_tasks(build, asked, {"blocks.2": [0, 2]}, workers=12, max_units=5)
    units = [(task.layer, key.unit) for task in tasks for key in task.units]
    expand = "blocks.0.expand"
    assert units == [("blocks.2", 1), ("blocks.2", 3), (expand, 0), (expand, 1), (expand, 2)]
    assert sum(map(len, missing_units(build, {}).values())) == 4 * 4


def test_a_worker_opens_a_layer_when_its_first_task_comes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = spec(folder, "all")
    lay_out(asked)
    build = resolve(asked)
    opened: list[str] = []

    def note(graph: Any, name: str, *arguments: Any, real: Any = opened_spec.open_layer, **a: Any):
        opened.append(name)
        return real(graph, name, *arguments, **a)

    monkeypatch.setattr(opened_spec, "open_layer", note)
    worker = CircuitJob(build.spec, 1, trace=build.trace).open()
    assert opened == []
    (first, *_) = make_tasks(build, asked, {}, workers=1)
    assert {receipt.state for receipt in worker.run(first)} == {"done"}
    assert opened == [ALL[0]]
