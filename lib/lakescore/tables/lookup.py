"""Lookup: the table at an address, at its newest version, by its log or by Spark."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pyspark.errors import AnalysisException
from pyspark.sql.types import StructType

from lakescore.logs import Log, NotEligible
from lakescore.runner import FAILURES, Runner
from lakescore.snapshots import NotADeltaTable, ViewNotPinned
from lakescore.storage import (
    StorageRefused,
    StorageUnsupported,
    TableNotFound,
    folder,
    plain_path,
)
from lakescore.tables.failures import explain_storage_errors
from lakescore.tables.sql import literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyspark.sql import DataFrame, Row, SparkSession

_VIEWS = {"VIEW", "TEMPORARY"}
_NO_FILE = "[DELTA_FILE_NOT_FOUND]"


@dataclass(frozen=True)
class Table:
    """An existing table at its newest version."""

    runner: Runner
    address: str
    location: str
    """The table's folder or URI."""
    known: Log | None
    not_eligible: str
    """Why the log cannot be read without Spark; empty if it can."""
    detail: Mapping[str, Any]
    """The result of Spark's `DESCRIBE DETAIL`; empty if Spark was not used."""

    @classmethod
    def at(cls, runner: Runner, address: str) -> Table:
        """Look up the table at *address*.

        Raises:
            TableNotFound, NotADeltaTable: the address has no table, or something that is not a
                Delta table.
        """
        detail: Mapping[str, Any] = {}
        if "/" not in address:
            detail = _describe_name(
                runner.start_delta(f"{address} is a name in a catalog"), address
            )
        elif can_be_elsewhere(runner, address):
            spark = runner.start_delta(f"Hadoop can find {address} at another place")
            detail = _describe_path(spark, address)
        location, known, not_eligible = detail.get("location") or address, None, ""
        try:
            known = Log(location, setting=runner.setting)
        except FileNotFoundError as error:
            if not detail:
                raise _missing_error(runner, address) from error
            not_eligible = f"Spark sees the table at {detail['location']}, but the driver does not"
        except (NotEligible, StorageRefused) as error:
            try:  # Spark can have other credentials
                detail = detail or _describe_path(runner.start_delta(str(error)), address)
            except StorageUnsupported:
                raise error from None
            not_eligible = str(error)
        if known is not None and detail and known.table_id != str(detail["id"]):
            known, not_eligible = None, f"the driver sees another table at {location}"
        return cls(runner, address, location, known, not_eligible, detail)

    @property
    def spark(self) -> SparkSession:
        """The session of Spark, for facts that delta-rs does not have."""
        return self.runner.start_delta(self.not_eligible or f"Spark reads {self.address}")

    @cached_property
    def version(self) -> int:
        """The newest version."""
        if self.known is not None:
            return self.known.version
        return int(read_history(self.spark, self.address, 1)[0]["version"])

    @property
    def table_id(self) -> str:
        """Delta's id of the table."""
        return self.known.table_id if self.known is not None else str(self.detail["id"])

    @property
    def properties(self) -> Mapping[str, str]:
        """The table's properties."""
        return self.known.properties if self.known is not None else self.detail["properties"]

    @property
    def partitioned_by(self) -> tuple[str, ...]:
        """The partition columns of the table."""
        if self.known is not None:
            return self.known.partitioned_by
        return tuple(self.detail["partitionColumns"])

    @cached_property
    def schema(self) -> StructType:
        """The columns of the table."""
        if self.known is not None:
            return StructType.fromJson(self.known.schema)
        return read_rows(self.spark, self.address).schema

    def is_published(self) -> bool:
        """Return whether anything was published; always true if only Spark understands the table.

        Lakescore makes no such tables.
        """
        return self.known is None or self.known.is_published()

    def commits(self) -> list[dict[str, Any]]:
        """Return the commits that the log still has, in the form of `DESCRIBE HISTORY`."""
        return [row.asDict() for row in read_history(self.spark, self.address)]


