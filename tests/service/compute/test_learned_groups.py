"""Circuits that are trained for a unit's sub-feature groups, on a planted unit of two features."""

from __future__ import annotations

import json
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from obstore.store import LocalStore
from torch import Tensor

from circuit_atlas.jobs.images.tensor_images import TensorImages
from circuit_atlas.jobs.network.model_copy import copy_model
from circuit_atlas.jobs.planted.networks import PlantedNetwork, polysemantic
from circuit_atlas.jobs.spec.build_spec import BuildSpec
from circuit_atlas.jobs.tasks.estimate import estimate
from circuit_atlas.jobs.tasks.memory import needs
from circuit_atlas.jobs.tasks.opened_spec import OpenedSpec
from circuit_atlas.jobs.tasks.plan import make_tasks, resolve_opened
from circuit_atlas.service import Atlas, QueryError, SpecError, find_circuit
from circuit_atlas.service.client.unit import Unit
from circuit_atlas.service.commands.cli import cli
from circuit_atlas.service.compute.one_unit import compute_unit
from circuit_atlas.service.web.app import create_app
from circuit_atlas.storage_schema.compaction import compact
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.verify import verify
from tests.service.stores import served

FRACTIONS = [0.3, 0.1, 0.05]
SMALL = 0.05
"""Of 104 kernels that can reach the unit: as many as one of the two planted parts has."""


def opened(network: PlantedNetwork, **changed: dict[str, Any]) -> OpenedSpec:
    loaded = copy_model(network.module)
    values = {
        "model": {"reference": loaded.reference},
        "images": {"source": "memory:"},
        "layers": [{"name": network.layer, "units": [1]}],
        "circuits": {"criteria": ["actgrad", "learned"], "fractions": FRACTIONS, "top_images": 12},
        "learned": {"steps": 40, "groups": True},
        "run": {"device": "cpu", "self_check": False},
    }
    merged = {
        key: {**value, **changed.get(key, {})} for key, value in values.items() if key != "layers"
    }
    spec = BuildSpec.from_values({**merged, "layers": values["layers"]})
    return OpenedSpec(spec, model=loaded, images=TensorImages(network.images))


def stored(network: PlantedNetwork, folder, **changed: dict[str, Any]) -> Atlas:
    store = LocalStore(folder, mkdir=True)
    compute_unit(opened(network, **changed), Objects(store, location=str(folder)))
    return Atlas.open(folder)


@pytest.fixture(scope="module")
def network() -> PlantedNetwork:
    return polysemantic(0)


@pytest.fixture(scope="module")
def atlas(network, tmp_path_factory) -> Atlas:
    return stored(network, tmp_path_factory.mktemp("groups") / "atlas")


@pytest.fixture(scope="module")
def unit(atlas, network) -> Unit:
    return atlas.layer(network.layer).unit(1)


@pytest.fixture(scope="module")
def without(network, tmp_path_factory) -> Atlas:
    """An atlas as they were before circuits of groups were trained."""
    folder = tmp_path_factory.mktemp("plain") / "atlas"
    return stored(network, folder, learned={"steps": 1, "groups": False})


def r(network: PlantedNetwork, circuit, images: Tensor) -> float:
    """Pearson r of the unit in a circuit and in the network, in float64."""
    with torch.no_grad():
        full, kept = (
            model.double()(images.double())[:, 1].flatten().numpy()
            for model in (network.module, circuit.apply_to(network.module))
        )
    network.module.float()
    return float(np.corrcoef(full, kept)[0, 1]) if np.ptp(kept) else 0.0


def test_a_groups_circuit_keeps_more_of_its_images_than_the_units(network, unit):
    """The unit's circuit of so few kernels has room for one planted part at most."""
    groups = unit.groups(criterion="learned")
    parts = [set(part.images) for part in network.units[0].sub_features]
    assert [len(group) for group in groups] == [5, 5, 2]
    for group in (groups[0], groups[1]):
        assert any(part.issuperset(group.images) for part in parts)
        images = network.images[list(group.images)]
        own, whole = group.circuit(keep=SMALL), unit.circuit(keep=SMALL, criterion="learned")
        assert len(own) == len(whole) == 5
        assert r(network, own, images) > 0.99
        assert r(network, own, images) > r(network, whole, images) + 0.3
    # The third group is of images on which the unit is silent: nothing is to be learned there.
    silent = groups[2].circuit(keep=SMALL)
    assert set(silent.positions) == set(
        unit.groups(criterion="actgrad")[2].circuit(keep=SMALL).positions
    )


