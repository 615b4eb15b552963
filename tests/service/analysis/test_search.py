"""Which units respond to an image, and what has a name like a text."""

from __future__ import annotations

import numpy as np
import pytest

from circuit_atlas.service import Atlas
from circuit_atlas.storage_schema.errors import QueryError
from circuit_atlas.storage_schema.labels import store
from tests.service.analysis.planted import SIZE, Planted, plant
from tests.service.diagram import planted as diagram_planted
from tests.service.diagram import wirings

# A row a unit, a column an image; the last image is held out, the first three are top images.
RESPONSES = {
    0: (10.0, 5.0, 1.0, 20.0),
    1: (8.0, 7.9, 1.0, 2.0),
    3: (8.0, 4.0, 3.0, 2.0),
    4: (-1.0, -2.0, -3.0, -4.0),
    5: (0.0, 0.0, 0.0, 0.0),
}


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    scores = np.ones((1, SIZE), np.float32)
    tops = np.ones((3, SIZE), np.float32)
    units = {
        n: Planted({"actgrad": scores}, {"actgrad": tops}, responses=values)
        for n, values in RESPONSES.items()
    }
    labels = ["tabby cat", "espresso", "scatter plot", None]
    return plant(tmp_path_factory.mktemp("planted") / "atlas", units, labels=labels, dead=[2])


def test_units_come_by_rank_and_then_by_share(planted):
    rows = planted.responding(1).to_pylist()
    assert [row["unit"] for row in rows] == [2, 5, 1, 3, 4, 0]
    found = {row["unit"]: row for row in rows}
    # Counted by hand: how many of the unit's four images have a larger response.
    assert {n: found[n]["rank"] for n in found} == {2: 0, 5: 0, 1: 1, 3: 1, 4: 1, 0: 2}
    assert {n: found[n]["share"] for n in found} == {
        2: 1.0,
        5: None,  # its largest response is zero
        1: 7.9 / 8.0,
        3: 0.5,
        4: None,  # its largest response is below zero
        0: 0.25,
    }
    assert found[1] == {
        "layer": "top",
        "unit": 1,
        "name": "1",
        "unit_label": None,
        "rank": 1,
        "top_rank": 1,
        "response": 7.9,
        "share": 7.9 / 8.0,
        "maximum": 3.95,
        "position_y": 1,
        "position_x": 2,
        "box_top": 1,
        "box_left": 0,
        "box_bottom": 6,
        "box_right": 5,
    }
    assert found[2]["top_rank"] is None


def test_a_held_out_image_has_a_rank_and_none_among_the_top_images(planted):
    rows = planted.responding(3, layer="top", limit=3).to_pylist()
    assert [(row["unit"], row["rank"], row["top_rank"]) for row in rows] == [
        (0, 0, None),
        (2, 0, None),
        (5, 0, None),
    ]


def test_the_best_of_blocks_are_the_best_of_all(planted, monkeypatch):
    whole = planted.responding(1)
    monkeypatch.setattr("circuit_atlas.service.analysis.responding._ROWS", 1)
    assert planted.responding(1) == whole
    assert planted.responding(1, limit=2) == whole.slice(0, 2)


def test_all_layers_are_asked_or_one(atlas):
    assert set(atlas.responding(2)["layer"].to_pylist()) == {"conv2", "conv3"}
    rows = atlas.responding(2, layer="conv2").to_pylist()
    assert {row["name"] for row in rows} == {"0", "1", "edge"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image": 6}, "no image 6: its images are 0 to 5"),
        ({"image": -1}, "no image -1"),
        ({"image": "a.jpg"}, "image='a.jpg' is no whole number"),
        ({"image": 5}, r"image 5 \(cut.jpg\) was left out: it is cut"),
        ({"image": 0, "layer": "conv4"}, "no layer 'conv4': did you mean"),
        ({"image": 0, "limit": 0}, "limit=0 is too small"),
    ],
)
def test_images_that_cannot_be_asked_for(atlas, arguments, message):
    with pytest.raises(QueryError, match=message):
        atlas.responding(**arguments)


def _found(atlas, text, **options):
    return [(row["kind"], row["text"]) for row in atlas.search(text, **options).to_pylist()]


