"""The report in the frame in which a notebook shows it."""

from __future__ import annotations

import documents
from playwright.sync_api import Browser, expect

from lakescore import reporting
from lakescore.interface.results import framed


def test_a_notebook_shows_the_whole_report_without_network(browser: Browser) -> None:
    page = browser.new_page()
    requests: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.set_content(framed(reporting.page(documents.of_regression())))
    frame = page.frame_locator("iframe")
    expect(frame.locator("#comparison .content[data-ready=yes]")).to_be_visible()
    expect(frame.locator("figure svg").first).to_be_visible()
    assert errors == []
    assert requests == []
    page.close()
