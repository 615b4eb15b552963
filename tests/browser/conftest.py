"""A real server over small atlases, and Chromium to look at it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest

from circuit_atlas.service import Atlas
from tests.browser.atlases import build_photos, build_two_ways
from tests.chromium import IN_CHROMIUM, new_context
from tests.chromium import chromium as started
from tests.service.conftest import write_atlas
from tests.service.stores import served


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test of this folder drives Chromium."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            for mark in IN_CHROMIUM:
                item.add_marker(mark)


@dataclass
class Served:
    """An atlas, opened with the Python client, and the address where it is served."""

    atlas: Atlas
    address: str

    def link(self, page: str, **state: object) -> str:
        """The address of a page; `left_unit` stands for `left.unit`, and so on."""
        query = {} if page == "atlas" else {"page": page}
        for key, value in state.items():
            side, _, rest = key.partition("_")
            query[f"{side}.{rest}" if side in ("left", "right", "min", "max", "has") else key] = (
                str(value)
            )
        return f"{self.address}/?{urlencode(query)}"


@pytest.fixture(scope="session")
def serve() -> Iterator[Callable[[Path], Served]]:
    """`serve(location)`: a server of its own, on a free port, until all tests are done."""
    from circuit_atlas.service.web.app import create_app

    with ExitStack() as stack:
        yield lambda location: Served(
            Atlas.open(location), stack.enter_context(served(create_app(location)))
        )


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory, serve: Callable[[Path], Served]) -> Served:
    """Units of the demo's network on the demo's photos."""
    location = tmp_path_factory.mktemp("photos") / "atlas"
    build_photos(location)
    return serve(location)


@pytest.fixture(scope="session")
def two_ways(tmp_path_factory: pytest.TempPathFactory, serve: Callable[[Path], Served]) -> Served:
    """A layer of a small network with units that have sub-features, a dead one and a direction."""
    folder = tmp_path_factory.mktemp("two-ways")
    build_two_ways(folder / "atlas", folder / "pictures")
    return serve(folder / "atlas")


@pytest.fixture(scope="session")
def invented(tmp_path_factory: pytest.TempPathFactory, serve: Callable[[Path], Served]) -> Served:
    """The invented atlas of the client's tests: units that are dead, failed, planned, absent."""
    location = tmp_path_factory.mktemp("invented") / "atlas"
    write_atlas(location)
    return serve(location)


@pytest.fixture(scope="module")
def chromium() -> Iterator[object]:
    """The browser, started once for the tests of a file. No longer: see `tests.chromium`."""
    with started() as browser:
        yield browser


@dataclass
class Tab:
    """A page of the browser, and what it complained of."""

    page: object
    complaints: list[str] = field(default_factory=list)
    saved: int = 0

    def open(self, link: str) -> None:
        """Go to a page and wait until it shows what it is for."""
        self.page.goto(link)
        self.shown()

    def shown(self, page: str | None = None) -> None:
        """Wait until the page, or one of that name, shows what it is for."""
        wanted = "html[data-useful]" if page is None else f'html[data-useful="{page}"]'
        self.page.wait_for_selector(wanted, state="attached")

    def visit(self, query: str) -> None:
        """Go to a state of the pages without loading them anew, as back and forward do."""
        self.page.evaluate(
            """query => {
              history.pushState({ scroll: 0 }, "", query);
              dispatchEvent(new PopStateEvent("popstate", { state: { scroll: 0 } }));
            }""",
            query,
        )

    def settled(self) -> None:
        """Wait until nothing of the page loads any more."""
        for busy in ("main [aria-busy=true]", "main .skeleton", "main [data-busy]"):
            self.page.locator(busy).first.wait_for(state="detached")

    @property
    def state(self) -> dict[str, str]:
        """What the address holds."""
        # Not `page.url`, which hears of a change only after a while.
        return dict(parse_qsl(self.page.evaluate("location.search").removeprefix("?")))


@pytest.fixture
def tab(chromium) -> Iterator[Tab]:
    """A window of 1280 x 900. The test fails where the page complains in the console, where a
    request leaves the machine, or where one is answered with an error that `tab.complaints` does
    not take back."""
    with _Window(chromium) as opened:
        yield opened
    assert opened.complaints == []


@pytest.fixture
def window(chromium) -> Iterator[Callable[..., Tab]]:
    """`window(width=400, color_scheme="dark")`: as `tab`, of another kind."""
    with ExitStack() as stack:
        opened = []

        def make(*, width: int = 1280, height: int = 900, **options: object) -> Tab:
            tab = stack.enter_context(_Window(chromium, width=width, height=height, **options))
            opened.append(tab)
            return tab

        yield make
    assert [complaint for tab in opened for complaint in tab.complaints] == []


class _Window:
    def __init__(self, chromium, *, width: int = 1280, height: int = 900, **options) -> None:
        self.context = new_context(
            chromium, viewport={"width": width, "height": height}, accept_downloads=True, **options
        )

    def __enter__(self) -> Tab:
        tab = Tab(self.context.new_page())

        def console(message) -> None:
            if message.type in ("error", "warning"):
                tab.complaints.append(f"{message.type}: {message.text}")

        def guard(route) -> None:
            if urlsplit(route.request.url).hostname == "127.0.0.1":
                route.continue_()
            else:
                tab.complaints.append(f"left the machine: {route.request.url}")
                route.abort()

        # As one who has seen it: a test of the tour takes this back.
        seen = "localStorage.setItem('circuit-atlas-tour', 'left')"
        tab.page.add_init_script(f"try {{ {seen} }} catch {{ /* a page that keeps nothing */ }}")
        tab.page.on("console", console)
        tab.page.on("pageerror", lambda error: tab.complaints.append(f"thrown: {error}"))
        self.context.route("**/*", guard)
        return tab

    def __exit__(self, *error: object) -> None:
        self.context.close()
