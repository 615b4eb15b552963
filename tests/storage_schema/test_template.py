"""Laying out a store: once, again, cut off anywhere, by two at once, or where something else is."""

from __future__ import annotations

import dataclasses
import io
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow.parquet as pq
import pytest
import zarr

from circuit_atlas.storage_schema import layer_paths, layout
from circuit_atlas.storage_schema.arrays import ARRAYS
from circuit_atlas.storage_schema.documents import canonical, seal, sha256
from circuit_atlas.storage_schema.errors import (
    CorruptError,
    MismatchError,
    NotAnAtlasError,
    SchemaError,
    WriteError,
)
from circuit_atlas.storage_schema.image_table import IMAGES
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.opening import open_store
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.template import Plan, check_same
from circuit_atlas.storage_schema.verify import verify
from circuit_atlas.storage_schema.version import SCHEMA_VERSION
from circuit_atlas.storage_schema.writer import Writer


def _cutting(objects: Objects, after: int) -> Objects:
    """The same store, which refuses every put after that many."""
    cut = Objects(objects.store, location=objects.location)
    puts = iter(range(after))

    def put(path: str, data: bytes) -> bool:
        if next(puts, None) is None:
            raise WriteError("cut off")
        return Objects.put_if_absent(cut, path, data)

    cut.put_if_absent = put
    return cut


def test_the_layout_is_metadata_alone_and_opens_as_zarr(objects, header, layer):
    paths = [entry.path for entry in objects.list()]
    assert not [path for path in paths if "/c." in path]
    group = zarr.open_group(f"{objects.location}/{layer_paths.arrays('features.3')}", mode="r")
    for spec in ARRAYS:
        for criterion in spec.criteria(header):
            array = group[spec.name if criterion is None else f"{spec.name}/{criterion}"]
            assert array.dtype == np.dtype(spec.dtype)
            assert array.metadata.dimension_names == spec.axes
            assert array.shape == spec.shape(header, layer, criterion)
            assert array.chunks == (1, 1, *array.shape[2:])
            assert array.attrs["sentence"] == spec.sentence
            assert np.array_equal(array.fill_value, spec.fill, equal_nan=True)


def test_the_same_again_changes_nothing(laid_out, lay_out, snapshot):
    before = snapshot(laid_out)
    lay_out(laid_out)
    assert snapshot(laid_out) == before
    assert verify(laid_out) == ()


def test_a_layout_cut_off_anywhere_is_completed_by_the_next(tmp_path, lay_out, laid_out, snapshot):
    whole = snapshot(laid_out)
    for after in range(len(whole)):
        other = open_store(tmp_path / f"cut{after}", create=True)
        with pytest.raises(WriteError, match="cut off"):
            lay_out(_cutting(other, after))
        lay_out(other)
        assert snapshot(other) == whole


def test_builds_that_start_at_once_agree(tmp_path, lay_out, laid_out, snapshot):
    new = open_store(tmp_path / "new", create=True)
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda _: lay_out(new), range(6)))
    assert snapshot(new) == snapshot(laid_out)


def test_further_units_and_layers_join_the_atlas(
    objects, lay_out, header, layer, odd_layer, record, snapshot
):
    Writer(objects, header, layer).commit(record(1))
    before = snapshot(objects)
    more = Plan(((odd_layer.layer, (2,)), ("features.3", (1, 3))))
    lay_out(objects, layers=[layer, odd_layer], plan=more)
    after = snapshot(objects)
    assert {path: after[path] for path in before} == before
    reader = Reader(objects)
    assert reader.layers() == tuple(sorted(["features.3", odd_layer.layer]))
    assert reader.layer(odd_layer.layer) == odd_layer
    assert {layer: set(units) for layer, units in reader.plan().units} == {
        "features.3": {0, 1, 3, 4},
        odd_layer.layer: {2},
    }


