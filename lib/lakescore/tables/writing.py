"""Writing: begin a transaction; replace or remove the rows of a table."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812 - the name that everyone reads at once
from pyspark.sql.types import IntegerType, StringType, StructField, StructType, TimestampType

from lakescore.arrow import frame, struct
from lakescore.logs import NotEligible
from lakescore.runner import Runner
from lakescore.storage import TableNotFound
from lakescore.tables.columns import columns_json
from lakescore.tables.creating import ONLY_APPENDS, create, statistics_properties
from lakescore.tables.errors import TableAppendOnly
from lakescore.tables.lookup import Table
from lakescore.tables.transaction import Transaction

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa
    from pyspark.sql import SparkSession
    from pyspark.sql.types import DataType


def begin(  # noqa: PLR0913 - each argument is a separate fact
    spark: SparkSession | Runner,
    written: StructType,
    address: str,
    *,
    where: Mapping[str, Sequence[str]],
    metadata: Mapping[str, Any],
    find_by: Sequence[str] = (),
    append: bool = False,
    made_with: Mapping[str, Any] | None = None,
) -> Transaction:
    """Begin a transaction that replaces the rows that match *where*, or appends rows to them.

    A table that does not exist is made, with the columns of *where* as partition columns. A table
    to which no run has published gets a new schema. All new rows must match *where*.

    Args:
        spark: the session, or the runner.
        written: the columns of the new rows.
        address: the table.
        where: columns, each with the values that match. They are values and not a raw predicate,
            because one such as `slice = 'a' or 1 = 1` would replace all rows of the table.
        metadata: the commit's `userMetadata`, which is written as JSON.
        find_by: the columns by which rows will be searched. A new table keeps file statistics (the
            smallest and largest values) of these columns only, if their type allows it: file
            statistics cost more than the writing of the rows.
        append: keep the existing rows.
        made_with: more commit metadata for the commit that makes the table.

    Raises:
        NotADeltaTable: *address* has something that is not a Delta table.
        TableAppendOnly: rows of the table, or of any new table, cannot be replaced.
        TableNotMade, FolderRefused: the table cannot be made.
        SchemaDrift: the table does not take these columns.
    """
    runner, properties = Runner.of(spark), statistics_properties(written, find_by)
    try:
        table = Table.at(runner, address)
    except TableNotFound:
        if not append and runner.setting(ONLY_APPENDS) == "true":
            raise TableAppendOnly(address, default=True) from None
        create(runner, written, address, list(where), properties, made_with or {})
        table = Table.at(runner, address)
    if not append and table.properties.get("delta.appendOnly") == "true":
        raise TableAppendOnly(address, default=False)
    requested = (columns_json(written), tuple(where))
    existing = (columns_json(table.schema), table.partitioned_by)
    new_properties = None if existing == requested or table.is_published() else properties
    return Transaction(
        table,
        written,
        where=where,
        metadata=json.dumps(metadata, default=str),
        append=append,
        new_properties=new_properties,
    )


def replace(
    rows: DataFrame,
    address: str,
    *,
    where: Mapping[str, Sequence[str]],
    metadata: Mapping[str, Any],
    find_by: Sequence[str] = (),
) -> int:
    """Replace the rows of the table that match *where* by *rows*; return the commit's version.

    The arguments are those of `begin`.

    Raises:
        AnotherRunWon: another write to the same rows came first; nothing was written.
        SchemaDrift: the table has other columns; nothing was written.
    """
    spark, written = rows.sparkSession, rows.schema
    with begin(
        spark, written, address, where=where, metadata=metadata, find_by=find_by
    ) as transaction:
        return transaction.write(rows).commit()


def put(  # noqa: PLR0913 - all but the first three by name
    spark: SparkSession | Runner,
    rows: pa.Table | DataFrame,
    address: str,
    *,
    constants: Mapping[str, Any],
    where: Mapping[str, Sequence[str]],
    metadata: Mapping[str, Any],
) -> int:
    """Replace rows as `replace` does, by a frame or a table, with *constants* in every row.

    Args:
        spark: the session, or the runner.
        rows: a frame, or a table in the memory of this process.
        address: as in `begin`.
        constants: columns to add to all rows, with their values.
        where: as in `begin`; its columns are among *constants*.
        metadata: as in `begin`.

    Raises:
        AnotherRunWon, SchemaDrift: as in `replace`.
    """
    if isinstance(rows, DataFrame):
        return replace(_add_constants(rows, constants), address, where=where, metadata=metadata)
    runner = Runner.of(spark)
    fields = [
        StructField(name, _constant_type(value), nullable=False)
        for name, value in constants.items()
    ]
    written = StructType([*struct(rows.schema).fields, *fields])
    with begin(runner, written, address, where=where, metadata=metadata) as transaction:
        try:
            transaction.put(rows, {"": constants}, None)
        except NotEligible as not_eligible:
            spark_rows = frame(runner.start_delta(f"Spark writes {address}: {not_eligible}"), rows)
            transaction.write(_add_constants(spark_rows, constants))
        return transaction.commit()


def put_parts(
    runner: Runner,
    rows: pa.Table,
    address: str,
    *,
    where: Mapping[str, Sequence[str]],
    metadata: Mapping[str, Any],
) -> int:
    """Replace rows as `replace` does, by a table in the memory of this process.

    Args:
        runner: the runner.
        rows: the rows, with the columns of *where*.
        address: as in `begin`.
        where: as in `begin`; at most one of its columns has several values.
        metadata: as in `begin`.

    Raises:
        AnotherRunWon, SchemaDrift: as in `replace`.
    """
    by = max(where, key=lambda name: len(where[name]))
    shared = {name: values[0] for name, values in where.items() if name != by}
    parts = {value: {**shared, by: value} for value in where[by]}
    with begin(runner, struct(rows.schema), address, where=where, metadata=metadata) as transaction:
        try:
            transaction.put(rows, parts, by)
        except NotEligible as not_eligible:
            session = runner.start_delta(f"Spark writes {address}: {not_eligible}")
            transaction.write(frame(session, rows))
        return transaction.commit()


def _add_constants(rows: DataFrame, constants: Mapping[str, Any]) -> DataFrame:
    return rows.select("*", *[F.lit(value).alias(name) for name, value in constants.items()])


def _constant_type(value: object) -> DataType:
    """Return the type that Spark gives a constant."""
    kinds: dict[type, DataType] = {
        int: IntegerType(),
        str: StringType(),
        datetime: TimestampType(),
    }
    return kinds[type(value)]


def clear(
    spark: SparkSession | Runner,
    address: str,
    *,
    where: Mapping[str, Sequence[str]],
    metadata: Mapping[str, Any],
) -> None:
    """Remove the rows of a table that match *where*.

    The arguments are those of `begin`.

    Raises:
        AnotherRunWon: another write to the same rows came first; nothing was removed.
    """
    runner = Runner.of(spark)
    written = Table.at(runner, address).schema
    with begin(runner, written, address, where=where, metadata=metadata) as transaction:
        if not transaction.commits_itself:
            session = runner.start_delta(f"Spark removes rows of {address}")
            transaction.write(session.createDataFrame([], written))
        transaction.commit()
