"""Which kernels a circuit holds, set algebra, counts, and a model cut down to it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from circuit_atlas.service import Atlas, Circuit
from circuit_atlas.storage_schema.errors import QueryError
from circuit_atlas.storage_schema.kernels import Convolution, KernelIndex
from circuit_atlas.storage_schema.quantise import RELATIVE_ERROR

SHAPES = {"conv1": (8, 3, 1), "conv2": (4, 4, 2), "conv3": (5, 4, 1)}


def triples(circuit: Circuit) -> set[tuple[str, int, int]]:
    rows = circuit.kernels().to_pylist()
    found = {(row["convolution"], row["out_channel"], row["in_channel"]) for row in rows}
    assert len(found) == len(rows) == len(circuit)
    return found


def best(scores: np.ndarray, count: int) -> list[int]:
    """The obvious way: sort by score, then position; what cannot reach is no candidate."""
    order = sorted(
        (p for p in range(len(scores)) if not math.isnan(scores[p])),
        key=lambda p: (-scores[p], p),
    )
    return sorted(order[:count])


@pytest.mark.parametrize("criterion", ["actgrad", "force", "magnitude"])
@pytest.mark.parametrize(("level", "keep"), list(enumerate((1.0, 0.5, 0.1))))
def test_a_kept_fraction_of_the_ladder_is_the_stored_circuit(atlas, record, criterion, level, keep):
    stored = next(c for c in record("conv3", 1).criteria if c.name == criterion)
    circuit = atlas.layer("conv3").unit(1).circuit(keep=keep, criterion=criterion)
    table = circuit.kernels()
    assert table["position"].to_pylist() == np.flatnonzero(stored.masks[level]).tolist()
    run = stored.scores[level if criterion == "force" else 0]
    assert table["score"].to_pylist() == run[stored.masks[level]].tolist()


@pytest.mark.parametrize("count", [1, 2, 7, 21, 43, 44])
def test_any_other_number_is_the_top_of_the_stored_score(atlas, record, count):
    scores = record("conv3", 2).criteria[0].scores[0]
    circuit = atlas.layer("conv3").unit(2).circuit(kernels=count)
    assert len(circuit) == count
    assert circuit.kernels()["position"].to_pylist() == best(scores, count)


def test_a_fraction_between_the_rungs_keeps_the_rounded_number(atlas):
    unit = atlas.layer("conv3").unit(0)
    assert len(unit.circuit(keep=0.3)) == round(0.3 * 44)
    assert len(unit.circuit(keep=1e-6)) == 1


def test_kernels_that_cannot_reach_the_unit_are_never_chosen(atlas):
    unit = atlas.layer("conv2").unit(0)
    whole = unit.circuit(keep=1)
    assert len(whole) == unit.reachable_kernels == 12 + 16
    assert {out for name, out, _ in triples(whole) if name == "conv1"} == {0, 1, 2, 3}
    assert whole.by_convolution().to_pylist() == [
        {"convolution": "conv1", "depth": 1, "kernels": 12, "reachable_kernels": 12},
        {"convolution": "conv2", "depth": 2, "kernels": 16, "reachable_kernels": 16},
    ]


def test_input_channels_count_over_all_groups(atlas):
    inputs = {
        (out // 2, i)
        for name, out, i in triples(atlas.layer("conv2").unit("edge").circuit(keep=1))
        if name == "conv2"
    }
    assert inputs == {(0, i) for i in range(4)} | {(1, i) for i in range(4, 8)}


def test_the_first_criterion_is_the_default(atlas):
    unit = atlas.layer("conv3").unit(0)
    assert unit.circuit(keep=0.1) == unit.circuit(keep=0.1, criterion="actgrad")
    assert unit.circuit(keep=0.5) != unit.circuit(keep=0.5, criterion="magnitude")


@pytest.mark.parametrize("images", [[2], [3, 0], [0, 2, 3], [3, 0, 3]])
def test_a_set_of_images_has_the_circuit_of_their_mean_score(atlas, record, images):
    ranks = {2: 0, 0: 1, 3: 2}
    given = record("conv3", 1).criteria[0].image_scores
    mean = np.mean([given[ranks[i]].astype(np.float64) for i in sorted(set(images))], axis=0)
    circuit = atlas.layer("conv3").unit(1).circuit(kernels=9, images=images)
    table = circuit.kernels()
    assert table.num_rows == 9
    # Stored scores are quantised; where that parts two equal means, either kernel is right.
    np.testing.assert_allclose(
        table["score"].to_numpy(), mean[table["position"].to_numpy()], rtol=2 * RELATIVE_ERROR
    )
    ninth = np.sort(mean)[-9]
    assert mean[table["position"].to_numpy()].min() >= ninth * (1 - 2 * RELATIVE_ERROR)


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ({}, "give either keep, .* or kernels"),
        ({"keep": 0.1, "kernels": 3}, "give either keep"),
        ({"keep": 0.0}, r"keep=0\.0 is outside \(0, 1\]"),
        ({"keep": 1.5}, r"keep=1\.5 is outside"),
        ({"keep": math.nan}, "keep=nan is outside"),
        ({"keep": "a"}, "keep='a' is no number"),
        ({"kernels": 0}, "kernels=0 is out of range: 44 kernels can reach"),
        ({"kernels": 45}, "give 1 to 44"),
        ({"kernels": 2.5}, "kernels=2.5 is no whole number"),
        ({"keep": 0.1, "criterion": "actgrd"}, "no criterion 'actgrd': did you mean 'actgrad'"),
        ({"keep": 0.3, "criterion": "force"}, r"1 \(44\), 0\.5 \(22\), 0\.1 \(4\)"),
        ({"kernels": 5, "criterion": "force"}, "only its stored circuits"),
        ({"keep": 0.1, "images": [0, 1, 4]}, "no scores of image 1, 4: .* top images, 2, 0, 3"),
        ({"keep": 0.1, "images": []}, "no score of no images"),
        ({"keep": 0.1, "images": ["a.jpg"]}, "by their ids, whole numbers, not by 'a.jpg'"),
        ({"keep": 0.1, "images": 3}, r"images=3 is no list of ids: give one such as \[0, 1\]"),
        (
            {"keep": 0.1, "images": [0], "criterion": "force"},
            "'force' has no scores of single images: there is only 'actgrad'",
        ),
    ],
)
def test_a_question_without_an_answer_says_what_can_be_asked(atlas, question, message):
    with pytest.raises(QueryError, match=message) as caught:
        atlas.layer("conv3").unit(0).circuit(**question)
    assert "\n" not in str(caught.value)


def test_force_answers_for_a_number_that_a_rung_keeps(atlas):
    unit = atlas.layer("conv3").unit(0)
    assert unit.circuit(kernels=22, criterion="force") == unit.circuit(keep=0.5, criterion="force")


@pytest.fixture
def pairs(atlas):
    """Pairs within a unit, across units of a layer with and without rows of their own, and across
    layers."""
    conv3, conv2 = atlas.layer("conv3"), atlas.layer("conv2")
    return [
        (conv3.unit(0).circuit(keep=0.5), conv3.unit(0).circuit(keep=0.1)),
        (conv3.unit(0).circuit(keep=0.5), conv3.unit(1).circuit(keep=0.5)),
        (conv2.unit(0).circuit(keep=0.5), conv2.unit("edge").circuit(keep=0.5)),
        (conv3.unit(2).circuit(keep=0.5), conv2.unit(1).circuit(keep=0.5)),
        (conv2.unit(1).circuit(keep=0.5), conv3.unit(2).circuit(keep=0.5)),
    ]


def test_algebra_is_that_of_sets_of_named_kernels(pairs):
    for left, right in pairs:
        a, b = triples(left), triples(right)
        assert triples(left | right) == triples(left.union(right)) == a | b
        assert triples(left & right) == triples(left.intersection(right)) == a & b
        assert triples(left - right) == triples(left.difference(right)) == a - b
        assert left.iou(right) == len(a & b) / len(a | b)
        assert (left | right).contains(left)
        assert left.contains(right) == (b <= a)
        assert (left == right) == (a == b)
        assert (left | right) == (right | left)
        assert hash(left | right) == hash(right | left)
        for name, inputs in (("conv1", 3), ("conv2", 8), ("conv3", 4)):
            for out in range(9):
                for channel in range(inputs + 1):
                    kernel = (name, out, channel)
                    assert (kernel in (left | right)) == (kernel in a | b)


@pytest.mark.parametrize(
    "other", [("conv1", 0), 3, None, ("conv1", "a", 0), ("conv1", 0.0, 0), "abc", (0, 0, 0)]
)
def test_a_circuit_holds_nothing_but_kernels(atlas, other):
    circuit = atlas.layer("conv3").unit(0).circuit(keep=1)
    assert ("conv1", np.int64(0), 0) in circuit
    assert other not in circuit


def test_units_of_a_layer_do_not_share_rows_of_their_own(atlas):
    layer = atlas.layer("conv3")
    both = triples(layer.unit(0).circuit(keep=1) & layer.unit(1).circuit(keep=1))
    assert {name for name, _, _ in both} == {"conv1", "conv2"}


def test_iou_and_counts_a_convolution(pairs):
    for left, right in pairs:
        a, b = triples(left), triples(right)
        rows = left.iou_by_convolution(right).to_pylist()
        assert {row["convolution"] for row in rows} >= {name for name, _, _ in a | b}
        for row in rows:
            one = {kernel for kernel in a if kernel[0] == row["convolution"]}
            two = {kernel for kernel in b if kernel[0] == row["convolution"]}
            assert (row["shared"], row["either"]) == (len(one & two), len(one | two))
            assert row["iou"] == (len(one & two) / len(one | two) if one | two else None)
        for row in (left | right).by_convolution().to_pylist():
            assert row["kernels"] == sum(name == row["convolution"] for name, _, _ in a | b)
            assert row["kernels"] <= row["reachable_kernels"]


def test_the_total_of_a_combination_is_what_can_reach_either_unit(atlas):
    one, two = atlas.layer("conv3").unit(2), atlas.layer("conv2").unit(1)
    union = two.circuit(keep=0.5) | one.circuit(keep=0.1)
    reach = triples(one.circuit(keep=1)) | triples(two.circuit(keep=1))
    for row in union.by_convolution().to_pylist():
        assert row["reachable_kernels"] == sum(name == row["convolution"] for name, _, _ in reach)


def test_layers_may_list_their_convolutions_in_any_order(atlas):
    """Two layers' axes need not agree on the order of what they share."""
    conv1, conv2 = layer_convolutions(atlas)
    ids = np.asarray([0, 5, 20, 25, 39])
    scores = np.arange(5, dtype=np.float32)

    def circuit(*convolutions: Convolution) -> Circuit:
        index = KernelIndex(convolutions)
        first = np.arange(convolutions[0].size)
        return Circuit("c", "toy", "0" * 64, index, ids, first, scores, ids)

    forward, backward = circuit(conv1, conv2), circuit(conv2, conv1)
    a, b = triples(forward), triples(backward)
    assert triples(backward & forward) == triples(forward & backward) == a & b
    assert triples(backward | forward) == a | b
    own = {tuple(row.values())[:3]: row["score"] for row in backward.kernels().to_pylist()}
    for row in (backward | forward).kernels().to_pylist():
        assert row["score"] == own.get(tuple(row.values())[:3])
    assert (backward | forward).by_convolution()["reachable_kernels"].to_pylist() == [24, 16]


