"""A circuit of a model and a tensor: right, and the same as a build's."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from torch import nn

from circuit_atlas.jobs.spec.build_spec import BuildSpec
from circuit_atlas.jobs.spec.circuits import Criterion
from circuit_atlas.jobs.tasks.opened_spec import OpenedSpec
from circuit_atlas.jobs.tasks.plan import make_tasks, resolve
from circuit_atlas.jobs.tasks.worker import CircuitJob
from circuit_atlas.service import (
    Atlas,
    Circuit,
    QueryError,
    SpecError,
    find_circuit,
)
from tests.jobs.builds import lay_out, write_noise
from tests.oracles import networks, reference
from tests.oracles.convolutions import Masks, Target
from tests.oracles.faithfulness import circuit_response, full_response, pearson
from tests.oracles.reach import reach
from tests.oracles.scores import actgrad, force, keep_top, kernels, over_set, schedule
from tests.service.compute.small_model import MODEL, ask, noise, rows_of, small

CRITERIA = list(get_args(Criterion))
KEEP = 0.2
TOLERANCE = 1e-5
"""Of the largest score: float32 against float64, summed over up to 576 positions."""


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BuildSpec:
    (tmp_path / "door_models.py").write_text(MODEL)
    monkeypatch.syspath_prepend(tmp_path)
    write_noise(tmp_path / "pictures", count=7, side=12)
    return BuildSpec.from_values(
        {
            "model": {"reference": "door_models:network"},
            "preprocessing": {"resize": [12, 12]},
            "images": {"source": str(tmp_path / "pictures"), "held_out": ["05.png", "06.png"]},
            "layers": [{"name": "4", "units": [0, 3]}],
            "circuits": {
                "criteria": CRITERIA,
                "fractions": [KEEP],
                "ablation": ["mean"],
                "top_images": 4,
                "seed": 3,
            },
            "learned": {"steps": 5, "seed": 3},
            "run": {"store": str(tmp_path / "atlas")},
        }
    )


def same(circuit: Circuit, masks: Masks) -> bool:
    """Whether a circuit has the kernels of some masks and no other."""
    found = {(k["convolution"], k["out_channel"], k["in_channel"]) for k in rows_of(circuit)}
    return found == {(n, o, i) for n in masks for o, i in masks[n].nonzero().tolist()}


def test_it_is_the_circuit_that_a_build_stores(spec: BuildSpec) -> None:
    lay_out(spec)
    worker = CircuitJob(spec, 1).open()
    for task in make_tasks(resolve(spec), spec, {}, workers=1):
        assert {receipt.state for receipt in worker.run(task)} == {"done"}
    unit = Atlas.open(spec.run.store).layer("4").unit(3)
    opened = OpenedSpec(spec).images

    for criterion in spec.circuits.criteria:
        found = find_circuit(
            small(),
            opened.batch(opened.scoring),
            layer="4",
            unit=3,
            criterion=criterion,
            keep=KEEP,
            held_out=opened.batch(opened.held_out),
            ablation="mean",
            top_images=4,
            learned={"steps": 5},
            seed=3,
        )
        stored = unit.circuit(keep=KEEP, criterion=criterion)
        assert found == stored
        np.testing.assert_array_equal(found.scores, stored.scores)
        kernels, known = found.kernels(), stored.kernels()
        exact = [name for name in known.column_names if name != "contribution"]
        assert kernels.select(exact) == known.select(exact)
        # One matrix product for all units of a block: its order of summation goes by its width.
        np.testing.assert_allclose(kernels["contribution"], known["contribution"], rtol=2e-6)
        assert found.faithfulness() == stored.faithfulness()
        assert found.iou(stored) == 1  # of the same weights, so they combine


@pytest.mark.parametrize("unit", reference.UNITS)
def test_scores_and_faithfulness_agree_with_the_formulas_in_float64(unit: int) -> None:
    net, images = reference.plain_net(), reference.images()
    target = Target(reference.LAYER, unit)
    kept = reach(net, images[0], reference.LAYER, unit)

    circuit = find_circuit(
        net, images[:4], layer=reference.LAYER, unit=unit, keep=1, held_out=images[4:]
    )

    per_image = actgrad(net, images[:4], target)
    whole = over_set(per_image)
    largest = max(array.max() for array in whole.values())
    rows = rows_of(circuit)
    assert len(rows) == kernels(kept)
    for row in rows:
        kernel = row["out_channel"], row["in_channel"]
        wanted = whole[row["convolution"]][kernel]
        assert row["score"] == pytest.approx(wanted, rel=0, abs=TOLERANCE * largest)
    by_image = circuit.image_scores()
    assert sorted(by_image["image"].to_pylist()) == [0, 1, 2, 3]
    for image, scores in zip(
        by_image["image"].to_pylist(), by_image["scores"].to_pylist(), strict=True
    ):
        wanted = [
            per_image[row["convolution"]][image, row["out_channel"], row["in_channel"]]
            for row in rows
        ]
        # Scores of single images are kept in eight bits each.
        np.testing.assert_allclose(scores, wanted, rtol=0, atol=0.01 * max(wanted))

    circuit = find_circuit(
        net, images[:4], layer=reference.LAYER, unit=unit, keep=KEEP, held_out=images[4:]
    )
    masks = keep_top(whole, kept, len(circuit))
    assert same(circuit, masks)
    measured = circuit.faithfulness().to_pylist()
    assert [row["split"] for row in measured] == ["scoring", "held_out"]
    assert [row["images"] for row in measured] == [4, 2]
    for row, part in zip(measured, (images[:4], images[4:]), strict=True):
        pruned = circuit_response(net, part, target, masks=masks, ablation="zero")
        r = pearson(pruned, full_response(net, part, target))
        assert row["pearson"] == pytest.approx(r, abs=1e-4)  # of up to ten layers in float32


def test_a_class_score_has_a_circuit_that_a_copy_of_the_model_computes_with() -> None:
    network = networks.NAMED["branched"]()
    model, images, target = network.module, network.images(6), Target("classify", 1)

    circuit = find_circuit(model, images, layer="classify", unit=1, keep=KEEP)

    kept = reach(model, images[0], "classify", 1)
    masks = keep_top(over_set(actgrad(model, images, target)), kept, len(circuit))
    assert same(circuit, masks)
    with torch.no_grad():
        found = circuit.apply_to(model)(images)[:, 1]
    wanted = circuit_response(model, images, target, masks=masks, ablation="zero")
    np.testing.assert_allclose(found, wanted[:, 0, 0], rtol=0, atol=1e-5 * np.abs(wanted).max())
    assert [
        row["box_bottom"]
        for row in circuit.origins[0]
        .reader.responses(circuit.origins[0].reader.commit("classify", 1))
        .to_pylist()
    ] == [9] * 6


def test_force_finds_the_circuit_of_its_formula_in_float64() -> None:
    net, images, unit = reference.plain_net(), reference.images()[:2], reference.UNITS[0]
    kept = reach(net, images[0], reference.LAYER, unit)

    circuit = find_circuit(
        net, images, layer=reference.LAYER, unit=unit, criterion="force", keep=KEEP
    )

    steps = schedule(kernels(kept), round(KEEP * kernels(kept)), 10)
    found = force(net, images, Target(reference.LAYER, unit), reach=kept, counts=steps)
    assert same(circuit, keep_top(found.scores_after, kept, steps[-1]))
    assert circuit.faithfulness().num_rows == 1
    with pytest.raises(QueryError, match="'force' has no scores of single images"):
        circuit.image_scores()


def test_the_planted_circuit_is_found_and_drawn_and_applied(tmp_path: Path) -> None:
    planted = networks.planted()
    net, images = planted.network.module, planted.network.images(5)

    whole = find_circuit(net, images, layer=planted.layer, unit=planted.unit, keep=1)
    circuit = find_circuit(
        net,
        images,
        layer=planted.layer,
        unit=planted.unit,
        keep=len(planted.kernels) / len(whole),
    )

    found = rows_of(circuit)
    assert {(k["convolution"], k["out_channel"], k["in_channel"]) for k in found} == planted.kernels
    (row,) = circuit.faithfulness().to_pylist()
    with torch.no_grad():
        full = net(images)[:, planted.unit]
        pruned = circuit.apply_to(net)(images)[:, planted.unit]
    r = np.corrcoef(full.numpy().ravel(), pruned.numpy().ravel())[0, 1]
    assert row["pearson"] == pytest.approx(r, abs=1e-5)
    assert row["pearson"] > 0.9
    circuit.diagram().save(tmp_path / "planted.svg")
    drawn = (tmp_path / "planted.svg").read_text()
    assert "image/jpeg" in drawn
    assert planted.layer in drawn


def test_circuits_of_single_images_have_as_many_kernels() -> None:
    circuit = ask(keep=KEEP)

    alone = circuit.for_images([2])

    assert len(alone) == len(circuit)
    assert alone.origins[0].images == (2,)
    place = circuit.image_scores()["image"].to_pylist().index(2)
    scores = ask(keep=1).image_scores()["scores"].to_pylist()[place]
    best = sorted(np.argsort(-np.array(scores), kind="stable")[: len(circuit)].tolist())
    assert alone.positions.tolist() == ask(keep=1).positions[best].tolist()
    with pytest.raises(QueryError, match="no scores of image 9: it has those of its top images"):
        circuit.for_images([9])
    with pytest.raises(QueryError, match="was not measured: it was for the circuits of all"):
        alone.faithfulness()
    with pytest.raises(QueryError, match="was not chosen for one unit"):
        (circuit | alone).faithfulness()


def test_further_fractions_are_in_the_atlas_in_memory() -> None:
    circuit = ask(keep=KEEP, fractions=(0.5, 1), held_out=noise(2, seed=1))

    unit = Atlas(circuit.origins[0].reader).layer("4").unit(0)

    rows = unit.faithfulness().to_pylist()
    assert [row["fraction"] for row in rows] == [1, 0.5, KEEP] * 2
    assert rows[0]["pearson"] == pytest.approx(1)
    assert unit.circuit(keep=0.5).contains(circuit)
    assert circuit.faithfulness().to_pylist() == [rows[2], rows[5]]
    assert unit.circuit(keep=0.5).faithfulness().to_pylist() == [rows[1], rows[4]]
    with pytest.raises(QueryError, match=r"was not measured: .* that keep 1 \(24\), 0.5 \(12\), 0"):
        unit.circuit(keep=0.4).faithfulness()
    images = Atlas(circuit.origins[0].reader).images()
    assert images["name"].to_pylist() == [f"image {n}" for n in range(4)] + [
        "held out 0",
        "held out 1",
    ]


def test_a_connected_circuit_has_no_dead_ends() -> None:
    network = networks.NAMED["branched"]()
    model, images, layer = network.module, network.images(3), "body.2.three"
    for criterion in ("random", "force"):
        plain, connected = (
            find_circuit(
                model, images, layer=layer, unit=1, criterion=criterion, keep=KEEP, connected=each
            )
            for each in (False, True)
        )
        acting = plain.faithfulness()["acting"][0].as_py()
        assert acting < len(plain) == len(connected)
        # As the diagram finds them, by the stored wiring.
        assert f" of {acting} kernels on a path drawn" in repr(plain.diagram(node_images=False))
        assert connected.faithfulness()["acting"].to_pylist() == [len(connected)]
        unit = Atlas(connected.origins[0].reader).layer(layer).unit(1)
        with pytest.raises(QueryError, match="only its stored circuits can be had"):
            unit.circuit(keep=0.3, criterion=criterion)
    with pytest.raises(SpecError, match=r"^circuits.connected: fraction 0.01 keeps 1 of the "):
        find_circuit(model, images, layer=layer, unit=1, keep=0.01, connected=True)


@pytest.mark.parametrize("channels", [1, 2])
def test_images_may_have_any_number_of_channels(channels: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(channels, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 3)).eval()

    circuit = ask(model=net, images=noise(channels=channels, side=9), layer="2", unit=1)

    assert circuit.index.convolutions[0].in_channels == channels
    circuit.diagram().save(tmp_path / "grey.svg")
