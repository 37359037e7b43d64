"""Tables whose log writes a slice's value in several ways: what counts is the value."""

from __future__ import annotations

import json
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import score
from builders.jobs import score_job
from builders.tables import make_table, rows_of
from delta.tables import DeltaTable
from sklearn.linear_model import LinearRegression

from lakescore import slicing, tables
from lakescore.errors import InputContractError
from lakescore.slicing import NullsFound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pyspark.sql import SparkSession

    from lakescore.config import ScoreJob

X = pd.DataFrame({"x": [0.0, 1.0]})
NULL_FOLDER = "__HIVE_DEFAULT_PARTITION__"
LOGGED = {"INT": "integer", "BIGINT": "long", "DATE": "date", "STRING": "string"}
pytestmark = pytest.mark.usefixtures("spark")


@pytest.fixture(scope="module", autouse=True)
def models(register: Any) -> None:
    """Register a model that doubles, and one that doubles but refuses negative numbers."""

    class Picky(mlflow.pyfunc.PythonModel):
        def predict(self, context: Any, model_input: pd.DataFrame) -> pd.Series:  # noqa: ARG002
            if (model_input["x"] < 0).any():
                raise ValueError("a negative number")
            return 2 * model_input["x"]

    register("spelled", LinearRegression().fit(X, 2 * X["x"]), X)
    register("spelled picky", Picky(), X, np.array([0.0, 2.0]))


def folders(place: Path, rows: Mapping[str, list[float]]) -> None:
    """Write a Parquet file with the x that *rows* has for each folder `part=text`."""
    number = 0
    for text, xs in rows.items():
        folder = place / f"part={text}"
        folder.mkdir(parents=True)
        ids = list(range(number, number + len(xs)))
        pq.write_table(pa.table({"id": pa.array(ids, pa.int64()), "x": xs}), folder / "f.parquet")
        number += len(xs)


def added(place: Path, logged: str, values: Mapping[str, str | None]) -> dict[str, Any]:
    """Return the action of a log that adds a file, whose path is written as *logged*."""
    path = place / unquote(logged)
    rows = {"numRecords": pq.read_metadata(path).num_rows}
    facts = {"path": logged, "partitionValues": values, "size": path.stat().st_size}
    return {"add": facts | {"modificationTime": 0, "dataChange": True, "stats": json.dumps(rows)}}


def commit(place: Path, version: int, actions: Iterable[Mapping[str, Any]]) -> None:
    log = place / "_delta_log"
    log.mkdir(exist_ok=True)
    (log / f"{version:020}.json").write_text("\n".join(map(json.dumps, actions)))


@pytest.fixture
def divided(tmp_path: Path) -> Callable[..., str]:
    """Make a Delta table of folders, as CONVERT TO DELTA does of Hive's, and return its path."""

    def make(kind: str, rows: Mapping[str, list[float]]) -> str:
        place = tmp_path / "input"
        folders(place, rows)
        kinds = {"id": "long", "x": "double", "part": LOGGED[kind]}
        fields = [
            {"name": n, "type": t, "nullable": True, "metadata": {}} for n, t in kinds.items()
        ]
        schema = json.dumps({"type": "struct", "fields": fields})
        made: list[dict[str, Any]] = [
            {"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}},
            {"metaData": {"id": "divided", "format": {"provider": "parquet", "options": {}},
                          "schemaString": schema, "partitionColumns": ["part"],
                          "configuration": {}}},
        ]  # fmt: skip
        for text in rows:
            value = None if text == NULL_FOLDER else text
            made.append(added(place, f"part={text}/f.parquet", {"part": value}))
        commit(place, 0, made)
        return str(place)

    return make


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., ScoreJob]:
    table = tmp_path / "input"
    return partial(score_job, tmp_path, table, model="spelled/1", slice_by="part", slices="due")


def outcomes(receipt: Mapping[str, Any]) -> dict[str, tuple[str, int, int]]:
    return {
        part["slice"]: (part["status"], part["rows_in"], part["rows_scored"])
        for part in receipt["slices"]
    }


def published(config: ScoreJob) -> list[tuple[str, float]]:
    predictions = rows_of(config.output.address, "slice", "prediction")
    return [(name, round(value, 6)) for name, value in predictions]


def doubled(place: str, values: Mapping[str, str]) -> list[tuple[str, float]]:
    """Return the files' numbers, doubled, with the value that each folder's text means."""
    expected = []
    for text, value in values.items():
        for file in sorted(Path(place, f"part={text}").glob("*.parquet")):
            expected += [
                (value, round(2 * x, 6)) for x in pd.read_parquet(file, columns=["x"])["x"]
            ]
    return sorted(expected)