def layer_convolutions(atlas: Atlas) -> tuple[Convolution, ...]:
    return atlas.layer("conv2").index.index.convolutions


def test_a_combination_keeps_the_left_scores(atlas):
    layer = atlas.layer("conv3")
    left, right = layer.unit(0).circuit(keep=0.5), layer.unit(1).circuit(keep=0.5)
    known = {
        (row["convolution"], row["out_channel"], row["in_channel"]): row
        for row in left.kernels().to_pylist()
    }
    for row in (left | right).kernels().to_pylist():
        mine = known.get((row["convolution"], row["out_channel"], row["in_channel"]))
        if mine is None:
            assert row["score"] is None
            assert row["position"] is None
        else:
            assert row == mine


def test_empty_circuits(atlas):
    circuit = atlas.layer("conv3").unit(0).circuit(keep=0.1)
    nothing = circuit - circuit
    assert len(nothing) == 0
    assert nothing.kernels().num_rows == 0
    assert math.isnan(nothing.iou(nothing))
    assert nothing.iou(circuit) == 0
    assert circuit.contains(nothing)


def test_circuits_of_other_weights_do_not_mix(atlas, write, tmp_path):
    write(tmp_path / "other", model="toy.models:other", weights=b"others")
    other = Atlas.open(tmp_path / "other").layer("conv3").unit(0).circuit(keep=0.1)
    mine = atlas.layer("conv3").unit(0).circuit(keep=0.1)
    for combine in (mine.union, mine.intersection, mine.difference, mine.contains):
        with pytest.raises(QueryError, match=r"different models .*toy\.models:other"):
            combine(other)
    assert mine != other
    with pytest.raises(QueryError, match="not with a list"):
        mine | [1, 2]


