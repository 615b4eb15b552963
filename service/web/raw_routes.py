"""The store's own objects, for the Python client: nothing but what the layout names."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field
from starlette.types import Receive, Scope, Send

from circuit_atlas.service.web.errors import responses
from circuit_atlas.service.web.middleware import is_head
from circuit_atlas.service.web.questions import AtlasServed
from circuit_atlas.service.web.raw import Raw
from circuit_atlas.service.web.responses import AnswerSource, Rendered, digest, etags, to_json

router = APIRouter(tags=["raw"])
_BYTES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The object.",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    },
}
ObjectPath = Annotated[
    str,
    Path(description="Path from the atlas' root.", max_length=1024, examples=["atlas.json"]),
]
Folder = Annotated[
    str, Path(description="Folder, from the atlas' root.", max_length=1024, examples=["layers"])
]


class ObjectEntry(BaseModel):
    """An object."""

    path: str = Field(description="From the atlas' root.")
    size_bytes: int


class Listing(BaseModel):
    """Every object below a folder, or the first step to them."""

    objects: list[ObjectEntry] = Field(description="By path.")
    folders: list[str] = Field(
        description="Where the objects below are too many for one answer: the folders to ask for "
        "one by one, and `objects` are those in this folder itself. Else empty."
    )


class Names(BaseModel):
    """What is in a folder."""

    names: list[str] = Field(description="Of its folders and objects, sorted.")


@router.get("/objects/{path:path}", response_class=Response, responses={**_BYTES, **responses()})
async def stored_object(request: Request, served: AtlasServed, path: ObjectPath) -> Response:
    """An object of the store as it is."""
    found = await served.raw.open(path)
    headers = {"ETag": found.etag, "Cache-Control": "no-cache"}
    if etags(request) & {found.etag, "*"}:
        return Response(status_code=304, headers=headers)
    headers["Content-Length"] = str(found.size_bytes)
    if is_head(request):
        return Response(headers=headers, media_type="application/octet-stream")
    return _stream(served.raw, found.pieces(), "application/octet-stream", headers)


@router.get("/listing", response_model=Listing, responses=responses(413))
async def whole_listing(request: Request, served: AtlasServed) -> Response:
    """Every object of the atlas, or, of a large one, the folders to ask for."""
    return await served.answers.reply(request, lambda: _listing(served.raw, ""))


@router.get("/listing/{prefix:path}", response_model=Listing, responses=responses(413))
async def listing(request: Request, served: AtlasServed, prefix: Folder) -> Response:
    """Every object below a folder, or, where they are many, the folders in it to ask for."""
    return await served.answers.reply(request, lambda: _listing(served.raw, prefix))


@router.get("/names", response_model=Names, responses=responses())
async def root_names(request: Request, served: AtlasServed) -> Response:
    """What is in the atlas' root."""
    return await served.answers.reply(request, lambda: _names(served.raw, ""))


@router.get("/names/{folder:path}", response_model=Names, responses=responses())
async def names(request: Request, served: AtlasServed, folder: Folder) -> Response:
    """What is in a folder, not below it."""
    return await served.answers.reply(request, lambda: _names(served.raw, folder))


def _names(raw: Raw, folder: str) -> AnswerSource:
    raw.check_folder(folder)
    found = list(raw.names(folder))
    return AnswerSource(digest(*found), lambda: to_json(Names(names=found)))


def _listing(raw: Raw, folder: str) -> AnswerSource:
    raw.check_folder(folder)
    found = raw.below(folder)
    # Not by `asdict`, which takes longer than the store does.
    answer = {"objects": [vars(entry) for entry in found.objects], "folders": found.folders}
    body = json.dumps(answer, separators=(",", ":"))
    version = digest(body)
    return AnswerSource(version, lambda: Rendered(body.encode()))


class _Counted(StreamingResponse):
    """A stream that counts as one of those that may be open, until it has ended somehow."""

    def __init__(self, raw: Raw, pieces: AsyncIterator[bytes], **more: Any) -> None:
        super().__init__(pieces, **more)
        self._raw = raw

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._raw.take()
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._raw.give_back()


def _stream(
    raw: Raw, pieces: AsyncIterator[bytes], media_type: str, headers: dict[str, str]
) -> Response:
    headers = {"Cache-Control": "no-cache", **headers}
    return _Counted(raw, pieces, headers=headers, media_type=media_type)
