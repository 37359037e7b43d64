"""The report is one file that uses no network, whatever names it holds."""

from __future__ import annotations

import base64
import hashlib
import json
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest

from lakescore import notation, reporting
from lakescore.reporting.files import ReportNotWritten

if TYPE_CHECKING:
    from pathlib import Path

HOSTILE = "</script><img src=x onerror=alert(1)>|`*'\""


def document(name: str = "flight-delay", value: str = "JFK") -> dict[str, Any]:
    """Return a comparison of two versions, small and whole; docs/compare.md lists the keys."""
    uris = [f"models:/{name}/{n}" for n in (1, 2)]
    line = {
        "metric": "rmse", "slice_by": None, "slice": "all", "scope": "common", "rows": 10,
        "small": False, "low": 1.0, "high": 3.0,
    }  # fmt: skip
    nothing = dict.fromkeys(("difference", "difference_low", "difference_high"))
    gap = {"difference": 1.5, "difference_low": -0.5, "difference_high": 3.5}
    own = [
        {**line, "uri": uris[0], "rank": 1, "value": 2.0, **nothing},
        {**line, "uri": uris[1], "rank": 1, "value": 3.5, **gap},
    ]
    versions = [
        {
            "uri": uri, "name": name, "version": n + 1, "rank": 1, "is_baseline": n == 0,
            "params": {"depth": str(n)}, "metrics": {}, "tags": {}, "run_name": None,
            "aliases": ["champion"], "size": 1000,
            "rows_scored": 10 - n, "rows_failed": n, "errors": {"ValueError": 1} if n else {},
            "rows_per_second": 123456.7, "reference": uri, "run_id": None,
            "logged_model_id": None, "digest": "sha256:00",
        }
        for n, uri in enumerate(uris)
    ]  # fmt: skip
    check = {"passed": False, "sentence": f"rmse of {name} must be at most 2, missed by 1"}
    part = {"slice_by": "origin", "slice": f"origin={value}", "rows": 900, "max_loss": 0.5}
    of_slices = {
        "gate": "max_loss", "metric": "rmse", "passed": False, "sentence": f"{value} is worse",
        "slices": [
            {**part, "verdict": "worse", "loss": 3.1, "low": 1.2, "high": 5.0, "unscored": 0,
             "reason": None},
            {**part, "verdict": "worse", "loss": 0.1, "low": 0.0, "high": 0.2, "unscored": 7,
             "reason": None},
            {**part, "verdict": "not known", "loss": None, "low": None, "high": None,
             "unscored": 0, "reason": "fewer than 100 rows"},
        ],
    }  # fmt: skip
    group = {"group": f"origin={value}", "rows": 1200, "rate": 0.25, "reason": None}
    few = {"group": "origin=EWR", "rows": 3, "rate": None, "reason": "fewer than 100 rows count"}
    of_groups = {
        "gate": "max_difference", "metric": "selection_rate", "passed": True, "sentence": "near",
        "groups": {"by": "origin", "verdict": "safe", "groups": [group, few]},
    }  # fmt: skip
    return {
        "format": "lakescore-report/1", "source": "compare", "run_id": "0123abcd",
        "made_at": "2026-01-01T00:00:00+00:00", "repeat": [{"what": "run it", "command": name}],
        "holdout": {"table": f"/lake/{value}", "version": 3, "digest": "00"}, "label": "y",
        "where": f"origin = '{value}'", "engine": {"name": "arrow", "reason": "block"},
        "tables": {"metrics": "/lake/ranking"},
        "gates": {
            "mode": "enforce", "candidate": uris[1], "baseline": uris[0], "passed": False,
            "on_pass": None, "checks": [check, of_slices, of_groups],
        },
        "verdict": f"Keep the champion: {name}/2 is worse.",
        "left_out": {"mape": f"{name} is 0"},
        "decision": {
            "action": "keep", "candidate": uris[1],
            "sentence": f"Keep the champion: {name}/2 is worse.",
            "further": [f"{name}/1 is first."],
        },
        "problem": {
            "type": "regression", "predictions": "regression", "rank_by": "rmse",
            "greater_is_better": False, "classes": [], "positive_class": None,
        },
        "rows": {"labelled": 10, "common": 9, "unlabelled": 1},
        "uncertainty": {
            "confidence": 0.95, "bootstraps": 400, "seed": 0, "pairs": 1,
            "standard_errors": 1.96, "correction": "One pair.",
        },
        "baseline": uris[0], "versions": versions,
        "metrics": [
            *own,
            *[{**estimate, "scope": "own"} for estimate in own],
            *[{**estimate, "slice_by": "origin", "slice": f"origin={value}"} for estimate in own],
        ],
        "histograms": [
            {"uri": uri, "kind": "residual", "from": 0.0, "to": 1.0, "weight": 3.0} for uri in uris
        ],
        "curves": [], "calibration": [], "confusion": [], "flips": [],
        "shifts": [{"uri": uris[1], "psi": 0.01}],
    }  # fmt: skip


