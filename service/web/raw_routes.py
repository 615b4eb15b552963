"""The store's own objects, for the Python client: nothing but what the layout names."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter(tags=["raw"])
