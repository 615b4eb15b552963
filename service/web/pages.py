"""The pages: one document, one style sheet and a few scripts made of `service/viewer/`, its icon.

A file each would be ninety requests: on a slow line they take longer than what they hold. All
pages begin with one script; what makes each page has one more, which the document names, so that
both are asked for at once. What draws a diagram has a script of its own too: no page begins with
it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Depends, Request

from circuit_atlas.service.diagram.modules import split
from circuit_atlas.service.web.answer_route import PageRoute
from circuit_atlas.service.web.errors import NotFoundError
from circuit_atlas.service.web.responses import AnswerSource, Body, digest

router = APIRouter(include_in_schema=False, route_class=PageRoute)
VIEWER = Path(__file__).parents[1] / "viewer"
_COMMENT = re.compile(r"^[ \t]*(?:/\*\*(?:(?!\*/).)*\*/[ \t]*|//[^\n]*)\n", re.S | re.M)
_INDENT = re.compile(r"^[ \t]+", re.M)
_FACTS = {
    "layer": ("layers/{layer}",),
    "unit": ("layers/{layer}/units/{unit}",),
    "map": ("layers/{layer}/units/{unit}",),
    "channel": ("channels/{layer}/{channel}",),
    "image": ("images/{image}",),
    "compare": (
        "layers/{left.layer}/units/{left.unit}",
        "layers/{right.layer}/units/{right.unit}",
    ),
}
"""Of each page: the answers that it begins with."""
_NAMED = re.compile(r"\{([a-z.]+)\}")
_MODULE = '<link rel="modulepreload" href="viewer/{}">'
_PRELOAD = '<link rel="preload" as="fetch" href="api/v1/{}" crossorigin>'
_FIRST = "all.js"
_TOLD = 80
_STYLES = ("tokens", "base", "shell", "components", "charts", "pages", "diagram")
"""Style sheets in the order in which they count."""


def _state(request: Request) -> Mapping[str, str]:
    return request.query_params


@router.get("/")
def index(state: Annotated[Mapping[str, str], Depends(_state)]) -> AnswerSource:
    """Send the one page; what it shows is in its query. It has the browser ask for the page's own
    script, and for what the page begins with, while the first script is on its way."""
    preload = _preload(state)

    def make() -> bytes:
        head = _PRELOAD.format("atlas")
        return _read("index.html").decode().replace(head, f"{head}{preload}", 1).encode()

    return AnswerSource(
        digest(_version(), preload), lambda: Body(make(), "text/html; charset=utf-8")
    )


@router.get(f"/viewer/{_FIRST}")
def script() -> AnswerSource:
    """Send the modules that all pages begin with as one script."""
    return _source("text/javascript; charset=utf-8", lambda: _script(_FIRST))


@router.get("/viewer/{folder}/{name}.js")
def later_script(folder: str, name: str) -> AnswerSource:
    """Send what makes a page, or draws a diagram, as one script, which takes from the first what
    that has."""
    path = f"{folder}/{name}.js"
    if path not in _scripts(_version()):
        raise NotFoundError(f"these pages have no script {path[:_TOLD]!r}")
    return _source("text/javascript; charset=utf-8", lambda: _script(path))


@router.get("/viewer/all.css")
def styles() -> AnswerSource:
    """Send all style sheets as one."""
    return _source("text/css; charset=utf-8", lambda: b"".join(map(_read, _sheets())))


@router.get("/viewer/icon.svg")
def icon() -> AnswerSource:
    """Send the icon."""
    return _source("image/svg+xml", lambda: _read("icon.svg"))


def _source(media_type: str, make: Callable[[], bytes]) -> AnswerSource:
    return AnswerSource(_version(), lambda: Body(make(), media_type))


def _version() -> str:
    """Digest which files the viewer has and when they were written, so that one that is edited
    shows."""
    stats = ((path, path.stat()) for path in sorted(VIEWER.rglob("*")) if path.is_file())
    return digest(*(f"{path} {stat.st_mtime_ns} {stat.st_size}" for path, stat in stats))


def _preload(state: Mapping[str, str]) -> str:
    """Name the script of a page and the answers that it begins with in an element each: none for
    what is no page, and no answer where the state lacks what it is of."""
    page = state.get("page", "atlas")
    own = f"pages/{page}.js"
    elements = [_MODULE.format(own)] if own in _scripts(_version()) else []
    for facts in _FACTS.get(page, ()):
        if all(state.get(name) for name in _NAMED.findall(facts)):
            path = _NAMED.sub(lambda match: quote(state[match[1]], safe="!~*'()"), facts)
            elements.append(_PRELOAD.format(escape(path)))
    return "".join(dict.fromkeys(elements))


def _script(name: str) -> bytes:
    # What is said to those who read the modules is a quarter of what would be sent.
    return _INDENT.sub("", _COMMENT.sub("", _scripts(_version())[name])).encode()


@lru_cache(maxsize=1)
def _scripts(version: str) -> Mapping[str, str]:
    """Join the modules, once for each version of the files."""
    del version
    return split(VIEWER, "app.js", name=_FIRST)


def _sheets() -> list[str]:
    return [f"{name}.css" for name in _STYLES]


def _read(name: str) -> bytes:
    return (VIEWER / name).read_bytes()
