"""What a store's refusal is told as: the reason, and what mends it."""

from __future__ import annotations

from circuit_atlas.storage_schema.errors import WriteError
from circuit_atlas.storage_schema.patience import StillOutError, lacks_credentials
from circuit_atlas.storage_schema.wording import http_status, in_words, system_number

_REMEDIES = {
    1: "it is not permitted: give write permission or choose another store",
    2: "a folder of the path is gone or cannot be made: put it back, or choose another store",
    5: "the disk has a fault (input/output error): see what the system's log says of it",
    13: "permission denied: give write permission or choose another store",
    20: "a part of the path is a file: choose another store",
    28: "the disk is full: free some space and run the same command again",
    30: "it is read-only: choose a store that can be written",
    36: "the name is too long for this file system: choose another store",
    122: "the disk quota is used up: free some space and run the same command again",
}


def reason(error: Exception) -> str:
    """Tell why a store refused, and what mends it where that is known."""
    if lacks_credentials(error):
        return (
            "no credentials were found: give them as the store's client looks for them, such as "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    status = http_status(error)
    if status is not None and status[0] in (401, 403):
        return f"{in_words(error)}: see that the credentials are valid and permit it"
    if isinstance(error, FileNotFoundError) and "NoSuchBucket" in str(error):
        return "there is no such bucket: make it, or choose another store"
    return in_words(error)


def write_error(location: str, error: Exception) -> WriteError:
    """Tell of a refused write in one line: the location, the reason, the remedy."""
    told = _REMEDIES.get(system_number(error)) or reason(error)
    if ": " not in told and not isinstance(error, StillOutError):
        told = f"{told}: see that the store can be written, and run again"
    return WriteError(f"cannot write {location}: {told}")
