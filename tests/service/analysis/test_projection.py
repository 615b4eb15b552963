"""The map of a unit's images is PCA of the roots of their kernels' shares."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from circuit_atlas.service.analysis import projection
from circuit_atlas.storage_schema.errors import QueryError
from circuit_atlas.storage_schema.quantise import RELATIVE_ERROR
from tests.service.analysis.planted import SIZE, Planted, plant

TOPS = 7


def _scores(seed: int, images: int = TOPS) -> np.ndarray:
    scores = np.random.default_rng(seed).exponential(size=(images, SIZE)).astype(np.float32)
    scores *= np.logspace(0, 3, images, dtype=np.float32)[:, None]  # one responds much more
    scores[:, 5] = np.nan
    return scores


def _oracle(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's PCA of the vectors themselves."""
    decomposition = pytest.importorskip("sklearn.decomposition")
    known = np.delete(scores, 5, axis=1).astype(np.float64)
    vectors = np.sqrt(known / known.sum(axis=1, keepdims=True))
    model = decomposition.PCA(n_components=2, svd_solver="full")
    return model.fit_transform(vectors), model.explained_variance_ratio_


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    mean = np.ones((1, SIZE), np.float32)
    mean[0, 5] = np.nan
    units = {
        0: Planted(
            {"actgrad": mean},
            {"actgrad": _scores(0)},
            responses=tuple(range(TOPS, 0, -1)),
            groups=(0, 1, 0, 0, 1, 0, 0),
        ),
        1: Planted({"actgrad": mean}, {"actgrad": np.tile(_scores(1)[:1], (3, 1))}, (1.0,) * 3),
        3: Planted({"actgrad": mean}, {"actgrad": _scores(1)[:1]}, (1.0,)),
        4: Planted({"actgrad": mean}, {"actgrad": _scores(1)[:2]}, (1.0,) * 2),
    }
    labels = ["cat", None, "dog", *["x"] * (TOPS - 2)]
    folder = tmp_path_factory.mktemp("planted") / "atlas"
    return plant(folder, units, images=TOPS + 1, top=TOPS, labels=labels, dead=[2])


def test_it_is_pca_of_the_roots_of_shares(planted):
    table = planted.layer("top").unit(0).projection()
    expected, explained = _oracle(_scores(0))
    places = np.stack([table["x"].to_numpy(), table["y"].to_numpy()], axis=1)
    # Stored scores are within RELATIVE_ERROR, and a share's root within as much.
    np.testing.assert_allclose(np.abs(places), np.abs(expected), atol=4 * RELATIVE_ERROR)
    metadata = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
    assert metadata["criterion"] == "actgrad"
    assert metadata["method"] == "pca"
    assert json.loads(metadata["explained_variance"]) == pytest.approx(explained, abs=1e-3)
    assert table["image"].to_pylist() == table["rank"].to_pylist() == list(range(TOPS))
    assert table["label"].to_pylist()[:3] == ["cat", None, "dog"]
    assert table["group"].to_pylist() == [0, 1, 0, 0, 1, 0, 0]


def test_the_side_of_an_axis_does_not_depend_on_the_solver():
    scores = _scores(3)
    places, _ = projection.principal(projection.gram(scores))
    order = np.random.default_rng(0).permutation(TOPS)
    shuffled, _ = projection.principal(projection.gram(scores[order]))
    np.testing.assert_allclose(shuffled, places[order], atol=1e-12)
    for axis in range(2):
        assert places[np.argmax(np.abs(places[:, axis])), axis] > 0


@pytest.mark.parametrize("images", [3, 250])
def test_few_images_and_many_give_what_pca_gives(images, monkeypatch):
    monkeypatch.setattr(projection, "_BLOCK", 50)  # several blocks of kernels
    scores = _scores(4, images)
    places, explained = projection.principal(projection.gram(scores))
    expected, ratios = _oracle(scores)
    # Both in float64; two axes of nearly the same variance turn by the error of the solver.
    np.testing.assert_allclose(np.abs(places), np.abs(expected), atol=1e-6)
    assert explained == pytest.approx(ratios, abs=1e-9)


@pytest.mark.parametrize(("unit", "images"), [(1, 3), (3, 1)])
def test_images_that_do_not_differ_lie_in_one_place(planted, unit, images):
    table = planted.layer("top").unit(unit).projection()
    assert table["x"].to_pylist() == table["y"].to_pylist() == [0.0] * images
    assert json.loads(table.schema.metadata[b"explained_variance"]) == [None, None]


def test_two_images_lie_on_a_line(planted):
    table = planted.layer("top").unit(4).projection()
    assert sum(table["x"].to_pylist()) == pytest.approx(0, abs=1e-9)
    assert table["x"].to_pylist()[0] != 0
    assert table["y"].to_pylist() == pytest.approx([0, 0], abs=1e-6)
    assert json.loads(table.schema.metadata[b"explained_variance"]) == pytest.approx([1, 0])


def test_an_image_that_no_kernel_acts_on_has_a_place():
    scores = _scores(5)
    scores[2] = np.where(np.isnan(scores[2]), np.nan, 0)
    places, _ = projection.principal(projection.gram(scores))
    assert np.isfinite(places).all()


def test_a_lasso_gives_the_circuit_of_its_images(planted):
    unit = planted.layer("top").unit(0)
    table = unit.projection()
    pairs = zip(table["image"].to_pylist(), table["x"].to_pylist(), strict=True)
    lasso = [image for image, x in pairs if x > 0]
    assert 0 < len(lasso) < TOPS
    mean = np.nan_to_num(_scores(0)[lasso], nan=-1).mean(axis=0)
    order = np.argsort(-mean, kind="stable")[:3]
    assert set(unit.circuit(kernels=3, images=lasso).positions) == set(order)


def test_questions_without_an_answer(planted, monkeypatch):
    with pytest.raises(QueryError, match="no projection 'umap': there is only 'pca'"):
        planted.layer("top").unit(0).projection(method="umap")
    with pytest.raises(QueryError, match="is dead"):
        planted.layer("top").unit(2).projection()
    monkeypatch.setitem(sys.modules, "sklearn.decomposition", None)
    with pytest.raises(QueryError, match=r"'scikit-learn', which is not installed: python -m pip"):
        planted.layer("top").unit(0).projection()