def _with_directions(layer, **directions):
    units = layer.units[: layer.channels]
    named = [
        dataclasses.replace(layer.units[4], number=4 + n, name=name, direction=vector)
        for n, (name, vector) in enumerate(directions.items())
    ]
    return dataclasses.replace(layer, units=(*units, *named))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "given: none (removed 'd0', 'up')"),
        ({"d0": None, "up": None, "x": (1.0,) * 4}, "given: 'd0', 'up', 'x' (added 'x')"),
        ({"d0": (1.0,) * 4, "x": None}, "'d0', 'x' (added 'x'; removed 'up'; changed 'd0')"),
        ({"up": None, "d0": None}, "given: 'up', 'd0' (in another order)"),
    ],
)
def test_a_layers_directions_are_those_of_its_first_build(
    tmp_path, lay_out, layer, given, says, snapshot
):
    objects = open_store(tmp_path / "new", create=True)
    first = _with_directions(layer, d0=layer.units[4].direction, up=(0.0, 1.0, 0.0, 0.0))
    lay_out(objects, layers=[first])
    before = snapshot(objects)
    own = {unit.name: unit.direction for unit in first.units}
    other = {name: vector or own.get(name, (1.0,) * 4) for name, vector in given.items()}
    with pytest.raises(MismatchError) as caught:
        lay_out(objects, layers=[_with_directions(layer, **other)])
    start = f"layer 'features.3' of {objects.location} has the directions 'd0', 'up'; "
    assert str(caught.value).startswith(start)
    assert f"{says}; a layer's directions are fixed by its first build: give" in str(caught.value)
    assert snapshot(objects) == before


def test_a_layer_laid_out_differently_shows_where(objects, lay_out, layer):
    rows = list(layer.units)
    rows[3] = dataclasses.replace(rows[3], rows=(7,))
    with pytest.raises(
        MismatchError, match=r"differently: height 8 -> 9, units\[3\].rows \[3\] ->"
    ):
        lay_out(objects, layers=[dataclasses.replace(layer, height=9, units=tuple(rows))])


def test_a_refused_layer_keeps_the_others_out(objects, lay_out, layer, odd_layer, snapshot):
    before = snapshot(objects)
    other = dataclasses.replace(layer, height=9)
    with pytest.raises(MismatchError, match="height"):
        lay_out(objects, layers=[odd_layer, other], plan=Plan(((odd_layer.layer, (0,)),)))
    assert snapshot(objects) == before


def _other_spec(header, **changes):
    spec = json.loads(header.spec)
    spec["circuits"].update(changes)
    text = canonical(spec)
    return dataclasses.replace(header, spec=text, spec_sha256=sha256(text.encode()))


def test_another_spec_shows_each_key_that_differs(objects, lay_out, header, snapshot):
    before = snapshot(objects)
    with pytest.raises(MismatchError) as caught:
        lay_out(objects, header=_other_spec(header, response="max", top_images=5))
    message = str(caught.value)
    assert 'another spec (circuits.response "sum_abs" -> "max", circuits.top_images' in message
    assert "null -> 5), stored -> given; give the same as stored" in message
    assert "\n" not in message
    assert snapshot(objects) == before


def test_other_weights_show_both_hashes(objects, lay_out, header):
    other = dataclasses.replace(header, weights_sha256=sha256(b"others"))
    shown = f"other weights ({header.weights_sha256[:12]} -> {other.weights_sha256[:12]})"
    with pytest.raises(MismatchError) as caught:
        lay_out(objects, header=other)
    assert shown in str(caught.value)


def test_other_images_show_which(objects, lay_out, header, images):
    rows = images.to_pylist()
    rows[0]["name"] = "new.jpg"
    rows[1]["sha256"] = sha256(b"x")
    rows[2]["split"] = "held_out"
    other = images.from_pylist(rows, schema=images.schema)
    changed = dataclasses.replace(header, images_sha256=sha256(b"others"))
    with pytest.raises(MismatchError) as caught:
        lay_out(objects, header=changed, images=other)
    assert "a.jpg removed, new.jpg added, b.jpg changed, c.jpg scoring -> held_out" in str(
        caught.value
    )


def test_many_differences_are_counted(header):
    other = _other_spec(header, **{f"k{n:02}": n for n in range(20)})
    with pytest.raises(MismatchError, match=r"k07 null -> 7 and 12 more\), stored"):
        check_same(header, other)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (["x" * 70, "b"], ["x" * 70, "c"], 'k[1] "b" -> "c"'),
        ([1] * 40, [1] * 39, "k[39] 1 -> null"),
        (
            "x" * 70 + "a" + "y" * 70,
            "x" * 70 + "b" + "y" * 70,
            f"...xxxxxxxxxxa{'y' * 49}... -> ...",
        ),
        ("x" * 70, "x" * 71, f'k ...{"x" * 10}" -> ...{"x" * 11}"'),
    ],
    ids=["item", "length", "middle", "end"],
)
def test_no_difference_shows_as_the_same_text_twice(header, old, new, says):
    with pytest.raises(MismatchError) as caught:
        check_same(_other_spec(header, k=old), _other_spec(header, k=new))
    assert says in str(caught.value)


