"""A document answers only for the path that it lies at.

It carries a checksum of itself, so one that was altered is found. One that was copied over another
is as whole as before, and would answer for a unit, a layer or an attempt that is not its own.
"""

from __future__ import annotations

from circuit_atlas.storage_schema.errors import CorruptError
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.wording import REPAIR


class MovedError(CorruptError):
    """A whole document that lies at another's path; `own` is where an atlas has it."""

    own = ""


def require_own(objects: Objects, path: str, own: str, *, what: str) -> None:
    """Raise MovedError where a document lies at `path` and belongs to another, `own`; `what`:
    names the document."""
    if path != own:
        error = MovedError(f"{objects.at(path)} is {what}, moved here: {REPAIR}")
        error.own = own
        raise error
