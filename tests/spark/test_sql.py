"""PREDICT in SQL, as Fabric's documentation shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from builders.models import constant_model, delay_model, flights
from pyspark.errors import PySparkException
from pyspark.ml.feature import SQLTransformer
from pyspark.sql import functions
from sklearn.linear_model import LinearRegression, LogisticRegression

from lakescore import sql
from lakescore.errors import ConfigError
from lakescore.registry.errors import VersionNotFound

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

FEATURES = ["dep_delay", "distance"]

pytestmark = pytest.mark.skipif(
    not hasattr(functions, "arrow_udf"), reason="PREDICT in SQL needs Spark 4.1"
)


@pytest.fixture(scope="module", autouse=True)
def versions(register: Any) -> None:
    """Version 1 of flight-delay is a fitted model, version 2 gives 7 for every row."""
    register("flight-delay")
    register("flight-delay", constant_model(7.0), flights()[FEATURES])
    seats = pd.DataFrame({"seats": [1, 2, 3]})
    register("seats", LinearRegression().fit(seats, seats["seats"] * 2.0), seats)
    size = pd.DataFrame({"size": np.linspace(-1.0, 1.0, 50)})
    register(
        "label", LogisticRegression().fit(size, np.where(size["size"] > 0, "big", "small")), size
    )


@pytest.fixture
def session(spark: SparkSession) -> SparkSession:
    """A session with the table `departures`: 300 rows, in several types of numbers."""
    opened = spark.newSession()
    opened.range(300).selectExpr(
        "cast(id as int) AS id", "cast(id as double) AS dep_delay", "100.0D * id AS distance",
        "cast(id as smallint) AS small", "cast(id as bigint) AS big", "cast(id as string) AS text",
        "cast(id as decimal(9, 2)) AS exact", "if(id = 250, null, cast(id as bigint)) AS seats",
    ).createOrReplaceTempView("departures")  # fmt: skip
    return opened


def truth() -> list[float]:
    rows = pd.DataFrame([[float(n), 100.0 * n] for n in range(300)], columns=FEATURES)
    return list(delay_model().predict(rows).tolist())


def answers(session: SparkSession, call: str) -> list[Any]:
    rows = session.sql(f"SELECT id, {call} AS p FROM departures").orderBy("id").collect()
    assert [row["id"] for row in rows] == list(range(300))
    return [row["p"] for row in rows]


def test_columns_are_bound_by_order_or_by_name(session: SparkSession) -> None:
    sql.register(session, "flight-delay/1")
    by_order = answers(session, "PREDICT('flight-delay/1', dep_delay, distance)")
    assert by_order == pytest.approx(truth())
    by_name = answers(
        session, "PREDICT('flight-delay/1', distance => distance, dep_delay => dep_delay)"
    )
    assert by_name == by_order
    swapped = answers(session, "predict('flight-delay/1', distance, dep_delay)")
    assert swapped != pytest.approx(truth())


def test_the_snippet_of_fabric_runs(spark: SparkSession) -> None:
    sql.register(spark, "flight-delay/1")  # SQLTransformer runs in the first session of a process
    test = spark.range(300).selectExpr("1.0D * id AS dep_delay", "100.0D * id AS distance")
    model_name, model_version, features = "flight-delay", 1, test.columns
    sqlt = SQLTransformer().setStatement(
        f"SELECT PREDICT('{model_name}/{model_version}', {','.join(features)}) as predictions "
        "FROM __THIS__"
    )
    found = [row["predictions"] for row in sqlt.transform(test).collect()]
    assert sorted(found) == pytest.approx(sorted(truth()))


def test_versions_are_pinned_when_they_are_registered(session: SparkSession, capsys: Any) -> None:
    client = mlflow.MlflowClient()
    client.set_registered_model_alias("flight-delay", "champion", "1")
    sql.register(session, "flight-delay@champion")
    assert "PREDICT: flight-delay@champion is models:/flight-delay/1" in capsys.readouterr().err
    client.set_registered_model_alias("flight-delay", "champion", "2")
    by_alias = answers(session, "PREDICT('flight-delay@champion', dep_delay, distance)")
    assert by_alias == pytest.approx(truth())
    assert answers(session, "PREDICT('flight-delay/1', dep_delay, distance)") == by_alias
    sql.register(session, "flight-delay/2")  # adds one
    assert set(answers(session, "PREDICT('flight-delay/2', dep_delay, distance)")) == {7.0}
    assert answers(session, "PREDICT('flight-delay@champion', dep_delay, distance)") == by_alias


def test_numbers_are_cast_without_loss_or_not_at_all(session: SparkSession) -> None:
    sql.register(session, "flight-delay/1", "seats/1")
    expected = pytest.approx(truth())
    for column in ("small", "id", "exact", "cast(dep_delay as float)"):
        assert answers(session, f"PREDICT('flight-delay/1', {column}, distance)") == expected
    for column in ("big", "text", "true", "timestamp'2020-01-01 00:00:00'"):
        with pytest.raises(
            PySparkException, match=r"the column for dep_delay is \S+.*, and cannot"
        ):
            answers(session, f"PREDICT('flight-delay/1', {column}, distance)")
    for column in ("dep_delay", "exact"):  # they have digits after the point
        with pytest.raises(PySparkException, match="the column for seats is"):
            answers(session, f"PREDICT('seats/1', {column})")


def test_a_row_that_cannot_be_scored_ends_the_query(session: SparkSession) -> None:
    sql.register(session, "seats/1")
    with pytest.raises(PySparkException, match="models:/seats/1 could not score a row"):
        answers(session, "PREDICT('seats/1', seats)")  # one is null
    kept = session.sql(
        "SELECT id, PREDICT('seats/1', seats) AS p FROM departures WHERE seats IS NOT NULL"
    )
    assert sorted(row["p"] for row in kept.collect()) == pytest.approx(
        sorted(2.0 * n for n in range(300) if n != 250)
    )


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (
            "PREDICT('flight-delay/1', dep_delay)",
            "reads 2 columns .dep_delay, distance., and got 1",
        ),
        ("PREDICT('flight-delay/1', dep_delay, distance, id)", "and got 3"),
        ("PREDICT('flight-delay/1', dep_delay => id)", "reads dep_delay, distance, not dep_delay"),
        ("PREDICT('flight-delay/1', dep_delay, distance => id)", "name all columns, or none"),
        ("PREDICT('flight-delay/9', dep_delay, distance)", "PREDICT of 'flight-delay/9': one of"),
        ("PREDICT(text, dep_delay, distance)", "the same for all rows"),
        ("PREDICT(null, dep_delay, distance)", "PREDICT of None"),
    ],
)
def test_a_call_that_does_not_fit_ends_the_query(
    session: SparkSession, call: str, line: str
) -> None:
    sql.register(session, "flight-delay/1")
    with pytest.raises(PySparkException, match=line):
        answers(session, call)


def test_a_function_has_one_type_and_others_have_another_name(session: SparkSession) -> None:
    sql.register(session, "flight-delay/1")
    with pytest.raises(sql.PredictUnfit, match="gives string, but PREDICT gives double; register"):
        sql.register(session, "label/1")
    sql.register(session, "label/1", name="PREDICT_LABEL")
    labels = answers(session, "PREDICT_LABEL('label/1', dep_delay - 100)")
    assert (labels[0], labels[299]) == ("small", "big")
    assert answers(session, "PREDICT('flight-delay/1', dep_delay, distance)") == pytest.approx(
        truth()
    )


def test_what_cannot_be_registered_is_one_line(session: SparkSession, register: Any) -> None:
    array = flights()[FEATURES].to_numpy()
    register("unnamed", LinearRegression().fit(array, flights()["arr_delay"]), array)
    with pytest.raises(ConfigError, match="name the versions for PREDICT"):
        sql.register(session)
    with pytest.raises(VersionNotFound):
        sql.register(session, "flight-delay/1", "flight-delay/99")
    with pytest.raises(sql.PredictUnfit, match="its signature has no names"):
        sql.register(session, "unnamed/1")
    with pytest.raises(PySparkException):  # nothing was registered
        answers(session, "PREDICT('flight-delay/1', dep_delay, distance)")


def test_several_outputs_are_a_struct(session: SparkSession, register: Any) -> None:
    labels = flights()[["dep_delay"]].assign(twice=flights()["dep_delay"] * 2)
    fitted = LinearRegression().fit(flights()[FEATURES], labels)
    outputs = pd.DataFrame(fitted.predict(flights()[FEATURES]), columns=["once", "twice"])
    register("two", fitted, flights()[FEATURES], outputs)
    sql.register(session, "two/1", name="PREDICT_TWO")
    found = answers(session, "PREDICT_TWO('two/1', dep_delay, distance).twice")
    rows = pd.DataFrame([[float(n), 100.0 * n] for n in range(300)], columns=FEATURES)
    assert found == pytest.approx(fitted.predict(rows)[:, 1].tolist())


def test_a_filter_on_the_prediction_predicts_each_row_once(
    session: SparkSession, capsys: pytest.CaptureFixture[str]
) -> None:
    sql.register(session, "flight-delay/1")
    call = "PREDICT('flight-delay/1', dep_delay, distance)"
    session.sql(f"SELECT * FROM (SELECT id, {call} AS p FROM departures) WHERE p > 0").explain()
    assert capsys.readouterr().out.count("ArrowEvalPython") == 1