def test_what_is_stored_of_them(unit):
    commit, reader = unit.commit, unit.reader
    assert reader.header.grouped == ("learned",)
    levels = reader.group_levels(commit, "learned")
    assert levels.dtype == np.uint8
    assert levels.shape == (3, unit.index.index.size)
    kept = [(levels > level).sum(axis=1).tolist() for level in range(3)]
    assert kept == [[31] * 3, [10] * 3, [5] * 3]
    rows = [row for row in reader.groups(commit).to_pylist() if row["criterion"] == "learned"]
    by_score = unit.groups(criterion="actgrad")
    assert {row["image"]: row["group"] for row in rows} == {
        image: group.number for group in by_score for image in group.images
    }
    selectivity = unit.selectivity(criterion="learned").to_pylist()
    assert [row["preserved"] for row in selectivity[:6]] == pytest.approx([1] * 6, abs=1e-5)
    assert [row["leaked"] for row in selectivity[:6]] == pytest.approx([0] * 6, abs=1e-5)
    assert all(row["acting"] <= row["kernels"] for row in reader.selectivity(commit).to_pylist())
    assert verify(reader.objects) == ()


def test_they_are_read_by_their_images_and_drawn(unit):
    first = unit.groups(criterion="learned")[0]
    circuit = first.circuit(keep=0.1)
    assert circuit == unit.circuit(keep=0.1, criterion="learned", images=first.images[::-1])
    assert circuit == unit.circuit(kernels=10, criterion="learned", images=first.images)
    assert circuit.scores.tolist() == pytest.approx([2 / 3, 1.0] * 5, abs=0.34)
    drawn = circuit.diagram().content
    assert drawn.counts.circuit == 10
    assert [level.fraction for level in drawn.levels] == [0.1, 0.05]
    assert first.circuit(keep=0.3).for_images(unit.groups(criterion="learned")[1].images) != circuit
    with pytest.raises(
        QueryError, match=r"stored as they were trained, so only .* 0.3 \(31\), 0.1"
    ):
        first.circuit(keep=0.2)
    with pytest.raises(QueryError, match="circuits of whole groups alone, and images 1 and 5 are"):
        unit.circuit(keep=0.1, criterion="learned", images=[1, 5])


def test_a_sealed_layer_has_them(network, tmp_path):
    folder = tmp_path / "atlas"
    before = stored(network, folder, learned={"steps": 2})
    unit = before.layer(network.layer).unit(1)
    compact(before.reader.objects, before.header, unit.index)
    assert verify(before.reader.objects) == ()
    after = Atlas.open(folder).layer(network.layer).unit(1)
    for own, other in zip(
        unit.groups(criterion="learned"), after.groups(criterion="learned"), strict=True
    ):
        assert own.circuit(keep=SMALL) == other.circuit(keep=SMALL)
    table = after.reader.table(network.layer, "selectivity")
    assert set(table["criterion"].to_pylist()) == {"actgrad", "learned"}


def test_they_are_told_on_the_command_line(atlas, network, tmp_path):
    place = atlas.location
    run = CliRunner().invoke
    shown = run(
        cli, ["show", place, network.layer, "1", "--keep", "0.05", "--criterion", "learned"]
    )
    assert shown.exit_code == 0
    assert "sub-features by learned, silhouette 0.98" in shown.output
    assert "preserved" in shown.output
    told = run(cli, ["show", place, network.layer, "1", "--criterion", "learned", "--json"])
    groups = json.loads(told.output)["groups"]
    assert groups["criterion"] == "learned"
    assert len(groups["selectivity"]) == 9
    file = tmp_path / "circuit.svg"
    chosen = [place, network.layer, "1", "--criterion", "learned", "--keep", "0.1"]
    drawn = run(cli, ["diagram", *chosen, "--group", "1", "--output", str(file), "--json"])
    assert json.loads(drawn.output)["counts"]["circuit"] == 10
    missing = run(cli, ["diagram", *chosen, "--group", "3", "--output", str(file)])
    assert "unit last/1 has no group 3 by learned: it has 3, from 0" in str(missing.exception)
    both = run(cli, ["diagram", *chosen, "--group", "1", "--images", "1", "--output", str(file)])
    assert "give one of them" in both.output