@pytest.fixture
def network():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    model = torch.nn.Sequential()
    model.add_module("conv1", torch.nn.Conv2d(3, 8, 3))
    model.add_module("relu", torch.nn.ReLU())
    model.add_module("conv2", torch.nn.Conv2d(8, 4, 3, groups=2))
    model.add_module("conv3", torch.nn.Conv2d(4, 5, 1))
    model.add_module("after", torch.nn.Conv2d(5, 2, 1))
    return model


def test_apply_to_leaves_the_circuit_alone_in_a_copy(atlas, network):
    before = {name: value.clone() for name, value in network.state_dict().items()}
    circuit = atlas.layer("conv3").unit(1).circuit(keep=0.5)
    cut = circuit.apply_to(network)
    kept = triples(circuit)
    for name, value in network.state_dict().items():
        assert value.equal(before[name]), "the model itself has changed"
    for name, (outs, width, groups) in SHAPES.items():
        weight, full = cut.get_parameter(f"{name}.weight"), before[f"{name}.weight"]
        for out in range(outs):
            first = out // (outs // groups) * width
            for i in range(width):
                if (name, out, first + i) in kept:
                    assert weight[out, i].equal(full[out, i])
                else:
                    assert not weight[out, i].any()
        assert cut.get_parameter(f"{name}.bias").equal(before[f"{name}.bias"])
    assert cut.after.weight.equal(before["after.weight"])


