"""Workers that read the table's files themselves give what Spark gives, or leave it to Spark."""

from __future__ import annotations

import datetime as dt
import json
import random
from dataclasses import replace
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from delta.tables import DeltaTable
from deltalake import write_deltalake
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st
from pyspark.sql import functions as F  # noqa: N812 - the name that everyone reads at once
from pyspark.sql.types import TimestampType
from sklearn.ensemble import HistGradientBoostingRegressor

from lakescore import comparing, scanning, scoring, signature, slicing, tables
from lakescore.loading import prepare
from lakescore.logs import NotEligible
from lakescore.registry import resolve

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyspark.sql import DataFrame, SparkSession

    from lakescore.snapshots import Snapshot

X = pd.DataFrame({"x": [0.0, 1.0, 2.0, None] * 5})


@pytest.fixture(scope="module")
def by_spark(spark: SparkSession, register: Any) -> scoring.Plan:
    """Return a plan for a model of x, which may be null; tests replace its rows."""
    model = HistGradientBoostingRegressor(max_iter=3, min_samples_leaf=1).fit(X, [0, 1, 2, 3] * 5)
    register("steps", model, X)
    version = resolve("steps/1")
    rows = spark.createDataFrame([(1, 0.5)], "id bigint, x double")
    return scoring.plan(
        "arrow", rows, [signature.bind("rows", rows, prepare(version))], keep=["id"]
    )


def whole(snapshot: Snapshot | DataFrame) -> scanning.Selection:
    return slicing.select(snapshot, None, ["all"])


def read_by_workers(
    plan: scoring.Plan, selection: scanning.Selection, keep: Sequence[str]
) -> scoring.Plan:
    direct = scanning.direct(selection, keep, plan.feature_columns, seconds_a_row=1e-5)
    return replace(plan, source=selection, keep=tuple(keep), direct=direct)


def values(plan: scoring.Plan) -> list[str]:
    """Return the rows in order and as text, in which NaN equals NaN and -0.0 differs from 0.0.

    Times are counted in microseconds: Python's own cannot hold the first ones in every zone.
    """
    scored = scoring.score(plan)
    columns = [
        F.unix_micros(field.name).alias(field.name)
        if isinstance(field.dataType, TimestampType)
        else F.col(field.name)
        for field in scored.schema
    ]
    return sorted(repr(tuple(row)) for row in scored.select(*columns).collect())


def assert_same(plan: scoring.Plan, selection: scanning.Selection) -> list[str]:
    """Check that workers and Spark give the same rows, and return these."""
    keep = [*selection.whole.columns, selection.adds.name]
    by_workers = values(read_by_workers(plan, selection, keep))
    assert by_workers == values(replace(plan, source=selection.rows, keep=tuple(keep)))
    return by_workers


@pytest.fixture
def table(spark: SparkSession, tmp_path: Path) -> Callable[..., str]:
    """Make a Delta table from a query, with properties, and return its path."""

    def make(query: str, by: Sequence[str] = (), **properties: str) -> str:
        path = str(tmp_path / "a table")  # logs keep the blank as it is, and many URIs encode it
        writer = spark.sql(query).write.format("delta").partitionBy(*by)
        for name, value in properties.items():
            writer = writer.option(f"delta.{name.replace('_', '.')}", value)
        writer.save(path)
        return path

    return make


def named(spark: SparkSession, path: str) -> str:
    """Return a name in the catalog for the table at *path*: SQL takes no paths here."""
    name = f"at_{abs(hash(path))}"
    spark.sql(f"CREATE TABLE IF NOT EXISTS {name} USING delta LOCATION '{path}'")
    return name


def test_deleted_rows_never_come_back(
    spark: SparkSession, table: Callable[..., str], by_spark: scoring.Plan
) -> None:
    path = table(
        "SELECT id, CAST(id AS DOUBLE) AS x FROM range(0, 10, 1, 2)", enableDeletionVectors="true"
    )
    DeltaTable.forPath(spark, path).delete("id IN (0, 3, 9)")
    left = assert_same(by_spark, whole(tables.snapshot(spark, path)))
    assert len(left) == 7
    assert not [row for row in left if row.startswith(("(0,", "(3,", "(9,"))]
    before = whole(tables.snapshot(spark, path, 0))
    assert len(assert_same(by_spark, before)) == 10  # the table before the deletion


