"""Thrift's compact protocol, written: what a Parquet file says of itself, true or not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["true", "i32", "i64", "binary", "list", "struct"]
_CODES: dict[Kind, int] = {"true": 1, "i32": 5, "i64": 6, "binary": 8, "list": 9, "struct": 12}


@dataclass(frozen=True)
class Field:
    """A field of a struct; `value` is a number, bytes, or what is encoded already."""

    number: int
    kind: Kind
    value: int | bytes = 0


def i32(number: int, value: int) -> Field:
    return Field(number, "i32", value)


def i64(number: int, value: int) -> Field:
    return Field(number, "i64", value)


def text(number: int, value: bytes) -> Field:
    return Field(number, "binary", value)


def inside(number: int, value: bytes) -> Field:
    return Field(number, "struct", value)


def listed(number: int, kind: Kind, items: list[bytes], *, count: int | None = None) -> Field:
    """A list of encoded items; `count`: how many it says that it has."""
    size = len(items) if count is None else count
    head = (min(size, 15) << 4) | _CODES[kind]
    more = varint(size) if size >= 15 else b""
    return Field(number, "list", bytes([head]) + more + b"".join(items))


def struct(*fields: Field) -> bytes:
    """A struct of some fields in the order given."""
    written = bytearray()
    last = 0
    for field in fields:
        step = field.number - last
        code = _CODES[field.kind]
        if 0 < step < 16:
            written.append((step << 4) | code)
        else:
            written.append(code)
            written += zigzag(field.number)
        last = field.number
        if isinstance(field.value, int):
            written += zigzag(field.value) if field.kind != "true" else b""
        elif field.kind == "binary":
            written += string(field.value)
        else:
            written += field.value
    return bytes(written) + b"\0"


def string(value: bytes) -> bytes:
    return varint(len(value)) + value


def zigzag(value: int) -> bytes:
    return varint(((value << 1) ^ (value >> 63)) & (2**64 - 1))


def varint(value: int) -> bytes:
    written = bytearray()
    while value > 127:
        written.append(value & 127 | 128)
        value >>= 7
    written.append(value)
    return bytes(written)
