"""A report: sections of texts, tables and charts, written as one HTML file or as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from circuit_atlas.service.comparison.colours import in_page, style_sheet
from circuit_atlas.service.comparison.line_chart import LineChart

_CSS = """
body { margin: 0 auto; max-width: 68rem; padding: 1.2rem clamp(0.8rem, 3vw, 2rem) 3rem;
  background: var(--paper); color: var(--ink); font: 400 0.9375rem/1.5 var(--sans); }
h1 { font-size: 1.5rem; margin: 0 0 0.6rem; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 2rem 0 0.5rem; overflow-wrap: anywhere; }
section { display: flex; flex-wrap: wrap; gap: 0 2rem; align-items: flex-start; }
h2, p, .charts { flex: 0 0 100%; }
p { margin: 0.4rem 0; padding-right: max(0rem, 100% - 46rem); box-sizing: border-box; }
.charts { display: flex; flex-wrap: wrap; gap: 1rem; }
figure { margin: 0.8rem 0; flex: 1 1 20rem; max-width: 32rem; }
figure svg { width: 100%; height: auto; border: 1px solid var(--line);
  border-radius: var(--radius); }
figcaption, caption { color: var(--ink-3); font-size: var(--small); text-align: left; }
.table { overflow-x: auto; margin: 0.8rem 0; max-width: 100%; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: var(--small);
  background: var(--surface); }
th, td { padding: 0.25rem 0.7rem; border-bottom: 1px solid var(--line); text-align: right;
  white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
thead th { border-bottom-color: var(--line-strong); color: var(--ink-2); font-weight: 600; }
"""


@dataclass(frozen=True)
class Text:
    """Is a paragraph."""

    text: str


@dataclass(frozen=True)
class Grid:
    """Is a table of texts; the first column says what a row is of."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Charts:
    """Are charts side by side, each with the name of its file and a sentence below."""

    charts: Sequence[tuple[str, LineChart, str]]


@dataclass(frozen=True)
class Section:
    """Is a heading and what stands under it."""

    title: str
    parts: Sequence[Text | Grid | Charts]


@dataclass(frozen=True)
class Report:
    """Is a title and sections, in their order."""

    title: str
    sections: Sequence[Section]

    def to_html(self) -> str:
        """Return the whole document: it asks for nothing, and is light or dark as its reader is."""
        body = [line for section in self.sections for line in _html(section)]
        return "\n".join(
            [
                "<!doctype html>",
                '<html lang="en"><head><meta charset="utf-8">',
                '<meta name="viewport" content="width=device-width, initial-scale=1">',
                f"<title>{escape(self.title)}</title>",
                # An empty icon, so that the browser does not ask for one.
                '<link rel="icon" href="data:,">',
                f"<style>{style_sheet()}{_CSS}</style></head><body><main>",
                f"<h1>{escape(self.title)}</h1>",
                *body,
                "</main></body></html>\n",
            ]
        )

    def to_markdown(self) -> str:
        """Return the text; its charts are the files that `save` writes beside it."""
        lines = [f"# {_plain(self.title)}", ""]
        for section in self.sections:
            lines += [f"## {_plain(section.title)}", ""]
            for part in section.parts:
                lines += [*_markdown(part), ""]
        return "\n".join(lines)

    def save(self, folder: Path, *, name: str) -> tuple[Path, ...]:
        """Write `NAME.html`, `NAME.md` and its charts into a folder; return what was written."""
        texts = {f"{name}.html": self.to_html(), f"{name}.md": self.to_markdown()}
        for section in self.sections:
            for part in section.parts:
                if isinstance(part, Charts):
                    texts |= {f"{file}.svg": f"{chart.svg()}\n" for file, chart, _ in part.charts}
        paths = []
        for file, text in texts.items():
            paths.append(folder / file)
            paths[-1].write_text(text, encoding="utf-8")
        return tuple(paths)


def _html(section: Section) -> Iterator[str]:
    yield f"<section><h2>{escape(section.title)}</h2>"
    for part in section.parts:
        if isinstance(part, Text):
            yield f"<p>{escape(part.text)}</p>"
        elif isinstance(part, Grid):
            caption = escape(part.caption)
            yield f'<div class="table" role="region" tabindex="0" aria-label="{caption}">'
            yield f"<table><caption>{caption}</caption><thead><tr>"
            yield "".join(f'<th scope="col">{escape(cell)}</th>' for cell in part.head)
            yield "</tr></thead><tbody>"
            for first, *rest in part.rows:
                cells = "".join(f"<td>{escape(cell)}</td>" for cell in rest)
                yield f'<tr><th scope="row">{escape(first)}</th>{cells}</tr>'
            yield "</tbody></table></div>"
        else:
            yield '<div class="charts">'
            for _, chart, said in part.charts:
                yield f"<figure>{chart.svg(in_page)}"
                yield f"<figcaption>{escape(said)}</figcaption></figure>"
            yield "</div>"
    yield "</section>"


def _markdown(part: Text | Grid | Charts) -> Iterator[str]:
    if isinstance(part, Text):
        yield _plain(part.text)
    elif isinstance(part, Grid):
        yield _plain(part.caption)
        yield ""
        for row in (part.head, ["---", *["---:"] * (len(part.head) - 1)], *part.rows):
            yield f"| {' | '.join(map(_cell, row))} |"
    else:
        for file, chart, caption in part.charts:
            yield f"![{_plain(chart.title)}]({file}.svg)"
            yield ""
            yield f"*{_plain(caption)}*"
            yield ""


def _plain(text: str) -> str:
    """A text as Markdown shows it, whatever a name holds."""
    for character in "\\`*_[<":
        text = text.replace(character, f"\\{character}")
    return " ".join(text.split())


def _cell(text: str) -> str:
    return text if set(text) <= {"-", ":"} and len(text) >= 3 else _plain(text).replace("|", "\\|")
