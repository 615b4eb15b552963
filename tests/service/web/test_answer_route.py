"""One route class answers every endpoint: what it refuses, and what it describes."""

from __future__ import annotations

from functools import partial
from typing import Any

import httpx
import pytest

EXAMPLES = {
    "layer": "conv3",
    "unit": "0",
    "image": "2",
    "convolution": "conv1",
    "channel": "3",
    "variant": "positive",
    "path": "atlas.json",
    "prefix": "layers",
    "folder": "layers",
}


get = partial(httpx.get, timeout=60)


@pytest.fixture(scope="module")
def document(address: str) -> dict[str, Any]:
    found: dict[str, Any] = get(f"{address}/api/v1/openapi.json").json()
    return found


def paths(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Address -> description of each endpoint of the API, for things that there are."""
    return {
        path.format(**EXAMPLES): item["get"]
        for path, item in document["paths"].items()
        if path != "/api/server"
    }


def test_every_endpoint_refuses_a_parameter_that_it_does_not_have(document, address):
    endpoints = paths(document)
    assert len(endpoints) > 30
    for path in endpoints:
        found = get(f"{address}{path}?vv=1&unit.min=3")
        assert found.status_code == 400, path
        error = found.json()["error"]
        assert error["kind"] == "query"
        assert error["message"].startswith("there is no parameter 'vv' here: "), path
        assert "v'" in error["message"].partition(": ")[2]


def test_every_endpoint_refuses_a_parameter_given_twice(document, address):
    for path in paths(document):
        found = get(f"{address}{path}?v=1&v=2")
        assert found.status_code == 400, path
        assert found.json()["error"]["message"] == "v is given 2 times: give it once"


def test_an_unknown_parameter_is_told_of_before_one_that_is_missing(address):
    found = get(f"{address}/api/v1/compare?left.laier=conv3")
    assert found.status_code == 400
    assert "no parameter 'left.laier' here: did you mean 'left.layer'" in found.text


def test_filters_are_named_among_the_parameters_of_units(address):
    found = get(f"{address}/api/v1/layers/conv3/units?mim.keep=1")
    assert found.status_code == 400
    assert "there is no parameter 'mim.keep' here" in found.text
    assert "min.*" in found.text


def test_what_can_be_had_as_a_file_says_so(document):
    for path, endpoint in paths(document).items():
        names = [parameter["name"] for parameter in endpoint["parameters"]]
        assert "v" in names, path
        content = endpoint["responses"]["200"].get("content", {})
        assert ("format" in names) == ("text/csv" in content), path
        assert "413" in endpoint["responses"], path


def test_a_function_keeps_its_name_and_its_words_in_the_description(document):
    endpoint = document["paths"]["/api/v1/layers/{layer}/units/{unit}/circuit"]["get"]
    assert endpoint["summary"] == "Circuit"
    assert endpoint["description"].startswith(
        "List the kernels of a circuit of the unit: of a kept fraction"
    )
