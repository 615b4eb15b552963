"""The error tree: stable kinds, and errors that survive a trip between processes."""

from __future__ import annotations

import pickle

import pytest

from circuit_atlas.storage_schema import errors


def _all(kind: type[errors.AtlasError]) -> list[type[errors.AtlasError]]:
    """The tree of this module: others add kinds of what they alone do, as the server its own."""
    own = [child for child in kind.__subclasses__() if child.__module__ == errors.__name__]
    return [kind, *(below for child in own for below in _all(child))]


@pytest.mark.parametrize("kind", _all(errors.AtlasError))
def test_pickling_keeps_kind_and_message(kind):
    back = pickle.loads(pickle.dumps(kind("unit 5 of x: too many")))
    assert type(back) is kind
    assert str(back) == "unit 5 of x: too many"
    assert back.kind == kind.kind


def test_kinds_are_distinct_and_in_the_docstring():
    kinds = [kind.kind for kind in _all(errors.AtlasError)]
    assert len(set(kinds)) == len(kinds)
    for kind in _all(errors.AtlasError):
        in_tree = kind.__name__ in (errors.__doc__ or "")
        assert in_tree or issubclass(kind, errors.InfrastructureError)
