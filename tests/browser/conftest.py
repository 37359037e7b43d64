"""The report in a real Chromium: what it asks of the network, says in its console and draws."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import distribution
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import documents
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from lakescore import reporting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import ConsoleMessage, Locator, Route

Violations = Callable[[Page, int], list[tuple[Any, ...]]]
READY = "#comparison .content[data-ready=yes]"


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Start Debian's Chromium: Playwright brings the driver, and nothing is downloaded."""
    path = shutil.which("chromium")
    assert path, "the package chromium is missing; ./scripts/test.sh installs it where it may"
    expect.set_options(timeout=10_000)
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="session")
def violations() -> Violations:
    """Return a function that runs axe in a page, and returns the serious violations.

    More rules must hold than the number that it takes, so that axe saw a whole page.
    """
    shipped = distribution("axe-playwright-python").locate_file("axe_playwright_python/axe.min.js")
    axe = Path(str(shipped)).read_text(encoding="utf-8")

    def run_axe(page: Page, passes: int) -> list[tuple[Any, ...]]:
        page.evaluate(axe)
        results: dict[str, Any] = page.evaluate("axe.run({preload: false})")
        assert len(results["passes"]) > passes
        return [
            (violation["id"], node["target"], node["failureSummary"])
            for violation in results["violations"]
            if violation["impact"] in {"serious", "critical"}
            for node in violation["nodes"]
        ]

    return run_axe


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Write a page of each kind."""
    made = {
        "regression": documents.of_regression(),
        "classes": documents.of_classes(),
        "one": documents.of_regression(1),
        "many": documents.of_regression(120),
        "hostile": documents.of_regression(50, names=documents.HOSTILE),
    }
    folder = tmp_path_factory.mktemp("pages")
    return {
        name: reporting.save(reporting.page(document), folder / f"{name}.html")
        for name, document in made.items()
    }


@dataclass
class Reader:
    """A reader of one page, who notes what a page must not do."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def heads(self) -> list[str]:
        """Return the version list's headings, but for that of the boxes."""
        return [
            text.strip() for text in self.page.locator("table.versions thead th").all_inner_texts()
        ][1:]

    def lists(self, *versions: str) -> None:
        """Wait until the list holds these versions, in this order."""
        expect(self.page.locator("table.versions button.link")).to_have_text(list(versions))

    def column(self, name: str) -> list[str]:
        """Return what stands in a column of the version list: the first line of each cell."""
        place = self.heads().index(name) + 2
        cells = self.page.locator(f"table.versions tbody td:nth-child({place})")
        return [text.split("\n")[0].strip() for text in cells.all_inner_texts()]

    def chosen(self) -> dict[str, Any]:
        """Return the choices that stand in the page's address."""
        state: dict[str, Any] = json.loads(unquote(self.page.url.partition("#")[2]) or "{}")
        return state

    def card(self, title: str) -> Locator:
        """Return the card of the chart with that title."""
        return self.page.locator("figure.card").filter(
            has=self.page.locator("figcaption", has_text=title)
        )

    def ready(self) -> None:
        """Wait until the charts are drawn."""
        self.page.wait_for_selector(READY, state="attached")

    def saved(self, click: Callable[[], None]) -> bytes:
        """Return the file that a click downloads."""
        with self.page.expect_download() as download:
            click()
        return Path(download.value.path()).read_bytes()


@pytest.fixture
def reading(browser: Browser, pages: dict[str, Path]) -> Iterator[Callable[..., Reader]]:
    """Open a page as a reader; afterwards nothing was asked of a network and nothing complained."""
    readers = []

    def open_page(name: str, *, address: str = "", **context: Any) -> Reader:
        opened = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **context})
        opened.set_default_timeout(10_000)
        reader = Reader(opened.new_page())
        readers.append(reader)

        def refuse(route: Route) -> None:
            url = route.request.url
            if url.startswith(("file:", "data:", "blob:")):
                route.continue_()
            else:
                reader.asked.append(url)
                route.abort()

        def listen(message: ConsoleMessage) -> None:
            if message.type in {"error", "warning"}:
                reader.complaints.append(message.text)

        reader.page.route("**/*", refuse)
        reader.page.on("console", listen)
        reader.page.on("pageerror", lambda error: reader.complaints.append(str(error)))
        reader.page.goto(pages[name].as_uri() + address)
        reader.ready()
        return reader

    yield open_page
    for reader in readers:
        assert reader.complaints == []
        assert reader.asked == []
        assert reader.page.evaluate("window.ran") is None
        reader.page.context.close()
