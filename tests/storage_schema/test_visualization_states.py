"""How far feature visualizations are, from plans, records and failures alone."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from circuit_atlas.storage_schema import attempts, visualization_paths, visualization_states
from circuit_atlas.storage_schema.documents import seal
from circuit_atlas.storage_schema.errors import CorruptError
from circuit_atlas.storage_schema.keys import UnitKey
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.records import FailureRecord
from circuit_atlas.storage_schema.verify import verify
from circuit_atlas.storage_schema.visualization_plan import PlannedVisualizations, VisualizationPlan
from circuit_atlas.storage_schema.visualization_states import listed, states
from circuit_atlas.storage_schema.visualizations import FeatureWriter
from circuit_atlas.storage_schema.writer import Writer
from tests.clock import set_clock
from tests.storage_schema.visualization_records import picture_record

LAYER = "body/3.conv"
INNER = "body/0.conv"
BOTH = ("negative", "positive")


@pytest.fixture
def reader(laid_out) -> Reader:
    """Of an atlas without any unit."""
    return Reader(laid_out)


@pytest.fixture
def writer(reader) -> FeatureWriter:
    return FeatureWriter(reader.objects)


def make(writer: FeatureWriter, layer: str, unit: int, *variants: str) -> None:
    for variant in variants:
        writer.commit(picture_record(layer, unit, variant=variant), b"a picture")


def fail(writer: FeatureWriter, layer: str, unit: int, message: str) -> None:
    writer.fail(FailureRecord(UnitKey("toy", layer, unit), "unit", message, "trace"))


def told(reader: Reader) -> list[tuple[str, str, int, str, int, int]]:
    return [
        (one.of, one.layer, one.number, one.state, len(one.made), len(one.planned))
        for one in reader.visualization_states()
    ]


def test_a_plan_reads_back_and_is_the_same_in_any_order():
    asked = [(LAYER, "unit", n, BOTH) for n in (4, 2)] + [(INNER, "channel", 1, ("positive",))]
    plan = VisualizationPlan.of(asked)
    assert plan == VisualizationPlan.of(
        [(layer, of, n, variants[::-1]) for layer, of, n, variants in reversed(asked)]
    )
    assert plan.visualizations == (
        PlannedVisualizations(INNER, "channel", ("positive",), (1,)),
        PlannedVisualizations(LAYER, "unit", BOTH, (2, 4)),
    )
    assert VisualizationPlan.from_json(plan.to_json(), location="here") == plan


@pytest.mark.parametrize("change", [{"of": "layer"}, {"numbers": None}])
def test_what_is_no_plan_is_refused(change):
    content = json.loads(VisualizationPlan.of([(LAYER, "unit", 1, BOTH)]).to_json())
    whole = {"pictures": [{**content["pictures"][0], **change}]}
    with pytest.raises(CorruptError, match="here is no plan of feature visualizations"):
        VisualizationPlan.from_json(seal(whole), location="here")


def test_without_any_there_is_nothing_to_tell(reader):
    assert reader.visualization_states() == ()


def test_planned_made_failed_and_missing(reader, writer):
    asked = [(LAYER, "unit", n, BOTH) for n in range(4)]
    asked += [(INNER, "channel", n, ("positive",)) for n in (0, 5)]
    writer.plan(VisualizationPlan.of(asked))
    make(writer, LAYER, 0, *BOTH)
    make(writer, LAYER, 1, "positive")
    fail(writer, LAYER, 2, "all but grey")
    make(writer, LAYER, 3, "positive")
    fail(writer, LAYER, 3, "all but grey")
    make(writer, INNER, 5, "positive")
    assert told(reader) == [
        ("unit", LAYER, 0, "done", 2, 2),
        ("unit", LAYER, 1, "missing", 1, 2),
        ("unit", LAYER, 2, "failed", 0, 2),
        ("unit", LAYER, 3, "failed", 1, 2),
        ("channel", INNER, 0, "missing", 0, 1),
        ("channel", INNER, 5, "done", 1, 1),
    ]
    assert verify(reader.objects) == ()


def test_a_plan_is_stored_once_and_several_add_up(reader, writer):
    first = VisualizationPlan.of(
        [(LAYER, "unit", 0, ("positive",)), (INNER, "channel", 0, ("positive",))]
    )
    for _ in range(2):
        writer.plan(first)
    assert len(listed(reader.objects).plans) == 1
    # Its layer is in the spec now: the channel is a unit, and another picture is asked for. Which
    # plan is read first is chance.
    writer.plan(VisualizationPlan.of([(INNER, "unit", 0, BOTH)]))
    for some in range(1, 7):
        same = [(INNER, "channel", 0, ("positive",)), (LAYER, "unit", 0, ("positive",))]
        writer.plan(VisualizationPlan.of([*same, (LAYER, "unit", some, ("positive",))]))
    assert told(reader) == [
        ("unit", INNER, 0, "missing", 0, 2),
        *(("unit", LAYER, some, "missing", 0, 1) for some in range(7)),
    ]
    assert (
        sum(
            visualization_paths.is_visualization_plan(entry.path) for entry in reader.objects.list()
        )
        == 8
    )


def test_the_latest_failure_counts_until_all_is_there(reader, writer, monkeypatch):
    writer.plan(VisualizationPlan.of([(LAYER, "unit", 7, BOTH)]))
    # The later one is of a name that sorts first.
    for time_s, attempt, message in ((20.0, 5, "the later"), (10.0, 9, "the earlier")):
        with monkeypatch.context() as patch:
            set_clock(patch, "storage_schema.visualizations", time=lambda t=time_s: t)
            patch.setattr(attempts.secrets, "randbelow", lambda _, n=attempt: n)
            fail(writer, LAYER, 7, message)
    (one,) = reader.visualization_states()
    assert one.failure is not None
    assert one.failure.message == "the later"
    make(writer, LAYER, 7, *BOTH)
    (one,) = reader.visualization_states()
    assert (one.state, one.failure) == ("done", None)


def test_pictures_of_no_plan_are_of_the_units_that_are_stored(
    reader, writer, header, layer, record
):
    """Of an older circuit-atlas, which put no plan."""
    name = layer.layer
    Writer(reader.objects, header, layer).commit(record(0))
    make(writer, name, 0, *BOTH)
    make(writer, name, 1, "positive")
    make(writer, INNER, 3, "positive")
    fail(writer, INNER, 4, "all but grey")
    assert told(reader) == [
        ("unit", name, 0, "done", 2, 2),
        ("channel", INNER, 3, "done", 1, 1),
        ("channel", INNER, 4, "failed", 0, 0),
        ("channel", name, 1, "done", 1, 1),
    ]


def test_a_layer_may_be_called_plans(reader, writer):
    writer.plan(VisualizationPlan.of([("plans", "unit", 0, ("positive",))]))
    make(writer, "plans", 0, "positive")
    fail(writer, "plans", 1, "why")
    assert told(reader) == [
        ("unit", "plans", 0, "done", 1, 1),
        ("channel", "plans", 1, "failed", 0, 0),
    ]
    assert reader.feature_variants("plans") == {0: ("positive",)}
    assert verify(reader.objects) == ()


def test_an_altered_plan_is_found(reader, writer):
    writer.plan(VisualizationPlan.of([(LAYER, "unit", 0, BOTH)]))
    (path,) = listed(reader.objects).plans
    text = reader.objects.get(path)
    reader.objects.put(path, text.replace(b"positive", b"positivf"))
    with pytest.raises(CorruptError, match="is altered"):
        reader.visualization_states()
    assert [(found.kind, found.path) for found in verify(reader.objects)] == [("altered", path)]


def test_only_failures_that_count_are_read(reader, writer, monkeypatch):
    """An atlas that was long in the making has many that do not."""
    writer.plan(VisualizationPlan.of([(LAYER, "unit", 0, ("positive",))]))
    fail(writer, LAYER, 0, "mended since")
    make(writer, LAYER, 0, "positive")
    read = []
    parse = visualization_states.Failure.from_json

    def noted(text: bytes, *, location: str) -> object:
        read.append(location)
        return parse(text, location=location)

    monkeypatch.setattr(visualization_states.Failure, "from_json", noted)
    (one,) = states(reader.objects, listed(reader.objects), stored=lambda _: ())
    assert one == replace(one, failure=None)
    assert read == []
