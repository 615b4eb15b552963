"""How sure a unit's circuit is of its kernels: stored or worked out, and what cannot be asked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from obstore.store import MemoryStore
from torch import nn

from circuit_atlas.jobs.images.tensor_images import TensorImages
from circuit_atlas.jobs.network.model_copy import copy_model
from circuit_atlas.jobs.scores.learned import learned_scores
from circuit_atlas.jobs.spec.build_spec import BuildSpec
from circuit_atlas.jobs.tasks import rankings
from circuit_atlas.jobs.tasks.opened_spec import OpenedSpec
from circuit_atlas.service import Atlas, QueryError, SpecError, Unit
from circuit_atlas.service.analysis.query import CircuitQuery
from circuit_atlas.service.commands.report import unit_text
from circuit_atlas.service.compute.one_unit import compute_unit
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.verify import verify

FRACTIONS = (0.5, 0.2, 0.05)
SEEDS = 3


def built(images: int = 6, **tables: dict[str, Any]) -> Unit:
    """Unit 1 of a small network, of an atlas in memory."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 3)
    )
    loaded = copy_model(model.eval())
    values: dict[str, Any] = {
        "model": {"reference": loaded.reference},
        "images": {"source": "memory:"},
        "layers": [{"name": "4", "units": [1], "activation": "pre"}],
        **tables,
    }
    spec = BuildSpec.from_values(values)
    pictures = torch.randn(images, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    objects = Objects(MemoryStore(), location="memory:")
    compute_unit(OpenedSpec(spec, model=loaded, images=TensorImages(pictures)), objects)
    return Atlas(Reader(objects)).layer("4").unit(1)


CIRCUITS = {"criteria": ["actgrad", "learned", "magnitude"], "fractions": list(FRACTIONS)}
LEARNED = {"steps": 6, "batch": 1, "seed": 5, "rate": 0.3}

Trainings = list[tuple[int, np.ndarray]]


@pytest.fixture(scope="module")
def trained() -> Trainings:
    """Seed and ranking of each training that the stored atlas was built with."""
    return []


@pytest.fixture(scope="module")
def stored(trained: Trainings) -> Unit:
    def watched(*args: Any, **kwargs: Any) -> Any:
        scores = learned_scores(*args, **kwargs)
        trained.append((kwargs["training"].seed, scores[1]))
        return scores

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rankings, "learned_scores", watched)
        circuits = {**CIRCUITS, "stability": True}
        return built(circuits=circuits, learned={**LEARNED, "seeds": SEEDS})


@pytest.fixture(scope="module")
def plain() -> Unit:
    return built(circuits=CIRCUITS, learned=LEARNED)


def test_stored_is_what_is_worked_out_of_the_scores(stored, plain):
    for keep in FRACTIONS:
        one, other = stored.stability(keep=keep), plain.stability(keep=keep)
        assert (one.stored, other.stored) == (True, False)
        assert (one.counts == other.counts).all()
        assert one.draws == other.draws == 200
        assert one.images == other.images == tuple(plain.top_images()["image"].to_pylist())
        assert one.counts.sum() == one.draws * one.kernels


def test_any_other_fraction_is_worked_out(stored, plain):
    assert not stored.stability(keep=0.31).stored
    assert (stored.stability(keep=0.31).counts == plain.stability(keep=0.31).counts).all()


def test_a_stored_byte_a_kernel_is_part_of_the_unit(stored):
    reader, commit = stored.reader, stored.commit
    assert reader.header.redrawn == (("actgrad", 200), ("learned", SEEDS))
    held = [reader.stability(commit, name) for name, _ in reader.header.redrawn]
    assert [(each.dtype, each.shape) for each in held] == [
        (np.uint8, (3, stored.reachable_kernels))
    ] * 2
    assert sum("/c." in each.path and "stability" in each.path for each in commit.objects) == 2
    assert verify(reader.objects) == ()


def test_the_core_is_what_nearly_all_draws_hold(plain):
    found = plain.stability(keep=0.2)
    circuit = plain.circuit(keep=0.2)
    core = found.core()
    assert core.positions.tolist() == np.flatnonzero(found.share >= 0.95).tolist()
    assert 0 < len(core) < len(circuit)
    assert circuit.contains(core)
    assert len(found.core(1.0)) <= len(core) <= len(found.core(0.5))
    assert core.scores.tolist() == circuit.scores[np.isin(circuit.ids, core.ids)].tolist()
    assert "95% of 200 draws" in core.title
    assert f": {len(core)} kernels in 95% of 200 draws of its images, " in repr(found)
    with pytest.raises(QueryError, match="was not chosen for one unit"):
        core.faithfulness()


