"""What a page asks for: on a slow line each file costs a round trip, and each byte its time."""

from __future__ import annotations

from collections import Counter
from urllib.parse import urlsplit

import pytest

from tests.browser.atlases import LAYER, UNITS

ASKED = (
    """() => performance.getEntriesByType("resource").map((one) => [one.name, one.transferSize])"""
)
SIDES = {
    "left_layer": LAYER,
    "left_unit": UNITS[0],
    "right_layer": LAYER,
    "right_unit": UNITS[1],
}


def asked(tab, link: str) -> tuple[Counter, int]:
    """How often each kind of file is asked for, and how many bytes come in all."""
    tab.open(link)
    tab.settled()
    tab.page.wait_for_load_state("networkidle")
    files = tab.page.evaluate(ASKED)
    paths = [urlsplit(name).path for name, _ in files]
    kinds = Counter(
        path.split("/")[-1] if path.endswith(("/nodes", "/sheet", "/file", ".js")) else "other"
        for path in paths
    )
    return kinds, sum(size for _, size in files)


# At 60 kB a second and .4 s a round trip, 150 kB in five rounds take 4.5 s. The bounds are a fifth
# above what is asked for now.
@pytest.mark.parametrize(
    ("page", "state", "files", "kilobytes"),
    [
        ("atlas", {}, 9, 42),
        ("images", {}, 8, 100),
        ("unit", {"layer": LAYER, "unit": UNITS[0]}, 38, 180),
        ("compare", SIDES, 18, 155),
    ],
)
def test_a_page_is_a_few_small_files(photos, tab, page, state, files, kilobytes):
    kinds, size = asked(tab, photos.link(page, **state))
    assert kinds.total() <= files, kinds
    assert size <= 1000 * kilobytes, kinds
    scripts = {"all.js": 1, f"{page}.js": 1}
    if page in ("unit", "compare"):
        scripts["diagram.js"] = 1
        assert kinds["nodes"] == 1  # the images of all nodes of the drawing
    assert {name: kinds[name] for name in kinds if name.endswith(".js")} == scripts
    if page != "unit":
        assert kinds["file"] == 0  # no image by itself


def test_images_of_a_sheet_are_each_in_its_place(photos, tab):
    """What is shown of the sheet is the image that it is said to be."""
    tab.open(photos.link("images"))
    tab.settled()
    tab.page.wait_for_load_state("networkidle")
    for at in (0, 7, 8, 19):
        shown = tab.page.locator(".shots .image-box").nth(at)
        found = shown.evaluate(COLOURS, f"/api/v1/images/{at}/file?width=96")
        for here, there in found:
            assert abs(here - there) < 6  # of 255: JPEG twice


# The mean colours of an image as it is shown, and of the file that it is of.
COLOURS = """async (box, file) => {
  const mean = (image, x, y, width, height) => {
    const small = new OffscreenCanvas(48, 48).getContext("2d");
    small.drawImage(image, x, y, width, height, 0, 0, 48, 48);
    const { data } = small.getImageData(0, 0, 48, 48);
    const sums = [0, 0, 0];
    data.forEach((value, at) => { if (at % 4 < 3) sums[at % 4] += value / 48 / 48; });
    return sums;
  };
  const img = box.querySelector("img");
  await img.decode();
  const room = box.getBoundingClientRect();
  const whole = img.getBoundingClientRect();
  const scale = img.naturalWidth / whole.width;
  const here = mean(img, (room.left - whole.left) * scale, (room.top - whole.top) * scale,
    room.width * scale, room.height * scale);
  const other = new Image();
  other.src = file;
  await other.decode();
  const there = mean(other, 0, 0, other.naturalWidth, other.naturalHeight);
  return here.map((value, at) => [value, there[at]]);
}"""
