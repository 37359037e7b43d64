"""Rows that a model cannot score: set aside, counted, and published only as far as one allows."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import score
from sklearn.linear_model import LinearRegression

from lakescore import scoring
from lakescore.config import ScoreJob
from lakescore.errors import (
    ConfigError,
    DuplicateKeys,
    EngineRefused,
    KeysInTwoSlices,
    NullsFound,
    RowsLost,
    ScoringFailed,
    TooManyErrors,
)

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import DataFrame, SparkSession

Write = Callable[["DataFrame", str], str]
pytestmark = pytest.mark.usefixtures("model", "runner")
SCHEMA = "id int, part string, x double, n int, note string"
ROWS = [
    (1, "a", 1.0, 1, "one"),
    (2, "a", -2.0, 2, "two"),  # the model refuses negative numbers
    (3, "a", 3.0, None, "three"),  # an integer that pandas cannot hold
    (4, "b", 4.0, 4, "four"),
]


@pytest.fixture(scope="module")
def model(register: Any) -> str:
    class Root(mlflow.pyfunc.PythonModel):
        """Takes roots of x + n, and raises on a batch with a negative x, as strict models do."""

        def predict(self, context: Any, model_input: pd.DataFrame) -> pd.Series:  # noqa: ARG002
            if (model_input["x"] < 0).any():
                raise ValueError("a negative number has no root")
            return (model_input["x"] + model_input["n"]) ** 0.5

    asks = pd.DataFrame({"x": [1.0], "n": np.array([1], "int32")})
    register("root", Root(), asks, np.array([1.0]))
    return "root/1"


@pytest.fixture
def job(spark: SparkSession, write: Write, tmp_path: Path) -> Callable[..., ScoreJob]:
    table = write(spark.createDataFrame(ROWS, SCHEMA), "rows")

    def make(**changes: Any) -> ScoreJob:
        plain: dict[str, Any] = {
            "model": "root/1",
            "input": {"path": table},
            "output": {"path": str(tmp_path / "predictions")},
            "id_columns": ["id"],
            "slice_by": "part",
            "slices": ["a", "b"],
        }
        return ScoreJob.model_validate(plain | changes)

    return make


def read(spark: SparkSession, address: str) -> DataFrame:
    return spark.read.format("delta").load(address)


def aside(spark: SparkSession, todo: ScoreJob) -> list[tuple[int, str, str]]:
    rows = read(spark, todo.aside).select("id", "error_type", "error_message").collect()
    return sorted(map(tuple, rows))


def ids(spark: SparkSession, todo: ScoreJob) -> list[int]:
    return sorted(row[0] for row in read(spark, todo.output.address).select("id").collect())


@pytest.mark.parametrize("scan", ["direct", "spark"])
def test_one_bad_row_is_set_aside_and_nothing_is_published_unless_it_is_allowed(
    spark: SparkSession, job: Any, scan: str
) -> None:
    todo = job(scan=scan)
    with pytest.raises(TooManyErrors, match="could not score 2 of 4 rows, and 0 are") as raised:
        score.run(todo)
    assert raised.value.exit_code == 6
    assert raised.value.facts["rows_quarantined"] == 2
    assert ids(spark, todo) == []
    expected = [
        (2, "ValueError", "a negative number has no root"),
        (3, "NullInput", "n is null"),
    ]
    assert aside(spark, todo) == expected
    receipt = score.run(job(scan=scan, max_errors=2))
    assert (receipt["rows_in"], receipt["rows_scored"], receipt["rows_quarantined"]) == (4, 2, 2)
    assert [(e["slice"], e["rows_quarantined"]) for e in receipt["slices"]] == [("a", 2), ("b", 0)]
    assert ids(spark, todo) == [1, 4]
    assert aside(spark, todo) == expected
    row = read(spark, todo.aside).where("id = 3").head()
    assert row is not None
    assert (row.model_uri, row.slice, row.input_version) == ("models:/root/1", "a", 0)
    assert "note" not in row  # the keys alone, for privacy's sake


def test_a_rerun_within_the_budget_does_nothing_and_mended_rows_leave_the_quarantine(
    spark: SparkSession, job: Any, write: Write
) -> None:
    todo = job(max_error_fraction=0.5)
    assert score.run(todo)["rows_quarantined"] == 2
    again = score.run(todo)
    assert (again["status"], again["rows_quarantined"]) == ("unchanged", 2)
    write(spark.createDataFrame([(1, "a", 1.0, 1, ""), (4, "b", 4.0, 4, "")], SCHEMA), "rows")
    assert score.run(todo)["rows_quarantined"] == 0
    assert aside(spark, todo) == []
    assert ids(spark, todo) == [1, 4]


def test_the_quarantine_holds_whole_rows_where_one_asks_for_them(
    spark: SparkSession, job: Any, tmp_path: Path
) -> None:
    todo = job(quarantine={"path": str(tmp_path / "bad")}, quarantine_columns="all", max_errors=2)
    score.run(todo)
    found = read(spark, str(tmp_path / "bad")).select("id", "x", "n", "note").collect()
    assert sorted(map(tuple, found)) == [(2, -2.0, 2, "two"), (3, 3.0, None, "three")]


def test_a_null_is_published_as_null_set_aside_or_refused_as_the_job_says(
    spark: SparkSession, job: Any
) -> None:
    only = {"slices": ["a"], "max_errors": 2}
    with pytest.raises(EngineRefused, match="it hands every row to the model, and nulls says n: n"):
        score.run(job(**only, nulls={"n": "null"}, engine="spark_udf"))
    score.run(job(**only, nulls={"n": "null"}))
    rows = read(spark, job().output.address).select("id", "prediction").collect()
    assert sorted(map(tuple, rows)) == [(1, 2.0**0.5), (3, None)]
    with pytest.raises(NullsFound, match="'n' in 1 rows; nothing of their slices was"):
        score.run(job(**only, nulls={"n": "fail"}))
    with pytest.raises(ConfigError, match="name 'm', which models:/root/1 does not take"):
        score.run(job(**only, nulls={"m": "null"}))


def test_that_no_null_is_there_is_seen_by_whoever_reads_the_rows(job: Any, runner: str) -> None:
    rule = {"nulls": {"n": "fail"}, "slices": ["b"]}  # the null is of slice a
    receipt = score.run(job(**rule))
    assert (receipt["status"], receipt["runner"]["name"]) == ("scored", runner)
    for scan in ("direct", "spark"):
        with pytest.raises(NullsFound, match="'n' in 1 rows; nothing of their slices was"):
            score.run(job(**rule | {"slices": ["a"]}, scan=scan))


def test_rows_of_a_slice_that_share_a_key_are_refused_unless_they_are_kept(
    spark: SparkSession, job: Any, write: Write
) -> None:
    rows = [
        (1, "a", 1.0, 1, ""),
        (1, "a", 2.0, 1, ""),  # the same key in the same slice
        (2, "a", 1.0, 1, ""),
        (2, "b", 1.0, 1, ""),  # the same key in another slice
    ]
    write(spark.createDataFrame(rows, SCHEMA), "rows")
    with pytest.raises(DuplicateKeys, match=r"2 rows of .* share their id .* such as 1; nothing"):
        score.run(job())
    assert score.run(job(on_duplicate_key="keep"))["rows_scored"] == 4
    assert ids(spark, job()) == [1, 1, 2, 2]


def test_bad_rows_among_many_are_found_in_few_calls_and_the_rest_is_predicted_once(
    spark: SparkSession, register: Any, write: Write, job: Any, tmp_path: Path
) -> None:
    calls = tmp_path / "calls"

    class Counting(mlflow.pyfunc.PythonModel):
        def predict(self, context: Any, model_input: pd.DataFrame) -> pd.Series:  # noqa: ARG002
            bad = (model_input["x"] < 0).any()
            with calls.open("a") as file:
                file.write(f"{len(model_input)} {'bad' if bad else 'good'}\n")
            if bad:
                raise ValueError("negative")
            return model_input["x"]

    version = register("counting", Counting(), pd.DataFrame({"x": [1.0]}), np.array([1.0]))
    many, bad = 4096, {7, 8, 4000}
    rows = [(i, "a", -1.0 if i in bad else 1.0, 1, "") for i in range(many)]
    write(spark.createDataFrame(rows, SCHEMA).coalesce(1), "rows")
    todo = job(model=f"counting/{version}", slices=["a"], max_errors=3)
    original = score.scoring.plan

    def forget_the_probe(*args: Any, **more: Any) -> Any:
        found = original(*args, **more)
        calls.write_text("")
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(score.scoring, "plan", forget_the_probe)
        receipt = score.run(todo)
    assert (receipt["rows_scored"], receipt["rows_quarantined"]) == (many - 3, 3)
    assert receipt["engine"]["rows_predicted"] == many
    made = [line.split() for line in calls.read_text().splitlines()]
    assert sum(int(size) for size, kind in made if kind == "good") == many - 3
    assert len(made) <= 2 * 3 * 12 + 1  # 2 k log2 n


def test_an_error_that_hits_every_row_fails_at_once(
    spark: SparkSession, register: Any, write: Write, job: Any
) -> None:
    class Broken(mlflow.pyfunc.PythonModel):
        def predict(self, context: Any, model_input: pd.DataFrame) -> pd.Series:  # noqa: ARG002
            raise KeyError("a column that nobody has")

    register("broken", Broken(), pd.DataFrame({"x": [1.0]}), np.array([1.0]))
    write(spark.createDataFrame([(i, "a", 1.0, 1, "") for i in range(500)], SCHEMA), "rows")
    todo = job(model="broken/1", slices=["a"])
    with pytest.raises(ScoringFailed, match="could not score any of 400 rows tried: KeyError"):
        score.run(todo)


@pytest.mark.parametrize(("by", "step"), [("spark", "tried"), ("direct", "file")])
def test_rows_that_vanish_on_the_way_publish_nothing(
    spark: SparkSession, job: Any, monkeypatch: pytest.MonkeyPatch, by: str, step: str
) -> None:
    todo = job(slices=["b"], write=by)
    real = getattr(scoring, step)
    lose = {
        "tried": lambda planned: real(planned).where("id < 0"),  # nor do tasks say anything
        "file": lambda *_: [],
    }
    monkeypatch.setattr(scoring, step, lose[step])
    with pytest.raises(RowsLost, match="slice b has 1 input rows, and 0 were scored and 0 set"):
        score.run(todo)
    assert ids(spark, todo) == []


def test_the_modes_replace_append_and_merge_keep_what_they_say(
    spark: SparkSession, register: Any, write: Write, job: Any
) -> None:
    frame = pd.DataFrame({"x": [0.0, 1.0]})
    for factor in (2, 3):
        register("times", LinearRegression().fit(frame, factor * frame["x"]), frame)
    table = [(1, "a", 1.0, 1, ""), (2, "a", 2.0, 1, "")]
    write(spark.createDataFrame(table, SCHEMA), "rows")

    def values() -> list[tuple[int, int, float]]:
        rows = read(spark, job().output.address)
        found = rows.select("id", "model_version", "prediction").collect()
        return sorted((row[0], row[1], round(row[2], 6)) for row in found)

    def run(version: int, mode: str) -> str:
        todo = job(model=f"times/{version}", write_mode=mode, slices=["a"])
        return str(score.run(todo)["status"])

    first, second = [(1, 1, 2.0), (2, 1, 4.0)], [(1, 2, 3.0), (2, 2, 6.0)]
    assert run(1, "append") == "scored"
    assert run(1, "append") == "unchanged"  # once
    assert run(2, "append") == "scored"
    assert values() == sorted([*first, *second])
    assert run(1, "replace") == "scored"
    assert values() == first
    write(spark.createDataFrame([(2, "a", 5.0, 1, ""), (3, "a", 1.0, 1, "")], SCHEMA), "rows")
    assert run(2, "merge") == "scored"
    assert values() == [(1, 1, 2.0), (2, 2, 15.0), (3, 2, 3.0)]
    assert run(2, "merge") == "unchanged"


@pytest.mark.parametrize("commits", ["all", "slice"])
def test_rows_that_are_merged_by_a_key_that_two_slices_have_are_refused(
    spark: SparkSession, write: Write, job: Any, commits: str
) -> None:
    todo = job(write_mode="merge", commits=commits)
    rows = [(1, "a", 1.0, 1, ""), (1, "b", 2.0, 1, ""), (2, "b", 3.0, 1, "")]
    write(spark.createDataFrame(rows, SCHEMA), "rows")
    refused = r"2 rows of .* share their id with a row of another slice, such as 1, so write_mode"
    with pytest.raises(KeysInTwoSlices, match=refused):
        score.run(todo)  # into a table that is made, where no row is matched yet
    assert score.run(job(write_mode="merge", slices=["b"]))["rows_scored"] == 2
    with pytest.raises(KeysInTwoSlices):
        score.run(todo)  # slice b is done, and a would take a row from it
    by_both = {"id_columns": ["id", "part"], "output": {"path": f"{todo.output.address}-2"}}
    assert score.run(job(write_mode="merge", commits=commits, **by_both))["rows_scored"] == 3


def test_what_a_run_appended_is_not_appended_again_though_another_set_rows_aside_since(
    spark: SparkSession, register: Any, write: Write, job: Any
) -> None:
    class Times(mlflow.pyfunc.PythonModel):
        def __init__(self, factor: int) -> None:
            self.factor = factor

        def predict(self, context: Any, model_input: pd.DataFrame) -> pd.Series:  # noqa: ARG002
            if (model_input["x"] < 0).any():
                raise ValueError("negative")
            return self.factor * model_input["x"]

    for factor in (2, 3):
        register("appended", Times(factor), pd.DataFrame({"x": [1.0]}), np.array([1.0]))
    write(spark.createDataFrame([(1, "a", 1.0, 1, ""), (2, "a", -1.0, 1, "")], SCHEMA), "rows")

    def run(version: int) -> dict[str, Any]:
        asked = {"write_mode": "append", "slices": ["a"], "max_errors": 1}
        return dict(score.run(job(model=f"appended/{version}", **asked)))

    assert [run(version)["status"] for version in (1, 2)] == ["scored", "scored"]
    again = run(1)
    assert (again["status"], "engine" in again) == ("unchanged", False)  # nothing was scored
    assert ids(spark, job()) == [1, 1]


def test_an_error_after_slices_were_committed_names_them(spark: SparkSession, job: Any) -> None:
    todo = job(slices=["b", "a"], commits="slice")
    with pytest.raises(TooManyErrors) as raised:
        score.run(todo)
    sentence = str(raised.value)
    assert "no prediction of a was published" in sentence
    assert sentence.endswith("; before that, slices b of this run were published")
    (published,) = raised.value.facts["slices"]  # type: ignore[misc]
    assert (published["slice"], published["status"], published["rows_scored"]) == ("b", "scored", 1)
    assert ids(spark, todo) == [4]