def test_learned_rankings_agree_as_far_as_their_trainings_do(stored, plain, trained):
    assert [seed for seed, _ in trained] == [5, 6, 7]
    found = stored.stability(keep=0.2, criterion="learned")
    assert (found.draws, found.images, found.stored) == (SEEDS, (), True)
    best = [set(np.argsort(-ranking)[: found.kernels]) for _, ranking in trained]
    assert found.counts.tolist() == [
        sum(n in each for each in best) for n in range(len(found.counts))
    ]
    # The first training chooses the circuit, as where there is one alone.
    circuit = stored.circuit(keep=0.2, criterion="learned")
    assert circuit == plain.circuit(keep=0.2, criterion="learned")
    assert set(circuit.positions) == best[0]
    assert len(found.core()) < len(circuit)  # the trainings differ
    assert circuit.contains(found.core())


def test_a_certificate_of_few_images_looks_at_all_parts(plain):
    found = plain.certificate(keep=0.2, edits=1, deletion=0.7)
    assert found.confidence == 1
    assert len(found.inside) == (found.decision == 1).sum() > 0
    assert len(found.outside) == (found.decision == -1).sum() > 0
    assert found.abstained == (found.decision == 0).sum()
    assert (found.certified_edits[found.inside.positions] >= 1).all()
    assert plain.circuit(keep=0.2).contains(found.inside)
    stricter = plain.certificate(keep=0.2, edits=0, deletion=0.7)
    assert stricter.inside.contains(found.inside)
    assert len(stricter.inside) > len(found.inside)
    assert found.inside.title.endswith("certified for 1 edit")
    inside, outside = len(found.inside), len(found.outside)
    assert f"1 edit: {inside} kernels inside, {outside} outside, {found.abstained} abst" in repr(
        found
    )


def test_drawn_parts_have_a_confidence(plain):
    found = plain.certificate(keep=0.2, edits=0, draws=60, confidence=0.9)
    assert found.confidence == 0.9
    assert len(found.outside) > 0


@pytest.mark.parametrize(
    ("criterion", "drawn"), [("actgrad", "200 draws of its images"), ("learned", "3 trainings")]
)
def test_showing_a_unit_tells_what_is_stored(stored, plain, criterion, drawn):
    query = CircuitQuery.of(stored.reader, criterion=criterion, fraction=0.2)
    found = stored.stability(keep=0.2, criterion=criterion)
    share = f"{len(found.core()) / found.kernels:.0%}"
    assert f"  stable: {share} as many kernels are in 95% of {drawn}\n" in unit_text(stored, query)
    assert "stable" not in unit_text(plain, query)


BOTH = "stability", "certificate"


@pytest.mark.parametrize(
    ("ask", "given", "message"),
    [
        *((ask, {"criterion": "magnitude"}, "no scores of single images") for ask in BOTH),
        ("stability", {"criterion": "learned"}, r"seeds = 3 in \[learned\]"),
        ("certificate", {"criterion": "learned"}, "a certificate is made of: there is only 'actgr"),
        *((ask, {"criterion": "actgrid"}, "did you mean 'actgrad'") for ask in BOTH),
        *((ask, {"keep": 1.5}, r"outside \(0, 1\]") for ask in BOTH),
        ("certificate", {"edits": 4}, "at most 3 can be certified; give fewer, or a larger"),
        ("certificate", {"edits": 7, "deletion": 0.95}, "has scores of 6 images"),
        ("certificate", {"edits": -1}, "too small"),
        ("certificate", {"edits": 1.5}, "no whole number"),
        ("certificate", {"deletion": 0.4}, "at most 0 can be certified; give a deletion above 0.5"),
        ("certificate", {"deletion": 1}, "out of range: give a probability above 0 and below 1"),
        ("certificate", {"confidence": 0}, "out of range: give a probability above 0 and below 1"),
        ("certificate", {"draws": 0}, "too small"),
    ],
)
def test_what_cannot_be_asked(plain, ask, given, message):
    with pytest.raises(QueryError, match=message) as caught:
        getattr(plain, ask)(**given)
    assert "\n" not in str(caught.value)


def test_a_share_that_is_none(plain):
    with pytest.raises(QueryError, match="at_least=0 is no share"):
        plain.stability(keep=0.2).core(0)


def test_other_fractions_of_trained_seeds_are_not_stored(stored):
    with pytest.raises(QueryError, match=r"keep is one of 0\.5, 0\.2, 0\.05"):
        stored.stability(keep=0.3, criterion="learned")


def test_one_image_cannot_be_drawn_anew():
    alone = built(images=1, circuits={"fractions": [0.5]})
    for ask in (alone.stability, alone.certificate):
        with pytest.raises(QueryError, match="scores of 1 image, and there is nothing to draw"):
            ask(keep=0.5)
    with pytest.raises(SpecError, match="scores of 1 image, and there is nothing to draw"):
        built(images=1, circuits={"stability": True})


def test_a_spec_whose_criteria_score_no_single_images():
    with pytest.raises(SpecError, match="magnitude, random have no scores of single images"):
        built(circuits={"stability": True, "criteria": ["magnitude", "random"]})


def test_a_dead_unit_has_no_circuit_to_draw(location):
    dead = Atlas.open(location).layer("conv3").unit(3)
    for ask in (dead.stability, dead.certificate):
        with pytest.raises(QueryError, match="is dead"):
            ask()