def test_renamed_dropped_and_added_columns_are_read_by_what_the_log_says(
    spark: SparkSession, table: Callable[..., str], by_spark: scoring.Plan
) -> None:
    path = table(
        "SELECT id, 1D AS x, 'old' AS word, 5 AS y FROM range(3)", columnMapping_mode="name"
    )
    name = named(spark, path)
    spark.sql(f"ALTER TABLE {name} RENAME COLUMN x TO z")
    spark.sql(f"ALTER TABLE {name} RENAME COLUMN y TO x")  # another column of that name
    spark.sql(f"ALTER TABLE {name} RENAME COLUMN x TO y")
    spark.sql(f"ALTER TABLE {name} RENAME COLUMN z TO x")
    spark.sql(f"ALTER TABLE {name} DROP COLUMN word")
    spark.sql(f"ALTER TABLE {name} ADD COLUMN word string")  # null in the rows above
    spark.sql(f"INSERT INTO {name} SELECT 3L, 2D, 6, 'new'")
    lines = assert_same(by_spark, whole(tables.snapshot(spark, path)))
    assert [row.split(", ")[3] for row in lines] == ["None", "None", "None", "'new'"]


def test_columns_that_were_widened_are_read_in_the_type_of_now(
    spark: SparkSession, table: Callable[..., str], by_spark: scoring.Plan
) -> None:
    path = table(
        "SELECT CAST(id AS INT) AS id, CAST(1.1 AS FLOAT) AS x, CAST(7 AS SMALLINT) AS n "
        "FROM range(2)",
        enableTypeWidening="true",
    )
    name = named(spark, path)
    if spark.version < "4":
        pytest.skip("Delta 3.3 widens to INT at most")
    for column, kind in (("id", "BIGINT"), ("x", "DOUBLE"), ("n", "INT")):
        spark.sql(f"ALTER TABLE {name} ALTER COLUMN {column} TYPE {kind}")
    spark.sql(f"INSERT INTO {name} SELECT {2**40}L, 2.2D, {2**30}")
    assert len(assert_same(by_spark, whole(tables.snapshot(spark, path)))) == 3


