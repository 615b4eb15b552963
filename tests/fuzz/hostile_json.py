"""Makes hostile JSON: altered values, altered text, and values that the schema's types allow.

What is made is sealed as a hostile writer would seal it: with the checksum that fits.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields
from random import Random
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from msgspec import Meta

from circuit_atlas.storage_schema.bounds import FORM
from circuit_atlas.storage_schema.document_schema import RowsOf, ValueOf, stored_keys

Tree = Any
_HUGE = "\x00huge"
"""Stands for a number of thousands of digits, which json does not write."""
_HOSTILE: tuple[Tree, ...] = (
    *(None, True, False, 0, -1, 1, 2, 255, 2**31 - 1, 2**31, 2**53 + 1, 2**63, 2**64, -(2**63)),
    *(10**18, 10**40, _HUGE, 0.5, -0.0, 1.0, 1e-320, 1e308, math.inf, -math.inf, math.nan),
    *("", "0", "done", "..", ".", "/etc/passwd", "../../../etc/passwd", "layers/../../x", "a//b"),
    *(
        "a" * 5000,
        "\ud800",
        "\x00",
        "\n",
        "=2E=2E",
        "%2e%2e/%2e%2e",
        "é" * 300,
        "a\\b",
        "file:///x",
    ),
    *([], [[]], {}, {"a": 1}, [0] * 3000, [None], [[[]]] * 50, {"path": "../x"}),
)
_NAMES = ("features.3", "first", "actgrad", "force", "0", "1", "d0", "toy", "", "a/../b", "ü x")
_TEXTS = (*_NAMES, "n" * 4096, "n" * 4097, "\u2028", "{}", "[]", '{"model":{}}', "NaN")


def sealed(content: dict[str, Tree]) -> bytes:
    """Write a document as `documents.seal` would, whatever its values are."""
    return resealed([_line(key, value) for key, value in content.items()])


def resealed(lines: list[str]) -> bytes:
    """Write a document of lines `"key": value` with the checksum that fits."""
    rest = "{" + ",".join(line.replace('": ', '":', 1) for line in sorted(lines)) + "}"
    digest = hashlib.sha256(rest.encode(errors="surrogatepass")).hexdigest()
    whole = [*lines, f'"sha256": "{digest}"']
    return ("{\n  " + ",\n  ".join(whole) + "\n}\n").encode(errors="surrogatepass")


def altered_value(content: dict[str, Tree], random: Random) -> dict[str, Tree]:
    """Replace, remove, double or exchange a value somewhere in a document."""
    whole = copy.deepcopy(content)
    holder, key = random.choice(list(_locations(whole)))
    what = random.randrange(6)
    if what == 0:
        del holder[key]
    elif what == 1 and isinstance(holder, list):
        holder[key:key] = [holder[key]] * random.choice((1, 2, 1000))
    elif what == 2:
        other, at = random.choice(list(_locations(whole)))
        holder[key] = copy.deepcopy(other[at])
    elif what == 3 and isinstance(holder[key], list):
        random.shuffle(holder[key])
    elif what == 4 and isinstance(holder[key], int | float):
        holder[key] = random.choice(
            (-holder[key], holder[key] + 1, holder[key] - 1, 2 * holder[key])
        )
    else:
        holder[key] = random.choice(_HOSTILE)
    return whole


def altered_text(content: dict[str, Tree], random: Random) -> bytes:
    """Alter a document's text, and seal it anew."""
    lines = [_line(key, value) for key, value in content.items()]
    at = random.randrange(len(lines))
    what = random.choice(_TEXT_CHANGES)
    lines[at] = what(lines[at], random)
    if random.random() < 0.1:
        lines.append(lines[at])
    return resealed(lines)


def spoiled(data: bytes, random: Random) -> bytes:
    """Alter bytes of a document, and leave its checksum as it is."""
    at = random.randrange(len(data))
    match random.randrange(6):
        case 0:
            return data[:at]
        case 1:
            return data[:at] + bytes([data[at] ^ 1 << random.randrange(8)]) + data[at + 1 :]
        case 2:
            return data[:at] + random.randbytes(3) + data[at:]
        case 3:
            return b"\xef\xbb\xbf" + data
        case 4:
            return data.decode().encode("utf-16")
        case _:
            return random.choice((b"", b"{}", b"[]", b"null", b"[" * 50_000, b'{"schema": 4}'))


def grown(kind: type[Any], random: Random) -> dict[str, Tree]:
    """Make a document of values that the types of a dataclass allow, or just do not."""
    hints, keys = get_type_hints(kind, include_extras=True), stored_keys(kind)
    found = {}
    for one in fields(kind):
        optional = one.default is not MISSING or one.default_factory is not MISSING
        if not (optional and random.random() < 0.3):
            found[keys[one.name]] = _value(hints[one.name], random)
    return found


