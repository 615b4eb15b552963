"""The forms a diagram is had in: vector file, picture, page, notebook; and the command."""

from __future__ import annotations

import base64
import io
import re
import sys
from collections import Counter
from dataclasses import replace
from html import escape, unescape
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from circuit_atlas.service.client.layer import Layer
from circuit_atlas.service.commands.cli import main
from circuit_atlas.service.diagram import shapes
from circuit_atlas.service.diagram.drawing import Diagram
from circuit_atlas.service.diagram.figure import WIDTH_MM
from circuit_atlas.service.diagram.look import Look
from circuit_atlas.service.diagram.node_sheet import CELL, COLUMNS
from circuit_atlas.service.diagram.titles import share
from circuit_atlas.storage_schema.errors import CorruptError, QueryError, WriteError
from circuit_atlas.storage_schema.visualizations import FeatureWriter
from tests.service.diagram import wirings
from tests.service.diagram.planted import picture, plant, unit_of
from tests.storage_schema.visualization_records import picture_record

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(params=list(wirings.ALL))
def diagram(request, tmp_path) -> Diagram:
    return unit_of(tmp_path / "atlas", wirings.ALL[request.param](), 1).circuit(keep=1).diagram()


def parsed(diagram: Diagram) -> tuple[ElementTree.Element, Counter[str]]:
    root = ElementTree.fromstring(diagram.figure().svg)
    classes = Counter(name for element in root.iter() for name in element.get("class", "").split())
    return root, classes


def test_the_vector_file_holds_exactly_what_is_told_of(diagram):
    root, classes = parsed(diagram)
    content = diagram.content
    assert classes["kernel"] == content.counts.drawn > 0
    assert classes["node"] == len(content.nodes.band)
    assert classes["wire"] == len(content.wires.end)
    texts = [element.text for element in root.iter(f"{SVG}text")]
    assert content.title in " ".join(texts)
    named = [
        element.text
        for group in root.iter(f"{SVG}g")
        if group.get("class") == "names"
        for element in group
    ]
    told = " ".join(named).replace(". ", ".")
    counted = 0
    for number, band in enumerate(content.bands):
        if band.kind == "channel":
            drawn = sum(content.nodes.band[end] == number for end in content.edges.end)
            assert 0 < drawn <= band.kernels[0]
            assert band.label in told
            counted += f"{band.label} {drawn}/{band.kernels[0]}" in told
    # A count gives way where there is no room for it.
    assert counted == sum(text.replace("/", "").isdigit() for text in named) > 1
    counts = content.counts
    assert any(f"{counts.drawn} of {counts.on_path} kernels" in text for text in texts)
    assert any(f"{counts.crossings_after} crossings" in text for text in texts)
    assert not list(root.iter(f"{SVG}script"))


def test_the_vector_file_fits_a_page(diagram):
    root, _ = parsed(diagram)
    width, height = (float(root.get(name).removesuffix("mm")) for name in ("width", "height"))
    assert width == WIDTH_MM
    assert 20 < height <= shapes.HEIGHT_MM + 0.1
    box = [float(part) for part in root.get("viewBox").split()]
    assert box[2] / box[3] == pytest.approx(width / height, rel=0.01)
    points = {
        float(t.get("font-size")) * width / box[2] * 72 / 25.4 for t in root.iter(f"{SVG}text")
    }
    assert 7 <= min(points) < 7.2


def test_pictures_are_embedded_once_and_weights_where_there_is_room(diagram):
    root, classes = parsed(diagram)
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(ids) == len(set(ids))
    images = list(root.iter(f"{SVG}image"))
    used = {some[0][0] for some in diagram.content.nodes.crops if some}
    assert {image.get("id") for image in images} == {f"image-{number}" for number in used}
    assert all(image.get("href").startswith("data:image/jpeg;base64,") for image in images)
    targets = {u.get("href").removeprefix("#") for u in root.iter(f"{SVG}use")}
    assert targets <= set(ids)
    assert 0 < classes["weight"] <= diagram.content.counts.drawn


