"""What a diagram holds of planted circuits: paths, counts, scores, signs, weights, levels."""

from __future__ import annotations

import base64
import itertools
import json
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from circuit_atlas.service import Atlas, Circuit
from circuit_atlas.service.diagram.data import Content
from circuit_atlas.service.diagram.titles import titled
from circuit_atlas.storage_schema.errors import CorruptError, QueryError
from circuit_atlas.storage_schema.quantise import RELATIVE_ERROR
from circuit_atlas.storage_schema.visualizations import FeatureWriter
from tests.service.diagram import wirings
from tests.service.diagram.oracle import Kernel, on_path, sources
from tests.service.diagram.planted import Planted, conv, plant, unit_of, weights_of
from tests.storage_schema.visualization_records import picture_record

UNIT = 1


def kernels(circuit: Circuit) -> dict[Kernel, float]:
    """The kernels of a circuit and their scores."""
    names = [c.name for c in circuit.index.convolutions]
    return {
        (names.index(row["convolution"]), row["out_channel"], row["in_channel"]): row["score"]
        for row in circuit.kernels().to_pylist()
    }


def edges(content: Content, planted: Planted, level: int = 0) -> dict[Kernel, int]:
    """The drawn kernels of a level, and each one's place among the edges."""
    names = [c.name for c in planted.convolutions]
    found = {}
    for edge, end in enumerate(content.edges.end):
        if content.edges.levels[edge] >> level & 1:
            band = content.bands[content.nodes.band[end]]
            key = (names.index(band.name), content.nodes.channel[end], content.edges.channel[edge])
            assert key not in found
            found[key] = edge
    return found


def walk_back(content: Content, point: int) -> set[tuple[str, int]]:
    """The channels that a point is fed by, over bends and joints."""
    nodes = len(content.nodes.band)
    if point < nodes:
        band = content.bands[content.nodes.band[point]]
        if band.kind in ("image", "channel"):
            return {("" if band.kind == "image" else band.name, content.nodes.channel[point])}
    found = set()
    for start, end in zip(content.wires.start, content.wires.end, strict=True):
        if end == point:
            found |= walk_back(content, start)
    return found


@pytest.mark.parametrize("kind", wirings.ALL)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_exactly_the_kernels_on_a_path_are_drawn(tmp_path, kind, seed):
    planted = wirings.ALL[kind](seed)
    unit = unit_of(tmp_path / "atlas", planted, UNIT)
    for keep in (1, 0.5, 0.25):
        circuit = unit.circuit(keep=keep)
        content = circuit.diagram().content
        expected = on_path(planted, kernels(circuit), {UNIT})
        assert edges(content, planted).keys() == expected
        assert content.counts.drawn == content.counts.on_path == len(expected)
        assert content.counts.circuit == len(circuit)
        assert content.counts.reachable == unit.reachable_kernels
        assert content.counts.crossings_after <= content.counts.crossings_before


@pytest.mark.parametrize("kind", wirings.ALL)
def test_lines_start_where_the_wiring_says(tmp_path, kind):
    planted = wirings.ALL[kind]()
    content = unit_of(tmp_path / "atlas", planted, UNIT).circuit(keep=1).diagram().content
    names = ["", *(c.name for c in planted.convolutions)]
    for kernel, edge in edges(content, planted).items():
        feeding = {(names[s + 1], c) for s, c in sources(planted, kernel[0], kernel[2])}
        assert walk_back(content, content.edges.source[edge]) == feeding
        assert walk_back(content, content.edges.start[edge]) == feeding


def test_every_line_leads_to_the_next_column_and_every_column_is_right_of_the_last(tmp_path):
    for kind, make in wirings.ALL.items():
        content = unit_of(tmp_path / kind, make(), UNIT).circuit(keep=1).diagram().content
        x = [*content.nodes.x, *content.bends.x]
        columns = sorted(set(x))
        starts = [*content.edges.start, *content.wires.start]
        ends = [*content.edges.end, *content.wires.end]
        for start, end in zip(starts, ends, strict=True):
            assert columns.index(x[end]) == columns.index(x[start]) + 1
        assert max(x) < content.width
        assert max([*content.nodes.y, *content.bends.y]) < content.height
        depths = {(b.x, b.depth) for b in content.bands if b.kind == "channel"}
        for (x0, depth0), (x1, depth1) in itertools.combinations(depths, 2):
            assert (x0 < x1) == (depth0 < depth1)
        places = Counter(zip(content.nodes.x, content.nodes.y, strict=True))
        assert max(places.values()) == 1