def exists(spark: SparkSession | Runner, address: str) -> bool:
    """Return whether *address* has a Delta table.

    Raises:
        NotADeltaTable: the address has something that is not a Delta table.
    """
    try:
        Table.at(Runner.of(spark), address)
    except TableNotFound:
        return False
    return True


def read_rows(spark: SparkSession, address: str) -> DataFrame:
    """Return the rows of the table's newest version, as Spark reads them."""
    if "/" in address:
        return spark.read.format("delta").load(address)
    return spark.read.table(address)


def read_history(spark: SparkSession, address: str, most: int | None = None) -> list[Row]:
    """Return the newest commits, at most *most*, as Spark describes them."""
    target = literal(address) if "/" in address else address
    limit = f" LIMIT {most}" if most is not None else ""
    columns = ("version", "userMetadata", "operationMetrics")
    with explain_storage_errors(address):
        return spark.sql(f"DESCRIBE HISTORY {target}{limit}").select(*columns).collect()


def can_be_elsewhere(runner: Runner, address: str) -> bool:
    """Return whether Spark can find a path at another place than this process does."""
    if "://" in address:
        return False
    default_fs = runner.setting("spark.hadoop.fs.defaultFS")
    hadoop = {"HADOOP_CONF_DIR", "YARN_CONF_DIR", "DATABRICKS_RUNTIME_VERSION"} & os.environ.keys()
    return bool(runner.is_client or default_fs or hadoop)


def _describe_name(spark: SparkSession, address: str) -> Mapping[str, Any]:
    """Return Spark's description of the table with the name *address*.

    Raises:
        TableNotFound, NotADeltaTable, ViewNotPinned: the catalog has no such name, or the name is
            not a Delta table.
    """
    try:
        table_exists = spark.catalog.tableExists(address)
    except AnalysisException as error:  # the catalog does not exist
        raise TableNotFound(address) from error
    if not table_exists:
        raise TableNotFound(address)
    try:
        detail = spark.sql(f"DESCRIBE DETAIL {address}").head()
    except AnalysisException as error:
        raise (ViewNotPinned if _is_view(spark, address) else NotADeltaTable)(address) from error
    if detail is None or detail["format"] != "delta" or _is_view(spark, address):
        raise (ViewNotPinned if _is_view(spark, address) else NotADeltaTable)(address)
    return detail.asDict()


def _is_view(spark: SparkSession, name: str) -> bool:
    try:
        return spark.catalog.getTable(name).tableType in _VIEWS
    except AnalysisException:  # the catalog has no type for the name
        return False


def _describe_path(spark: SparkSession, address: str) -> Mapping[str, Any]:
    """Return Spark's description of the table at the path *address*."""
    try:
        with explain_storage_errors(address):
            detail = spark.sql(f"DESCRIBE DETAIL {literal(address)}").head()
    except FAILURES as error:
        if isinstance(error, AnalysisException) or _NO_FILE in str(error):
            raise _missing_error(Runner.of(spark), address) from error
        raise
    if detail is None or detail["format"] != "delta":
        raise _missing_error(Runner.of(spark), address)
    return detail.asDict()


def _missing_error(runner: Runner, address: str) -> NotADeltaTable | TableNotFound:
    return NotADeltaTable(address) if _holds_files(runner, address) else TableNotFound(address)


def _holds_files(runner: Runner, path: str) -> bool:
    place = folder(path, runner.setting)
    if place is not None and not can_be_elsewhere(runner, path):
        with suppress(OSError):  # Spark can have other credentials
            return place.holds_files()
    files = (
        runner.start(f"Spark searches for {path}")
        .read.format("binaryFile")
        .option("recursiveFileLookup", "true")
    )
    try:
        with explain_storage_errors(path):
            return files.load(plain_path(path)).select("path").head() is not None
    except AnalysisException:
        return False
