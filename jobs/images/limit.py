"""The images that a limit leaves: spread evenly over the classes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, islice, zip_longest

from circuit_atlas.jobs.images.entry import Entry


def limited(entries: Sequence[Entry], limit: int | None) -> tuple[Entry, ...]:
    """Picks no more than `limit` images, as many of each class as of any other where there are so
    many, each class' first by name; returns them by name.

    What does not divide evenly goes to the classes whose first image comes first by name. Images
    without a label count as one class.

    Args:
        entries: the images, in any order.
        limit: how many at most; None for all.
    """
    by_name = sorted(entries, key=lambda entry: entry.name)
    if limit is None:
        return tuple(by_name)
    classes: dict[str | None, list[Entry]] = {}
    for entry in by_name:
        classes.setdefault(entry.label, []).append(entry)
    # One of each class, then a second of each, and so on.
    turns = chain.from_iterable(zip_longest(*classes.values()))
    chosen = islice((entry for entry in turns if entry is not None), limit)
    return tuple(sorted(chosen, key=lambda entry: entry.name))