def kinds(content: Content) -> Counter[str]:
    return Counter(content.bands[band].kind for band in content.nodes.band)


def test_residual_sums_build_on_one_another(tmp_path):
    content = unit_of(tmp_path / "a", wirings.residual(), UNIT).circuit(keep=1).diagram().content
    # Four sums after the first block; the unit's own after the second, and the unit.
    assert kinds(content)["sum"] == 5
    assert kinds(content)["unit"] == 1
    sums = [n for n, b in enumerate(content.nodes.band) if content.bands[b].kind == "sum"]
    into = Counter(content.wires.end)
    assert [into[node] for node in sums] == [2] * 5
    last = max(sums, key=lambda node: content.nodes.x[node])
    assert walk_back(content, last) == {("stem", UNIT), ("block1.b", UNIT), ("block2.b", UNIT)}


def test_a_gate_multiplies_and_a_mixture_takes_every_channel(tmp_path):
    content = unit_of(tmp_path / "g", wirings.gate(), UNIT).circuit(keep=1).diagram().content
    assert kinds(content)["product"] == 4
    content = unit_of(tmp_path / "m", wirings.mixed(), UNIT).circuit(keep=1).diagram().content
    assert kinds(content)["mix"] == 1
    mix = next(n for n, b in enumerate(content.nodes.band) if content.bands[b].kind == "mix")
    assert walk_back(content, mix) == {("before", c) for c in range(4)}


def test_concatenations_are_named_and_lie_side_by_side(tmp_path):
    content = unit_of(tmp_path / "f", wirings.fire(), UNIT).circuit(keep=1).diagram().content
    bands = {band.name: band for band in content.bands}
    assert bands["last"].concatenated == ("one", "three")
    assert bands["one"].x == bands["three"].x
    upper, lower = sorted((bands["one"], bands["three"]), key=lambda band: band.top)
    assert upper.bottom < lower.top
    assert [band.unit for band in content.bands] == [b.name == "last" for b in content.bands]
    content = unit_of(tmp_path / "i", wirings.image_skip(), UNIT).circuit(keep=1).diagram().content
    assert {b.name: b for b in content.bands}["last"].concatenated == ("first", "image")
    assert len(content.bends.node) == 3


def test_a_direction_ends_in_a_unit_of_several_channels(tmp_path):
    planted = wirings.directed("edge")
    circuit = unit_of(tmp_path / "a", planted, "edge").circuit(keep=1)
    content = circuit.diagram().content
    assert edges(content, planted).keys() == on_path(planted, kernels(circuit), {0, 1})
    assert content.units == ("edge",)
    unit = next(n for n, b in enumerate(content.nodes.band) if content.bands[b].kind == "unit")
    assert walk_back(content, unit) == {("last", 0), ("last", 1)}


def test_scores_shares_signs_and_weights_are_those_of_the_client(tmp_path):
    planted = wirings.plain()
    unit = unit_of(tmp_path / "atlas", planted, UNIT)
    circuit = unit.circuit(keep=0.5)
    content = circuit.diagram().content
    scored = kernels(circuit)
    reader, commit = unit.reader, unit.commit
    contribution = dict(
        zip(scored, reader.contribution(commit)[circuit.positions].tolist(), strict=True)
    )
    total = sum(scored.values())
    largest = {n: max((v for k, v in scored.items() if k[0] == n), default=0) for n in range(3)}
    values = np.frombuffer(base64.b64decode(content.weights.values), np.int8)
    stored, at = weights_of(planted), 0
    placed = {edge: kernel for kernel, edge in edges(content, planted).items()}
    for edge in range(len(content.edges.end)):
        kernel = placed[edge]
        assert content.edges.score[edge] == scored[kernel]
        assert content.edges.share[edge] == pytest.approx(scored[kernel] / total)
        assert content.edges.contribution[edge] == contribution[kernel]
        strength = math.sqrt(scored[kernel] / largest[kernel[0]])
        assert content.edges.strength[edge] == pytest.approx(strength, abs=1e-3)
        array = stored[kernel[0]]
        wanted = array[kernel[1], kernel[2] % array.shape[1]].ravel()
        scale = content.weights.scale[edge]
        assert scale == pytest.approx(np.abs(wanted).max())
        found = values[at : at + len(wanted)] * scale / 127
        np.testing.assert_allclose(found, wanted, atol=scale / 254 * 1.001)
        at += len(wanted)
    assert at == len(values)
    names = [c.name for c in planted.convolutions]
    for node, band in enumerate(content.nodes.band):
        channel = content.nodes.channel[node]
        if content.bands[band].kind == "image":
            own = [k for k in scored if k[0] == 0 and k[2] == channel]
        else:
            own = [k for k in scored if k[:2] == (names.index(content.bands[band].name), channel)]
        assert content.nodes.score[node] == pytest.approx(sum(scored[k] for k in own))
        assert content.nodes.share[node] == pytest.approx(sum(scored[k] for k in own) / total)
        assert content.nodes.contribution[node] == pytest.approx(sum(contribution[k] for k in own))


