"""The page as a whole: theme, keyboard, phone, print, accessibility, and names that mean harm."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import documents
import pytest
from playwright.sync_api import expect

from lakescore import reporting

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Reader, Violations
    from playwright.sync_api import Page

PHONE = {"width": 390, "height": 844}


def unfold(page: Page) -> None:
    """Open all parts of the page, as it is on a phone."""
    while (shut := page.locator(".fold[aria-expanded=false]")).count():
        shut.first.click()


def ground(reader: Reader) -> str:
    return str(reader.page.evaluate("getComputedStyle(document.body).backgroundColor"))


def test_the_verdict_gates_lineage_and_how_to_repeat_it_stand_in_the_page(
    reading: Callable[..., Reader],
) -> None:
    reader = reading("regression")
    assert reader.page.locator("h1").inner_text().startswith("flight-delay/3 beats the champion")
    reader.page.get_by_text("On what data, and how sure").click()
    reader.page.get_by_text("The loss of rmse in all 3 slices").click()
    text = reader.page.locator("main").inner_text()
    for part in (
        "9,001 labelled rows of /lake/flight-delay/holdout at version 3",
        "rmse must be at most 12: it is 10 (9 to 11.5)", "digest 5eed", "0123abcd",
        "rmse must not rise by more than 0.5 in any slice", "fewer than 100 rows",
        "models:/flight-delay/1",
        "./spark-submit.sh compare again.yaml",
    ):  # fmt: skip
        assert part in text


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_theme_is_the_systems_until_the_reader_chooses(
    reading: Callable[..., Reader], scheme: str
) -> None:
    light, dark = "rgb(247, 248, 250)", "rgb(17, 19, 23)"
    reader = reading("regression", color_scheme=scheme)
    assert ground(reader) == {"light": light, "dark": dark}[scheme]
    toggle = reader.page.locator("#theme")
    toggle.click()
    assert (toggle.inner_text(), ground(reader)) == ("Theme: light", light)
    toggle.click()
    assert (toggle.inner_text(), ground(reader)) == ("Theme: dark", dark)
    reader.page.reload()
    reader.ready()
    assert ground(reader) == dark


def test_versions_are_compared_with_the_keyboard_alone(reading: Callable[..., Reader]) -> None:
    reader = reading("regression")
    keyboard = reader.page.keyboard

    def tab_to(selector: str) -> None:
        for _ in range(80):
            keyboard.press("Tab")
            focused = reader.page.evaluate("s => document.activeElement.matches(s)", selector)
            if focused:
                return
        raise AssertionError(selector)

    tab_to("summary")
    tab_to(".panel summary")
    keyboard.press("Enter")
    tab_to("input[data-column='property:aliases']")
    keyboard.press("Space")
    assert "aliases" not in reader.heads()
    tab_to("th[data-key='property:version'] [role=button], th[data-key='property:version']")
    keyboard.press("Enter")
    expect(reader.page).to_have_url(re.compile("sort"))
    reader.lists("v1", "v2", "v3")
    tab_to("input[data-uri='models:/flight-delay/1']")
    keyboard.press("Space")
    expect(reader.page.locator(".count")).to_contain_text("2 selected")
    tab_to("button.link")
    keyboard.press("Enter")
    expect(reader.page.locator("dialog h2")).to_have_text("flight-delay/1")
    keyboard.press("Escape")
    expect(reader.page.locator("dialog")).to_have_count(0)
    tab_to("figure.card button")
    keyboard.press("Enter")
    tab_to("figure.card select")
    expect(reader.page.locator(".editor")).to_be_visible()


def test_the_details_of_a_version_tell_all_that_is_known(reading: Callable[..., Reader]) -> None:
    reader = reading("regression")
    reader.page.get_by_role("button", name="details of version v2").click()
    text = reader.page.locator("dialog").inner_text()
    for part in ("sha256:", "skops", "depth\n5", "training_rmse\n10", "MLmodel", "distance"):
        assert part in text


@pytest.mark.parametrize("name", ["regression", "classes", "hostile"])
def test_a_phone_shows_the_page_without_scrolling_sideways(
    reading: Callable[..., Reader], name: str
) -> None:
    reader = reading(name, viewport=PHONE, device_scale_factor=2)
    assert reader.page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    reader.page.locator(".gates summary").click()  # the losses of all slices
    assert reader.page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    unfold(reader.page)
    reader.page.get_by_role("button", name=re.compile("^edit ")).first.click()
    for panel in reader.page.locator("details.panel > summary").all():
        panel.click()
        assert reader.page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    reader.page.locator("button.link").first.click()
    assert reader.page.locator("dialog").bounding_box()["width"] <= PHONE["width"]  # type: ignore[index]


def test_on_a_phone_versions_are_cards_and_the_other_parts_are_folded(
    reading: Callable[..., Reader],
) -> None:
    reader = reading("regression", viewport=PHONE)
    page = reader.page
    long = "document.documentElement.scrollHeight"
    folded = page.evaluate(long)
    cards = page.locator("table.versions tbody tr")
    expect(cards).to_have_count(3)
    expect(cards.first).to_contain_text("v3")
    expect(cards.first.locator("td[data-label=rmse]")).to_have_text("10.09.0 to 11.0")
    expect(page.locator("#metrics table")).to_be_hidden()
    page.get_by_label("parts of the page").get_by_role("button", name="Metrics").click()
    expect(page.locator("#metrics table")).to_be_visible()
    expect(page.get_by_role("button", name="Metrics", expanded=True)).to_be_visible()
    unfold(page)
    page.wait_for_timeout(500)
    assert folded < page.evaluate(long) / 3
    page.get_by_label("Sort", exact=True).select_option(label="version ↑")
    expect(page.locator("table.versions button.link")).to_have_text(["v1", "v2", "v3"])
    page.set_viewport_size({"width": 1280, "height": 900})
    expect(page.locator(".fold")).to_have_count(0)
    expect(page.locator("#slices table")).to_be_visible()


@pytest.mark.parametrize(
    ("name", "scheme"), [("regression", "light"), ("regression", "dark"), ("classes", "light")]
)
def test_axe_finds_nothing_serious(
    reading: Callable[..., Reader], violations: Violations, name: str, scheme: str
) -> None:
    reader = reading(name, color_scheme=scheme, bypass_csp=True)
    reader.page.get_by_role("button", name=re.compile("^edit ")).first.click()
    reader.page.get_by_text("Columns (", exact=False).click()
    assert violations(reader.page, 20) == []


def test_names_that_mean_harm_are_names(reading: Callable[..., Reader]) -> None:
    reader = reading("hostile")
    assert len(reader.column("version")) == 50
    reader.page.get_by_text("Columns (", exact=False).click()
    for group in ("Metrics", "Tags", "Hyperparameters"):
        reader.page.get_by_label(f"all {group}", exact=True).click()
    keys = {head.get_attribute("data-key") for head in reader.page.locator("thead th").all()}
    for name in documents.HOSTILE:
        assert {f"metric:{name}", f"tag:{name}", f"param:{name}"} <= keys
    assert reader.page.locator("table.versions img, table.versions script").count() == 0
    assert reader.page.evaluate("Object.prototype.columns") is None
    assert reader.page.evaluate("document.documentElement.scrollWidth") == 1280
    reader.page.get_by_label("search versions").fill("two\tlines __proto__")
    expect(reader.page).to_have_url(re.compile("__proto__"))
    reader.page.reload()
    reader.ready()
    assert len(reader.column("version")) == 50
    assert {
        head.get_attribute("data-key") for head in reader.page.locator("thead th").all()
    } == keys


def test_charts_of_names_that_mean_harm_are_drawn(reading: Callable[..., Reader]) -> None:
    reader = reading("hostile")
    card = reader.page.locator("figure.card").first
    card.get_by_role("button", name=re.compile("^edit")).click()
    for name in documents.HOSTILE:
        card.get_by_label("Y axis", exact=True).select_option(f"metric:{name}")
        card.get_by_label("X axis", exact=True).select_option(f"param:{name}")
        card.get_by_label("Colour", exact=True).select_option(f"tag:{name}")
        expect(card.locator("svg").first).to_be_attached()
    reader.ready()
    expect(card.locator(".bad")).to_have_count(0)
    assert reader.page.evaluate("document.documentElement.scrollWidth") == 1280


@pytest.mark.parametrize("kind", ["bar", "line", "scatter", "box"])
def test_values_that_are_names_of_every_object_are_drawn(
    reading: Callable[..., Reader], kind: str
) -> None:
    """Vega stacks bars in an object by their category's text, and every object has a constructor.

    The reader ends the test with an error where the console has one.
    """
    reader = reading("hostile")
    card = reader.page.locator("figure.card").first
    card.get_by_role("button", name=re.compile("^edit")).click()
    card.get_by_label("Kind", exact=True).select_option(kind)
    for label in ("X axis", "Colour", "Split by"):
        card.get_by_label(label, exact=True).select_option("property:run_name")
        expect(card.locator("svg").first).to_be_attached()
        reader.ready()
        expect(card.locator(".bad")).to_have_count(0)


def test_every_choice_of_a_reader_takes_names_that_mean_harm(
    reading: Callable[..., Reader],
) -> None:
    reader = reading("hostile")
    script, img = documents.HOSTILE[:2]
    page = reader.page
    page.get_by_text("Columns (", exact=False).click()
    page.get_by_label("all Metrics", exact=True).click()
    head = page.locator("th[data-key^='metric:<img']")
    head.click()  # its values, like those of every metric, are higher the lower the version
    expect(head).to_have_class(re.compile("dt-ordering-asc"))
    assert reader.column("version")[:2] == ["v50", "v49"]
    page.get_by_text("Filters", exact=True).click()
    page.get_by_text("Add a filter").click()
    page.get_by_label("Column", exact=True).select_option(f"tag:{script}")
    page.get_by_label("condition", exact=True).fill(f"= {script} 7")
    reader.lists("v43")
    assert "1 of 50 versions" in page.locator(".count").inner_text()
    card = page.locator("figure.card").first
    card.get_by_role("button", name=re.compile("^edit")).click()
    for kind in ("bar", "scatter", "box"):
        card.get_by_label("Kind", exact=True).select_option(kind)
        card.get_by_label("X axis", exact=True).select_option(f"tag:{script}")
        card.get_by_label("Y axis", exact=True).select_option(f"metric:{img}")
        expect(card.locator("svg").first).to_be_attached()
        expect(card.locator(".bad")).to_have_count(0)
    card.get_by_role("textbox", name="Title").fill(img)
    expect(card.locator("figcaption")).to_have_text(img)
    expect(page).to_have_url(re.compile("onerror"))
    page.reload()
    reader.ready()
    reader.lists("v43")
    expect(page.locator("figure.card figcaption").first).to_have_text(img)
    assert page.evaluate("document.documentElement.scrollWidth") == 1280


def test_no_cell_of_a_csv_file_is_a_formula(reading: Callable[..., Reader]) -> None:
    reader = reading("hostile")
    reader.page.get_by_label("compare all listed versions").check()
    reader.page.locator("#differences").get_by_label("Differences only").uncheck()
    part = reader.page.locator("#differences").get_by_label("download the differences as CSV")
    text = reader.saved(part.click).decode("utf-8-sig")
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert {len(row) for row in rows} == {2 + 12}
    cells = [cell for row in rows for cell in row]
    assert [cell for cell in cells if cell.lstrip()[:1] in {"=", "+", "@"}] == []
    assert "'@SUM(1+1)" in cells
    assert "two\nlines\r\nand\ttabs" in cells


def test_a_summary_and_the_address_are_copied(reading: Callable[..., Reader]) -> None:
    reader = reading("regression", permissions=["clipboard-read", "clipboard-write"])
    page = reader.page
    page.get_by_role("button", name="Copy as Markdown").click()
    expect(page.locator(".share")).to_contain_text("Copied")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == reporting.summary(documents.of_regression())
    page.get_by_label("search versions").fill("forest")
    expect(page).to_have_url(re.compile("forest"))
    page.get_by_role("button", name="Copy link").click()
    expect(page.locator(".share")).to_contain_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == page.url


def test_paper_has_all_of_a_chart_and_the_notes(reading: Callable[..., Reader]) -> None:
    reader = reading("regression", viewport={"width": 703, "height": 1000})
    page = reader.page
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    expect(page.locator(".note p").first).to_be_visible()
    for box in page.locator("figure.card .chart").all():
        fits = "n => n.querySelector('svg').getBoundingClientRect().width <= n.clientWidth + 1"
        assert box.evaluate(fits)
    assert page.evaluate("document.documentElement.scrollWidth") == 703
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    expect(page.locator(".note p").first).to_be_hidden()


def test_print_shows_tables_whole_and_no_controls(reading: Callable[..., Reader]) -> None:
    reader = reading("regression")
    reader.page.emulate_media(media="print")
    for hidden in (".bar", ".tools", ".share", ".card .actions", ".command button"):
        expect(reader.page.locator(hidden).first).to_be_hidden()
    assert (
        reader.page.locator(".scroll").first.evaluate("n => getComputedStyle(n).maxHeight")
        == "none"
    )
    expect(reader.card("Residuals").locator("svg")).to_be_visible()


def test_numbers_sizes_and_times_are_written_as_the_commands_write_them(
    reading: Callable[..., Reader],
) -> None:
    table = Path(__file__).parents[1] / "notation.json"
    cases = json.loads(table.read_text(encoding="utf-8"))
    written = reading("regression").page.evaluate(
        """cases => cases.map(([name, values]) => notation[name](...values.map(
          value => ["NaN", "Infinity", "-Infinity"].includes(value) ? Number(value) : value)))""",
        cases,
    )
    assert written == [text for _, _, text in cases]


def test_a_time_is_in_utc_and_the_readers_own_time_is_its_tip(
    reading: Callable[..., Reader],
) -> None:
    reader = reading("regression", timezone_id="Asia/Tokyo", locale="en-US")
    made = reader.page.locator("#lineage time").first
    assert made.inner_text() == "2026-01-01 06:00 UTC"
    assert made.get_attribute("title") == "Jan 1, 2026, 03:00 PM GMT+9"