def test_they_are_answered_over_http(atlas, unit, network):
    with served(create_app(atlas.location)) as address:
        api = f"{address}/api/v1"
        of_unit = f"{api}/layers/{network.layer}/units/1"
        facts = httpx.get(f"{api}/atlas").json()
        groups = httpx.get(f"{of_unit}/groups?criterion=learned").json()
        images = [row["image"] for row in groups["rows"] if row["group"] == 1]
        chosen = {"criterion": "learned", "keep": 0.1, "images": ",".join(map(str, images))}
        circuit = httpx.get(f"{of_unit}/circuit", params=chosen).json()
        diagram = httpx.get(f"{of_unit}/diagram", params=chosen).json()
        kept = httpx.get(f"{of_unit}/selectivity?criterion=learned").json()
        refused = httpx.get(f"{of_unit}/circuit", params={**chosen, "keep": 0.2})
    assert facts["image_criteria"] == ["actgrad"]
    assert facts["group_criteria"] == ["actgrad", "learned"]
    assert (groups["groups"], groups["polysemanticity"], groups["pairs"]) == (3, None, [])
    own = unit.groups(criterion="learned")[1]
    assert images == list(own.images)
    positions = [row["position"] for row in circuit["rows"]]
    assert positions == own.circuit(keep=0.1).positions.tolist()
    assert diagram["counts"]["circuit"] == 10
    assert len(kept["rows"]) == 9
    assert refused.status_code == 400
    assert "stored as they were trained" in refused.json()["error"]["message"]


def test_an_atlas_without_them_says_so(without, network):
    unit = without.layer(network.layer).unit(1)
    assert unit.groups().criterion == "actgrad"
    with pytest.raises(
        QueryError, match=r"no learned circuits of groups: build it with groups = tr"
    ):
        unit.groups(criterion="learned")
    with pytest.raises(
        QueryError, match="this atlas no learned circuits of groups, as groups = true"
    ):
        unit.circuit(keep=0.1, criterion="learned", images=[1, 5])
    assert '"groups"' not in without.header.spec


def test_what_cannot_be_trained(network):
    with pytest.raises(SpecError, match="units have 3 top images, too few for groups"):
        resolve_opened(opened(network, circuits={"top_images": 3}))
    with pytest.raises(SpecError, match="the response at a position is that of whole images"):
        resolve_opened(opened(network, circuits={"response": [1, 1]}))
    one = find_circuit(
        network.module,
        network.images[:10:2],
        layer=network.layer,
        unit=1,
        criterion="learned",
        learned={"steps": 1, "groups": True},
        self_check=False,
    )
    unit = Atlas(Reader(one.origins[0].reader.objects)).layer(network.layer).unit(1)
    (group,) = unit.groups()
    assert unit.reader.selectivity(unit.commit).num_rows == 0
    with pytest.raises(QueryError, match="has one group by 'learned': no circuits but the unit's"):
        group.circuit(keep=0.1)


def test_the_budget_and_the_plan_count_them(network):
    needed, sizes = [], []
    for groups in (False, True):
        spec = opened(network, learned={"groups": groups})
        build = resolve_opened(spec)
        needed.append(needs(spec.layer(network.layer), build.header, images=12))
        tasks = make_tasks(build, spec.spec, {}, workers=1)
        sizes.append(estimate(build, tasks, images=12).size_bytes)
    assert needed[1].fixed > needed[0].fixed
    assert needed[1].unit > needed[0].unit
    assert sizes[1] > sizes[0]
