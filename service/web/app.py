"""The app: an atlas over HTTP, read-only, and the pages that show it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import APIRouter, FastAPI

from circuit_atlas.service.client.atlas import Atlas
from circuit_atlas.service.web import (
    analysis_routes,
    atlas_routes,
    channel_routes,
    circuit_routes,
    compare_routes,
    comparison_routes,
    diagram_routes,
    group_routes,
    image_routes,
    layer_routes,
    pages,
    raw_routes,
    stability_routes,
    unit_routes,
    visualization_routes,
    visualization_status_routes,
)
from circuit_atlas.service.web.atlas_routes import ServerFacts, server_facts
from circuit_atlas.service.web.errors import install, responses
from circuit_atlas.service.web.hosts import Hosts
from circuit_atlas.service.web.limits import Limits
from circuit_atlas.service.web.middleware import Guard
from circuit_atlas.service.web.responses import API_VERSION, code_version
from circuit_atlas.service.web.server_state import ServerState

PREFIX = f"/api/v{API_VERSION}"
_DESCRIPTION = """Circuits of whole convolutional layers, read-only.

Every answer has a strong ETag, made of the checksums of what it was computed from. Lists have
`total`, `offset`, `limit`, `complete` and `rows`; tables can also be had as CSV and Parquet. NaN is
null. Errors are `{"error": {"kind", "message"}}`."""


def routes() -> APIRouter:
    """Collect what the API answers under its prefix, whichever atlas is served."""
    api = APIRouter(prefix=PREFIX)
    for part in (
        atlas_routes,
        layer_routes,
        comparison_routes,
        unit_routes,
        circuit_routes,
        analysis_routes,
        group_routes,
        stability_routes,
        diagram_routes,
        visualization_routes,
        visualization_status_routes,
        channel_routes,
        image_routes,
        compare_routes,
        raw_routes,
    ):
        api.include_router(part.router)
    return api


def create_app(
    atlas: Atlas | str | Path, *, limits: Limits | None = None, hosts: Hosts | None = None
) -> FastAPI:
    """Make the app that serves an atlas.

    Args:
        atlas: an opened atlas, or its folder or URL.
        limits: bounds of time and memory.
        hosts: names that it answers to; any where not given.

    Raises:
        StoreError: there is no atlas at that location.
    """
    opened = atlas if isinstance(atlas, Atlas) else Atlas.open(atlas)
    state = ServerState(opened, limits or Limits())

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        del app
        state.warm_up()
        yield
        state.close()

    app = FastAPI(
        title="Circuit Atlas",
        version=code_version(),
        description=_DESCRIPTION,
        openapi_url=f"{PREFIX}/openapi.json",
        # Both pages load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        # A path with a slash too many is refused as any other that is not there.
        redirect_slashes=False,
    )
    app.state.server = state
    app.include_router(routes())

    @app.get("/api/server", response_model=ServerFacts, responses=responses(), tags=["atlas"])
    async def server() -> ServerFacts:
        """Tell what answers here, whatever the version of its API."""
        return server_facts()

    app.include_router(pages.router)
    location = opened.location.rstrip("/")
    install(app, hide={location: state.name} if location else {})
    app.add_middleware(Guard, url_bytes=state.limits.url_bytes, hosts=hosts or Hosts())
    return app
