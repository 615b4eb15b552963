"""JSON documents that carry a checksum of themselves.

The small JSON objects of a store decide what is read and trusted, and nothing else records their
checksums. So each holds, under `sha256`, the hash of its other keys in canonical form, and is
written in that form, a key a line: a document of which any byte is altered is found when it is
read, not only by `verify`. Whoever wants to can write a checksum that fits; what a document says is
held against `document_schema` beside it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from typing import Any, NoReturn, TypeVar

import msgspec

from circuit_atlas.storage_schema import document_schema, version
from circuit_atlas.storage_schema.document_schema import RefusedError
from circuit_atlas.storage_schema.errors import CorruptError
from circuit_atlas.storage_schema.wording import REPAIR

T = TypeVar("T")
_MOST_VALUES, _MOST_NESTED, _MOST_KEYS = 2**22, 2**20, 2**20
_BEGIN, _BETWEEN, _END = b"{\n  ", b",\n  ", b"\n}\n"


def canonical(content: object) -> str:
    """Write one text for one value: sorted keys, no spaces, no NaN (ValueError)."""
    return json.dumps(
        content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def sha256(data: bytes | memoryview) -> str:
    """Return the SHA-256 of `data` in hex."""
    return hashlib.sha256(data).hexdigest()


def parse(text: str | bytes) -> Any:
    """Return the value of a JSON text, UTF-8 where it is bytes.

    ValueError, one line, where it is none, has a key twice, a number that is NaN or infinite, half
    of a character, a number of thousands of digits, or is nested too deep.
    """
    try:
        value = _STRICT.decode(text if isinstance(text, str) else text.decode())
        canonical(value).encode()
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    except UnicodeEncodeError:
        raise ValueError("a text holds half of a character") from None
    except ValueError as error:
        # Python's own remedy against long numbers is none for a user.
        raise ValueError(str(error).partition(";")[0]) from error
    return value


def decode(data: bytes) -> Any:
    """Do the same in a quarter of the time, but that of two equal keys the last counts: of what is
    no document by itself, as a sealed commit record. ValueError likewise."""
    try:
        return _DECODER.decode(data)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    except msgspec.DecodeError as error:
        raise ValueError(str(error)) from error


def decode_as(kind: type[T], data: bytes) -> T:
    """Do the same of an answer of a dataclass' fields, and make nothing of what else is in it;
    ValueError also where a field's value is none."""
    try:
        return msgspec.json.decode(data, type=kind)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    except msgspec.DecodeError as error:
        raise ValueError(str(error)) from error


def seal(content: dict[str, Any]) -> str:
    """Return the document's text: `content`, the schema version and the checksum, a key a line."""
    whole = {"schema": version.SCHEMA_VERSION, **content}
    whole["sha256"] = sha256(canonical(whole).encode())
    lines = (f"  {canonical(key)}: {canonical(value)}" for key, value in whole.items())
    return "{\n" + ",\n".join(lines) + "\n}\n"


def unseal(text: str | bytes, *, location: str, remedy: str = REPAIR) -> dict[str, Any]:
    """Return the content of a document, without its checksum.

    Args:
        text: the document, as `seal` wrote it.
        location: names it in messages.
        remedy: what to do where it is cut or altered.

    Raises:
        SchemaError: written by a newer version; looked at first, as that one may seal differently.
        CorruptError: not JSON, or not what was sealed.
    """
    data = text.encode(errors="surrogatepass") if isinstance(text, str) else text
    try:
        _require_few(data)
        whole = _without_checksum(data)
        content = parse(data) if whole is None else _content(whole, data)
    except ValueError as error:
        raise CorruptError(
            f"{location} is cut or altered: it is no JSON ({error}); {remedy}"
        ) from error
    schema = content.get("schema") if isinstance(content, dict) else None
    if type(schema) is not int or schema < 1:
        raise CorruptError(
            f"{location} is no document of an atlas: it names no schema version; {remedy}"
        )
    version.check(schema, location=location)
    content.pop("sha256", None)
    if whole is None or not data.endswith(b'"sha256": "%b"\n}\n' % sha256(whole).encode()):
        raise CorruptError(
            f"{location} is altered: its content does not match the checksum it carries; {remedy}"
        )
    return content


def read(kind: type[T], text: str | bytes, *, location: str, what: str, remedy: str = REPAIR) -> T:
    """Return what a document says.

    Args:
        kind: the dataclass of such documents.
        text: the document, as `seal` wrote it.
        location: names it in messages.
        what: names the kind in messages.
        remedy: what to do where it is cut, altered, or none of the kind.

    Raises:
        SchemaError: written by a newer version.
        CorruptError: not JSON, not what was sealed, or none of the kind; the message says which
            value is not what it should be.
    """
    content = unseal(text, location=location, remedy=remedy)
    return accepted(kind, content, location=location, what=what, remedy=remedy)


def accepted(
    kind: type[T], content: object, *, location: str, what: str, remedy: str = REPAIR
) -> T:
    """Return what a document says whose content was read; CorruptError as of `read`."""
    try:
        return document_schema.read(kind, content)
    except RefusedError as refused:
        raise CorruptError(f"{location} is no {what}: {refused}; {remedy}") from refused


def _require_few(data: bytes) -> None:
    """ValueError where a document may hold more values than any of ours, counted by what parts
    them: empty lists take thirty times their text, and as many as fit minutes."""
    if data.count(b",") > _MOST_VALUES:
        raise ValueError(f"it holds more than {_MOST_VALUES:,} values")
    if data.count(b"[") + data.count(b"{") > _MOST_NESTED:
        raise ValueError(f"it holds more than {_MOST_NESTED:,} lists and objects")
    if data.count(b":") > _MOST_KEYS:
        raise ValueError(f"it holds more than {_MOST_KEYS:,} keys")


def _without_checksum(data: bytes) -> bytes | None:
    """A document's other keys in canonical form, if its values are in it; None where the document
    is not as `seal` writes one. So no value need be written anew to tell its checksum."""
    if not (data.startswith(_BEGIN) and data.endswith(_END)):
        return None
    lines = data[len(_BEGIN) : -len(_END)].split(_BETWEEN)[:-1]
    lines = [line.replace(b'": ', b'":', 1) for line in sorted(lines)]
    return b"{" + b",".join(lines) + b"}"


def _content(whole: bytes, data: bytes) -> Any:
    """The content of a document, without its checksum where it is in canonical form; ValueError
    as of `parse`."""
    with contextlib.suppress(ValueError):
        content = decode(whole)
        # So no key is there twice, and no half of a character.
        if "sha256" not in content and _ENCODER.encode(content) == whole:
            return content
    # Or with a number that is written in another way there.
    return parse(data)


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for at, key in enumerate(keys) if key in keys[:at])
        raise ValueError(f"it has the key {twice[:60]!r} twice")
    return found


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"it holds {name}, which is no number")


_STRICT = json.JSONDecoder(object_pairs_hook=_no_key_twice, parse_constant=_no_number)
_DECODER = msgspec.json.Decoder()
_ENCODER = msgspec.json.Encoder(order="sorted")