def test_other_package_versions_are_no_difference(objects, lay_out, header):
    lay_out(objects, header=dataclasses.replace(header, versions=(("torch", "9"),)))
    with pytest.raises(MismatchError, match=r"in another way .input_height 32 -> 64"):
        lay_out(objects, header=dataclasses.replace(header, input_height=64))


def test_a_newer_schema_is_refused_by_builder_and_reader(tmp_path, lay_out, header, snapshot):
    objects = open_store(tmp_path / "newer", create=True)
    lay_out(objects, header=dataclasses.replace(header, schema=SCHEMA_VERSION + 1))
    before = snapshot(objects)
    says = rf"newer/atlas.json has schema version {SCHEMA_VERSION + 1} .* up to {SCHEMA_VERSION}:"
    with pytest.raises(SchemaError, match=says):
        lay_out(objects)
    with pytest.raises(SchemaError, match=says):
        Reader(objects)
    with pytest.raises(SchemaError, match=says):
        verify(objects)
    assert snapshot(objects) == before


def test_a_folder_of_other_things_is_left_alone(tmp_path, lay_out):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("x")
    (tmp_path / "thesis" / "figures" / "one").mkdir(parents=True)
    (tmp_path / "thesis" / "figures" / "one" / "a.png").write_text("x")
    objects = open_store(tmp_path / "thesis", create=True)
    says = r"thesis holds other things \(chapter.tex, figures\) and no atlas: choose a new or empty"
    with pytest.raises(NotAnAtlasError, match=says):
        lay_out(objects)
    assert not objects.exists(layout.HEADER)


def test_what_a_run_says_of_itself_is_no_other_thing(tmp_path, lay_out):
    """A build that is at the images has no header yet; nor has a folder of somebody's logs."""
    for name, path in (("ours", "builds/node-1-ab.json"), ("theirs", "events.out")):
        (tmp_path / name / "runs" / path).parent.mkdir(parents=True)
        (tmp_path / name / "runs" / path).write_text("{}")
    lay_out(open_store(tmp_path / "ours"))
    with pytest.raises(NotAnAtlasError, match=r"holds other things \(runs\) and no atlas"):
        lay_out(open_store(tmp_path / "theirs"))


def test_no_record_is_put_that_vouches_for_an_altered_table_of_images(laid_out, lay_out, images):
    """Its own is gone; the same table in other bytes is whole."""
    laid_out.delete([layout.IMAGES_RECORD])
    names = images["name"].take([1, 0, 2, 3, 4])
    swapped = images.set_column(1, images.schema.field("name"), names)
    laid_out.put(layout.IMAGES, IMAGES.to_parquet(swapped))
    with pytest.raises(CorruptError, match="circuit-atlas repair"):
        lay_out(laid_out)
    assert not laid_out.exists(layout.IMAGES_RECORD)
    other = io.BytesIO()
    pq.write_table(IMAGES.from_parquet(IMAGES.to_parquet(images), location=""), other)
    laid_out.put(layout.IMAGES, other.getvalue())
    lay_out(laid_out)
    assert Reader(laid_out).images().equals(IMAGES.public(images))


def test_an_altered_header_is_not_built_upon(objects, lay_out, snapshot):
    text = objects.get("atlas.json").decode()
    objects.put("atlas.json", text.replace('"seed": 0', '"seed": 1').encode())
    before = snapshot(objects)
    with pytest.raises(CorruptError, match=r"atlas\.json is altered"):
        lay_out(objects)
    assert snapshot(objects) == before


@pytest.mark.parametrize("content", [{}, {"units": 3}, {"units": [["a", 3]]}])
def test_a_sealed_document_of_another_kind_is_refused(content):
    with pytest.raises(CorruptError, match="x is no plan"):
        Plan.from_json(seal(content), location="x")
