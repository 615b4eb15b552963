"""From a question to an HTTP answer: ETags made of checksums, a cache, gzip, files."""

from __future__ import annotations

import gzip
import hashlib
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

import pyarrow as pa
from fastapi import Request, Response
from pydantic import BaseModel

from circuit_atlas.service.circuit.table_file import table_file
from circuit_atlas.service.web.cache import ByteCache
from circuit_atlas.service.web.errors import TooLargeError
from circuit_atlas.service.web.limits import Limits
from circuit_atlas.service.web.work import Work

API_VERSION = 1
Format = Literal["json", "csv", "parquet"]
MEDIA: dict[str, str] = {
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
}
JSON = "application/json"

_GAINS = ("application/json", "text/", "image/svg+xml")
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")
_SMALL_BYTES = 1000
_LEVEL = 5
_LASTING = "public, max-age=31536000, immutable"
_REVALIDATED = "no-cache"


@dataclass(frozen=True)
class Body:
    """Holds the body of an answer.

    Attributes:
        content: its bytes.
        media_type: what they are.
        filename: the name to save it under; may hold any character. None: it is not to be saved.
        inline: whether it is also to be shown, as an image is; else it is a download.
    """

    content: bytes
    media_type: str = JSON
    filename: str | None = None
    inline: bool = False


@dataclass(frozen=True)
class AnswerSource:
    """Says what a question is answered from.

    Attributes:
        version: a digest of all that the answer depends on, apart from the question itself.
        render: makes the answer; a model is sent as JSON, with NaN as null.
    """

    version: str
    render: Callable[[], Body | BaseModel]


@dataclass(frozen=True)
class _Answer:
    """Holds a body as it is sent, and what its headers need; `body` is None where the client has
    it."""

    etag: str
    version: str
    body: Body | None
    sent: bytes
    zipped: bool


def digest(*parts: str) -> str:
    """Digest some texts, to 128 bits in hex."""
    whole = hashlib.sha256()
    for part in parts:
        whole.update(len(part).to_bytes(8, "big"))
        whole.update(part.encode(errors="surrogatepass"))
    return whole.hexdigest()[:32]


@cache
def code_version() -> str:
    """Return the version of this package: other code may answer otherwise from the same atlas."""
    try:
        return version("circuit-atlas")
    except PackageNotFoundError:
        return "unknown"


def to_file(table: pa.Table, form: Format, *, name: str) -> Body:
    """Write a table as a CSV or Parquet download."""
    content = table_file(table, f".{form}")
    return Body(content, MEDIA[form], f"{name}.{form}")


def plain(value: Any) -> Any:
    """Return a value as JSON has it: NaN and infinities become None."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Answerer:
    """Answers requests: looks first at what the client has, then into its cache."""

    def __init__(self, work: Work, limits: Limits) -> None:
        self.work = work
        self.limits = limits
        self.bodies: ByteCache[Body] = ByteCache(limits.cache_bytes)

    async def reply(
        self, request: Request, locate: Callable[[], AnswerSource], *, question: bool
    ) -> Response:
        """Answer a request.

        Args:
            request: the question; path, query and `If-None-Match` are looked at.
            locate: finds what it is answered from, in a thread; quick, since it runs for an answer
                that turns out to be known too.
            question: whether the answer depends on the query, as that of a page does not.
        """
        query = tuple(sorted(request.query_params.multi_items())) if question else ()
        path = request.scope["path"]
        known = etags(request)
        zipped = _takes_gzip(_header(request, "accept-encoding"))

        def job() -> _Answer:
            source = locate()
            arguments = [(name, value) for name, value in query if name != "v"]
            base = digest(str(API_VERSION), code_version(), source.version, path, repr(arguments))
            return self._answer(base, source, known, zipped=zipped)

        answer = await self.work.run((path, query, known, zipped), job)
        lasting = request.query_params.get("v") == answer.version
        headers = {
            "ETag": answer.etag,
            "Cache-Control": _LASTING if lasting else _REVALIDATED,
            "Vary": "Accept-Encoding",
        }
        if answer.body is None:
            return Response(status_code=304, headers=headers)
        if answer.zipped:
            headers["Content-Encoding"] = "gzip"
        if answer.body.filename is not None:
            # Names of layers and directions hold anything, and a header and a folder do not.
            name = _UNSAFE.sub("_", answer.body.filename)
            shown = "inline" if answer.body.inline else "attachment"
            headers["Content-Disposition"] = f'{shown}; filename="{name}"'
        return Response(answer.sent, headers=headers, media_type=answer.body.media_type)

    def _answer(
        self, base: str, source: AnswerSource, known: frozenset[str], *, zipped: bool
    ) -> _Answer:
        """Make the answer, or say that the client has it. Two codings are two strong tags."""
        plain_tag, zipped_tag = f'"{base}"', f'"{base}-gzip"'
        for tag in (zipped_tag, plain_tag) if zipped else (plain_tag,):
            if tag in known:
                return _Answer(tag, source.version, None, b"", zipped=False)
        body = self.bodies.get(base)
        if body is None:
            body = self._body(source)
            self.bodies.put(base, body, size_bytes=len(body.content))
        gains = len(body.content) >= _SMALL_BYTES and body.media_type.startswith(_GAINS)
        if not (zipped and gains):
            answer = _Answer(plain_tag, source.version, body, body.content, zipped=False)
        else:
            packed = self.bodies.get(zipped_tag)
            if packed is None:
                packed = Body(gzip.compress(body.content, _LEVEL, mtime=0))
                self.bodies.put(zipped_tag, packed, size_bytes=len(packed.content))
            answer = _Answer(zipped_tag, source.version, body, packed.content, zipped=True)
        return replace(answer, body=None, sent=b"") if "*" in known else answer

    def _body(self, source: AnswerSource) -> Body:
        """Make the answer; TooLargeError where it has too many bytes."""
        made = source.render()
        body = (
            made if isinstance(made, Body) else Body(made.model_dump_json(by_alias=True).encode())
        )
        if len(body.content) > self.limits.answer_bytes:
            raise TooLargeError(
                f"the answer would have {len(body.content)} bytes, more than "
                f"{self.limits.answer_bytes}: ask for fewer rows"
            )
        return body


def etags(request: Request) -> frozenset[str]:
    """List the tags of what a client has, or `*`."""
    tags = _header(request, "if-none-match").split(",")
    return frozenset(tag.strip().removeprefix("W/") for tag in tags)


def _header(request: Request, name: str) -> str:
    """Read a header that is a list, which may come in several lines."""
    return ",".join(request.headers.getlist(name))


def _takes_gzip(header: str) -> bool:
    """Tell whether an Accept-Encoding header allows gzip."""
    for part in header.lower().split(","):
        coding, _, parameters = part.strip().partition(";")
        if coding.strip() in ("gzip", "*"):
            quality = parameters.replace(" ", "").removeprefix("q=")
            return not quality or quality.strip("0.") != ""
    return False
