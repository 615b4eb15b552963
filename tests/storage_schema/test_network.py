"""A layer's network is stored once, whoever comes first, and read back as it was."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from circuit_atlas.storage_schema import layer_paths, layout, network
from circuit_atlas.storage_schema.documents import seal
from circuit_atlas.storage_schema.errors import (
    CorruptError,
    MismatchError,
    QueryError,
    RecordError,
)
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.verify import verify
from circuit_atlas.storage_schema.wiring import Stretch, Wiring, image_channels
from circuit_atlas.storage_schema.writer import Writer


def test_what_was_stored_is_read(objects, network_record):
    written = network_record()
    reader = Reader(objects)
    assert reader.wiring("features.3") == written.wiring
    assert reader.wiring("features.3").of(1) == written.wiring.stretches[1:4]
    weights, unknown = reader.weights("features.3")
    np.testing.assert_array_equal(weights, written.weights[0])
    assert unknown is None
    assert reader.channels("features.3").equals(written.channels)


def test_who_comes_second_neither_computes_nor_alters(objects, layer, snapshot):
    before = snapshot(objects)
    network.store(objects, layer, lambda: pytest.fail("computed again"))
    assert snapshot(objects) == before


def test_workers_that_race_agree(laid_out, layer, network_record):
    """Rounded otherwise on each of them, the objects are one worker's or another's, and whole."""
    with ThreadPoolExecutor(8) as pool:
        list(
            pool.map(
                lambda seed: network.store(laid_out, layer, lambda: network_record(seed=seed)),
                range(8),
            )
        )
    assert verify(laid_out) == ()
    found = Reader(laid_out).weights("features.3")[0]
    assert any(np.array_equal(found, network_record(seed=n).weights[0]) for n in range(8))


def test_cut_off_anywhere_it_is_completed_by_the_next(laid_out, layer, network_record):
    for puts in range(4):
        cut = Objects(laid_out.store, location=laid_out.location)
        left = iter(range(puts))

        def put(path: str, data: bytes, cut: Objects = cut, left=left) -> bool:
            if next(left, None) is None:
                raise KeyboardInterrupt
            return Objects.put_if_absent(cut, path, data)

        cut.put_if_absent = put
        with pytest.raises(KeyboardInterrupt):
            network.store(cut, layer, lambda puts=puts: network_record(seed=puts))
        assert not network.is_stored(laid_out, layer)
        with pytest.raises(QueryError, match="no worker has begun with it: run the build"):
            Reader(laid_out).wiring("features.3")
    network.store(laid_out, layer, lambda: network_record(seed=9))
    assert verify(laid_out) == ()
    np.testing.assert_array_equal(
        Reader(laid_out).weights("features.3")[0], network_record(seed=2).weights[0]
    )


@pytest.mark.parametrize("name", ["wiring", "weights", "channels"])
def test_an_object_that_is_spoiled_is_an_error(objects, name):
    path = getattr(layer_paths, name)("features.3")
    data = objects.get(path)
    objects.put(path, data[: len(data) // 2])
    with pytest.raises(CorruptError, match=f"{path} is cut or altered"):
        getattr(Reader(objects), name)("features.3")
    Path(objects.location, path).unlink()
    with pytest.raises(CorruptError, match=f"{path} is missing, and it is committed"):
        getattr(Reader(objects), name)("features.3")


def test_a_unit_without_its_layers_network_is_found(objects, header, layer, record):
    Writer(objects, header, layer).commit(record(0))
    Path(objects.location, layer_paths.network("features.3")).unlink()
    found = {(f.kind, f.path.rsplit("/", 1)[-1]) for f in verify(objects)}
    assert ("missing", "network.json") in found


@pytest.mark.parametrize(
    "stretch",
    [
        Stretch(0, 0, 4, -1, 0, "alone"),
        Stretch(1, 5, 2, 0, 0, "alone"),
        Stretch(1, 0, 2, 0, 5, "sum"),
        Stretch(3, 0, 1, 0, 0, "alone"),
        Stretch(1, 0, 0, 0, 0, "alone"),
        Stretch(1, -1, 2, 0, 0, "alone"),
        Stretch(1, 0, 2, -2, 0, "alone"),
        Stretch(1, 0, 6, 0, 6, "mixed"),
        Stretch(1, 0, 6, 0, -1, "mixed"),
        Stretch(1, 1, 6, 0, 0, "mixed"),
        Stretch(1, 0, 6, -1, -1, "mixed"),
    ],
)
def test_a_stretch_outside_the_convolutions_is_refused(
    laid_out, layer, network_record, snapshot, stretch
):
    before = snapshot(laid_out)
    wrong = dataclasses.replace(network_record(), wiring=Wiring((stretch,)))
    with pytest.raises(RecordError, match="lies outside its convolutions"):
        network.store(laid_out, layer, lambda: wrong)
    assert snapshot(laid_out) == before


@pytest.mark.parametrize(
    ("stretches", "channels"),
    [
        ([Stretch(0, 0, 3, -1, 0, "alone")], 3),
        ([Stretch(0, 0, 1, -1, 0, "alone")], 1),
        ([Stretch(0, 0, 2, -1, 0, "alone"), Stretch(1, 0, 3, -1, 2, "sum")], 5),
        ([Stretch(0, 0, 3, -1, 0, "mixed")], 3),
        ([Stretch(0, 0, 3, -1, 4, "mixed")], 5),
        ([Stretch(1, 0, 3, 0, 4, "alone")], 3),
    ],
)
def test_the_channels_of_the_image_are_those_that_are_read(stretches, channels):
    assert image_channels(stretches) == channels


@pytest.mark.parametrize("start", range(6))
def test_a_mixed_stretch_may_be_wider_than_what_is_left_of_its_source(layer, start):
    """Every one of its channels is made of all from `source_start` on, be that a single one."""
    wide = Stretch(1, 0, 6, 0, start, "mixed"), Stretch(2, 3, 1, 1, 3, "mixed")
    assert Wiring(wide).outside(layer) is None
    narrow = Stretch(1, 0, 6, 0, start, "sum")
    assert Wiring((narrow,)).outside(layer) == (narrow if start else None)


def test_weights_of_another_shape_are_refused(laid_out, layer, network_record):
    good = network_record()
    for weights in (good.weights[:1], (good.weights[0][:, :2], None)):
        wrong = dataclasses.replace(good, weights=weights)
        with pytest.raises(RecordError, match=r"weights of layer 'features.3' are of shapes"):
            network.store(laid_out, layer, lambda wrong=wrong: wrong)


@pytest.mark.parametrize("rows", [[[0, 0, 3, -1, 0, "joined"]], [[0, 0, 3]], 5])
def test_a_wiring_that_is_none(rows):
    with pytest.raises(CorruptError, match="x is no wiring"):
        Wiring.from_json(seal({"stretches": rows}), location="x")


@pytest.fixture
def old(objects, header, layer, record):
    """The atlas as the first schema had it, with one unit done."""
    Writer(objects, header, layer).commit(record(1))
    for path in ("network", "wiring", "weights", "channels"):
        Path(objects.location, getattr(layer_paths, path)("features.3")).unlink()
    objects.put(layout.HEADER, dataclasses.replace(header, schema=1).to_json().encode())
    return objects


def test_an_older_atlas_is_read_and_says_what_it_lacks(old, record):
    reader = Reader(old)
    commit = reader.commits("features.3")[1]
    np.testing.assert_array_equal(reader.mask(commit, "actgrad", 1), record(1).criteria[0].masks[1])
    assert reader.faithfulness(commit).num_rows
    for what, ask in {
        "wiring": lambda: reader.wiring("features.3"),
        "weights": lambda: reader.weights("features.3"),
        "channels": lambda: reader.channels("features.3"),
        "contributions": lambda: reader.contribution(commit),
        "response maps": lambda: reader.response_maps(commit),
        "groups": lambda: reader.table("features.3", "groups"),
        "selectivity": lambda: reader.selectivity(commit),
    }.items():
        says = (
            f"^{old.location} was built by an older circuit-atlas and has no {what}: build it again"
        )
        with pytest.raises(QueryError, match=says):
            ask()
    assert not any(finding.harmful for finding in verify(old))


def test_an_older_atlas_is_not_added_to(old, lay_out, snapshot):
    before = snapshot(old)
    says = r"built by an older circuit-atlas \(schema version 1, not 4\): it can be read and not"
    with pytest.raises(MismatchError, match=says):
        lay_out(old)
    assert snapshot(old) == before
