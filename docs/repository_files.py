"""Files of the repository that are pages of the site as well, and the links between the two.

A page links to such a file by its path, as a reader of the repository needs it. Here the file joins
the site, and the link is turned to it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
SITE_PATHS = {
    "CHANGELOG.md": "changelog.md",
    "storage_schema/SCHEMA.md": "schema.md",
    "tests/benchmarks/results.svg": "images/results.svg",
}
"""Path in the repository -> path in the site."""

_LINK = re.compile(r"(?<=\]\()\.\./(?:\.\./)?([^)#]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add each file of `SITE_PATHS` to the site's files."""
    from mkdocs.structure.files import File

    for path, site_path in SITE_PATHS.items():
        files.append(File.generated(config, site_path, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links to files of the repository to where the site has them."""
    del config, files
    return with_site_links(markdown, page.file.src_uri)


def with_site_links(markdown: str, src_uri: str) -> str:
    """The text of the page `src_uri`, whose links to `SITE_PATHS` lead to the site's paths.

    >>> with_site_links("see [the schema](../../storage_schema/SCHEMA.md#paths)", "store.md")
    'see [the schema](schema.md#paths)'
    """
    folder = (ROOT / "docs" / "pages" / src_uri).parent

    def turned(link: re.Match[str]) -> str:
        path = (folder / link[0]).resolve()
        inside = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else ""
        return SITE_PATHS.get(inside, link[0])

    return _LINK.sub(turned, markdown)
