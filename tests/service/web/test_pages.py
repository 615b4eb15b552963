"""The pages as they are sent: a document, scripts and a style sheet, and nothing else of the
machine."""

from __future__ import annotations

import re
from itertools import chain

import httpx
import pytest

from circuit_atlas.service.web import pages

MODULES = sorted(path.relative_to(pages.VIEWER).as_posix() for path in pages.VIEWER.rglob("*.js"))
LATER = [f"viewer/{name}" for name in MODULES if name.startswith("pages/")]
LATER.append("viewer/diagram/diagram.js")
"""Scripts that the pages name where they are needed."""


@pytest.mark.parametrize(
    ("query", "made_by", "asked"),
    [
        ("", "atlas", []),
        ("?nothing=known", "atlas", []),
        ("?page=nothing", None, []),
        ("?page=../app", None, []),
        ("?page=unit&layer=conv3", "unit", []),
        ("?page=unit&layer=conv3&unit=0", "unit", ["layers/conv3/units/0"]),
        ("?page=channel&layer=a/b<c&channel=3&keep=0.1", "channel", ["channels/a%2Fb%3Cc/3"]),
        (
            "?page=compare&left.layer=conv3&left.unit=0&right.layer=conv3&right.unit=1",
            "compare",
            ["layers/conv3/units/0", "layers/conv3/units/1"],
        ),
        (
            "?page=compare&left.layer=conv3&left.unit=0&right.layer=conv3&right.unit=0",
            "compare",
            ["layers/conv3/units/0"],
        ),
        (
            "?page=compare&left.layer=conv3&left.unit=0&right.layer=conv3",
            "compare",
            ["layers/conv3/units/0"],
        ),
    ],
)
def test_one_page_whatever_the_query(address, query, made_by, asked):
    """But for what the browser asks for at once: the page's script, the atlas, and what the page
    begins with."""
    found = httpx.get(f"{address}/{query}")
    assert found.status_code == 200
    assert found.headers["content-type"] == "text/html; charset=utf-8"
    links = re.findall(r'as="fetch" href="api/v1/([^"]+)" crossorigin>', found.text)
    assert links == ["atlas", *asked]
    scripts = re.findall(r'<link rel="modulepreload" href="([^"]+)">', found.text)
    assert scripts == ([] if made_by is None else [f"viewer/pages/{made_by}.js"])
    without = re.sub(r'(?<=>)<link rel="(?:modulep|p)reload"[^>]*>', "", found.text)
    assert without == (pages.VIEWER / "index.html").read_text()
    again = httpx.get(f"{address}/{query}", headers={"If-None-Match": found.headers["etag"]})
    assert again.status_code == 304


def test_all_that_the_page_names_is_there(address):
    document = (pages.VIEWER / "index.html").read_text()
    files = re.findall(r'(?:src|href)="(viewer/[^"]+)"', document)
    assert files == ["viewer/icon.svg", "viewer/all.css", "viewer/all.js"]
    kinds = ["image/svg+xml", "text/css; charset=utf-8", "text/javascript; charset=utf-8"]
    for name, kind in zip([*files, *LATER], [*kinds, *kinds[-1:] * len(LATER)], strict=True):
        found = httpx.get(f"{address}/{name}")
        assert found.status_code == 200
        assert found.headers["content-type"] == kind
        assert found.headers["cache-control"] == "no-cache"
        again = httpx.get(f"{address}/{name}", headers={"If-None-Match": found.headers["etag"]})
        assert again.status_code == 304


def test_the_scripts_have_every_module_and_no_comment(address):
    first = httpx.get(f"{address}/viewer/all.js").text
    later = {name: httpx.get(f"{address}/{name}").text for name in LATER}
    begun = _modules(first)
    held = {name: _modules(text) for name, text in later.items()}
    assert sorted({*begun, *chain(*held.values())}) == MODULES
    # No page begins with another, nor with what draws a diagram; and none is sent what it has.
    assert not any(name.startswith(("diagram/", "pages/")) for name in begun)
    drawing = held.pop("viewer/diagram/diagram.js")
    assert all(name.startswith("diagram/") for name in drawing)
    for name, own in held.items():
        assert not set(own) & {*begun, *drawing}
        assert [f"viewer/{each}" for each in own if each.startswith("pages/")] == [name]
    for text in (first, *later.values()):
        assert not re.search(r"^\s*(\* @param|//)", text, re.M)
    # What follows a comment in its line is code, and stays.
    assert "const found = await get(path" in first


def _modules(script: str) -> list[str]:
    """Lists the modules that a script holds, each once."""
    found = re.findall(r'^modules\["(.+)"\] \S*= \(', script, re.M)
    assert len(found) == len(set(found))
    return found


def test_the_style_sheet_has_every_sheet(address):
    styles = httpx.get(f"{address}/viewer/all.css").text
    for sheet in pages.VIEWER.glob("*.css"):
        assert sheet.read_text() in styles, sheet.name


@pytest.mark.parametrize(
    "path",
    [
        "../cli.py",
        "%2e%2e/cli.py",
        "..%2fcli.py",
        ".hidden",
        "pages",
        "app.js",
        "",
        "//x",
        "parts/side.js",
        "pages/nothing.js",
    ],
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
