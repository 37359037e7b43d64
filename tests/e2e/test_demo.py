"""The demo on real flights, and the same jobs run again as its user would."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Shell

Done = subprocess.CompletedProcess[str]
ROOT = Path(__file__).parents[2]
IN_A_TERMINAL = "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)"
KEYS = ["time_hour", "carrier", "flight"]
SCORE = ROOT / "conf/score.yaml"


def departures_of_december(shell: Shell) -> Any:
    from datetime import date

    return shell.rows("departures", filters=[("date", ">=", date(2013, 12, 1))], columns=KEYS)


def test_the_demo_ends_with_what_a_person_wants_to_see(demo: Done, shell: Shell) -> None:
    *_, end = demo.stdout.partition("by rmse")
    for part in (
        "champion     gradient boosting",
        "Three predictions in minutes",
        "December: 27,110 departures in 31 days (31 scored)",
        f"Where everything lies, in {shell.home}",
        "What to try next",
        "against the training's days: 7 of 31 slices alarm, first 2013-12-06",
        "The drift of December, as a page",
        "The comparison, as a page",
    ):
        assert part in end
    page = Path(end.split()[-1])
    assert page.parent == Path(shell.home) / "reports"
    assert "flight-delay/1 beats the champion (version 3) by 0.52 rmse" in page.read_text(
        encoding="utf-8"
    )
    assert max(map(len, demo.stdout.split("Where everything")[0].split("by rmse")[1].split())) <= 80
    assert "Traceback" not in demo.stderr
    assert "WARN" not in demo.stderr
    assert "rows/s" not in demo.stderr  # a progress display is for terminals
    assert "is models:/flight-delay/3 (sha256:" in demo.stderr
    assert "as the ledger says)" in demo.stderr  # the demo's own policy asks for it


def test_december_holds_each_departure_once_with_the_version_that_scored_it(
    demo: Done,  # noqa: ARG001
    shell: Shell,
) -> None:
    predictions = shell.rows("predictions")
    asked = departures_of_december(shell)
    assert len(predictions) == len(asked) == 27_110
    assert not predictions.duplicated(KEYS).any()
    assert len(predictions.merge(asked, on=KEYS)) == 27_110
    assert set(predictions["model_uri"]) == {"models:/flight-delay/3"}
    assert set(predictions["model_version"]) == {3}
    assert predictions["prediction"].notna().all()
    assert predictions["slice"].nunique() == predictions["scoring_run_id"].nunique() == 31


def test_the_history_of_the_table_holds_the_lineage_as_json(demo: Done, shell: Shell) -> None:  # noqa: ARG001
    commit, _made = shell.table("predictions").history()  # the first made the table
    lineage = json.loads(commit["userMetadata"])
    assert lineage["model_uri"] == "models:/flight-delay/3"
    assert lineage["model_reference"] == "flight-delay@champion"
    assert lineage["input_version"] == 0
    assert len(lineage["slices"]) == 31
    assert lineage["model_digest"].startswith("sha256:")


def test_the_ranking_is_over_all_labelled_rows_better_first(demo: Done, shell: Shell) -> None:  # noqa: ARG001
    receipt = json.loads((shell.home / "receipts/compare.json").read_text())
    holdout = shell.rows("holdout", columns=["arr_delay"])
    assert receipt["rows"] == holdout["arr_delay"].notna().sum() == 55_589
    values = [entry["metrics"]["rmse"] for entry in receipt["ranking"]]
    assert values == sorted(values)
    assert {entry["version"] for entry in receipt["ranking"]} == {1, 2, 3}
    assert receipt["baseline"] == "models:/flight-delay/3"
    lines = shell.rows("ranking")
    rmse = lines[(lines["metric"] == "rmse") & (lines["scope"] == "common")]
    origins = rmse[rmse["slice_by"] == "origin"].groupby("slice")["rows"].first()
    assert origins.sum() == 55_589
    assert set(origins.index) == {"origin=EWR", "origin=JFK", "origin=LGA"}
    assert ((rmse["low"] < rmse["value"]) & (rmse["value"] < rmse["high"])).all()
    assert len(shell.rows("disagreements")) == 100
    assert len(shell.rows("compare_quarantine")) == 0


def test_december_differs_where_its_weather_does(demo: Done, shell: Shell) -> None:  # noqa: ARG001
    """The package has no weather of New Year's Eve, and it rained on the sixth."""
    drift = shell.rows("drift")
    alarms = drift[drift["alarm"] & (drift["measure"] == "jensen_shannon")]
    days = alarms.groupby("slice")["column"].agg(set)
    assert {"precip", "visib"} <= days["2013-12-31"]
    assert days["2013-12-06"] == {"precip"}
    departures = shell.rows("departures", columns=["date", "precip"])
    december = departures[departures["date"].astype(str) == "2013-12-31"]
    nulls = drift[(drift["slice"] == "2013-12-31") & (drift["column"] == "precip")]
    share = nulls[nulls["measure"] == "null_share"]["value"].item()
    assert share == december["precip"].isna().mean() == 1.0
    page = shell.home / "reports/monitor-flight-delay.html"
    assert "missing: 100 % (baseline 0.144 %)" in page.read_text(encoding="utf-8")


