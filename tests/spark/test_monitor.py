"""Monitoring: what alarms, against pandas; what is due; what is refused."""

from __future__ import annotations

import datetime as dt
import shutil
from typing import TYPE_CHECKING, Any

import monitor
import numpy as np
import pandas as pd
import pytest
import score
from builders.jobs import monitor_job, score_job
from builders.tables import make_table, rows_of
from deltalake import DeltaTable, write_deltalake
from mlflow import MlflowClient
from scipy.spatial.distance import jensenshannon
from sklearn.linear_model import LinearRegression

from lakescore.errors import ColumnsMissing, ConfigError
from lakescore.monitoring import profiles, tracing
from lakescore.monitoring.errors import (
    BaselineUnfit,
    DriftNotAccepted,
    InputReplaced,
    KindsDiffer,
    LineageMissing,
    ModelUnclear,
    NothingScored,
    RowsNotCounted,
    SegmentsTooMany,
)
from lakescore.notation import percent
from lakescore.scanning import FilesGone

if TYPE_CHECKING:
    from pathlib import Path

X = pd.DataFrame({"x": [0.0, 1.0], "size": [1.0, 4.0]})
DAYS = ("2013-12-01", "2013-12-02", "2013-12-03")


@pytest.fixture(scope="module", autouse=True)
def models(register: Any) -> None:
    """Version 1 of `line` gives 2x, version 2 gives 3x; so does `other`."""
    for factor in (2, 3):
        register("line", LinearRegression().fit(X, factor * X["x"]), X)
    register("other", LinearRegression().fit(X, 2 * X["x"]), X)
    for color in ("red", "green", "blue"):
        register(f"paint-{color}", LinearRegression().fit(X, X["x"]), X)
        MlflowClient().set_registered_model_alias(f"paint-{color}", "champion", "1")


def draw(rows: int, seed: int = 0, **changes: Any) -> pd.DataFrame:
    """Return rows of one day, whose columns *changes* replaces."""
    random = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "x": random.normal(10, 2, rows),
            "size": random.integers(1, 5, rows).astype(float),
            "color": random.choice(["red", "green", "blue"], rows, p=[0.5, 0.3, 0.2]),
        }
    )
    return frame.assign(**changes)


def write_days(path: Path, days: dict[str, pd.DataFrame], mode: str = "overwrite") -> str:
    parts = [frame.assign(day=dt.date.fromisoformat(day)) for day, frame in days.items()]
    rows = pd.concat(parts, ignore_index=True)
    rows.insert(0, "id", range(len(rows)))
    write_deltalake(str(path), rows, mode=mode, schema_mode="overwrite")
    return str(path)


def score_days(folder: Path, table: str, **settings: Any) -> dict[str, Any]:
    own = {"model": "line/1", "slice_by": "day", "slices": "due", "passthrough": ["color"]}
    return score.run(score_job(folder, table, **own | settings))


def by_slice(receipt: dict[str, Any]) -> dict[str, set[str]]:
    return {
        part["slice"]: {alarm["column"] for alarm in part["clearest"]} for part in receipt["slices"]
    }


def drift(folder: Path, **where: Any) -> pd.DataFrame:
    rows = DeltaTable(str(folder / "drift")).to_pandas()
    for name, value in where.items():
        rows = rows[rows[name].isna() if value is None else rows[name] == value]
    return rows


@pytest.fixture
def shifted(tmp_path: Path) -> Path:
    """On the second day, x is larger by half its deviation; on the third there is a new color."""
    days = {
        DAYS[0]: draw(2000, 1),
        DAYS[1]: draw(2000, 2).assign(x=lambda rows: rows["x"] + 1.0),
        DAYS[2]: draw(2000, 3).assign(color=lambda rows: rows["color"].replace("blue", "pink")),
    }
    write_days(tmp_path / "training", {"2013-11-01": draw(20_000, 9)})
    score_days(tmp_path, write_days(tmp_path / "input", days))
    return tmp_path


BASELINE = {"path": "training"}


def against_training(folder: Path, **settings: Any) -> Any:
    baseline = {"path": str(folder / "training")}
    own = {"baseline": baseline, "columns": ["x", "size", "color"]}
    return monitor_job(folder, **own | settings)


