"""Output: the table of predictions; scores the rows of a batch into it, in one commit."""

from __future__ import annotations

import time
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pyspark import StorageLevel
from pyspark.sql.types import StructType

from lakescore import lineage, provenance, scoring, tables
from lakescore.logs import AnotherRunWon, NotEligible
from lakescore.provenance import COLUMNS
from lakescore.publishing.counting import check_counts
from lakescore.tables import SchemaDrift
from lakescore.wording import counted, listed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyspark.sql import DataFrame

    from lakescore import executor
    from lakescore.config import ScoreJob
    from lakescore.publishing.batch import Batch
    from lakescore.publishing.published import PublishedSlices
    from lakescore.publishing.quarantine import Quarantine
    from lakescore.scoring import Plan
    from lakescore.snapshots import Snapshot
    from lakescore.tables import Transaction

PARTITIONED_BY = ("model_name", "slice")
"""The partition columns of a table of predictions, and of its quarantine."""
_FEW_FILES = 8
_FEWEST_ROWS_A_FILE = 50_000
"""Each task would write one file per slice. Spark writes fewer files if they would be smaller."""


class Output:
    """A job's table of predictions, which need not exist yet.

    Raises:
        SchemaDrift: the table exists, but is not a table of predictions.
    """

    def __init__(
        self,
        config: ScoreJob,
        source: Snapshot,
        published: PublishedSlices,
        quarantine: Quarantine,
    ) -> None:
        self._runner, self._config, self._source = source.runner, config, source
        self._published, self._quarantine = published, quarantine
        self._address = config.output.address
        self._written: list[dict[str, Any]] = []
        """The facts of each commit."""
        self._check_table()

    def _check_table(self) -> None:
        existing = self._published.table
        if existing is None:
            return
        missing = set(COLUMNS) - set(existing.schema.names)
        if missing:
            raise SchemaDrift(
                self._address, f"it lacks {listed(sorted(missing))}, so it is not an output"
            )
        partition_columns = tables.partitioned_by(self._runner, self._address)
        if partition_columns != list(PARTITIONED_BY):
            expected = listed(PARTITIONED_BY)
            raise SchemaDrift(
                self._address,
                f"it is partitioned by {listed(partition_columns)}, not by {expected}",
            )

    @property
    def facts(self) -> dict[str, Any]:
        """The totals of all commits for the receipt, and other facts of the last commit."""
        if not self._written:
            return {}
        sums = ("bytes_written", "files_written", "seconds_to_commit")
        known = [name for name in sums if all(name in facts for facts in self._written)]
        totals = {name: sum(facts[name] for facts in self._written) for name in known}
        if "seconds_to_commit" in totals:
            totals["seconds_to_commit"] = round(totals["seconds_to_commit"], 2)
        return {k: v for k, v in self._written[-1].items() if k not in sums} | totals

    @cached_property
    def _left_out(self) -> tuple[str, ...]:
        return self._config.left_out(self._source.schema.names)

    def publish(self, batch: Batch) -> tuple[dict[str, int], int]:
        """Score and commit; return the number of failed rows by slice, and the commit's version.

        Raises:
            AnotherRunWon, SchemaDrift, TooManyErrors, RowsLost: nothing was published.
        """
        if self._config.write_mode == "merge" and self._holds_rows():
            return self._merge(batch)
        return self._write(batch)

    def _holds_rows(self) -> bool:
        """Return whether the table can hold rows to merge with."""
        exists = self._published.table is not None
        return exists and tables.is_published(self._runner, self._address)

    def _scored_rows(self, batch: Batch) -> DataFrame:
        """Return the rows to publish as a frame that Spark gets from the workers."""
        scored = scoring.tried(batch.planned).drop(*self._left_out)
        return lineage.stamp(scored, batch.runs, scored_at=batch.scored_at)

    def _output_columns(self, batch: Batch) -> StructType:
        """Return the columns of `_scored_rows`."""
        fields = [
            field for field in batch.planned.output_columns if field.name not in self._left_out
        ]
        return lineage.stamped(StructType(fields), batch.runs)

    def _write(self, batch: Batch) -> tuple[dict[str, int], int]:
        """Write and commit; return the number of failed rows by slice, and the commit's version."""
        with tables.begin(
            self._runner,
            self._output_columns(batch),
            self._address,
            where=lineage.place(batch.runs),
            metadata=batch.metadata,
            find_by=self._config.id_columns if self._config.writes_keys else (),
            append=self._config.write_mode != "replace",
            made_with=provenance.name_quarantine(batch.quarantine),
        ) as written:
            self._write_files(written, batch)
            failed = self._check_counts(batch, written.counts("slice"))
            appends = self._config.write_mode == "append"
            if appends and self._published.find_done(batch.runs, batch.sizes):
                raise AnotherRunWon(self._address, listed(run.slice for run in batch.runs))
            began = time.monotonic()
            version = written.commit()
            seconds = time.monotonic() - began
        self._written.append(written.facts() | {"seconds_to_commit": seconds})
        return failed, version

    def _write_files(self, written: Transaction, batch: Batch) -> None:
        """Score into files that are not visible yet. Workers write them if they can, or Spark."""
        with batch.evaluated():
            sink = self._sink(written, batch) if self._config.write == "direct" else None
            if sink is not None:
                written.add(batch.execution.write_files(sink), sink)
            else:
                self._runner.start(f"Spark writes the rows: {written.reason or 'write: spark'}")
                rows = self._scored_rows(batch)
                if len(batch.runs) > 1:  # otherwise each task writes one file per slice
                    # SQL, since hint() of Spark 3.5 takes no column.
                    sql = "SELECT /*+ REBALANCE(slice) */ * FROM {rows}"
                    rows = rows.sparkSession.sql(sql, rows=rows)
                written.write(rows, self._config.write)
        batch.execution.add_reports(written.said)

    def _sink(self, written: Transaction, batch: Batch) -> executor.Sink | None:
        """Return the sink for the workers; None if Spark writes the rows."""
        planned, constants = batch.planned, batch.constants
        rows = sum(batch.sizes[run.slice] for run in batch.runs)
        has_slices = len(constants) > 1
        try:
            places = planned.places()
            if has_slices and self._runner.is_started:  # Spark can write fewer files
                _check_file_sizes(planned, len(constants), rows)
            by = planned.slice_at if has_slices else None
            # A constant of the slice wins over a column with the same name.
            version_columns = {field.name for field in planned.version_columns}
            constant_names = set(COLUMNS) - version_columns
            scored_places = {
                name: place for name, place in places.items() if name not in constant_names
            }
            return written.sink(scored_places, constants, by)
        except NotEligible as not_eligible:
            written.reason = str(not_eligible)
            return None

    def _merge(self, batch: Batch) -> tuple[dict[str, int], int]:
        """Merge, and return as `_write` does. Spark caches the rows, since it reads them twice."""
        kept = self._scored_rows(batch).persist(StorageLevel.DISK_ONLY)
        try:
            with batch.evaluated():
                scored = batch.execution.collect_reports(kept)
                counts = dict(map(tuple, scored.groupBy("slice").count().collect()))
            failed = self._check_counts(batch, counts)
            began = time.monotonic()
            version = tables.merge(
                scored,
                self._address,
                keys=self._config.id_columns,
                within={"model_name": batch.runs[0].assigned.name},
                metadata=batch.metadata,
            )
            seconds = time.monotonic() - began
        finally:
            kept.unpersist()
        facts = tables.added(self._runner, self._address, version)
        self._written.append(facts | {"write": "spark", "seconds_to_commit": seconds})
        return failed, version

    def _check_counts(self, batch: Batch, scored: Mapping[str, int]) -> dict[str, int]:
        """Quarantine the failed rows, and check all counts; return the failed rows by slice."""
        failed = self._quarantine.replace(batch)
        check_counts(self._config, batch, scored, failed)
        return failed


def _check_file_sizes(planned: Plan, slices: int, rows: int) -> None:
    if planned.slice_at is None:
        raise NotEligible("nothing in the rows names their slice")
    files = planned.tasks * slices
    if files > _FEW_FILES and rows < _FEWEST_ROWS_A_FILE * files:
        tasks = counted(planned.tasks, "task")
        raise NotEligible(f"{tasks} would write small files of {counted(slices, 'slice')}")
