"""What an atlas answers in a few letters: by index, by r, as arrays, as files and plots."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from circuit_atlas.service import Atlas, QueryError
from tests.service.conftest import CONV1, CONV2, CONV3, write_atlas


@pytest.fixture
def atlas(location) -> Atlas:
    return Atlas.open(location)


def test_layers_and_units_are_had_by_index_and_in_turn(atlas):
    layer = atlas["conv3"]
    assert (len(atlas), [each.name for each in atlas]) == (2, list(atlas.layers))
    assert layer[1].name == layer.unit(1).name
    assert atlas["conv2"]["edge"].number == 4
    assert len(layer) == layer.units().num_rows == 5
    assert [unit.number for unit in layer] == layer.units()["unit"].to_pylist()
    with pytest.raises(QueryError, match="no layer 'conv4'"):
        atlas["conv4"]


def test_the_smallest_circuit_that_reaches_an_r(atlas):
    unit = atlas["conv3"][0]  # r is .9 at every fraction
    assert unit.circuit(r=0.9) == unit.circuit(0.1)
    assert unit.circuit(r=0.9, split="scoring", criterion="force") == unit.circuit(
        0.1, criterion="force"
    )
    with pytest.raises(QueryError, match=r"r=0\.95 on held-out .*most is 0\.900, with keep="):
        unit.circuit(r=0.95)
    with pytest.raises(QueryError, match="is undefined"):
        atlas["conv3"][2].circuit(r=0.5)
    for wrong in ({"r": 2}, {"r": 0.9, "keep": 0.1}, {"split": "scoring", "keep": 0.1}):
        with pytest.raises(QueryError):
            unit.circuit(**wrong)


def test_masks_name_the_parameters_and_hold_the_kernels(atlas):
    circuit = atlas["conv3"][1].circuit(0.5)
    masks = circuit.masks()
    assert {name: mask.shape for name, mask in masks.items()} == {
        c.weight: (c.out_channels, c.in_channels) for c in (CONV1, CONV2, CONV3)
    }
    assert sum(int(mask.sum()) for mask in masks.values()) == len(circuit)
    for row in circuit.kernels():
        name = str(row["convolution"])
        convolution = {c.name: c for c in (CONV1, CONV2, CONV3)}[name]
        group = row["out_channel"] // (convolution.out_channels // convolution.groups)
        within = row["in_channel"] - group * convolution.in_channels
        assert masks[f"{name}.weight"][row["out_channel"], within]


def test_kernels_tell_contribution_sign_and_norm_of_their_weights(atlas, record):
    circuit = atlas["conv3"][1].circuit(0.5)
    stored = record("conv3", 1).contribution
    weights = dict(zip(("conv1", "conv2", "conv3"), atlas.reader.weights("conv3"), strict=True))
    for row in circuit.kernels():
        assert row["contribution"] == stored[row["position"]]
        assert row["sign"] == np.sign(stored[row["position"]])
        if row["convolution"] != "conv2":  # which is grouped
            kernel = weights[row["convolution"]][row["out_channel"], row["in_channel"]]
            assert row["weight_norm"] == pytest.approx(np.linalg.norm(kernel))
    union = circuit | atlas["conv2"][0].circuit(0.5)
    rows = union.kernels().to_pylist()
    assert [row["sign"] is None for row in rows] == [row["position"] is None for row in rows]
    assert all(row["weight_norm"] > 0 for row in rows)


@pytest.mark.parametrize("keep", [0.5, 0.3])
def test_masks_of_a_layer_are_its_circuits_block_by_block(atlas, keep):
    layer = atlas["conv3"]
    masks = layer.masks(keep=keep)
    whole = np.asarray(masks)
    assert (masks.shape, whole.dtype) == (whole.shape, np.bool_)
    assert masks.units.tolist() == [0, 1, 2]
    for row, unit in enumerate(masks.units):
        positions = layer[int(unit)].circuit(keep).kernels()["position"].to_pylist()
        assert np.flatnonzero(whole[row]).tolist() == positions
        assert np.array_equal(masks[row], whole[row])
    blocks = list(masks.blocks(2))
    assert [units.tolist() for units, _ in blocks] == [[0, 1], [2]]
    assert np.array_equal(np.concatenate([rows for _, rows in blocks]), whole)


def test_nothing_of_an_array_is_read_before_it_is_asked_for(atlas, monkeypatch):
    scores = atlas["conv3"].scores(criterion="magnitude")
    asked = []
    scored = atlas.reader.scores
    monkeypatch.setattr(
        atlas.reader, "scores", lambda commit, of: asked.append(commit.unit) or scored(commit, of)
    )
    row = scores[1]
    assert asked == [1]
    assert row.tolist() == record_scores(atlas, 1)
    with pytest.raises(IndexError):
        scores[3]


def record_scores(atlas: Atlas, unit: int) -> list[float]:
    return atlas.reader.scores(atlas["conv3"][unit].commit, "magnitude")[0].tolist()


def test_the_axis_of_a_layer_is_named(atlas):
    layer = atlas["conv3"]
    rows = layer.kernels().to_pylist()
    assert len(rows) == layer.index.index.size
    for row in layer[2].circuit(1).kernels():
        named = rows[row["position"]]
        assert named["convolution"] == row["convolution"]
        assert named["out_channel"] in (None, row["out_channel"])
        assert named["in_channel"] == row["in_channel"]
    assert rows[-1]["out_channel"] is None


@pytest.mark.parametrize("how", ["alone", "images", "union"])
def test_a_saved_circuit_is_the_same_when_it_is_loaded(atlas, tmp_path, how):
    circuit = atlas["conv3"][1].circuit(0.5)
    if how == "images":
        circuit = circuit.for_images([0, 3])
    elif how == "union":
        circuit = circuit | atlas["conv2"]["edge"].circuit(0.1)
    again = atlas.load_circuit(circuit.save(tmp_path / "circuit.json"))
    assert again == circuit
    assert again.title == circuit.title
    assert again.kernels() == circuit.kernels()
    assert np.array_equal(again.reachable, circuit.reachable)
    if how == "alone":
        assert again.faithfulness() == circuit.faithfulness()


def test_what_a_unit_s_map_saves_is_a_circuit(atlas, tmp_path):
    """The document that `selection.js` writes: its name may be null, and it has more keys."""
    circuit = atlas["conv3"][0].circuit(0.1, images=[2, 0])
    kernels = circuit.kernels().to_arrow()
    rows = kernels.select(["convolution", "out_channel", "in_channel", "score", "position"])
    document = {
        "name": None,
        "address": "http://127.0.0.1:8000/#/map",
        "model": circuit.model,
        "weights_sha256": circuit.weights_sha256,
        "layer": "conv3",
        "unit": "0",
        "criterion": "actgrad",
        "keep": 0.1,
        "images": [{"image": 2, "name": "<b>.jpg", "label": None}, {"image": 0, "name": "a.jpg"}],
        "reachable_kernels": len(circuit.reachable),
        "layers": circuit.by_convolution().to_pylist(),
        "kernels": rows.to_pylist(),
    }
    file = tmp_path / "lasso.json"
    file.write_text(json.dumps(document))
    assert atlas.load_circuit(file) == circuit
    assert atlas.load_circuit(file).origins[0].images == (2, 0)


def test_a_file_that_is_no_circuit_of_the_atlas_is_refused(atlas, tmp_path):
    file = atlas["conv3"][1].circuit(0.1).save(tmp_path / "circuit.json")
    document = json.loads(file.read_text())
    kernel = document["kernels"][0]
    wrong = {
        "holds no circuit": [],
        "no layer 'conv9'": document | {"layer": "conv9"},
        "with weights": document | {"weights_sha256": "0" * 64},
        "'conv9': ": document | {"kernels": [kernel | {"convolution": "conv9"}]},
        "none such": document | {"kernels": [kernel | {"out_channel": 99}]},
        "twice": document | {"kernels": [kernel, kernel]},
        "Expected": document | {"kernels": [kernel | {"out_channel": -1}]},
    }
    for message, content in wrong.items():
        file.write_text(json.dumps(content))
        with pytest.raises(QueryError, match=message):
            atlas.load_circuit(file)
    for file in (tmp_path / "none.json", tmp_path):
        with pytest.raises(QueryError, match="holds no circuit"):
            atlas.load_circuit(file)


def test_pictures_of_a_unit_and_its_images(atlas):
    html = atlas["conv3"][0].top_images()._repr_html_()
    assert html.count("data:image/jpeg;base64,") == 3
    assert "dog &lt;small&gt;" in html
    whole = atlas["conv3"][0]._repr_html_()
    assert "<svg" in whole
    assert whole.count("data:image/jpeg;base64,") == 3
    assert "<svg" not in atlas["conv3"][3]._repr_html_()


def test_similarity_and_polysemanticity_show_as_what_they_are(atlas):
    html = atlas["conv3"].similarity()._repr_html_()
    assert "Similarity of 3 circuits of conv3" in html
    assert "data:image/png;base64," in html
    found = atlas["conv3"][0].polysemanticity(keep=0.5)
    assert repr(found).startswith("<Polysemanticity ")
    assert found._repr_html_().count("<tr>") == 1 + found.pairs.num_rows


def test_plots_hold_what_is_stored(atlas):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.switch_backend("agg")
    axes = atlas["conv3"][0].plot_faithfulness()
    assert {line.get_label() for line in axes.lines} == set(atlas.header.criteria)
    assert set(axes.lines[0].get_ydata()) == {0.9}
    ours = pyplot.subplots()[1]
    assert atlas["conv3"].plot_faithfulness(axes=ours) is ours
    median = atlas["conv3"].distribution()["median"].to_pylist()
    assert list(ours.lines[0].get_ydata()) == median
    pyplot.close("all")


def test_without_matplotlib_one_line_says_what_to_install(atlas, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(QueryError, match=r"'matplotlib', which is not installed"):
        atlas["conv3"].plot_faithfulness()


def test_checkpoints_tell_which_units_kept_their_circuits(atlas, tmp_path, write):
    write(tmp_path / "later", weights=b"later")
    later = Atlas.open(tmp_path / "later")
    found = atlas.compare(later, keep=0.5)
    rows = found.units().to_pylist()
    assert [(row["layer"], row["unit"]) for row in rows] == [
        *(("conv2", unit) for unit in (0, 1, 4)),
        *(("conv3", unit) for unit in (0, 1, 2)),
    ]
    # The same numbers were written, under other weights.
    assert all(row["iou"] == row["nearest_iou"] == 1 and row["kept"] for row in rows)
    assert found.layers()["kept"].to_pylist() == [3, 3]
    mine, other = (each["conv3"][1].circuit(0.5) for each in (atlas, later))
    assert mine.iou(other) == 1
    with pytest.raises(QueryError, match="different models"):
        mine | other
    html = found.drawing("conv3", 1).save(tmp_path / "two.html").read_text()
    assert html.count("data:image/svg+xml;base64,") == 2


def test_the_nearest_unit_of_the_other_atlas_is_the_one_that_shares_most(atlas):
    found = atlas.compare(atlas, keep=0.1)
    circuits = {unit: atlas["conv3"][unit].circuit(0.1) for unit in (0, 1, 2)}
    for row in found.units():
        if row["layer"] == "conv3":
            assert row["iou"] == circuits[row["unit"]].iou(circuits[row["unit"]])
            shares = {unit: circuits[row["unit"]].iou(each) for unit, each in circuits.items()}
            assert row["nearest_iou"] == max(shares.values())


def test_networks_of_other_shapes_are_no_checkpoints(atlas, tmp_path, monkeypatch):
    from tests.service import conftest

    other = conftest.Convolution("conv1", "conv1.weight", 8, 4, 1, (3, 3), 1, one_row=False)
    monkeypatch.setattr(conftest, "CONV1", other)
    write_atlas(tmp_path / "other", conftest.make_header(weights=b"other"))
    with pytest.raises(QueryError, match=r"'conv1', .* has shape \(8, 4, 1\) .* and \(8, 3, 1\)"):
        atlas.compare(Atlas.open(tmp_path / "other"))
