"""Errors as answers: one shape, our kinds, a status by what a client would do, never a trace."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from circuit_atlas.service.web import limits
from circuit_atlas.storage_schema.errors import (
    AtlasError,
    CorruptError,
    InputError,
    QueryError,
    SchemaError,
    StoreError,
)
from circuit_atlas.storage_schema.wording import nearest

T = TypeVar("T")
RETRY_AFTER_S = 1
_LOG = logging.getLogger(__name__)
_BINARY = {"type": "string", "format": "binary"}
_URL = re.compile(r"[a-z][a-z0-9+.-]*://[^\s\"'(]+")
# Of parameters that a pattern bounds, in words.
_MEANT = {
    "images": "give ids with commas, such as 1,2,3",
    "state": "give some of done, dead, failed and planned, with commas",
}
# What to give where it is another problem, by its type and with what that one says.
_REMEDIES = {
    "int_parsing": "give a whole number",
    "int_from_float": "give a whole number",
    "int_parsing_size": "give a smaller number",
    "float_parsing": "give a number",
    "finite_number": "give a finite number",
    "bool_parsing": "give true or false",
    "greater_than": "give more than {gt:.10g}",
    "greater_than_equal": "give {ge:.10g} or more",
    "less_than": "give less than {lt:.10g}",
    "less_than_equal": "give {le:.10g} or less",
    "literal_error": "give {expected}",
    "enum": "give {expected}",
    "string_too_short": "give a text that is not empty",
    "string_too_long": "give a text of {max_length} characters or fewer",
}


class NotFoundError(QueryError):
    """Says that what the path names is not there."""


class BusyError(AtlasError):
    """Says that it cannot be answered yet, as other requests come first or the store is slow."""

    kind = "busy"


class TooLargeError(QueryError):
    """Says that the answer would be larger than the server sends."""


class ErrorFacts(BaseModel):
    """Describes one error."""

    kind: str = Field(description="Stable, for programs: query, corrupt, store, busy, internal, …")
    message: str = Field(description="One line for people: what, which value, what to do.")


class ErrorAnswer(BaseModel):
    """Is what every status of 400 and above carries."""

    error: ErrorFacts


def responses(*, files: bool = False) -> dict[int | str, dict[str, Any]]:
    """List what an endpoint may answer, for its OpenAPI description.

    `files`: whether the answer can also be had as CSV and Parquet.
    """
    errors = {
        400: "The question cannot be answered: its values are at odds with the atlas.",
        403: "The server was asked for by a name that it does not answer to.",
        404: "There is no such thing.",
        405: "Only GET and HEAD are answered.",
        413: "The answer would be larger than the server sends; ask for a part of it.",
        414: "The address is too long.",
        422: "A value cannot be read, is out of bounds, or has no meaning here.",
        500: "The atlas is altered, or a fault of ours.",
        503: "The store cannot be reached or is slow, or too many requests wait: come back a "
        "little later.",
    }
    answers: dict[int | str, dict[str, Any]] = {
        304: {"description": "The client has the answer: its ETag is the same."}
    }
    if files:
        text = {"schema": {"type": "string"}}
        content = {"text/csv": text, "application/vnd.apache.parquet": text}
        answers[200] = {"description": "The answer.", "content": content}
    for status, description in errors.items():
        answers[status] = {"model": ErrorAnswer, "description": description}
    return answers


def body_of(media_type: str, description: str) -> dict[int | str, dict[str, Any]]:
    """Describe an answer that is no JSON."""
    schema = {"type": "string"} if media_type == "image/svg+xml" else _BINARY
    return {200: {"description": description, "content": {media_type: {"schema": schema}}}}


def named_in_path(lookup: Callable[[], T]) -> T:
    """Look up what a path names; NotFoundError in place of the QueryError of one that is not
    there."""
    try:
        return lookup()
    except QueryError as error:
        raise NotFoundError(str(error)) from error


def unknown_parameter(name: str, known: Sequence[str]) -> str:
    """Say that an endpoint does not have a parameter, with the nearest that it has."""
    name = name[: limits.TEXT]
    return f"there is no parameter {name!r} here: {nearest(name, known, what='parameters')}"


def error_response(
    status: int, kind: str, message: str, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """Make the answer that tells of an error. Caches do not keep it."""
    body = ErrorAnswer(error=ErrorFacts(kind=kind, message=" ".join(message.split())))
    return JSONResponse(
        body.model_dump(), status, headers={"Cache-Control": "no-store", **(headers or {})}
    )


def status_of(error: AtlasError) -> int:
    """Choose the status that tells a client what to do."""
    if isinstance(error, NotFoundError):
        return 404
    if isinstance(error, TooLargeError):
        return 413
    if isinstance(error, InputError):
        return 400
    if isinstance(error, CorruptError | SchemaError):
        return 500
    if isinstance(error, StoreError | BusyError):
        return 503
    return 500


def install(app: FastAPI, *, hide: Mapping[str, str]) -> None:
    """Answer every error of the app in this shape.

    Args:
        app: the app.
        hide: text -> what stands for it in messages: where the atlas lies is not for clients.
    """

    def hidden(text: str) -> str:
        for secret, name in hide.items():
            text = text.replace(secret, name)
        # What an object store's client says holds the address of the store, and its bucket.
        return _URL.sub("its store", text)

    async def of_atlas(request: Request, error: Exception) -> JSONResponse:
        known = error if isinstance(error, AtlasError) else AtlasError(str(error))
        status = status_of(known)
        if status >= 500:
            _LOG.warning("%s: %s", request.url.path, error)
        headers = {"Retry-After": str(RETRY_AFTER_S)} if status == 503 else None
        return error_response(status, known.kind, hidden(str(error)), headers)

    async def of_validation(request: Request, error: Exception) -> JSONResponse:
        problems = error.errors() if isinstance(error, RequestValidationError) else ()
        first: Mapping[str, Any] = (
            problems[0] if problems else {"type": "", "loc": (), "msg": str(error), "input": ""}
        )
        for problem in problems:
            if problem["type"] == "extra_forbidden":
                known = sorted(request.scope["route"].parameters)
                return error_response(400, "query", unknown_parameter(problem["loc"][-1], known))
        name = ".".join(str(part) for part in first["loc"][1:])
        given = str(first.get("input", ""))
        shown = given if len(given) <= 40 else f"{given[:40]}..."
        if first["type"] == "missing":
            return error_response(422, "query", f"{name} is missing: it has to be given")
        remedy = _REMEDIES.get(first["type"], "")
        said = remedy.format_map(first.get("ctx", {})) or first["msg"]
        if first["type"] == "string_pattern_mismatch":
            said = _MEANT.get(name.rpartition(".")[2], said)
        return error_response(422, "query", f"{name}={shown!r} is refused: {said}")

    async def of_http(request: Request, error: Exception) -> JSONResponse:
        status = error.status_code if isinstance(error, HTTPException) else 500
        headers = error.headers if isinstance(error, HTTPException) else None
        if status == 404:
            text = f"there is nothing at {request.url.path[:80]}: see /api/v1/openapi.json"
        elif status == 405:
            text = f"{request.method[:20]} is not answered: an atlas is read with GET and HEAD"
        else:
            text = str(getattr(error, "detail", error))
        return error_response(status, "query" if status < 500 else "internal", text, headers)

    app.add_exception_handler(AtlasError, of_atlas)
    app.add_exception_handler(RequestValidationError, of_validation)
    app.add_exception_handler(HTTPException, of_http)
