"""A damaged file is found by `verify`, and no reader takes it for what was stored.

Each kind of file here, by some of the damages; by all of them: `python -m tests.damage`.
"""

from __future__ import annotations

import random
from itertools import cycle

import pytest

from circuit_atlas.service.web.app import create_app
from tests.damage.answers import FAILED
from tests.damage.damages import DAMAGES, delete, flip, replace
from tests.damage.everything import SEALED, build
from tests.damage.kinds import ABSENT, documented, template_of
from tests.damage.trials import Damaged
from tests.service.stores import served

SEED = 0
_SERVED = (
    "layers/<layer>/arrays.zarr/contribution/<chunk>",
    "layers/<layer>/units/<unit>/<attempt>/faithfulness.parquet",
    "layers/<layer>/responses/<units>.json",
    "atlas.json",
    "images.parquet",
    "images.json",
)
MOST = 8
"""So many questions a damage, of those whose answers depend on the file."""
_UNSEEN = "runs/<worker>.json"
"""Verify tells nothing of heartbeats, which decide nothing."""


@pytest.fixture(scope="module")
def damaged(tmp_path_factory) -> Damaged:
    return Damaged(build(tmp_path_factory.mktemp("damage") / "atlas"))


def test_the_atlas_has_every_kind_of_file(damaged):
    assert {template_of(kind) for kind in damaged.kinds()} == set(documented())


def test_the_undisturbed_atlas_answers(damaged):
    failed = [name for name, answer in damaged.answers.items() if answer == FAILED]
    assert failed == []


def test_each_kind_of_file_damaged(damaged):
    """By another of its kind in its place; some by another of the damages, too."""
    others = [damage for damage, _ in DAMAGES if damage is not replace]
    ways = [(kind, replace) for kind in damaged.kinds()]
    ways += zip(list(damaged.kinds())[:: len(others)], cycle(others), strict=False)
    for kind, damage in ways:
        rng = random.Random(f"{SEED} {kind} {damage.__name__}")
        trial = damaged.trial(kind, damage, rng, most=MOST)
        assert trial.wrong == (), trial
        absent = damage is delete and template_of(kind) in ABSENT
        assert trial.found or absent or kind == _UNSEEN, trial


def test_who_reads_from_a_server_compares_as_well(damaged):
    """The server sends objects as they are."""
    with served(create_app(damaged.atlas.folder)) as address:
        asked = Damaged(damaged.atlas, location=address, of=f"{SEALED}/0")
        trials = [
            asked.trial(kind, (flip, replace)[number % 2], random.Random(SEED), most=MOST)
            for number, kind in enumerate(_SERVED)
        ]
    assert [trial for trial in trials if trial.wrong] == []
    assert sum(trial.errors for trial in trials) > MOST
