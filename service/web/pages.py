"""The pages: one document, one script and one style sheet made of `service/viewer/`, its icon.

A file each would be ninety requests: on a slow line they take longer than what they hold.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from html import escape
from pathlib import Path
from urllib.parse import quote

from fastapi import APIRouter

from circuit_atlas.service.diagram.modules import join
from circuit_atlas.service.web.answer_route import PageRoute
from circuit_atlas.service.web.responses import AnswerSource, Body, digest

router = APIRouter(include_in_schema=False, route_class=PageRoute)
VIEWER = Path(__file__).parents[1] / "viewer"
_COMMENT = re.compile(r"^[ \t]*(?:/\*\*(?:(?!\*/).)*\*/[ \t]*|//[^\n]*)\n", re.S | re.M)
_INDENT = re.compile(r"^[ \t]+", re.M)
_FACTS = {
    "layer": "layers/{layer}",
    "unit": "layers/{layer}/units/{unit}",
    "map": "layers/{layer}/units/{unit}",
    "channel": "channels/{layer}/{channel}",
    "image": "images/{image}",
}
"""Of each page: the answer that it begins with."""
_PRELOAD = '<link rel="preload" as="fetch" href="api/v1/{}" crossorigin>'
_STYLES = ("tokens", "base", "shell", "components", "charts", "pages", "diagram")
"""Style sheets in the order in which they count."""


@router.get("/")
def index(
    page: str = "", layer: str = "", unit: str = "", channel: str = "", image: str = ""
) -> AnswerSource:
    """Send the one page; what it shows is in its query. It has the browser ask for what the page
    begins with while the script is on its way."""
    named = {"layer": layer, "unit": unit, "channel": channel, "image": image}
    preload = _preload(page, named)

    def make() -> bytes:
        head = _PRELOAD.format("atlas")
        return _read("index.html").decode().replace(head, f"{head}{preload}", 1).encode()

    return AnswerSource(
        digest(_version(), preload), lambda: Body(make(), "text/html; charset=utf-8")
    )


@router.get("/viewer/all.js")
def script() -> AnswerSource:
    """Send all modules of the viewer as one script."""
    return _source("text/javascript; charset=utf-8", _script)


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


def _preload(page: str, named: dict[str, str]) -> str:
    """Name the answer that a page begins with in an element; nothing for others, and for a page
    that lacks what it is of."""
    facts = _FACTS.get(page)
    if facts is None or any(f"{{{name}}}" in facts and not text for name, text in named.items()):
        return ""
    path = facts.format(**{name: quote(text, safe="!~*'()") for name, text in named.items()})
    return _PRELOAD.format(escape(path))


def _script() -> bytes:
    # What is said to those who read the modules is a quarter of what would be sent.
    return _INDENT.sub("", _COMMENT.sub("", join(VIEWER, "app.js", names=()))).encode()


def _sheets() -> list[str]:
    return [f"{name}.css" for name in _STYLES]


def _read(name: str) -> bytes:
    return (VIEWER / name).read_bytes()
