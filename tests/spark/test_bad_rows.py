"""Rows that a model cannot score: set aside, counted, and published only if the job allows it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import score
from builders.jobs import score_job
from builders.tables import make_table, rows_of
from sklearn.linear_model import LinearRegression

from lakescore import scoring
from lakescore.engines.plan import EngineRefused
from lakescore.errors import ConfigError, ScoringFailed
from lakescore.publishing import RowsLost, TooManyErrors
from lakescore.slicing import DuplicateKeys, KeysInTwoSlices, NullsFound

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pyspark.sql import SparkSession

    from lakescore.config import ScoreJob

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
def table(tmp_path: Path) -> str:
    return make_table(tmp_path / "rows", ROWS, SCHEMA)


@pytest.fixture
def job(table: str, tmp_path: Path) -> Callable[..., ScoreJob]:
    return partial(score_job, tmp_path, table, model="root/1", slice_by="part", slices=["a", "b"])


def aside(config: ScoreJob) -> list[tuple[Any, ...]]:
    return rows_of(config.quarantine_address, "id", "error_type", "error_message")


def ids(config: ScoreJob) -> list[int]:
    return [row[0] for row in rows_of(config.output.address, "id")]


@pytest.mark.parametrize("scan", ["direct", "spark"])
def test_one_bad_row_is_set_aside_and_nothing_is_published_unless_it_is_allowed(
    spark: SparkSession, job: Any, scan: str
) -> None:
    config = job(scan=scan)
    with pytest.raises(
        TooManyErrors, match="could not score 2 of 4 rows, but only 0 may"
    ) as raised:
        score.run(config)
    assert raised.value.exit_code == 6
    assert raised.value.facts["rows_quarantined"] == 2
    assert ids(config) == []
    expected = [
        (2, "ValueError", "a negative number has no root"),
        (3, "NullInput", "n is null"),
    ]
    assert aside(config) == expected
    receipt = score.run(job(scan=scan, max_errors=2))
    assert (receipt["rows_in"], receipt["rows_scored"], receipt["rows_quarantined"]) == (4, 2, 2)
    assert [(e["slice"], e["rows_quarantined"]) for e in receipt["slices"]] == [("a", 2), ("b", 0)]
    assert ids(config) == [1, 4]
    assert aside(config) == expected
    rows = spark.read.format("delta").load(config.quarantine_address)
    records = rows.select("id", "error_type", "error_message").collect()
    assert sorted(map(tuple, records)) == expected  # so Spark reads it, too
    assert rows_of(config.quarantine_address, "id", "model_uri", "slice", "input_version")[1] == (
        3, "models:/root/1", "a", 0,
    )  # fmt: skip
    assert "note" not in rows.columns  # the keys alone, for privacy's sake


def test_a_rerun_within_the_budget_does_nothing_and_mended_rows_leave_the_quarantine(
    job: Any, table: str
) -> None:
    config = job(max_error_fraction=0.5)
    assert score.run(config)["rows_quarantined"] == 2
    again = score.run(config)
    assert (again["status"], again["rows_quarantined"]) == ("unchanged", 2)
    make_table(table, [(1, "a", 1.0, 1, ""), (4, "b", 4.0, 4, "")], SCHEMA, mode="overwrite")
    assert score.run(config)["rows_quarantined"] == 0
    assert aside(config) == []
    assert ids(config) == [1, 4]


def test_the_quarantine_holds_whole_rows_where_one_asks_for_them(job: Any, tmp_path: Path) -> None:
    config = job(quarantine=tmp_path / "bad", quarantine_columns="all", max_errors=2)
    score.run(config)
    assert rows_of(tmp_path / "bad", "id", "x", "n", "note") == [
        (2, -2.0, 2, "two"),
        (3, 3.0, None, "three"),
    ]


def test_a_null_is_published_as_null_set_aside_or_refused_as_the_job_says(job: Any) -> None:
    only = {"slices": ["a"], "max_errors": 2}
    with pytest.raises(
        EngineRefused, match="it passes every row to the model, but nulls asks for n: n"
    ):
        score.run(job(**only, nulls={"n": "null"}, engine="spark_udf"))
    score.run(job(**only, nulls={"n": "null"}))
    assert rows_of(job().output.address, "id", "prediction") == [(1, 2.0**0.5), (3, None)]
    with pytest.raises(NullsFound, match="'n' in 1 row; their slices were not scored"):
        score.run(job(**only, nulls={"n": "fail"}))
    with pytest.raises(ConfigError, match="name 'm', which models:/root/1 does not take"):
        score.run(job(**only, nulls={"m": "null"}))


def test_that_no_null_is_there_is_seen_by_whoever_reads_the_rows(job: Any, runner: str) -> None:
    rule = {"nulls": {"n": "fail"}, "slices": ["b"]}  # the null is of slice a
    receipt = score.run(job(**rule))
    assert (receipt["status"], receipt["runner"]["name"]) == ("scored", runner)
    for scan in ("direct", "spark"):
        with pytest.raises(NullsFound, match="'n' in 1 row; their slices were not scored"):
            score.run(job(**rule | {"slices": ["a"]}, scan=scan))


def test_rows_of_a_slice_that_share_a_key_are_refused_unless_they_are_kept(
    job: Any, table: str
) -> None:
    rows = [
        (1, "a", 1.0, 1, ""),
        (1, "a", 2.0, 1, ""),  # the same key in the same slice
        (2, "a", 1.0, 1, ""),
        (2, "b", 1.0, 1, ""),  # the same key in another slice
    ]
    make_table(table, rows, SCHEMA, mode="overwrite")
    with pytest.raises(DuplicateKeys, match=r"2 rows of .* share their id .* such as 1; their"):
        score.run(job())
    assert score.run(job(on_duplicate_key="keep"))["rows_scored"] == 4
    assert ids(job()) == [1, 1, 2, 2]


def test_bad_rows_among_many_are_found_in_few_calls_and_the_rest_is_predicted_once(
    register: Any, table: str, job: Any, tmp_path: Path
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
    make_table(table, rows, SCHEMA, mode="overwrite")
    config = job(model=f"counting/{version}", slices=["a"], max_errors=3)
    original = score.scoring.plan

    def forget_the_probe(*args: Any, **more: Any) -> Any:
        plan = original(*args, **more)
        calls.write_text("")
        return plan

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(score.scoring, "plan", forget_the_probe)
        receipt = score.run(config)
    assert (receipt["rows_scored"], receipt["rows_quarantined"]) == (many - 3, 3)
    assert receipt["engine"]["rows_predicted"] == many
    made = [line.split() for line in calls.read_text().splitlines()]
    assert sum(int(size) for size, kind in made if kind == "good") == many - 3
    assert len(made) <= 2 * 3 * 12 + 1  # 2 k log2 n


def test_an_error_that_hits_every_row_fails_at_once(register: Any, table: str, job: Any) -> None:
    class Broken(mlflow.pyfunc.PythonModel):
        def predict(self, context: Any, model_input: pd.DataFrame) -> pd.Series:  # noqa: ARG002
            raise KeyError("a column that nobody has")

    register("broken", Broken(), pd.DataFrame({"x": [1.0]}), np.array([1.0]))
    make_table(table, [(i, "a", 1.0, 1, "") for i in range(500)], SCHEMA, mode="overwrite")
    config = job(model="broken/1", slices=["a"])
    with pytest.raises(ScoringFailed, match="could not score any of 400 rows tried: KeyError"):
        score.run(config)


@pytest.mark.parametrize("by", ["spark", "direct"])
def test_rows_that_vanish_on_the_way_publish_nothing(
    job: Any, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    config = job(slices=["b"], write=by)
    tried = scoring.tried
    # no task reports the rows either
    monkeypatch.setattr(scoring, "tried", lambda planned: tried(planned).where("id < 0"))
    monkeypatch.setattr(scoring.Execution, "write_files", lambda *_: [])
    with pytest.raises(RowsLost, match="slice b do not add up: 1 in the input, 0 scored, 0 quar"):
        score.run(config)
    assert ids(config) == []


def test_the_modes_replace_append_and_merge_keep_what_they_say(
    register: Any, table: str, job: Any
) -> None:
    frame = pd.DataFrame({"x": [0.0, 1.0]})
    for factor in (2, 3):
        register("times", LinearRegression().fit(frame, factor * frame["x"]), frame)
    rows = [(1, "a", 1.0, 1, ""), (2, "a", 2.0, 1, "")]
    make_table(table, rows, SCHEMA, mode="overwrite")

    def values() -> list[tuple[int, int, float]]:
        predictions = rows_of(job().output.address, "id", "model_version", "prediction")
        return [(key, version, round(value, 6)) for key, version, value in predictions]

    def run(version: int, mode: str) -> str:
        config = job(model=f"times/{version}", write_mode=mode, slices=["a"])
        return str(score.run(config)["status"])

    first, second = [(1, 1, 2.0), (2, 1, 4.0)], [(1, 2, 3.0), (2, 2, 6.0)]
    assert run(1, "append") == "scored"
    assert run(1, "append") == "unchanged"  # once
    assert run(2, "append") == "scored"
    assert values() == sorted([*first, *second])
    assert run(1, "replace") == "scored"
    assert values() == first
    make_table(table, [(2, "a", 5.0, 1, ""), (3, "a", 1.0, 1, "")], SCHEMA, mode="overwrite")
    assert run(2, "merge") == "scored"
    assert values() == [(1, 1, 2.0), (2, 2, 15.0), (3, 2, 3.0)]
    assert run(2, "merge") == "unchanged"


@pytest.mark.parametrize("commits", ["all", "slice"])
def test_rows_that_are_merged_by_a_key_that_two_slices_have_are_refused(
    table: str, job: Any, commits: str
) -> None:
    config = job(write_mode="merge", commits=commits)
    rows = [(1, "a", 1.0, 1, ""), (1, "b", 2.0, 1, ""), (2, "b", 3.0, 1, "")]
    make_table(table, rows, SCHEMA, mode="overwrite")
    refused = r"2 rows of .* share their id with a row of another slice, such as 1, so write_mode"
    with pytest.raises(KeysInTwoSlices, match=refused):
        score.run(config)  # into a table that is made, where no row is matched yet
    assert score.run(job(write_mode="merge", slices=["b"]))["rows_scored"] == 2
    with pytest.raises(KeysInTwoSlices):
        score.run(config)  # slice b is published, and slice a would take a row from it
    by_both = {"id_columns": ["id", "part"], "output": f"{config.output.address}-2"}
    assert score.run(job(write_mode="merge", commits=commits, **by_both))["rows_scored"] == 3


def test_what_a_run_appended_is_not_appended_again_though_another_set_rows_aside_since(
    register: Any, table: str, job: Any
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
    make_table(table, [(1, "a", 1.0, 1, ""), (2, "a", -1.0, 1, "")], SCHEMA, mode="overwrite")

    def run(version: int) -> dict[str, Any]:
        asked = {"write_mode": "append", "slices": ["a"], "max_errors": 1}
        return dict(score.run(job(model=f"appended/{version}", **asked)))

    assert [run(version)["status"] for version in (1, 2)] == ["scored", "scored"]
    again = run(1)
    assert (again["status"], "engine" in again) == ("unchanged", False)  # nothing was scored
    assert ids(job()) == [1, 1]


def test_an_error_after_slices_were_committed_names_them(job: Any) -> None:
    config = job(slices=["b", "a"], commits="slice")
    with pytest.raises(TooManyErrors) as raised:
        score.run(config)
    sentence = str(raised.value)
    assert "no prediction of a was published" in sentence
    assert sentence.endswith("; before this error, the run published the slices b")
    (published,) = raised.value.facts["slices"]  # type: ignore[misc]
    assert (published["slice"], published["status"], published["rows_scored"]) == ("b", "scored", 1)
    assert ids(config) == [4]
