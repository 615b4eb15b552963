"""A document is what its dataclass says, or an error that names the key and its value."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest

from circuit_atlas.storage_schema import layer_paths, layout
from circuit_atlas.storage_schema.commit import Commit, Failure
from circuit_atlas.storage_schema.document_schema import values_of
from circuit_atlas.storage_schema.documents import canonical, parse, seal, sha256, unseal
from circuit_atlas.storage_schema.errors import CorruptError
from circuit_atlas.storage_schema.header import AtlasHeader, LayerIndex
from circuit_atlas.storage_schema.heartbeat import Heartbeat
from circuit_atlas.storage_schema.keys import UnitKey
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.records import FailureRecord
from circuit_atlas.storage_schema.wiring import Wiring
from circuit_atlas.storage_schema.writer import Writer

Change = Callable[[dict[str, Any]], object]


def content_of(text: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(text)
    del content["sha256"]
    return content


@pytest.fixture
def commit(objects, header, layer, record) -> dict[str, Any]:
    """What a unit's commit record says."""
    Writer(objects, header, layer).commit(record(1))
    return content_of(objects.get(layer_paths.commit(layer.layer, 1)).decode())


def put(key: str, value: object) -> Change:
    return lambda content: content.update({key: value})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (put("unit", True), "`unit` is True: expected `int`, got `bool`"),
        (put("unit", -1), "`unit` is -1: expected `int` >= 0"),
        (put("unit", 2**31), "`unit` is 2147483648: expected `int` <= 2147483647"),
        (put("unit", 10**30), "`unit` is 1000000000"),
        (put("unit", 1.0), "`unit` is 1.0: expected `int`, got `float`"),
        (put("state", "gone"), "`state` is 'gone': invalid enum value 'gone'"),
        (put("compute_s", -0.5), "`compute_s` is -0.5: expected `float` >= 0.0"),
        (put("layer", "x" * 5000), "`layer` is 'xxx"),
        (put("objects", {}), "`objects` is {}: expected `array`, got `object`"),
        (put("forms", [["actgrad", "level"]] * 2), "it has circuits of 'actgrad' twice"),
        (put("forms", [["actgrad"]]), "`forms[0]` is ['actgrad']: expected `array` of length 2"),
        (lambda c: c["objects"][2].update(sha256="A" * 64), "`objects[2].sha256` is 'AAA"),
        (
            lambda c: c["objects"][2].update(path="../x"),
            "`objects[2].path` is '../x': expected p",
        ),
        (
            lambda c: c["objects"][2].update(path="/etc/x"),
            "`objects[2].path` is '/etc/x': expected",
        ),
        (
            lambda c: c["objects"][2].update(path="layers/x"),
            "it names `layers/x`, which is no object",
        ),
        (lambda c: c["objects"][2].pop("size_bytes"), "`objects[2]` lacks `size_bytes`"),
        (lambda c: c.pop("kernels"), "it lacks `kernels`"),
        (lambda c: c.update(state="dead"), "it is of a dead unit, and has circuits"),
    ],
)
def test_a_commit_that_says_what_none_can_is_refused(commit, change, says):
    change(commit)
    with pytest.raises(CorruptError) as caught:
        Commit.from_json(seal(commit), location="x/1.json")
    message = str(caught.value)
    assert message.startswith("x/1.json is no commit record: ")
    assert says in message
    assert message.endswith("; run `circuit-atlas repair` on the atlas, or restore it from a copy")
    assert "\n" not in message
    assert len(message) < 400


def test_objects_of_another_unit_are_refused(commit):
    for stored in commit["objects"]:
        stored["path"] = stored["path"].replace("/c.1.", "/c.2.")
    with pytest.raises(CorruptError, match="which is no object of the unit"):
        Commit.from_json(seal(commit), location="x")


def test_keys_of_later_versions_are_passed_over_and_those_of_earlier_ones_may_lack(commit):
    del commit["criteria_s"]
    commit["objects"][0]["mood"] = commit["mood"] = {"of": [None]}
    assert Commit.from_json(seal(commit), location="x").criteria_s == ()


def test_a_header_says_one_thing(header):
    content = content_of(header.to_json())
    assert AtlasHeader.from_json(seal(content)) == header
    for change, says in (
        ({"spec": canonical({"model": {}})}, "another spec than `spec_sha256` says"),
        ({"fractions": [0.5, 0.5]}, "`fractions` that do not descend"),
        ({"fractions": [1.5]}, r"`fractions\[0\]` is 1.5: expected `float` <= 1.0"),
        ({"fractions": []}, "`fractions` is .*length >= 1"),
        ({"image_criteria": ["snip"]}, "says of 'snip' more than of its criteria"),
        ({"ablations": ["median"]}, r"`ablations\[0\]` is 'median': invalid enum value"),
        *((_spec(text), "has a spec that") for text in ("[]", "{", '{"model":1}', "[" * 50_000)),
    ):
        with pytest.raises(CorruptError, match=f"is no atlas header: .*{says}") as caught:
            AtlasHeader.from_json(seal({**content, **change}))
        assert str(caught.value).endswith(" --spec SPEC`, or restore it from a copy")


def _spec(text: str) -> dict[str, str]:
    return {"spec": text, "spec_sha256": sha256(text.encode())}


