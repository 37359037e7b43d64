"""Spark's writer: commits that Spark makes, which merge, append or replace rows."""

from __future__ import annotations

import json
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pyspark.sql import functions as F  # noqa: N812 - the name that everyone reads at once

from lakescore.logs import AnotherRunWon
from lakescore.runner import Runner
from lakescore.tables.columns import check_columns
from lakescore.tables.failures import explain_errors
from lakescore.tables.lookup import Table, read_history, read_rows
from lakescore.tables.sql import literal, predicate, quoted
from lakescore.wording import listed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pyspark.sql import DataFrame, SparkSession

_METADATA_SETTING = "spark.databricks.delta.commitInfo.userMetadata"
"""The setting that gives Spark's commits their `userMetadata`."""
_COMMITS_SINCE = 50
"""How many of the newest commits are searched for a commit that Spark has just made."""


def merge(
    rows: DataFrame,
    address: str,
    *,
    keys: Sequence[str],
    within: Mapping[str, str],
    metadata: Mapping[str, Any],
) -> int:
    """Replace the rows that have the same *keys* as one of *rows*; append the other *rows*.

    Args:
        rows: the new rows; they are read several times, so they must be persisted.
        address: the table, which exists.
        keys: columns whose values are compared; a null equals a null.
        within: columns, each with the value in all rows that can be replaced.
        metadata: the commit's `userMetadata`, which is written as JSON.

    Returns:
        The commit's version.

    Raises:
        AnotherRunWon: another write came first; nothing was written.
        SchemaDrift: the table lacks a column of *rows*, or has another type for it; nothing was
            written. Delta would merge without the column, or cast its values (1.9 to 1).
    """
    spark, text = rows.sparkSession, json.dumps(metadata, default=str)
    scope = [f"there.{quoted(name)} = {literal(value)}" for name, value in within.items()]
    same_keys = [f"there.{quoted(name)} <=> new.{quoted(name)}" for name in keys]
    what = listed(within.values())
    check_columns(rows.schema, address, Table.at(Runner.of(spark), address).schema)
    with explain_errors(address, what):
        _merge(rows, address, [*scope, *same_keys], "WHEN MATCHED THEN UPDATE SET *", text)
    commit = find_commit(spark, address, text)
    if commit is None:
        raise AnotherRunWon(address, what)
    return commit[0]


def _merge(
    rows: DataFrame, address: str, conditions: Sequence[str], matched: str, text: str
) -> None:
    spark, name = rows.sparkSession, f"lakescore_{uuid.uuid4().hex}"
    existing = read_rows(spark, address)
    existing.createOrReplaceTempView(f"{name}_there")
    rows.createOrReplaceTempView(f"{name}_new")
    try:
        with set_commit_metadata(spark, text):
            spark.sql(
                f"MERGE INTO {name}_there AS there USING {name}_new AS new "
                f"ON {' AND '.join(conditions)} {matched} WHEN NOT MATCHED THEN INSERT *"
            ).collect()
    finally:
        for view in ("there", "new"):
            spark.catalog.dropTempView(f"{name}_{view}")


def append(rows: DataFrame, address: str, where: Mapping[str, Sequence[str]], text: str) -> None:
    """Append *rows* by a MERGE, so that a second try of the same run appends nothing.

    Another write of rows that match *where* is a conflict, because a MERGE reads these rows. A
    plain append of Spark's writer reads no rows, so it would find no conflict.
    """
    run_column = "scoring_run_id"
    scope = [predicate(where, "there.")]
    same = [f"there.{quoted(name)} = new.{quoted(name)}" for name in where]
    same += [f"there.{run_column} = new.{run_column}"] if run_column in rows.columns else ["false"]
    _merge(rows, address, [*scope, *same], "", text)


def overwrite(rows: DataFrame, address: str, replaced: str, text: str) -> None:
    """Let Spark replace the rows that match the predicate *replaced* by *rows*."""
    names = {name.lower() for name in rows.columns}
    schema = read_rows(rows.sparkSession, address).schema
    missing = [field for field in schema if field.name.lower() not in names]
    for field in missing:  # Spark requires them for a name, and fills them with nulls for a path
        rows = rows.withColumn(field.name, F.lit(None).cast(field.dataType))
    if "/" in address:
        writer = rows.write.format("delta").mode("overwrite").option("replaceWhere", replaced)
        writer.option("userMetadata", text).save(address)
    else:  # saveAsTable would stage all of the table; Delta 3.3 cannot do this since Spark 3.5.6
        rows.writeTo(address).option("userMetadata", text).overwrite(F.expr(replaced))


def overwrite_table(rows: DataFrame, address: str, partition_by: Sequence[str], text: str) -> None:
    """Let Spark replace all rows and columns of the table by *rows* and their columns."""
    writer = rows.write.format("delta").mode("overwrite").option("overwriteSchema", "true")
    writer = writer.option("userMetadata", text).partitionBy(*partition_by)
    if "/" in address:
        writer.save(address)
    else:
        writer.saveAsTable(address)


def find_commit(spark: SparkSession, address: str, text: str) -> tuple[int, int] | None:
    """Return the version of the commit with the metadata *text*, and the rows that it wrote."""
    for row in read_history(spark, address, _COMMITS_SINCE):
        if row["userMetadata"] == text:
            metrics = row["operationMetrics"] or {}
            rows = metrics.get("numTargetRowsInserted", metrics.get("numOutputRows", 0))
            return int(row["version"]), int(rows)
    return None


@contextmanager
def set_commit_metadata(spark: SparkSession, text: str) -> Iterator[None]:
    """Give Spark's commits *text* as their `userMetadata` while the body runs."""
    spark.conf.set(_METADATA_SETTING, text)
    try:
        yield
    finally:
        spark.conf.unset(_METADATA_SETTING)
