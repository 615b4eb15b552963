"""A whole document that lies at another's path answers for nobody, and a missing one is missed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import pytest

from circuit_atlas.storage_schema import (
    heartbeat,
    layer_paths,
    layout,
    network,
    response_paths,
    responses,
    visualization_paths,
)
from circuit_atlas.storage_schema.compaction import compact
from circuit_atlas.storage_schema.documents import seal
from circuit_atlas.storage_schema.errors import CorruptError, QueryError
from circuit_atlas.storage_schema.heartbeat import Heartbeat
from circuit_atlas.storage_schema.keys import UnitKey
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.opening import open_store
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.records import FailureRecord
from circuit_atlas.storage_schema.response_tables import DISTRIBUTIONS
from circuit_atlas.storage_schema.sample import Drawn, Sample
from circuit_atlas.storage_schema.template import Plan
from circuit_atlas.storage_schema.verify import verify
from circuit_atlas.storage_schema.visualization_plan import VisualizationPlan
from circuit_atlas.storage_schema.visualizations import FeatureWriter
from circuit_atlas.storage_schema.writer import Writer
from tests.storage_schema.sealing import LAYER, widened
from tests.storage_schema.visualization_records import picture_record

OTHER = "other"


@pytest.fixture
def atlas(laid_out, lay_out, header, layer, record, network_record) -> Objects:
    """Two layers of the same form; the first with two sealed generations, labels twice, a unit that
    failed twice, visualizations of which one failed twice, two plans of both kinds, heartbeats."""
    wide = widened(layer)
    other = dataclasses.replace(wide, layer=OTHER)
    plan = Plan(((LAYER, tuple(range(12))),))
    laid_out.delete(
        [layer_paths.layer_index(LAYER), *(e.path for e in laid_out.list(layout.PLANS))]
    )
    lay_out(
        laid_out, layers=[wide, other], plan=plan, unit_labels={LAYER: {0: "a"}, OTHER: {0: "b"}}
    )
    lay_out(
        laid_out, layers=[wide, other], plan=Plan(((OTHER, (0,)),)), unit_labels={LAYER: {0: "c"}}
    )
    for index in (wide, other):
        network.store(laid_out, index, network_record)
    writer = Writer(laid_out, header, wide)
    for unit in range(6):
        writer.commit(record(unit))
    for _ in range(2):
        writer.fail(FailureRecord(UnitKey(header.model, LAYER, 7), "kind", "why", ""))
        compact(laid_out, header, wide, anew=True)
    key = UnitKey(header.model, OTHER, 0)
    Writer(laid_out, header, other).commit(record(0, key=key))
    visualizations = FeatureWriter(laid_out)
    for unit in (0, 1):
        visualizations.plan(VisualizationPlan.of([(LAYER, "unit", unit, ("positive",))]))
        visualizations.commit(picture_record(LAYER, unit), b"%d" % unit)
        key = UnitKey(header.model, LAYER, 2)
        visualizations.fail(FailureRecord(key, "kind", "why", ""))
    for worker in ("one", "two"):
        heartbeat.write(laid_out, Heartbeat(worker, "units", 1.0, 2.0, 3.0, 1, 0, 0, None))
    return laid_out


def _swaps(objects: Objects) -> Iterator[tuple[str, str, Callable[[Reader], object]]]:
    """Two paths of a kind, and a question that the first answers."""

    def listed(folder: str, ending: str = ".json") -> list[str]:
        return [e.path for e in objects.list(folder) if e.path.endswith(ending)]

    commits = [
        layer_paths.commit(LAYER, 0),
        layer_paths.commit(LAYER, 1),
        layer_paths.commit(OTHER, 0),
    ]
    yield *commits[:2], lambda r: r.commit(LAYER, 0)
    yield commits[0], commits[2], lambda r: r.commits(LAYER)
    yield layer_paths.layer_index(LAYER), layer_paths.layer_index(OTHER), lambda r: r.layer(LAYER)
    yield layer_paths.network(LAYER), layer_paths.network(OTHER), lambda r: r.weights(LAYER)
    yield *listed(layer_paths.failures(LAYER)), lambda r: r.failures(LAYER)
    yield *listed(layout.PLANS), lambda r: r.plan()
    yield layer_paths.labels(LAYER, 1), layer_paths.labels(LAYER, 0), lambda r: r.labels(LAYER)
    yield layer_paths.labels(OTHER, 0), layer_paths.labels(LAYER, 0), lambda r: r.labels(OTHER)
    manifests = listed(layer_paths.sealed(LAYER), "manifest.json")
    yield *reversed(manifests), lambda r: r.table(LAYER, "responses")
    pictures = [visualization_paths.visualization(LAYER, unit, "positive") for unit in (0, 1)]
    yield *pictures, lambda r: r.feature_visualizations(LAYER, 0)
    yield *pictures, lambda r: r.feature_visualization(LAYER, 0, "positive")
    yield *listed("features/plans"), lambda r: r.visualization_states()
    yield (
        *listed(f"{visualization_paths.visualizations(LAYER)}/failures"),
        lambda r: r.visualization_states(),
    )


def test_each_answers_under_its_own_name_alone(atlas):
    assert verify(atlas) == ()
    for path, other, ask in _swaps(atlas):
        own = atlas.get(path)
        ask(Reader(atlas))
        atlas.put(path, atlas.get(other))
        with pytest.raises(
            CorruptError, match=r"moved here.*: run `circuit-atlas repair`"
        ) as caught:
            ask(Reader(atlas))
        assert atlas.at(path) in str(caught.value)
        assert [finding.path for finding in verify(atlas) if finding.harmful] == [path]
        atlas.put(path, own)


def test_documents_that_do_not_say_their_number_are_read(atlas):
    """Those of earlier versions: failures without the attempt, labels without the number."""
    atlas.put(layer_paths.labels(LAYER, 2), seal({"layer": LAYER, "labels": [[0, "old"]]}).encode())
    assert Reader(atlas).labels(LAYER) == {0: "old"}
    key = {"model": "toy", "layer": LAYER, "unit": 7}
    record = {"key": key, "kind": "old", "message": "why", "trace": ""}
    failure = seal({"time_s": 1e12, "record": record}).encode()
    atlas.put(layer_paths.failure(LAYER, 7, 1), failure)
    assert Reader(atlas).failures(LAYER)[7].kind == "old"
    atlas.put(layer_paths.failure(LAYER, 8, 1), failure)
    with pytest.raises(CorruptError, match=r"a failure of toy/features\.3/7, moved here"):
        Reader(atlas).failures(LAYER)


def test_a_heartbeat_of_another_worker_is_left_out(atlas):
    assert [beat.worker for beat in heartbeat.read(atlas)] == ["one", "two"]
    atlas.put(layout.heartbeat("one"), atlas.get(layout.heartbeat("two")))
    assert [beat.worker for beat in heartbeat.read(atlas)] == ["two"]


def test_responses_of_other_units_or_of_another_layer(laid_out):
    rows = DISTRIBUTIONS.stored_schema.empty_table()
    for layer, units in ((LAYER, [0, 1]), (LAYER, [4]), (OTHER, [4])):
        responses.put_distributions(laid_out, layer, units, rows)
    path = response_paths.responses_record(LAYER, responses.key_of([4]))
    for other in (
        response_paths.responses_record(LAYER, responses.key_of([0, 1])),
        response_paths.responses_record(OTHER, responses.key_of([4])),
    ):
        own = laid_out.get(path)
        laid_out.put(path, laid_out.get(other))
        with pytest.raises(CorruptError, match="moved here"):
            responses.records(laid_out, LAYER)
        laid_out.put(path, own)


@pytest.mark.parametrize("what", ["commits", "plan", "network.json"])
def test_a_layer_without_its_index_is_an_error_and_not_one_layer_less(atlas, what):
    other = [entry.path for entry in atlas.list(layer_paths.layer(OTHER))]
    kept = {"plan": (), "commits": ("/commits/",), "network.json": ("network.json",)}[what]
    atlas.delete([path for path in other if not any(part in path for part in kept)])
    if what != "plan":
        atlas.delete([entry.path for entry in atlas.list(layout.PLANS)])
    atlas.put_if_absent(f"{layer_paths.arrays(OTHER)}/zarr.json", b"{}")
    for ask in (lambda r: r.layers(), lambda r: r.layer(OTHER), lambda r: r.listings()):
        with pytest.raises(CorruptError, match=r"other/layer\.json is missing, and the layer was"):
            ask(Reader(atlas))


def test_a_layer_that_is_being_laid_out_is_not_there_yet(atlas):
    atlas.put(f"{layer_paths.arrays('third')}/zarr.json", b"{}")
    assert Reader(atlas).layers() == (LAYER, OTHER)
    with pytest.raises(QueryError, match="has no layer 'third'"):
        Reader(atlas).layer("third")


def test_a_layer_that_goes_while_it_is_read(atlas):
    reader = Reader(atlas)
    assert reader.layers() == (LAYER, OTHER)
    atlas.delete([entry.path for entry in atlas.list(layer_paths.layer(OTHER))])
    with pytest.raises(CorruptError, match=r"other/layer\.json is missing"):
        reader.layers()


def test_no_plan_of_an_atlas_with_units(atlas):
    atlas.delete([entry.path for entry in atlas.list(layout.PLANS)])
    with pytest.raises(CorruptError, match="plans holds no plan, and the atlas has units"):
        Reader(atlas).plan()


def test_a_network_whose_record_is_gone(atlas):
    atlas.delete([layer_paths.network(LAYER)])
    with pytest.raises(CorruptError, match=r"network\.json is missing, and the layer has units"):
        Reader(atlas).wiring(LAYER)


def test_a_unit_whose_responses_are_gone(tmp_path, lay_out, header, layer, record, network_record):
    """Where units have images of their own, none is computed before they are recorded."""
    objects = open_store(tmp_path / "sampled", create=True)
    header = dataclasses.replace(header, sample=Sample(Drawn(2, 1), None))
    lay_out(objects, header=header)
    network.store(objects, layer, network_record)
    nothing = dict.fromkeys(("mean", "sd", "low", "high"))
    lists = [n for n in DISTRIBUTIONS.schema.names if n not in {"unit", "images", *nothing}]
    row = {"unit": 1, "images": 0, **nothing, **{name: [] for name in lists}}
    rows = DISTRIBUTIONS.from_columns({name: [value] for name, value in row.items()})
    responses.put_distributions(objects, LAYER, [1], rows)
    Writer(objects, header, layer).commit(record(1))
    found = Reader(objects).distribution(LAYER, 1)
    assert found is not None
    assert found["images"] == 0
    assert Reader(objects).distribution(LAYER, 0) is None
    path = response_paths.responses_record(LAYER, responses.key_of([1]))
    objects.delete([path])
    with pytest.raises(CorruptError, match="names no responses to unit 1, which is committed"):
        Reader(objects).distribution(LAYER, 1)
    found = [(one.kind, one.path) for one in verify(objects) if one.harmful]
    assert found == [("missing", path)]
