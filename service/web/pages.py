"""The viewer's files, `service/viewer/`, and no others."""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Callable
from pathlib import Path

from fastapi import APIRouter, Request, Response

from circuit_atlas.service.web.errors import NotFoundError
from circuit_atlas.service.web.questions import AtlasServed
from circuit_atlas.service.web.responses import AnswerSource, Rendered, digest

router = APIRouter(include_in_schema=False)
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
async def index(request: Request, served: AtlasServed) -> Response:
    """The one page; what it shows is in its query."""
    return await served.answers.reply(request, _file("index.html"), question=False)


@router.get("/viewer/{path:path}")
async def viewer(request: Request, served: AtlasServed, path: str) -> Response:
    """One of the viewer's files."""
    return await served.answers.reply(request, _file(path), question=False)


def _file(path: str) -> Callable[[], AnswerSource]:
    def locate() -> AnswerSource:
        file = _place(path)
        stat = file.stat()
        version = digest(path, str(stat.st_mtime_ns), str(stat.st_size))
        return AnswerSource(version, lambda: Rendered(file.read_bytes(), _media_type(file)))

    return locate


def _place(path: str) -> Path:
    """The file of that name; NotFoundError where the viewer has none."""
    parts = path.split("/")
    file = VIEWER.joinpath(*parts)
    if all(_NAME.fullmatch(part) for part in parts) and file.is_file():
        return file
    raise NotFoundError(f"the viewer has no file {path[:80]!r}")


def _media_type(file: Path) -> str:
    known = _TYPES.get(file.suffix)
    return known or mimetypes.guess_type(file.name)[0] or "application/octet-stream"
