"""Feature visualizations, their failures and plans are told by their paths."""

from __future__ import annotations

from circuit_atlas.storage_schema import layer_paths
from circuit_atlas.storage_schema import visualization_paths as pictures


def test_paths_are_recognised():
    assert pictures.visualized(pictures.visualization("a/b", 3, "x.0.1")) == ("a/b", 3, "x.0.1")
    assert pictures.visualized(pictures.visualization_image("a/b", 3, "x", 7)) is None
    assert pictures.visualized("features/a b/3/x.json") is None
    assert pictures.failed_visualization(pictures.visualization_failure("a/b", 12, 7)) == 12
    assert pictures.failed_visualization(layer_paths.failure("a/b", 12, 7)) is None
    assert pictures.is_visualization_plan(pictures.visualization_plan("0" * 64))