class Page(HTMLParser):
    """Collects what a browser would see."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._inside: list[str] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag."""
        self.tags.append((tag, dict(attrs)))
        self._inside.append(tag)
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_endtag(self, tag: str) -> None:
        """Leave it."""
        while self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        """Note a text, or a script's."""
        if self._inside and self._inside[-1] == "script":
            attributes, text = self.scripts.pop()
            self.scripts.append((attributes, text + data))
        else:
            self.texts.append(data)


def test_the_page_asks_no_network_and_embeds_the_document_once(tmp_path: Path) -> None:
    files = reporting.write(document(), tmp_path / "new" / "folder")
    page = Page(files["html"].read_text(encoding="utf-8"))
    assert [tag for tag, _ in page.tags if tag in {"link", "img", "iframe", "object"}] == []
    assert [a for _, a in page.tags if {"src", "srcset"} & a.keys()] == []
    assert [a for _, a in page.tags if "href" in a] == []
    assert "@import" not in "".join(page.texts)
    (policy,) = [a["content"] for _, a in page.tags if "http-equiv" in a]
    assert str(policy).startswith("default-src 'none'")
    (embedded,) = [text for attributes, text in page.scripts if attributes.get("id") == "report"]
    assert json.loads(embedded) == document()
    seen = " ".join("".join(page.texts).split())
    for part in (
        "Keep the champion: flight-delay/2 is worse.",
        "flight-delay/1 is first.",
        "1 row has no label, and does not count.",
        "Gates not passed",
        "missed by 1",
        "JFK is worse",
        "The loss of rmse in all 3 slices",
        "origin=JFK worse 3.1 1.2 5.0 0.5 900",
        "7 rows that only the baseline could score",
        "fewer than 100 rows",
        "The selection_rate of the groups of origin",
        "origin=JFK 0.25 1,200",
        "fewer than 100 rows count",
        "where origin = 'JFK'",
        "models:/flight-delay/2",
    ):
        assert part in seen


def test_no_script_runs_that_the_policy_does_not_name() -> None:
    page = Page(reporting.page(document(HOSTILE, HOSTILE)))
    (policy,) = [str(a["content"]) for _, a in page.tags if "http-equiv" in a]
    (named,) = [part.split()[1:] for part in policy.split("; ") if part.startswith("script-src")]
    running = [text for a, text in page.scripts if a.get("type") != "application/json"]
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()) for script in running]
    assert named == [f"'sha256-{digest.decode()}'" for digest in digests]
    assert "connect-src 'none'" in policy


def test_names_are_text_and_never_markup() -> None:
    plain, hostile = (Page(reporting.page(d)) for d in (document(), document(HOSTILE, HOSTILE)))
    assert [tag for tag, _ in hostile.tags] == [tag for tag, _ in plain.tags]
    assert HOSTILE in "".join(hostile.texts)
    summary = reporting.summary(document(HOSTILE, HOSTILE))
    assert "<img" not in summary
    assert {line.count(" | ") for line in summary.splitlines() if line.startswith("| 1")} == {3}


def test_the_summary_is_a_table_of_the_versions() -> None:
    lines = reporting.summary(document()).splitlines()
    assert lines[0] == "**Keep the champion: flight-delay/2 is worse.**"
    nothing = notation.NOTHING
    assert f"| 1 | flight-delay/1 (baseline) | 2.0 (1.0 to 3.0) | {nothing} |" in lines
    assert "| 1 | flight-delay/2 | 3.5 (1.0 to 3.0) | 1.5 (-0.5 to 3.5) |" in lines
    assert any("not passed" in line for line in lines)
    assert "mape is left out: flight-delay is 0." in lines


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(ReportNotWritten, match="cannot write the report"):
        reporting.write(document(), tmp_path / "file")
