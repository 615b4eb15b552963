"""What the API answers is what the Python client answers."""

from __future__ import annotations

import io
import math

import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq
import pytest

from circuit_atlas.service import Atlas
from circuit_atlas.service.circuit.kernel_table import ranked_kernels
from circuit_atlas.storage_schema.columns import schema_of
from circuit_atlas.storage_schema.layer_columns import (
    FEATURE,
    IMAGE_NAMES,
    OF_CIRCUIT,
    UNIT_FACTS,
    r_columns,
)


@pytest.fixture
def local(location):
    return Atlas.open(location)


def ask(api, path: str, **query):
    found = api.get(path, params=query)
    assert found.status_code == 200, found.text
    return found.json()


def plain(rows: list[dict]) -> list[dict]:
    def one(value):
        return None if isinstance(value, float) and math.isnan(value) else value

    return [{key: one(value) for key, value in row.items()} for row in rows]


def boxes(row: dict) -> list[int]:
    return [row[f"box_{side}"] for side in ("top", "left", "bottom", "right")]


def test_the_atlas(api, local):
    facts = ask(api, "atlas")
    assert facts["location"] == "atlas"
    assert facts["model"] == local.header.model
    assert facts["fractions"] == list(local.header.fractions)
    assert facts["images"] == {"total": 6, "scoring": 4, "held_out": 1, "left_out": 1}
    assert facts["splits"] == ["held_out", "scoring"]
    assert not facts["complete"]
    status = local.status().to_pylist()
    assert [{key: row[key] for key in status[0]} for row in facts["layers"]] == status
    assert ask(api, "layers")["rows"] == facts["layers"]


def test_a_layer(api, local):
    facts = ask(api, "layers/conv2")
    index = local.layer("conv2").index
    assert [c["name"] for c in facts["upstream"]] == [c.name for c in index.index.convolutions]
    assert facts["kernels"] == index.index.size == sum(c["kernels"] for c in facts["upstream"])
    assert facts["directions"] == ["edge"]
    assert facts["first_unit"] == 0


def test_the_units_of_a_layer_have_their_lists(api, local):
    layer = local.layer("conv3")
    summary = layer.summary(threshold=0.3)
    found = ask(api, "layers/conv3/units", threshold=0.3)
    assert found["complete"]
    rows = found["rows"]
    assert len(rows) == found["total"] == summary.num_rows
    for row, other in zip(rows, plain(summary.to_pylist()), strict=True):
        assert {*other} - {*row} == {
            *("box_top", "box_left", "box_bottom", "box_right", "position_y", "position_x")
        }
        assert row["r"] == (other.pop("r") or [])
        assert row["box"] == (None if other["image"] is None else boxes(other))
        assert {name: row[name] for name in other if name in row} == {
            name: value for name, value in other.items() if name in row
        }
        assert (row["image_name"] is None) == (other["image"] is None)


def test_the_columns_of_units_are_those_that_are_declared(api, local):
    declared = [*UNIT_FACTS, *OF_CIRCUIT, *IMAGE_NAMES, FEATURE]
    declared += r_columns(local.header.fractions)
    shown = ask(api, "layers/conv3/units")["columns"]
    assert [(c["name"], c["title"], c["sentence"], c["unit"]) for c in shown] == [
        (c.name, c.title, c.sentence, c.unit) for c in declared
    ]
    file = api.get("layers/conv3/units", params={"format": "parquet"}).content
    assert pq.read_schema(io.BytesIO(file)).equals(schema_of(declared))


@pytest.mark.parametrize(
    "question",
    [{}, {"criterion": "force", "split": "scoring", "threshold": 0.3}, {"threshold": -1}],
)
def test_a_distribution_has_the_rows_that_python_gives(api, local, question):
    table = local.layer("conv3").distribution(**question)
    assert ask(api, "layers/conv3/distribution", **question)["rows"] == plain(table.to_pylist())
    file = api.get("layers/conv3/distribution", params={**question, "format": "parquet"})
    assert pq.read_table(io.BytesIO(file.content)).equals(table.to_arrow())