def test_search_finds_layers_units_directions_labels_and_images(atlas):
    assert atlas.search("conv2").to_pylist()[0] == {
        "kind": "layer",
        "text": "conv2",
        "layer": "conv2",
        "unit": None,
        "image": None,
        "count": 5,
    }
    assert _found(atlas, "CONV") == [("layer", "conv2"), ("layer", "conv3")]
    assert _found(atlas, "edg") == [("direction", "conv2/edge")]
    # Unit 3 of conv2 was not built, and unit 4 of conv3 failed.
    assert _found(atlas, "3") == [("unit", "conv3/3"), ("layer", "conv3")]
    assert _found(atlas, "unit 3") == [("unit", "conv3/3")]
    assert _found(atlas, "Unit 0") == [("unit", "conv2/0"), ("unit", "conv3/0")]
    assert _found(atlas, "conv3/0") == _found(atlas, " conv3  0 ") == [("unit", "conv3/0")]
    assert _found(atlas, "conv3/4") == []
    assert _found(atlas, "b.jpg") == [("image", "b.jpg"), ("image", "<b>.jpg")][:1]
    rows = atlas.search("dog").to_pylist()
    assert [(row["kind"], row["text"], row["count"]) for row in rows] == [
        ("label", "dog", 1),
        ("label", "dog <small>", 1),
    ]
    assert atlas.search("a.jpg").to_pylist()[0]["image"] == 0


def test_a_layer_is_found_by_several_parts_of_its_name(tmp_path):
    planted = diagram_planted.plant(tmp_path / "atlas", wirings.directed("edge"))
    assert _found(planted, "get tar") == [("layer", "target")]
    assert _found(planted, "get other") == []


def test_the_same_text_comes_before_its_start_and_a_words_before_a_part(planted):
    assert _found(planted, "cat") == [("label", "tabby cat"), ("label", "scatter plot")]
    assert _found(planted, "image 1") == [("image", "image 1.jpg")]
    assert len(_found(planted, "image", limit=2)) == 2


@pytest.mark.parametrize(
    "text", ["edge up", "up/down", "\u00e9 \u2192", "target/Edge up/down \u00e9 \u2192"]
)
def test_a_direction_is_found_by_what_stands_in_its_name(tmp_path, text):
    name = "Edge up/down \u00e9 \u2192"
    directed = diagram_planted.plant(tmp_path / "atlas", wirings.directed(name))
    assert ("direction", f"target/{name}") in _found(directed, text)


def test_a_unit_is_found_by_what_it_stands_for(tmp_path, write):
    write(tmp_path / "atlas")
    atlas = Atlas.open(tmp_path / "atlas")
    labels = {0: "n01440764 tench, Tinca tinca", 4: "Egyptian cat"}
    store(atlas.reader.objects, "conv3", labels)
    assert _found(atlas, "tench") == [("unit", "conv3/0 n01440764 tench, Tinca tinca")]
    assert _found(atlas, "conv3/0") == [("unit", "conv3/0 n01440764 tench, Tinca tinca")]
    assert _found(atlas, "Egyptian") == [], "unit 4 failed"
    assert atlas.layer("conv3").unit(0).label == "n01440764 tench, Tinca tinca"
    assert atlas.layer("conv3").unit(1).label is None


def test_a_number_is_one_unit_and_not_all_that_have_its_digits(tmp_path):
    scores = np.ones((1, SIZE), np.float32)
    tops = {"actgrad": np.ones((3, SIZE), np.float32)}
    units = {n: Planted({"actgrad": scores}, tops, responses=(4.0, 3.0, 2.0, 1.0)) for n in (1, 11)}
    atlas = plant(tmp_path / "atlas", units)
    for text, found in (("1", "top/1"), ("top/11", "top/11"), ("unit 11", "top/11")):
        assert [at for kind, at in _found(atlas, text) if kind == "unit"] == [found]


@pytest.mark.parametrize("text", ["", "   ", "no such thing", ".*", "conv3/99", "/"])
def test_nothing_is_found_and_nothing_is_wrong(atlas, text):
    assert _found(atlas, text) == []


@pytest.mark.parametrize("text", ["x" * 257, None])
def test_what_cannot_be_searched_for(atlas, text):
    with pytest.raises(QueryError, match="a text of at most 256 characters"):
        atlas.search(text)
