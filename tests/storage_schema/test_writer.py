"""One unit, many ways to write it: races, kills, full and read-only disks, unfit records."""

from __future__ import annotations

import dataclasses
import os
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import obstore
import pytest

from circuit_atlas.storage_schema import layer_paths, network, unit_tables
from circuit_atlas.storage_schema.errors import RecordError, WriteError
from circuit_atlas.storage_schema.keys import UnitKey
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.opening import open_store
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.records import FailureRecord
from circuit_atlas.storage_schema.refusals import write_error
from circuit_atlas.storage_schema.verify import verify
from circuit_atlas.storage_schema.writer import Writer, form_of
from tests.patience import START_S

# Runs in a process of its own: commit one unit of the small atlas at argv[1], with seed argv[2].
COMMIT = """
import importlib.util, os, signal, sys
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.opening import open_store
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.writer import Writer
spec = importlib.util.spec_from_file_location("sample", sys.argv[3])
sample = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sample)
objects = open_store(sys.argv[1])
reader = Reader(objects)
layer = reader.layer("features.3")
record = sample.make_record(reader.header, layer, 1, seed=int(sys.argv[2]))
if sys.argv[4] == "kill":
    put = Objects.create
    def killed(self, path, data):
        if "/commits/" in path:
            os.kill(os.getpid(), signal.SIGKILL)
        return put(self, path, data)
    Objects.create = killed
else:
    print("ready", flush=True)
    sys.stdin.readline()
print(Writer(objects, reader.header, layer).commit(record).attempt)
"""


def _start(objects: Objects, seed: int, how: str) -> subprocess.Popen[str]:
    sample = str(Path(__file__).with_name("conftest.py"))
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", COMMIT, objects.location, str(seed), sample, how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _holds(objects: Objects, record) -> bool:
    """Whether the committed unit is this record and no other."""
    reader = Reader(objects)
    commit = reader.commits("features.3")[record.key.unit]
    same = [
        np.array_equal(reader.scores(commit, c.name), c.scores, equal_nan=True)
        and all(
            np.array_equal(reader.mask(commit, c.name, rung), mask)
            for rung, mask in enumerate(c.masks)
        )
        for c in record.criteria
    ]
    return all(same)


def test_a_second_commit_returns_the_first_and_writes_nothing(
    objects, header, layer, record, snapshot
):
    writer = Writer(objects, header, layer)
    first = writer.commit(record(1, seed=1))
    before = snapshot(objects)
    assert writer.commit(record(1, seed=2)) == first
    assert Writer(objects, header, layer).commit(record(1, seed=3)) == first
    assert snapshot(objects) == before
    assert _holds(objects, record(1, seed=1))


def test_threads_that_race_for_a_unit_get_one_winner(objects, header, layer, record, monkeypatch):
    """All eight have written their chunks before any of them puts its commit record."""
    barrier = Barrier(8)
    put = Objects.create

    def wait_before_commit(self, path, data):
        if "/commits/" in path:
            barrier.wait(timeout=START_S)
        return put(self, path, data)

    monkeypatch.setattr(Objects, "create", wait_before_commit)

    def commit(seed):
        return Writer(objects, header, layer).commit(record(1, seed=seed))

    with ThreadPoolExecutor(8) as pool:
        receipts = list(pool.map(commit, range(8)))
    assert len(set(receipts)) == 1
    stored = Reader(objects).commits("features.3")[1]
    assert stored.attempt == receipts[0].attempt
    assert sum(_holds(objects, record(1, seed=seed)) for seed in range(8)) == 1
    findings = verify(objects)
    assert {finding.kind for finding in findings} == {"unreferenced"}
    assert len(findings) == 7 * len(stored.objects)
    assert not any(f"/{stored.attempt}/" in finding.path for finding in findings)