def test_other_measures_are_those_of_one_level(api, local):
    row = ask(api, "layers/conv3/units", at=0.5)["rows"][0]
    stored = local.layer("conv3").unit(0).faithfulness().to_pylist()
    (one,) = [
        r
        for r in stored
        if (r["criterion"], r["split"], r["fraction"]) == ("actgrad", "held_out", 0.5)
    ]
    for name in ("spearman", "relative_l1", "change_at_maximum", "acting"):
        assert row[name] == one[name]
    assert row["acting"] == one["kernels"] - one["level"]


def test_units_are_sorted_with_nulls_last_in_both_orders(api):
    for order, expected in (("asc", [1, 0]), ("desc", [0, 1])):
        found = ask(api, "layers/conv3/units", sort="r.0.5", order=order)
        assert [row["unit"] for row in found["rows"]] == [*expected, 2, 3, 4]
    file = api.get("layers/conv3/units", params={"format": "csv"}).text
    names = file.splitlines()[0].replace('"', "").split(",")
    assert sorted(column["name"] for column in found["columns"]) == sorted(names)
    for name in names:
        assert ask(api, "layers/conv3/units", sort=name)["total"] == 5
    labels = ask(api, "layers/conv3/units", state="done")["rows"]
    assert [(row["image_name"], row["label"]) for row in labels] == [("<b>.jpg", "dog <small>")] * 3


def test_units_are_filtered(api):
    def units(layer="conv3", **query):
        return [row["unit"] for row in ask(api, f"layers/{layer}/units", **query)["rows"]]

    assert units(state="done") == [0, 1, 2]
    assert units(state="dead,failed") == [3, 4]
    assert units(**{"min.r.0.5": 0.5}) == [0]
    assert units(**{"max.r.0.5": 0.5, "min.r.1": 0}) == [1]
    assert units(**{"min.groups": 2}) == [0, 2]
    assert units(layer="conv2", **{"has.name": "EDG"}) == [4]
    assert units(state="done", **{"has.label": "Small>"}) == [0, 1, 2]
    assert units(**{"has.label": "dog", "max.r.0.5": 0.5}) == [1]
    assert units(**{"has.image_name": ".JPG", "has.label": "cat"}) == []
    assert units(**{"has.error": "nan IN its"}) == [4]
    assert units(limit=2, offset=1) == [1, 2]
    assert units(offset=10) == []


def test_boxes_and_positions_are_columns_each(api):
    first = ask(api, "layers/conv3/units")["rows"][0]
    names = ("box_top", "box_left", "box_bottom", "box_right", "position_y", "position_x")
    values = dict(zip(names, first["box"] + first["position"], strict=True))
    assert len({*first["box"]}) == 4
    assert len({*first["position"]}) == 2
    for name, value in values.items():
        here = {f"min.{name}": value, f"max.{name}": value}
        assert ask(api, "layers/conv3/units", **here)["rows"][0] == first, name
        beyond = {f"min.{name}": value + 0.5, f"max.{name}": value + 0.5}
        assert ask(api, "layers/conv3/units", **beyond)["rows"] == [], name


@pytest.mark.parametrize("unit", ["0", "1", "2", "3", "4"])
def test_a_unit_whatever_its_state(api, local, unit):
    one = local.layer("conv3").unit(unit)
    facts = ask(api, f"layers/conv3/units/{unit}")
    assert facts["state"] == one.state
    assert (facts["error"] is not None) == (one.state == "failed")
    stored = one.state in ("done", "dead")
    assert (facts["version"] is not None) == stored
    assert facts["has"]["groups"] == (one.state == "done")
    top = plain(one.top_images().to_pylist()) if stored else []
    assert len(facts["top"]) == len(top)
    for found, row in zip(facts["top"], top, strict=True):
        assert {key: found[key] for key in ("rank", "image", "name", "label", "response")} == {
            key: row[key] for key in ("rank", "image", "name", "label", "response")
        }
        assert found["box"] == boxes(row)
        assert found["position"] == [row["position_y"], row["position_x"]]


def test_units_are_neighbours_where_they_are_stored(api):
    facts = ask(api, "layers/conv2/units/1")
    assert (facts["previous"], facts["next"]) == (0, 4)
    assert ask(api, "layers/conv2/units/edge")["direction"] == [1.0, -1.0, 0.5, 0.0]


