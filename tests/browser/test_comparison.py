"""The comparison pane: its versions and charts are the reader's."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING

from playwright.sync_api import expect

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Reader

TITLES = [
    "rmse over the versions", "rmse: difference to the baseline",
    "rmse by slice, against the baseline",
    "Residuals", "Predictions", "Shift of predictions against the baseline's (PSI)",
    "Hyperparameters and metrics",
]  # fmt: skip


def titles(reader: Reader) -> list[str]:
    return [text.strip() for text in reader.page.locator("figcaption").all_inner_texts()]


def drawing(reader: Reader, title: str) -> str:
    """Return the marks of a chart, by the roles that Vega gives them."""
    drawn = reader.card(title).locator("svg").inner_html()
    return " ".join(sorted(set(re.findall(r"mark-(\w+)", drawn))))


def test_a_regression_is_drawn_whole(reading: Callable[..., Reader]) -> None:
    reader = reading("regression")
    assert titles(reader) == TITLES
    assert drawing(reader, "rmse over the versions") == "group line rule symbol text"
    assert "origin=JFK" in reader.card("rmse by slice").locator("svg").text_content()
    assert "origin=EWR *" in reader.card("rmse by slice").locator("svg").text_content()


def test_the_baseline_has_no_row_beside_differences_to_it(reading: Callable[..., Reader]) -> None:
    reader = reading("regression")
    for title in (
        "rmse: difference to the baseline",
        "rmse by slice, against",
        "Shift of predictio",
    ):
        drawn = reader.card(title).locator("svg").text_content() or ""
        assert ("v3" in drawn, "v2" in drawn, "v1" in drawn) == (True, True, False), title
    assert "v1" in (reader.card("Residuals").locator("svg").text_content() or "")


def test_the_ticks_of_one_version_are_its_value_and_interval(
    reading: Callable[..., Reader],
) -> None:
    drawn = reading("one").card("rmse over the versions").locator("svg")
    for tick in ("9.0", "10.0", "11.0"):
        expect(drawn).to_contain_text(tick)


def test_charts_follow_the_ticks_and_join_no_more_than_fifty_versions(
    reading: Callable[..., Reader],
) -> None:
    reader = reading("many")
    expect(reader.page.locator(".count")).to_have_text("120 of 120 versions · 3 selected")
    newest, best, champion = "v93", "v120", "v1"
    chips = reader.page.locator(".chip")
    expect(chips).to_have_text([re.compile(f"^{name} ") for name in (best, newest, champion)])
    first = reader.card("rmse over the versions").locator("svg")
    expect(first.locator(".mark-symbol path")).to_have_count(3)
    expect(first.locator(".mark-line path")).to_have_count(1)
    reader.page.get_by_label("compare all listed versions").check()
    expect(first.locator(".mark-symbol path")).to_have_count(120)
    expect(first.locator(".mark-line path")).to_have_count(0)


def test_cards_end_where_their_charts_end(reading: Callable[..., Reader]) -> None:
    reader = reading("regression")
    reader.page.wait_for_timeout(300)
    boxes = [card.bounding_box() for card in reader.page.locator("figure.card").all()]
    ends = [chart.bounding_box() for chart in reader.page.locator("figure.card .chart").all()]
    gaps = [
        box["y"] + box["height"] - end["y"] - end["height"]
        for box, end in zip(boxes, ends, strict=True)
        if box and end
    ]
    assert len(gaps) == len(TITLES)
    assert max(gaps) < 20
    for column in {box["x"] for box in boxes if box}:
        stack = sorted((b["y"], b["height"]) for b in boxes if b and b["x"] == column)
        holes = [y - top - height for (top, height), (y, _) in pairwise(stack)]
        assert max(holes) < 24


def test_a_classification_has_curves_calibration_scores_and_matrices(
    reading: Callable[..., Reader],
) -> None:
    reader = reading("classes")
    assert {
        "ROC curve", "Precision and recall", "Calibration", "Confusion matrices",
        "Scores, of rows of the class and of others",
    } < set(titles(reader))  # fmt: skip
    matrices = reader.card("Confusion matrices").locator("svg").text_content()
    assert matrices.count("90%") == 4
    assert re.findall(r"v\d", matrices) == ["v2", "v1"]  # best first, as in the list
    assert "false positive rate" in reader.card("ROC curve").locator("svg").text_content()
    flips = reader.page.locator("#troubles table").inner_text()
    assert re.search(r"v2\s+1\s+ValueError: 1|v2\s+0\s+0\.02\s+40\s+4 %\s+30\s+10", flips)


def test_kind_axes_colour_and_title_of_a_chart_are_changed_and_kept(
    reading: Callable[..., Reader],
) -> None:
    reader = reading("regression")
    card = reader.page.locator("figure.card").first
    card.get_by_role("button", name="edit rmse over the versions").click()
    card.get_by_label("Kind", exact=True).select_option("bar")
    expect(card.locator("svg .mark-rect path")).to_have_count(3)
    card.get_by_label("X axis", exact=True).select_option("tag:kind")
    card.get_by_label("Y axis", exact=True).select_option("metric:mae")
    card.get_by_label("Colour", exact=True).select_option("param:depth")
    expect(card.locator("figcaption")).to_have_text("mae by kind")
    expect(card.locator("svg")).to_contain_text("boosting")
    card.get_by_role("textbox", name="Title").fill("Error by <b>kind</b>")
    expect(card.locator("figcaption")).to_have_text("Error by <b>kind</b>")
    expect(reader.page).to_have_url(re.compile("Error"))
    chart = reader.chosen()["charts"][0]
    assert {key: chart[key] for key in ("kind", "x", "y", "colour", "title")} == {
        "kind": "bar", "x": "tag:kind", "y": "metric:mae", "colour": "param:depth",
        "title": "Error by <b>kind</b>",
    }  # fmt: skip
    reader.page.reload()
    reader.ready()
    assert titles(reader)[0] == "Error by <b>kind</b>"
    assert "boosting" in reader.card("Error by").locator("svg").text_content()


def test_versions_are_drawn_as_every_kind(reading: Callable[..., Reader]) -> None:
    reader = reading("regression")
    card = reader.page.locator("figure.card").first
    card.get_by_role("button", name=re.compile("^edit")).click()
    for kind, mark in {
        "bar": "rect", "scatter": "symbol", "box": "rect", "parallel": "line", "line": "line",
    }.items():  # fmt: skip
        card.get_by_label("Kind", exact=True).select_option(kind)
        if kind == "parallel":
            for name in ("depth", "rmse", "kind"):
                card.locator(".dimensions").get_by_label(name, exact=True).check()
        expect(card.locator(f"svg .mark-{mark}").first).to_be_attached()
        expect(card.locator(".bad")).to_have_count(0)


def test_a_kind_that_lacks_a_column_says_what_to_choose(reading: Callable[..., Reader]) -> None:
    reader = reading("regression")
    card = reader.page.locator("figure.card").first
    card.get_by_role("button", name=re.compile("^edit")).click()
    card.get_by_label("Kind", exact=True).select_option("heat")
    expect(card.locator(".chart")).to_have_text("Choose a column for the colour of the heat map.")
    card.get_by_label("Colour", exact=True).select_option("metric:rmse")
    expect(card.locator("svg")).to_be_attached()


def test_charts_are_added_and_removed(reading: Callable[..., Reader]) -> None:
    reader = reading("regression")
    reader.page.get_by_label("Charts").select_option(label="rmse over the slices")
    expect(reader.page.locator("figcaption")).to_have_count(len(TITLES) + 1)
    reader.page.get_by_label("Charts").select_option(label="A chart of your own")
    expect(reader.page.locator("figcaption")).to_have_count(len(TITLES) + 2)
    expect(reader.page.get_by_role("textbox", name="Title")).to_be_visible()
    for _ in range(len(TITLES) + 2):
        reader.page.get_by_role("button", name=re.compile("^remove ")).first.click()
    assert titles(reader) == []
    assert reader.chosen()["charts"] == []


def test_only_selected_versions_are_compared(reading: Callable[..., Reader]) -> None:
    reader = reading("regression")
    reader.page.get_by_label("leave v2 out of the comparison").click()
    reader.ready()
    expect(reader.card("Residuals").locator("svg")).not_to_contain_text("v2")
    expect(reader.card("Residuals").locator("svg")).to_contain_text("v3")
    assert "v2" not in reader.page.locator("#metrics thead").inner_text()
    assert "v2" not in reader.page.locator("#differences thead").inner_text()
    reader.page.get_by_role("button", name="Clear").click()
    expect(reader.card("Residuals")).to_contain_text("Select versions in the list.")
    reader.page.get_by_label("compare all listed versions").check()
    expect(reader.card("Residuals").locator("svg")).to_contain_text("v2")


def test_a_chart_is_saved_as_svg_png_and_csv(reading: Callable[..., Reader]) -> None:
    reader = reading("regression")

    def save(kind: str) -> bytes:
        name = f"download rmse over the versions as {kind}"
        return reader.saved(reader.page.get_by_role("button", name=name).click)

    assert save("SVG").startswith(b"<svg")
    assert b"rmse" in save("SVG")
    png = save("PNG")
    assert (png[:8], len(png) > 5000) == (b"\x89PNG\r\n\x1a\n", True)
    assert save("CSV").decode("utf-8-sig").splitlines() == [
        'model version,version,rmse,"rmse, low","rmse, high"',
        "flight-delay/3,3,10,9,11",
        "flight-delay/2,2,11,10,12",
        "flight-delay/1,1,12,11,13",
    ]


def test_signatures_hyperparameters_and_tags_are_held_side_by_side(
    reading: Callable[..., Reader],
) -> None:
    reader = reading("regression")
    part = reader.page.locator("#differences")
    text = part.inner_text()
    assert "compatible v3 in place of flight-delay/1: the signatures are equal" in text
    table = part.locator("table").inner_text()
    assert re.search(r"depth\s+4\s+5\s+6", table)
    assert re.search(r"carrier\s+\N{EN DASH}\s+double\s+double", table)
    assert "team" not in table
    part.get_by_label("Differences only").uncheck()
    assert re.search(r"team\s+ops\s+ops\s+ops", part.locator("table").inner_text())
    csv = reader.saved(part.get_by_label("download the differences as CSV").click)
    assert "Tags,team,ops,ops,ops" in csv.decode("utf-8-sig").splitlines()


def test_metrics_of_own_rows_and_of_slices_and_failures_are_there(
    reading: Callable[..., Reader],
) -> None:
    reader = reading("regression")
    metrics = reader.page.locator("#metrics")
    assert re.search(r"rmse\s+10\.0\s+9\.0 to 11\.0\s+11", metrics.inner_text())
    metrics.get_by_label("Over the").select_option("own")
    assert "the columns cannot be compared" in metrics.inner_text()
    slices = reader.page.locator("#slices")
    assert re.search(r"origin=EWR\s+few rows\s+90", slices.inner_text())
    assert "ValueError: 2" in reader.page.locator("#troubles").inner_text()
    assert "/lake/disagreements" in reader.page.locator("#troubles").inner_text()