def test_processes_that_race_for_a_unit_get_one_winner(objects, record):
    racing = [_start(objects, seed, "race") for seed in range(3)]
    for process in racing:
        assert process.stdout.readline() == "ready\n"
    for process in racing:
        process.stdin.write("go\n")
        process.stdin.flush()
    attempts = {int(process.communicate(timeout=START_S)[0]) for process in racing}
    assert [process.returncode for process in racing] == [0, 0, 0]
    assert attempts == {Reader(objects).commits("features.3")[1].attempt}
    assert sum(_holds(objects, record(1, seed=seed)) for seed in range(3)) == 1
    assert not any(finding.harmful for finding in verify(objects))


def test_a_writer_killed_before_its_commit_leaves_the_unit_undone(objects, header, layer, record):
    with _start(objects, 5, "kill") as process:
        assert process.wait(timeout=START_S) == -signal.SIGKILL
    left = verify(objects)
    assert Reader(objects).commits("features.3") == {}
    assert Reader(objects).table("features.3", "responses").num_rows == 0
    assert left
    assert {finding.kind for finding in left} == {"unreferenced"}

    Writer(objects, header, layer).commit(record(1, seed=6))
    assert _holds(objects, record(1, seed=6))
    assert verify(objects) == left


def test_a_full_disk_fails_in_one_line_and_alters_nothing(
    disk, lay_out, header, layer, record, network_record
):
    objects = open_store(disk / "atlas", create=True)
    lay_out(objects)
    network.store(objects, layer, network_record)
    writer = Writer(objects, header, layer)
    writer.commit(record(0))
    before = {e.path: objects.get(e.path) for e in objects.list()}
    fill = ["dd", "if=/dev/zero", f"of={disk / 'rest'}", "bs=4k"]
    assert (
        "No space left" in subprocess.run(fill, check=False, capture_output=True, text=True).stderr
    )

    with pytest.raises(WriteError, match="the disk is full: free some space") as caught:
        writer.commit(record(1))
    assert "\n" not in str(caught.value)
    with pytest.raises(WriteError, match="the disk is full"):
        writer.fail(FailureRecord(UnitKey("toy", "features.3", 2), "x", "y", "z" * 10_000))
    assert {path: objects.get(path) for path in before} == before
    assert list(Reader(objects).commits("features.3")) == [0]
    assert not any(finding.harmful for finding in verify(objects))

    (disk / "rest").unlink()
    writer.commit(record(1))
    assert _holds(objects, record(1))
    assert _holds(objects, record(0))


def test_a_read_only_disk_fails_in_one_line_and_still_reads(
    disk, remount, lay_out, header, layer, record
):
    objects = open_store(disk / "atlas", create=True)
    lay_out(objects)
    writer = Writer(objects, header, layer)
    first = writer.commit(record(0))
    remount("ro")
    with pytest.raises(WriteError, match="it is read-only: choose a store") as caught:
        writer.commit(record(1))
    assert "\n" not in str(caught.value)
    with pytest.raises(WriteError, match="read-only"):
        open_store(disk / "other", create=True)
    lay_out(objects)
    assert writer.commit(record(0)) == first
    assert _holds(objects, record(0))
    remount("rw")
    writer.commit(record(1))
    assert _holds(objects, record(1))


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind root")
def test_a_folder_without_write_permission(objects, header, layer, record):
    for folder, _, _ in os.walk(objects.location):
        os.chmod(folder, 0o555)
    with pytest.raises(WriteError, match="permission denied: give write permission"):
        Writer(objects, header, layer).commit(record(1))


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (5, "input/output error"),
        (2, "gone or cannot be made"),
        (13, "permission denied"),
        (28, "disk is full"),
        (30, "read-only"),
        (122, "quota"),
    ],
)
def test_a_refused_write_names_place_reason_and_remedy(code, says):
    raw = OSError(f"Generic error: cannot write (os error {code})\n\nDebug source:\n...")
    message = str(write_error("/a/b", raw))
    assert re.fullmatch(f"cannot write /a/b: .*{says}.*: .*", message)
    assert str(write_error("/a/b", OSError("odd\nmore"))).startswith("cannot write /a/b: odd: ")
    with_path = OSError(27, "File too large", "/a/b")
    assert str(write_error("/a/b", with_path)).startswith("cannot write /a/b: File too large: ")