def test_signs_and_sides_have_colours_of_their_own(tmp_path):
    planted = wirings.fire()
    size = len(planted.scores[0])
    planted = replace(planted, contribution={1: np.where(np.arange(size) % 4, 1.0, -1.0)})
    unit = unit_of(tmp_path / "atlas", planted, 1)
    circuit = unit.circuit(keep=1)

    def strokes(diagram: Diagram) -> Counter[str]:
        root = ElementTree.fromstring(diagram.figure().svg)
        found: Counter[str] = Counter()
        for group in root.iter(f"{SVG}g"):
            own = [p for p in group if p.get("class") == "kernel"]
            found[group.get("stroke")] += len(own)
        return +found

    content = circuit.diagram().content
    signs = Counter(np.sign(content.edges.contribution).tolist())
    assert strokes(circuit.diagram()) == {
        shapes.EXCITE: signs[1.0],
        shapes.INHIBIT: signs[-1.0],
    }
    other = Layer(unit.reader, unit.index).unit(0).circuit(keep=0.5)
    overlay = unit.circuit(keep=0.75).diagram(against=other)
    sides = Counter(shapes.SIDES[side] for side in overlay.content.edges.side)
    assert len(sides) == 3
    assert strokes(overlay) == sides
    assert "both circuits of" in overlay.figure().svg
    assert "circuit of" in unit.circuit(keep=0.75).diagram().figure().svg


def test_titles_cannot_break_out_of_a_file(tmp_path):
    unit = unit_of(tmp_path / "atlas", wirings.plain(), 1)
    circuit = replace(unit.circuit(keep=1), title='</script><b a="&">')
    diagram = circuit.diagram()
    title = ElementTree.fromstring(diagram.figure().svg).find(f"{SVG}title").text
    assert title == diagram.content.title
    assert title.startswith(circuit.title)
    assert "</script><b" not in diagram.html()
    assert "<b a=" not in diagram._repr_html_()
    # XML has no way to write these, so a file with one cannot be opened.
    odd = replace(unit.circuit(keep=1), title="a\x00\x1b\ufffe\ud800\u202eb")
    title = ElementTree.fromstring(odd.diagram().figure().svg).find(f"{SVG}title")
    assert title.text.startswith(f"a{4 * chr(0xFFFD)}\u202eb:")


