"""Layers, units, labels and pictures by name."""

from __future__ import annotations

from collections import Counter
from typing import Any

from circuit_atlas.service.web import limits
from circuit_atlas.service.web.served import Served

_KINDS = ("layer", "unit", "label", "image")


def matches(served: Served, text: str) -> list[dict[str, Any]]:
    """All matches: the whole name first, then its start, then a part of it; case is ignored.

    At most `limits.LISTED` of a kind.
    """
    wanted = text.strip().casefold()
    if not wanted:
        return []
    found: list[tuple[int, int, dict[str, Any]]] = []
    taken: Counter[str] = Counter()

    def look(kind: str, name: str, detail: str, **more: Any) -> None:
        rank = _rank(name.casefold(), wanted)
        if rank is not None and taken[kind] < limits.LISTED:
            taken[kind] += 1
            row = {"kind": kind, "text": name, "detail": detail, **more}
            found.append((rank, _KINDS.index(kind), row))

    for name in served.views.names():
        layer = served.views.layer(name)
        look("layer", name, f"layer of {len(layer.index.units)} units", layer=name)
        for info in layer.index.units:
            detail = f"unit of {name}" if info.direction is None else f"direction of {name}"
            own = {"layer": name, "unit": info.number}
            whole = f"{name}/{info.name}"
            if info.direction is None:
                # A number stands for itself: 6 is not a part of 64.
                if wanted in (info.name, whole.casefold()):
                    look("unit", info.name if wanted == info.name else whole, detail, **own)
            elif wanted == whole.casefold():
                look("unit", whole, detail, **own)
            else:
                look("unit", info.name, detail, **own)
    table = served.images.table
    labels = Counter(label for label in table["label"].to_pylist() if label is not None)
    for label, count in sorted(labels.items()):
        look("label", label, f"label of {count} image{'s' if count > 1 else ''}", count=count)
    for image, name, label in zip(
        *(table[column].to_pylist() for column in ("id", "name", "label")), strict=True
    ):
        look("image", name, "image" if label is None else f"image of {label}", image=image)
    found.sort(key=lambda match: match[:2])
    return [row for _, _, row in found]


def _rank(name: str, wanted: str) -> int | None:
    """0 for the whole name, 1 for its start, 2 for a part, None for none."""
    if name == wanted:
        return 0
    if name.startswith(wanted):
        return 1
    return 2 if wanted in name else None
