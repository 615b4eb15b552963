"""A circuit evaluated on images: as it is stored, as a copy of the model has it, or an error."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from circuit_atlas.service import Atlas, ImageError, ModelError, QueryError
from tests.service.compute.small_model import ask, noise, small

HELD_OUT = noise(3, seed=7)


@pytest.fixture(scope="module")
def circuit():
    return ask(held_out=HELD_OUT, keep=0.3)


def test_it_measures_what_is_stored(circuit):
    images = {"scoring": noise(), "held_out": HELD_OUT}
    for row in circuit.faithfulness():
        found = circuit.evaluate(small(), images[row["split"]])
        for name in ("pearson", "pearson_images", "firing", "firing_full"):
            assert getattr(found, name) == pytest.approx(row[name], abs=1e-6)
    assert "r of the response" in repr(found)


def test_mean_ablation_is_what_the_circuit_was_made_for():
    circuit = ask(held_out=HELD_OUT, keep=0.3, ablation="mean")
    images = {"scoring": noise(), "held_out": HELD_OUT}
    for row in circuit.faithfulness():
        assert row["ablation"] == "mean"
        found = circuit.evaluate(small(), images[row["split"]])
        for name in ("pearson", "pearson_images", "firing", "firing_full"):
            assert getattr(found, name) == pytest.approx(row[name], abs=1e-6)
    assert (found.ablation, found.class_scores, found.class_scores_full) == ("mean", None, None)
    assert found.table().column_names == ["response", "response_full"]
    with pytest.raises(QueryError, match="zero"):
        circuit.evaluate(small(), HELD_OUT, ablation="zero")


def test_responses_and_class_scores_are_those_of_the_model(circuit):
    model, pruned = small(), circuit.apply_to(small())
    found = circuit.evaluate(model, HELD_OUT)
    with torch.no_grad():
        for network, scores, responses in (
            (model, found.class_scores_full, found.responses_full),
            (pruned, found.class_scores, found.responses),
        ):
            assert np.allclose(scores, network(HELD_OUT), atol=1e-5, equal_nan=True)
            maps = network[:5](HELD_OUT)[:, 0]  # what follows is dropout: nothing in evaluation
            assert np.allclose(responses, maps.abs().sum((1, 2)), rtol=1e-5)
    rows = found.table().to_pylist()
    assert [row["class_full"] for row in rows] == found.class_scores_full.argmax(1).tolist()


def test_a_combination_of_one_unit_is_evaluated_and_of_two_refused(circuit):
    small_circuit = ask(held_out=HELD_OUT, keep=0.1)
    union = circuit | small_circuit
    assert union.evaluate(small(), HELD_OUT).pearson == pytest.approx(
        circuit.evaluate(small(), HELD_OUT).pearson
    )
    with pytest.raises(QueryError, match="give a circuit of one unit"):
        (circuit | ask(unit=3)).evaluate(small(), HELD_OUT)


def test_another_model_other_images_and_training_are_refused(circuit):
    other = small()
    with torch.no_grad():
        other[0].bias += 1
    with pytest.raises(QueryError, match="are not those that"):
        circuit.evaluate(other, HELD_OUT)
    with pytest.raises(ImageError, match=r"shape \(3, 8, 8\)"):
        circuit.evaluate(small(), noise(side=8))
    with pytest.raises(ModelError, match="training mode"):
        circuit.evaluate(small().train(), HELD_OUT)


def test_images_of_an_atlas_are_what_it_was_built_from(circuit):
    atlas = Atlas(circuit.origins[0].reader)
    images = atlas.image_tensor(range(7))
    assert torch.allclose(images, torch.cat([noise(), HELD_OUT]), atol=1e-6)
    assert torch.equal(atlas.image_tensor([5, 0]), images[[5, 0]])
    with pytest.raises(ImageError, match="no image 7"):
        atlas.image_tensor([7])
    with pytest.raises(QueryError, match="images"):
        atlas.image_tensor([])