DAYS = {
    "2024-1-5": "2024-01-05",
    "2024-01-05": "2024-01-05",
    "2024-1-6": "2024-01-06",
    "2024-02": "2024-02-01",
}
TABLES = [
    ("INT", {"01": "1", "1": "1", "11": "11", "+2": "2", "-07": "-7", "-0": "0"}, "direct"),
    ("BIGINT", {"007": "7", "7": "7"}, "spark"),
    ("DATE", DAYS, "direct"),
    ("DATE", DAYS, "spark"),
    ("DATE", {"2024-1-5T": "2024-01-05", "2024-01-05": "2024-01-05"}, "direct"),  # by Spark alone
    ("STRING", {"01": "01", "1": "1", "2024-1-5": "2024-1-5"}, "direct"),  # its own value
]


@pytest.mark.parametrize(("kind", "values", "scan"), TABLES)
def test_a_slice_holds_all_rows_of_its_value_however_the_log_writes_it(
    divided: Callable[..., str],
    job: Callable[..., ScoreJob],
    kind: str,
    values: dict[str, str],
    scan: str,
) -> None:
    rows = {text: [n + 0.25, n + 0.5, n + 0.75][: 1 + n % 3] for n, text in enumerate(values)}
    place = divided(kind, {**rows, NULL_FOLDER: [99.0]})  # whose row is of no slice
    expected = doubled(place, values)
    sizes = Counter(value for value, _ in expected)
    first = next(iter(values.values()))

    one = score.run(job(slices=[first], scan=scan))
    assert outcomes(one) == {first: ("scored", sizes[first], sizes[first])}
    assert published(job()) == [pair for pair in expected if pair[0] == first]

    due = outcomes(score.run(job(scan=scan)))
    assert due[first] == ("unchanged", sizes[first], 0)
    assert {name: due[name][1] for name in due} == dict(sizes)
    assert published(job()) == expected

    more = f"part={first}/more.parquet"
    Path(place, more).parent.mkdir(exist_ok=True)
    pq.write_table(pa.table({"id": pa.array([1000], pa.int64()), "x": [50.0]}), Path(place, more))
    commit(Path(place), 1, [added(Path(place), more, {"part": first})])
    again = outcomes(score.run(job(scan=scan)))
    assert again.pop(first) == ("scored", sizes[first] + 1, sizes[first] + 1)
    assert {status for status, *_ in again.values()} <= {"unchanged"}
    assert published(job()) == sorted([*expected, (first, 100.0)])


def test_a_range_of_days_holds_days_however_people_convert_them(
    spark: SparkSession, job: Callable[..., ScoreJob], tmp_path: Path
) -> None:
    place = str(tmp_path / "input")
    folders(Path(place), {"2024-1-5": [1.0], "2024-01-05": [2.0], "2024-1-06": [3.0]})
    spark.sql(f"CONVERT TO DELTA parquet.`{place}` PARTITIONED BY (part DATE)")
    log = Path(place, "_delta_log", f"{0:020}.json").read_text()
    added_files = [
        json.loads(line)["add"] for line in log.splitlines() if line.startswith('{"add"')
    ]
    # The other tests assume that CONVERT TO DELTA writes this.
    assert sorted((file["path"], file["partitionValues"]) for file in added_files) == [
        (f"part={text}/f.parquet", {"part": text})
        for text in ("2024-01-05", "2024-1-06", "2024-1-5")
    ]
    receipt = score.run(job(slices="2024-01-04..2024-01-06"))
    assert outcomes(receipt) == {
        "2024-01-04": ("empty", 0, 0),
        "2024-01-05": ("scored", 2, 2),
        "2024-01-06": ("scored", 1, 1),
    }
    days = {"2024-1-5": "2024-01-05", "2024-01-05": "2024-01-05", "2024-1-06": "2024-01-06"}
    assert published(job()) == doubled(place, days)


def test_rows_set_aside_are_counted_by_value_too(
    divided: Callable[..., str], job: Callable[..., ScoreJob]
) -> None:
    divided("INT", {"01": [-1.0, 1.0], "1": [-2.0, 2.0, 3.0], "2": [4.0]})
    for scan in ("direct", "spark"):
        output = f"{job().output.address}-{scan}"
        config = job(model="spelled picky/1", max_errors=2, scan=scan, output=output)
        receipt = score.run(config)
        assert outcomes(receipt) == {"1": ("scored", 5, 3), "2": ("scored", 1, 1)}
        assert rows_of(config.quarantine_address, "slice", "id") == [("1", 0), ("1", 2)]
        assert score.run(config)["status"] == "unchanged"


