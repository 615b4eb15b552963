"""A file that a user asks for, written whole or not at all."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from circuit_atlas.storage_schema.errors import QueryError, WriteError


def path_of(given: str | Path) -> Path:
    """Return a path, `~` put in full; QueryError where it is none, or has no name, as `.`."""
    try:
        path = Path(given).expanduser()
    except (TypeError, RuntimeError) as error:
        raise QueryError(f"{given!r} is no path of a file: {error}") from None
    if path.name in ("", ".."):
        raise QueryError(f"{str(given)!r} names no file: give one in a folder")
    return path


def write_whole(target: Path, data: bytes) -> None:
    """Write a file, or replace it; WriteError where it cannot be written, and nothing is left."""
    part = target.with_name(f".circuit-atlas.{secrets.token_hex(8)}")
    try:
        part.write_bytes(data)
        os.replace(part, target)
    except (OSError, ValueError) as error:  # ValueError: a name that no system has
        reason = getattr(error, "strerror", None) or error
        raise WriteError(
            f"{str(target)!r} cannot be written ({reason}): give another path"
        ) from error
    finally:
        with suppress(OSError, ValueError):
            part.unlink(missing_ok=True)