@pytest.mark.parametrize(
    ("expression", "count"),
    [
        ("element_at(array('a b', 'x/y=%', 'ü', '', NULL), CAST(id % 5 + 1 AS INT))", 5),
        ("IF(id % 4 = 3, NULL, CAST(id % 4 - 1 AS BIGINT))", 4),
        ("IF(id % 3 = 2, NULL, date_add(DATE '2013-12-30', CAST(id % 3 AS INT)))", 3),
    ],
    ids=["words", "numbers", "dates"],
)
def test_partition_values_are_read_from_the_log(
    spark: SparkSession, table: Callable[..., str], by_spark: scoring.Plan,
    expression: str, count: int,
) -> None:  # fmt: skip
    path = table(f"SELECT id, CAST(id AS DOUBLE) AS x, {expression} AS p FROM range(20)", ["p"])
    pinned = tables.snapshot(spark, path)
    assert len(assert_same(by_spark, whole(pinned))) == 20
    parts = [row[0] for row in pinned.rows.select("p").distinct().collect() if row[0] is not None]
    one = slicing.select(pinned, "p", [str(parts[0])])
    assert len(assert_same(by_spark, one)) in {20 // count, 20 // count + 1}


def test_only_the_rows_of_the_slices_are_predicted(
    spark: SparkSession, table: Callable[..., str], by_spark: scoring.Plan
) -> None:
    path = table(
        "SELECT id, CAST(id AS DOUBLE) AS x, date_add(DATE '2013-12-01', CAST(id % 5 AS INT)) "
        "AS day FROM range(0, 100, 1, 2)"
    )
    days = slicing.select(tables.snapshot(spark, path), "day", ["2013-12-02", "2013-12-04"])
    plan = read_by_workers(by_spark, days, ["id", slicing.SLICE])
    assert len(values(plan)) == 40
    execution = scoring.Execution(plan)
    with execution.cached() as rows:
        assert rows.count() == 40
    assert execution.facts()["rows_predicted"] == 40


def test_a_slice_may_be_a_day_of_any_calendar(
    spark: SparkSession, table: Callable[..., str], by_spark: scoring.Plan
) -> None:
    days = ["0001-01-01", "1582-10-15", "9999-12-31"]  # java.sql.Date would move the first
    path = table(
        "SELECT CAST(pos AS BIGINT) AS id, 1D AS x, CAST(col AS DATE) AS day "
        f"FROM (SELECT posexplode(array{tuple(days)}))"
    )
    pinned = tables.snapshot(spark, path)
    by_day = [assert_same(by_spark, slicing.select(pinned, "day", [day])) for day in days]
    assert [(len(one), one[0][:2]) for one in by_day] == [(1, "(0"), (1, "(1"), (1, "(2")]


def test_a_holdouts_rows_without_a_label_are_not_read(
    spark: SparkSession, table: Callable[..., str], by_spark: scoring.Plan
) -> None:
    path = table(
        "SELECT id, CAST(id AS DOUBLE) AS x, "
        "element_at(array(1D, CAST('NaN' AS DOUBLE), NULL), CAST(id + 1 AS INT)) AS label "
        "FROM range(3)"
    )
    selection = comparing.select(tables.snapshot(spark, path), "label")
    lines = values(read_by_workers(by_spark, selection, ["id", comparing.LABEL]))
    assert [row[:8] for row in lines] == ["(0, 1.0,"]


def test_times_before_1582_and_of_both_of_sparks_formats_are_the_same_instants(
    spark: SparkSession, tmp_path: Path, by_spark: scoring.Plan
) -> None:
    path = str(tmp_path / "times")
    query = (
        "SELECT id, 1D AS x, CAST(at AS TIMESTAMP) AS at, CAST(at AS DATE) AS day FROM VALUES "
        "(1L, '0001-01-01 00:00:00'), (2L, '1500-02-28 23:59:59.999999'), (3L, NULL), "
        "(4L, '2500-06-01 12:00:00.000001') AS t(id, at)"
    )
    for kind in ("INT96", "TIMESTAMP_MICROS"):
        spark.conf.set("spark.sql.parquet.outputTimestampType", kind)
        spark.sql(query).write.format("delta").mode("append").save(path)
    spark.conf.unset("spark.sql.parquet.outputTimestampType")
    assert len(assert_same(by_spark, whole(tables.snapshot(spark, path)))) == 8


def test_files_of_another_writer_are_read_too(
    spark: SparkSession, tmp_path: Path, by_spark: scoring.Plan
) -> None:
    path = str(tmp_path / "theirs")
    words = pa.array(["a", "b", "a"]).dictionary_encode()
    x = pa.array([1.0, None, 3.0])
    write_deltalake(path, pa.table({"id": pa.array([1, 2, 3]), "x": x, "word": words}))
    assert len(assert_same(by_spark, whole(tables.snapshot(spark, path)))) == 3


def test_one_large_row_group_is_shared_when_the_model_is_dear(
    spark: SparkSession, table: Callable[..., str], by_spark: scoring.Plan
) -> None:
    path = table("SELECT id, CAST(id AS DOUBLE) AS x FROM range(0, 1001, 1, 1)")
    selection = whole(tables.snapshot(spark, path))
    dear = scanning.direct(selection, ["id"], by_spark.feature_columns, seconds_a_row=1e-3)
    assert sorted(sum(piece.rows for piece in task) for task in dear.scan.tasks) == [500, 501]
    cheap = scanning.direct(selection, ["id"], by_spark.feature_columns, seconds_a_row=1e-9)
    assert [[piece.rows for piece in task] for task in cheap.scan.tasks] == [[1001]]
    assert scanning.spread(selection.rows, seconds_a_row=1e-3) == 4  # twice the cores
    assert scanning.spread(selection.rows, seconds_a_row=1e-9) is None


def declined(plan: scoring.Plan, selection: scanning.Selection, keep: Sequence[str]) -> str:
    with pytest.raises(NotEligible) as caught:
        read_by_workers(plan, selection, keep)
    return str(caught.value)


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        ("named_struct('a', 1) AS odd", "column 'odd' is struct<a:int>"),
        ("array(1) AS odd", "column 'odd' is array<int>"),
        ("map('a', 1) AS odd", "column 'odd' is map<string,int>"),
    ],
)
def test_a_kept_column_of_a_type_that_is_not_understood_is_left_to_spark(
    spark: SparkSession, table: Callable[..., str], by_spark: scoring.Plan,
    column: str, reason: str,
) -> None:  # fmt: skip
    path = table(f"SELECT 1L AS id, 1D AS x, {column}")
    selection = whole(tables.snapshot(spark, path))
    assert declined(by_spark, selection, ["id", "odd"]) == reason
    assert len(values(read_by_workers(by_spark, selection, ["id"]))) == 1  # it is not needed here