def test_the_quality_of_each_day_is_that_of_the_flights_that_arrived(
    demo: Done,  # noqa: ARG001
    shell: Shell,
) -> None:
    keys = ["time_hour", "carrier", "flight"]
    predictions = shell.rows("predictions", columns=[*keys, "slice", "prediction"])
    departures = shell.rows("departures", columns=[*keys, "arr_delay"])
    known = predictions.merge(departures, on=keys, how="left")
    errors = (known["prediction"] - known["arr_delay"]) ** 2
    rmse = errors.groupby(known["slice"]).mean() ** 0.5  # without cancelled flights
    quality = shell.rows("drift_quality").set_index("slice")
    quality = quality[quality["segment_by"].isna()]
    by_day = quality.loc[quality["metric"] == "rmse", "value"]
    assert by_day.to_dict() == pytest.approx(rmse.to_dict(), rel=1e-9)
    shares = known["arr_delay"].notna().groupby(known["slice"]).mean()
    assert quality["labelled_share"].groupby("slice").first().to_dict() == pytest.approx(
        shares.to_dict()
    )
    page = (shell.home / "reports/monitor-flight-delay.html").read_text(encoding="utf-8")
    assert "Quality, as far as labels have arrived" in page


def test_a_second_run_makes_no_version_and_writes_no_row(demo: Done, shell: Shell) -> None:  # noqa: ARG001
    """By `python jobs/score.py`, which needs no spark-submit and has Delta all the same."""
    prepared = shell.run(sys.executable, ROOT / "scripts/demo.py", "prepare")
    assert (prepared.returncode, prepared.stdout) == (0, "")
    again = shell.run(sys.executable, ROOT / "jobs/score.py", SCORE, cwd=shell.home)
    assert again.returncode == 0, again.stderr
    receipt = json.loads(again.stdout.splitlines()[-1])
    assert (receipt["status"], receipt["rows_in"], receipt["rows_scored"]) == (
        "unchanged",
        27_110,
        0,
    )
    assert shell.table("predictions").version() == 1
    listed = shell.run(ROOT / ".venv/bin/lakescore", "versions", "flight-delay", "--json")
    assert [version["version"] for version in json.loads(listed.stdout)] == [3, 2, 1]


def test_a_list_of_jobs_scores_a_week_with_two_versions(demo: Done, shell: Shell) -> None:  # noqa: ARG001
    done = shell.run(ROOT / "spark-submit.sh", "score", ROOT / "conf/jobs.yaml", cwd=shell.home)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    assert [job["status"] for job in summary["jobs"]] == ["scored", "scored"]
    assert {job["runner"]["name"] for job in summary["jobs"]} == {"local"}
    champions = shell.rows("weeks/flight-delay@champion")
    december = shell.rows("predictions").merge(champions, on=[*KEYS, "slice"])
    assert len(december) == len(champions) == summary["rows_scored"] / 2 == 6_293
    assert (december["prediction_x"] == december["prediction_y"]).all()
    assert set(shell.rows("weeks/flight-delay@challenger")["model_version"]) != {3}


def test_a_terminal_shows_progress_and_the_receipt_is_still_the_last_line(
    demo: Done,  # noqa: ARG001
    shell: Shell,
) -> None:
    done = shell.run(
        sys.executable, "-c", IN_A_TERMINAL, ROOT / "spark-submit.sh", "score", SCORE,
        "model=flight-delay/1", "output.path=tables/by_1", "slices=2013-12-25",
        f"receipt={shell.home}/one.json", TERM="xterm",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    seen = done.stdout
    assert "rows/s" in seen
    receipt = json.loads(seen.strip().splitlines()[-1])
    assert receipt == json.loads((shell.home / "one.json").read_text())
    assert receipt["status"] == "scored"
    christmas = shell.rows("by_1")
    assert len(christmas) == receipt["rows_in"] == 715
    assert set(christmas["model_version"]) == {1}


def test_an_error_has_its_exit_code_through_spark_submit_and_writes_nothing(
    demo: Done,  # noqa: ARG001
    shell: Shell,
) -> None:
    done = shell.run(
        ROOT / "spark-submit.sh", "score", SCORE, "input.path=tables/flights",
        "id_columns=[carrier, flight]", "slice_by=month", "slices=12", "output.path=tables/none",
        f"receipt={shell.home}/failed.json", cwd=shell.home,
    )  # fmt: skip
    assert done.returncode == 5
    error = done.stderr.splitlines()[-1]
    assert error.startswith("error: ")
    assert "'hour' is bigint, not double" in error
    assert done.stdout == ""
    receipt = json.loads((shell.home / "failed.json").read_text())
    assert (receipt["status"], receipt["exit_code"]) == ("failed", 5)
    assert f"error: {receipt['error']}" == error
    assert not (shell.home / "tables/none").exists()
