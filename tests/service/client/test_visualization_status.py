"""How far visualizations are, wherever an atlas is opened from, on the command line and over
HTTP."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from circuit_atlas.cluster.ledger import Summary
from circuit_atlas.service import Atlas
from circuit_atlas.service.commands import exits
from circuit_atlas.service.commands.cli import main
from circuit_atlas.service.commands.report import summary_text
from circuit_atlas.service.web.app import create_app
from circuit_atlas.service.web.limits import Limits
from circuit_atlas.storage_schema import layer_paths, layout
from circuit_atlas.storage_schema.documents import sha256
from circuit_atlas.storage_schema.keys import UnitKey
from circuit_atlas.storage_schema.opening import open_store
from circuit_atlas.storage_schema.records import FailureRecord, Receipt
from circuit_atlas.storage_schema.template import Plan
from circuit_atlas.storage_schema.visualization_plan import VisualizationPlan
from circuit_atlas.storage_schema.visualizations import FeatureWriter
from tests.service.stores import served
from tests.service.visualization_work import BOTH, GREY, begin, make

BY_LAYER = [
    {
        "layer": "conv2", "of": "unit", "planned": 3, "done": 1, "failed": 1, "missing": 1,
        "visualizations": 3, "visualizations_planned": 6,
    },
    {
        "layer": "conv1", "of": "channel", "planned": 2, "done": 1, "failed": 1, "missing": 0,
        "visualizations": 1, "visualizations_planned": 2,
    },
]  # fmt: skip
FAILURES = [
    {
        "layer": "conv2", "of": "unit", "unit": 4, "name": "edge", "kind": "non_finite",
        "message": "NaN: look at the weights",
    },
    {
        "layer": "conv1", "of": "channel", "unit": 3, "name": "3", "kind": "unit",
        "message": GREY,
    },
]  # fmt: skip
UNITS = [
    {
        "unit": 0, "name": "0", "state": "done", "visualizations": 2,
        "visualizations_planned": 2, "error": None,
    },
    {
        "unit": 1, "name": "1", "state": "missing", "visualizations": 1,
        "visualizations_planned": 2, "error": None,
    },
    {
        "unit": 4, "name": "edge", "state": "failed", "visualizations": 0,
        "visualizations_planned": 2, "error": "non_finite: NaN: look at the weights",
    },
]  # fmt: skip
LEFT = (
    "feature visualizations: 1 missing and 2 failed; run the command that asked for them again, "
    "`circuit-atlas features SPEC`: it makes what is missing, tries what failed again, and keeps "
    "what is there"
)


@pytest.fixture(scope="module")
def begun(location: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small atlas, some of whose feature visualizations are made; read only."""
    folder = tmp_path_factory.mktemp("begun") / "atlas"
    shutil.copytree(location, folder)
    begin(folder)
    return folder


@pytest.fixture(scope="module")
def at(begun: Path) -> Iterator[str]:
    """Where it is served."""
    with served(create_app(begun)) as address:
        yield address


def test_a_client_is_told(begun, at):
    for location in (begun, at):
        atlas = Atlas.open(location)
        assert atlas.visualization_status().to_pylist() == BY_LAYER
        assert atlas.visualization_failures().to_pylist() == FAILURES
        assert atlas.layer("conv2").features().to_pylist() == UNITS
        assert atlas.layer("conv3").features().num_rows == 0


def test_an_atlas_without_any_has_tables_without_rows(location):
    atlas = Atlas.open(location)
    for table in (
        atlas.visualization_status(),
        atlas.visualization_failures(),
        atlas.layer("conv2").features(),
    ):
        assert table.num_rows == 0
        assert "layer" in table.column_names or "unit" in table.column_names


def test_status_tells_it(begun, capsys):
    assert main(["status", str(begun)]) == exits.UNIT_FAILED
    _, _, features = capsys.readouterr().out.partition("\nfeature visualizations\n")
    lines = features.splitlines()
    assert [line.split() for line in lines[:3]] == [
        "layer of planned done failed missing visualizations visualizations_planned".split(),
        "conv2 unit 3 1 1 1 3 6".split(),
        "conv1 channel 2 1 1 0 1 2".split(),
    ]
    assert lines[3:5] == [
        "  failed: conv2 unit edge: non_finite: NaN: look at the weights",
        f"  failed: conv1 channel 3: unit: {GREY}",
    ]
    assert lines[5:] == [
        "",
        "units: 1 missing and 1 failed; run the command that asked for them again, "
        "`circuit-atlas build SPEC`: it makes what is missing, tries what failed again, and keeps "
        "what is there",
        LEFT,
    ]


def test_status_as_json(begun, capsys):
    assert main(["status", str(begun), "--json"]) == exits.UNIT_FAILED
    told = json.loads(capsys.readouterr().out)
    assert told["features"] == BY_LAYER
    assert told["visualization_failures"] == FAILURES
    assert told["to_go_on"][1] == LEFT
    assert told["to_go_on"][0].startswith("units: 1 missing and 1 failed; ")