def test_a_refused_chunk_names_the_store(objects, header, layer, record, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(obstore, "put", refuse)
    with pytest.raises(
        WriteError, match=f"cannot write {objects.location}/layers/.*: the disk is full"
    ):
        Writer(objects, header, layer).commit(record(1))


def test_nested_circuits_become_levels_and_others_bits(objects, header, layer, record):
    masks = np.array([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]], dtype=bool)
    assert form_of(masks) == "level"
    masks[2] = [0, 0, 1, 0]
    assert form_of(masks) == "packed"
    Writer(objects, header, layer).commit(record(1))
    commit = Reader(objects).commits("features.3")[1]
    named = {stored.path.split("arrays.zarr/")[-1].rsplit("/", 1)[0] for stored in commit.objects}
    assert {"level/actgrad", "packed/force"} <= named
    assert not {"packed/actgrad", "level/force"} & named


def test_a_dead_unit_has_responses_alone(objects, header, layer, dead):
    dead = dataclasses.replace(dead(2), kernels=0)
    receipt = Writer(objects, header, layer).commit(dead)
    assert receipt.state == "dead"
    commit = Reader(objects).commits("features.3")[2]
    assert [stored.path for stored in commit.objects] == [
        layer_paths.fragment("features.3", 2, commit.attempt, "responses")
    ]


def test_a_failure_is_recorded_and_a_later_commit_outlives_it(objects, header, layer, record):
    writer = Writer(objects, header, layer)
    failure = FailureRecord(UnitKey("toy", "features.3", 1), "non_finite", "NaN in y", "trace")
    receipt = writer.fail(failure)
    assert (receipt.state, receipt.kind, receipt.message) == ("failed", "non_finite", "NaN in y")
    assert Reader(objects).failures("features.3") == {1: failure}
    done = writer.commit(record(1))
    assert Reader(objects).failures("features.3") == {}
    assert writer.fail(failure) == done
    assert verify(objects) == ()


def _changed(record, position=0, **changes):
    criteria = list(record.criteria)
    criteria[position] = dataclasses.replace(criteria[position], **changes)
    return dataclasses.replace(record, criteria=tuple(criteria))


def _with(values, at, value):
    copy = values.copy()
    copy[at] = value
    return copy