def test_a_padded_column_is_left_to_spark(spark: SparkSession, by_spark: scoring.Plan) -> None:
    spark.sql("CREATE TABLE padded (id BIGINT, x DOUBLE, code CHAR(5)) USING delta")
    spark.sql("INSERT INTO padded VALUES (1, 1, 'a')")
    selection = whole(tables.snapshot(spark, "padded"))
    assert (
        declined(by_spark, selection, ["code"])
        == "column 'code' carries __CHAR_VARCHAR_TYPE_STRING"
    )


def test_columns_mapped_by_their_ids_are_left_to_spark(
    spark: SparkSession, table: Callable[..., str], by_spark: scoring.Plan
) -> None:
    path = table("SELECT 1L AS id, 1D AS x", columnMapping_mode="id")
    selection = whole(tables.snapshot(spark, path))
    assert declined(by_spark, selection, ["id"]) == "the table maps its columns by id"


def test_rows_that_are_no_snapshots_are_left_to_spark(
    spark: SparkSession, table: Callable[..., str], by_spark: scoring.Plan
) -> None:
    path = table("SELECT id, CAST(id AS DOUBLE) AS x FROM range(5)")
    rows = tables.snapshot(spark, path).rows
    for other in (rows.where("id > 2"), rows.union(rows), spark.sql("SELECT 1L AS id, 1D AS x")):
        assert declined(by_spark, whole(other), ["id"])


def test_a_file_that_holds_other_than_the_log_says_is_left_to_spark(
    spark: SparkSession, table: Callable[..., str], by_spark: scoring.Plan
) -> None:
    path = table("SELECT id, CAST(id AS DOUBLE) AS x FROM range(0, 5, 1, 1)")
    selection = whole(tables.snapshot(spark, path))
    (file,) = Path(path).glob("*.parquet")
    rows = pq.read_table(file)
    pq.write_table(rows.slice(1), file)
    reason = "a file has 4 rows, but the log counts 5"
    assert declined(by_spark, selection, ["id"]) == reason
    pq.write_table(rows.set_column(1, "x", rows["x"].cast("int32")), file)
    reason = "a file of the table holds 'x' as int32, not double"
    assert declined(by_spark, selection, ["id"]) == reason
    marks = {"org.apache.spark.legacyDateTime": ""}
    pq.write_table(rows.replace_schema_metadata(marks), file)
    assert len(values(read_by_workers(by_spark, selection, ["id"]))) == 5  # no date is read
    file.unlink()
    assert declined(by_spark, selection, ["id"]).startswith("a file of the table cannot be opened")


def test_dates_in_the_calendar_of_an_old_spark_are_left_to_spark(
    spark: SparkSession, table: Callable[..., str], by_spark: scoring.Plan
) -> None:
    spark.conf.set("spark.sql.parquet.datetimeRebaseModeInWrite", "LEGACY")
    path = table("SELECT 1L AS id, 1D AS x, DATE '1500-01-01' AS day")
    spark.conf.set("spark.sql.parquet.datetimeRebaseModeInWrite", "CORRECTED")
    selection = whole(tables.snapshot(spark, path))
    reason = "a file of the table holds 'day' in the calendar of an old Spark"
    assert declined(by_spark, selection, ["day"]) == reason


@pytest.mark.parametrize("mode", ["EXCEPTION", "LEGACY"])
def test_the_calendar_of_sparks_own_files_is_known_unless_all_are_said_to_be_of_the_old_one(
    spark: SparkSession, table: Callable[..., str], by_spark: scoring.Plan, mode: str
) -> None:
    selection = whole(tables.snapshot(spark, table("SELECT 1L AS id, 1D AS x, DATE'1500-01-01' d")))
    key = "spark.sql.parquet.datetimeRebaseModeInRead"
    spark.conf.set(key, mode)
    try:
        if mode == "EXCEPTION":  # Spark 3's default
            assert len(assert_same(by_spark, selection)) == 1
        else:
            assert declined(by_spark, selection, ["d"]) == f"{key} is LEGACY, not CORRECTED"
    finally:
        spark.conf.set(key, "CORRECTED")


