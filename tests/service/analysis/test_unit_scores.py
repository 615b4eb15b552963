"""Units by how faithful their circuits are, and those whose circuit never fires."""

from __future__ import annotations

import pytest

from circuit_atlas.service.analysis.query import CircuitQuery
from circuit_atlas.service.analysis.unit_scores import is_silent, unit_scores, with_silent
from circuit_atlas.service.client.atlas import Atlas
from circuit_atlas.service.commands import json_output, report


@pytest.mark.parametrize(
    ("firing", "full", "silent"),
    [
        (0.0, 0.1, True),
        (0.0, 0.0, False),
        (0.1, 0.1, False),
        (1e-6, 0.5, False),
        (None, None, False),
    ],
)
def test_a_circuit_is_silent_where_it_alone_never_fires(firing, full, silent):
    assert is_silent(firing, full) is silent


def test_silent_circuits_are_counted_and_told(atlas: Atlas):
    reader, layer = atlas.reader, atlas.layer("conv3")
    query = CircuitQuery.of(reader)
    scores = {score.unit: score for score in unit_scores(reader, "conv3", query)}
    silent = [unit for unit, score in scores.items() if score.silent]
    assert silent == [unit for unit, score in scores.items() if score.pearson is None] == [2]
    counts = with_silent(reader, atlas.status().to_arrow())
    assert dict(zip(counts["layer"].to_pylist(), counts["silent"].to_pylist(), strict=True))[
        "conv3"
    ] == len(silent)
    listed = report.layer_text(layer, query)
    assert f"{len(silent)} of {len(scores)} circuits are silent" in listed
    assert "response: the module's own output" in listed
    told = report.unit_text(layer.unit(2), query)
    assert "silent" in told
    assert "silent" not in report.unit_text(layer.unit(0), query)
    assert f"silent at {query.fraction:g}" in report.atlas_text(atlas)
    facts = json_output.atlas_facts(atlas)["layers"]
    assert facts["silent"].to_pylist() == counts["silent"].to_pylist()
    assert json_output.layer_facts(layer)["activation"] == "pre"