def regrown(content: dict[str, Tree], kind: type[Any], random: Random) -> dict[str, Tree]:
    """Replace the value of one key of a document by another that its type allows."""
    new = grown(kind, random)
    key = random.choice(list(new))
    return {**content, key: new[key]}


def _value(hint: Any, random: Random) -> Tree:
    marks: tuple[Any, ...] = ()
    while get_origin(hint) is Annotated:
        hint, *more = get_args(hint)
        marks = (*marks, *more)
    meta = next((mark for mark in marks if isinstance(mark, Meta)), Meta())
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        some = [one for one in arguments if one is not NoneType]
        return None if random.random() < 0.3 else _value(random.choice(some), random)
    if origin is Literal:
        return random.choice((*arguments, "other") if random.random() < 0.1 else arguments)
    if (origin is tuple and arguments[1:] == (...,)) or origin is list:
        items = [_value(arguments[0], random) for _ in range(random.choice((0, 1, 1, 2, 3, 40)))]
        if any(isinstance(mark, RowsOf) for mark in marks):
            return [list(item.values()) for item in items]
        whole_numbers = all(type(item) is int for item in items)
        return sorted(set(items)) if whole_numbers and random.random() < 0.8 else items
    if origin is tuple:
        return [_value(one, random) for one in arguments]
    if origin is dict:
        return {random.choice(_TEXTS): _value(arguments[1], random) for _ in range(3)}
    if hint is bool:
        return random.random() < 0.5
    if hint is int:
        low, high = meta.ge or 0, 2**62 if meta.le is None else meta.le
        near = (low, high, low - 1, high + 1) if random.random() < 0.2 else (low + 1, low + 3)
        return random.choice((*near, random.randint(int(low), int(high))))
    if hint is float:
        return random.choice((0.0, 0.5, 1.0, 1e-9, 1e300, -1.0, random.random(), 3))
    if hint is str:
        return _text((meta.extra or {}).get(FORM), random)
    value = next((mark.name for mark in marks if isinstance(mark, ValueOf)), None)
    made = grown(hint, random)
    return made if value is None else made[value]


def _text(form: str | None, random: Random) -> str:
    if form is None:
        return random.choice(_TEXTS)
    if form.startswith("64"):
        return random.randbytes(32).hex()
    segments = random.choices(
        ("layers", "features.3", "units", "0", "c", "arrays.zarr", "prepared"), k=5
    )
    return "/".join(segments)


def _locations(tree: Tree) -> Iterator[tuple[Any, Any]]:
    """Every place of a value: what holds it, and the key or position."""
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in list(pairs):
        yield tree, key
        if isinstance(value, dict | list) and value:
            yield from _locations(value)


def _line(key: str, value: Tree) -> str:
    """A key and its value in canonical form, but for what has none."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    text = text.replace("\ud800", "\\ud800").replace(json.dumps(_HUGE), "9" * 5000)
    return f"{json.dumps(key)}: {text}"


def _double_key(line: str, random: Random) -> str:
    inner = line.find('{"', 1)
    if inner < 0:
        return line
    end = line.find(":", inner)
    twice = f"{line[inner + 1 : end]}:{random.choice(('null', '0', '[]'))}"
    return f"{line[: inner + 1]}{twice},{line[inner + 1 :]}"


def _value_text(text: str) -> Callable[[str, Random], str]:
    return lambda line, _: line[: line.find('": ') + 3] + text


def _cut(line: str, random: Random) -> str:
    return line[: random.randrange(len(line))]


def _doubled_character(line: str, random: Random) -> str:
    at = random.randrange(len(line))
    return line[:at] + line[at] + line[at:]


_TEXT_CHANGES: tuple[Callable[[str, Random], str], ...] = (
    _double_key,
    _double_key,
    _cut,
    _doubled_character,
    *map(
        _value_text,
        (
            "[" * 20_000,
            "[" * 20_000 + "]" * 20_000,
            '{"a":' * 20_000 + "1" + "}" * 20_000,
            "9" * 5000,
            "-" + "9" * 400,
            "1e999",
            "NaN",
            "Infinity",
            '"\\ud800"',
            '"\\udfff\\ud800"',
            "01",
            "1.",
            "[1,]",
            "[" + "[]," * 200_000 + "[]]",
            "[" + "{}," * 200_000 + "{}]",
            '"' + "x" * 3_000_000 + '"',
            "'a'",
            "0x10",
            "/* */ 1",
            "1 ",
            "[ 1, 2 ]",
        ),
    ),
)
