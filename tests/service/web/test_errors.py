"""Whatever goes wrong is told in one shape, with our kinds, and nothing of the inside."""

from __future__ import annotations

import httpx
import pytest

from circuit_atlas.service.web import server_state as state_module
from circuit_atlas.service.web.app import create_app
from circuit_atlas.service.web.limits import Limits
from tests.service.stores import object_store, served

CIRCUIT = "layers/conv3/units/0/circuit"


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("nothing", 404, "there is nothing at"),
        ("layers/conv3/units/0/", 404, "there is nothing at"),
        ("layers/conv9", 404, "no layer 'conv9': did you mean"),
        ("layers/conv3/units/5", 404, "no unit 5; units go from 0 to 4"),
        ("layers/conv2/units/edgy", 404, "did you mean 'edge'"),
        ("layers/conv3/units/4/circuit", 400, "failed (non_finite"),
        ("layers/conv3/units/3/circuit", 400, "is dead"),
        ("layers/conv2/units/2/faithfulness", 400, "is not computed yet"),
        ("images/6", 404, "no image 6: their ids go from 0 to 5"),
        ("images/5/file", 404, "image 5 was left out: it is cut"),
        ("images/x", 422, "image='x' is refused: give a whole number"),
        ("images/-1", 422, "image="),
        ("images?limit=0", 422, "limit='0' is refused: give 1 or more"),
        ("images?limit=1001", 400, "limit=1001 is too large: a page of JSON has up to 1000"),
        ("images?offset=99999999999", 422, "offset='99999999999' is refused: give "),
        ("images?limt=3", 400, "no parameter 'limt' here: did you mean 'limit'"),
        ("images?format=xml", 422, "format='xml' is refused: give '"),
        (f"{CIRCUIT}?keep=0", 422, "keep='0' is refused: give more than 0"),
        (f"{CIRCUIT}?keep=nan", 422, "keep='nan' is refused: give "),
        (f"{CIRCUIT}?keep=0.1&kernels=3", 400, "give either keep"),
        (f"{CIRCUIT}?kernels=45", 400, "give 1 to 44"),
        (f"{CIRCUIT}?criterion=snp", 400, "no criterion 'snp'"),
        (f"{CIRCUIT}?images=4", 400, "no scores of image 4"),
        (f"{CIRCUIT}?images=a", 422, "images='a' is refused: give ids with commas, such as 1,2,3"),
        (f"{CIRCUIT}?images=%D9%A1", 422, "give ids with commas"),
        (f"{CIRCUIT}?keep=0.1&keep=0.2", 400, "keep is given 2 times: give it once"),
        (f"{CIRCUIT}?images=1,", 422, "images="),
        (f"{CIRCUIT}?images={','.join('1' * 300)}", 400, "300 images are too many"),
        (f"{CIRCUIT}?criterion={'c' * 300}", 422, "is refused: give a text of "),
        (
            "layers/conv3/units/0/diagram?edges=20001",
            422,
            "edges='20001' is refused: give 20000 or less",
        ),
        ("layers/conv3/units/0/similar?keep=0.3", 400, "no stored fraction"),
        ("layers/conv3/uses", 422, "convolution is missing: it has to be given"),
        ("layers/conv3/uses?convolution=conv9", 400, "no convolution 'conv9'"),
        ("layers/conv3/uses?convolution=conv1&out=8", 400, "out=8 is out of range"),
        ("layers/conv3/units?sort=nothing", 400, "no column 'nothing'"),
        ("layers/conv3/units?min.unit=1&min.unit=2", 400, "min.unit is given 2 times"),
        ("layers/conv3/units?min.unit=a", 400, "min.unit='a' is no number"),
        ("layers/conv3/units?min.unit=1e999", 400, "no finite number"),
        ("layers/conv3/units?max.name=1", 400, "only numbers have bounds"),
        ("layers/conv3/units?min.=1", 400, "no column ''"),
        ("layers/conv3/units?has.unit=1", 400, "only texts are searched, and this is number"),
        ("layers/conv3/units?has.state=done", 400, "only texts are searched, and this is state"),
        ("layers/conv3/units?has.labels=cat", 400, "no column 'labels': did you mean 'label'"),
        (f"layers/conv3/units?has.label={'q' * 300}", 400, "has.label has 300 characters"),
        ("layers/conv3/units?min.unit=%D9%A1", 400, "is no number"),
        ("layers/conv3/units?at=0.3", 400, "at=0.3 is no stored fraction"),
        ("layers/conv3/units?state=lost", 422, "give some of done, dead, failed and planned"),
        ("layers/a%0D%0Ab", 400, "control characters"),
        ("layers/conv3/units?split=left", 422, "split="),
        ("layers/conv3/units?threshold=2", 422, "threshold="),
        ("layers/conv3/units/0/response-map/4", 400, "maps of its top images alone (2, 0, 3)"),
        ("layers/conv3/units/0/features/positive", 404, "no feature visualization 'positive'"),
        ("layers/conv3/channels/conv1/8", 404, "no channel 8 of a convolution 'conv1'"),
        ("channels/conv9/0/features", 404, "no layer of the atlas has a channel 0"),
        ("images/2/units?layer=conv9", 400, "no layer 'conv9'"),
        (
            "compare?left.layer=conv9&left.unit=0&right.layer=conv3&right.unit=0",
            400,
            "no layer 'conv9'",
        ),
        (
            "compare?left.layer=conv3&left.unit=9&right.layer=conv3&right.unit=0",
            400,
            "no unit 9",
        ),
        ("compare?left.layer=conv3&left.unit=0", 422, "right.layer is missing"),
        ("search", 422, "q is missing"),
        (f"search?q={'q' * 300}", 422, "q="),
        ("objects/nothing.json", 404, "an atlas has no object"),
        ("objects/layers/conv9/layer.json", 404, "there is no object"),
    ],
)
def test_a_bad_question_gets_a_4xx_that_says_why(api, path, status, message):
    found = api.get(path)
    assert found.status_code == status, found.text
    error = found.json()["error"]
    assert error["kind"] == "query"
    assert message in error["message"]
    assert "\n" not in error["message"]
    assert found.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_nothing_but_reading_is_answered(api, method):
    found = api.request(method, "atlas")
    assert found.status_code == 405
    assert found.headers["allow"] == "GET, HEAD"
    assert found.json()["error"]["kind"] == "query"


