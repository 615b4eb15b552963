"""Names that users choose (layers, criteria) as segments of paths.

They are escaped, so that one name is one folder on every kind of store: letters, digits, `_`, `-`
and inner dots stay, every other byte becomes `=XX`.
"""

from __future__ import annotations

import re

_PLAIN = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")


def escape(name: str) -> str:
    """Write a name as one path segment.

    >>> escape("features.7.expand3x3"), escape("a/../b"), escape(".."), escape("")
    ('features.7.expand3x3', 'a=2F=2E=2E=2Fb', '=2E=2E', '=')
    """
    if _PLAIN.fullmatch(name):
        return name
    return (
        "".join(
            character
            if character.isascii() and (character.isalnum() or character in "_-")
            else "".join(f"={byte:02X}" for byte in character.encode())
            for character in name
        )
        or "="
    )


def unescape(segment: str) -> str:
    """Invert `escape`. A segment that `escape` does not write, such as a folder that someone else
    made, becomes some text: nothing of an atlas lies at that name's path.

    >>> unescape("a=2Fb"), escape(unescape("=FF")) == "=FF"
    ('a/b', False)
    """
    if segment == "=":
        return ""
    raw = re.sub(
        rb"=([0-9A-F]{2})", lambda m: bytes([int(m.group(1), 16)]), segment.encode(errors="replace")
    )
    return raw.decode(errors="replace")
