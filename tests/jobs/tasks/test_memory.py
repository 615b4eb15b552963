"""The memory budget: kept, refused where it is too small, and halved where memory runs out."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from circuit_atlas.jobs.spec.build_spec import BuildSpec
from circuit_atlas.jobs.tasks import memory
from circuit_atlas.jobs.tasks import worker as worker_module
from circuit_atlas.jobs.tasks.block import open_block
from circuit_atlas.jobs.tasks.memory import Needs, Portion, default_budget, needs, require
from circuit_atlas.jobs.tasks.opened_spec import OpenedSpec
from circuit_atlas.jobs.tasks.plan import Task, resolve
from circuit_atlas.jobs.tasks.worker import CircuitJob
from circuit_atlas.storage_schema.errors import InfrastructureError, SpecError
from circuit_atlas.storage_schema.keys import UnitKey
from circuit_atlas.storage_schema.reader import Reader
from tests.jobs.builds import lay_out, write_noise

MODEL = """
from torch import nn

def network():
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(),
        nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(),
        nn.Conv2d(64, 16, 3, padding=1),
    )
"""
LAYER = "7"
# What libraries' buffers and the pieces that the allocator keeps take beside any budget, in bytes.
BESIDE = 40 << 20

# Lays the atlas out, computes one unit so that everything is loaded, and then the others: tells
# what became of them, and by how many bytes the memory in use grew.
MEASURED = """
import json, sys
from pathlib import Path
from circuit_atlas.jobs.tasks.plan import Task, resolve
from circuit_atlas.jobs.spec.build_spec import BuildSpec
from circuit_atlas.jobs.tasks.worker import CircuitJob
from circuit_atlas.storage_schema.keys import UnitKey
from circuit_atlas.storage_schema.opening import open_store
from circuit_atlas.storage_schema.template import create

spec = BuildSpec.load(sys.argv[1])
build = resolve(spec)
store = open_store(spec.run.store, create=True)
pixels = build.store_pixels(store)
create(store, build.header, build.layers, build.images, build.plan, pixels=pixels)
keys = [UnitKey(spec.model.reference, "7", unit) for unit in range(16)]
worker = CircuitJob(spec, 1).open()
worker.run(Task("7", (keys[0],)))


def in_bytes(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name))


