"""Quality: the metrics of predictions whose labels have arrived, against scikit-learn."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

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
    DriftNotAccepted,
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
    if joins == "spark":

        def decline(*_: Any) -> None:
            raise NotEligible("only Spark reads this")

        monkeypatch.setattr(scanning, "read", decline)
    receipt = watch(tmp_path, by=["color"])
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