BAD = {
    "toy/features.3/99": lambda r: dataclasses.replace(r, key=UnitKey("toy", "features.3", 99)),
    "use the writer of its layer": lambda r: dataclasses.replace(
        r, key=UnitKey("toy", "features.5", 1)
    ),
    "no responses": lambda r: dataclasses.replace(r, responses=()),
    "a dead unit with circuits": lambda r: dataclasses.replace(r, state="dead"),
    "criteria ('actgrad',): expected ('actgrad', 'force')": lambda r: dataclasses.replace(
        r, criteria=r.criteria[:1]
    ),
    "0 kernels: expected 1 to 24": lambda r: dataclasses.replace(r, kernels=0),
    "scores of actgrad as float64 (1, 24): expected float32 (1, 24)": lambda r: _changed(
        r, scores=r.criteria[0].scores.astype(np.float64)
    ),
    "scores of force as float32 (1, 24): expected float32 (4, 24)": lambda r: _changed(
        r, 1, scores=r.criteria[1].scores[:1]
    ),
    "scores of actgrad with an infinity": lambda r: _changed(
        r, scores=_with(r.criteria[0].scores, (0, 0), np.inf)
    ),
    "scores of actgrad for [21] kernels": lambda r: _changed(
        r, scores=_with(r.criteria[0].scores, (0, 0), np.nan)
    ),
    "scores of force for [22, 22, 22, 22] kernels": lambda r: _changed(
        r, 1, scores=_with(_with(r.criteria[1].scores, (3, 2), 1), (3, 3), np.nan)
    ),
    "masks of actgrad as uint8 (4, 24)": lambda r: _changed(
        r, masks=r.criteria[0].masks.astype(np.uint8)
    ),
    "masks of actgrad as list": lambda r: _changed(r, masks=r.criteria[0].masks.tolist()),
    "masks of actgrad with kernels out of reach": lambda r: _changed(
        r, masks=_with(r.criteria[0].masks, (0, 2), True)
    ),
    "masks of actgrad of [21, 11, 4, 1] kernels: expected [22, 11, 4, 1]": lambda r: _changed(
        r, masks=_with(r.criteria[0].masks, (0, 0), False)
    ),
    "none image scores of actgrad": lambda r: _changed(r, image_scores=None),
    "some image scores of force": lambda r: _changed(r, 1, image_scores=r.criteria[0].image_scores),
    "image scores of actgrad as float32 (2, 24): expected float32 (3, 24)": lambda r: _changed(
        r, image_scores=r.criteria[0].image_scores[:2]
    ),
    "image scores of actgrad with NaN elsewhere": lambda r: _changed(
        r, image_scores=_with(r.criteria[0].image_scores, (0, 0), np.nan)
    ),
    "image scores of actgrad below zero": lambda r: _changed(
        r, image_scores=_with(r.criteria[0].image_scores, (0, 0), -1)
    ),
    "none stability of actgrad: expected it for ['actgrad'] alone": lambda r: _changed(
        r, stability=None
    ),
    "some stability of force": lambda r: _changed(r, 1, stability=r.criteria[0].stability),
    "stability of actgrad as uint8 (3, 24): expected uint8 (4, 24)": lambda r: _changed(
        r, stability=r.criteria[0].stability[:3]
    ),
    "stability of actgrad of [4401, 2200, 800, 200] kernels": lambda r: _changed(
        r, stability=_with(r.criteria[0].stability, (0, 0), 201)
    ),
    "contribution as NoneType: expected float32 (24,)": lambda r: dataclasses.replace(
        r, contribution=None
    ),
    "contribution that is not finite": lambda r: dataclasses.replace(
        r, contribution=_with(r.contribution, 0, np.inf)
    ),
    "contribution that is not finite: expected finite numbers, NaN out": lambda r: (
        dataclasses.replace(r, contribution=_with(r.contribution, 2, 0))
    ),
    "response maps as float32 (2, 8, 8): expected float32 (3, 8, 8)": lambda r: dataclasses.replace(
        r, response_maps=r.response_maps[:2]
    ),
    "groups of actgrad over other images": lambda r: dataclasses.replace(r, groups=r.groups[:2]),
    "groups of actgrad over other images: expected each": lambda r: dataclasses.replace(
        r, groups=tuple(dataclasses.replace(row, groups=3) for row in r.groups)
    ),
    "0 rows of image sums: expected 32": lambda r: dataclasses.replace(
        r, image_sums=unit_tables.IMAGE_SUMS.stored_schema.empty_table()
    ),
    "groups of other criteria": lambda r: dataclasses.replace(
        r, groups=(*r.groups, dataclasses.replace(r.groups[0], criterion="force"))
    ),
    "contrast of a group that is not there": lambda r: dataclasses.replace(
        r, contrast=tuple(dataclasses.replace(row, group=2) for row in r.contrast)
    ),
    "a dead unit with circuits: expected responses alone": lambda r: dataclasses.replace(
        r, state="dead", criteria=(), faithfulness=(), subfeatures=(), groups=(), contrast=()
    ),
    "top images of ranks [0, 2]": lambda r: dataclasses.replace(
        r, responses=tuple(row for row in r.responses if row.rank != 1)
    ),
}


@pytest.mark.parametrize("says", BAD)
def test_a_record_that_does_not_fit_is_refused_before_anything_is_written(
    objects, header, layer, record, snapshot, says
):
    before = snapshot(objects)
    says_start = says if says.startswith(("toy", "use")) else f"toy/features.3/1 has {says}"
    with pytest.raises(RecordError) as caught:
        Writer(objects, header, layer).commit(BAD[says](record(1)))
    if says.startswith("toy/features.3/99"):
        assert "layer 'features.3' has no unit 99: it has 5, numbered 0 to 4" in str(caught.value)
    else:
        assert says_start in str(caught.value)
    assert snapshot(objects) == before
