"""The report as a file: whole, without a request, and with whatever a name holds."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pyarrow as pa
import pytest

from circuit_atlas.service import Comparison
from circuit_atlas.service.comparison.comparison import report
from circuit_atlas.service.comparison.line_chart import LineChart, Series
from circuit_atlas.service.comparison.report import Section, Text
from tests.service.comparison.planted import CRITERIA, write_planted

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    atlas = write_planted(tmp_path_factory.mktemp("planted") / "atlas").atlas
    return atlas.compare_criteria(draws=40)


def test_the_page_asks_for_nothing(found):
    page = found.to_html()
    addresses = re.findall(r"(?:src|href|url)\s*[=(]\s*[\"']?([^\"')>\s]+)", page)
    assert addresses == ["data:,"]
    assert "<script" not in page
    assert "@import" not in page


def test_both_forms_say_the_same_numbers(found):
    page, text = found.to_html(), found.to_markdown()
    of_page = re.findall(r"<td>([^<]*)</td>", page)
    of_text = [
        cell.strip()
        for line in text.splitlines()
        if line.startswith("| ") and "---" not in line
        for cell in line.strip("| ").split(" | ")[1:]
    ]
    heads = len(re.findall(r"<th scope=\"col\">", page)) - page.count("<table>")
    assert len(of_text) == len(of_page) + heads
    assert [cell for cell in of_page if cell not in of_text] == []
    median = next(
        row["median"]
        for row in found.table.to_pylist()
        if (row["criterion"], row["split"], row["level"]) == ("learned", "held_out", 2)
    )
    for form in (page, text):
        assert re.search(rf"{median:.2f} \([^)]*\) by learned", form)


def test_names_that_hold_anything_stay_text(found):
    odd = replace(found, subject=replace(found.subject, layer="a<b>|*c*_d_", model="m & <i>"))
    page, text = odd.to_html(), odd.to_markdown()
    assert "<b>" not in page.partition("<main>")[2]
    assert "a&lt;b&gt;|*c*_d_" in page
    assert r"## a\<b>|\*c\*\_d\_" in text
    for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        ElementTree.fromstring(svg)


def test_long_times_are_written_out(found):
    rows = [{**row, "total_s": 1234.56} for row in found.cost.to_pylist()]
    long = replace(found, cost=pa.Table.from_pylist(rows, found.cost.schema))
    assert "| 1,235 |" in long.to_markdown()


def test_further_sections_stand_before_the_method(found):
    whole = report([found], further=[Section("Ground truth", [Text("All were found.")])])
    titles = [section.title for section in whole.sections]
    assert titles[-2:] == ["Ground truth", "How this is measured"]
    assert "All were found." in whole.to_html()


def test_a_chart_has_a_line_a_band_and_a_name_for_each_criterion(found, tmp_path: Path):
    found.save(tmp_path)
    drawing = ElementTree.parse(tmp_path / "conv3-r-scoring.svg").getroot()
    assert len(list(drawing.iter(f"{SVG}polyline"))) == len(CRITERIA)
    assert len(list(drawing.iter(f"{SVG}polygon"))) == len(CRITERIA)
    texts = [element.text for element in drawing.iter(f"{SVG}text")]
    assert set(CRITERIA) <= set(texts)
    acting = ElementTree.parse(tmp_path / "conv3-acting.svg").getroot()
    assert len(list(acting.iter(f"{SVG}polyline"))) == len(CRITERIA)
    assert not list(acting.iter(f"{SVG}polygon"))
    # A file of its own has no style sheet to take colours from.
    assert "var(" not in (tmp_path / "conv3-r-scoring.svg").read_text()


def test_a_chart_of_one_fraction_with_values_below_zero():
    one = Series("random", [-0.3], [None], [None], floor=True)
    drawing = ElementTree.fromstring(LineChart("r", [0.1], [one]).svg())
    (circle,) = drawing.iter(f"{SVG}circle")
    texts = [element.text for element in drawing.iter(f"{SVG}text")]
    assert "−0.4" in texts
    assert "10 %" in texts
    assert 34 < float(circle.attrib["cy"]) < 264
    assert not list(drawing.iter(f"{SVG}polygon"))