@pytest.mark.parametrize("images", [None, [2, 0]])
@pytest.mark.parametrize("kind", ["plain", "residual"])
def test_the_slider_goes_through_the_ladder(tmp_path, kind, images):
    planted = wirings.ALL[kind]()
    unit = unit_of(tmp_path / "atlas", planted, UNIT)
    content = unit.circuit(keep=0.5, images=images).diagram().content
    assert [level.fraction for level in content.levels] == [0.5, 0.25, 0.1]
    for number, level in enumerate(content.levels):
        circuit = unit.circuit(keep=level.fraction, images=images)
        expected = on_path(planted, kernels(circuit), {UNIT})
        assert edges(content, planted, number).keys() == expected
        assert (level.kernels, level.on_path, level.drawn) == (
            len(circuit),
            len(expected),
            len(expected),
        )
        shown = {n for n, bits in enumerate(content.nodes.levels) if bits >> number & 1}
        held = edges(content, planted, number).values()
        ends = {content.edges.end[e] for e in held} | {content.edges.source[e] for e in held}
        assert ends <= shown
        wires = range(len(content.wires.end))
        on = [w for w in wires if content.wires.levels[w] >> number & 1]
        before = {}
        for wire in on:
            before.setdefault(content.wires.end[wire], []).append(content.wires.start[wire])
        # No line that is drawn begins in the air: it hangs together with its source.
        for edge in held:
            point = content.edges.start[edge]
            while point != content.edges.source[edge]:
                (point,) = before[point]
        starts = {content.edges.start[edge] for edge in held}
        starts |= {content.wires.start[wire] for wire in on}
        for wire in on:
            assert content.wires.end[wire] in starts | shown
            assert content.wires.start[wire] in before.keys() | shown


def test_circuits_that_are_not_nested_have_each_rung_whole(tmp_path):
    planted = replace(wirings.plain(), criteria=("actgrad", "force"))
    unit = unit_of(tmp_path / "atlas", planted, UNIT)
    content = unit.circuit(keep=0.5, criterion="force").diagram().content
    for number, level in enumerate(content.levels):
        circuit = unit.circuit(keep=level.fraction, criterion="force")
        expected = on_path(planted, kernels(circuit), {UNIT})
        assert edges(content, planted, number).keys() == expected


@pytest.mark.parametrize("kind", wirings.ALL)
@pytest.mark.parametrize("most", [1, 3, 5, 9, 20])
def test_no_more_are_drawn_than_asked_for_and_all_on_a_path(tmp_path, kind, most):
    planted = wirings.ALL[kind]()
    circuit = unit_of(tmp_path / "atlas", planted, UNIT).circuit(keep=1)
    content = circuit.diagram(edges=most).content
    drawn = set(edges(content, planted))
    assert len(drawn) == content.counts.drawn <= most
    assert on_path(planted, drawn, {UNIT}) == drawn
    # The fewest kernels from the image to the unit.
    shortest = {"plain": 3, "fire": 3, "residual": 1, "gate": 2, "image_skip": 1, "mixed": 2}[kind]
    assert bool(drawn) == (most >= shortest)
    assert content.note.startswith("Every path") == (most < shortest)


