"""What is wrong with a spec, in one line: the key, the value, and what would be right."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from circuit_atlas.storage_schema.wording import listed, nearest

_Details = Mapping[str, Any]


def describe(error: ValidationError, root: type[BaseModel]) -> str:
    """Describes the most telling of the problems that pydantic found, and counts the others."""
    every = error.errors(include_url=False)
    locations = [problem["loc"] for problem in every]
    # A list with a bad item is also reported as too short: the item says more.
    problems: list[_Details] = [
        problem
        for problem, here in zip(every, locations, strict=True)
        if not any(len(here) < len(other) and other[: len(here)] == here for other in locations)
    ]
    # A misspelt key also leaves the right one missing: the misspelling says more.
    problems.sort(key=lambda problem: problem["type"] != "extra_forbidden")
    further = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return _line(problems[0], root) + further


def _line(problem: _Details, root: type[BaseModel]) -> str:
    where = problem["loc"]
    key = _dotted(where)
    value = _short(problem["input"])
    match problem["type"]:
        case "extra_forbidden":
            return f"unknown key {key!r}: {_right_key(where, root)}"
        case "missing":
            if isinstance(where[-1], int):
                return f"{_dotted(where[:-1])} is too short: it needs {where[-1] + 1} items or more"
            return f"missing key {key!r}: the spec needs it"
        case "tuple_type" if isinstance(problem["input"], dict):
            return f"{key} must be a list of tables: write [[{key}]]"
        case "tuple_type":
            return f"{key} = {value}: should be a list"
        case "too_short":
            return f"{key} = {value}: should have at least one item"
        case "model_type":
            return f"{key} = {value} is not a table: write [{key}] and its keys below"
        case "value_error":
            reason = str(problem["ctx"]["error"])
            # A whole table's value says nothing; the reason names what is wrong in it.
            return (
                f"{key} {reason}" if _has_table(problem["input"]) else f"{key} = {value}: {reason}"
            )
        case "literal_error":
            options = _choices(where, root)
            return f"{key} = {value}: {nearest(str(problem['input']), options, what='choices')}"
    return f"{key} = {value}: {str(problem['msg']).replace('Input should', 'should', 1)}"


def _right_key(where: tuple[str | int, ...], root: type[BaseModel]) -> str:
    """The nearest key of that table, or the table which does have a key of that name."""
    *path, name = where
    if path and name in root.model_fields:
        return "it belongs at the top of the file, before the first table"
    home = _section(path, root)
    elsewhere = [
        f"[{section}]"
        for section, field in root.model_fields.items()
        if (inner := _model_in(field.annotation)) and name in inner.model_fields
    ]
    if elsewhere:
        return f"it belongs in {' or '.join(elsewhere)}"
    return nearest(str(name), home.model_fields, what="keys there")


def _section(path: list[str | int], root: type[BaseModel]) -> type[BaseModel]:
    model = root
    for step in path:
        if isinstance(step, str) and step in model.model_fields:
            model = _model_in(model.model_fields[step].annotation) or model
    return model


def _choices(where: tuple[str | int, ...], root: type[BaseModel]) -> list[str]:
    """The values a `Literal` field takes."""
    names = [step for step in where if isinstance(step, str)]
    field = _section(list(names[:-1]), root).model_fields[names[-1]]
    return _literals(field.annotation)


def _literals(annotation: object) -> list[str]:
    return [
        text
        for part in get_args(annotation)
        for text in ([part] if isinstance(part, str) else _literals(part))
    ]


def _model_in(annotation: object) -> type[BaseModel] | None:
    """The section that a field holds: itself, optional, or in a tuple."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for part in get_args(annotation) if (model := _model_in(part))), None)


def _dotted(where: tuple[str | int, ...]) -> str:
    """A key's location, such as `layers[0].units`; items count from 0, in the file's order. Tags
    such as `<file>`, which tell kinds of a table apart, are left out."""
    text = ""
    for step in where:
        if str(step).startswith("<"):
            continue
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else str(step)
    return text or "the spec"


def _has_table(value: object) -> bool:
    items = value if isinstance(value, list | tuple) else [value]
    return any(isinstance(item, dict | BaseModel) for item in items)


def _short(value: object) -> str:
    text = listed([value])
    return text if len(text) <= 80 else f"{text[:77]}..."
