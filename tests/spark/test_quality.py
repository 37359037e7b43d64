"""Quality: the metrics of predictions whose labels have arrived, against scikit-learn."""

from __future__ import annotations

import datetime as dt
import shutil
from typing import TYPE_CHECKING, Any

import mlflow
import monitor
import numpy as np
import pandas as pd
import pytest
import score
from builders.jobs import monitor_job, score_job
from deltalake import DeltaTable, write_deltalake
from pydantic import ValidationError
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import (
    accuracy_score,
    log_loss,
    mean_absolute_error,
    r2_score,
    root_mean_squared_error,
)

from lakescore import scanning
from lakescore.errors import ColumnsMissing, ConfigError
from lakescore.logs import NotEligible
from lakescore.monitoring.errors import (
    ArrivalUnfit,
    DriftNotAccepted,
    KeysInSlices,
    KeysUnfit,
    LabelsRepeated,
    LabelsUnfit,
)

if TYPE_CHECKING:
    from pathlib import Path

DAYS = ("2013-12-01", "2013-12-02", "2013-12-03")
X = pd.DataFrame({"x": [0.0, 1.0, 2.0]})
CLASSES = ["red", "a b"]  # a column of predictions cannot have a blank


@pytest.fixture(scope="module", autouse=True)
def models(register: Any) -> dict[str, Any]:
    """Version 1 of `line` gives 2x, version 2 gives 3x; `kinds` gives a class."""
    for factor in (2, 3):
        register("line", LinearRegression().fit(X, factor * X["x"]), X)
    random = np.random.default_rng(5)
    frame = pd.DataFrame({"x": random.normal(10, 2, 200)})
    kind = LogisticRegression().fit(frame, np.where(frame["x"] + random.normal(0, 2, 200) > 10,
                                                    *CLASSES))  # fmt: skip
    register("kinds", kind, frame)
    return {"kinds": kind}