@pytest.mark.parametrize("most", [2, 3, 4, 7, 16])
def test_a_path_is_drawn_where_the_kernel_that_joins_it_is_the_last(tmp_path, most):
    """Every path needs the weakest kernel of all, which joins many more than may be drawn."""
    convolutions = (conv("a", 4, 3, 1), conv("b", 4, 4, 2), conv("c", 1, 4, 3, one_row=True))
    stretches = tuple((n, 0, width, n - 1, 0, "alone") for n, width in enumerate((3, 4, 4, 1)))
    scores = np.arange(12 + 16 + 4, 0, -1, dtype=np.float32)
    scores[[28, 29, 30]] = 0.001  # of the last convolution, only the weakest is in the circuit
    planted = Planted(convolutions, stretches, {0: scores})
    content = unit_of(tmp_path / "atlas", planted).circuit(kernels=29).diagram(edges=most).content
    assert content.counts.on_path == 12 + 4 + 1
    found = set(edges(content, planted))
    assert on_path(planted, found, {0}) == found
    if most < 3:
        assert not found
        assert content.note.startswith("Every path")
    else:
        assert 3 <= len(found) <= most
        assert content.note == ""


def test_a_circuit_without_a_path_says_so(tmp_path):
    planted = wirings.plain()
    circuit = unit_of(tmp_path / "atlas", planted, UNIT).circuit(kernels=1)
    diagram = circuit.diagram()
    assert diagram.content.note.startswith("No path from the image to the unit is left")
    assert diagram.content.counts.drawn == diagram.content.counts.on_path == 0
    assert "No path from the image" in diagram.figure().svg
    assert "No path from the image" in diagram.html()


def test_combined_circuits_are_drawn(tmp_path):
    planted = wirings.fire()
    layer = plant(tmp_path / "atlas", planted).layer("target")
    a, b = layer.unit(0).circuit(keep=0.5), layer.unit(1).circuit(keep=0.5)
    content = (a | b).diagram().content
    assert content.units == ("0", "1")
    assert len(content.levels) == 1
    union = kernels(a | b)
    assert edges(content, planted).keys() == on_path(planted, union, {0, 1})
    # By the left unit's score, also what the right one brought, unless the left is out of reach.
    by_left, by_right = (kernels(layer.unit(n).circuit(keep=1)) for n in (0, 1))
    for kernel, edge in edges(content, planted).items():
        assert content.edges.contribution[edge] is not None
        assert content.edges.score[edge] == by_left.get(kernel, by_right.get(kernel))
    whole = sum(by_left.get(kernel, by_right.get(kernel)) for kernel in union)
    for edge, share in enumerate(content.edges.share):
        assert share == pytest.approx(content.edges.score[edge] / whole)
    c = layer.unit(0).circuit(keep=0.25)
    for combined in (a & c, a - c, c | a):
        content = combined.diagram().content
        assert edges(content, planted).keys() == on_path(planted, kernels(combined), {0})


def test_two_circuits_over_one_another_tell_what_each_has_alone(tmp_path):
    planted = wirings.fire()
    unit = unit_of(tmp_path / "atlas", planted, UNIT)
    left, right = unit.circuit(keep=0.5), unit.circuit(keep=0.5, images=[2])
    content = left.diagram(against=right).content
    assert content.sides == (titled(left), titled(right))
    a, b = kernels(left), kernels(right)
    assert edges(content, planted).keys() == on_path(planted, a.keys() | b.keys(), {UNIT})
    for kernel, edge in edges(content, planted).items():
        side = 0 if kernel in a and kernel in b else 1 if kernel in a else 2
        assert content.edges.side[edge] == side
        score = a[kernel] if kernel in a else b[kernel]
        assert content.edges.score[edge] == pytest.approx(score, rel=1e-6)
        other = content.edges.other[edge]
        assert (other is None) == (side != 0)
        if other is not None:
            assert other == pytest.approx(b[kernel], rel=2 * RELATIVE_ERROR)
    for number, level in enumerate(content.levels[1:], 1):
        both = kernels(unit.circuit(keep=level.fraction)).keys()
        both |= kernels(unit.circuit(keep=level.fraction, images=[2])).keys()
        assert edges(content, planted, number).keys() == on_path(planted, both, {UNIT})