def test_files_that_go_make_the_slice_of_their_value_due(
    spark: SparkSession, divided: Callable[..., str], job: Callable[..., ScoreJob]
) -> None:
    place = divided("INT", {"01": [1.0], "1": [2.0], "2": [3.0]})
    score.run(job())
    DeltaTable.forPath(spark, place).delete("x = 1.0")  # the whole file of folder 01
    assert outcomes(score.run(job()))["1"] == ("scored", 1, 1)
    rows = spark.read.format("delta").load(job().output.address).select("slice", "prediction")
    predictions = sorted((name, round(value, 6)) for name, value in rows.collect())
    assert predictions == published(job()) == [("1", 4.0), ("2", 6.0)]


def test_a_file_of_any_name_makes_its_slice_due(
    job: Callable[..., ScoreJob], tmp_path: Path
) -> None:
    name = "50% + a%20b.parquet"
    place = tmp_path / "input"
    rows = [(1, 1.0, 1), (2, 2.0, 2)]
    make_table(place, rows, "id bigint, x double, part int")  # is not divided by part
    score.run(job())
    more = {"id": pa.array([3], pa.int64()), "x": [3.0], "part": pa.array([2], pa.int32())}
    pq.write_table(pa.table(more), place / name)
    commit(place, 1, [added(place, quote(name), {})])
    receipt = score.run(job())
    assert outcomes(receipt) == {"1": ("unchanged", 1, 0), "2": ("scored", 2, 2)}
    assert published(job()) == [("1", 2.0), ("2", 4.0), ("2", 6.0)]


@pytest.mark.parametrize("divides", [True, False])
def test_a_text_of_fixed_length_is_the_padded_one_that_spark_reads(
    spark: SparkSession, job: Callable[..., ScoreJob], *, divides: bool
) -> None:
    name = f"padded_{divides}".lower()
    by = "PARTITIONED BY (part)" if divides else ""
    spark.sql(f"CREATE TABLE {name} (id BIGINT, x DOUBLE, part CHAR(4)) USING delta {by}")
    spark.sql(f"INSERT INTO {name} VALUES (1, 1.0, 'ab'), (2, 2.0, 'abcd')")
    source = {"table": name}
    with pytest.raises(InputContractError, match=r"a char\(4\), is written with spaces up to 4 le"):
        score.run(job(input=source, slices=["ab"]))
    assert outcomes(score.run(job(input=source, slices=["ab  "]))) == {"ab  ": ("scored", 1, 1)}
    score.run(job(input=source))
    assert published(job()) == [("ab  ", 2.0), ("abcd", 4.0)]
    assert score.run(job(input=source))["status"] == "unchanged"


@pytest.mark.parametrize(
    ("kind", "inside", "outside", "limits"),
    [
        ("tinyint", "-128", "300", "a tinyint is from -128 to 127"),
        ("smallint", "32767", "32768", "a smallint is from -32768 to 32767"),
        ("int", "-2147483648", "-2147483649", "a int is from -2147483648 to 2147483647"),
        ("bigint", "9223372036854775807", "9223372036854775808", "to 9223372036854775807"),
    ],
)
def test_a_slice_out_of_the_columns_range_is_refused_in_one_line(  # noqa: PLR0913, PLR0917
    spark: SparkSession, tmp_path: Path, kind: str, inside: str, outside: str, limits: str
) -> None:
    place = str(tmp_path / "input")
    spark.sql(f"SELECT 1 AS id, CAST({inside} AS {kind}) AS part").write.format("delta").save(place)
    rows = tables.snapshot(spark, place).rows
    assert slicing.sizes(slicing.select(rows, "part", [inside])) == {inside: 1}
    with pytest.raises(InputContractError, match=f"out of the range of column 'part': .*{limits}"):
        slicing.select(rows, "part", [outside])


def test_what_a_slice_of_padded_texts_holds_is_looked_at_where_files_are_bounded_without_spaces(
    spark: SparkSession, job: Callable[..., ScoreJob]
) -> None:
    spark.sql("CREATE TABLE bounded (id BIGINT, x DOUBLE, part CHAR(4)) USING delta")
    spark.sql("INSERT INTO bounded VALUES (1, 1.0, 'ab'), (2, NULL, 'cd')")
    only = {"input": {"table": "bounded"}, "slices": ["cd  "]}  # the file's last value is 'cd'
    with pytest.raises(NullsFound, match="'x' in 1 row"):
        score.run(job(**only, nulls={"x": "fail"}))
    receipt = score.run(job(**only, nulls={"x": "quarantine"}, engine="arrow", max_errors=1))
    assert (receipt["rows_scored"], receipt["rows_quarantined"]) == (0, 1)
