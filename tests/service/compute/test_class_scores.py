"""An atlas of class scores: labels of its units, and how well circuits still tell the class."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from circuit_atlas.cluster.local_executor import LocalExecutor
from circuit_atlas.cluster.run import build
from circuit_atlas.jobs.spec.build_spec import BuildSpec
from circuit_atlas.jobs.tasks.opened_spec import OpenedSpec
from circuit_atlas.service import Atlas
from circuit_atlas.service.analysis.query import CircuitQuery
from circuit_atlas.service.commands.report import layer_text, unit_text
from circuit_atlas.service.web.app import create_app
from circuit_atlas.storage_schema import layer_paths
from circuit_atlas.storage_schema.verify import verify
from tests.service.stores import served

SIDE = 12
COLOURS = ("red", "green", "blue")
MODEL = '''
import torch
from torch import nn

def network():
    """Class 3 has no image."""
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 8, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4),
    ).eval()
'''


def network() -> nn.Module:
    names: dict[str, Any] = {}
    exec(MODEL, names)
    model: nn.Module = names["network"]()
    return model


def spec_of(folder: Path, **layer: Any) -> BuildSpec:
    return BuildSpec.from_values(
        {
            "model": {"reference": "class_models:network"},
            "preprocessing": {"resize": [SIDE, SIDE]},
            "images": {"source": str(folder / "images"), "held_out": "odd"},
            "layers": [{"name": "6", **layer}],
            "circuits": {"fractions": [1.0, 0.3, 0.05], "top_images": 3},
            "run": {"store": str(folder / "atlas")},
        }
    )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "class_models.py").write_text(MODEL)
    monkeypatch.syspath_prepend(tmp_path)
    generator = np.random.default_rng(0)
    for channel, colour in enumerate(COLOURS):
        (tmp_path / "images" / colour).mkdir(parents=True)
        for n in range(6):
            pixels = generator.integers(0, 200, (SIDE, SIDE, 3), dtype=np.uint8)
            pixels[..., channel] += 40
            Image.fromarray(pixels).save(tmp_path / "images" / colour / f"{n}.png")
    return tmp_path


def auc(scores: Tensor, inside: np.ndarray) -> float:
    pairs = [float(a > b) + 0.5 * float(a == b) for a in scores[inside] for b in scores[~inside]]
    return sum(pairs) / len(pairs)


def test_how_well_a_circuit_tells_the_class(folder: Path) -> None:
    (folder / "labels.txt").write_text("Red\nviridian, GREEN\nblue\npurple\n")
    spec = spec_of(folder, labels=str(folder / "labels.txt"))
    assert build(spec, executor=LocalExecutor()).done == 4
    layer = Atlas.open(spec.run.store).layer("6")
    images = OpenedSpec(spec).images
    for number, colour in enumerate(COLOURS):
        unit = layer.unit(number)
        for row in unit.faithfulness().to_pylist():
            ids = images.scoring if row["split"] == "scoring" else images.held_out
            inside = np.array([images.infos[image].label == colour for image in ids])
            circuit = unit.circuit(keep=row["fraction"])
            with torch.no_grad():
                found = circuit.apply_to(network())(images.batch(ids))[:, number]
                whole = network()(images.batch(ids))[:, number]
            assert row["auc"] == pytest.approx(auc(found, inside)), row
            assert row["auc_full"] == pytest.approx(auc(whole, inside)), row
    assert {row["auc"] for row in layer.unit(3).faithfulness().to_pylist()} == {None}
    shown = unit_text(layer.unit(1), CircuitQuery.of(layer.reader))
    assert "stands for: viridian, GREEN" in shown
    assert "AUC held-out" in shown


def test_labels_come_later_and_others_after_them(folder: Path) -> None:
    assert build(spec_of(folder, units=[1, 3]), executor=LocalExecutor()).done == 2
    layer = Atlas.open(folder / "atlas").layer("6")
    assert layer.units()["unit_label"].to_pylist() == [None, None]
    measured = layer.faithfulness()
    assert measured["auc"].null_count == measured.num_rows
    for texts in ("a\nb\nc\nd", "red\ngreen\nblue\npurple"):
        (folder / "labels.txt").write_text(texts)
        spec = spec_of(folder, units=[1, 3], labels=str(folder / "labels.txt"))
        assert build(spec, executor=LocalExecutor()).skipped == 2
        _, one, _, three = texts.split()
        assert layer.units()["unit_label"].to_pylist() == [one, three]
        assert layer.summary()["unit_label"].to_pylist() == [one, three]
        assert one in layer_text(layer, CircuitQuery.of(layer.reader))
        assert layer.unit(3).label == three
    assert not verify(layer.reader.objects)
    path = folder / "atlas" / layer_paths.labels("6", 1)
    path.write_bytes(path.read_bytes().replace(b"green", b"lilac"))
    assert [finding.kind for finding in verify(layer.reader.objects)] == ["altered"]


def test_labels_and_directions_over_http(folder: Path) -> None:
    (folder / "labels.txt").write_text("red\ngreen\nblue\npurple")
    np.save(folder / "mixed.npy", np.array([[1.0, -1, 0, 0]]))
    directions = {"file": str(folder / "mixed.npy"), "activation": "relu"}
    labels = str(folder / "labels.txt")
    spec = spec_of(folder, units=[1], labels=labels, directions=directions)
    assert build(spec, executor=LocalExecutor()).done == 2
    with ExitStack() as client, served(create_app(folder / "atlas")) as address:
        asked = client.enter_context(httpx.Client(base_url=f"{address}/api/v1"))
        (row,) = asked.get("/search", params={"q": "green"}).json()["rows"][:1]
        assert (row["kind"], row["text"], row["unit"]) == ("unit", "6/1 green", 1)
        units = asked.get("/layers/6/units", params={"has.unit_label": "gree"}).json()
        assert [unit["unit_label"] for unit in units["rows"]] == ["green"]
        before = asked.get("/layers/6/units/1")
        assert before.json()["unit_label"] == "green"
        mixed = asked.get("/layers/6/units/mixed.0").json()
        assert mixed["direction"] == [1.0, -1.0, 0.0, 0.0]
        assert (mixed["bias"], mixed["activation"]) == (0.0, "relu")
        opened = Atlas.open(address).layer("6")
        assert opened.units()["unit_label"].to_pylist() == ["green", None]
        assert opened.unit("mixed.0").circuit(keep=0.3).diagram().figure().svg
        top = asked.get("/images/0/units").json()["rows"]
        assert {unit["unit"]: unit["unit_label"] for unit in top} == {1: "green", 4: None}