@pytest.mark.usefixtures("runner")
def test_what_was_changed_alarms_and_nothing_else(shifted: Path) -> None:
    receipt = monitor.run(against_training(shifted))
    assert by_slice(receipt) == {DAYS[0]: set(), DAYS[1]: {"x"}, DAYS[2]: {"color"}}
    assert receipt["status"] == "alarm"
    assert receipt["chance"]["explained_by"] == "rows"
    assert receipt["summary"] == (
        "2 of 3 slices alarm, first 2013-12-02; most often: x (1), color (1)"
    )
    new = drift(shifted, slice=DAYS[2], column="color", measure="new_share")["value"].item()
    days = DeltaTable(str(shifted / "input")).to_pandas().groupby("day")
    last = days.get_group(dt.date.fromisoformat(DAYS[2]))
    assert new == pytest.approx((last["color"] == "pink").mean())


@pytest.mark.usefixtures("runner")
def test_the_profile_has_the_counts_and_the_mean_that_pandas_finds(shifted: Path) -> None:
    monitor.run(against_training(shifted))
    rows = DeltaTable(str(shifted / "drift_profile")).to_pandas()
    tables = {"(baseline)": DeltaTable(str(shifted / "training")).to_pandas()}
    read = DeltaTable(str(shifted / "input")).to_pandas()
    tables |= {str(day): part for day, part in read.groupby("day")}
    shares = {}
    for name, table in tables.items():
        row = rows[(rows["slice"] == name) & (rows["column"] == "x")].iloc[0]
        edges = [-np.inf, *row["edges"], np.inf]
        counts = pd.cut(table["x"], edges).value_counts(sort=False)
        assert row["counts"].tolist() == counts.tolist()
        assert row["mean"] == pytest.approx(table["x"].mean(), rel=1e-9)
        assert row["deviation"] == pytest.approx(table["x"].std(ddof=0), rel=1e-9)
        shares[name] = counts.to_numpy().astype(float)
        words = rows[(rows["slice"] == name) & (rows["column"] == "color")].iloc[0]
        listed = dict(zip(words["values"], words["counts"], strict=True))
        expected = table["color"].value_counts().to_dict()
        assert {**listed, **({"pink": words["new"]} if words["new"] else {})} == {
            value: expected.get(value, 0) for value in {**listed, **expected}
        }
    for day in DAYS:
        value = drift(shifted, slice=day, column="x", measure="jensen_shannon")["value"].item()
        expected = jensenshannon(shares["(baseline)"], shares[day], base=2)
        assert value == pytest.approx(expected, abs=1e-9)


def test_spark_and_workers_count_the_same(shifted: Path) -> None:
    monitor.run(against_training(shifted))
    by_workers = drift(shifted)
    monitor.run(
        against_training(shifted, scan="spark", runner="spark", run_id="again", slices=list(DAYS))
    )
    by_spark = drift(shifted)
    order = ["slice", "column", "measure"]
    for name in ("value", "rows", "alarm"):
        one, other = (rows.sort_values(order)[name].tolist() for rows in (by_workers, by_spark))
        # Spark reads the sample of the bins in other places, so the edges can differ a little.
        assert one == pytest.approx(other, abs=0.02)
    assert len(by_spark) == len(by_workers)


@pytest.mark.usefixtures("runner")
def test_predictions_are_compared_with_earlier_slices_of_them(tmp_path: Path) -> None:
    quiet = {f"2013-11-{day:02}": draw(500, day) for day in range(1, 31)}
    loud = {DAYS[0]: draw(500, 60), DAYS[1]: draw(500, 61, x=draw(500, 61)["x"] + 3)}
    score_days(tmp_path, write_days(tmp_path / "input", quiet | loud))
    job = monitor_job(tmp_path, baseline={"slices": "2013-11-01..2013-11-30"})
    receipt = monitor.run(job)
    assert by_slice(receipt) == {DAYS[0]: set(), DAYS[1]: {"x", "prediction"}}
    assert set(drift(tmp_path)["column"]) == {"x", "size", "prediction"}
    roles = drift(tmp_path, column="prediction")["role"].unique().tolist()
    assert roles == ["prediction"]


def test_features_are_read_as_they_were_scored(shifted: Path) -> None:
    """The input was overwritten after the run, with values that would alarm."""
    write_days(shifted / "input", {day: draw(2000, 7, x=1000.0) for day in DAYS})
    receipt = monitor.run(against_training(shifted))
    assert by_slice(receipt)[DAYS[0]] == set()


