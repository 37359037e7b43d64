"""The three functions of `import lakescore`: the jobs, and predictions for a DataFrame."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from builders.models import constant_model, delay_model, flights
from builders.tables import make_table, rows_of
from pyspark.errors import PySparkException
from sklearn.linear_model import LinearRegression, LogisticRegression

import lakescore
from lakescore import session
from lakescore.errors import (
    ColumnsMissing,
    ConfigError,
    InputContractError,
    LakescoreError,
    ScoringFailed,
)
from lakescore.interface.predicting import ZoneDiffers
from lakescore.registry.errors import AliasNotFound
from lakescore.signature import ColumnsCollide

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import DataFrame, SparkSession

FRAME = pd.DataFrame({"id": range(300), "x": np.linspace(-1.0, 1.0, 300)})
BAD = (3, 9)
CLASSIFIER = LogisticRegression(C=1e6).fit(FRAME[["x"]], FRAME["x"] > 0)


@pytest.fixture(scope="module", autouse=True)
def versions(register: Any) -> None:
    """Version 1 of flight-delay is a fitted model, version 2 gives 7 for every row."""
    register("flight-delay")
    register("flight-delay", constant_model(7.0), flights()[["dep_delay", "distance"]])
    register("tumour", CLASSIFIER, FRAME[["x"]])  # it refuses NaN


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LAKESCORE_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def departures(home: Path) -> str:
    rows = [(n, float(n), 100.0 * n) for n in range(10)]
    return make_table(
        home / "lake" / "departures", rows, "id int, dep_delay double, distance double"
    )


@pytest.fixture
def frame(spark: SparkSession) -> DataFrame:
    rows = [(n, f"a{n}", float(n), 100.0 * n) for n in range(10)]
    return spark.createDataFrame(rows, "id int, carrier string, dep_delay double, distance double")


def expected(of: DataFrame) -> list[float]:
    """Return what version 1 gives for the rows, by pandas."""
    rows = pd.DataFrame([row.asDict() for row in of.orderBy("id").collect()])
    return list(delay_model().predict(rows[["dep_delay", "distance"]]).tolist())


def test_the_import_is_light_and_lists_its_functions() -> None:
    code = (
        "import sys, lakescore; heavy = {'pyspark', 'mlflow', 'pandas', 'pydantic', 'pyarrow'}; "
        "print(sorted(heavy & sys.modules.keys()), *lakescore.__all__, dir(lakescore)[-3:])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("]")[0] == "["
    names = "[lakescore.sql.register, lakescore.ml.MLFlowTransformer, lakescore.predict]"
    code = f"import lakescore; print(len({names}), lakescore.score.__module__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["3", "lakescore.interface.jobs"]
    with pytest.raises(AttributeError, match="no attribute 'scoer'"):
        _ = lakescore.scoer


# score and compare


@pytest.mark.usefixtures("home")
def test_a_job_in_python_is_the_job_of_the_file(departures: str, home: Path) -> None:
    job = {
        "model": "flight-delay/1", "input": departures, "output": home / "out",
        "id_columns": ["id"], "threshold": 12.5, "nulls": {"distance": "quarantine"},
    }  # fmt: skip
    first = lakescore.score(**job)
    assert (first["status"], first["rows_scored"], first["job"]) == ("scored", 10, "score")
    file = home / "job.yaml"
    file.write_text(
        f"model: flight-delay/1\ninput: {{path: {departures}}}\noutput: {{path: {home}/out}}\n"
        "id_columns: [id]\nthreshold: 12.5\nnulls: {distance: quarantine}\n"
    )
    again = lakescore.score(file)
    # The numbers and paths of Python have the meaning of the file's, so the run is recognised.
    assert again["status"] == "unchanged"
    assert again["slices"][0]["run_id"] == first["slices"][0]["run_id"]
    other = lakescore.score(str(file), model="flight-delay/2", run_id="other")
    assert other["model"]["version"] == 2
    assert {value for (value,) in rows_of(home / "out", "prediction")} == {7.0}


def test_tables_are_paths_names_or_the_mappings_of_a_file(departures: str, home: Path) -> None:
    job = {"model": "flight-delay/1", "output": "lake/out", "id_columns": ["id"]}
    lakescore.score(**job, input="lake/departures")  # below LAKESCORE_HOME, as in a file
    assert len(rows_of(home / "lake" / "out")) == 10
    make_table(
        departures, [(99, 1.0, 1.0)], "id int, dep_delay double, distance double", mode="append"
    )
    pinned = lakescore.score(**job, input={"path": departures, "version": 0})
    assert pinned["status"] == "unchanged"  # the second version of the table is not read
    with pytest.raises(LakescoreError, match="departures"):  # a name in the catalog, which has none
        lakescore.score(**job, input="departures")


def test_a_receipt_is_a_mapping_and_a_table(departures: str, home: Path) -> None:
    receipt = lakescore.score(
        model="flight-delay/1", input=departures, output=home / "out<b>", id_columns=["id"]
    )
    assert dict(receipt)["rows_in"] == receipt["rows_in"] == 10
    assert json.loads(repr(receipt))["status"] == "scored"
    shown = receipt._repr_html_()
    assert "<th>scored</th><td>10</td>" in shown
    assert "models:/flight-delay/1 (flight-delay/1)" in shown
    assert "out&lt;b&gt;" in shown
    assert "<b>" not in shown
    plan = lakescore.score(
        model="flight-delay/2", input=departures, output=home / "out", id_columns=["id"], plan=True
    )
    assert "<th>would score</th><td>10 rows</td>" in plan._repr_html_()
    assert plan._repr_html_().count("<td>7</td>") >= 10  # the predictions of the probe
    assert not (home / "out").exists()


def test_a_comparison_shows_its_ranking(home: Path, capsys: Any) -> None:
    rows = [(n, float(n), 100.0 * n, 7.0) for n in range(10)]
    columns = "id int, dep_delay double, distance double, arr_delay double"
    holdout = make_table(home / "holdout", rows, columns)
    comparison = lakescore.compare(
        versions=["flight-delay/1", "flight-delay/2"], holdout=holdout, label="arr_delay",
        output=home / "ranking", report=str(home / "reports"), id_columns=["id"], bootstraps=100,
    )  # fmt: skip
    assert comparison["ranking"][0]["version"] == 2  # it gives the label itself
    shown = comparison._repr_html_()
    assert "<td>1</td><td>models:/flight-delay/2</td><td>0</td>" in shown
    capsys.readouterr()
    comparison.show()
    assert capsys.readouterr().out.strip() == comparison["report"]["html"]


def test_wrong_arguments_are_one_line(
    departures: str, home: Path, frame: DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    job: dict[str, Any] = {
        "model": "flight-delay/1", "input": departures, "output": home / "out",
        "id_columns": ["id"],
    }  # fmt: skip
    wrong = [
        ({"modle": "x/1"}, r"lakescore.score: unknown key 'modle' \(did you mean 'model'\?\)"),
        ({"input": frame}, r"input is a DataFrame, .*; lakescore.predict takes a DataFrame"),
        ({"threshold": b"1"}, r"threshold is a bytes, and can be only what a job's file has"),
        ({"timeout_seconds": 60}, r"timeout_seconds ends the process of a job, which is your own"),
        ({"max_errors": True}, r"max_errors: Input should be a valid integer"),
    ]
    for keys, line in wrong:
        with pytest.raises(ConfigError, match=line) as error:
            lakescore.score(**job | keys)
        assert "\n" not in str(error.value)
    (shown,) = error.value._render_traceback_()
    assert shown.startswith("ConfigError: lakescore.score: max_errors")
    monkeypatch.setenv("LAKESCORE_VERBOSE", "1")
    assert len(error.value._render_traceback_()) > 5
    assert not (home / "out").exists()


def test_an_error_has_its_code_and_a_receipt(departures: str, home: Path) -> None:
    with pytest.raises(AliasNotFound) as error:
        lakescore.score(
            model="flight-delay@chammpion", input=departures, output=home / "out",
            id_columns=["id"], receipt=home / "receipt.json",
        )  # fmt: skip
    assert error.value.exit_code == 3
    receipt = json.loads((home / "receipt.json").read_text())
    assert (receipt["status"], receipt["code"]) == ("failed", "alias_not_found")


def test_an_error_that_nobody_expected_is_one_line_with_its_cause(
    departures: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no luck\nat all")

    monkeypatch.setattr("lakescore.assignment.pin", broken)
    with pytest.raises(LakescoreError, match=r"^RuntimeError: no luck") as error:
        lakescore.score(
            model="flight-delay/1", input=departures, output=home / "out", id_columns=["id"]
        )
    assert isinstance(error.value.__cause__, RuntimeError)


def test_a_job_leaves_the_session_of_the_caller_as_it_is(
    spark: SparkSession, departures: str, home: Path
) -> None:
    ours = {name: spark.conf.get(name) for name in (session.MODELS, "spark.sql.session.timeZone")}
    try:
        spark.conf.unset(session.MODELS)  # as a notebook's
        spark.conf.set("spark.sql.session.timeZone", "Europe/Berlin")
        receipt = lakescore.score(
            model="flight-delay/1", input=departures, output=home / "out", id_columns=["id"]
        )
        assert receipt["runner"] == {"name": "spark", "reason": "it runs already"}
        assert spark.conf.get("spark.sql.session.timeZone") == "Europe/Berlin"
        assert spark.conf.get(session.MODELS, None) is None
    finally:
        for name, value in ours.items():
            spark.conf.set(name, str(value))


# predict


@pytest.mark.parametrize("engine", ["arrow", "spark_udf"])
def test_a_frame_gets_the_predictions_of_pandas_beside_all_its_columns(
    frame: DataFrame, engine: str, capsys: pytest.CaptureFixture[str]
) -> None:
    scored = lakescore.predict(frame, "flight-delay/1", engine=engine)
    assert "no trust policy" in capsys.readouterr().err
    assert scored.columns == [*frame.columns, "prediction"]
    rows = scored.orderBy("id").collect()
    assert [row["prediction"] for row in rows] == pytest.approx(expected(frame), abs=1e-9)
    assert [row["carrier"] for row in rows] == [f"a{n}" for n in range(10)]


def test_an_alias_that_moves_changes_nothing_of_a_lazy_frame(frame: DataFrame) -> None:
    client = mlflow.MlflowClient()
    client.set_registered_model_alias("flight-delay", "champion", "1")
    scored = lakescore.predict(frame, "flight-delay@champion", lineage=True)
    client.set_registered_model_alias("flight-delay", "champion", "2")
    rows = scored.orderBy("id").collect()
    assert [row["prediction"] for row in rows] == pytest.approx(expected(frame), abs=1e-9)
    lineage = {(row["model_name"], row["model_version"], row["model_uri"]) for row in rows}
    assert lineage == {("flight-delay", 1, "models:/flight-delay/1")}
    assert {row["model_reference"] for row in rows} == {"flight-delay@champion"}
    run = client.get_model_version("flight-delay", "1").run_id
    assert {row["model_run_id"] for row in rows} == {run}
    later = lakescore.predict(frame, "flight-delay@champion")
    assert {row["prediction"] for row in later.collect()} == {7.0}


def test_two_versions_score_one_frame_one_after_the_other(frame: DataFrame) -> None:
    first = lakescore.predict(frame, "flight-delay/1", lineage=True)
    renamed = first.withColumnRenamed("prediction", "first")
    both = lakescore.predict(renamed, "flight-delay/2")
    assert {row["prediction"] for row in both.collect()} == {7.0}
    assert sorted(row["first"] for row in both.collect()) == pytest.approx(sorted(expected(frame)))
    with pytest.raises(ColumnsCollide, match=r"'prediction' twice; .* leave it out of keep"):
        lakescore.predict(first, "flight-delay/2")
    with pytest.raises(ColumnsCollide, match="'model_name'"):
        lakescore.predict(renamed, "flight-delay/2", lineage=True)
    kept = lakescore.predict(first, "flight-delay/2", keep=["id"], lineage=True)
    assert kept.columns[:3] == ["id", "prediction", "model_name"]


@pytest.fixture
def patients(spark: SparkSession) -> DataFrame:
    """300 rows, of which two hold a NaN, which the model refuses."""
    values = [(n, None if n in BAD else float(x)) for n, x in FRAME.itertuples(index=False)]
    return spark.createDataFrame(values, "id int, x double")


def test_a_row_that_cannot_be_scored_ends_the_query_or_comes_back_with_its_error(
    patients: DataFrame,
) -> None:
    with pytest.raises(PySparkException, match="Input X contains NaN"):
        lakescore.predict(patients, "tumour/1").collect()
    scored = lakescore.predict(patients, "tumour/1", failing="null").orderBy("id").collect()
    assert [row["id"] for row in scored] == list(range(300))
    truth = CLASSIFIER.predict(FRAME[["x"]]).tolist()
    assert [row["prediction"] for row in scored] == [
        None if n in BAD else value for n, value in enumerate(truth)
    ]
    assert {row["id"] for row in scored if row["error"] is not None} == set(BAD)


def test_rules_for_nulls_lose_no_row_and_hide_none(patients: DataFrame) -> None:
    published = lakescore.predict(patients, "tumour/1", nulls={"x": "null"}).collect()
    assert len(published) == 300
    assert {row["id"] for row in published if row["prediction"] is None} == set(BAD)
    for rule in ("fail", "quarantine"):
        refused = lakescore.predict(patients, "tumour/1", nulls={"x": rule})
        with pytest.raises(PySparkException, match="null"):
            refused.collect()
    with pytest.raises(ConfigError, match=r"nulls.x: fail ends the query at a null"):
        lakescore.predict(patients, "tumour/1", nulls={"x": "fail"}, failing="null")
    with pytest.raises(LakescoreError, match="spark_udf"):  # which would give the model the null
        lakescore.predict(patients, "tumour/1", nulls={"x": "fail"}, engine="spark_udf")


def test_a_filter_on_the_prediction_predicts_each_row_once(
    frame: DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    lakescore.predict(frame, "flight-delay/1").where("prediction > 0 and id < 5").explain()
    assert capsys.readouterr().out.count("MapInArrow") == 1


@pytest.mark.parametrize("engine", ["arrow", "spark_udf"])
def test_a_null_in_an_integer_is_never_a_number(
    spark: SparkSession, register: Any, engine: str
) -> None:
    seats = pd.DataFrame({"seats": [1, 2, 3]})
    register(f"seats-{engine}", LinearRegression().fit(seats, seats["seats"] * 2.0), seats)
    rows = spark.createDataFrame(
        [(n, None if n == 250 else n) for n in range(300)], "id int, seats bigint"
    )
    scored = lakescore.predict(rows, f"seats-{engine}/1", engine=engine)
    with pytest.raises(PySparkException):
        scored.collect()
    if engine == "arrow":
        kept = lakescore.predict(rows, f"seats-{engine}/1", failing="null").collect()
        assert {row["id"] for row in kept if row["prediction"] is None} == {250}
        assert len(kept) == 300


def test_a_version_of_an_empty_frame_gives_no_rows(frame: DataFrame) -> None:
    assert lakescore.predict(frame.where("id < 0"), "flight-delay/1").count() == 0


def test_a_classifier_gives_probabilities_and_columns_have_other_names(
    spark: SparkSession,
) -> None:
    rows = spark.createDataFrame([(1, 0.9), (2, -0.9)], "id int, size double")
    scored = lakescore.predict(rows, "tumour/1", prediction="proba", columns={"x": "size"})
    values = {row["id"]: row["p_True"] for row in scored.collect()}
    truth = CLASSIFIER.predict_proba(pd.DataFrame({"x": [0.9, -0.9]}))[:, 1]
    assert [values[1], values[2]] == pytest.approx(truth.tolist())


def test_times_are_read_in_utc_or_not_at_all(spark: SparkSession, register: Any) -> None:
    class Hour(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202, ARG002 - MLflow reads hints
            return model_input["at"].dt.hour.astype("int64")

    register(
        "hour", Hour(), pd.DataFrame({"at": pd.to_datetime(["2020-01-01 23:30"])}), np.array([23])
    )
    rows = spark.sql("SELECT 1 AS id, timestamp'2020-01-01 23:30:00' AS at")
    scored = lakescore.predict(rows, "hour/1")
    try:
        spark.conf.set("spark.sql.session.timeZone", "Asia/Tokyo")
        assert [row["prediction"] for row in scored.collect()] == [23]  # as when it was pinned
        with pytest.raises(ZoneDiffers, match=r"column 'at'.*Asia/Tokyo.*'UTC'\) first"):
            lakescore.predict(rows, "hour/1")
    finally:
        spark.conf.set("spark.sql.session.timeZone", "UTC")


def test_what_cannot_be_predicted_is_one_line(spark: SparkSession, frame: DataFrame) -> None:
    stream = spark.readStream.format("rate").load()
    wrong: list[tuple[Any, str, dict[str, Any], type[LakescoreError], str]] = [
        (flights(), "flight-delay/1", {}, ConfigError, "takes a DataFrame of Spark, and got DataF"),
        (stream, "flight-delay/1", {}, ConfigError, "this one is a stream"),
        (frame, "flight-delay@none", {}, AliasNotFound, "none"),
        (frame, "flight-delay/1", {"kep": ["id"]}, ConfigError, "did you mean 'keep'"),
        (frame, "flight-delay/1", {"keep": ["ID"]}, ColumnsMissing, "the DataFrame lacks.*'ID'"),
        (frame, "flight-delay/1", {"run_id": "x"}, ConfigError, "unknown key 'run_id'"),
        (frame.drop("distance"), "flight-delay/1", {}, ColumnsMissing, "'distance'"),
        (frame.select(frame["carrier"].alias("x"), "id"), "tumour/1", {}, InputContractError, "x"),
    ]
    for rows, model, settings, kind, line in wrong:
        with pytest.raises(kind, match=line) as error:
            lakescore.predict(rows, model, **settings)
        assert "\n" not in str(error.value)


def test_a_model_that_scores_no_row_is_found_before_a_query_runs(spark: SparkSession) -> None:
    rows = spark.createDataFrame([(1, None)], "id int, x double")
    with pytest.raises(ScoringFailed, match="Input X contains NaN"):
        lakescore.predict(rows, "tumour/1", engine="spark_udf")
