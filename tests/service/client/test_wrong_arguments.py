"""What is given by mistake is told of in one line: what it is, which value, what to give."""

from __future__ import annotations

import numpy as np
import pytest

from circuit_atlas.service import Atlas, QueryError
from circuit_atlas.service.diagram.look import Look

ARRAY = np.array([1, 2])


@pytest.fixture(scope="module")
def given(location):
    """An atlas and what is had of it."""
    atlas = Atlas.open(location)
    layer = atlas["conv3"]
    return {"atlas": atlas, "layer": layer, "unit": layer[0], "table": layer.units()}


WRONG = {
    "a folder for an atlas": (
        lambda of: of["atlas"].compare("epoch-90"),
        "'epoch-90' is no atlas: give one, as Atlas.open opens it",
    ),
    "an array for a layer": (lambda of: of["atlas"][ARRAY], "has no layer array"),
    "an array for a criterion": (lambda of: of["unit"].circuit(0.1, criterion=ARRAY), "criterion"),
    "an array for a convolution": (lambda of: of["layer"].uses(ARRAY), "has no convolution array"),
    "true for a table": (
        lambda of: of["layer"].summary(polysemanticity=True),
        "polysemanticity=True is no table: give what layer.polysemanticity",
    ),
    "a list for groups": (
        lambda of: of["unit"].score_selectivity([2, 3]),
        r"groups=\[2, 3\] are no groups of images: give ids by group",
    ),
    "a number for a group's images": (
        lambda of: of["unit"].score_selectivity({0: 2}),
        "the images of group 0 are 2: give a list of ids",
    ),
    "names for a group's images": (
        lambda of: of["unit"].score_selectivity({0: ["cat.jpg"]}),
        "image='cat.jpg' is no whole number",
    ),
    "a group of no images": (
        lambda of: of["unit"].score_selectivity({0: []}),
        "group 0 has no images: name one at least",
    ),
    "nothing for images": (
        lambda of: of["unit"].circuit(0.1).for_images(None),
        r"images=None is no list of ids: give one such as \[0, 1\]",
    ),
    "no images": (lambda of: of["unit"].circuit(0.1, images=[]), "no score of no images"),
    "a text for axes": (
        lambda of: of["unit"].plot_faithfulness(axes="left"),
        "axes='left' are none: give matplotlib's",
    ),
    "a text for columns": (
        lambda of: of["table"].select("unit"),
        r"'unit' is no list of columns: give \['unit'\]",
    ),
    "a number for columns": (lambda of: of["table"].select(1), "1 is no list of columns"),
    "a column that is not there": (
        lambda of: of["table"].sort_by("nothing"),
        "the table has no column 'nothing': its columns are",
    ),
    "an order that is none": (
        lambda of: of["table"].sort_by([("unit", "down")]),
        "'down' is no order: give 'ascending' or 'descending'",
    ),
    "names for pairs": (lambda of: of["table"].sort_by(["unit"]), "cannot be sorted by"),
    "a text for a mask": (
        lambda of: of["table"].filter("unit > 3"),
        "a str is no mask of the table's 5 rows: give a bool for each",
    ),
    "a mask of another length": (
        lambda of: of["table"].filter(np.array([True])),
        "a ndarray is no mask of the table's 5 rows",
    ),
    "a text for a length": (
        lambda of: of["table"].slice(0, "3"),
        "offset=0 and length='3' are no part of the table's 5 rows",
    ),
    "a row before the first": (lambda of: of["table"].slice(-1), "offset=-1 and length=None"),
    "a text for a size": (lambda _: Look(nodes="large"), "nodes='large' is no number: give 0.25"),
    "a size out of range": (lambda _: Look(kernels=9), "kernels=9 is out of range: give 0.25 to 4"),
    "a text for parts": (lambda _: Look(hide="inhibition"), r"give \('inhibition',\)"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_is_told_in_one_line(given, name):
    pytest.importorskip("matplotlib")
    call, message = WRONG[name]
    with pytest.raises(QueryError, match=message) as raised:
        call(given)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"share": "half"}, "share='half' is no number: give more than 0, and 1 at most"),
        ({"share": float("nan")}, "share=nan is out of range"),
        ({"edges": "many"}, "edges='many' is no whole number"),
        ({"side": ARRAY}, "side="),
        ({"against": "unit 3"}, "a circuit combines with a circuit, not with a str"),
    ],
)
def test_a_drawing_that_cannot_be_had(given, arguments, message):
    with pytest.raises(QueryError, match=message) as raised:
        given["unit"].circuit(0.5).diagram(**arguments)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"width_mm": "174"}, "width_mm='174' is no number: give 60 to 400"),
        ({"width_mm": float("nan")}, "width_mm=nan is out of range"),
        ({"look": "large"}, "look='large' is none: give a Look"),
    ],
)
def test_a_figure_that_cannot_be_had(given, arguments, message):
    with pytest.raises(QueryError, match=message):
        given["unit"].circuit(0.5).diagram().figure(**arguments)