@pytest.mark.usefixtures("runner")
def test_a_slice_is_monitored_once_and_again_after_it_was_scored_again(shifted: Path) -> None:
    job = against_training(shifted)
    monitor.run(job)
    before = drift(shifted)
    again = monitor.run(job)
    assert (again["status"], again["slices"]) == ("unchanged", [])
    assert DeltaTable(str(shifted / "drift")).version() == 1
    score_days(shifted, str(shifted / "input"), slices=DAYS[1], model="line/2")
    third = monitor.run(job)
    assert [part["slice"] for part in third["slices"]] == [DAYS[1]]
    assert third["slices"][0]["model_version"] == 2
    after = drift(shifted)
    assert len(after) == len(before)
    assert after.groupby("slice")["model_version"].unique().map(list).to_dict() == {
        DAYS[0]: [1], DAYS[1]: [2], DAYS[2]: [1],
    }  # fmt: skip


def test_a_named_slice_is_compared_again_if_the_baseline_has_changed(shifted: Path) -> None:
    named = against_training(shifted, slices=DAYS[1])
    assert by_slice(monitor.run(named)) == {DAYS[1]: {"x"}}
    assert monitor.run(named)["status"] == "unchanged"
    write_days(shifted / "training", {"2013-11-01": draw(20_000, 8, x=draw(20_000, 8)["x"] + 1)})
    assert by_slice(monitor.run(named)) == {DAYS[1]: set()}


