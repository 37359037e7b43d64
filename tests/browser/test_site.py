"""The documentation site in a real Chromium: from files, phone and desktop, light and dark."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect
from sites import PYTHON, make_site

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from conftest import Violations
    from playwright.sync_api import Browser, ConsoleMessage, Page

PAGES = ("index", "docs/tasks/trouble", "commands/score", "api/registry", "docs/reference",
         "README", "docs/benchmark/README", "search")  # fmt: skip
pytestmark = [
    pytest.mark.skipif(
        not PYTHON.exists(), reason="scripts/tools.sh site installs the tools of the site"
    ),
    pytest.mark.wide,  # it makes the site, as tests/e2e/test_site.py does
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of all versions of the site."""
    return make_site(tmp_path_factory)


@pytest.fixture
def opening(browser: Browser, site: Path) -> Iterator[Callable[..., Page]]:
    """Open a page of the site; afterwards only files were asked for, and nothing complained."""
    strangers: list[str] = []
    complaints: list[str] = []

    def listen(message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            complaints.append(message.text)

    def open_page(path: str, *, width: int, scheme: str) -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme="dark" if scheme == "dark" else "light",
        )
        page = context.new_page()
        page.on("console", listen)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: strangers.append(request.url))
        page.goto((site / path).as_uri())
        return page

    yield open_page
    assert [url for url in strangers if not url.startswith(("file:", "data:"))] == []
    assert complaints == []


# A page's layout depends on the width alone, and its colours on the scheme alone.
@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light")])
def test_everybody_can_read_the_pages(
    opening: Callable[..., Page], violations: Violations, width: int, scheme: str
) -> None:
    for path in ("index.html", *(f"unreleased/{name}.html" for name in PAGES)):
        page = opening(path, width=width, scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        red = page.evaluate("getComputedStyle(document.body).color.match(/\\d+/)[0]")
        assert ("dark" if int(red) > 127 else "light") == scheme, path  # the text's own colour
        assert violations(page, 10) == [], path
        page.context.close()


def test_the_search_finds_a_page_and_its_reader_goes_there(opening: Callable[..., Page]) -> None:
    page = opening("unreleased/index.html", width=1280, scheme="light")
    page.get_by_label("Search").fill("max_error_fraction")
    page.keyboard.press("Enter")
    found = page.locator("#search-results").get_by_role("link", name="lakescore score").first
    expect(found).to_be_visible()
    found.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("lakescore score")


def test_a_reader_on_a_phone_opens_the_navigation_and_the_other_versions(
    opening: Callable[..., Page],
) -> None:
    page = opening("unreleased/docs/tasks/score.html", width=390, scheme="light")
    link = page.get_by_role("link", name="all versions")
    expect(link).not_to_be_in_viewport()
    page.locator("label.nav-overlay-icon").first.click()
    expect(link).to_be_in_viewport()
    link.click()
    expect(page.get_by_role("link", name="unreleased")).to_be_visible()
