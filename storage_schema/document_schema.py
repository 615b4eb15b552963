"""The one schema by which documents are checked as they are read: the dataclasses themselves.

An annotation says what stands under a field's key, with a type of `bounds` where there is a bound;
msgspec holds a document's content against it. Where a field has a default its key may be missing:
documents of earlier versions have none. Keys that no field names are passed over: those of later
versions. What fields say together is asked of the dataclass, of a method `inconsistency`.
"""

from __future__ import annotations

import re
import reprlib
from dataclasses import dataclass, fields, replace
from itertools import chain
from operator import attrgetter
from typing import Any, TypeVar, get_type_hints

import msgspec
from msgspec import inspect

from circuit_atlas.storage_schema.bounds import FORM, fit

T = TypeVar("T")
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60
_LACKS = re.compile("object missing required field `(.*)`")
_STEP = re.compile(r"\.(\w+)|\[(\d+)\]")


@dataclass(frozen=True)
class RowsOf:
    """Marks a field whose dataclasses are stored as lists of their fields, in their order."""

    kind: type[Any]


@dataclass(frozen=True)
class ValueOf:
    """Marks a field whose dataclass is stored as the value of one of its fields."""

    name: str


class RefusedError(Exception):
    """Content that is not what it should be: which value, and what it should be."""


def read(kind: type[T], content: object) -> T:
    """Make a dataclass of a document's content; RefusedError where it is none."""
    if type(content) is not dict:
        raise RefusedError(f"it is {_SHORT.repr(content)}, and should be an object")
    content = _plain(kind, content)
    try:
        found = msgspec.convert(content, kind)
    except msgspec.ValidationError as error:
        raise RefusedError(_told(str(error), kind, content)) from None
    if (misfit := _misfit(kind, found)) is not None:
        raise RefusedError(misfit)
    fault = inconsistency() if (inconsistency := getattr(found, "inconsistency", None)) else None
    if fault is not None:
        raise RefusedError(f"it {fault}")
    return found


def stored_keys(kind: type[Any]) -> dict[str, str]:
    """Return the key that each field of a dataclass is stored under, by the field's name.

    It is that name, unless the field's metadata gives an older one as `stored_as`.
    """
    return {one.name: one.metadata.get("stored_as", one.name) for one in fields(kind)}


def values_of(kind: type[Any]) -> dict[str, str]:
    """Say what may stand under each stored key of a dataclass, in words."""
    hints, keys = get_type_hints(kind, include_extras=True), stored_keys(kind)
    return {stored: _field_words(hints[name]) for name, stored in keys.items()}


@dataclass(frozen=True)
class _Stored:
    """How a field is stored that is not stored as itself: under which key, as rows of which names,
    as the value of which field."""

    key: str
    row: tuple[str, ...] | None
    value_of: str | None


_KNOWN: dict[type[Any], dict[str, _Stored]] = {}


def _otherwise_stored(kind: type[Any]) -> dict[str, _Stored]:
    if kind in _KNOWN:
        return _KNOWN[kind]
    hints, keys = get_type_hints(kind, include_extras=True), stored_keys(kind)
    found = {}
    for name, key in keys.items():
        marks = getattr(hints[name], "__metadata__", ())
        rows = next((mark.kind for mark in marks if isinstance(mark, RowsOf)), None)
        value = next((mark.name for mark in marks if isinstance(mark, ValueOf)), None)
        if key != name or rows is not None or value is not None:
            row = None if rows is None else tuple(one.name for one in fields(rows))
            found[name] = _Stored(key, row, value)
    _KNOWN[kind] = found
    return found


def _plain(kind: type[Any], content: dict[str, Any]) -> dict[str, Any]:
    """The content as if all fields were stored as themselves."""
    stored = _otherwise_stored(kind)
    if not stored:
        return content
    keys = {*stored, *(one.key for one in stored.values())}
    found = {key: value for key, value in content.items() if key not in keys}
    for name, one in stored.items():
        if one.key not in content:
            continue
        value = content[one.key]
        if one.row is not None and type(value) is list:
            value = [
                dict(zip(one.row, row, strict=True))
                if type(row) is list and len(row) == len(one.row)
                else row
                for row in value
            ]
        found[name] = value if one.value_of is None else {one.value_of: value}
    return found


def _told(message: str, kind: type[Any], content: dict[str, Any]) -> str:
    """msgspec's message with the value, in the words of documents."""
    what, _, where = message.partition(" - at `$")
    what = f"{what[0].lower()}{what[1:]}"
    steps = [name or int(at) for name, at in _STEP.findall(where.rstrip("`"))]
    lacking = _LACKS.fullmatch(what)
    if not steps:
        stored = _otherwise_stored(kind).get(lacking[1]) if lacking else None
        return f"it lacks `{stored.key if stored else lacking[1]}`" if lacking else f"it: {what}"
    value: Any = content
    for step in steps:
        value = value[step]
    stored = _otherwise_stored(kind).get(str(steps[0]))
    shown = [stored.key if stored else steps[0], *steps[1:]]
    if stored and stored.value_of is not None:
        shown[1:2] = []
    path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in shown)
    at = f"`{path.lstrip('.')}`"
    return f"{at} lacks `{lacking[1]}`" if lacking else f"{at} is {_SHORT.repr(value)}: {what}"