def test_pictures_are_where_channels_are_largest(tmp_path):
    planted = wirings.plain()
    unit = unit_of(tmp_path / "atlas", planted, UNIT)
    circuit = unit.circuit(keep=1)
    content = circuit.diagram().content
    table = unit.reader.channels("target").to_pylist()
    boxes = ("image", "box_top", "box_left", "box_bottom", "box_right")
    for node, band in enumerate(content.nodes.band):
        name, channel = content.bands[band].name, content.nodes.channel[node]
        rows = [r for r in table if (r["convolution"], r["channel"]) == (name, channel)]
        if content.bands[band].unit:
            rows = unit.top_images().to_pylist()
        expected = [tuple(row[b] for b in boxes) for row in rows]
        assert content.nodes.crops[node] == ([] if name == "image" else expected)
    assert all(not crops for crops in circuit.diagram(node_images=False).content.nodes.crops)
    assert dict(content.images) == {n: f"thing <{n}>" for n in range(4)}


@pytest.mark.parametrize("same", [True, False])
def test_a_picture_of_another_atlas_is_never_shown_as_one_of_this(tmp_path, location, write, same):
    write(tmp_path / "other", images=b"images" if same else b"others")
    other = Atlas.open(tmp_path / "other")
    record = picture_record("conv3", 1, model=other.header.model, height=32, width=32)
    FeatureWriter(other.reader.objects).commit(record, b"a picture")
    here = Atlas.open(location).layer("conv3").unit(0).circuit(keep=1)
    diagram = here.diagram(against=other.layer("conv3").unit(1).circuit(keep=1))
    nodes, bands = diagram.content.nodes, diagram.content.bands
    crops = {
        (bands[band].name, channel): crops
        for band, channel, crops in zip(nodes.band, nodes.channel, nodes.crops, strict=True)
    }
    # Images go by their ids in the first atlas; where the other has others, what the first says of
    # the channel is left.
    assert [crop[0] for crop in crops["conv3", 0]] == [2, 0, 3]
    assert [crop[0] for crop in crops["conv3", 1]] == ([2, 0, 3] if same else [1, 2, 3])
    # So do feature visualizations; this one lies in the other.
    assert set(nodes.feature) == {""}
    assert "<svg" in diagram.figure().svg


def test_json_is_read_back_as_it_was(tmp_path):
    content = unit_of(tmp_path / "a", wirings.residual(), UNIT).circuit(keep=1).diagram().content
    text = content.to_json()
    assert Content.from_json(text).to_json() == text
    assert "\n" not in text
    raw = json.loads(text)
    for spoiled in ({**raw, "version": 2}, {**raw, "more": 1}, {"version": 3}, []):
        with pytest.raises(CorruptError, match="no drawing of a circuit"):
            Content.from_json(json.dumps(spoiled))
    with pytest.raises(ValueError, match="edges, and 1 are told of"):
        replace(content, counts=replace(content.counts, drawn=1))
    with pytest.raises(ValueError, match=r"edges\.end names something outside"):
        replace(content, edges=replace(content.edges, end=[999] * len(content.edges.end)))


@pytest.mark.parametrize("most", [0, 20_001, 1.5, "all"])
def test_the_number_of_kernels_is_in_bounds(atlas, most):
    circuit = atlas.layer("conv3").unit(0).circuit(keep=0.5)
    with pytest.raises(QueryError, match=r"edges=.*(give 1 to 20000|no whole number)"):
        circuit.diagram(edges=most)


def test_a_circuit_made_by_hand_has_no_diagram(atlas):
    circuit = replace(atlas.layer("conv3").unit(0).circuit(keep=0.5), origins=())
    with pytest.raises(QueryError, match="made by hand"):
        circuit.diagram()
    with pytest.raises(QueryError, match="combines with a circuit"):
        atlas.layer("conv3").unit(0).circuit(keep=0.5).diagram(against="another")


def test_circuits_of_several_layers_end_at_each(atlas):
    a = atlas.layer("conv3").unit(0).circuit(keep=1)
    b = atlas.layer("conv2").unit("edge").circuit(keep=1)
    for content in ((a | b).diagram().content, a.diagram(against=b).content):
        assert content.layers == ("conv3", "conv2")
        assert content.units == ("0", "edge")
        ends = {(band.kind, band.name) for band in content.bands if band.kind == "unit"}
        assert ends == {("unit", "conv2/edge")}
