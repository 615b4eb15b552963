"""Which images are of a unit's class."""

from __future__ import annotations

import numpy as np

from circuit_atlas.jobs.images.classes import UnitClasses

IMAGENET = {
    0: "tench, Tinca tinca",
    1: "n02123045 tabby, tabby cat",
    2: "maillot",
    3: "maillot, tank suit",
    4: "tabby",
}


def units(image_label: str | None, unit_labels: dict[int, str], *, numbered: int = 0) -> list[int]:
    classes = UnitClasses(unit_labels, [image_label, "something else"], numbered=numbered)
    found = []
    for unit in range(8):
        of_unit = classes.of(unit)
        if of_unit is not None and of_unit[0] == 1:
            found.append(unit)
    return found


def test_the_same_text_or_one_of_the_names() -> None:
    assert units("Tench, Tinca  tinca", IMAGENET) == [0]
    assert units("tinca_tinca", IMAGENET) == [0]
    assert units("n02123045", IMAGENET) == [1]
    assert units("tabby cat", IMAGENET) == [1]
    assert units("tank suit", IMAGENET) == [3]
    assert units("cat", IMAGENET) == []


def test_the_same_text_comes_before_a_name() -> None:
    assert units("maillot", IMAGENET) == [2]
    assert units("tabby", IMAGENET) == [4]
    assert units("maillot", {3: IMAGENET[3], 5: "MAILLOT, bathing suit"}) == [3, 5]


def test_an_image_without_a_label_is_of_no_known_class() -> None:
    classes = UnitClasses({1: "cat"}, ["cat", None, "dog"], numbered=0)
    np.testing.assert_array_equal(classes.of(1), [1, np.nan, 0])
    assert classes.of(0) is None


def test_numbers_are_units_where_all_are_and_no_unit_has_a_label() -> None:
    classes = UnitClasses({}, ["07", "3", None], numbered=8)
    np.testing.assert_array_equal(classes.of(7), [1, 0, np.nan])
    assert classes.of(8) is None
    for labels, unit_labels, numbered in (
        (["7", "cat"], {}, 8),
        (["7", "8"], {}, 8),
        ([None], {}, 8),
        (["7"], {3: "seven"}, 8),
    ):
        assert UnitClasses(unit_labels, labels, numbered=numbered).of(7) is None
