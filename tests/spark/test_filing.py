"""Workers write the files of predictions: the table is the same as if Spark wrote it."""

from __future__ import annotations

import datetime as dt
import json
import os
import time
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import score
from builders.jobs import score_job
from chispa import assert_df_equality
from delta.tables import DeltaTable as Delta
from deltalake import DeltaTable
from sklearn.dummy import DummyRegressor
from sklearn.linear_model import LinearRegression

from lakescore import executor, filing, lineage, tables
from lakescore.executor.writing import written
from lakescore.filing import FilesUnwritten, WrittenFilesMissing
from lakescore.runner import Runner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyspark.sql import DataFrame, SparkSession

    from lakescore.config import ScoreJob

SCHEMA = (
    "id bigint, key string, day date, x double, y double, flag boolean, small tinyint, short "
    "smallint, whole int, single float, money decimal(10,2), at timestamp, blob binary"
)
DAYS = [dt.date(2013, 12, 1), dt.date(2013, 12, 2)]
ROWS = [
    (
        n,
        "" if n == 3 else None if n == 4 else f"key {n} 💡" * (20 if n == 5 else 1),
        DAYS[n % 2],
        None if n == 6 else float(n),
        float("nan") if n == 7 else -0.0,
        None if n == 8 else bool(n % 3),
        -n,
        n,
        n,
        float("inf") if n == 9 else 0.1,
        Decimal("-12345678.90"),
        dt.datetime(1500, 2, 28, tzinfo=dt.UTC),  # in another calendar, that of old Sparks
        bytes([n]),
    )
    for n in range(20)
]


@pytest.fixture(scope="module", autouse=True)
def models(register: Any) -> None:
    class Pair(mlflow.pyfunc.PythonModel):
        """Gives two columns, and null for a null."""

        def predict(self, context: Any, model_input: pd.DataFrame) -> pd.DataFrame:  # noqa: ARG002
            if (model_input["x"] == 13.0).any():
                raise ValueError("13 brings bad luck")
            words = model_input["x"].map(lambda x: None if np.isnan(x) else f"x={x}")
            return pd.DataFrame({"low": model_input["x"] - 1, "word": words})

    asks = pd.DataFrame({"x": [1.0, 2.0]})
    register("pair", Pair(), asks, pd.DataFrame({"low": [1.0, 2.0], "word": ["a", "b"]}))
    line = LinearRegression().fit(asks, [1.0, 2.0])
    register("line", line, asks)
    register("filed mean", DummyRegressor().fit(asks, [1.0, 2.0]), asks)