@pytest.mark.parametrize("table", ["responses", "faithfulness", "subfeatures"])
@pytest.mark.parametrize(("layer", "unit"), [("conv3", "1"), ("conv3", "3"), ("conv2", "edge")])
def test_tables_of_a_unit_in_every_form(api, local, table, layer, unit):
    stored = getattr(local.layer(layer).unit(unit), table)()
    path = f"layers/{layer}/units/{unit}/{table}"
    found = ask(api, path, limit=1000)
    assert found["total"] == stored.num_rows
    assert found["rows"] == plain(stored.to_pylist())
    parquet = api.get(path, params={"format": "parquet"})
    assert pq.read_table(io.BytesIO(parquet.content)).to_pylist() == stored.to_pylist()
    name = f"{layer}-{unit}-{table}.parquet"
    assert parquet.headers["content-disposition"] == f'attachment; filename="{name}"'
    text = api.get(path, params={"format": "csv"})
    assert text.headers["content-type"] == "text/csv; charset=utf-8"
    assert text.text.splitlines()[0].replace('"', "").split(",") == stored.column_names
    if stored.num_rows:
        assert arrow_csv.read_csv(io.BytesIO(text.content)).num_rows == stored.num_rows


@pytest.mark.parametrize(
    ("question", "meant"),
    [
        ({}, {"keep": 0.1}),
        ({"keep": 0.5}, {"keep": 0.5}),
        ({"kernels": 7, "criterion": "magnitude"}, {"kernels": 7, "criterion": "magnitude"}),
        ({"keep": 0.3, "images": "3,0"}, {"keep": 0.3, "images": [3, 0]}),
    ],
)
def test_a_circuit(api, local, question, meant):
    circuit = local.layer("conv3").unit(1).circuit(**meant)
    found = ask(api, "layers/conv3/units/1/circuit", limit=1000, **question)
    assert found["rows"] == plain(ranked_kernels(circuit).to_pylist())
    assert found["layers"] == circuit.by_convolution().to_pylist()
    assert found["title"] == circuit.title
    assert (found["kernels"], found["reachable_kernels"]) == (len(circuit), len(circuit.reachable))
    best = ask(api, "layers/conv3/units/1/circuit", order="score", limit=2, **question)["rows"]
    assert best == sorted(found["rows"], key=lambda r: (-r["score"], r["position"]))[:2]
    csv = api.get("layers/conv3/units/1/circuit", params={**question, "format": "csv"})
    assert len(csv.text.splitlines()) == 1 + len(circuit)


def test_circuits_of_one_image_alone(api, local):
    rows = local.layer("conv3").unit(1).subfeatures().to_pylist()
    images = list(dict.fromkeys(row["image"] for row in rows))
    assert len(images) > 1
    for image in images:
        found = ask(api, "layers/conv3/units/1/subfeatures", image=image, limit=1000)
        assert found["rows"] == plain([row for row in rows if row["image"] == image])
    assert ask(api, "layers/conv3/units/1/subfeatures", image=10_000)["total"] == 0


def test_two_circuits_are_compared(api, local):
    one, two = local.layer("conv3").unit(2), local.layer("conv2").unit("edge")
    a, b = one.circuit(keep=0.5, images=[2]), two.circuit(kernels=9)
    sides = {
        "left.layer": "conv3",
        "left.unit": 2,
        "left.keep": 0.5,
        "left.images": "2",
        "right.layer": "conv2",
        "right.unit": "edge",
        "right.kernels": 9,
    }
    found = ask(api, "compare", **sides)
    assert found["iou"] == a.iou(b)
    assert found["shared"] == len(a & b)
    assert found["only_left"] == len(a - b)
    assert found["only_right"] == len(b - a)
    assert found["left"]["title"] == a.title
    assert [(row["convolution"], row["iou"]) for row in found["convolutions"]] == [
        (row["convolution"], row["iou"]) for row in a.iou_by_convolution(b).to_pylist()
    ]
    rows = {row["convolution"]: row["kernels"] for row in (a - b).by_convolution().to_pylist()}
    assert {row["convolution"]: row["left"] for row in found["convolutions"]} == rows
    file = api.get("compare", params={**sides, "format": "parquet"})
    assert pq.read_table(io.BytesIO(file.content)).to_pylist() == found["convolutions"]
    text = api.get("compare", params={**sides, "format": "csv"}).text.splitlines()
    assert text[0] == ",".join(f'"{name}"' for name in found["convolutions"][0])
    assert len(text) == len(found["convolutions"]) + 1


