"""Which paths an atlas has: those that a store of every kind of thing has, and no others."""

from __future__ import annotations

import re

import pytest

from circuit_atlas.storage_schema import layer_paths, layout, visualization_paths
from circuit_atlas.storage_schema.paths import is_folder, is_object
from circuit_atlas.storage_schema.writer import Writer


def test_every_documented_path_is_one():
    values = {
        "sha256": "a" * 64,
        "layer": "a=2F=2E=2E=2Fb",
        "unit": "12",
        "units": "c" * 64,
        "attempt": "7",
        "table": "responses",
        "generation": "12-0a1b2c3d",
        "number": "3",
        "source": "b" * 64,
        "chunk": "5",
        "variant": "positive.actgrad.0=2E1",
        "worker": "node1-12-ab",
        "repair": "20261130T021500Z-0a1b",
        "build": "node1-12-ab",
        "stage": "units",
        "noun": "unit",
    }
    for template, _ in layout.PATHS:
        path = re.sub(r"<(\w+)>", lambda found: values[found[1]], template)
        assert is_object(f"{path}score/actgrad/c.3.0.0" if path.endswith("/") else path), path
        folder = path.rstrip("/").rpartition("/")[0]
        assert is_folder(folder)
        assert not is_object(folder)


def test_everything_in_a_store_is_one(objects, header, layer, record):
    Writer(objects, header, layer).commit(record(0))
    paths = [entry.path for entry in objects.list()]
    assert any("/commits/" in path for path in paths)
    assert all(is_object(path) for path in paths)
    assert all(is_folder(path.rpartition("/")[0]) for path in paths)


@pytest.mark.parametrize(
    "name", ["visualizations.7.expand3x3", "a/../b", "..", "", ".", "a b", "ü", "#1", "%2e", "a=b"]
)
def test_names_that_users_choose_are_no_way_out(name):
    assert is_object(layer_paths.commit(name, 3))
    assert is_object(layer_paths.layer_index(name))
    assert is_object(visualization_paths.visualization(name, 0, name))
    assert is_folder(layer_paths.layer(name))
    path = f"layers/{name}/layer.json"
    assert is_object(path) == (layer_paths.layer_index(name) == path or "=" in name)


@pytest.mark.parametrize(
    "path",
    [
        "..",
        "../atlas.json",
        "layers/../atlas.json",
        "layers/./x/layer.json",
        "/atlas.json",
        "atlas.json/",
        "atlas.json\n",
        "atlas.json\0",
        "atlas.json#1",
        "layers/x/arrays.zarr/..",
        "layers/x/arrays.zarr/../layer.json",
        "layers/x/arrays.zarr/.hidden",
        "layers/x/arrays.zarr//c.0",
        "layers\\x\\layer.json",
        "layers/x/commits/-1.json",
        "layers/x/sealed/1/manifest.json",
        "layers/x/sealed/1-0A1B2C3D/manifest.json",
        "layers/x/sealed/1-0a1b2c3d/other.json",
        "layers/x/commits/٣.json",
        "layers/x/units/0/1/RESPONSES.parquet",
        "plans/short.json",
        "other.json",
        "layers/" + "x" * 2000 + "/layer.json",
    ],
)
def test_other_paths_are_none(path):
    assert not is_object(path)
    assert not is_folder(path)


def test_folders():
    assert is_folder("")
    for path in ("layers", "plans", "layers/x", "layers/x/units/3", "layers/x/arrays.zarr/a/b.c"):
        assert is_folder(path)
    for path in ("atlas.json", "other", "layers/", "/layers", "layers/x/other", "layers/x/units/a"):
        assert not is_folder(path)
