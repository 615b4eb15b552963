"""Files of the repository that are pages of the site as well, and the links between the two.

A page links to such a file by its path, as a reader of the repository needs it. Here the file joins
the site, and the link is turned to it. A notebook is run first: an error in it ends the build.
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
NOTEBOOK = "docs/notebooks/first_circuit.ipynb"
SITE_PATHS = {
    "CHANGELOG.md": "changelog.md",
    "storage_schema/SCHEMA.md": "schema.md",
    "tests/benchmarks/results.svg": "images/results.svg",
    "docs/gallery/README.md": "gallery.md",
    **{
        path.relative_to(ROOT).as_posix(): f"images/gallery-{path.name}"
        for path in sorted((ROOT / "docs/gallery/figures").glob("*.svg"))
    },
    NOTEBOOK: "first_circuit.md",
}
"""Path in the repository -> path in the site."""

_PAGES = "docs/pages/"
_LINK = re.compile(r"(?<=\]\()(?!\w+:)([^)#]+)")
_CELL_TIMEOUT_S = 600


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add each file of `SITE_PATHS` to the site's files."""
    from mkdocs.structure.files import File

    for path, site_path in SITE_PATHS.items():
        if path == NOTEBOOK:
            file = File.generated(config, site_path, content=executed_notebook(ROOT / path))
        else:
            file = File.generated(config, site_path, abs_src_path=str(ROOT / path))
        files.append(file)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links to files of the repository to where the site has them."""
    del config, files
    paths = {site_path: path for path, site_path in SITE_PATHS.items()}
    return with_site_links(markdown, paths.get(page.file.src_uri, _PAGES + page.file.src_uri))


def with_site_links(markdown: str, path: str) -> str:
    """The text of the file `path` of the repository, whose links lead to pages of the site.

    >>> with_site_links("see [it](../../storage_schema/SCHEMA.md#paths)", "docs/pages/store.md")
    'see [it](schema.md#paths)'
    >>> with_site_links("see [the store](docs/pages/store.md)", "CHANGELOG.md")
    'see [the store](store.md)'
    """
    folder = (ROOT / path).parent

    def turned(link: re.Match[str]) -> str:
        target = (folder / link[0]).resolve()
        inside = target.relative_to(ROOT).as_posix() if target.is_relative_to(ROOT) else ""
        # The site's pages lie side by side, so a link from any of them is the path in the site.
        return SITE_PATHS.get(inside, inside.removeprefix(_PAGES) if inside else link[0])

    return _LINK.sub(turned, markdown)


def executed_notebook(path: Path) -> str:
    """Run a notebook in a kernel of its own, and give it back as Markdown with its output.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell raised an error.
    """
    import nbformat
    from nbclient import NotebookClient
    from nbconvert import MarkdownExporter

    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=_CELL_TIMEOUT_S, kernel_name="python3").execute()
    body, _ = MarkdownExporter().from_notebook_node(notebook)
    return str(body)