def test_groups_and_what_they_preserve(api, local):
    unit = local.layer("conv3").unit(0)
    found = ask(api, "layers/conv3/units/0/groups")
    assert found["rows"] == unit.groups().table().to_pylist()
    assert found["groups"] == 2
    assert found["silhouette"] == 0.6
    assert found["polysemanticity"] == unit.polysemanticity().value
    three = ask(api, "layers/conv3/units/0/groups", groups=3)
    assert [row["group"] for row in three["rows"]] == list(unit.groups(groups=3).labels)
    assert three["polysemanticity"] == unit.polysemanticity(groups=3).value
    kept = ask(api, "layers/conv3/units/0/selectivity")
    assert kept["rows"] == plain(unit.selectivity().to_pylist())
    stored = local.reader.selectivity(unit.commit)
    assert ask(api, "layers/conv3/units/0/selectivity-by-image")["rows"] == stored.to_pylist()


def test_a_map_of_the_top_images(api, local):
    table = local.layer("conv3").unit(0).projection()
    found = ask(api, "layers/conv3/units/0/map")
    assert found["points"] == table.to_pylist()
    assert len(found["explained"]) == 2
    parquet = api.get("layers/conv3/units/0/map", params={"format": "parquet"})
    assert pq.read_table(io.BytesIO(parquet.content)).num_rows == table.num_rows


def test_similar_units(api, local):
    table = local.layer("conv3").unit(0).similar(keep=0.5, limit=10)
    found = ask(api, "layers/conv3/units/0/similar", keep=0.5)
    names = table.column_names
    assert [{key: row[key] for key in names} for row in found["rows"]] == table.to_pylist()
    assert {row["image"] for row in found["rows"]} == {2}
    part = ask(api, "layers/conv3/units/0/similar", keep=0.5, offset=1, limit=1)
    assert part["rows"] == found["rows"][1:2]


@pytest.mark.parametrize("question", [{}, {"out": 2}, {"in": 5}, {"out": 2, "in": 5}])
def test_which_units_use_a_kernel(api, local, question):
    meant = {{"in": "channel"}.get(key, key): value for key, value in question.items()}
    table = local.layer("conv3").uses("conv2", keep=0.5, **meant)
    found = ask(api, "layers/conv3/uses", convolution="conv2", keep=0.5, **question)
    assert found["rows"] == plain(table.to_pylist())
    assert found["keep"] == 0.5


def test_diagrams(api, local):
    circuit = local.layer("conv3").unit(0).circuit(keep=0.5)
    path = "layers/conv3/units/0/diagram"
    found = api.get(path, params={"keep": 0.5, "edges": 10})
    assert found.text == circuit.diagram(edges=10).to_json()
    vector = api.get(f"{path}.svg", params={"keep": 0.5})
    assert vector.headers["content-type"] == "image/svg+xml"
    assert vector.text == circuit.diagram().figure().svg
    both = ask(
        api,
        "compare/diagram",
        **{"left.layer": "conv3", "left.unit": 0, "right.layer": "conv3", "right.unit": 1},
    )
    assert len(both["sides"]) == 2


def test_images_and_their_files(api, local):
    table = local.images()
    assert ask(api, "images")["rows"] == table.to_pylist()
    assert [row["id"] for row in ask(api, "images", label="cat")["rows"]] == [0, 4]
    assert [row["id"] for row in ask(api, "images", split="held_out")["rows"]] == [4]
    assert [row["id"] for row in ask(api, "images", q="<B>")["rows"]] == [2]
    assert ask(api, "images/2") == table.slice(2, 1).to_pylist()[0]
    file = api.get("images/2/file")
    assert file.headers["content-type"] == "image/jpeg"
    assert file.content == local.images(files=True)["file"][2].as_py()


@pytest.mark.parametrize("image", [0, 2, 4])
@pytest.mark.parametrize("layer", [None, "conv2"])
def test_units_that_respond_to_an_image(api, local, image, layer):
    table = local.responding(image, layer=layer, limit=100)
    question = {} if layer is None else {"layer": layer}
    found = ask(api, f"images/{image}/units", **question)
    names = ["layer", "unit", "name", "rank", "top_rank", "response", "share", "maximum"]
    expected = plain(table.select(names).to_pylist())
    assert [{key: row[key] for key in names} for row in found["rows"]] == expected
    assert found["rows"][0]["box"] == [0, 3, 7, 9]
    assert found["note"] == "1 unit is not computed yet"
    csv = api.get(f"images/{image}/units", params={**question, "format": "csv"})
    assert len(csv.text.splitlines()) == 1 + table.num_rows


