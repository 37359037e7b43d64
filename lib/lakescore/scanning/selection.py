"""Selection: rows that Spark and workers choose alike, and the files that hold them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pyspark.sql import functions as F  # noqa: N812 - the name that everyone reads at once
from pyspark.sql.types import StringType, StructField, StructType

from lakescore.logs import NotEligible
from lakescore.runner import Runner
from lakescore.scanning.eligibility import scan_column
from lakescore.snapshots import Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import date

    from pyspark.sql import Column, DataFrame

    from lakescore.logs import File, Log


@dataclass(frozen=True)
class Selection:
    """Rows of a snapshot, chosen in a way that Spark and workers understand alike."""

    snapshot: Snapshot | DataFrame
    """The source of the rows; only Spark reads a frame that is not a snapshot."""
    choose: Callable[[DataFrame], DataFrame]
    """Filters rows by `column`: a transform."""
    adds: StructField
    """The column that is added."""
    value: Callable[[], Column]
    """The value of the added column, computed from `column`."""
    column: str | None = None
    """The only column that `choose` filters by; None if it does not filter."""
    constant: str = ""
    """The text of `adds` in all rows, if there is no `column`."""
    size: int | None = None
    """The number of chosen rows, if it is known."""
    among: tuple[date | int | str, ...] | None = None
    """The values of `column` that are chosen; None for all values except null and NaN."""
    within: Mapping[str, tuple[date | int | str, ...]] = field(default_factory=dict)
    """Values of other columns in the chosen rows: files that cannot hold them are not read."""

    @property
    def whole(self) -> DataFrame:
        """All rows, as Spark reads them."""
        return self.snapshot.rows if isinstance(self.snapshot, Snapshot) else self.snapshot

    @property
    def runner(self) -> Runner:
        """The runner of the tasks that read the rows."""
        if isinstance(self.snapshot, Snapshot):
            return self.snapshot.runner
        return Runner.of(self.snapshot.sparkSession)

    @property
    def rows(self) -> DataFrame:
        """The chosen rows, with the column `adds`."""
        return self.choose(self.whole).withColumn(self.adds.name, self.value())

    @property
    def schema(self) -> StructType:
        """The columns of `rows`."""
        return StructType([*self.snapshot.schema.fields, self.adds])

    @property
    def log(self) -> Log:
        """The log of the snapshot.

        Raises:
            NotEligible: only Spark reads the log, or the rows are not from a snapshot.
        """
        return snapshot_log(self.snapshot)

    @property
    def wanted(self) -> dict[str, tuple[date | int | str, ...]]:
        """The values that the chosen rows have, by column."""
        if self.column is None or self.among is None:
            return dict(self.within)
        return {**self.within, self.column: self.among}


def select_all(snapshot: Snapshot | DataFrame) -> Selection:
    """Return the selection of all rows."""
    nothing = StructField("", StringType())
    return Selection(snapshot, lambda rows: rows, nothing, lambda: F.lit(""))


def snapshot_log(snapshot: Snapshot | DataFrame) -> Log:
    """Return the log of a snapshot.

    Raises:
        NotEligible: only Spark reads the log, or the rows are not from a snapshot.
    """
    if not isinstance(snapshot, Snapshot):
        raise NotEligible("the rows are not a snapshot's")
    return snapshot.log


def selected_files(selection: Selection) -> list[File]:
    """Return the files that can hold rows of *selection*.

    Raises:
        NotEligible: the log does not have this information, or Spark does not compare the values of
            a column as they are in the files.
    """
    log = selection.log
    schema = StructType.fromJson(log.schema)
    for name in selection.wanted:  # a check before files are left out because of their bounds
        scan_column(log, schema, schema[name])
    return log.files(selection.wanted)
