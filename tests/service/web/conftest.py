"""A client of the small atlas' server."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest


@pytest.fixture
def api(address: str) -> Iterator[httpx.Client]:
    """Asks the API of the small atlas, over real sockets."""
    with httpx.Client(base_url=f"{address}/api/v1/") as client:
        yield client
