"""Images as small as a page shows them, and parts of them."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from circuit_atlas.service.diagram.decoded import MOST_PIXELS, decoded
from circuit_atlas.service.web.image_sheet import COLUMNS, MARGIN
from circuit_atlas.service.web.responses import Body
from circuit_atlas.service.web.thumbnail import CropParameters, ThumbnailParameters, thumbnail
from circuit_atlas.storage_schema.errors import CorruptError

NEAR = 8  # of 255, what JPEG does at the edge of a disc; another part of it is 30 off
HALVES = np.zeros((32, 48, 3), np.uint8)
HALVES[:, 24:] = (220, 60, 20)


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def shown(api, query: str) -> Image.Image:
    found = api.get(f"images/2/file?{query}")
    assert found.status_code == 200
    assert found.headers["content-type"] == "image/jpeg"
    return Image.open(io.BytesIO(found.content))


def test_an_image_is_sent_as_wide_as_it_is_asked_for(api):
    whole = api.get("images/2/file")
    assert Image.open(io.BytesIO(whole.content)).size == (32, 32)
    assert shown(api, "width=16").size == (16, 16)
    # No pixel is made up.
    for width in (32, 33, 1024):
        assert api.get(f"images/2/file?width={width}").content == whole.content
    small = np.asarray(shown(api, "width=16"), float)
    wanted = np.asarray(Image.open(io.BytesIO(whole.content)).reduce(2), float)
    assert abs(small - wanted).mean() < NEAR


def test_a_part_of_an_image_is_sent(api):
    whole = np.asarray(Image.open(io.BytesIO(api.get("images/2/file").content)), float)
    part = np.asarray(shown(api, "box=4,8,20,32"), float)
    assert part.shape == (16, 24, 3)
    assert abs(part - whole[4:20, 8:32]).mean() < NEAR
    assert shown(api, "box=0,0,32,32&width=16").size == (16, 16)
    assert shown(api, "box=0,0,8,8&width=96").size == (8, 8)


@pytest.mark.parametrize("box", ["0,0,33,8", "0,0,8,33", "8,0,8,8", "0,8,8,4"])
def test_a_part_that_is_none_is_refused(api, box):
    found = api.get(f"images/2/file?box={box}")
    assert found.status_code == 400
    assert "is no part of an image of 32 x 32 pixels" in found.json()["error"]["message"]


@pytest.mark.parametrize("query", ["width=15", "width=1025", "box=1,2,3", "box=-1,0,8,8"])
def test_what_is_no_size_is_refused(api, query):
    assert api.get(f"images/2/file?{query}").status_code == 422


def test_a_visualization_is_sent_smaller_under_its_name():
    whole = Body(png(HALVES), "image/png", "net-layer-3-positive.png", inline=True)
    small = thumbnail(whole, "png", ThumbnailParameters(width=24))
    assert (small.media_type, small.filename) == ("image/jpeg", "net-layer-3-positive.jpg")
    assert small.inline
    image = decoded(small.content, "jpeg")
    assert image.size == (24, 16)
    assert abs(np.asarray(image, float)[:, 16:].mean((0, 1)) - (220, 60, 20)).max() < 8
    as_wide = thumbnail(whole, "png", ThumbnailParameters(width=1000))
    assert decoded(as_wide.content, "jpeg").size == (48, 32)
    assert thumbnail(whole, "png", CropParameters()) is whole


@pytest.mark.parametrize("cut", [0, 8, 60])
def test_what_is_no_image_is_corrupt(cut):
    whole = Body(png(HALVES)[:cut], "image/png")
    with pytest.raises(CorruptError, match="restore the atlas from a copy"):
        thumbnail(whole, "png", ThumbnailParameters(width=16))


def test_an_image_of_too_many_pixels_is_not_unpacked():
    side = int(MOST_PIXELS**0.5) + 1
    stream = io.BytesIO()
    Image.new("1", (side, side)).save(stream, "PNG")
    with pytest.raises(CorruptError, match=f"{side} x {side} pixels"):
        decoded(stream.getvalue(), "png")


def sheet(api, cells: str, width: int = 32) -> np.ndarray:
    found = api.get("images/sheet", params={"cells": cells, "width": width})
    assert found.status_code == 200
    assert found.headers["content-type"] == "image/jpeg"
    return np.asarray(Image.open(io.BytesIO(found.content)), float)


def test_a_sheet_has_each_image_in_its_cell_and_around_it_what_is_at_its_edge(api):
    images = [0, 1, 2, 3, 4, 3, 2, 1, 0]
    pixels = sheet(api, ";".join(map(str, images)))
    side = 32 + 2 * MARGIN
    assert pixels.shape == (2 * side, COLUMNS * side, 3)
    for number, image in enumerate(images):
        row, column = divmod(number, COLUMNS)
        cell = pixels[row * side : (row + 1) * side, column * side : (column + 1) * side]
        data = api.get(f"images/{image}/file").content
        whole = np.asarray(Image.open(io.BytesIO(data)), float)
        assert abs(cell[MARGIN:-MARGIN, MARGIN:-MARGIN] - whole).mean() < NEAR
        assert abs(cell[0] - whole[0].mean(0)).mean() < 4 * NEAR
    assert pixels[side + 1 :, side + 1 :].mean() < 1  # no more cells


def test_a_sheet_has_parts_of_images_and_leaves_room_for_one_left_out(api):
    data = api.get("images/2/file").content
    whole = np.asarray(Image.open(io.BytesIO(data)), float)
    part = sheet(api, "2:4,8,20,24", width=16)[MARGIN:-MARGIN, MARGIN:-MARGIN]
    assert abs(part - whole[4:20, 8:24]).mean() < NEAR
    assert sheet(api, "5").max() == 0


@pytest.mark.parametrize(
    ("cells", "status", "told"),
    [
        ("", 422, ""),
        ("x", 422, ""),
        ("1;", 422, ""),
        ("1:0,0,8", 422, ""),
        ("1:0,0,8,33", 400, "is no part of an image of 32 x 32 pixels"),
        ("1;2:0,0,8,8", 400, "ask twice"),
        ("6", 404, "there is no image 6"),
        (";".join(["1"] * 65), 400, "65 cells are too many: give up to 64"),
    ],
)
def test_what_is_no_sheet_is_refused(api, cells, status, told):
    found = api.get("images/sheet", params={"cells": cells, "width": 32})
    assert found.status_code == status
    assert told in found.json()["error"]["message"]
