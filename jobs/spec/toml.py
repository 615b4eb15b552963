"""A spec's values written as TOML."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def to_toml(values: Mapping[str, Any]) -> str:
    """Writes tables of scalars and of lists, and lists of tables, as in a spec; `tomllib` reads it
    back.

    Values are strings, numbers, booleans, lists of those, and tables; nothing is None. A table
    within a table has a name of ours; the keys of those within may be any text.
    """
    lines: list[str] = []
    for name, value in values.items():
        for table in value if isinstance(value, list) else [value]:
            lines += [f"[[{name}]]" if isinstance(value, list) else f"[{name}]"]
            nested = {key: item for key, item in table.items() if isinstance(item, dict)}
            lines += [f"{_key(k)} = {_text(v)}" for k, v in table.items() if k not in nested]
            for key, item in nested.items():
                if item:
                    lines += [f"[{name}.{key}]"]
                    lines += [f"{_key(k)} = {_text(v)}" for k, v in item.items()]
            lines.append("")
    return "\n".join(lines)


def _key(name: str) -> str:
    return name if _BARE_KEY.fullmatch(name) else _text(name)


def _text(value: object) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(k)} = {_text(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_text(item) for item in value) + "]"
    # JSON and TOML write these values alike, but for a delete character, which TOML escapes.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