in_use = in_bytes("VmRSS")
receipts = worker.run(Task("7", tuple(keys[1:])))
states = [receipt.message or receipt.state for receipt in receipts]
print(json.dumps([states, in_bytes("VmHWM") - in_use]))
"""


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BuildSpec:
    (tmp_path / "memory_models.py").write_text(MODEL)
    monkeypatch.syspath_prepend(tmp_path)
    pictures = tmp_path / "pictures"
    write_noise(pictures, count=12, side=96)
    return BuildSpec.from_values(
        {
            "model": {"reference": "memory_models:network"},
            "preprocessing": {"resize": [96, 96]},
            "images": {"source": str(pictures), "held_out": "odd"},
            "layers": [{"name": LAYER}],
            "circuits": {"criteria": ["actgrad", "snip"], "fractions": [1, 0.3, 0.1]},
            "run": {"store": str(tmp_path / "atlas")},
        }
    )


def with_run(spec: BuildSpec, **changes: object) -> BuildSpec:
    values = spec.model_dump(mode="json", exclude_none=True)
    return BuildSpec.from_values({**values, "run": {**values["run"], **changes}})


def task(spec: BuildSpec, *units: int) -> Task:
    return Task(LAYER, tuple(UnitKey(spec.model.reference, LAYER, unit) for unit in units))


def test_images_get_half_and_units_the_rest():
    found = Needs(fixed=10, image=20, unit=5)
    assert found.smallest == 35
    assert found.portion(34, batch_size=16) is None
    assert found.portion(35, batch_size=16) == Portion(units=1, images=1)
    assert found.portion(100, batch_size=16) == Portion(units=10, images=2)
    assert found.portion(10**6, batch_size=16).images == 16
    assert found.portion(100, batch_size=16, most_units=4) == Portion(units=4, images=2)


def test_a_budget_that_holds_nothing_names_the_smallest_that_works(spec):
    with pytest.raises(SpecError, match=r"memory_bytes = 1000 is too small for layer '7'") as told:
        resolve(with_run(spec, memory_bytes=1000))
    smallest = int(re.search(r"take (\d+)", str(told.value))[1])
    resolve(with_run(spec, memory_bytes=smallest))
    with pytest.raises(SpecError, match="too small"):
        resolve(with_run(spec, memory_bytes=smallest - 1))


def test_workers_share_what_is_free_on_their_machine(spec, monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda _: 8000)
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert [default_budget(cpu, workers=n) for n in (1, 2, 4)] == [4000, 2000, 1000]
    assert default_budget(cuda, workers=4) == 4000, "each has a GPU of its own"
    assert CircuitJob(spec).sharing(3) == CircuitJob(spec, 3)


@pytest.mark.parametrize("budget", ["kept", "far too large"])
def test_the_budget_is_kept(spec, tmp_path, budget):
    """Kept, the budget holds everything; of one far too large, no more is taken than the work
    needs, which all goes together."""
    source = OpenedSpec(spec)
    found = needs(source.layer(LAYER), resolve(spec).header, images=12)
    allowed = found.fixed + 2 * found.image + 2 * found.unit
    times, of_allowed = (1, 1) if budget == "kept" else (100, 2)
    run = with_run(spec, memory_bytes=times * allowed)
    (tmp_path / "spec.toml").write_text(run.to_toml())
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, str(tmp_path / "spec.toml")],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    states, grown = json.loads(done.stdout)
    assert states == ["done"] * 15
    assert grown < of_allowed * allowed + BESIDE
    assert sorted(Reader(run.run.store).commits(LAYER)) == list(range(16))


def test_memory_that_runs_out_halves_what_goes_together(spec, monkeypatch):
    lay_out(spec)
    asked = []

    def scarce(source, layer, header, numbers, *, together, **options):
        asked.append((len(numbers), together))
        if len(numbers) > 2 or together > 3:
            raise MemoryError("no room")
        return open_block(source, layer, header, numbers, together=together, **options)

    monkeypatch.setattr(worker_module, "open_block", scarce)
    limited = with_run(spec, memory_bytes=4 * 10**8)
    receipts = CircuitJob(limited, 1).open().run(task(limited, *range(6)))
    assert [receipt.state for receipt in receipts] == ["done"] * 6
    assert asked[0] > (2, 3)
    assert asked[-1] <= (2, 3)


def test_no_room_for_one_unit_and_one_image(spec, monkeypatch):
    lay_out(spec)

    def never(*_arguments, **_options):
        raise MemoryError("no room")

    monkeypatch.setattr(worker_module, "open_block", never)
    with pytest.raises(InfrastructureError, match="with one unit and one image at a time"):
        CircuitJob(spec, 1).open().run(task(spec, 0, 1))
    assert not Reader(spec.run.store).failures(LAYER)


def test_training_takes_room_for_its_crops(spec):
    def trained(batch: int) -> BuildSpec:
        circuits = spec.circuits.model_copy(update={"criteria": ("learned",)})
        learned = spec.learned.model_copy(update={"batch": batch})
        return spec.model_copy(update={"circuits": circuits, "learned": learned})

    layer = OpenedSpec(spec).layer(LAYER)
    few, many = (needs(layer, resolve(trained(n)).header, images=12) for n in (16, 64))
    assert few.fixed > needs(layer, resolve(spec).header, images=12).fixed
    assert many.fixed > 3 * few.fixed
    with pytest.raises(SpecError, match=r"or a smaller batch of \[learned\]$"):
        require(layer, resolve(trained(64)).header, images=12, budget_bytes=many.fixed)