def test_rows_are_counted_by_the_log_where_files_hold_whole_parts(
    spark: SparkSession, table: Callable[..., str]
) -> None:
    path = table(
        "SELECT id, IF(id < 4, 'a', 'b') AS part, IF(id % 2 = 0, 'x', 'y') AS model FROM range(10)",
        ["model", "part"],
        enableDeletionVectors="true",
    )
    DeltaTable.forPath(spark, path).delete("id = 0")
    pinned = tables.snapshot(spark, path)
    assert scanning.counted(pinned, "part") == {"a": 3, "b": 6}  # 1, 2, 3; 4 to 9
    assert scanning.counted(pinned, "part", ["b"]) == {"b": 6}
    assert scanning.tallied(pinned, ("part", "model"), {"part": ["a"], "model": ["x", "y"]}) == {
        ("a", "y"): 2,
        ("a", "x"): 1,
    }


def test_of_a_new_table_delta_keeps_the_range_of_the_keys_alone(
    spark: SparkSession, tmp_path: Path
) -> None:
    rows = spark.sql("SELECT 1L AS id, true AS flag, 'é' AS text, 2D AS prediction, 'a' AS slice")

    def statistics(name: str, keys: list[str]) -> dict[str, Any]:
        path = str(tmp_path / name)
        tables.replace(rows, path, where={"slice": ["a"]}, metadata={}, find_by=keys)
        log = Path(path, "_delta_log", f"{1:020}.json")  # the first made the table
        added = next(line for line in log.read_text().splitlines() if '"add"' in line)
        return dict(json.loads(json.loads(added)["add"]["stats"]))

    stats = statistics("ids", ["id", "flag", "text"])
    assert (stats["minValues"], stats["maxValues"]) == ({"id": 1}, {"id": 1})
    # Booleans have no range, those of texts can be wrong, and without keys no column has one.
    for keys in (["flag", "text"], []):
        assert statistics(f"{len(keys)} others", keys) == {"numRecords": 1}


WORDS = ["a", "B b", "", "ü/%=", None]
NUMBERS = [0.0, -0.0, 1.5, float("nan"), float("inf"), None]
DAYS = [dt.date(1, 1, 1), dt.date(1582, 10, 15), dt.date(2013, 12, 1), dt.date(9999, 12, 31), None]
TIMES = [
    dt.datetime(1500, 1, 2, 3, 4, 5, 6, tzinfo=dt.UTC),
    dt.datetime(2013, 7, 1, 2, tzinfo=dt.UTC),
    None,
]
SCHEMA = (
    "id bigint, x double, f float, i int, h smallint, s string, d date, t timestamp, "
    "m decimal(12, 2), b boolean, p string, q date"
)
COLUMNS = ("id", "x", "f", "i", "h", "s", "d", "t", "m", "b", "p", "q")


def some_rows(spark: SparkSession, seed: int, count: int = 12) -> DataFrame:
    pick = random.Random(seed)  # noqa: S311 - rows, not secrets
    rows = [
        (
            pick.randrange(40),
            pick.choice(NUMBERS),
            pick.choice(NUMBERS),
            pick.choice([-(2**31), 7, None]),
            pick.choice([-(2**15), 7, None]),
            pick.choice(WORDS),
            pick.choice(DAYS),
            pick.choice(TIMES),
            pick.choice([Decimal("-9999999999.99"), Decimal("0.10"), None]),
            pick.choice([True, False, None]),
            pick.choice(WORDS),
            pick.choice(DAYS),
        )
        for _ in range(count)
    ]
    return spark.createDataFrame(spark.sparkContext.parallelize(rows, 2), SCHEMA)


