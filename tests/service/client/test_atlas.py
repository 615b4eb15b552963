"""What the client answers, and what it says when it cannot."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from circuit_atlas.service import Atlas
from circuit_atlas.service.circuit.kernel_table import KERNELS
from circuit_atlas.storage_schema import layer_paths, layout
from circuit_atlas.storage_schema.documents import sha256
from circuit_atlas.storage_schema.errors import CorruptError, NotAnAtlasError, QueryError
from circuit_atlas.storage_schema.template import Plan


def test_an_atlas_names_its_layers_and_counts_their_units(atlas):
    assert atlas.layers == ("conv2", "conv3")
    assert atlas.status().to_pylist() == [
        {"layer": "conv2", "planned": 4, "done": 3, "dead": 0, "failed": 0, "missing": 1},
        {"layer": "conv3", "planned": 5, "done": 3, "dead": 1, "failed": 1, "missing": 0},
    ]


@pytest.mark.parametrize("stray", ["\u00e9", "=FF", ".DS_Store", "conv 3"])
def test_what_others_left_among_the_layers_is_no_layer(tmp_path, write, stray):
    write(tmp_path)
    (tmp_path / "layers" / stray).mkdir()
    (tmp_path / "layers" / stray / "layer.json").write_text("{}")
    assert Atlas.open(tmp_path).layers == ("conv2", "conv3")


def test_a_folder_without_an_atlas_is_refused(tmp_path):
    with pytest.raises(NotAnAtlasError, match="holds no atlas"):
        Atlas.open(tmp_path)


def test_an_unknown_layer_gets_the_nearest_names(atlas):
    with pytest.raises(QueryError, match=r"no layer 'conv4': did you mean 'conv[23]'"):
        atlas.layer("conv4")


@pytest.mark.parametrize("given", [5, 0.5, b"conv3", ["conv3"]])
def test_names_that_are_no_text_are_refused_as_others_are(atlas, given):
    unit = atlas.layer("conv3").unit(0)
    similarity = atlas.layer("conv3").similarity(by_convolution=True)
    for ask in (
        lambda: atlas.layer(given),
        lambda: unit.circuit(keep=0.5, criterion=given),
        lambda: unit.projection(method=given),
        lambda: similarity.iou_of(given),
        lambda: similarity.nearest(given),
    ):
        with pytest.raises(QueryError, match=r"no|5 of conv3 has no circuit"):
            ask()


def test_units_are_found_by_number_and_by_a_directions_name(atlas):
    layer = atlas.layer("conv2")
    assert layer.unit(np.int64(1)).number == 1
    assert layer.unit("1").number == 1
    assert layer.unit("edge").number == 4
    assert layer.unit("edge").info.direction == (1.0, -1.0, 0.5, 0.0)


@pytest.mark.parametrize(
    ("which", "message"),
    [
        (5, r"'conv2' has no unit 5; units go from 0 to 4"),
        (-1, r"no unit -1"),
        ("99", r"'conv2' has no unit 99; units go from 0 to 4"),
        ("-1", r"no unit -1; units go from 0 to 4"),
        ("edgy", r"units 0 to 4 and no direction 'edgy': did you mean 'edge'\?$"),
        ("9" * 5000, "and no direction"),
        (1.0, r"not by 1\.0"),
    ],
)
def test_a_unit_that_is_not_there_gets_the_range(atlas, which, message):
    with pytest.raises(QueryError, match=message):
        atlas.layer("conv2").unit(which)


@pytest.mark.parametrize(
    ("layer", "unit", "state", "message"),
    [
        ("conv3", 3, "dead", "conv3/3 is dead: its response is the same on every image"),
        ("conv3", 4, "failed", r"conv3/4 failed \(non_finite: NaN in its response to image 1\)"),
        ("conv2", 2, "planned", "conv2/2 is not computed yet: run the same build again"),
        ("conv2", 3, "not built", "conv2/3 is not in this atlas: name it under `units`"),
    ],
)
def test_a_unit_without_a_circuit_says_why(atlas, layer, unit, state, message):
    asked = atlas.layer(layer).unit(unit)
    assert asked.state == state
    with pytest.raises(QueryError, match=message):
        asked.circuit(keep=0.1)


def test_a_dead_unit_still_has_responses_and_images(atlas):
    dead = atlas.layer("conv3").unit(3)
    assert dead.responses().num_rows == 5
    assert dead.top_images()["image"].to_pylist() == [2, 0, 3]
    assert dead.faithfulness().num_rows == 0


def test_top_images_come_best_first_with_name_label_and_place(atlas):
    top = atlas.layer("conv3").unit(0).top_images()
    assert top.slice(0, 1).to_pylist() == [
        {
            "rank": 0,
            "image": 2,
            "name": "<b>.jpg",
            "label": "dog <small>",
            "response": 10.0,
            "maximum": 1.0,
            "position_y": 1,
            "position_x": 2,
            "box_top": 0,
            "box_left": 3,
            "box_bottom": 7,
            "box_right": 9,
            "drawn": None,
        }
    ]
    assert top["name"].to_pylist() == ["<b>.jpg", "a.jpg", "d.jpg"]
    assert top["rank"].to_pylist() == [0, 1, 2]


def test_images_of_the_atlas_come_with_files_on_request(atlas):
    assert "file" not in atlas.images().column_names
    assert atlas.images()["problem"].to_pylist()[-1] == "it is cut"
    assert atlas.images(files=True)["file"].to_pylist()[0][:2] == b"\xff\xd8"


def test_faithfulness_of_a_unit_and_of_a_layer(atlas):
    layer = atlas.layer("conv3")
    own = layer.unit(1).faithfulness()
    assert own.num_rows == 3 * 2 * 3
    whole = layer.faithfulness()
    assert whole.column_names[0] == "unit"
    assert set(whole["unit"].to_pylist()) == {0, 1, 2}
    assert whole.filter(pa.compute.equal(whole["unit"], 1)).select(own.column_names) == own
    assert layer.unit(1).subfeatures().num_rows == 3
    assert layer.subfeatures().num_rows == 9
    assert layer.responses().num_rows == 20


def test_tables_go_to_pandas(atlas):
    unit = atlas.layer("conv3").unit(0)
    frame = unit.circuit(keep=0.1).kernels().to_pandas()
    assert list(frame.columns) == [column.name for column in KERNELS]
    assert unit.faithfulness().to_pandas()["pearson"].iloc[0] == 0.9


def test_a_repr_is_one_line_that_says_what_it_is(atlas):
    layer = atlas.layer("conv3")
    circuit = layer.unit(0).circuit(keep=0.1)
    texts = [repr(thing) for thing in (atlas, layer, layer.unit(0), layer.unit(4), circuit)]
    assert texts == [
        f"<Atlas {atlas.location}: toy.models:small, 2 layers, actgrad, force, magnitude>",
        "<Layer conv3 of toy.models:small: 5 units, 6 x 6 positions, 44 kernels in 3 convolutions>",
        "<Unit conv3/0 of toy.models:small: done, 44 kernels can reach it>",
        "<Unit conv3/4 of toy.models:small: failed>",
        "<Circuit conv3/0 actgrad: 4 of 44 kernels>",
    ]


def test_html_is_escaped(atlas):
    html = atlas.layer("conv3").unit(0)._repr_html_()
    assert "dog &lt;small&gt;" in html
    assert "<small>" not in html
    assert "unit" not in atlas.layer("conv3").unit(4)._repr_html_()
    for thing in (atlas, atlas.layer("conv3")):
        assert "<table>" in thing._repr_html_()
    assert "conv1" in atlas.layer("conv3").unit(0).circuit(keep=1)._repr_html_()


@pytest.mark.parametrize("left", [(), (Plan((("conv3", (0, 1, 2, 3, 4)), ("conv2", (0, 1)))),)])
def test_a_plan_that_is_gone_is_an_error_and_not_fewer_units(tmp_path, location, left):
    """None is left, or one that does not have all units that are stored."""
    folder = tmp_path / "atlas"
    shutil.copytree(location, folder)
    shutil.rmtree(folder / layout.PLANS)
    for plan in left:
        text = plan.to_json()
        path = Path(folder, layout.plan(sha256(text.encode())))
        path.parent.mkdir()
        path.write_text(text)
    atlas = Atlas.open(folder)
    for ask in (atlas.status, atlas.layer("conv2").units):
        with pytest.raises(CorruptError, match="plan"):
            ask()


def test_a_layer_that_a_plan_names_and_that_is_gone_is_an_error(tmp_path, location):
    folder = tmp_path / "atlas"
    shutil.copytree(location, folder)
    shutil.rmtree(folder / layer_paths.layer("conv2"))
    with pytest.raises(CorruptError, match=r"conv2/layer\.json is missing"):
        Atlas.open(folder).status()
