"""The committed schema page is the one that the definitions give."""

from __future__ import annotations

from pathlib import Path

from circuit_atlas.storage_schema import image_table, network_tables, page, unit_tables
from circuit_atlas.storage_schema.arrays import ARRAYS, AXES

PAGE = Path(page.__file__).with_name("SCHEMA.md")


def test_the_committed_page_is_current():
    assert PAGE.read_text(encoding="utf-8") == page.page(), (
        "run `python -m circuit_atlas.storage_schema.page > storage_schema/SCHEMA.md`"
    )


def test_everything_is_described():
    text = page.page()
    for spec in ARRAYS:
        assert f"### `{spec.name}`" in text
        assert spec.sentence
        assert spec.fill_meaning
        assert set(spec.axes) <= {name for name, _ in AXES}
    for table in (image_table.IMAGES, *network_tables.NETWORK, *unit_tables.FRAGMENTS):
        for column in table.columns:
            stored = f"`{column.stored_as}`" if column.stored_as else ""
            assert f"| `{column.name}` | {stored} | {column.type} |" in text
            # Pearson's r is written small, as everywhere.
            assert column.title[0].isupper() or column.title.startswith("r ")
            assert column.sentence.endswith(".")
            assert column.null is None or column.null.endswith(".")
