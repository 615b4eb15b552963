"""Schemathesis: whatever is asked, no answer is at odds with the OpenAPI document."""

from __future__ import annotations

import contextlib
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.patience import PATIENCE_S

EXAMPLES = 12
CHECKS = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
)
# Names that the atlas has, and one that it has not: questions drawn at random would find nothing.
NAMES = {
    "layer": ["conv2", "conv3", "conv9"],
    "left.layer": ["conv2", "conv3"],
    "right.layer": ["conv2", "conv3"],
    "unit": ["0", "1", "2", "3", "edge", "99", "-1"],
    "left.unit": ["0", "1", "edge"],
    "right.unit": ["0", "2", "3"],
    "image": [0, 2, 3, 4, 5, 6],
    "images": ["2", "0,3", "4"],
    "left.images": ["2", "0,3"],
    "right.images": ["2,2", "9"],
    "criterion": ["actgrad", "force", "snip"],
    "left.criterion": ["actgrad", "force"],
    "right.criterion": ["actgrad", "magnitude"],
    "keep": [1, 0.5, 0.1, 0.3],
    "left.keep": [1, 0.5],
    "right.keep": [0.1, 0.3],
    "at": [0.5, 0.7],
    "convolution": ["conv1", "conv2", "conv7"],
    "channel": [0, 3, 11],
    "out": [0, 3, 11],
    "in": [0, 5, 11],
    "variant": ["positive"],
    "ablation": ["zero", "mean"],
    "label": ["cat", "cow"],
    "q": ["conv", "0", "dog <small>"],
    "sort": ["unit", "r.0.5", "nothing"],
    "path": ["atlas.json", "images.parquet", "../atlas.json"],
    "prefix": ["layers", "layers/conv2/commits", "etc"],
    "folder": ["layers", "plans", ".."],
}


@pytest.fixture
def document(address: str) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{address}/api/v1/openapi.json").json()
    return found


def test_questions_about_what_there_is(document, address):
    for item in document["paths"].values():
        for parameter in item["get"].get("parameters", ()):
            if parameter["name"] in NAMES:
                parameter["schema"] = {"enum": NAMES[parameter["name"]]}
    found = _ask(document, address, GenerationMode.POSITIVE)
    # Lest all of it went to things that are not there.
    without = {path for path, statuses in found.items() if 200 not in statuses}
    assert without == {"/api/v1/channels/{convolution}/{channel}/features/{variant}"} | {
        "/api/v1/layers/{layer}/units/{unit}/features/{variant}"
    }


def test_questions_against_the_document(document, address):
    found = _ask(document, address, GenerationMode.NEGATIVE)
    assert any(422 in statuses for statuses in found.values())


def _ask(document: dict[str, Any], address: str, mode: GenerationMode) -> dict[str, set[int]]:
    """Ask every endpoint some questions, the same in every run; the statuses that it gave."""
    statuses: dict[str, set[int]] = {}
    schema = schemathesis.openapi.from_dict(document)
    for result in schema.get_all_operations():
        operation = result.ok()

        @settings(
            max_examples=EXAMPLES,
            derandomize=True,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case: Any) -> None:
            response = case.call(base_url=address, timeout=PATIENCE_S)
            statuses.setdefault(case.path, set()).add(response.status_code)
            case.validate_response(response, checks=CHECKS)

        with contextlib.suppress(Unsatisfiable):  # no parameters: nothing to ask wrongly
            ask()
    return statuses
