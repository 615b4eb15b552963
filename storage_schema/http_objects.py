"""The objects of an atlas that `circuit-atlas serve` serves, read over HTTP.

It answers as any other store does, so that everything above reads from it unchanged.
"""

from __future__ import annotations

import json
import re
from datetime import timedelta
from typing import Any

import obstore
from obstore.exceptions import BaseError
from obstore.store import HTTPStore

from circuit_atlas.storage_schema.errors import NotAnAtlasError, StoreError, WriteError
from circuit_atlas.storage_schema.objects import Entry, Objects, in_words

API_VERSION = 1
"""The version of the HTTP API that this reads."""

_CONNECT_S = 5
_READ_S = 30
_RETRIES = 2
_RETRY_S = 10


class HttpObjects(Objects):
    """The objects of a served atlas. Read-only."""

    def __init__(self, place: str) -> None:
        """Nothing is asked yet; see `open_served`.

        Args:
            place: address of the server, `http://HOST:PORT`, with the path of a proxy if need be.
        """
        self._root = place.rstrip("/")
        super().__init__(_store(f"{self._root}/api/v{API_VERSION}/objects"), place=place)
        self._api = _store(f"{self._root}/api/v{API_VERSION}")

    def __reduce__(self) -> tuple[type[HttpObjects], tuple[str]]:
        return HttpObjects, (self.place,)

    def put_if_absent(self, path: str, data: bytes) -> bool:
        """WriteError: a served atlas cannot be written."""
        del data
        raise _read_only(self.at(path))

    def put(self, path: str, data: bytes) -> None:
        """WriteError: a served atlas cannot be written."""
        del data
        raise _read_only(self.at(path))

    def list(self, prefix: str = "") -> tuple[Entry, ...]:
        """Every object below a folder, by path; StoreError where the server does not answer."""
        text = self._ask(f"listing/{prefix}" if prefix else "listing", prefix)
        try:
            entries = [Entry(o["path"], o["size_bytes"]) for o in json.loads(text)["objects"]]
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(f"cannot list {self.at(prefix)}: {_foreign(error)}") from error
        return tuple(sorted(entries, key=lambda entry: entry.path))

    def names(self, folder: str = "") -> tuple[str, ...]:
        """Names of the objects and folders in a folder; StoreError as of `list`."""
        text = self._ask(f"names/{folder}" if folder else "names", folder)
        try:
            return tuple(sorted(str(name) for name in json.loads(text)["names"]))
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(f"cannot list {self.at(folder)}: {_foreign(error)}") from error

    def _ask(self, question: str, folder: str) -> str:
        try:
            return bytes(obstore.get(self._api, question).bytes()).decode()
        except FileNotFoundError:
            return '{"objects": [], "names": []}'  # as any store says of a folder it has not
        except (BaseError, OSError, UnicodeDecodeError) as error:
            raise StoreError(f"cannot list {self.at(folder)}: {in_words(error)}") from error


def open_served(place: str) -> HttpObjects:
    """Open an atlas by the address of its server, or of one of its pages.

    Raises:
        NotAnAtlasError: something else answers there.
        StoreError: nothing answers, or a version that this one cannot talk to.
    """
    # The address of a page of it will do.
    place = re.split("[?#]", place, maxsplit=1)[0]
    root = place.rstrip("/")
    remedy = "give the address that `circuit-atlas serve` printed"
    try:
        text = bytes(obstore.get(_store(f"{root}/api"), "server").bytes())
    except FileNotFoundError:
        raise NotAnAtlasError(f"{place} is no server of circuit-atlas: {remedy}") from None
    except (BaseError, OSError) as error:
        raise StoreError(f"cannot open {place}: {in_words(error)}; {remedy}") from error
    facts = _facts(text)
    if facts is None:
        raise NotAnAtlasError(f"{place} is no server of circuit-atlas: {remedy}")
    if facts["api"] != API_VERSION:
        older = facts["api"] < API_VERSION
        raise StoreError(
            f"{place} answers by version {facts['api']} of the API and this circuit-atlas by "
            f"{API_VERSION}: install a newer circuit-atlas {'there' if older else 'here'}"
        )
    return HttpObjects(place)


def _facts(text: bytes) -> dict[str, Any] | None:
    """What a server says of itself, or None where it is none of ours."""
    try:
        facts = json.loads(text)
    except ValueError:
        return None
    if not isinstance(facts, dict) or facts.get("server") != "circuit-atlas":
        return None
    return facts if type(facts.get("api")) is int else None


def _store(url: str) -> HTTPStore:
    return HTTPStore(
        url,
        client_options={
            "allow_http": True,
            "connect_timeout": timedelta(seconds=_CONNECT_S),
            # Not of the whole request: pictures of a large image set take their time.
            "timeout": timedelta(days=1),
            "read_timeout": timedelta(seconds=_READ_S),
        },
        retry_config={
            "max_retries": _RETRIES,
            "retry_timeout": timedelta(seconds=_RETRY_S),
            "backoff": {
                "init_backoff": timedelta(milliseconds=100),
                "max_backoff": timedelta(seconds=2),
                "base": 2,
            },
        },
    )


def _read_only(place: str) -> WriteError:
    return WriteError(
        f"cannot write {place}: a served atlas is read-only; give its folder or its store's URL"
    )


def _foreign(error: Exception) -> str:
    return f"the server's answer is none of circuit-atlas' ({type(error).__name__})"
