"""A sealed document gives back its content, or says that it is not what was sealed."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from circuit_atlas.storage_schema.documents import canonical, seal, unseal
from circuit_atlas.storage_schema.errors import CorruptError, SchemaError
from circuit_atlas.storage_schema.header import LayerIndex
from circuit_atlas.storage_schema.version import SCHEMA_VERSION

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    # A lone surrogate has no UTF-8 form.
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda children: (
        st.lists(children, max_size=3)
        | st.dictionaries(st.sampled_from("abc"), children, max_size=3)
    ),
    max_leaves=8,
)
SEALED = seal({"state": "done"})


@given(st.dictionaries(st.sampled_from(["model", "unit", "ü"]), JSON))
def test_content_comes_back(content):
    text = seal(content)
    assert unseal(text.encode(), location="x") == {"schema": SCHEMA_VERSION, **content}


@pytest.mark.parametrize(
    ("spoiled", "says"),
    [
        (SEALED[: len(SEALED) // 2], "no JSON"),
        ("", "no JSON"),
        ("[" * 100_000, "no JSON"),
        (SEALED.replace("done", "dead"), "does not match the checksum"),
        ("[1]", "no schema version"),
        ('{"schema": 1}', "does not match the checksum"),
    ],
)
def test_what_is_cut_or_altered_is_refused(spoiled, says):
    with pytest.raises(CorruptError, match=f"^x/5.json is .*{says}") as caught:
        unseal(spoiled, location="x/5.json")
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(
        "; run `circuit-atlas repair` on the atlas, or restore it from a copy"
    )


def test_a_newer_schema_is_told_from_an_altered_document():
    newer = json.dumps({"schema": SCHEMA_VERSION + 1, "sealed": "in another way"})
    with pytest.raises(SchemaError, match="install a newer circuit-atlas"):
        unseal(newer, location="atlas.json")


def test_nan_is_refused():
    with pytest.raises(ValueError, match="JSON"):
        canonical({"a": float("nan")})


def test_a_layer_from_before_activations_says_pre(layer):
    content = layer.content()
    del content["activation"], content["after"]
    old = LayerIndex.from_json(seal(content))
    assert (old.activation, old.explained) == ("pre", "the module's own output")
    after = dataclasses.replace(layer, activation="post", after="relu, act")
    assert LayerIndex.from_json(after.to_json()) == after
    assert after.explained == "after relu, act"


def test_a_layer_from_before_the_self_check_was_not_checked(layer):
    checked = dataclasses.replace(layer, self_check=2.5e-7)
    assert LayerIndex.from_json(checked.to_json()).self_check == 2.5e-7
    content = checked.content()
    del content["self_check"]
    old = LayerIndex.from_json(seal(content))
    assert old.self_check is None
    # Rounding is no difference between two layers.
    assert old == checked


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[" + "0," * 2**22 + "0]", "more than 4,194,304 values"),
        ("[" + "[]," * 2**20 + "[]]", "more than 1,048,576 lists and objects"),
        ("[" + "[[[[]]]]," * 2**18 + "0]", "more than 1,048,576 lists and objects"),
        ("{" + '"":0,' * 2**20 + '"":0}', "more than 1,048,576 keys"),
    ],
)
def test_more_values_than_any_document_has_are_not_made(text, says):
    with pytest.raises(CorruptError, match=says):
        unseal('{\n  "schema": 4,\n  "more": ' + text + "\n}\n", location="x")
