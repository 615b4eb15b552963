"""Which of an atlas' criteria, ablations and splits a question means."""

from __future__ import annotations

import importlib
import operator
from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Any, SupportsIndex, TypeVar, cast

from circuit_atlas.storage_schema.errors import QueryError
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.wording import nearest

_T = TypeVar("_T")


def criterion(reader: Reader, given: str | None) -> str:
    """Return the criterion of that name, or the atlas' first; QueryError, with the nearest
    names."""
    return _of(reader, given, reader.header.criteria, "criterion", "criteria")


def image_criterion(reader: Reader, given: str | None) -> str:
    """Do the same among the criteria with scores of single images."""
    known = reader.header.image_criteria
    if not known:
        raise QueryError(
            f"{reader.objects.location} has no scores of single images: add 'actgrad' to the "
            "spec's criteria and build into another store"
        )
    return _of(reader, given, known, "criterion with scores of single images", "criteria")


def group_criterion(reader: Reader, given: str | None) -> str:
    """Do the same among the criteria that units have sub-feature groups by."""
    header = reader.header
    if given == "learned" and given in header.criteria and given not in header.grouped:
        raise QueryError(
            f"{reader.objects.location} has no learned circuits of groups: build it with groups = "
            "true in [learned] into another store"
        )
    if not header.grouped:
        return image_criterion(reader, given)
    return _of(reader, given, header.group_criteria, "criterion with groups", "criteria")


def ablation(reader: Reader, given: str | None) -> str:
    """Return the ablation of that name, or the atlas' first; QueryError, with the nearest names."""
    return _of(reader, given, reader.header.ablations, "ablation", "ablations")


def split(reader: Reader, given: str | None) -> str:
    """Return the split of that name, or the held-out images where there are any, else the scoring
    ones; QueryError, with those there are."""
    splits = set(reader.images(columns=["split"])["split"].to_pylist())
    known = [name for name in ("held_out", "scoring") if name in splits] or ["scoring"]
    return _of(reader, given, known, "split", "splits")


def whole(value: object, *, what: str) -> int:
    """Return a whole number; QueryError where it is none."""
    try:
        return int(operator.index(cast("SupportsIndex", value)))
    except TypeError:
        raise QueryError(f"{what}={value!r} is no whole number") from None


def between(value: object, smallest: float, largest: float, *, what: str) -> float:
    """Return a number of a range, ends included; QueryError where it is none."""
    if not isinstance(value, Real):
        raise QueryError(f"{what}={value!r} is no number: give {smallest:g} to {largest:g}")
    number = float(value)
    if not smallest <= number <= largest:
        raise QueryError(f"{what}={number:g} is out of range: give {smallest:g} to {largest:g}")
    return number


def at_least(value: object, smallest: int, *, what: str) -> int:
    """Return a whole number from `smallest` up; QueryError where it is none."""
    number = whole(value, what=what)
    if number < smallest:
        raise QueryError(f"{what}={number} is too small: give {smallest} or more")
    return number


def several(values: Sequence[_T], *, what: str) -> list[_T]:
    """Return a list of one thing or more; QueryError where it is none, such as a text alone."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise QueryError(f"{what}={values!r} is no list: give [{values!r}]")
    if not (found := list(values)):
        raise QueryError(f"{what} is empty: give one or more, or leave it out for all")
    return found


def module(name: str, *, package: str, what: str) -> Any:
    """Return a module of the extra `analysis`; QueryError where it is not installed."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        raise QueryError(
            f"{what} needs the package {package!r}, which is not installed: "
            "python -m pip install 'circuit-atlas[analysis]'"
        ) from None


def _of(reader: Reader, given: str | None, known: Sequence[str], what: str, several: str) -> str:
    if given is None:
        return known[0]
    if not isinstance(given, str) or given not in known:
        raise QueryError(
            f"{reader.objects.location} has no {what} {given!r}: "
            f"{nearest(given, known, what=several)}"
        )
    return given
