"""The version list: its columns, order, filters and search are the reader's."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Reader


def test_columns_of_every_group_are_chosen(reading: Callable[..., Reader]) -> None:
    reader = reading("regression")
    assert reader.heads()[:4] == ["version", "rank", "aliases", "rmse"]
    reader.page.get_by_text("Columns (", exact=False).click()
    assert reader.page.locator(".groups legend").all_inner_texts() == [
        "Properties", "Metrics", "Metrics as stored", "Tags", "Hyperparameters",
    ]  # fmt: skip
    for name in ("depth", "team", "training_rmse", "digest"):
        reader.page.get_by_label(name, exact=True).check()
    reader.page.get_by_label("aliases", exact=True).uncheck()
    heads = reader.heads()
    assert heads[-4:] == ["depth", "team", "training_rmse", "digest"]
    assert "aliases" not in heads
    assert reader.column("depth") == ["4", "5", "6"]
    reader.page.get_by_label("none of Metrics", exact=True).click()
    assert "rmse" not in reader.heads()


def test_a_head_sorts_by_its_column_and_by_several_with_shift(
    reading: Callable[..., Reader],
) -> None:
    reader = reading("regression")
    assert reader.column("version") == ["v3", "v2", "v1"]
    reader.page.locator("th[data-key='property:version']").click()
    reader.lists("v1", "v2", "v3")
    reader.page.locator("th[data-key='metric:rmse']").click()
    reader.lists("v3", "v2", "v1")
    reader.page.locator("th[data-key='metric:rmse']").click()
    reader.lists("v1", "v2", "v3")
    assert reader.column("rmse") == ["12.0", "11.0", "10.0"]
    assert reader.chosen()["sort"] == [["metric:rmse", "desc"]]
    reader.page.locator("th[data-key='metric:mae']").click(modifiers=["Shift"])
    expect(reader.page.locator("th[data-key='metric:mae']")).to_have_class(
        re.compile("dt-ordering-asc")
    )
    assert reader.chosen()["sort"] == [["metric:rmse", "desc"], ["metric:mae", "asc"]]


def test_versions_without_a_value_come_last_whichever_the_direction(
    reading: Callable[..., Reader],
) -> None:
    reader = reading("regression")
    head = reader.page.locator("th[data-key='property:difference']")
    name = head.inner_text().strip()
    head.click()
    reader.lists("v3", "v2", "v1")
    assert reader.column(name) == ["-1.00", "-0.50", "\N{EN DASH}"]
    head.click()
    reader.lists("v2", "v3", "v1")
    assert reader.column(name) == ["-0.50", "-1.00", "\N{EN DASH}"]


def test_filters_take_ranges_comparisons_and_texts(reading: Callable[..., Reader]) -> None:
    reader = reading("regression")
    reader.page.get_by_text("Filters", exact=True).click()
    reader.page.get_by_text("Add a filter").click()
    reader.page.get_by_label("Column", exact=True).select_option("metric:rmse")
    condition = reader.page.get_by_label("condition", exact=True)
    for text, left in {
        "10.5..11.5": ["v2"], "< 12": ["v3", "v2"], ">= 11 and <= 12": ["v2", "v1"],
        "= 10 or = 12": ["v3", "v1"], "!= 11": ["v3", "v1"], "empty": [], "": ["v3", "v2", "v1"],
    }.items():  # fmt: skip
        condition.fill(text)
        reader.lists(*left)
    reader.page.get_by_label("Column", exact=True).select_option("tag:kind")
    condition.fill("forest or boost")
    reader.lists("v2", "v1")
    condition.fill("= 'forest and boost' or \"linear\"")  # no version is of such a kind
    reader.lists("v3")
    reader.page.get_by_role("button", name="Remove", exact=True).click()
    assert len(reader.column("version")) == 3


def test_the_search_looks_into_columns_that_are_not_shown(reading: Callable[..., Reader]) -> None:
    reader = reading("regression")
    reader.page.get_by_label("search versions").fill("Forest ops")
    reader.lists("v2")
    assert "1 of 3 versions" in reader.page.locator(".count").inner_text()


def test_differences_only_hides_what_the_shown_versions_have_in_common(
    reading: Callable[..., Reader],
) -> None:
    reader = reading("regression")
    reader.page.get_by_text("Columns (", exact=False).click()
    reader.page.get_by_label("all Tags", exact=True).click()
    assert {"team", "kind"} < set(reader.heads())
    reader.page.locator("#versions").get_by_label("Differences only").check()
    assert "team" not in reader.heads()
    assert "kind" in reader.heads()
    reader.page.get_by_label("search versions").fill("forest")
    reader.lists("v2")
    assert {"team", "kind"} < set(reader.heads())


def test_all_choices_stand_in_the_address_and_come_back_with_it(
    reading: Callable[..., Reader],
) -> None:
    reader = reading("regression")
    reader.page.get_by_text("Columns (", exact=False).click()
    reader.page.get_by_label("depth", exact=True).check()
    reader.page.get_by_label("compare version v1", exact=True).uncheck()
    reader.page.locator("th[data-key='property:version']").click()
    reader.lists("v1", "v2", "v3")
    reader.page.get_by_label("search versions").fill("ops")
    expect(reader.page).to_have_url(re.compile("search"))
    heads, rows, address = reader.heads(), reader.column("rmse"), reader.page.url
    reader.page.reload()
    reader.ready()
    assert rows == ["12.0", "11.0", "10.0"]
    assert (reader.page.url, reader.heads(), reader.column("rmse")) == (address, heads, rows)
    assert reader.page.get_by_label("search versions").input_value() == "ops"
    assert not reader.page.get_by_label("compare version v1", exact=True).is_checked()
    reader.page.get_by_label("forget all choices").click()
    assert reader.chosen() == {}
    assert reader.page.get_by_label("compare version v1", exact=True).is_checked()


@pytest.mark.parametrize(
    "address",
    [
        "#%7Bno json",
        '#{"columns":["metric:rmse","metric:gone"],"sort":[["gone","asc"]],"filters":{}}',
        '#{"selected":["gone"],"charts":[{"source":"gone"},null],"theme":"pink","__proto__":{}}',
    ],
)
def test_what_an_address_says_that_the_page_does_not_know_is_left_out(
    reading: Callable[..., Reader], address: str
) -> None:
    reader = reading("regression", address=address)
    assert reader.column("version") == ["v3", "v2", "v1"]
    assert reader.column("rmse") == ["10.0", "11.0", "12.0"]


def test_the_list_is_saved_as_csv_as_it_is_shown(reading: Callable[..., Reader]) -> None:
    reader = reading("regression")
    text = reader.saved(reader.page.get_by_label("download the list as CSV").click).decode("utf-8")
    lines = text.removeprefix("\ufeff").splitlines()
    assert lines[0].startswith('model,version,rank,aliases,rmse,"rmse, low","rmse, high"')
    assert lines[1].startswith("flight-delay,3,1,,10,9,11,-1,-1.25,-0.75")
    assert len(lines) == 4
