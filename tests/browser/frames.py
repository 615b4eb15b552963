"""How long the worst frame of each gesture on a drawing of 20,000 kernels takes.

    python -m tests.browser.frames [--times 10] [PAGE.html ...]

Pages as `circuit.diagram(edges=20_000).save("PAGE.html")` writes them; without one, that of an
invented circuit. Several are measured by turns, each time in a new tab, to compare two renderers
while other work goes on. Two figures of each gesture, as median (worst): milliseconds from one
frame to the next, and milliseconds of processor time of the longest task of the page's thread,
which other work does not lengthen.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import click
from playwright.sync_api import Browser, CDPSession, Page

from tests.chromium import chromium
from tests.service.diagram import wirings
from tests.service.diagram.planted import unit_of

CATEGORIES = ["toplevel", "devtools.timeline"]
TASK = "ThreadControllerImpl::RunTask"
REST_MS = 800
_APART = """() => {
  window.apart = [];
  let last = performance.now();
  const next = () => {
    const now = performance.now();
    window.apart.push(now - last);
    last = now;
    requestAnimationFrame(next);
  };
  requestAnimationFrame(next);
}"""

Figures = dict[tuple[str, str], list[tuple[float, float]]]


class Timeline:
    """Chromium's own record of what its threads did."""

    def __init__(self, browser: Browser, page: Page) -> None:
        self._session: CDPSession = browser.new_browser_cdp_session()
        self._page = page
        self._events: list[dict] = []
        self._whole = False
        self._session.on("Tracing.dataCollected", lambda some: self._events.extend(some["value"]))
        self._session.on("Tracing.tracingComplete", lambda _: setattr(self, "_whole", True))

    def longest_ms(self, work: Callable[[], object]) -> float:
        """Processor time of the longest task of the page's thread while `work` runs."""
        self._events, self._whole = [], False
        config = {"includedCategories": CATEGORIES, "excludedCategories": ["*"]}
        self._session.send("Tracing.start", {"transferMode": "ReportEvents", "traceConfig": config})
        work()
        self._session.send("Tracing.end")
        while not self._whole:
            self._page.wait_for_timeout(20)
        threads = {
            (event["pid"], event["tid"])
            for event in self._events
            if event["name"] == "FireAnimationFrame"
        }
        tasks = [
            event.get("tdur", 0) / 1000
            for event in self._events
            if event["name"] == TASK and (event["pid"], event["tid"]) in threads
        ]
        return max(tasks, default=0)


def gestures(page: Page) -> Iterator[tuple[str, Callable[[], object]]]:
    """What a reader does, in this order: each by its name, to be called before the next."""
    box = page.locator(".ca-stage").bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    keys = page.keyboard.press

    def sweep() -> None:
        for step in range(60):
            page.mouse.move(box["x"] + 20 + step * box["width"] / 70, y + step % 7 * 15)

    def wheel(times: int, delta: float) -> None:
        page.mouse.move(x, y)
        for _ in range(times):
            page.mouse.wheel(0, delta)

    def pan() -> None:
        page.mouse.move(x, y)
        page.mouse.down()
        for step in range(40):
            page.mouse.move(x + step * 5, y - step * 3)
        page.mouse.up()

    def press(label: str, times: int = 1) -> None:
        for _ in range(times):
            page.get_by_label(label, exact=True).click()

    def slide(label: str, key: str, times: int) -> None:
        page.get_by_label(label, exact=True).focus()
        for _ in range(times):
            keys(key)

    def isolate() -> None:
        page.locator(".ca-stage").focus()
        for key in ("End", "ArrowLeft", "ArrowLeft", "Enter"):
            keys(key)

    yield "first hover", sweep
    yield "first deep zoom", lambda: wheel(20, -90)
    yield "hover there", sweep
    yield "pan there", pan
    yield "deeper zoom", lambda: wheel(10, -120)
    yield "zoom out", lambda: wheel(20, 150)
    yield "fit", lambda: press("Show all of it")
    yield "zoom by clicks", lambda: press("Zoom in", 4)
    yield "hover there too", sweep
    yield "fit again", lambda: press("Show all of it")
    yield "wider window", lambda: page.set_viewport_size({"width": 1500, "height": 1000})
    yield "dark", lambda: page.emulate_media(color_scheme="dark")
    yield "fewer kept", lambda: slide("Kept fraction", "ArrowLeft", 3)
    yield "all kept", lambda: slide("Kept fraction", "ArrowRight", 3)
    yield "larger nodes", lambda: slide("Nodes", "ArrowRight", 6)
    yield "wider kernels", lambda: slide("Kernels", "ArrowRight", 6)
    for kind in ("features", "both", "crops"):
        choice = page.locator(f".ca-choice input[value={kind}]")
        if choice.count():
            yield f"pictures: {kind}", choice.click
    yield "isolate", isolate
    yield "zoom, isolated", lambda: wheel(12, -90)
    yield "reset", lambda: keys("Escape")


def measure(browser: Browser, path: Path, name: str, found: Figures) -> None:
    """Add one run through all gestures on a page in a new tab."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto(path.resolve().as_uri())
    page.wait_for_selector(".ca-diagram[data-shown]")
    page.wait_for_timeout(3 * REST_MS)
    page.evaluate(_APART)
    timeline = Timeline(browser, page)
    for gesture, act in gestures(page):

        def whole(act: Callable[[], object] = act) -> None:
            page.evaluate("apart.length = 0")
            act()
            page.wait_for_timeout(REST_MS)

        task = timeline.longest_ms(whole)
        found[gesture, name].append((max(page.evaluate("apart")), task))
    context.close()


def invented(folder: Path) -> Path:
    """The page of an invented circuit."""
    unit = unit_of(folder / "atlas", wirings.large())
    return unit.circuit(keep=1).diagram(edges=20_000).save(folder / "invented.html")


def print_table(found: Figures) -> None:
    """A line for each gesture and page."""
    click.echo(f"{'ms: median (worst)':20} {'page':20} {'frame':>13} {'processor':>13}")
    order = list(dict.fromkeys(gesture for gesture, _ in found))
    for gesture, name in sorted(found, key=lambda key: (order.index(key[0]), key[1])):
        cells = [
            f"{statistics.median(figures):6.0f} ({max(figures):4.0f})"
            for figures in zip(*found[gesture, name], strict=True)
        ]
        click.echo(f"{gesture:20} {name:20} {' '.join(f'{cell:>13}' for cell in cells)}")


@click.command()
@click.argument("pages", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--times", default=10, show_default=True, help="Runs of each page.")
def main(pages: tuple[Path, ...], times: int) -> None:
    """Measure PAGES, or the page of an invented circuit."""
    found: Figures = defaultdict(list)
    with TemporaryDirectory() as folder, chromium() as browser:
        shown = pages or (invented(Path(folder)),)
        for time in range(times):
            for path in shown if time % 2 else shown[::-1]:
                measure(browser, path, path.stem, found)
    print_table(found)


if __name__ == "__main__":
    main()
