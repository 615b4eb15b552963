"""The route class of the API: it turns what an endpoint's function returns into the answer."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial, update_wrapper
from inspect import Parameter, iscoroutinefunction, signature
from typing import Annotated, Any, ClassVar, get_args

from fastapi import Depends, Query, Request, Response
from fastapi.routing import APIRoute

from circuit_atlas.service.web import limits
from circuit_atlas.service.web.errors import responses
from circuit_atlas.service.web.parameters import FormParameters, Parameters
from circuit_atlas.service.web.server_state import ServerState
from circuit_atlas.storage_schema.errors import QueryError


class AnswerRoute(APIRoute):
    """Runs the function of an endpoint in a thread and answers from the `AnswerSource` it returns,
    with ETag, compression and caching. A coroutine function answers by itself.

    An endpoint without a query model of its own gets `Parameters`, so that each refuses a parameter
    that it does not know.

    Attributes:
        parameters: names of the query parameters.
        asks: whether the answer depends on the query.
    """

    asks: ClassVar[bool] = True

    def __init__(self, path: str, endpoint: Callable[..., Any], **more: Any) -> None:
        model = _query_model(endpoint)
        self.parameters = tuple(
            field.alias or name for name, field in (model or Parameters).model_fields.items()
        )
        if model is None and self.asks:
            more["dependencies"] = [*(more.get("dependencies") or ()), Depends(_no_others)]
        files = model is not None and issubclass(model, FormParameters)
        more["responses"] = {**responses(files=files), **(more.get("responses") or {})}
        super().__init__(path, _answering(endpoint, asks=self.asks), **more)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Refuse a parameter that is given twice, where FastAPI's own handler takes the last
        value."""
        handle = super().get_route_handler()

        async def once(request: Request) -> Response:
            names = [name for name, _ in request.query_params.multi_items()]
            for name in names if self.asks else ():
                if names.count(name) > 1:
                    told = name[: limits.TEXT]
                    raise QueryError(f"{told} is given {names.count(name)} times: give it once")
            return await handle(request)

        return once


class PageRoute(AnswerRoute):
    """Answers the same for a page, whose query is for the page itself."""

    asks = False


async def _no_others(query: Annotated[Parameters, Query()]) -> None:
    """Refuse what `Parameters` does not have."""
    del query


def _query_model(endpoint: Callable[..., Any]) -> type[Parameters] | None:
    """Find the query model among the parameters of a function; None where it has none."""
    for parameter in signature(endpoint, eval_str=True).parameters.values():
        kind = (get_args(parameter.annotation) or (parameter.annotation,))[0]
        if isinstance(kind, type) and issubclass(kind, Parameters):
            return kind
    return None


def _answering(endpoint: Callable[..., Any], *, asks: bool) -> Callable[..., Any]:
    """Make a coroutine function that answers from what a function returns, with its parameters."""
    if iscoroutinefunction(endpoint):
        return endpoint

    async def answer(request: Request, **values: Any) -> Response:
        server: ServerState = request.app.state.server
        return await server.answers.reply(request, partial(endpoint, **values), question=asks)

    update_wrapper(answer, endpoint)
    given = signature(endpoint, eval_str=True)
    request = Parameter("request", Parameter.KEYWORD_ONLY, annotation=Request)
    answer.__signature__ = given.replace(  # type: ignore[attr-defined]
        parameters=[*given.parameters.values(), request], return_annotation=Response
    )
    return answer