def test_a_whole_circuit_computes_what_the_model_does_for_its_unit(atlas, network):
    torch = pytest.importorskip("torch")
    images = torch.randn(2, 3, 12, 12)
    cut = atlas.layer("conv3").unit(2).circuit(keep=1).apply_to(network)
    with torch.no_grad():
        whole, circuit = network[:4](images), cut[:4](images)
    assert circuit[:, 2].equal(whole[:, 2])
    assert not circuit[:, 1].equal(whole[:, 1])


def test_a_model_that_does_not_fit_is_refused(atlas, network):
    torch = pytest.importorskip("torch")
    circuit = atlas.layer("conv3").unit(0).circuit(keep=0.5)
    with pytest.raises(QueryError, match=r"give a torch\.nn\.Module"):
        circuit.apply_to("squeezenet1_1")
    with pytest.raises(QueryError, match=r"no 'conv1\.weight'"):
        circuit.apply_to(torch.nn.Sequential(network))
    network.conv2 = torch.nn.Conv2d(8, 4, 3)
    with pytest.raises(QueryError, match=r"shape \(4, 8, 3, 3\) and .* \(4, 4, 3, 3\)"):
        circuit.apply_to(network)
    network.conv2 = torch.nn.Conv2d(8, 4, 3, groups=2)
    network.conv3.weight = network.conv2.weight
    with pytest.raises(QueryError, match=r"shape|share one weight"):
        circuit.apply_to(network)


def test_weights_that_are_computed_or_shared_cannot_be_cut(network):
    pytest.importorskip("torch")
    from dataclasses import replace

    from circuit_atlas.service.circuit.ablation import keep_only

    conv1 = Convolution("conv1", "conv1.weight", 8, 3, 1, (3, 3), 1, one_row=False)
    all_of_it = np.ones((8, 3), dtype=bool)
    with pytest.raises(QueryError, match="weight of 'conv1' is computed"):
        keep_only(network, [replace(conv1, weight=None)], [all_of_it])
    network.add_module("twin", network.conv1)
    twin = replace(conv1, name="twin", weight="twin.weight")
    with pytest.raises(QueryError, match="'conv1' and 'twin' share one weight"):
        keep_only(network, [conv1, twin], [all_of_it, all_of_it])