def test_a_long_address_is_refused(api):
    found = api.get("search", params={"q": "x" * 9000})
    assert found.status_code == 414
    assert "longer than 8192 bytes" in found.json()["error"]["message"]


def test_an_altered_atlas_is_a_fault_of_the_atlas(tmp_path, write):
    write(tmp_path / "atlas")
    (file,) = tmp_path.glob("atlas/layers/conv3/units/0/*/responses.parquet")
    file.write_bytes(b"nothing")
    with served(create_app(tmp_path / "atlas")) as address:
        found = httpx.get(f"{address}/api/v1/layers/conv3/units/0/responses")
        rows = httpx.get(f"{address}/api/v1/layers/conv3/units").json()["rows"]
    assert found.status_code == 500
    error = found.json()["error"]
    assert error["kind"] == "corrupt"
    assert error["message"].startswith("atlas/layers/conv3/units/0/")
    assert "is cut or altered" in error["message"]
    # One unit that cannot be read takes none of the others with it.
    assert "cut or altered" in rows[0]["error"]
    assert rows[1]["error"] is None
    assert rows[1]["r"]
    for text in (found.text, *map(str, rows)):
        assert str(tmp_path) not in text


def test_a_store_that_is_gone_is_to_be_asked_again(location):
    with served(create_app(location)) as upstream:
        app = create_app(upstream, limits=Limits(fresh_s=0))
    with served(app) as address:
        found = httpx.get(f"{address}/api/v1/layers/conv3/units/0/responses")
    assert found.status_code == 503
    assert found.headers["retry-after"] == "1"
    assert found.json()["error"]["kind"] == "store"
    assert upstream not in found.text


def test_where_an_object_store_is_stays_with_the_server(tmp_path, write, monkeypatch):
    with object_store(tmp_path / "log") as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        write("s3://bucket/private/atlas")
        app = create_app("s3://bucket/private/atlas")
    with served(app) as address:
        found = httpx.get(f"{address}/api/v1/objects/atlas.json")
    assert found.status_code == 503
    assert found.json()["error"]["message"].startswith("cannot read atlas/atlas.json: ")
    for secret in ("bucket", "private", environment["AWS_ENDPOINT"]):
        assert secret not in found.text


def test_a_fault_of_ours_shows_nothing_of_the_inside(address, monkeypatch, caplog):
    def fail(*given: object) -> None:
        del given
        raise ZeroDivisionError("secret of the inside")

    monkeypatch.setattr(state_module.ServerState, "snapshot", fail)
    found = httpx.get(f"{address}/api/v1/layers/conv3")
    assert found.status_code == 500
    assert found.json()["error"]["kind"] == "internal"
    assert "secret" not in found.text
    assert "nosniff" in found.headers["x-content-type-options"]
    assert "secret of the inside" in caplog.text


def test_an_answer_larger_than_allowed_is_refused(location):
    with served(create_app(location, limits=Limits(answer_bytes=500))) as address:
        found = httpx.get(f"{address}/api/v1/layers/conv3/units/0/responses?limit=1000")
    assert found.status_code == 413
    assert "more than 500" in found.json()["error"]["message"]


def test_scores_that_take_too_much_are_refused(location):
    with served(create_app(location, limits=Limits(score_bytes=10, mask_bytes=10))) as address:
        for path in ("map", "groups"):
            found = httpx.get(f"{address}/api/v1/layers/conv3/units/0/{path}")
            assert found.status_code == 413
        found = httpx.get(f"{address}/api/v1/layers/conv3/units/0/similar")
        assert found.status_code == 413
        found = httpx.get(f"{address}/api/v1/layers/conv3/units/0/circuit?images=2")
        assert found.status_code == 413


def test_circuits_that_take_too_much_are_refused(location):
    unit = "layers/conv3/units/0"
    sides = "left.layer=conv3&left.unit=0&right.layer=conv3&right.unit=1"
    with served(create_app(location, limits=Limits(kernels=20))) as address:
        for path in (
            f"{unit}/circuit?kernels=21",
            f"{unit}/diagram?keep=1",
            f"{unit}/diagram.svg?keep=0.5",
            f"compare?{sides}&right.keep=1",
            f"compare/diagram?{sides}&left.kernels=40",
        ):
            found = httpx.get(f"{address}/api/v1/{path}")
            assert found.status_code == 413, path
            assert "more than this server has for a question (20): keep" in found.text
        assert httpx.get(f"{address}/api/v1/{unit}/circuit?kernels=20").status_code == 200
        found = httpx.get(f"{address}/api/v1/{unit}/circuit?kernels=45")
        assert (found.status_code, "give 1 to 44" in found.text) == (400, True)
