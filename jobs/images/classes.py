"""Which images are of the class that a unit stands for.

A unit and an image are of one class where their labels are the same text; else, where no unit has
the image's label as its own, where that label is one of the unit's names. Capitals, underscores and
spaces more than one do not count. The names of `n02123045 tabby, tabby cat` are `n02123045`,
`tabby, tabby cat`, `tabby` and `tabby cat`. Where a layer has no labels, and those of the images
are all numbers of its channels, they are the numbers of its units.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

# A synset of WordNet, as ImageNet names its classes and folders.
_SYNSET = re.compile(r"(n\d{8})\s+(.+)")


class UnitClasses:
    """Knows the classes of a layer's units and of images."""

    def __init__(
        self, unit_labels: Mapping[int, str], image_labels: Sequence[str | None], *, numbered: int
    ) -> None:
        """Takes labels of units by number, and of each image.

        Args:
            unit_labels: may be empty.
            image_labels: None where an image has none.
            numbered: so many units are known by their numbers where none has a label.
        """
        texts = [None if label is None else _text(label) for label in image_labels]
        known = {text for text in texts if text is not None}
        if not unit_labels and known and all(_is_below(text, numbered) for text in known):
            unit_labels = {number: str(number) for number in range(numbered)}
            texts = [None if text is None else str(int(text)) for text in texts]
            known = {text for text in texts if text is not None}
        own: dict[str, set[int]] = {}
        named: dict[str, set[int]] = {}
        for unit, label in unit_labels.items():
            own.setdefault(_text(label), set()).add(unit)
            for name in _names(_text(label)):
                named.setdefault(name, set()).add(unit)
        self._known = frozenset(unit_labels)
        self._units = {text: own.get(text) or named.get(text, set()) for text in known}
        self._texts = texts

    def of(self, unit: int) -> NDArray[np.float64] | None:
        """Tells which images are of the unit's class: (images,) 1 where one is, 0 where it is not,
        NaN where it has no label. None where nothing says what the unit stands for."""
        if unit not in self._known:
            return None
        return np.array(
            [np.nan if text is None else float(unit in self._units[text]) for text in self._texts]
        )


def _text(label: str) -> str:
    return " ".join(label.replace("_", " ").casefold().split())


def _names(text: str) -> set[str]:
    synset = _SYNSET.fullmatch(text)
    if synset is not None:
        return {synset[1], *_names(synset[2])}
    return {text, *(part.strip() for part in text.split(","))} - {""}


def _is_below(text: str, count: int) -> bool:
    return text.isdecimal() and int(text) < count