@dataclass(frozen=True)
class _Texts:
    """Where texts of a form stand in values of a type.

    Attributes:
        form: that of the values themselves; None where it is of texts inside them.
        fields: where a field of each holds some.
        items: of the items of each.
        optional: whether a value may be None.
    """

    form: str | None = None
    fields: tuple[tuple[str, _Texts], ...] = ()
    items: _Texts | None = None
    optional: bool = False

    def gather(self, values: list[Any], found: dict[str, list[str]]) -> None:
        """Put the texts of some values together, by form."""
        if self.optional:
            values = [value for value in values if value is not None]
        if self.form is not None:
            found.setdefault(self.form, []).extend(values)
        elif self.items is not None:
            self.items.gather(list(chain.from_iterable(values)), found)
        for name, texts in self.fields:
            texts.gather(list(map(attrgetter(name), values)), found)

    def misfit(self, value: Any, where: str) -> str | None:
        """Say which text is not of its form."""
        if value is None or (self.form is not None and fit(self.form, [value])):
            return None
        if self.form is not None:
            return f"`{where}` is {_SHORT.repr(value)}: expected {self.form}"
        dot = f"{where}." if where else ""
        inside = [(getattr(value, name), f"{dot}{name}", texts) for name, texts in self.fields]
        if self.items is not None:
            inside += [(one, f"{where}[{at}]", self.items) for at, one in enumerate(value)]
        said = (texts.misfit(one, path) for one, path, texts in inside)
        return next((fault for fault in said if fault is not None), None)


def _misfit(kind: type[Any], found: object) -> str | None:
    """Say which text of a document is not of its form."""
    if kind not in _TEXTS:
        _TEXTS[kind] = _texts(inspect.type_info(kind))
    texts = _TEXTS[kind]
    if texts is None:
        return None
    gathered: dict[str, list[str]] = {}
    texts.gather([found], gathered)
    if all(fit(form, some) for form, some in gathered.items()):
        return None
    return texts.misfit(found, "")


_TEXTS: dict[type[Any], _Texts | None] = {}


def _texts(info: inspect.Type) -> _Texts | None:
    match info:
        case inspect.Metadata(type=inner, extra=extra):
            return _Texts(form=extra[FORM]) if extra and FORM in extra else _texts(inner)
        case inspect.UnionType(types=types):
            held = next((texts for one in types if (texts := _texts(one)) is not None), None)
            return None if held is None else replace(held, optional=True)
        case inspect.VarTupleType(item_type=item):
            texts = _texts(item)
            return None if texts is None else _Texts(items=texts)
        case inspect.DataclassType(fields=every):
            inside = [(one.name, _texts(one.type)) for one in every]
            some = tuple((name, texts) for name, texts in inside if texts is not None)
            return _Texts(fields=some) if some else None
    return None


def _field_words(hint: Any) -> str:
    """What may stand under a field's key."""
    for mark in getattr(hint, "__metadata__", ()):
        if isinstance(mark, RowsOf):
            return f"list; each: list: {'; '.join(values_of(mark.kind).values())}"
        if isinstance(mark, ValueOf):
            return values_of(hint.__origin__)[mark.name]
    return _words(inspect.type_info(hint))


def _words(info: inspect.Type) -> str:
    """What values of a type may be."""
    match info:
        case inspect.Metadata(type=inner, extra=extra):
            return extra[FORM] if extra and FORM in extra else _words(inner)
        case inspect.BoolType():
            return "true or false"
        case inspect.NoneType():
            return "null"
        case inspect.IntType(ge=low, le=high):
            return f"whole number, {low:,} to {high:,}"
        case inspect.FloatType(gt=above, ge=low, le=high):
            return ", ".join(["number", *_range(above, low, high)])
        case inspect.StrType(max_length=most):
            return "text" if most is None else f"text of at most {most:,} characters"
        case inspect.LiteralType(values=values):
            return " or ".join(f"`{value}`" for value in values)
        case inspect.UnionType(types=types):
            # `null` first: of a list it would seem to be said of what is in it.
            every = sorted(types, key=lambda one: not isinstance(one, inspect.NoneType))
            return ", or ".join(map(_words, every))
        case inspect.VarTupleType(item_type=item, min_length=low, max_length=high):
            length = "" if low is None else f" of {low}" if low == high else f" of {low} or more"
            return f"list{length}; each: {_words(item)}"
        case inspect.TupleType(item_types=items):
            return f"list: {'; '.join(map(_words, items))}"
        case inspect.DictType(value_type=item):
            return f"object; each value: {_words(item)}"
        case inspect.DataclassType():
            return "object"
    raise TypeError(f"documents hold no {info}")


def _range(above: float | None, low: float | None, high: float | None) -> list[str]:
    if high is None:
        return [] if low is None else [f"{low:g} or more"]
    return [f"{low:g} to {high:g}" if above is None else f"above {above:g}, up to {high:g}"]