def test_a_layer_index_counts_its_units(layer):
    content = content_of(layer.to_json())
    assert LayerIndex.from_json(seal(content)) == layer
    for change, says in (
        (lambda c: c["units"].pop(0), "numbers unit 0 as 1"),
        (lambda c: c["units"].clear(), "has 0 units of 4 channels"),
        (lambda c: c["units"][0].update(rows=[]), "names 0 own rows of unit 0, and it has 1"),
        (lambda c: c["units"][0].update(direction=[1.0]), "gives unit 0 a direction"),
        (lambda c: c["index"][0].update(groups=4), "whose groups differ in size"),
        (
            lambda c: c["index"][0].update(groups=0),
            r"`index\[0\].groups` is 0: expected `int` >= 1",
        ),
        (lambda c: c["index"][0].update(out_channels=2**20, in_channels=2**20), "kernels: 268,"),
    ):
        spoiled = json.loads(json.dumps(content))
        change(spoiled)
        with pytest.raises(CorruptError, match=says):
            LayerIndex.from_json(seal(spoiled))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"a": 1, "a": 2}', "the key 'a' twice"),
        ('{"b": [{"a": 1, "a": 1}]}', "the key 'a' twice"),
        ("[" * 100_000, "too deep"),
        ("[" * 100_000 + "]" * 100_000, "too deep"),
        ("[NaN]", "NaN, which is no number"),
        ("-Infinity", "-Infinity, which is no number"),
        ("1e999", "not JSON compliant"),
        ("9" * 5000, "4300 digits"),
        ('"\\ud800"', "half of a character"),
        ('{"\\udfff": 1}', "half of a character"),
        (b"\xff", "invalid start byte"),
        ("{}".encode("utf-16"), "invalid start byte"),
        (b"\xef\xbb\xbf{}", "Expecting value"),
        ("", "Expecting value"),
    ],
)
def test_what_is_no_json_of_ours_is_refused_in_one_line(text, says):
    with pytest.raises(ValueError, match=says) as caught:
        parse(text)
    assert "\n" not in str(caught.value)
    assert "set_int_max_str_digits" not in str(caught.value)


def test_whole_characters_beyond_the_first_plane_are_read():
    assert parse('"\\ud83d\\ude00 C:\\\\udata"') == "\N{GRINNING FACE} C:\\udata"


def test_a_key_twice_is_refused_though_the_checksum_fits():
    once = '"failed":0'
    lines = ['"schema": 4', '"activity": {"a":1,"a":1}', f'"x": {{{once},{once}}}']
    whole = "{" + ",".join(line.replace('": ', '":', 1) for line in sorted(lines)) + "}"
    lines.append(f'"sha256": "{sha256(whole.encode())}"')
    with pytest.raises(CorruptError, match="it has the key 'a' twice"):
        unseal("{\n  " + ",\n  ".join(lines) + "\n}\n", location="x")


def test_numbers_that_python_writes_in_its_own_way_come_back():
    for number in (1e-7, 1e16, 5e-324, 1.7976931348623157e308, -0.0, 123456789.123):
        assert unseal(seal({"number": number}), location="x")["number"] == number


def test_a_document_that_is_too_long_is_not_read(objects, layer, record, header):
    Writer(objects, header, layer).commit(record(1))
    path = layer_paths.commit(layer.layer, 1)
    size_bytes = layout.most_bytes(path) + 1
    with open(f"{objects.location}/{path}", "wb") as stream:
        stream.write(bytes(size_bytes))
    with pytest.raises(CorruptError, match=f"has {size_bytes:,} bytes, and a document of its kind"):
        Reader(objects).commit(layer.layer, 1)


def test_a_wiring_outside_of_the_layer_is_refused(objects, layer):
    reader = Reader(objects)
    good = reader.wiring(layer.layer)
    stretches = (dataclasses.replace(good.stretches[0], start=2**20), *good.stretches[1:])
    data = Wiring(stretches).to_json().encode()
    path, record = layer_paths.wiring(layer.layer), layer_paths.network(layer.layer)
    objects.put(path, data)
    named = content_of(objects.get(record).decode())
    for stored in named["objects"]:
        if stored["path"] == path:
            stored.update(size_bytes=len(data), sha256=sha256(data))
    objects.put(record, seal(named).encode())
    with pytest.raises(CorruptError, match="lies outside the layer's convolutions"):
        Reader(objects).wiring(layer.layer)


@pytest.mark.parametrize(("key", "value"), [("name", "other"), ("out_channels", 5), ("depth", 9)])
def test_a_network_of_other_convolutions_is_refused(objects, layer, key, value):
    content = content_of(objects.get(layer_paths.layer_index(layer.layer)).decode())
    content["index"][0][key] = value
    objects.put(layer_paths.layer_index(layer.layer), seal(content).encode())
    reader = Reader(objects)
    if key == "depth":
        assert reader.weights(layer.layer)[1] is None
        assert len(reader.channels(layer.layer)) == 10
        return
    with pytest.raises(CorruptError, match=r"of other convolutions|is its shape"):
        reader.weights(layer.layer)
    with pytest.raises(CorruptError, match="which the layer's network has not"):
        reader.channels(layer.layer)


def test_a_failure_may_tell_of_a_file_of_any_name(objects, header, layer):
    record = FailureRecord(UnitKey("toy", layer.layer, 2), "images", "no \udcff.jpg", "in \udcff")
    Writer(objects, header, layer).fail(record)
    read = Reader(objects).failures(layer.layer)[2]
    assert (read.message, read.trace) == ("no ?.jpg", "in ?")


def test_ranges_are_told_in_words():
    assert values_of(Commit)["unit"] == "whole number, 0 to 2,147,483,647"
    assert values_of(Commit)["state"] == "`dead` or `done`"
    assert values_of(Commit)["forms"] == (
        "list; each: list: text of at most 4,096 characters; `level` or `packed`"
    )
    assert values_of(AtlasHeader)["fractions"] == (
        "list of 1 or more; each: number, above 0, up to 1"
    )
    assert values_of(Heartbeat)["activity"] == "null, or object"
    assert values_of(Failure)["record"] == "object"