def change(spark: SparkSession, path: str, kind: str, seed: int) -> None:  # noqa: C901 - cases
    """Change the table as its users do; what this table cannot do is left out."""
    name = named(spark, path)
    columns = spark.read.format("delta").load(path).columns
    shared = [column for column in COLUMNS if column in columns]
    new = some_rows(spark, seed).select(*shared)
    match kind:
        case "append":
            new.write.format("delta").mode("append").save(path)
        case "delete":
            spark.sql(f"DELETE FROM {name} WHERE id % 5 = {seed % 5}")
        case "update":
            spark.sql(f"UPDATE {name} SET x = -1.5 WHERE id % 3 = {seed % 3}")
        case "merge":
            source = new.dropDuplicates(["id"]).alias("new")
            merge = DeltaTable.forPath(spark, path).alias("old").merge(source, "old.id = new.id")
            fresh = {column: f"new.{column}" for column in shared}
            merge.whenMatchedUpdate(set={"x": "new.x"}).whenNotMatchedInsert(values=fresh).execute()
        case "rename":
            old = next(c for c in columns if c == "s" or c.startswith("s_"))
            spark.sql(f"ALTER TABLE {name} RENAME COLUMN {old} TO s_{seed}")
        case "drop":
            spark.sql(f"ALTER TABLE {name} DROP COLUMN m")
        case "add":
            spark.sql(f"ALTER TABLE {name} ADD COLUMN more_{seed} INT")
        case "widen":
            spark.sql(f"ALTER TABLE {name} ALTER COLUMN h TYPE INT")
            if spark.version >= "4":  # Delta 3.3 widens only whole numbers
                spark.sql(f"ALTER TABLE {name} ALTER COLUMN f TYPE DOUBLE")
        case "optimize":
            spark.sql(f"OPTIMIZE {name}")
        case "purge":
            spark.sql(f"REORG TABLE {name} APPLY (PURGE)")


CHANGES = (
    "append", "delete", "update", "merge", "rename", "drop", "add", "widen", "optimize", "purge",
)  # fmt: skip


@settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],  # each step costs seconds: no shrinking
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    by=st.sampled_from([None, "p", "q", "i"]),
    vectors=st.booleans(),
    changes=st.lists(st.tuples(st.sampled_from(CHANGES), st.integers(0, 99)), max_size=5),
    back=st.integers(0, 3),
    seed=st.integers(0, 99),
)
def test_of_any_table_both_ways_read_the_same(  # noqa: PLR0913, PLR0917 - what is drawn
    spark: SparkSession, tmp_path_factory: pytest.TempPathFactory, by_spark: scoring.Plan,
    by: str | None, vectors: bool, changes: list[tuple[str, int]], back: int, seed: int,  # noqa: FBT001
) -> None:  # fmt: skip
    path = str(tmp_path_factory.mktemp("any") / "table")
    writer = some_rows(spark, seed).write.format("delta").partitionBy(*([by] if by else []))
    writer.option("delta.columnMapping.mode", "name").option(
        "delta.enableDeletionVectors", str(vectors).lower()
    ).option("delta.enableTypeWidening", "true").save(path)
    kinds = dict(changes)  # each kind once: what is dropped or widened once cannot be again
    for kind, number in kinds.items():
        change(spark, path, kind, number)
    newest = tables.snapshot(spark, path).version
    pinned = tables.snapshot(spark, path, max(0, newest - back))
    sliced = next((row["q"] for row in pinned.rows.collect() if row["q"] is not None), None)
    selections = [whole(pinned)] + ([slicing.select(pinned, "q", [str(sliced)])] if sliced else [])
    for selection in selections:
        try:
            note(f"{len(assert_same(by_spark, selection))} rows")
        except NotEligible as reason:
            nothing = {"there are no files to read", "the files make 0 pieces"}
            both = "Unsupported table features required: [TypeWidening]"  # deletion vectors, too
            assert str(reason) in nothing or both in str(reason)  # noqa: PT017 - others are bugs


def test_the_reason_to_leave_it_to_spark_stands_in_the_plan(
    spark: SparkSession, table: Callable[..., str], by_spark: scoring.Plan
) -> None:
    path = table("SELECT id, CAST(id AS DOUBLE) AS x, array(id) AS many FROM range(3)")
    selection = whole(tables.snapshot(spark, path))
    plan = partial(scoring.plan, "auto", selection, by_spark.contracts)
    left = plan(keep=["id", "many"])
    assert str(left).endswith("Spark reads them (column 'many' is array<bigint>)")
    assert left.facts()["scan_reason"] == "column 'many' is array<bigint>"
    assert plan(keep=["id"]).facts()["scan"] == "direct"
    assert plan(keep=["id"], scan="spark").facts()["scan_reason"] == "asked for"