@pytest.mark.usefixtures("dejavu")
def test_what_is_drawn_stands_in_each_file(tmp_path):
    """Score, kept fraction and images: a long title is wrapped, and none of it is cut."""
    unit = unit_of(tmp_path / "atlas", wirings.fire(), 1)
    top = unit.top_images()["image"].to_pylist()
    left, right = unit.circuit(keep=0.5, images=top[1:]), unit.circuit(keep=0.25, images=top[:1])
    diagram = left.diagram(against=right)
    whole = len(left.reachable)
    said = [
        f"{one.title}: {len(one)} of {whole} kernels, {share(len(one), whole)}"
        for one in (left, right)
    ]
    assert diagram.content.sides == tuple(said)
    assert diagram.content.title == " against ".join(said)
    assert diagram.content.chosen_for == (tuple(top[1:]), (top[0],))
    assert unit.circuit(keep=1).diagram().content.chosen_for == ((),)
    assert escape(diagram.content.title) in diagram.html()
    root, _ = parsed(diagram)
    assert f"Left, images: {', '.join(map(str, top[1:]))}." in root.find(f"{SVG}desc").text
    texts = [element.text for element in root.iter(f"{SVG}text")]
    assert diagram.content.title in " ".join(texts)
    # Drawn as large as the file itself, no letter reaches its right edge.
    pixels = np.asarray(Image.open(io.BytesIO(diagram.figure().png(width=1200))).convert("L"))
    assert pixels[:, -6:].min() > 250
    assert pixels[: len(pixels) // 8, :600].min() < 100


def test_the_page_asks_for_nothing_and_says_its_size(diagram):
    html = diagram.html()
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?!data:|#)[^"']*["']""", html)
    assert not re.findall(r"@import|url\((?!data:)|\bfetch\(|^import\s", html, re.MULTILINE)
    used = {crop[0] for some in diagram.content.nodes.crops for crop in some}
    assert html.count("data:image/jpeg") == len(used)
    said = re.search(
        r"this page holds \d+ images(?: and \d+ feature visualizations)?, (\d+) kB in all", html
    )
    assert int(said[1]) == pytest.approx(len(html.encode()) / 1000, abs=1)


def test_a_notebook_gets_the_page_in_a_frame(diagram):
    html = diagram._repr_html_()
    framed = unescape(re.search('<iframe [^>]*srcdoc="([^"]*)"', html)[1])
    before, after = diagram.html().split("</body>")
    assert framed.startswith(before)
    assert framed.endswith(f"</body>{after}")
    # Where frames are taken out, the figure is left.
    drawn = re.search('<img [^>]*src="data:image/svg[+]xml;base64,([^"]*)"', html)[1]
    assert base64.b64decode(drawn).decode() == diagram.figure().svg == diagram._repr_svg_()


@pytest.mark.usefixtures("dejavu")
@pytest.mark.parametrize("name", ["x.svg", "x.html", "X.PNG"])
def test_the_ending_says_what_is_written(tmp_path, diagram, name):
    path = diagram.save(tmp_path / name)
    assert path == tmp_path / name
    data = path.read_bytes()
    start = {"svg": b"<svg", "html": b"<!doctype html>", "png": b"\x89PNG"}
    assert data.startswith(start[name.lower().split(".")[1]])
    assert [p.name for p in tmp_path.iterdir() if p.name != "atlas"] == [name]


@pytest.mark.parametrize("name", ["x.pdf", "x", ".svg"])
def test_other_endings_are_refused(tmp_path, diagram, name):
    with pytest.raises(QueryError, match=r"end its name with '\.svg', '\.html' or '\.png'"):
        diagram.save(tmp_path / name)
    assert not (tmp_path / name).exists()


def test_a_file_is_written_whole_or_not_at_all(tmp_path, diagram, monkeypatch):
    with pytest.raises(WriteError, match=r"cannot be written \(No such file"):
        diagram.save(tmp_path / "missing" / "x.svg")
    with pytest.raises(WriteError, match=r"cannot be written \(File name too long"):
        diagram.save(tmp_path / f"{'x' * 300}.svg")
    longest = f"{'x' * 251}.svg"
    diagram.save(tmp_path / longest)
    (tmp_path / longest).unlink()
    old = tmp_path / "x.svg"
    old.write_text("before")

    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(WriteError, match="No space left"):
        diagram.save(old)
    assert old.read_text() == "before"
    assert {p.name for p in tmp_path.iterdir()} == {"atlas", "x.svg"}


@pytest.mark.parametrize("name", ["a\0b.svg", "\ud800.svg", "x.svg"])
def test_nothing_is_left_where_a_name_cannot_be(tmp_path, diagram, name):
    (tmp_path / "x.svg").mkdir()
    with pytest.raises(WriteError, match=r"svg' cannot be written \(.*\): give another path"):
        diagram.save(tmp_path / name)
    assert {p.name for p in tmp_path.iterdir()} == {"atlas", "x.svg"}


def test_a_path_may_start_at_home(tmp_path, diagram, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert diagram.save("~/y.svg") == tmp_path / "y.svg"
    assert (tmp_path / "y.svg").exists()


@pytest.mark.parametrize("path", [None, 5, b"x.svg", "~nobody-of-that-name/x.svg"])
def test_what_is_no_path_is_refused(diagram, path):
    with pytest.raises(QueryError, match="is no path of a file"):
        diagram.save(path)


@pytest.mark.parametrize("width", [99.5, "wide", 15, 12_001])
def test_the_width_of_a_picture_is_in_bounds(diagram, width):
    with pytest.raises(QueryError, match=r"width=.*(no whole number|give 16 to 12000)"):
        diagram.figure().png(width=width)


@pytest.mark.usefixtures("dejavu")
def test_the_picture_shows_lines_text_and_crops(tmp_path):
    unit = unit_of(tmp_path / "atlas", wirings.fire(), 1)
    diagram = unit.circuit(keep=1).diagram()
    pixels = np.asarray(
        Image.open(io.BytesIO(diagram.figure().png(width=1200))).convert("RGB")
    ).astype(int)
    assert pixels.shape[1] == 1200
    assert (pixels[0, 0] == 255).all()

    def near(colour: tuple[int, int, int], slack: int = 12) -> int:
        return int((np.abs(pixels - colour).max(axis=2) < slack).sum())

    assert near((0xB8, 0x48, 0x0A), 40) > 300
    # The title's letters, in the top strip and nowhere else dark there.
    assert (pixels[: pixels.shape[0] // 20] < 80).all(axis=2).sum() > 150
    for number in range(3):
        colour = Image.open(io.BytesIO(picture(number))).getpixel((5, 5))
        assert near(colour) > 100


def test_without_resvg_the_picture_says_what_to_install(diagram, monkeypatch):
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    with pytest.raises(QueryError, match=r"pip install 'circuit-atlas\[diagram\]'"):
        diagram.figure().png()


@pytest.mark.parametrize("width_mm", [0, 59, 401, float("nan")])
def test_a_width_of_paper_is_in_bounds(diagram, width_mm):
    with pytest.raises(QueryError, match=r"width_mm=.* is out of range: give 60 to 400"):
        diagram.figure(width_mm=width_mm)


def test_feature_visualizations_are_shown_where_there_are_any(tmp_path):
    atlas = plant(tmp_path / "atlas", wirings.fire())
    data = io.BytesIO()
    Image.new("RGB", (4, 4), (10, 200, 30)).save(data, "PNG")
    writer = FeatureWriter(atlas.reader.objects)
    for layer, unit, variant in (
        ("one", 2, "negative"),
        ("one", 2, "positive"),
        ("three", 0, "negative"),
        ("target", 1, "positive"),
    ):
        record = picture_record(
            layer,
            unit,
            variant=variant,
            sign=variant,
            model="toy.models:planted",
            height=4,
            width=4,
        )
        writer.commit(record, data.getvalue())
    circuit = atlas.layer("target").unit(1).circuit(keep=1)
    diagram = circuit.diagram()
    content = diagram.content
    stored = {
        (content.bands[band].name, content.nodes.channel[node]): content.nodes.feature[node]
        for node, band in enumerate(content.nodes.band)
        if content.nodes.feature[node]
    }
    assert stored == {("one", 2): "positive", ("three", 0): "negative", ("last", 1): "positive"}
    assert diagram.html().count("data:image/png") == 3
    assert diagram.figure().svg.count("data:image/png") == 3
    # Other channels show crops: the legend says so.
    assert "images made to drive the channel, or where it is largest" in diagram.figure().svg
    alone = circuit.diagram(node_images=False).figure().svg
    assert "images made to drive the channel<" in alone
    for images in ("crops", "none"):
        assert "data:image/png" not in diagram.figure(look=Look(images=images)).svg
    both = diagram.figure(look=Look(images="both")).svg
    assert both.count("data:image/png") == 3
    without = circuit.diagram(features=False)
    assert not any(without.content.nodes.feature)
    assert "data:image/png" not in without.figure().svg
    # On the sheet of a page, too: each where its node is.
    made, photos = (sheet_cells(diagram, shows) for shows in ("features", "crops"))
    for node, crops in enumerate(content.nodes.crops):
        is_made = abs(made[node].mean((0, 1)) - (10, 200, 30)).max() < 12  # JPEG
        assert is_made == bool(content.nodes.feature[node])
        if not content.nodes.feature[node]:
            assert abs(made[node] - photos[node]).mean() < 4
        if crops:
            whole = Image.open(io.BytesIO(atlas.reader.jpegs([crops[0][0]])[crops[0][0]]))
            x, y, side = square(crops[0], *whole.size)
            wanted = whole.resize((CELL, CELL), box=(x, y, x + side, y + side))
            assert abs(photos[node] - np.asarray(wanted, float)).mean() < 8
        else:
            assert photos[node].mean() < 1  # but for what JPEG lets over the edge
    record = atlas.reader.feature_visualization("one", 2, "positive")
    (tmp_path / "atlas" / record.image.path).unlink()
    for form in (diagram.html, diagram.node_sheet):
        with pytest.raises(CorruptError):
            form()


def sheet_cells(diagram, shows: str) -> list[np.ndarray]:
    """The sheet's cells, node by node."""
    sheet = np.asarray(Image.open(io.BytesIO(diagram.node_sheet(shows))), float)
    assert sheet.shape[1] == COLUMNS * CELL
    rows = [
        row for band in np.split(sheet, len(sheet) // CELL) for row in np.split(band, COLUMNS, 1)
    ]
    return rows[: len(diagram.content.nodes.band)]


def square(crop, width: int, height: int) -> tuple[float, float, float]:
    """Left, top and side of what a page shows of a crop: its field with a bit of what is around."""
    _, top, left, bottom, right = crop
    side = 1.08 * max(bottom - top, right - left)
    side = min(width, height, max(side, min(width, height) / 12))
    x, y = (left + right - side) / 2, (top + bottom - side) / 2
    return min(width - side, max(0, x)), min(height - side, max(0, y)), side


def test_the_command_writes_a_file_and_says_what_is_in_it(tmp_path, capsys):
    plant(tmp_path / "atlas", wirings.plain())
    target = tmp_path / "x.svg"
    words = ["diagram", str(tmp_path / "atlas"), "target", "1", "--keep", "0.5", "--output"]
    assert main([*words, str(target), "--images", "2,0", "--edges", "12"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"\d+ of \d+ kernels on a path drawn", said)
    assert said.endswith(f"written to {target}\n")
    assert "of images 2 and 0" in target.read_text()
    assert main([*words, str(tmp_path / "x.pdf")]) == 2
    assert "end its name with" in capsys.readouterr().err
    assert main([*words, str(target), "--images", "2,x"]) == 2
    assert "'2,x' is no list of whole numbers" in capsys.readouterr().err
