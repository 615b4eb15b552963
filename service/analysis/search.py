"""Search by words: layers, units, directions, labels and images whose names fit."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from circuit_atlas.service.analysis import arguments
from circuit_atlas.storage_schema.errors import QueryError
from circuit_atlas.storage_schema.layer_listing import list_committed
from circuit_atlas.storage_schema.reader import Reader

_KINDS = ("layer", "direction", "unit", "label", "image")
_LONGEST = 256


@dataclass(frozen=True)
class _Match:
    """`fit` is 0 for the same text, 1 for its start, 2 for a word's start, 3 for a part."""

    fit: int
    kind: str
    text: str
    layer: str | None = None
    unit: int | None = None
    image: int | None = None
    count: int | None = None

    @property
    def order(self) -> tuple[object, ...]:
        return (
            self.fit,
            _KINDS.index(self.kind),
            self.layer or "",
            -1 if self.unit is None else self.unit,
            self.text,
        )


def search(reader: Reader, text: str, *, limit: int) -> pa.Table:
    """Find what has a name like a text, see `Atlas.search`."""
    limit = arguments.at_least(limit, 1, what="limit")
    if not isinstance(text, str) or len(text) > _LONGEST:
        raise QueryError(f"search for a text of at most {_LONGEST} characters")
    wanted = " ".join(text.casefold().split())
    matches = sorted(_matches(reader, wanted), key=lambda match: match.order) if wanted else []
    rows = [
        {
            "kind": match.kind,
            "text": match.text,
            "layer": match.layer,
            "unit": match.unit,
            "image": match.image,
            "count": match.count,
        }
        for match in matches[:limit]
    ]
    return pa.Table.from_pylist(rows, _SCHEMA)


def _matches(reader: Reader, wanted: str) -> Iterator[_Match]:
    # `layer/unit`, `layer unit` and `unit 64`: the last word is the unit's, those before it are the
    # layer's.
    words = [word for word in re.split(r"[/\s]+", wanted) if word]
    of_layer, of_unit = [word for word in words[:-1] if word != "unit"], words[-1] if words else ""
    for name in reader.layers():
        index = reader.layer(name)
        built = list_committed(reader.objects, name)
        fit = _best(_fit(wanted, name), _all(words, name) if len(words) > 1 else None)
        if fit is not None:
            yield _Match(fit, "layer", name, name, count=len(index.units))
        within = _best(_fit("/".join(of_layer), name), _all(of_layer, name)) if of_layer else 0
        unit_labels = reader.labels(name)
        for info in index.units:
            if info.number not in built:
                continue
            stands_for = unit_labels.get(info.number)
            text = f"{name}/{info.name}"
            if not index.is_direction(info):
                # A number means that unit, not all those that have its digits.
                fit = within if of_unit == info.name else None
                kind = "unit"
            else:
                fit = _best(
                    0 if wanted == text.casefold() else None,
                    _fit(wanted, info.name),
                    _both(within, _fit(of_unit, info.name)),
                )
                kind = "direction"
            if stands_for is not None:
                fit = _best(fit, _fit(wanted, stands_for))
                text = f"{text} {stands_for}"
            if fit is not None:
                yield _Match(fit, kind, text, name, info.number)
    images = reader.images(columns=["id", "name", "label"]).to_pylist()
    labels = Counter(row["label"] for row in images if row["label"] is not None)
    for label, count in labels.items():
        fit = _fit(wanted, label)
        if fit is not None:
            yield _Match(fit, "label", label, count=count)
    for row in images:
        fit = _fit(wanted, row["name"])
        if fit is not None:
            yield _Match(fit, "image", row["name"], image=row["id"])


def _best(*fits: int | None) -> int | None:
    """The best of several, as far as there are any."""
    return min((fit for fit in fits if fit is not None), default=None)


def _both(left: int | None, right: int | None) -> int | None:
    """How well two fit together: as the worse of them."""
    return None if left is None or right is None else max(left, right)


def _all(words: Sequence[str], name: str) -> int | None:
    """How well a name fits several words that are parts of it; None where one is not."""
    fits = [_fit(word, name) for word in words]
    return None if None in fits else 3


def _fit(wanted: str, name: str) -> int | None:
    """How well a name fits, the less the better; None where it does not hold the text."""
    folded = name.casefold()
    if wanted == folded:
        return 0
    at = folded.find(wanted) if wanted else -1
    if at < 1:
        return 1 if at == 0 else None
    starts = re.search(rf"(?<![^\W_]){re.escape(wanted)}", folded)
    return 2 if starts else 3


_SCHEMA = pa.schema(
    [
        pa.field("kind", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("layer", pa.string()),
        pa.field("unit", pa.int32()),
        pa.field("image", pa.int32()),
        pa.field("count", pa.int32()),
    ]
)
