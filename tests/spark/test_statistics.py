"""No reader misses a row because of a file's statistics: by any writer, with any filter."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import reduce
from operator import and_
from typing import TYPE_CHECKING, Any

import duckdb
import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pytest
import score
from builders.jobs import score_job
from deltalake import DeltaTable, QueryBuilder
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812 - the name that everyone reads at once
from sklearn.dummy import DummyRegressor

from lakescore import arrow
from lakescore.explaining import explain

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyspark.sql import SparkSession

LAST = "\U0010ffff"
NAN, INF = math.nan, math.inf


@dataclass(frozen=True)
class Kind:
    """A type, as readers call it, and the values of a column: four slices of three rows."""

    spark: str
    arrow: pa.DataType
    datafusion: str
    duckdb: str
    cells: list[Any]


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


NULLS = [None] * 3
KEYS = {
    "whole": Kind(
        "bigint", pa.int64(), "Int64", "BIGINT",
        [1, 2, 3, -(2**63), 2**53 + 1, 2**63 - 1, 0, -1, None, *NULLS],
    ),
    "small": Kind(
        "tinyint", pa.int8(), "Int8", "TINYINT",
        [1, 2, 3, -128, 0, 127, 4, 5, 6, *NULLS],
    ),
    "uuid": Kind(
        "string", pa.string(), "Utf8", "VARCHAR",
        [f"00000000-0000-0000-0000-{n:012}" for n in range(9)] + NULLS,
    ),
    "text": Kind(
        "string", pa.string(), "Utf8", "VARCHAR",
        ["", "b", "é"]
        + ["x" * 32 + end for end in ("1", "2", "💡💡")]
        + [LAST * 40, "a", None, *NULLS],
    ),
    "day": Kind(
        "date", pa.date32(), "Date32", "DATE",
        [date(2013, 12, d) for d in (1, 2, 3)]
        + [date.min, date.max, date(1582, 10, 4)]
        + [date(1969, 12, 31), date(1970, 1, 1), None, *NULLS],
    ),
    "at": Kind(
        "timestamp", pa.timestamp("us", "UTC"),
        'Timestamp(Microsecond, Some("UTC"))', "TIMESTAMPTZ",
        [
            moment("2013-12-01 10:00:00"),
            moment("2013-12-01 10:00:00.000500"),
            moment("2013-12-01 10:00:00.999999"),
            moment("1700-01-01 00:00:00"),
            moment("2262-01-01 00:00:00"),
            moment("2000-01-01 00:00:00.000001"),
            moment("1969-12-31 23:59:59.999001"),  # before 1970, down is away from zero
            moment("1970-01-01 00:00:00"),
            None,
            *NULLS,
        ],
    ),
    "ever": Kind(
        "timestamp", pa.timestamp("us", "UTC"), "", "TIMESTAMPTZ",
        [
            moment("0001-01-01 00:00:00"),
            moment("1500-02-28 12:00:00"),
            moment("1582-10-04 00:00:00.000001"),
            moment("9999-12-31 23:59:59.999999"),
            moment("9999-12-31 00:00:00"),
            moment("2013-12-01 10:00:00"),
            moment("0001-01-01 00:00:00.000500"),
            moment("9999-12-31 23:59:59"),
            None,
            *NULLS,
        ],
    ),
    "price": Kind(
        "decimal(10,2)", pa.decimal128(10, 2), "Decimal128(10, 2)", "DECIMAL(10,2)",
        [Decimal(v) for v in ("-0.25", "-3.00", "-3.25")]
        + [Decimal(v) for v in ("-99999999.99", "99999999.99", "0.00", "1.05", "2.10")]
        + [None, *NULLS],
    ),
    "exact": Kind(
        "decimal(38,10)", pa.decimal128(38, 10), "Decimal128(38, 10)", "DECIMAL(38,10)",
        [Decimal(f"{v}.0123456789") for v in (1, -1, 2, -(10**27), 10**27, 10**19, 3, 4)]
        + [None, *NULLS],
    ),
    "ratio": Kind(
        "double", pa.float64(), "Float64", "DOUBLE",
        [1.5, 2.5, NAN, INF, -INF, 0.5, -0.0, -0.0, None, *NULLS],
    ),
    "single": Kind(
        "float", pa.float32(), "Float32", "FLOAT",
        [float(np.float32(v)) for v in (0.1, 1e-40, 7, NAN, NAN, NAN, 0.0, 0.0)] + [None, *NULLS],
    ),
    "flag": Kind(
        "boolean", pa.bool_(), "Boolean", "BOOLEAN",
        [True, True, True, False, False, False, True, False, None, *NULLS],
    ),
    "blob": Kind(
        "binary", pa.binary(), "Binary", "BLOB",
        [b"", b"a", b"b", b"~", b"~~", b"x" * 40, b"c", b"d", None, *NULLS],
    ),
    "nothing": Kind("string", pa.string(), "Utf8", "VARCHAR", [None] * 12),
}  # fmt: skip
SLICES = ["plain", "odd", "mixed", "null"]
CONSTANT = Kind("string", pa.string(), "Utf8", "VARCHAR", [None] * 12)
COLUMNS = KEYS | {"logged_model_id": CONSTANT}  # of a version that MLflow keeps no model of
BOUNDED = ",".join(f"`{name}`" for name in ["id", *COLUMNS] if name not in {"flag", "blob"})
"""All columns of which Delta lets a table promise bounds."""
Filter = tuple[str, str, list[Any]]
"""A column, an operator, and values."""


def filters() -> list[Filter]:
    """Return each value with =, two of each column with the others."""
    made: list[Filter] = []
    for name, kind in COLUMNS.items():
        values = [kind.cells[n] for n in range(9) if kind.cells[n] is not None]
        values = list({repr(value): value for value in values}.values())
        made += [(name, "=", [value]) for value in values]
        made += [(name, sign, [value]) for sign in "<>" for value in values[1::3]]
        made += [(name, "in", values[at : at + 2]) for at in (0, 3) if values[at : at + 2]]
        made.append((name, "is null", []))
    return made


def holds(value: Any, sign: str, asked: list[Any], *, nan_is_largest: bool) -> bool:
    """Tell whether a filter holds for a value, which is read from no file."""
    if sign == "is null" or value is None:
        return sign == "is null" and value is None

    def order(number: Any) -> Any:
        is_nan = isinstance(number, float) and math.isnan(number)
        return (is_nan, 0.0 if is_nan else number) if nan_is_largest else number

    one, others = order(value), [order(other) for other in asked]
    if sign in {"=", "in"}:
        return any(one == other for other in others)
    return bool(one < others[0] if sign == "<" else one > others[0])


def text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode()
    return str(value).lower() if isinstance(value, bool) else str(value)


def sql(asked: Filter, cast: Callable[[str], str]) -> str:
    name, sign, values = asked
    literals = [cast(text(value).replace("'", "''")) for value in values]
    if sign == "is null":
        return f'"{name}" is null'
    return (
        f'"{name}" in ({", ".join(literals)})' if sign == "in" else f'"{name}" {sign} {literals[0]}'
    )


Ids = list[set[int]]


def by_dataset(path: str, asked: list[Filter]) -> Ids:
    options = ds.ParquetReadOptions(coerce_int96_timestamp_unit="us")  # Spark's own times
    dataset, ids = DeltaTable(path).to_pyarrow_dataset(parquet_read_options=options), []
    for name, sign, values in asked:
        field, scalars = pc.field(name), [pa.scalar(v, COLUMNS[name].arrow) for v in values]
        where = {
            "=": lambda: field == scalars[0],  # noqa: B023 - called at once
            "<": lambda: field < scalars[0],  # noqa: B023
            ">": lambda: field > scalars[0],  # noqa: B023
            "in": lambda: reduce(lambda a, b: a | b, [field == scalar for scalar in scalars]),  # noqa: B023
            "is null": field.is_null,
        }[sign]()
        ids.append(set(dataset.to_table(["id"], filter=where).column("id").to_pylist()))
    return ids


def by_pandas(path: str, asked: list[Filter]) -> Ids:
    table, ids = DeltaTable(path), []
    for name, sign, values in asked:
        if sign == "in":
            given = [[(name, "=", pa.scalar(value, COLUMNS[name].arrow))] for value in values]
        else:
            given = [[(name, sign, pa.scalar(values[0], COLUMNS[name].arrow))]]
        ids.append(set(table.to_pandas(columns=["id"], filters=given)["id"].tolist()))
    return ids


def by_datafusion(path: str, asked: list[Filter]) -> Ids:
    engine, ids = QueryBuilder().register("t", DeltaTable(path)), []
    for one in asked:
        kind = COLUMNS[one[0]].datafusion
        where = sql(one, lambda literal: f"arrow_cast('{literal}', '{kind}')")  # noqa: B023
        rows = pa.table(engine.execute(f"select id from t where {where}").read_all())
        ids.append(set(rows.column("id").to_pylist()))
    return ids


def by_duckdb(path: str, asked: list[Filter]) -> Ids:
    files, ids = DeltaTable(path).file_uris(), []
    with duckdb.connect() as connection:
        rows = connection.read_parquet([*files], hive_partitioning=False)
        rows.create_view("t")
        for one in asked:
            kind = COLUMNS[one[0]].duckdb
            where = sql(one, lambda literal: f"CAST('{literal}' AS {kind})")  # noqa: B023
            ids.append(
                {row[0] for row in connection.execute(f"select id from t where {where}").fetchall()}
            )
    return ids


def is_not_asked(reader: str, table: str, asked: Filter) -> bool:
    """Tell whether a reader cannot take a filter, whatever files say."""
    name, sign, _ = asked
    if reader == "delta-rs to_pandas" and sign == "is null":
        return True  # it has no such filter
    # Spark's own files, and DataFusion, count nanoseconds: of the years 1678 to 2262.
    by_nanoseconds = table == "spark" and reader in {"delta-rs to_pandas", "duckdb"}
    return name == "ever" and (by_nanoseconds or reader == "delta-rs SQL")


READERS = {  # What reads, and whether NaN is its largest number.
    "delta-rs dataset": (by_dataset, False),
    "delta-rs to_pandas": (by_pandas, False),
    "delta-rs SQL": (by_datafusion, True),
    "duckdb": (by_duckdb, True),
}


@pytest.fixture(scope="module")
def model(registry: str, tmp_path_factory: pytest.TempPathFactory) -> str:  # noqa: ARG001
    """Register a folder, so that there is no logged model."""
    from mlflow.models import infer_signature

    asks = pd.DataFrame({"x": [1.0, 2.0]})
    fitted = DummyRegressor().fit(asks, [1.0, 2.0])
    folder = tmp_path_factory.mktemp("model") / "model"
    mlflow.sklearn.save_model(
        fitted, folder, signature=infer_signature(asks, fitted.predict(asks)),
        pip_requirements=[], serialization_format="cloudpickle",
    )  # fmt: skip
    client = mlflow.MlflowClient()
    client.create_registered_model("bounded")
    client.create_model_version("bounded", source=folder.as_uri())
    return "bounded/1"


@pytest.fixture(scope="module")
def rows(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = str(tmp_path_factory.mktemp("bounded") / "rows")
    columns = {name: pa.array(kind.cells, kind.arrow) for name, kind in KEYS.items()}
    slices = pa.array([SLICES[n // 3] for n in range(12)])
    held = pa.table({"id": pa.array(range(12)), "part": slices, **columns, "x": [1.0] * 12})
    arrow.frame(spark, held).coalesce(1).write.format("delta").save(path)
    return path


@pytest.fixture(scope="module")
def tables(
    spark: SparkSession, rows: str, model: str, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """Write the predictions by workers, by Spark, and by workers where all bounds are promised."""
    folder = tmp_path_factory.mktemp("written")

    def written(name: str, by: str, **changes: Any) -> str:
        job = score_job(
            folder, rows, model=model, output=folder / name, id_columns=["id", *KEYS],
            slice_by="part", slices=SLICES, write=by, **changes,
        )  # fmt: skip
        receipt = score.run(job)
        assert (receipt["rows_scored"], receipt["output"]["write"]) == (12, by)
        return str(folder / name)

    made = {by: written(by, by) for by in ("direct", "spark")}
    rows_of_direct = spark.read.format("delta").load(made["direct"])
    empty = spark.createDataFrame([], rows_of_direct.schema)
    for name, held in {"promised": empty, "by Spark, all promised": rows_of_direct}.items():
        promising = held.write.format("delta").partitionBy("model_name", "slice")
        promising.option("delta.dataSkippingStatsColumns", BOUNDED).save(str(folder / name))
        made[name] = str(folder / name)
    written("promised", "direct")
    return made


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("table", ["direct", "spark", "promised"])
def test_a_filter_gives_what_a_scan_of_all_rows_gives(
    tables: dict[str, str], table: str, reader: str
) -> None:
    read, nan_is_largest = READERS[reader]
    asked = [one for one in filters() if not is_not_asked(reader, table, one)]
    by_filter = read(tables[table], asked)
    wrong = []
    for (name, sign, values), ids in zip(asked, by_filter, strict=True):
        held = enumerate(COLUMNS[name].cells)
        expected = {n for n, v in held if holds(v, sign, values, nan_is_largest=nan_is_largest)}
        if ids != expected:
            wrong.append((name, sign, values, sorted(ids), sorted(expected)))
    assert not wrong


def aimed(row: int) -> list[list[Filter]]:
    """Return conditions on all columns that one row fulfils: equal, among, and beyond."""
    equal: list[Filter] = []
    among: list[Filter] = []
    beyond: list[Filter] = []
    for name, kind in COLUMNS.items():
        value, others = kind.cells[row], [cell for cell in kind.cells if cell is not None]
        if value is None:
            equal.append((name, "is null", []))
            continue
        equal.append((name, "=", [value]))
        among.append((name, "in", [others[0], value]))
        for sign in "<>":
            far = [o for o in others if holds(value, sign, [o], nan_is_largest=True)]
            beyond += [(name, sign, [far[-1]])] if far else []
    return [equal, among, beyond] if among else [equal]


def condition(asked: Filter) -> Column:
    name, sign, values = asked
    column = F.col(name)
    literals = [F.lit(text(value)).cast(COLUMNS[name].spark) for value in values]
    if sign == "is null":
        return column.isNull()
    if sign == "in":
        return column.isin(literals)
    return {"=": column.__eq__, "<": column.__lt__, ">": column.__gt__}[sign](literals[0])


@pytest.mark.parametrize("table", ["direct", "spark", "promised"])
def test_spark_finds_the_rows_that_a_scan_of_all_rows_gives(
    spark: SparkSession, tables: dict[str, str], table: str
) -> None:
    """By conditions on all columns at once: a column that hides a row hides it from them all."""
    asked = [filters for row in range(12) for filters in aimed(row)]
    ids: list[set[int]] = [set() for _ in asked]
    rows = spark.read.format("delta").load(tables[table])
    chosen = [
        rows.where(reduce(and_, map(condition, filters))).select(F.lit(n).alias("number"), "id")
        for n, filters in enumerate(asked)
    ]
    for number, key in reduce(DataFrame.unionAll, chosen).collect():
        ids[number].add(key)
    expected = [
        {
            row
            for row in range(12)
            if all(
                holds(COLUMNS[name].cells[row], sign, values, nan_is_largest=True)
                for name, sign, values in filters
            )
        }
        for filters in asked
    ]
    assert ids == expected
    assert all(expected)


@pytest.mark.parametrize("table", ["direct", "spark", "promised", "by Spark, all promised"])
def test_explain_finds_a_row_by_every_value_of_every_key(
    tables: dict[str, str], table: str
) -> None:
    """Even where Spark's own bounds are wrong for other readers, as in the last table."""
    for name, kind in KEYS.items():
        for value in {text(cell): cell for cell in kind.cells if cell is not None}.values():
            explained = {row["row"]["id"] for row in explain(tables[table], {name: text(value)})}
            same = [holds(cell, "=", [value], nan_is_largest=True) for cell in kind.cells]
            assert explained == {n for n, is_same in enumerate(same) if is_same}, (name, value)
