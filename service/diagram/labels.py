"""Short names of convolutions: paths without what the names of a network have in common."""

from __future__ import annotations

from collections.abc import Sequence


def labels(names: Sequence[str]) -> dict[str, str]:
    """Return a short name of each, none twice.

    First parts that all paths of two parts or more share are left out, and so are last ones; but
    never so much that only numbers are left of a name, or that two become one.

    >>> labels(["stem", "net.blocks.0.conv", "net.blocks.1.conv"])
    {'stem': 'stem', 'net.blocks.0.conv': '0.conv', 'net.blocks.1.conv': '1.conv'}
    >>> labels(["features.0", "features.3.squeeze", "features.3.expand"])
    {'features.0': 'features.0', 'features.3.squeeze': '3.squeeze', 'features.3.expand': '3.expand'}
    """
    parts = {name: name.split(".") for name in names}
    for end in (0, -1):
        while True:
            long = [own for own in parts.values() if len(own) > 1]
            if len(long) < 2 or len({own[end] for own in long}) > 1:
                break
            shorter = {name: _shortened(own, end) for name, own in parts.items()}
            if len({tuple(own) for own in shorter.values()}) < len(parts) or shorter == parts:
                break
            parts = shorter
    return {name: ".".join(own) for name, own in parts.items()}


def _shortened(parts: list[str], end: int) -> list[str]:
    left = parts[1:] if end == 0 else parts[:-1]
    return left if any(map(str.isalpha, "".join(left))) else parts