def test_response_maps(api, local):
    unit = local.layer("conv3").unit(0)
    maps = local.reader.response_maps(unit.commit)
    found = ask(api, "layers/conv3/units/0/response-map/0")  # of rank 1
    assert (found["height"], found["width"], found["rank"]) == (6, 6, 1)
    assert found["values"] == [[round(float(v), 6) for v in row] for row in maps[1]]


def test_crops_of_a_channel(api, local):
    found = ask(api, "layers/conv3/channels/conv1/3")
    table = local.reader.channels("conv3").to_pylist()
    rows = [row for row in table if (row["convolution"], row["channel"]) == ("conv1", 3)]
    assert found["rows"] == rows


def test_a_channel_and_its_kernels(api, local):
    found = ask(api, "channels/conv1/3")
    assert (found["convolution"], found["channel"], found["channels"]) == ("conv1", 3, 8)
    assert found["layers"] == ["conv2", "conv3"]
    crops = ask(api, "layers/conv2/channels/conv1/3")["rows"]
    assert [crop["image"] for crop in found["crops"]] == [row["image"] for row in crops]
    assert [crop["box"] for crop in found["crops"]] == [boxes(row) for row in crops]
    kernels = local.channel_kernels("conv1", 3).to_pylist()
    assert ask(api, "channels/conv1/3/kernels", limit=1000)["rows"] == kernels
    into = ask(api, "channels/conv1/3/kernels", end="in")["rows"]
    assert into == [row for row in kernels if row["end"] == "in"]


def test_groups_of_the_askers_choice_have_their_selectivity_by_scores(api, local):
    unit = local.layer("conv3").unit(0)
    members = unit.groups(groups=2).grouping.members()
    found = ask(api, "layers/conv3/units/0/selectivity", groups=2)
    assert not found["measured"]
    assert found["rows"] == plain(unit.score_selectivity(members).to_pylist())
    found = ask(api, "layers/conv3/units/0/selectivity", images="2,3")
    assert found["rows"] == plain(unit.score_selectivity({0: (2, 3)}).to_pylist())
    assert ask(api, "layers/conv3/units/0/selectivity")["measured"]


def test_search(api, local):
    found = ask(api, "search", q="conv", limit=3)
    assert found["rows"] == [
        {**row, "box": None} for row in local.search("conv", limit=3).to_pylist()
    ]
    (unit,) = ask(api, "search", q="conv3/0")["rows"]
    top = local.layer("conv3").unit(0).top_images().to_pylist()[0]
    assert (unit["image"], unit["box"]) == (top["image"], boxes(top))
    assert not ask(api, "search", q="conv", limit=1)["complete"]
    assert ask(api, "search", q="EDGE")["rows"][0]["unit"] == 4


def test_lists_say_which_rows_they_have(api):
    found = ask(api, "images", offset=4, limit=10)
    assert {key: found[key] for key in ("total", "offset", "limit")} == {
        "total": 6,
        "offset": 4,
        "limit": 10,
    }
    assert len(found["rows"]) == 2
    assert ask(api, "layers/conv2/units")["note"] == "1 unit is not computed yet"


def test_a_table_of_nothing_has_its_columns(api):
    empty = api.get("layers/conv3/units/3/faithfulness", params={"format": "parquet"})
    assert isinstance(pq.read_table(io.BytesIO(empty.content)), pa.Table)
    assert ask(api, "layers/conv3/units/3/faithfulness")["rows"] == []


def test_files_of_no_units_have_the_columns_of_all(api):
    path = "layers/conv3/units"
    for query in ({}, {"limit": 1}):
        whole = api.get(path, params={"format": "csv", **query}).text.splitlines()
        none = api.get(path, params={"format": "csv", "has.name": "no such name", **query})
        assert none.text.splitlines() == whole[:1]
    whole = api.get(path, params={"format": "parquet"}).content
    failed = api.get(path, params={"format": "parquet", "state": "failed"}).content
    schemas = [pq.read_schema(io.BytesIO(data)) for data in (whole, failed)]
    assert schemas[0] == schemas[1]
    assert pa.null() not in schemas[1].types