def test_a_run_that_ends_between_its_two_tables_is_repeated(
    shifted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = tracing.write

    def write_profiles_only(runner: Any, rows: Any, address: str, metadata: Any) -> int:
        if address.endswith("drift"):
            raise OSError("no room")
        return write(runner, rows, address, metadata)

    monkeypatch.setattr(tracing, "write", write_profiles_only)
    with pytest.raises(OSError, match="no room"):
        monitor.run(against_training(shifted))
    monkeypatch.undo()
    receipt = monitor.run(against_training(shifted))
    assert by_slice(receipt) == {DAYS[0]: set(), DAYS[1]: {"x"}, DAYS[2]: {"color"}}
    profiles = DeltaTable(str(shifted / "drift_profile")).to_pandas()
    assert not profiles.duplicated(["slice", "column"]).any()


def test_the_page_says_what_has_changed(shifted: Path) -> None:
    receipt = monitor.run(against_training(shifted, report=str(shifted / "pages")))
    page = (shifted / "pages" / "monitor-line.html").read_text()
    assert receipt["report"] == {"html": str(shifted / "pages" / "monitor-line.html")}
    assert "2 of 3 slices alarm" in page
    share = drift(shifted, slice=DAYS[2], column="color", measure="new_share")["value"].item()
    assert f"values that the baseline does not have: {percent(share)} (baseline 0 %)" in page


@pytest.mark.usefixtures("runner")
def test_a_segment_alarms_although_the_whole_does_not(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    day = draw(4000, 1)
    blue = day["color"] == "blue"
    # Only the order of x changes: blue gets the largest values, and the whole stays the same.
    ordered = np.sort(day["x"].to_numpy())
    day.loc[blue, "x"] = random.permutation(ordered[-int(blue.sum()) :])
    day.loc[~blue, "x"] = random.permutation(ordered[: -int(blue.sum())])
    write_days(tmp_path / "training", {"2013-11-01": draw(20_000, 9)})
    score_days(tmp_path, write_days(tmp_path / "input", {DAYS[0]: day}))
    receipt = monitor.run(against_training(tmp_path, by=["color"]))
    (part,) = receipt["slices"]
    segments = {(alarm["column"], alarm["segment"]) for alarm in part["clearest"]}
    assert {("x", "blue"), ("x", "red"), ("x", "green")} <= segments
    assert ("x", None) not in segments
    whole = drift(tmp_path, column="x", segment=None, measure="jensen_shannon")["alarm"].tolist()
    assert whole == [False]


def test_slices_of_the_baseline_explain_what_independent_rows_do_not(tmp_path: Path) -> None:
    """All rows of a day share its weather, so days differ more than samples of rows do."""
    random = np.random.default_rng(6)
    weather = random.normal(0, 1, 70)
    days = [str(dt.date(2013, 10, 1) + dt.timedelta(days=n)) for n in range(70)]
    frames = {
        day: draw(300, n).assign(x=lambda rows, n=n: rows["x"] + 4 * weather[n])
        for n, day in enumerate(days)
    }
    # The last day is the mildest of all.
    frames[days[-1]] = draw(300, 99).assign(x=lambda rows: rows["x"] + 4 * np.median(weather))
    score_days(tmp_path, write_days(tmp_path / "input", frames))
    baseline = {"slices": f"{days[0]}..{days[-2]}"}
    receipt = monitor.run(monitor_job(tmp_path, baseline=baseline))
    assert by_slice(receipt) == {days[-1]: set()}
    assert receipt["chance"]["reason"] == "the 69 slices of the baseline show how slices differ"
    rows = monitor.run(monitor_job(tmp_path, baseline=baseline, chance="rows"))
    assert "x" in by_slice(rows)[days[-1]]


def test_gates_end_the_run_after_its_tables_are_written(shifted: Path) -> None:
    job = against_training(shifted, gates={"alarms": ["x"], "limits": {"any": {"psi": 0.05}}})
    with pytest.raises(DriftNotAccepted) as error:
        monitor.run(job)
    message = str(error.value)
    assert "x of 2013-12-02 alarms (Jensen-Shannon" in message
    assert "color of 2013-12-03 has psi" in message
    assert len(error.value.facts["gates"]["failures"]) == 3
    assert set(drift(shifted)["slice"]) == set(DAYS)


def test_gates_that_are_only_reported_do_not_fail(shifted: Path) -> None:
    receipt = monitor.run(against_training(shifted, gates={"mode": "dry_run", "alarms": ["any"]}))
    assert (receipt["gates"]["passed"], len(receipt["gates"]["failures"])) == (False, 2)


def test_a_gate_for_a_column_that_is_not_monitored_is_refused(shifted: Path) -> None:
    with pytest.raises(ConfigError, match="'colour' is not monitored \\(did you mean 'color'"):
        monitor.run(against_training(shifted, gates={"alarms": ["colour"]}))
    assert not (shifted / "drift").exists()


def test_two_versions_of_one_slice_are_kept_apart(tmp_path: Path) -> None:
    days = {"2013-11-30": draw(3000, 1), DAYS[0]: draw(3000, 2)}
    table = write_days(tmp_path / "input", days)
    score_days(tmp_path, table, slices=list(days))
    score_days(tmp_path, table, slices=DAYS[0], model="line/2", write_mode="append")
    receipt = monitor.run(monitor_job(tmp_path, baseline={"slices": ["2013-11-30"]}))
    alarms = {p["model_version"]: {a["column"] for a in p["clearest"]} for p in receipt["slices"]}
    assert alarms == {1: set(), 2: {"prediction"}}
    rows = drift(tmp_path, column="prediction", measure="psi")
    assert rows.set_index("model_version")["rows"].to_dict() == {1: 3000, 2: 3000}


@pytest.mark.parametrize("explained_by", ["rows", "slices"])
def test_what_the_baseline_cannot_have_alarms(tmp_path: Path, explained_by: str) -> None:
    """Most zeros become -999, ones become twos, and a constant another: no bin inside changes."""
    random = np.random.default_rng(7)

    def rain(rows: int) -> np.ndarray:
        return np.where(random.random(rows) < 0.9, 0.0, random.gamma(2, 1, rows))

    def rows(n: int) -> pd.DataFrame:
        flag = random.integers(0, 2, 400).astype(float)
        return draw(400, n, rain=rain(400), flag=flag, fixed=5.0, size=1.0)

    quiet = {str(dt.date(2013, 10, 1) + dt.timedelta(days=n)): rows(n) for n in range(60)}
    odd = rows(99)
    odd["rain"] = odd["rain"].where(odd["rain"] > 0, -999.0)
    odd["flag"] = odd["flag"].replace(1.0, 2.0)
    odd["fixed"] = 7.0
    days = {"2013-12-01": rows(98), "2013-12-02": odd}
    score_days(tmp_path, write_days(tmp_path / "input", quiet | days))
    receipt = monitor.run(
        monitor_job(
            tmp_path, baseline={"slices": list(quiet)}, chance=explained_by,
            columns=["rain", "flag", "fixed", "x"],
        )
    )  # fmt: skip
    assert by_slice(receipt) == {"2013-12-01": set(), "2013-12-02": {"rain", "flag", "fixed"}}
    far = drift(tmp_path, slice="2013-12-02", measure="jensen_shannon").set_index("column")["value"]
    assert far["fixed"] == 1.0
    assert far["flag"] > 0.5
    assert far["rain"] > 0.5


@pytest.mark.usefixtures("runner")
def test_missing_values_of_all_kinds_are_counted_apart(tmp_path: Path) -> None:
    schema = "id int, day date, x double, size double, ok boolean, at timestamp"
    day = dt.date.fromisoformat(DAYS[0])
    noon = dt.datetime(2013, 12, 1, 12, tzinfo=dt.UTC)
    rows = [
        (1, day, 1.0, 1.0, True, noon),
        (2, day, None, 1.0, None, None),
        (3, day, float("nan"), 1.0, False, noon),
        (4, day, float("inf"), 1.0, False, noon),
        (5, day, 99.0, 1.0, False, noon),  # outside of the baseline's range
    ]
    old = [(n, dt.date(2013, 11, 1), float(n), 1.0, n % 2 == 0, noon) for n in range(1, 31)]
    make_table(tmp_path / "training", old, schema)
    make_table(tmp_path / "input", rows, schema)
    score_days(
        tmp_path, str(tmp_path / "input"), passthrough="keys",
        nulls={"x": "null"}, max_errors=5,
    )  # fmt: skip
    monitor.run(against_training(tmp_path, columns=["x", "ok", "at"]))
    shares = drift(tmp_path).set_index(["column", "measure"])["value"]
    assert shares["x", "null_share"] == pytest.approx(1 / 5)
    assert shares["x", "nan_share"] == pytest.approx(1 / 5)
    assert shares["x", "infinite_share"] == pytest.approx(1 / 5)
    assert shares["x", "outside_share"] == pytest.approx(1 / 5)
    assert shares["ok", "null_share"] == pytest.approx(1 / 5)
    assert shares["at", "null_share"] == pytest.approx(1 / 5)
    mean = DeltaTable(str(tmp_path / "drift_profile")).to_pandas().set_index(["slice", "column"])
    assert mean.loc[(DAYS[0], "x"), "mean"] == pytest.approx(50.0)


def test_columns_that_cannot_be_monitored_are_named_with_their_reason(tmp_path: Path) -> None:
    names = [f"tail {n}" for n in range(11_000)]
    days = {"2013-11-01": draw(11_000, 1, name=names)}
    write_days(tmp_path / "training", days)
    now = {DAYS[0]: draw(100, 2, name=names[:100])}
    score_days(tmp_path, write_days(tmp_path / "input", now))
    receipt = monitor.run(against_training(tmp_path, columns=["x", "name"]))
    assert receipt["left_out"] == {
        "name": "most of its values are rare in the baseline, so they name rows, not groups of "
        "rows",
        "prediction": "the baseline does not have it",
    }


@pytest.fixture
def scored(tmp_path: Path) -> Path:
    write_days(tmp_path / "training", {"2013-11-01": draw(100, 1)})
    days = {day: draw(50, n) for n, day in enumerate(DAYS)}
    score_days(tmp_path, write_days(tmp_path / "input", days), passthrough="keys")
    return tmp_path


def refuse(folder: Path, error: type[Exception], **settings: Any) -> str:
    """Run a job that is refused; return the message, after a check that nothing was written."""
    with pytest.raises(error) as raised:
        monitor.run(against_training(folder, **settings))
    assert not (folder / "drift").exists()
    assert not (folder / "drift_profile").exists()
    return str(raised.value)


def test_days_of_a_range_without_predictions_are_named_in_the_receipt(scored: Path) -> None:
    receipt = monitor.run(against_training(scored, slices="2013-11-30..2013-12-02"))
    assert [part["slice"] for part in receipt["slices"]] == [*DAYS[:2]]
    assert receipt["slices_without_predictions"] == ["2013-11-30"]
    with pytest.raises(NothingScored, match="no predictions of the slices 2014-01-01, 2014-01-02"):
        monitor.run(against_training(scored, slices="2014-01-01..2014-01-02"))


def test_a_version_with_one_more_feature_is_compared_by_all_of_its_features(
    tmp_path: Path, register: Any
) -> None:
    wide = X.assign(weight=[1.0, 2.0])
    number = register("line", LinearRegression().fit(wide, X["x"]), wide)
    days = {DAYS[0]: draw(500, 1, weight=5.0), DAYS[1]: draw(500, 2, weight=7.0)}
    write_days(tmp_path / "training", {"2013-11-01": draw(5000, 9, weight=5.0)})
    table = write_days(tmp_path / "input", days)
    score_days(tmp_path, table, slices=DAYS[0])
    score_days(tmp_path, table, slices=DAYS[1], model=f"line/{number}")
    receipt = monitor.run(monitor_job(tmp_path, baseline={"path": str(tmp_path / "training")}))
    assert by_slice(receipt) == {DAYS[0]: set(), DAYS[1]: {"weight"}}
    columns = drift(tmp_path).groupby("slice")["column"].agg(set).to_dict()
    assert columns == {DAYS[0]: {"x", "size"}, DAYS[1]: {"x", "size", "weight"}}


def test_the_page_still_shows_slices_that_had_another_baseline(shifted: Path) -> None:
    monitor.run(against_training(shifted, slices=[DAYS[1]]))
    write_days(shifted / "training", {"2013-11-01": draw(20_000, 8, x=draw(20_000, 8)["x"] * 3)})
    receipt = monitor.run(against_training(shifted, slices=[DAYS[2]], report=str(shifted / "now")))
    page = (shifted / "now" / "monitor-line.html").read_text()
    assert receipt["status"] == "alarm"
    assert "2 of 2 slices alarm" in page


def test_a_slice_without_predictions_is_refused(scored: Path) -> None:
    message = refuse(scored, NothingScored, slices="2014-01-01")
    assert "no predictions of the slices 2014-01-01; score them first" in message


def test_predictions_of_several_models_need_a_name(scored: Path) -> None:
    score_days(scored, str(scored / "input"), model="other/1", passthrough="keys")
    assert "give model, one of: line, other" in refuse(scored, ModelUnclear)
    assert "no predictions of 'lime'" in refuse(scored, ModelUnclear, model="lime")
    assert monitor.run(against_training(scored, model="other"))["model"] == {"name": "other"}


def test_rows_without_a_commit_of_a_score_job_are_refused(scored: Path) -> None:
    copied = DeltaTable(str(scored / "predictions")).to_pandas()
    write_deltalake(str(scored / "copy"), copied)
    predictions = {"path": str(scored / "copy")}
    message = refuse(scored, LineageMissing, predictions=predictions)
    assert "score them again, or keep the log longer" in message


def test_a_baseline_without_a_monitored_column_is_refused(scored: Path) -> None:
    write_days(scored / "training", {"2013-11-01": draw(100, 1).drop(columns="color")})
    assert "lacks the columns 'color'" in refuse(scored, ColumnsMissing)


def test_a_baseline_with_another_type_is_refused(scored: Path) -> None:
    write_days(scored / "training", {"2013-11-01": draw(100, 1, x="ten")})
    message = refuse(scored, BaselineUnfit)
    assert "has 'x' as string, but the input of the predictions has it as a number" in message


def test_an_input_whose_column_changed_its_type_is_refused(scored: Path) -> None:
    write_days(scored / "input", {"2013-12-04": draw(50, 5, color=3.0)})
    score_days(scored, str(scored / "input"), slices="2013-12-04", passthrough="keys")
    message = refuse(scored, KindsDiffer, baseline={"slices": [DAYS[0]]}, slices="2013-12-04")
    assert "column 'color'" in message


def test_a_baseline_without_rows_is_refused(scored: Path) -> None:
    baseline = {"path": str(scored / "training"), "slices": "2012-01-01..2012-01-03"}
    assert "has no rows" in refuse(scored, BaselineUnfit, baseline=baseline)


def test_a_baseline_with_too_few_slices_cannot_explain_by_slices(scored: Path) -> None:
    """No slice could alarm, and the run would always say that nothing differs."""
    message = refuse(scored, BaselineUnfit, chance="slices")
    assert "has 1 slice, but with chance: slices and level: 0.05 no slice can alarm" in message
    assert "unless it has 19" in message


def test_an_input_whose_files_are_gone_is_refused(scored: Path) -> None:
    """VACUUM removed the version that was scored."""
    old = list((scored / "input").glob("*.parquet"))
    write_days(scored / "input", {DAYS[0]: draw(50, 9)})
    for file in old:
        file.unlink()
    with pytest.raises(FilesGone, match="does not exist any more"):
        monitor.run(against_training(scored))
    assert not (scored / "drift").exists()


def test_features_are_read_from_the_columns_that_the_score_job_named(tmp_path: Path) -> None:
    renamed = {DAYS[0]: draw(2000, 1).rename(columns={"x": "length"})}
    write_days(tmp_path / "training", {"2013-11-01": draw(20_000, 9)})  # as the model has them
    table = write_days(tmp_path / "input", renamed)
    score_days(tmp_path, table, columns={"x": "length"})
    receipt = monitor.run(monitor_job(tmp_path, baseline={"path": str(tmp_path / "training")}))
    assert receipt["columns"] == ["x", "size"]
    assert by_slice(receipt) == {DAYS[0]: set()}
    rows = drift(tmp_path, column="x", measure="outside_share")["rows"].tolist()
    assert rows == [2000]


def test_a_family_of_versions_is_monitored_by_its_segments(tmp_path: Path) -> None:
    days = {"2013-11-30": draw(3000, 1), DAYS[0]: draw(3000, 2)}
    days[DAYS[0]].loc[days[DAYS[0]]["color"] == "red", "x"] += 1
    family = {"by": "color", "name": "paint-{color}@champion"}
    score_days(tmp_path, write_days(tmp_path / "input", days), model=family)
    receipt = monitor.run(monitor_job(tmp_path, baseline={"slices": ["2013-11-30"]}, by=["color"]))
    (part,) = receipt["slices"]
    assert part["model_version"] is None
    alarms = {(alarm["column"], alarm["segment"]) for alarm in part["clearest"]}
    assert alarms == {("x", None), ("prediction", None), ("x", "red"), ("prediction", "red")}


def test_another_table_at_the_address_of_the_input_is_refused(scored: Path) -> None:
    shutil.rmtree(scored / "input")
    write_days(scored / "input", {day: draw(50, 9) for day in DAYS})  # as version 0, too
    message = refuse(scored, InputReplaced)
    assert "is another table than the one that slice '2013-12-01' was scored from" in message


def test_rows_that_were_not_counted_end_the_run(
    scored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if a worker had read the name of a slice otherwise than the log has it."""
    take = profiles.take

    def take_other_names(*given: Any, **options: Any) -> Any:
        taken = take(*given, **options)
        units = {group.unit for cells in taken.cells.values() for group in cells}
        return taken.renamed({unit: f"{unit} " if unit in DAYS else unit for unit in units})

    monkeypatch.setattr(profiles, "take", take_other_names)
    message = refuse(scored, RowsNotCounted, columns=["x"])
    assert "has 0 rows of slice '2013-12-01', but the run published 50 predictions" in message


def test_a_slice_is_not_its_own_baseline(scored: Path) -> None:
    message = refuse(scored, BaselineUnfit, baseline={"slices": [DAYS[0]]}, slices=list(DAYS))
    assert f"the baseline {DAYS[0]} is itself monitored" in message


def test_too_many_segments_are_refused(tmp_path: Path) -> None:
    write_days(
        tmp_path / "training", {"2013-11-01": draw(300, 1, color=[f"c{n}" for n in range(300)])}
    )
    score_days(tmp_path, write_days(tmp_path / "input", {DAYS[0]: draw(50, 1)}))
    message = refuse(tmp_path, SegmentsTooMany, by=["color"])
    assert "has more than 200 values" in message


def test_segments_need_their_column_in_the_predictions(tmp_path: Path) -> None:
    days = {"2013-11-30": draw(50, 1), DAYS[0]: draw(50, 2)}
    score_days(tmp_path, write_days(tmp_path / "input", days), passthrough="keys")
    with pytest.raises(ColumnsMissing, match="lacks the columns 'color'"):
        monitor.run(monitor_job(tmp_path, baseline={"slices": ["2013-11-30"]}, by=["color"]))


def test_the_table_of_drift_says_which_run_and_which_input_it_is_about(shifted: Path) -> None:
    monitor.run(against_training(shifted))
    run_ids = {row[:2] for row in rows_of(shifted / "predictions", "slice", "scoring_run_id")}
    facts = drift(shifted)[["slice", "scoring_run_id", "input_version"]].drop_duplicates()
    assert {(row.slice, row.scoring_run_id) for row in facts.itertuples()} == run_ids
    assert set(facts["input_version"]) == {0}
