"""JSON documents that carry a checksum of themselves.

The small JSON objects of a store decide what is read and trusted, and nothing else records their
checksums. So each holds, under `sha256`, the hash of its other keys in canonical form, and is
written in that form, a key a line: a document of which any byte is altered is found when it is
read, not only by `verify`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields
from typing import Any

from circuit_atlas.storage_schema import version
from circuit_atlas.storage_schema.errors import CorruptError

_REMEDY = "run `circuit-atlas repair` on the atlas, or restore it from a copy"
_START, _BETWEEN, _END = b"{\n  ", b",\n  ", b"\n}\n"


def canonical(content: object) -> str:
    """Write one text for one value: sorted keys, no spaces, no NaN (ValueError)."""
    return json.dumps(
        content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def stored_keys(kind: type[Any]) -> dict[str, str]:
    """Return the key that each field of a dataclass is stored under, by the field's name.

    It is that name, unless the field's metadata gives an older one as `stored_as`.
    """
    return {one.name: one.metadata.get("stored_as", one.name) for one in fields(kind)}


def sha256(data: bytes | memoryview) -> str:
    """Return the SHA-256 of `data` in hex."""
    return hashlib.sha256(data).hexdigest()


def seal(content: dict[str, Any]) -> str:
    """Return the document's text: `content`, the schema version and the checksum, a key a line."""
    whole = {"schema": version.SCHEMA_VERSION, **content}
    whole["sha256"] = sha256(canonical(whole).encode())
    lines = (f"  {canonical(key)}: {canonical(value)}" for key, value in whole.items())
    return "{\n" + ",\n".join(lines) + "\n}\n"


def unseal(text: str | bytes, *, location: str, remedy: str = _REMEDY) -> dict[str, Any]:
    """Return the content of a document, without its checksum.

    Args:
        text: the document.
        location: names it in messages.
        remedy: what to do where it is cut or altered.

    Raises:
        SchemaError: written by a newer version; looked at first, as that one may seal differently.
        CorruptError: not JSON, or not what was sealed.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CorruptError(
            f"{location} is cut or altered: it is no JSON ({error}); {remedy}"
        ) from error
    if not isinstance(content, dict) or not isinstance(content.get("schema"), int):
        raise CorruptError(
            f"{location} is no document of an atlas: it names no schema version; {remedy}"
        )
    version.check(content["schema"], location=location)
    content.pop("sha256", None)
    if not _is_as_sealed(text.encode() if isinstance(text, str) else text):
        raise CorruptError(
            f"{location} is altered: its content does not match the checksum it carries; {remedy}"
        )
    return content


def _is_as_sealed(text: bytes) -> bool:
    """Whether a document is as `seal` writes one: told by its bytes, which takes less than to write
    its values once more. No value has a line's end in it, so the lines are those of the keys."""
    if not (text.startswith(_START) and text.endswith(_END)):
        return False
    *lines, last = text[len(_START) : -len(_END)].split(_BETWEEN)
    pairs = sorted(line.partition(b'": ') for line in lines)
    if not all(colon for _, colon, _ in pairs):
        return False
    canonical_form = b",".join(b'%b":%b' % (key, value) for key, _, value in pairs)
    return last == b'"sha256": "%b"' % sha256(b"{%b}" % canonical_form).encode()
