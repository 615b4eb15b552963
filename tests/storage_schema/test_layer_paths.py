"""What lies in a layer's folder is told by its path."""

from __future__ import annotations

from circuit_atlas.storage_schema import layer_paths as of_layer


def test_paths_are_recognised():
    assert of_layer.committed_unit(of_layer.commit("a/b", 12)) == 12
    assert of_layer.failed_unit(of_layer.failure("a/b", 12, 7)) == 12
    assert of_layer.committed_unit(of_layer.failure("a/b", 12, 7)) is None
    assert of_layer.failed_unit(of_layer.commit("a/b", 12)) is None
    assert of_layer.index_of_commit(of_layer.commit("a/b", 12)) == of_layer.layer_index("a/b")
    assert of_layer.is_layer_index(of_layer.layer_index("a/b"))
    assert of_layer.is_manifest(of_layer.manifest("a/b", "3-0a1b2c3d"))
    assert of_layer.generation_of(of_layer.manifest("a/b", "3-0a1b2c3d")) == "3-0a1b2c3d"
    masks = of_layer.sealed_file("a/b", "3-0a1b2c3d", "masks")
    assert of_layer.generation_of(masks) == "3-0a1b2c3d"
    assert of_layer.generation_of(of_layer.commit("a/b", 12)) is None
    assert not of_layer.is_manifest(masks)
