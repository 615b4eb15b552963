"""Names that differ, made of names that may not."""

from __future__ import annotations

from collections.abc import Iterable


def distinct(names: Iterable[str]) -> list[str]:
    """Gives a name that comes again `#2`, `#3` ... behind it, unlike every name that there is.

    >>> distinct(["a", "a", "a#2", "a"])
    ['a', 'a#3', 'a#2', 'a#4']
    """
    names = list(names)
    taken = set(names)
    seen: set[str] = set()
    last: dict[str, int] = {}
    distinct = []
    for name in names:
        unlike, again = name, last.get(name, 1)
        while unlike in seen or (again > 1 and unlike in taken):
            again += 1
            unlike = f"{name}#{again}"
        seen.add(unlike)
        last[name] = again
        distinct.append(unlike)
    return distinct
