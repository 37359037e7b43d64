"""The page of a model's drift: what it asks of the network, says in its console, and shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from lakescore import reporting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page

DAYS = [f"2013-12-{day:02}" for day in range(1, 32)]
HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "__proto__",
    "a'];alert(1);//",
    "\u202ereversed",
    "x" * 2000,
]


def point(day: str, *, alarm: bool) -> dict[str, Any]:
    value = 0.4 if alarm else 0.05
    return {"slice": day, "model_version": 3, "value": value, "chance": 0.1, "alarm": alarm}


def make_document(names: list[str], days: list[str] = DAYS) -> dict[str, Any]:
    """Return a document in which every column alarms on the last day."""
    columns = [
        {
            "name": name, "role": "feature", "alarms": 1,
            "points": [point(day, alarm=day == days[-1]) for day in days],
        }
        for name in names
    ]  # fmt: skip
    alarms = [
        {
            "slice": days[-1], "model_version": 3, "scoring_run_id": "0f3b", "column": name,
            "role": "feature", "segment_by": "origin", "segment": name, "value": 0.4, "low": 0.35,
            "high": 0.45, "chance": 0.1, "adjusted_p_value": 0.003, "rows": 900,
            "explained_by": "slices", "changes": [f"{name}: 12 % (baseline 3 %)"],
        }
        for name in names
    ]  # fmt: skip
    bins = [{"label": name, "baseline": 0.3, "now": 0.7} for name in names]
    distributions = [{"column": name, "slice": days[-1], "bins": bins} for name in names]
    return {
        "format": "lakescore-drift/1", "made_at": "2026-12-01T06:00:00+00:00",
        "model": "flight-delay", "verdict": "1 of 31 slices alarm.", "level": 0.05,
        "baseline": "/lake/training at version 3", "explained_by": "slices", "slices": days,
        "columns": columns, "alarms": alarms, "more_alarms": 0,
        "fixed_limits": {"0.1": 31, "0.25": 7}, "distributions": distributions,
        "quality": {
            "metric": "rmse", "table": f"/lake/{names[0]}_quality", "labels": f"{names[0]}@7",
            "points": [
                {"slice": day, "model_version": 3 + n % 2, "rows": 900, "labelled_rows": 880 - n,
                 "labelled_share": 0.97, "final": n < len(days) - 1, "value": 40.0 + n,
                 "low": 38.0 + n, "high": 42.0 + n}
                for n, day in enumerate(days)
            ],
        },
        "receipt": {
            "left_out": {"embedding": "it is array<double>"},
            "gates": {"mode": "dry_run", "passed": False, "failures": ["temp alarms"]},
            "output": {"table": "/lake/drift", "profile": "/lake/drift_profile"},
            "predictions": {"table": "/lake/predictions", "version": 4},
        },
    }  # fmt: skip


@pytest.fixture
def opened(browser: Browser, tmp_path: Path) -> Iterator[Callable[..., Page]]:
    """Open the page of a document; at the end, it must have asked and said nothing."""
    said: list[str] = []
    contexts = []

    def open_page(document: dict[str, Any], **options: Any) -> Page:
        file = reporting.write_drift(document, tmp_path)
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on(
            "request",
            lambda request: (
                said.append(request.url) if not request.url.startswith("file:") else None
            ),
        )
        page.goto(file.as_uri())
        return page

    yield open_page
    assert said == []
    for context in contexts:
        context.close()


def test_the_first_sentence_and_the_alarms_are_read_without_a_script(
    opened: Callable[..., Page],
) -> None:
    page = opened(make_document(["temp", "wind"]), java_script_enabled=False)
    assert page.get_by_role("heading", level=1).inner_text() == "1 of 31 slices alarm."
    alarms = page.get_by_role("region", name="alarms").get_by_role("row")
    assert alarms.count() == 3
    assert "temp: 12 % (baseline 3 %)" in alarms.nth(1).inner_text()
    cells = page.get_by_role("region", name="columns by slice").locator(".cell.alarm")
    assert cells.count() == 2
    assert page.get_by_text("a fixed limit of 0.25 for the PSI would alarm in 7 of 31").is_visible()
    assert page.get_by_text("is not monitored: it is array<double>").is_visible()
    quality = page.get_by_role("region", name="quality", exact=True).get_by_role("row")
    newest = quality.nth(1).inner_text()
    assert newest.startswith(DAYS[-1])
    assert "not final" in newest
    assert quality.count() == 1 + len(DAYS)
    # two distributions, the quality, and all columns over time
    assert page.locator("svg[role=img]").count() == 4


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(
    opened: Callable[..., Page], violations: Any, scheme: Any
) -> None:
    page = opened(make_document(["temp", "wind"]), color_scheme=scheme, bypass_csp=True)
    assert violations(page, 15) == []


def test_names_that_mean_harm_are_names(opened: Callable[..., Page]) -> None:
    page = opened(make_document(HOSTILE))
    for name in HOSTILE[:4]:
        assert page.get_by_role("rowheader").filter(has_text=name).count() >= 1
    assert page.locator("img").count() == 0
    assert page.locator("svg").filter(has_text="<img src=x").count() >= 1  # as a text


def test_a_phone_scrolls_down_only(opened: Callable[..., Page]) -> None:
    page = opened(make_document(["temp", "wind"]), viewport={"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_one_slice_needs_no_drawing_over_time(opened: Callable[..., Page]) -> None:
    page = opened(make_document(["temp"], ["2013-12-31"]))
    assert page.get_by_text("Distance from the baseline, by slice").count() == 0
    assert page.locator("svg[role=img]").count() == 1