@pytest.fixture(scope="module")
def table(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a table that no test may change."""
    path = str(tmp_path_factory.mktemp("filed") / "rows")
    spark.createDataFrame(ROWS, SCHEMA).repartition(3).write.format("delta").save(path)
    return path


@pytest.fixture
def job(table: str, tmp_path: Path) -> Callable[..., ScoreJob]:
    def make(name: str, **changes: Any) -> ScoreJob:
        own = {"model": "pair/1", "output": tmp_path / name, "id_columns": ["id", "key"]}
        own |= {"passthrough": "all", "max_errors": 1}
        return score_job(tmp_path, table, **own | changes)

    return make


def read(spark: SparkSession, config: ScoreJob) -> DataFrame:
    return spark.read.format("delta").load(config.output.address)


@pytest.mark.parametrize("scan", ["direct", "spark"])
def test_the_rows_are_those_that_spark_writes(
    spark: SparkSession, job: Callable[..., ScoreJob], scan: str
) -> None:
    direct, by_spark = job("direct", scan=scan), job("spark", scan=scan, write="spark")
    reports = [score.run(config) for config in (direct, by_spark)]
    assert [report["output"]["write"] for report in reports] == ["direct", "spark"]
    assert [report["engine"]["scan"] for report in reports] == [scan, scan]
    assert [report["rows_scored"] for report in reports] == [19, 19]  # 13 is in the quarantine
    ours, theirs = (read(spark, config).drop("scored_at") for config in (direct, by_spark))
    assert_df_equality(ours, theirs, ignore_row_order=True, allow_nan_equality=True)
    kinds = [(f.name, f.dataType) for f in read(spark, direct).schema]
    assert kinds == [(f.name, f.dataType) for f in read(spark, by_spark).schema]


def test_the_log_counts_and_bounds_what_the_files_hold(
    spark: SparkSession, job: Callable[..., ScoreJob]
) -> None:
    config = job("predictions", model="line/1", nulls={"x": "quarantine"})
    report = score.run(config)
    assert report["output"]["write"] == "direct"
    added = pa.table(DeltaTable(config.output.address).get_add_actions(flatten=True))
    actions = added.to_pandas()
    assert actions["num_records"].sum() == 19
    assert (actions["min.id"].min(), actions["max.id"].max()) == (0, 19)
    assert actions["null_count.id"].sum() == 0
    # Readers can be misled by bounds of texts (tests/spark/test_statistics.py).
    assert "min.key" not in actions or actions["min.key"].isna().all()
    matching = read(spark, config).where("id = 19 AND key = 'key 19 💡'").count()
    assert matching == 1
    history = Delta.forPath(spark, config.output.address).history(1).head()
    assert history is not None
    assert history["operationMetrics"]["numOutputRows"] == "19"
    assert int(history["operationMetrics"]["numFiles"]) == report["output"]["files_written"]


@pytest.mark.parametrize(
    "changes",
    [{"commits": "slice"}, {"write": "spark"}, {"write_mode": "merge"}, {"write_mode": "append"}],
    ids=str,
)
def test_the_receipt_counts_the_files_and_bytes_of_all_commits(
    job: Callable[..., ScoreJob], changes: dict[str, Any]
) -> None:
    first = {"model": "line/1", "nulls": {"x": "quarantine"}, "slice_by": "day"}
    first["slices"] = [str(day) for day in DAYS]
    score.run(job("predictions", **first))  # so that there is something to merge with
    table = DeltaTable(job("predictions").output.address)
    before, known = table.version(), set(table.file_uris())
    output = score.run(job("predictions", **first, run_id="again", **changes))["output"]
    table = DeltaTable(job("predictions").output.address)
    actions = pa.table(table.get_add_actions(flatten=True)).to_pylist()
    names = {uri.rsplit("/", 1)[-1] for uri in known}
    new = [
        action["size_bytes"] for action in actions if action["path"].rsplit("/", 1)[-1] not in names
    ]
    commits = 2 if "commits" in changes else 1
    assert table.version() == before + commits
    assert (output["files_written"], output["bytes_written"]) == (len(new), sum(new))
    assert output["seconds_to_commit"] >= 0


def test_a_file_that_got_a_deletion_vector_was_not_written_again(
    spark: SparkSession, tmp_path: Path
) -> None:
    address = str(tmp_path / "marked")
    rows = spark.range(1000).selectExpr("id", "'a' AS model_name", "0D AS prediction")
    writer = rows.coalesce(1).write.format("delta").option("delta.enableDeletionVectors", "true")
    writer.save(address)
    new = spark.createDataFrame([(7, "a", 1.0)], "id bigint, model_name string, prediction double")
    version = tables.merge(
        new, address, keys=["id"], within={"model_name": "a"}, metadata={"of": "a test"}
    )
    history = Delta.forPath(spark, address).history(1).head()
    assert history is not None
    assert history["operationMetrics"]["numTargetDeletionVectorsAdded"] == "1"
    figures = tables.added(Runner.of(spark), address, version)
    assert figures["files_written"] == int(history["operationMetrics"]["numTargetFilesAdded"])
    assert figures["bytes_written"] == int(history["operationMetrics"]["numTargetBytesAdded"])


def test_a_slice_is_replaced_and_others_stay(
    spark: SparkSession, job: Callable[..., ScoreJob]
) -> None:
    day = {"slice_by": "day", "model": "line/1", "nulls": {"x": "null"}}
    for slices in (str(DAYS[0]), str(DAYS[1]), str(DAYS[1])):
        config = job("predictions", slices=slices, **day)
        report = score.run(config)
    assert report["status"] == "unchanged"
    again = job("predictions", slices=str(DAYS[1]), **day | {"id_columns": ["id"]})
    report = score.run(again)
    assert (report["status"], report["output"]["write"]) == ("scored", "direct")
    counted = read(spark, again).groupBy("slice", "day").count().collect()
    assert sorted(map(tuple, counted)) == [(str(day), day, 10) for day in DAYS]
    ids = {row.id for row in read(spark, again).select("id").collect()}
    assert ids == set(range(20))


def test_slices_of_one_commit_are_told_apart_by_workers_too(
    spark: SparkSession, job: Callable[..., ScoreJob]
) -> None:
    for scan in ("direct", "spark"):
        config = job(
            f"{scan} scan",
            scan=scan,
            model="line/1",
            nulls={"x": "null"},
            slice_by="day",
            slices=[str(day) for day in DAYS],
            passthrough=["day"],
        )
        report = score.run(config)
        assert report["output"]["write"] == "direct"
        rows = read(spark, config).groupBy("slice", "scoring_run_id", "day").count().collect()
        runs = {part["slice"]: part["run_id"] for part in report["slices"]}
        assert sorted(map(tuple, rows)) == [(str(d), runs[str(d)], d, 10) for d in DAYS]


def alter(config: ScoreJob, spark: SparkSession, change: str) -> None:
    spark.sql(f"ALTER TABLE {config.output.table} {change}")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            "SET TBLPROPERTIES ('delta.enableChangeDataFeed' = 'true')",
            "the table uses changeDataFeed, delta.enableChangeDataFeed",
        ),
        ("SET TBLPROPERTIES ('delta.columnMapping.mode' = 'name')", "delta.columnMapping"),
        ("ADD CONSTRAINT near CHECK (id < 1000)", "delta.constraints.near"),
        (
            "ALTER COLUMN prediction COMMENT 'what we say'",
            "'prediction' has a constraint or metadata",
        ),
    ],
)
def test_a_table_that_asks_more_of_its_writers_is_left_to_spark(
    spark: SparkSession, job: Callable[..., ScoreJob], change: str, reason: str
) -> None:
    name = "asks_" + str(abs(hash(change)))
    config = job("unused", output={"table": name}, model="line/1", nulls={"x": "null"})
    assert score.run(config)["output"]["write"] == "direct"
    alter(config, spark, change)
    again = score.run(config.model_copy(update={"run_id": "again"}))
    assert again["status"] == "scored"
    assert again["output"]["write"] == "spark"
    assert reason in again["output"]["write_reason"]
    assert spark.table(name).count() == 20
    spark.sql(f"DROP TABLE {name}")


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        (("spark.sql.files.maxRecordsPerFile", "7"), "maxRecordsPerFile"),
        (("spark.sql.parquet.compression.codec", "lz4_raw"), "Spark writes lz4_raw files"),
    ],
)
def test_what_spark_does_better_is_left_to_spark(
    spark: SparkSession, job: Callable[..., ScoreJob], setting: tuple[str, str], reason: str
) -> None:
    spark.conf.set(*setting)
    try:
        report = score.run(job("predictions", model="line/1", nulls={"x": "null"}))
    finally:
        spark.conf.unset(setting[0])
    assert report["output"]["write"] == "spark"
    assert reason in report["output"]["write_reason"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"engine": "spark_udf", "nulls": {}, "model": "filed mean/1"},
            "the engine is spark_udf",
        ),
        (
            {"slice_by": "id", "slices": [str(n) for n in range(10)]},
            "would write small files of 10 slices",
        ),
    ],
)
def test_rows_that_spark_has_anyway_are_handed_to_workers_that_write_them(
    spark: SparkSession, job: Callable[..., ScoreJob], changes: dict[str, Any], reason: str
) -> None:
    plain = {"model": "line/1", "nulls": {"x": "null"}, **changes}
    handed, by_spark = job("handed", **plain), job("spark", write="spark", **plain)
    reports = [score.run(config) for config in (handed, by_spark)]
    assert [report["output"]["write"] for report in reports] == ["handed over", "spark"]
    assert reason in reports[0]["output"]["write_reason"]
    assert reports[0]["rows_scored"] == reports[1]["rows_scored"] > 0
    ours, theirs = (read(spark, config).drop("scored_at") for config in (handed, by_spark))
    assert_df_equality(ours, theirs, ignore_row_order=True, allow_nan_equality=True)


def test_rows_that_fail_are_set_aside_whoever_writes(
    spark: SparkSession, job: Callable[..., ScoreJob]
) -> None:
    days = {"slice_by": "id", "slices": [str(n) for n in range(10, 20)], "max_errors": 1}
    for name, write in (("handed", "direct"), ("spark", "spark")):
        config = job(name, write=write, **days)
        report = score.run(config)
        assert report["output"]["write"] == {"direct": "handed over"}.get(write, write)
        assert (report["rows_scored"], report["rows_quarantined"]) == (9, 1)
        assert {row.id for row in read(spark, config).collect()} == set(range(10, 20)) - {13}
        aside = spark.read.format("delta").load(f"{config.output.address}_quarantine").collect()
        assert [(row.id, row.error_message) for row in aside] == [(13, "13 brings bad luck")]
        assert report["engine"]["rows_predicted"] == 10
        assert not [*Path(config.output.address).parent.glob("*_staged_*")]


def test_old_staging_tables_that_killed_runs_left_are_removed(
    job: Callable[..., ScoreJob],
) -> None:
    config = job("left", model="line/1", nulls={"x": "null"}, write="spark")
    tables = Path(config.output.address).parent
    days = {
        f"left_staged_{'a' * 32}": 8,
        f"left_staged_{'b' * 32}": 6,  # its run may still be there
        f"other_staged_{'a' * 32}": 8,
        "left_staged_by_hand": 8,
    }
    for name, age in days.items():
        file = tables / name / "_delta_log" / "0.json"
        file.parent.mkdir(parents=True)
        file.touch()
        moment = time.time() - age * 86_400
        os.utime(file, (moment, moment))
    assert score.run(config)["output"]["write"] == "spark"
    assert {path.name for path in tables.glob("*_staged_*")} == set(list(days)[1:])


@pytest.mark.parametrize("by", ["direct", "spark"])
def test_a_decision_is_made_as_spark_makes_it(
    spark: SparkSession, job: Callable[..., ScoreJob], by: str
) -> None:
    config = job("decided", model="line/1", nulls={"x": "null"}, threshold=5.0, write=by)
    report = score.run(config)
    assert report["output"]["write"] == by
    for row in read(spark, config).collect():
        score_of = row["prediction"]
        expected = None if score_of is None else int(score_of >= 5.0)
        assert row["decision"] == expected


@pytest.fixture
def interfere(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Do something to the files after the workers wrote them, and before the driver looks."""

    def register(change: Callable[[Path], object]) -> None:
        files = filing.files

        def looked(reported: list[dict[str, Any]], sink: executor.Sink, *rest: Any) -> Any:
            change(Path(sink.folder, reported[0]["path"]))
            return files(reported, sink, *rest)

        monkeypatch.setattr(filing, "files", looked)

    return register


@pytest.mark.parametrize("change", [Path.unlink, lambda path: path.write_bytes(b"half")])
def test_a_file_that_the_driver_does_not_see_as_it_was_written_is_never_published(
    spark: SparkSession,
    job: Callable[..., ScoreJob],
    interfere: Callable[..., None],
    change: Callable[[Path], object],
) -> None:
    interfere(change)
    config = job("predictions")
    with pytest.raises(WrittenFilesMissing, match="the driver does not find the same file"):
        score.run(config)
    assert read(spark, config).count() == 0


def test_a_folder_that_workers_cannot_write_to_is_named(
    spark: SparkSession, job: Callable[..., ScoreJob], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = job("predictions")
    make = filing.sink

    def elsewhere(*facts: Any, **more: Any) -> Any:
        sink = make(*facts, **more)
        object.__setattr__(sink, "folder", "/proc/nowhere")
        return sink

    monkeypatch.setattr(filing, "sink", elsewhere)
    with pytest.raises(FilesUnwritten, match=r"workers cannot write to /proc/nowhere: .*No such"):
        score.run(config)
    assert read(spark, config).count() == 0


def test_a_task_that_fails_leaves_no_file(tmp_path: Path) -> None:
    sink = executor.Sink(
        folder=str(tmp_path),
        columns=(executor.OutputColumn(name="x", kind=pa.int64(), position=0),),
        parts={"all": {}},
        by=None,
        compression="snappy",
    )

    def rows() -> Iterator[pa.RecordBatch]:
        yield pa.RecordBatch.from_pydict({"x": np.arange(2_000_000)})  # enough to be written
        assert [*tmp_path.iterdir()]
        raise MemoryError

    with pytest.raises(MemoryError):
        list(written(sink, rows()))
    assert not [*tmp_path.iterdir()]


def test_what_a_run_carries_is_what_its_rows_are_stamped_with(
    spark: SparkSession, job: Callable[..., ScoreJob]
) -> None:
    config = job("predictions", write="spark")
    score.run(config)
    row = read(spark, config).first()
    assert row is not None
    stamped = json.loads(
        Delta.forPath(spark, config.output.address).history(1).select("userMetadata").first()[0]
    )
    assert {
        name: row[name] for name in lineage.COLUMNS if name in stamped and name != "scored_at"
    } == {
        name: stamped[name] for name in lineage.COLUMNS if name in stamped and name != "scored_at"
    }


def test_no_bound_of_a_struct_hides_a_row_and_no_count_of_it_the_table(
    spark: SparkSession, tmp_path: Path
) -> None:
    # Two columns with one path.
    kinds = pa.schema({"s.a": pa.int64(), "s": pa.struct({"a": pa.float64()})})
    nested = [{"a": 1.0}, {"a": 2.0}, {"a": float("nan")}]
    rows = pa.table([pa.array([1, 2, 3]), pa.array(nested, kinds.field("s").type)], kinds)
    path = str(tmp_path / "nested")

    def put(run: str) -> None:
        place = {"run": [run]}
        tables.put(spark, rows, path, constants={"run": run}, where=place, metadata={})

    put("first")
    table = spark.read.format("delta").load(path)
    assert table.where(table["s"]["a"] > 5).count() == 1  # NaN is larger, for Spark
    stats = {"delta.dataSkippingStatsColumns": "run,s"}
    DeltaTable(path).alter.set_table_properties(stats)
    put("second")
    assert DeltaTable(path).count() == spark.read.format("delta").load(path).count() == 6
    counts = pa.table(DeltaTable(path).get_add_actions()).column("num_records").to_pylist()
    assert counts == [3, 3]
