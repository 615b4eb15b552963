"""What is told over HTTP of a circuit's stability, against the client."""

from __future__ import annotations

import httpx
import pytest

from circuit_atlas.service import Atlas
from circuit_atlas.service.web.app import create_app
from tests.service.stores import served


@pytest.fixture(scope="module")
def address(location):
    with served(create_app(location)) as found:
        yield f"{found}/api/v1"


def answer(address: str, **query: object):
    return httpx.get(f"{address}/layers/conv3/units/0/stability", params=query)


def test_it_is_what_the_client_says(address, location):
    unit = Atlas.open(location).layer("conv3").unit(0)
    found = answer(address, keep=0.5, criterion="actgrad").json()
    stable = unit.stability(keep=0.5, criterion="actgrad")
    core = stable.core()
    assert (found["kernels"], found["draws"]) == (stable.kernels, stable.draws)
    assert found["images"] == len(unit.top_images()) == len(stable.images)
    assert found["total"] == len(core)
    assert [row["position"] for row in found["rows"]] == core.positions.tolist()
    shares = stable.share[core.positions].tolist()
    assert [row["share"] for row in found["rows"]] == pytest.approx(shares)
    assert min(shares) >= found["at_least"] == 0.95
    whole = unit.circuit(keep=0.5, criterion="actgrad").by_convolution().to_pylist()
    by_convolution = core.by_convolution().to_pylist()
    assert found["layers"] == [
        {"convolution": row["convolution"], "kernels": row["kernels"], "stable": inside["kernels"]}
        for row, inside in zip(whole, by_convolution, strict=True)
    ]
    assert found["certified"] == [
        {"edits": n, "inside": len(unit.certificate(keep=0.5, edits=n).inside)} for n in (1, 2, 3)
    ]
    assert found["confidence"] == 1.0
    facts = httpx.get(f"{address}/atlas").json()
    assert facts["redrawable"] == ["actgrad"]


def test_without_a_fraction_it_is_the_nearest_to_a_tenth_and_as_a_file_the_core(address):
    found = answer(address).json()
    assert (found["keep"], found["criterion"]) == (0.1, "actgrad")
    rows = answer(address, format="csv").text.splitlines()
    assert rows[0] == '"convolution","out_channel","in_channel","position","share"'
    assert len(rows) == 1 + found["total"]


def test_a_criterion_that_cannot_be_drawn_anew(address):
    refused = answer(address, criterion="force")
    assert refused.status_code == 400
    assert "has no scores of single images to draw anew" in refused.json()["error"]["message"]
