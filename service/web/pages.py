"""The viewer's files, `service/viewer/`, and no others."""

from __future__ import annotations

import mimetypes
import re
from pathlib import Path

from fastapi import APIRouter

from circuit_atlas.service.web.answer_route import PageRoute
from circuit_atlas.service.web.errors import NotFoundError
from circuit_atlas.service.web.responses import AnswerSource, Body, digest

router = APIRouter(include_in_schema=False, route_class=PageRoute)
VIEWER = Path(__file__).parents[1] / "viewer"
_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".svg": "image/svg+xml",
    ".json": "application/json",
    ".txt": "text/plain; charset=utf-8",
}


@router.get("/")
def index() -> AnswerSource:
    """Send the one page; what it shows is in its query."""
    return _source("index.html")


@router.get("/viewer/{path:path}")
def viewer(path: str) -> AnswerSource:
    """Send one of the viewer's files."""
    return _source(path)


def _source(path: str) -> AnswerSource:
    file = _file(path)
    stat = file.stat()
    version = digest(path, str(stat.st_mtime_ns), str(stat.st_size))
    return AnswerSource(version, lambda: Body(file.read_bytes(), _media_type(file)))


def _file(path: str) -> Path:
    """Find the file of that name; NotFoundError where the viewer has none."""
    parts = path.split("/")
    file = VIEWER.joinpath(*parts)
    if all(_NAME.fullmatch(part) for part in parts) and file.is_file():
        return file
    raise NotFoundError(f"the viewer has no file {path[:80]!r}")


def _media_type(file: Path) -> str:
    return (
        _TYPES.get(file.suffix) or mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    )