@pytest.fixture
def rows(tmp_path: Path) -> pd.DataFrame:
    """Write three days of 200 rows, and return them with the labels that arrive later."""
    random = np.random.default_rng(1)
    frame = pd.DataFrame(
        {
            "id": range(600),
            "day": [dt.date.fromisoformat(day) for day in DAYS for _ in range(200)],
            "x": random.normal(10, 2, 600),
            "color": random.choice(["red", "blue", None], 600),
        }
    )
    write_deltalake(str(tmp_path / "input"), frame)
    frame["y"] = 2 * frame["x"] + random.normal(0, 1, 600) * (1 + frame["id"] // 200)
    frame["kind"] = np.where(frame["x"] + random.normal(0, 2, 600) > 10, *CLASSES)
    return frame


def score_days(folder: Path, **settings: Any) -> dict[str, Any]:
    own = {"model": "line/1", "slice_by": "day", "slices": "due", "passthrough": ["color"]}
    return score.run(score_job(folder, folder / "input", **own | settings))


def write_labels(folder: Path, rows: pd.DataFrame, mode: str = "overwrite") -> None:
    labels = rows[["id", "day", "y", "kind"]]
    write_deltalake(str(folder / "labels"), labels, mode=mode, partition_by=["day"])


def watch(folder: Path, labels: dict[str, Any] | None = None, **settings: Any) -> dict[str, Any]:
    path = {"path": str(folder / "labels"), "column": "y"}
    own = {"baseline": {"path": str(folder / "input")}, "labels": path | (labels or {})}
    return monitor.run(monitor_job(folder, **own | settings))


def quality(folder: Path, **where: Any) -> pd.DataFrame:
    table = DeltaTable(str(folder / "drift_quality")).to_pandas()
    for name, value in where.items():
        table = table[table[name].isna() if value is None else table[name] == value]
    return table


def evaluated(receipt: dict[str, Any]) -> dict[str, tuple[int, bool]]:
    return {
        part["slice"]: (part["labelled_rows"], part["final"])
        for part in receipt["quality"]["slices"]
    }


@pytest.mark.usefixtures("runner")
@pytest.mark.parametrize("joins", ["here", "spark"])
def test_the_metrics_of_each_slice_and_segment_are_those_of_scikit_learn(
    tmp_path: Path,
    rows: pd.DataFrame,
    joins: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    score_days(tmp_path)
    known = rows.assign(y=rows["y"].where(rows["id"] % 4 > 0))  # NaN is no label
    write_labels(tmp_path, known[known["id"] % 5 > 0])
    arrived = {"arrived_at": "day"}  # a date
    if joins == "spark":

        def decline(*_: Any) -> None:
            raise NotEligible("only Spark reads this")

        monkeypatch.setattr(scanning, "read", decline)
    receipt = watch(tmp_path, arrived, by=["color"])
    have = rows[(rows["id"] % 4 > 0) & (rows["id"] % 5 > 0)]
    assert evaluated(receipt) == {
        day: (int((have["day"].astype(str) == day).sum()), False) for day in DAYS
    }
    for day in DAYS:
        table = quality(tmp_path, slice=day)
        of_day = have[have["day"].astype(str) == day]
        for color, part in [("all", of_day), ("red", of_day[of_day["color"] == "red"]),
                            (None, of_day[of_day["color"].isna()])]:  # fmt: skip
            of_part = table[table["segment_by"] == "color"]
            if color == "all":
                of_part = table[table["segment_by"].isna()]
            else:
                chosen = of_part["segment"].isna() if color is None else of_part["segment"] == color
                of_part = of_part[chosen]
            values = of_part.set_index("metric")["value"]
            predicted = 2 * part["x"]
            wanted = {
                "rmse": root_mean_squared_error(part["y"], predicted),
                "mae": mean_absolute_error(part["y"], predicted),
                "r2": r2_score(part["y"], predicted),
            }
            assert values[list(wanted)].to_dict() == pytest.approx(wanted, rel=1e-9)
            assert set(of_part.loc[of_part["metric"] == "rmse", "evaluated_rows"]) == {len(part)}
        assert set(table["last_arrival"]) == {pd.Timestamp(day, tz="UTC")}
        rmse = table[(table["metric"] == "rmse") & table["segment_by"].isna()].iloc[0]
        assert rmse["low"] < rmse["value"] < rmse["high"]
        assert rmse["labelled_share"] == pytest.approx(len(of_day) / 200)


@pytest.mark.usefixtures("runner")
def test_only_slices_whose_labels_changed_are_evaluated_again(
    tmp_path: Path, rows: pd.DataFrame
) -> None:
    score_days(tmp_path)
    day = rows["day"].astype(str)
    write_labels(tmp_path, rows[day == DAYS[0]])
    assert evaluated(watch(tmp_path, {"slice_by": "day"})) == {
        DAYS[0]: (200, True), DAYS[1]: (0, False), DAYS[2]: (0, False)
    }  # fmt: skip
    assert watch(tmp_path, {"slice_by": "day"})["quality"]["slices"] == []
    write_labels(tmp_path, rows[(day == DAYS[1]) & (rows["id"] % 2 == 0)], "append")
    assert evaluated(watch(tmp_path, {"slice_by": "day"})) == {DAYS[1]: (100, False)}
    write_labels(tmp_path, rows[(day == DAYS[1]) & (rows["id"] % 2 == 1)], "append")
    receipt = watch(tmp_path, {"slice_by": "day"})
    assert evaluated(receipt) == {DAYS[1]: (200, True)}
    assert len(quality(tmp_path, metric="rmse")) == 2
    # A label of a final slice is corrected: its metrics follow.
    before = quality(tmp_path, metric="rmse", slice=DAYS[0])["value"].item()
    corrected = rows[day == DAYS[0]].assign(y=lambda part: part["y"] + 100)
    write_deltalake(
        str(tmp_path / "labels"), corrected[["id", "day", "y", "kind"]],
        mode="overwrite", predicate=f"day = '{DAYS[0]}'",
    )  # fmt: skip
    assert evaluated(watch(tmp_path, {"slice_by": "day"})) == {DAYS[0]: (200, True)}
    after = quality(tmp_path, metric="rmse", slice=DAYS[0])["value"].item()
    assert after > before + 50


@pytest.mark.usefixtures("runner")
def test_without_slices_of_labels_only_slices_that_are_not_final_are_evaluated_again(
    tmp_path: Path, rows: pd.DataFrame
) -> None:
    score_days(tmp_path)
    day = rows["day"].astype(str)
    write_labels(tmp_path, rows[(day == DAYS[0]) | (rows["id"] % 2 == 0)])
    assert evaluated(watch(tmp_path)) == {
        DAYS[0]: (200, True), DAYS[1]: (100, False), DAYS[2]: (100, False)
    }  # fmt: skip
    assert evaluated(watch(tmp_path)) == {}  # the same labels
    write_labels(tmp_path, rows[(day != DAYS[0]) & (rows["id"] % 2 == 1)], "append")
    assert evaluated(watch(tmp_path)) == {DAYS[1]: (200, True), DAYS[2]: (200, True)}
    score_days(tmp_path, model="line/2", slices=[DAYS[2]])
    receipt = watch(tmp_path)  # other predictions
    assert evaluated(receipt) == {DAYS[2]: (200, True)}
    assert receipt["quality"]["slices"][0]["model_version"] == 2
    versions = quality(tmp_path, metric="rmse")[["slice", "model_version"]]
    assert sorted(map(tuple, versions.to_numpy())) == [(DAYS[0], 1), (DAYS[1], 1), (DAYS[2], 2)]


def test_a_slice_is_final_after_some_days_though_labels_are_missing(
    tmp_path: Path, rows: pd.DataFrame
) -> None:
    score_days(tmp_path)
    write_labels(tmp_path, rows[rows["id"] < 20])
    assert evaluated(watch(tmp_path, {"final_days": 1e-9}))[DAYS[0]] == (20, True)
    assert watch(tmp_path, {"final_days": 1e-9})["quality"]["slices"] == []
    share = watch(tmp_path, {"final_share": 0.1, "final_days": 5})
    assert evaluated(share) == {DAYS[0]: (20, True), DAYS[1]: (0, False), DAYS[2]: (0, False)}


@pytest.mark.usefixtures("runner")
def test_classes_and_their_probabilities_are_evaluated_as_in_scikit_learn(
    tmp_path: Path, rows: pd.DataFrame, models: dict[str, Any]
) -> None:
    score_days(tmp_path, model="kinds/1", slices=[DAYS[0]], prediction="proba")
    write_labels(tmp_path, rows)
    watch(tmp_path, {"column": "kind"})
    day = rows[rows["day"].astype(str) == DAYS[0]]
    scores = models["kinds"].predict_proba(day[["x"]])
    values = quality(tmp_path, slice=DAYS[0]).set_index("metric")["value"]
    wanted = {
        "log_loss": log_loss(day["kind"], scores, labels=list(models["kinds"].classes_)),
        "accuracy": accuracy_score(day["kind"], models["kinds"].predict(day[["x"]])),
    }
    assert values[list(wanted)].to_dict() == pytest.approx(wanted, rel=1e-9)
    score_days(tmp_path, model="kinds/1", slices=[DAYS[0]], output=tmp_path / "labels_only")
    receipt = watch(tmp_path, {"column": "kind"}, predictions=tmp_path / "labels_only",
                    output=tmp_path / "other")  # fmt: skip
    (only,) = receipt["quality"]["slices"]
    assert only["metrics"]["accuracy"] == pytest.approx(wanted["accuracy"])


def test_a_gate_holds_only_for_final_slices_and_for_metrics_that_exist(
    tmp_path: Path, rows: pd.DataFrame
) -> None:
    score_days(tmp_path)
    write_labels(tmp_path, rows[rows["id"] < 300])
    with pytest.raises(
        DriftNotAccepted, match=r"rmse of 2013-12-01 is 1\.\d+, and at worst 0.5 is"
    ) as end:
        watch(tmp_path, gates={"quality": {"rmse": 0.5}})
    assert end.value.exit_code == 6
    assert "2013-12-02" not in str(end.value)  # half of its labels
    near = {"mode": "enforce", "quality": {"rmse": 0.99 * root_mean_squared_error(
        rows["y"][:200], 2 * rows["x"][:200])}}  # fmt: skip
    watch(tmp_path, gates=near, output=tmp_path / "near")  # within the interval
    with pytest.raises(ConfigError, match="'accuracy' is no metric of these predictions; there ar"):
        watch(tmp_path, gates={"quality": {"accuracy": 0.5}}, output=tmp_path / "unknown")
    with pytest.raises(ValidationError, match=r"there is no metric 'rsme'.*did you mean 'rmse'"):
        watch(tmp_path, gates={"quality": {"rsme": 0.5}})


def test_labels_that_cannot_be_matched_are_refused(tmp_path: Path, rows: pd.DataFrame) -> None:
    score_days(tmp_path)
    write_labels(tmp_path, pd.concat([rows, rows[:2]], ignore_index=True))
    with pytest.raises(
        LabelsRepeated, match=r"has several labels for 2 keys \(id\), such as \d, \d"
    ):
        watch(tmp_path)
    write_labels(tmp_path, rows)
    with pytest.raises(ColumnsMissing, match="lacks the columns 'truth'"):
        watch(tmp_path, {"column": "truth"})
    with pytest.raises(ColumnsMissing, match="predictions lacks the columns 'kind'"):
        watch(tmp_path, {"keys": ["kind"]})
    with pytest.raises(LabelsUnfit, match="it has no output 'score'; its outputs are prediction"):
        watch(tmp_path, {"prediction": "score"})
    texts = rows.assign(id="n" + rows["id"].astype(str))
    write_deltalake(str(tmp_path / "texts"), texts[["id", "y"]])
    with pytest.raises(KeysUnfit, match="has the key 'id' as string, but the predictions have it"):
        watch(tmp_path, {"path": str(tmp_path / "texts")})
    with pytest.raises(
        ArrivalUnfit, match=r"names the column 'kind' of .*, which is string; name a"
    ):
        watch(tmp_path, {"arrived_at": "kind"})
    with pytest.raises(ValidationError, match=r"gates\.quality needs labels"):
        monitor_job(tmp_path, baseline={"slices": "a"}, gates={"quality": {"rmse": 1}})
    assert not (tmp_path / "drift_quality").exists()


@pytest.mark.usefixtures("runner")
def test_labels_that_match_nothing_are_said_to(tmp_path: Path, rows: pd.DataFrame) -> None:
    score_days(tmp_path)
    write_labels(tmp_path, rows.assign(id=rows["id"] + 10_000))
    receipt = watch(tmp_path)
    assert evaluated(receipt) == dict.fromkeys(DAYS, (0, False))
    table = quality(tmp_path)
    assert table["metric"].tolist() == ["labelled_share"] * 3
    assert table["value"].tolist() == [0.0] * 3


@pytest.mark.usefixtures("runner")
def test_a_label_belongs_to_the_prediction_of_its_own_slice(tmp_path: Path) -> None:
    """Each customer is scored every day, so that a key alone names several predictions."""
    days = [dt.date.fromisoformat(day) for day in DAYS[:2]]
    rows = pd.DataFrame({"id": [7, 8, 7, 8], "day": [days[0]] * 2 + [days[1]] * 2, "x": range(4)})
    rows["x"] = rows["x"].astype(float)
    write_deltalake(str(tmp_path / "input"), rows)
    score_days(tmp_path, passthrough="keys")
    # 2x is 0, 2 on the first day and 4, 6 on the second, whose labels alone have arrived
    labels = rows.assign(y=[np.nan, np.nan, 5.0, 6.0], kind="")
    write_labels(tmp_path, labels)
    with pytest.raises(
        KeysInSlices, match="several slices share their id, so a label could belong"
    ):
        watch(tmp_path)
    assert evaluated(watch(tmp_path, {"slice_by": "day"})) == {
        DAYS[0]: (0, False), DAYS[1]: (2, True)
    }  # fmt: skip
    (only,) = quality(tmp_path, metric="mae").itertuples()
    assert (only.slice, only.value) == (DAYS[1], pytest.approx(0.5))


def test_each_slice_is_decided_by_the_threshold_that_it_was_scored_with(
    tmp_path: Path, rows: pd.DataFrame, models: dict[str, Any]
) -> None:
    write_labels(tmp_path, rows)
    chosen = {DAYS[0]: 0.2, DAYS[1]: 0.8}
    for day, threshold in chosen.items():
        score_days(tmp_path, model="kinds/1", slices=[day], prediction="proba", threshold=threshold)
    watch(tmp_path, {"column": "kind"})
    first, second = models["kinds"].classes_
    for day, threshold in chosen.items():
        part = rows[rows["day"].astype(str) == day]
        reached = models["kinds"].predict_proba(part[["x"]])[:, 1] >= threshold
        wanted = accuracy_score(part["kind"], np.where(reached, second, first))
        value = quality(tmp_path, slice=day, metric="accuracy")["value"].item()
        assert value == pytest.approx(wanted)


def test_labels_of_one_class_leave_undefined_what_needs_two_and_late_ones_need_no_input(
    tmp_path: Path, rows: pd.DataFrame
) -> None:
    score_days(tmp_path, model="kinds/1", slices=[DAYS[0], DAYS[1]], prediction="proba")
    write_labels(tmp_path, rows[rows["id"] >= 400])  # of a day that is not scored
    gates = {"quality": {"roc_auc": 0.5}}
    receipt = watch(tmp_path, {"column": "kind"}, gates=gates)
    assert receipt["status"] in {"quiet", "alarm"}
    shutil.rmtree(tmp_path / "input")  # its versions are gone when labels arrive
    day, first = rows["day"].astype(str), rows["kind"] == CLASSES[0]
    write_labels(tmp_path, rows[(day == DAYS[0]) & first])
    settings = {"column": "kind", "final_share": 0.1, "rank_by": "roc_auc"}
    receipt = watch(tmp_path, settings, gates=gates)
    assert receipt["status"] == "evaluated"
    assert receipt["summary"].startswith(f"{int((first & (day == DAYS[0])).sum())} labels in 2 sli")
    assert receipt["gates"]["passed"]
    (unknown,) = receipt["gates"]["unknown"]  # the other slice is not final
    assert unknown.startswith("roc_auc of 2013-12-01 has no value: ")
    values = quality(tmp_path, slice=DAYS[0]).set_index("metric")["value"]
    assert values["log_loss"] > 0


def test_quantiles_are_no_classes(register: Any, tmp_path: Path, rows: pd.DataFrame) -> None:
    class Quantiles(mlflow.pyfunc.PythonModel):
        def predict(self, context: Any, model_input: pd.DataFrame) -> pd.DataFrame:  # noqa: ARG002
            x = model_input["x"]
            return pd.DataFrame({"p_10": x, "p_90": 3 * x})

    frame = pd.DataFrame({"p_10": [1.0], "p_90": [3.0]})
    register("quantiles", Quantiles(), pd.DataFrame({"x": [1.0]}), frame)
    score_days(tmp_path, model="quantiles/1", slices=[DAYS[0]])
    write_labels(tmp_path, rows)
    with pytest.raises(
        LabelsUnfit, match="not clear which output has labels; its outputs are p_10"
    ):
        watch(tmp_path)
    (only,) = watch(tmp_path, {"prediction": "p_10"})["quality"]["slices"]
    part = rows[:200]
    assert only["metrics"]["rmse"] == pytest.approx(
        root_mean_squared_error(part["y"], part["x"]), rel=1e-9
    )
