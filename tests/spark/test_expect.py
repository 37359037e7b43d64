"""What a job expects of its input: rows that break a rule are quarantined, and runs end early."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import replay
import score
from builders.jobs import replay_job, score_job
from builders.tables import make_table, rows_of
from delta.tables import DeltaTable as SparkTable
from deltalake import DeltaTable
from pydantic import ValidationError
from pyspark.sql import functions as F  # noqa: N812 - its usual name
from sklearn.linear_model import LinearRegression

from lakescore import executor
from lakescore.engines.expecting import RowsUnexpected
from lakescore.errors import ColumnsMissing
from lakescore.options import ExpectOptions
from lakescore.publishing import TooManyErrors
from lakescore.publishing.counting import NullsUnexpected
from lakescore.signature.expecting import RuleUnfit, bind_expected
from lakescore.slicing import AgeUndefined, InputTooOld, RowCountUnexpected

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pyspark.sql import SparkSession

    from lakescore.config import ScoreJob

pytestmark = pytest.mark.usefixtures("model", "runner")
SCHEMA = "id int, part string, x double, y double, code string"
ROWS = [
    (1, "a", 1.0, 10.0, "AA"),
    (2, "a", 2000.0, 20.0, "UA"),  # x in another unit
    (3, "a", 3.0, None, "ZZ"),  # a code that nobody knows, and a null, which breaks no rule
    (4, "b", 4.0, 40.0, None),
]
RULES = {"x": "between 0 and 120", "y": ">= 0", "code": "in ('AA', 'UA')"}


@pytest.fixture(scope="module")
def model(register: Any) -> LinearRegression:
    frame = pd.DataFrame({"x": [0.0, 1.0, 2.0]})
    regression = LinearRegression().fit(frame, 3 * frame["x"] + 1)
    register("line", regression, frame)
    return regression


@pytest.fixture
def table(tmp_path: Path) -> str:
    return make_table(tmp_path / "rows", ROWS, SCHEMA, by=["part"])


@pytest.fixture
def job(table: str, tmp_path: Path) -> Callable[..., ScoreJob]:
    return partial(score_job, tmp_path, table, model="line/1", slice_by="part", slices=["a", "b"])


def ids(config: ScoreJob) -> list[int]:
    return [row[0] for row in rows_of(config.output.address, "id")]


@pytest.mark.parametrize("scan", ["direct", "spark"])
def test_rows_that_break_a_rule_are_quarantined_and_the_others_are_as_without_rules(
    job: Any, scan: str, model: LinearRegression
) -> None:
    config = job(expect={"values": RULES}, scan=scan)
    with pytest.raises(TooManyErrors, match=r"could not score 2 of 4 rows.*UnexpectedValue") as end:
        score.run(config)
    assert end.value.facts["expect"] == {"broken": {"x": 1, "y": 0, "code": 1}}
    assert ids(config) == []
    receipt = score.run(job(expect={"values": RULES}, scan=scan, max_errors=2))
    assert receipt["expect"]["broken"] == {"x": 1, "y": 0, "code": 1}
    assert (receipt["rows_scored"], receipt["rows_quarantined"]) == (2, 2)
    assert rows_of(config.quarantine_address, "id", "error_type", "error_message") == [
        (2, "UnexpectedValue", "x is 2000, not between 0 and 120"),
        (3, "UnexpectedValue", "code is ZZ, not in ('AA', 'UA')"),
    ]
    predictions = rows_of(config.output.address, "id", "prediction")
    wanted = model.predict(pd.DataFrame({"x": [1.0, 4.0]}))
    assert [row[0] for row in predictions] == [1, 4]
    np.testing.assert_allclose([row[1] for row in predictions], wanted, rtol=1e-12)
    columns = DeltaTable(config.output.address).schema().to_arrow()
    assert not {"x", "y", "code"} & {field.name for field in columns}  # nobody asked for them


def test_a_unit_that_changed_in_one_of_many_columns_ends_the_run(
    register: Any, tmp_path: Path
) -> None:
    names = [f"c{n}" for n in range(50)]
    values = np.random.default_rng(1).normal(50, 10, (300, 50))
    frame = pd.DataFrame(values, columns=names)
    register("wide", LinearRegression().fit(frame, values.sum(axis=1)), frame)
    values[:, 37] *= 1000
    rows = [(n, *row) for n, row in enumerate(values.tolist())]
    path = make_table(
        tmp_path / "wide", rows, "id int, " + ", ".join(f"{name} double" for name in names)
    )
    rules = dict.fromkeys(names, "between 0 and 120")
    config = score_job(tmp_path, path, model="wide/1", expect={"values": rules})
    with pytest.raises(TooManyErrors, match=r"300 rows.*c37 is \d+") as end:
        score.run(config)
    assert {n: c for n, c in end.value.facts["expect"]["broken"].items() if c} == {"c37": 300}  # type: ignore[index]
    assert ids(config) == []


@pytest.mark.parametrize("engine", ["arrow", "spark_udf"])
@pytest.mark.parametrize("by", [["part"], []])
def test_a_slice_with_too_many_nulls_is_not_published(
    tmp_path: Path, job: Any, engine: str, by: list[str]
) -> None:
    rows = [
        (n, "a" if n < 10 else "b", 1.0, None if n in {3, 17} else 1.0, "AA") for n in range(20)
    ]
    path = make_table(tmp_path / "nulls", rows, SCHEMA, by=by)
    run = partial(job, input=path, engine=engine)
    with pytest.raises(NullsUnexpected, match=r"'y' is null in 10.0% of slice a, but 9.0% are al"):
        score.run(run(expect={"nulls": {"y": 0.09}}))
    assert ids(job()) == []
    whole = {"slice_by": None, "slices": None}
    with pytest.raises(NullsUnexpected, match=r"'y' is null in 10.0% of slice all"):
        score.run(run(expect={"nulls": {"y": 0.09}}, **whole))
    receipt = score.run(run(expect={"nulls": {"y": 0.1, "x": 0}}))
    assert receipt["expect"]["nulls"] == {"a": {"y": 1}, "b": {"y": 1}}
    assert receipt["rows_scored"] == 20


def test_the_engine_of_mlflow_quarantines_no_rows_so_a_broken_rule_ends_the_run(job: Any) -> None:
    config = job(expect={"values": RULES}, engine="spark_udf", max_errors=4)
    with pytest.raises(RowsUnexpected, match=r"x is not between 0 and 120 in 1 row, code is not"):
        score.run(config)
    receipt = score.run(job(expect={"values": RULES}, engine="spark_udf", slices=["b"]))
    assert receipt["expect"]["broken"] == {"x": 0, "y": 0, "code": 0}
    assert ids(config) == [4]


def test_a_rule_decides_the_rows_so_it_is_part_of_the_run_and_of_its_replay(job: Any) -> None:
    first = score.run(job(max_errors=2, slices=["a"]))
    again = score.run(job(expect={"values": RULES}, max_errors=2, slices=["a"]))
    assert again["status"] == "scored"
    assert first["slices"][0]["run_id"] != again["slices"][0]["run_id"]
    config = job(expect={"values": RULES}, max_errors=2, slices=["a"])
    assert score.run(config)["status"] == "unchanged"
    report = replay.run(replay_job(config, again["slices"][0]["run_id"]))
    assert (report["status"], report["rows"]) == ("same", 1)
    shares = job(expect={"values": RULES, "nulls": {"y": 0.5}}, max_errors=2, slices=["a"])
    assert score.run(shares)["status"] == "unchanged"  # a share decides no row


def test_a_plan_shows_only_the_rows_that_would_be_published(job: Any) -> None:
    receipt = score.run(job(expect={"values": RULES}, plan=True))
    assert sorted(row["id"] for row in receipt["probe"]) == [1, 4]


def test_rules_hold_for_versions_that_run_in_their_own_process(register: Any, job: Any) -> None:
    class Doubling(mlflow.pyfunc.PythonModel):
        def predict(self, context: Any, model_input: pd.DataFrame) -> pd.Series:  # noqa: ARG002
            assert model_input["x"].max() < 1000  # the row with 2000 never arrives
            return model_input["x"] * 2

    register("doubling", Doubling(), pd.DataFrame({"x": [1.0]}), np.array([1.0]))
    config = job(model="doubling/1", expect={"values": {"x": "< 1000"}}, max_errors=1)
    assert score.run(config)["rows_quarantined"] == 1
    assert rows_of(config.output.address, "id", "prediction") == [(1, 2.0), (3, 6.0), (4, 8.0)]


def test_rules_hold_for_a_model_for_each_segment(register: Any, job: Any, tmp_path: Path) -> None:
    frame = pd.DataFrame({"x": [0.0, 1.0, 2.0]})
    for factor, name in ((2, "seg-AA"), (3, "seg-UA")):
        register(name, LinearRegression().fit(frame, factor * frame["x"]), frame)
    rows = [
        (1, "a", 1.0, 1.0, "AA"),
        (2, "a", 999.0, 1.0, "UA"),  # breaks the rule
        (3, "a", 2.0, 1.0, "UA"),
        (4, "a", 999.0, 1.0, "ZZ"),  # breaks it too, but has no model, and is not scored
    ]
    path = make_table(tmp_path / "segments", rows, SCHEMA)
    models = {"by": "code", "name": "seg-{code}/1", "missing": "skip"}
    expect = {"values": {"x": "< 100"}}
    config = job(input=path, model=models, expect=expect, slices=["a"], max_errors=1)
    receipt = score.run(config)
    assert (receipt["rows_skipped"], receipt["expect"]["broken"]) == (1, {"x": 1})
    values = [(key, round(v, 9)) for key, v in rows_of(config.output.address, "id", "prediction")]
    assert values == [(1, 2.0), (3, 6.0)]
    assert rows_of(config.quarantine_address, "id", "model_uri") == [(2, "models:/seg-UA/1")]


COLUMNS = "id int, whole int, big bigint, float float, double double, amount decimal(9, 2), "
COLUMNS += "text string, day date, moment timestamp, flag boolean"
MANY = [
    (1, 0, 2**60, 0.1, 0.1, Decimal("0.10"), "a", dt.date(2013, 1, 1),
     dt.datetime(2013, 1, 1, tzinfo=dt.UTC), True),
    (2, 120, 2**60 + 1, -5.5, 120.0, Decimal("99.99"), "Ab", dt.date(2013, 12, 31),
     dt.datetime(2013, 1, 1, 12, tzinfo=dt.UTC), False),
    (3, -1, -(2**63), 1e30, -0.0, Decimal("-1.50"), "", dt.date(1500, 1, 1),
     dt.datetime(1500, 1, 1, tzinfo=dt.UTC), True),
    (4, None, None, None, None, None, None, None, None, None),
]  # fmt: skip


RULES_OF_MANY = [
    ("whole", "between 0 and 120"),
    ("whole", "> 0.5"),  # no whole number
    ("whole", "not in (0, 120)"),
    ("whole", "< 0 or whole > 100"),
    ("big", "<= 1152921504606846976"),  # 2 ** 60, which a double has too, but not the next one
    ("big", "> -9223372036854775809"),  # less than any bigint
    ("float", "<= 0.1"),  # 0.1 as a float is more than 0.1
    ("double", "= 0"),  # as -0.0 is
    ("double", "between 0.1 and 1.2e2"),
    ("amount", ">= 0.1"),
    ("amount", "!= 99.990"),
    ("amount", "is not null and amount < 50"),
    ("text", "in ('a', '')"),
    ("text", "like 'A%'"),
    ("text", "not like '_'"),
    ("text", "> 'A' and text < 'b'"),
    ("day", "between '2013-01-01' and DATE '2013-06-30'"),
    ("moment", ">= '2013-01-01T06:00:00Z'"),
    ("moment", "< TIMESTAMP '2013-01-01 12:00:00'"),
    ("flag", "= true"),
    ("flag", "is not null"),
]


@pytest.mark.parametrize("runner", ["spark"], indirect=True)
def test_rules_are_true_of_the_rows_that_spark_says(spark: SparkSession, tmp_path: Path) -> None:
    rows = spark.read.format("delta").load(make_table(tmp_path / "many", MANY, COLUMNS))
    told = [F.expr(f"{column} {rule}") for column, rule in RULES_OF_MANY]
    by_spark = rows.orderBy("id").select(*told).collect()
    batch = pa.table(DeltaTable(str(tmp_path / "many")).to_pyarrow_table()).to_batches()[0]
    for n, (column, rule) in enumerate(RULES_OF_MANY):
        options = ExpectOptions(values={column: rule})
        expected = bind_expected("rows", rows.schema, options)
        assert expected is not None
        broken, _ = executor.Checks(expected.placed(batch.schema.names, None)).check(batch)
        # A condition that a null makes unknown is not broken.
        by_rule = [number for number, row in enumerate(by_spark) if row[n] is False]
        assert broken.tolist() == by_rule, rule


def test_a_row_is_described_by_the_rule_that_it_breaks(tmp_path: Path, job: Any) -> None:
    columns = "id int, part string, x double, items array<double>"
    rows = [(1, "a", 1.0, None), (2, "a", 2.0, [1.0]), (3, "a", -3.0, [1.0]), (4, "a", -4.0, None)]
    path = make_table(tmp_path / "items", rows, columns)
    expect = {"values": {"items": "is not null", "x": ">= 0"}}
    config = job(input=path, slices=["a"], expect=expect, max_errors=3)
    assert score.run(config)["expect"]["broken"] == {"items": 2, "x": 2}
    assert rows_of(config.quarantine_address, "id", "error_message") == [
        (1, "items is null, not is not null"),
        (3, "x is -3, not >= 0"),
        (4, "items is null, not is not null"),
    ]


def test_nan_breaks_every_comparison(tmp_path: Path, job: Any) -> None:
    rows = [(1, "a", float("nan"), 1.0, ""), (2, "a", 1.0, 1.0, "")]
    path = make_table(tmp_path / "nan", rows, SCHEMA)
    config = job(input=path, slices=["a"], expect={"values": {"x": "< 5"}}, max_errors=1)
    assert score.run(config)["expect"]["broken"] == {"x": 1}
    assert rows_of(config.quarantine_address, "id", "error_message") == [(1, "x is nan, not < 5")]


def test_a_rule_that_does_not_fit_its_column_is_refused_before_anything_is_read(job: Any) -> None:
    for column, rule, problem in [
        ("x", "= 'a'", "it cannot be compared with 'a'"),
        ("code", "> 5", "it cannot be compared with 5"),
        ("x", "like 'a%'", "only texts are like a pattern"),
        ("x", "= true", "it cannot be compared with true"),
    ]:
        with pytest.raises(RuleUnfit, match=problem):
            score.run(job(expect={"values": {column: rule}}))
    with pytest.raises(ColumnsMissing, match=r"lacks the columns 'cod' \(did you mean 'code'\?\)"):
        score.run(job(expect={"nulls": {"cod": 0.1}}))


def test_a_rule_that_is_none_is_an_error_of_the_file(job: Any) -> None:
    for expect, problem in [
        ({"values": {"x": "0 to 120"}}, "x: '0 to 120' is not a rule, such as"),
        ({"values": {"x": "> y"}}, "is not allowed in a rule, which can only compare"),
        ({"values": {"x": "= null"}}, "nothing is equal to null; write is null"),
        ({"rows": {"of_last": 3}}, "give least, most or both"),
        ({"rows": {"least": 0.5, "of_last": 2}}, "greater than or equal to 3"),
        ({"values": {"x": "= CAST('5' AS INT)"}}, "is not allowed in a rule"),
        ({"values": {"x": "< DATE 'soon'"}}, "'soon' is not written as a date"),
        ({"nulls": {"x": 1.5}}, "less than 1"),
    ]:
        with pytest.raises(ValidationError, match=problem):
            job(expect=expect)
    with pytest.raises(ValidationError, match=": give slice_by"):
        job(expect={"rows": {"least": 0.5}}, slice_by=None, slices=None)


@pytest.mark.parametrize("by", [["part"], []])
def test_a_slice_with_too_few_or_too_many_rows_is_not_scored(
    tmp_path: Path, job: Any, by: list[str]
) -> None:
    sizes = {"2013-01-01": 10, "2013-01-02": 12, "2013-01-03": 8, "2013-01-04": 4, "2013-01-05": 30}
    rows = [(n, part, 1.0, 1.0, "") for part, size in sizes.items() for n in range(size)]
    path = make_table(tmp_path / "days", rows, SCHEMA, by=by)
    run = partial(job, input=path, expect={"rows": {"least": 0.5, "most": 2}})
    usual = run(slices="2013-01-01..2013-01-03")  # too few came before them to know what is usual
    assert score.run(usual)["rows_scored"] == 30
    with pytest.raises(RowCountUnexpected, match="2013-01-04 has 4 rows, and 10 are usual"):
        score.run(run(slices="2013-01-01..2013-01-04"))
    with pytest.raises(RowCountUnexpected, match="2013-01-05 has 30 rows, and 9 are usual"):
        score.run(run(slices="due"))
    with pytest.raises(RowCountUnexpected, match="2013-01-06 has 0 rows, and 10 are usual"):
        score.run(run(slices=["2013-01-06"]))  # a day that did not arrive
    assert len(ids(usual)) == 30
    score.run(job(input=path, slices=["2013-01-04", "2013-01-05"]))  # they were correct
    assert score.run(run(slices="due"))["status"] == "unchanged"


def test_an_input_that_nobody_filled_ends_the_run_though_nothing_is_due(
    tmp_path: Path, job: Any, spark: SparkSession
) -> None:
    now = dt.datetime.now(dt.UTC)
    columns = "id int, part string, x double, loaded timestamp, day date"
    rows = [
        (1, "a", 1.0, now - dt.timedelta(hours=40), (now - dt.timedelta(days=2)).date()),
        (2, "b", 1.0, now - dt.timedelta(hours=30), (now - dt.timedelta(days=1)).date()),
    ]
    path = make_table(tmp_path / "loaded", rows, columns)

    def run(column: str, hours: float, **more: Any) -> str:
        newest = {"column": column, "max_age_hours": hours}
        config = job(input=path, slices="due", expect={"newest": newest}, **more)
        return str(score.run(config)["status"])

    assert run("loaded", 31) == "scored"
    assert run("loaded", 31) == "unchanged"
    with pytest.raises(
        InputTooOld, match=r"the newest loaded of .* ago\), but .* allows an age of"
    ):
        run("loaded", 29)
    assert run("day", 25) == "unchanged"  # yesterday ended less than a day ago
    with pytest.raises(AgeUndefined, match=r"names the column 'x' of .*, which is double"):
        run("x", 5)
    frame = spark.read.format("delta").load(path).coalesce(1)
    path = str(tmp_path / "deleted")
    frame.write.format("delta").option("delta.enableDeletionVectors", "true").save(path)
    assert run("loaded", 31) == "scored"
    # The log's bounds cover rows that are deleted, which are not the newest.
    SparkTable.forPath(spark, path).delete("id = 2")
    with pytest.raises(InputTooOld):
        run("loaded", 31)
