"""The store's own objects, for the Python client: nothing but what the layout names."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field
from starlette.types import Receive, Scope, Send

from circuit_atlas.service.web.answer_route import AnswerRoute
from circuit_atlas.service.web.errors import body_of
from circuit_atlas.service.web.middleware import is_head
from circuit_atlas.service.web.parameters import Server
from circuit_atlas.service.web.raw import OpenObject, Raw
from circuit_atlas.service.web.responses import JSON, AnswerSource, Body, digest, etags

router = APIRouter(tags=["raw"], route_class=AnswerRoute)
ObjectPath = Annotated[
    str,
    Path(description="Path from the atlas' root.", max_length=1024, examples=["atlas.json"]),
]
Folder = Annotated[
    str, Path(description="Folder, from the atlas' root.", max_length=1024, examples=["layers"])
]


class ObjectEntry(BaseModel):
    """Names an object."""

    path: str = Field(description="From the atlas' root.")
    size_bytes: int
    etag: str | None = Field(description="Another one where it was written anew, if it has one.")
    modified_s: float | None = Field(description="When it was written, in seconds since 1970 UTC.")


class Listing(BaseModel):
    """Lists every object below a folder, or the first step to them."""

    objects: list[ObjectEntry] = Field(description="By path.")
    folders: list[str] = Field(
        description="Where the objects below are too many for one answer: the folders to ask for "
        "one by one, and `objects` are those in this folder itself. Else empty."
    )


class Names(BaseModel):
    """Lists what is in a folder."""

    names: list[str] = Field(description="Of its folders and objects, sorted.")


@router.get(
    "/objects/{path:path}",
    response_class=Response,
    responses=body_of("application/octet-stream", "The object."),
)
async def stored_object(request: Request, server: Server, path: ObjectPath) -> Response:
    """Send an object of the store as it is."""
    stored = await server.raw.open(path)
    headers = {"ETag": stored.etag, "Cache-Control": "no-cache"}
    if etags(request) & {stored.etag, "*"}:
        stored.close()
        return Response(status_code=304, headers=headers)
    headers["Content-Length"] = str(stored.size_bytes)
    if is_head(request):
        stored.close()
        return Response(headers=headers, media_type="application/octet-stream")
    return _Counted(server.raw, stored, headers=headers, media_type="application/octet-stream")


@router.get("/listing", response_model=Listing)
def whole_listing(server: Server) -> AnswerSource:
    """List every object of the atlas, or, where they are many, the folders to ask for."""
    return listing(server, "")


@router.get("/listing/{prefix:path}", response_model=Listing)
def listing(server: Server, prefix: Folder) -> AnswerSource:
    """List every object below a folder, or, where they are many, the folders in it to ask for."""
    server.raw.check_folder(prefix)
    below = server.raw.below(prefix)
    # Not by `asdict`, which takes longer than the store does.
    answer = {"objects": [asdict(entry) for entry in below.objects], "folders": below.folders}
    body = json.dumps(answer, separators=(",", ":"))
    return AnswerSource(digest(body), lambda: Body(body.encode(), JSON))


@router.get("/names", response_model=Names)
def root_names(server: Server) -> AnswerSource:
    """List what is in the atlas' root."""
    return names(server, "")


@router.get("/names/{folder:path}", response_model=Names)
def names(server: Server, folder: Folder) -> AnswerSource:
    """List what is in a folder, not below it."""
    server.raw.check_folder(folder)
    inside = list(server.raw.names(folder))
    return AnswerSource(digest(*inside), lambda: Names(names=inside))


class _Counted(StreamingResponse):
    """Counts as one of the streams that may be open, until it has ended somehow."""

    def __init__(self, raw: Raw, stored: OpenObject, **more: Any) -> None:
        super().__init__(stored.pieces(), **more)
        self._raw = raw
        self._stored = stored

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            self._raw.take()
            try:
                await super().__call__(scope, receive, send)
            finally:
                self._raw.give_back()
        finally:
            self._stored.close()
