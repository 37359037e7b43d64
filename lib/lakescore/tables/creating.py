"""Creating: a new table without rows, made by delta-rs or by Spark."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pyspark.sql import functions as F  # noqa: N812 - the name that everyone reads at once
from pyspark.sql.types import DateType, DecimalType, IntegralType, TimestampType

from lakescore import logs
from lakescore.arrow import NO_NAME, is_writable
from lakescore.errors import InputContractError
from lakescore.logs import AnotherRunWon, NotEligible
from lakescore.runner import FAILURES, Runner
from lakescore.tables.columns import columns_json
from lakescore.tables.errors import SchemaDrift
from lakescore.tables.failures import explain_errors, explain_storage_errors, is_conflict
from lakescore.tables.lookup import can_be_elsewhere, exists
from lakescore.tables.spark_writer import set_commit_metadata
from lakescore.tables.sql import quoted
from lakescore.wording import listed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.types import StructType

_BOUNDED = (DateType, DecimalType, IntegralType, TimestampType)
"""The types whose bounds are right for every writer and every reader.

For texts that are not UTF-8, Spark's writer records bounds that make Spark's reader skip the texts.
If a float is NaN, its bound makes delta-rs skip the file.
"""
_DEFAULTS = "spark.databricks.delta.properties.defaults."
ONLY_APPENDS = f"{_DEFAULTS}appendOnly"
"""The setting that makes new tables append-only."""


class TableNotMade(InputContractError):
    """A table to write to does not exist, and cannot be created."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(
            f"the table {address} cannot be created: {reason}; fix that (CREATE SCHEMA, or another "
            "name for a column), or name another table"
        )


def statistics_properties(written: StructType, find_by: Sequence[str]) -> dict[str, str]:
    """Return the properties of a table that keeps file statistics of the columns *find_by* only."""
    bounded = [name for name in find_by if isinstance(written[name].dataType, _BOUNDED)]
    if not bounded:  # without this, Delta would keep bounds of the first 32 columns
        return {"delta.dataSkippingNumIndexedCols": "0"}
    return {"delta.dataSkippingStatsColumns": ",".join(map(quoted, bounded))}


def create(  # noqa: PLR0913, PLR0917 - each argument is a separate fact
    runner: Runner,
    written: StructType,
    address: str,
    partition_by: Sequence[str],
    properties: Mapping[str, str],
    made_with: Mapping[str, Any],
) -> None:
    """Make the table, without rows.

    So a run that fails does not leave files without a table, and two runs that both need the table
    do not conflict.

    Raises:
        TableNotMade: the catalog or schema does not exist, or Delta refuses a column's name.
        FolderRefused: the folder cannot be written to.
    """
    try:
        _check_creatable(runner, written, address)
        with explain_storage_errors(address):
            logs.create(
                address,
                columns_json(written),
                partition_by=partition_by,
                properties=properties,
                metadata=made_with,
                setting=runner.setting,
            )
    except NotEligible as not_eligible:
        spark = runner.start_delta(f"Spark makes the table {address}: {not_eligible}")
        _create_by_spark(spark, written, address, partition_by, properties, made_with)


def _check_creatable(runner: Runner, written: StructType, address: str) -> None:
    """Check that delta-rs makes exactly the table that Spark would make.

    Raises:
        NotEligible: the tables could differ, or Spark has to report an error of the columns.
    """
    if "/" not in address or can_be_elsewhere(runner, address):
        raise NotEligible("Spark knows the place of the table")
    for field in written:
        kind = field.dataType
        if field.metadata or not is_writable(kind):
            raise NotEligible(
                f"column {field.name!r} has metadata or a type that only Spark writes"
            )
        if NO_NAME.search(field.name):
            raise NotEligible(f"a column is called {field.name!r}")
    if len({name.lower() for name in written.names}) < len(written):
        raise NotEligible("columns have the same name")
    if defaults := runner.settings(_DEFAULTS):
        raise NotEligible(f"new tables get {listed(defaults)}")


def _create_by_spark(  # noqa: PLR0913, PLR0917 - the arguments of `create`
    spark: SparkSession,
    written: StructType,
    address: str,
    partition_by: Sequence[str],
    properties: Mapping[str, str],
    made_with: Mapping[str, Any],
) -> None:
    empty, metadata = spark.createDataFrame([], written), {**logs.MADE, **made_with}
    try:
        with (
            explain_errors(address, "its first commit"),
            set_commit_metadata(spark, json.dumps(metadata)),
        ):
            try:
                _create_empty(empty, address, partition_by, properties)
            except FAILURES as error:
                if not is_conflict(error):
                    raise
                # Another run was making the table: by now it has finished, or it died.
                _create_empty(empty, address, partition_by, properties)
    except (SchemaDrift, AnotherRunWon) as error:
        if not exists(spark, address):
            raise TableNotMade(address, str(error.__cause__).strip().splitlines()[0]) from error


def _create_empty(
    empty: DataFrame, address: str, partition_by: Sequence[str], properties: Mapping[str, str]
) -> None:
    if "/" in address:
        writer = empty.write.format("delta").options(**properties)
        writer.partitionBy(*partition_by).save(address)
        return
    creator = empty.writeTo(address).using("delta")
    creator = creator.partitionedBy(*[F.col(name) for name in partition_by])
    for name, value in properties.items():
        creator = creator.tableProperty(name, value)
    creator.create()
