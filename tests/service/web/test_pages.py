"""The viewer's files, and nothing else of the machine."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from circuit_atlas.service.web import pages

FILES = sorted(
    path.relative_to(pages.VIEWER).as_posix()
    for path in pages.VIEWER.rglob("*")
    if path.is_file() and path.suffix in (".js", ".css", ".html", ".svg")
)


@pytest.mark.parametrize("query", ["", "?page=unit&layer=conv3&unit=0", "?nothing=known"])
def test_one_page_whatever_the_query(address, query):
    found = httpx.get(f"{address}/{query}")
    assert found.status_code == 200
    assert found.headers["content-type"] == "text/html; charset=utf-8"
    assert found.content == (pages.VIEWER / "index.html").read_bytes()
    again = httpx.get(f"{address}/", headers={"If-None-Match": found.headers["etag"]})
    assert again.status_code == 304


@pytest.mark.parametrize("name", FILES)
def test_every_file_of_the_viewer(address, name):
    found = httpx.get(f"{address}/viewer/{name}")
    assert found.content == (pages.VIEWER / name).read_bytes()
    kind = {".js": "text/javascript", ".css": "text/css", ".html": "text/html"}.get(
        Path(name).suffix, "image/svg+xml"
    )
    assert found.headers["content-type"].startswith(kind)
    assert found.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize(
    "path", ["../cli.py", "%2e%2e/cli.py", "..%2fcli.py", ".hidden", "pages", "none.js", "", "//x"]
)
def test_no_other_file(address, path):
    found = httpx.get(f"{address}/viewer/{path}")
    assert found.status_code == 404
    assert found.json()["error"]["kind"] == "query"


def test_no_page_of_the_framework_loads_scripts_from_elsewhere(address):
    for path in ("/docs", "/redoc", "/openapi.json"):
        assert httpx.get(f"{address}{path}").status_code == 404
    document = httpx.get(f"{address}/api/v1/openapi.json").json()
    assert all("get" in item and len(item) == 1 for item in document["paths"].values())
    for item in document["paths"].values():
        assert item["get"]["description"]
        assert {"400", "404", "422", "500", "503"} <= item["get"]["responses"].keys()
        for parameter in item["get"].get("parameters", ()):
            assert parameter["description"], parameter