@pytest.fixture
def whole(begun: Path, tmp_path: Path) -> Path:
    """The same with all units built, and no picture failed."""
    shutil.copytree(begun, tmp_path / "atlas")
    for layer in ("conv2", "conv3"):
        for path in (tmp_path / "atlas" / layer_paths.failures(layer)).glob("*.json"):
            path.unlink()
    (path,) = (tmp_path / "atlas" / "plans").glob("*.json")
    path.unlink()
    plan = Plan((("conv2", (0, 1, 4)), ("conv3", (0, 1, 2, 3)))).to_json()
    (tmp_path / "atlas" / layout.plan(sha256(plan.encode()))).write_text(plan)
    make(tmp_path / "atlas", "conv2", 4, *BOTH)
    make(tmp_path / "atlas", "conv1", 3, "positive")
    return tmp_path / "atlas"


def test_what_failed_decides_the_exit_code_and_what_is_missing_does_not(whole, capsys):
    assert main(["status", str(whole)]) == 0
    out = capsys.readouterr().out
    assert "failed:" not in out
    assert "feature visualizations: 1 missing; run the command" in out
    make(whole, "conv2", 1, "negative")
    assert main(["status", str(whole), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["visualization_failures"], told["to_go_on"]) == ([], [])
    key = UnitKey("toy.models:small", "conv1", 11)
    FeatureWriter(open_store(whole)).fail(FailureRecord(key, "unit", "why", "trace"))
    assert main(["status", str(whole)]) == exits.UNIT_FAILED
    assert "failed: conv1 channel 11: unit: why" in capsys.readouterr().out


def test_the_demos_own_command_is_named_for_the_demo(write, tmp_path, capsys):
    write(tmp_path / "atlas", model="demo:squeezenet1_1")
    plan = VisualizationPlan.of([("conv2", "unit", 0, BOTH)])
    FeatureWriter(open_store(tmp_path / "atlas")).plan(plan)
    main(["status", str(tmp_path / "atlas")])
    out = capsys.readouterr().out
    assert "`circuit-atlas build SPEC` or `circuit-atlas demo`: it" in out
    assert "`circuit-atlas features SPEC` or `circuit-atlas demo --features`: it" in out


def test_a_run_says_how_many_of_what_it_did():
    one = UnitKey("toy", "conv1", 3)
    lost = Receipt(one, "failed", 0, 0, 0.0, kind="deadline", message="late", of="channel")
    counts = {"dead": 0, "failed": 0, "lost": 1, "retried": 0, "size_bytes": 10}
    summary = Summary(
        done=3, skipped=2, failures=(lost,), compute_s=1.0, wall_s=2.0, channels=5, **counts
    )
    assert summary_text(summary, location="here").splitlines() == [
        "1 unit and 5 channels: 3 done, 1 lost with their workers, 2 stored before; 10 B written "
        "in 2 s to here",
        "  failed: conv1 channel 3: deadline: late",
    ]
    alone = replace(summary, channels=0, failures=())
    assert summary_text(alone, location="here").startswith("units: 3 done, ")
    assert summary_text(replace(summary, channels=6), location="here").startswith(
        "6 channels: 3 done"
    )


def test_over_http(at):
    with httpx.Client(base_url=f"{at}/api/v1/") as api:
        found = api.get("features").json()
        assert (found["rows"], found["total"]) == (BY_LAYER, 2)
        assert (found["complete"], found["note"]) == (False, LEFT)
        assert api.get("features/failures").json()["rows"] == FAILURES
        assert api.get("features/failures?limit=1&offset=1").json()["rows"] == FAILURES[1:]
        own = api.get("layers/conv2/features").json()
        assert own["rows"] == UNITS
        assert own["note"].startswith("feature visualizations: 1 missing and 1 failed; ")
        other = api.get("layers/conv3/features").json()
        assert (other["rows"], other["complete"], other["note"]) == ([], True, None)
        assert api.get("layers/conv9/features").status_code == 404
        table = pq.read_table(pa.BufferReader(api.get("features?format=parquet").content))
        assert table.to_pylist() == BY_LAYER
        text = api.get("features/failures?format=csv").text
        assert text.splitlines()[0] == '"layer","of","unit","name","kind","message"'
        assert len(text.splitlines()) == 3


def test_the_server_tells_what_has_changed(whole):
    """A failure changes no picture, and a plan neither."""
    with (
        served(create_app(whole, limits=Limits(fresh_s=0))) as address,
        httpx.Client(base_url=f"{address}/api/v1/") as api,
    ):
        tags = [api.get("features").headers["etag"]]
        make(whole, "conv2", 1, "negative")
        found = api.get("features", headers={"If-None-Match": tags[0]})
        assert found.status_code == 200
        assert (found.json()["complete"], found.json()["note"]) == (True, None)
        tags.append(found.headers["etag"])
        writer = FeatureWriter(open_store(whole))
        key = UnitKey("toy.models:small", "conv1", 11)
        writer.fail(FailureRecord(key, "unit", "why", "trace"))
        found = api.get("features", headers={"If-None-Match": tags[1]})
        assert found.json()["rows"][1]["failed"] == 1
        tags.append(found.headers["etag"])
        writer.plan(VisualizationPlan.of([("conv3", "unit", 0, BOTH)]))
        found = api.get("features", headers={"If-None-Match": tags[2]})
        assert [row["layer"] for row in found.json()["rows"]] == ["conv2", "conv3", "conv1"]
        again = api.get("features", headers={"If-None-Match": found.headers["etag"]})
        assert again.status_code == 304
