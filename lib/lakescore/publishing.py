"""Publishing: one commit makes slices of predictions visible, and only once for the same inputs."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from operator import and_
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
from pyspark import StorageLevel
from pyspark.sql import functions as F  # noqa: N812 - the name that everyone reads at once
from pyspark.sql.types import StringType, StructField, StructType

from lakescore import changes, lineage, provenance, scanning, scoring, signature, slicing, tables
from lakescore.arrow import arrow_type, frame
from lakescore.errors import ConfigError, IntegrityError, LakescoreError, RequirementNotMet
from lakescore.logs import AnotherRunWon, NotEligible
from lakescore.provenance import COLUMNS, ERROR_COLUMNS
from lakescore.slicing import RESERVED_PREFIX, SLICE
from lakescore.storage import TableNotFound
from lakescore.tables import SchemaDrift
from lakescore.wording import listed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime

    from pyspark.sql import DataFrame

    from lakescore import executor
    from lakescore.config import ScoreJob
    from lakescore.lineage import SliceRun
    from lakescore.provenance import SliceCommit
    from lakescore.runner import Runner
    from lakescore.scoring import Execution, Plan
    from lakescore.snapshots import Snapshot
    from lakescore.tables import Transaction

PARTITIONED_BY = ("model_name", "slice")
"""The partition columns of a table of predictions, and of its quarantine."""
_FEW_FILES = 8
_FEWEST_ROWS_A_FILE = 50_000
"""Each task would write a file a slice. Spark writes fewer files if they would be smaller."""


class RunIdReused(ConfigError):
    """The requested run id already belongs to a run with other inputs."""

    def __init__(self, run_id: str, slice_name: str) -> None:
        super().__init__(
            f"run_id {run_id!r} has already scored slice {slice_name!r} with other inputs or "
            "settings; give another run_id, or leave it out, then it is derived"
        )


class RowsLost(IntegrityError):
    """The scored and quarantined rows do not add up to the input rows."""

    def __init__(self, slices: str, rows_in: int, scored: int, failed: int) -> None:
        super().__init__(
            f"slice {slices} has {rows_in} input rows, but {scored} were scored and {failed} "
            "quarantined; the slice was not published; try again with engine=spark_udf, and report "
            "this error"
        )


class TooManyErrors(RequirementNotMet):
    """More rows failed than the job's file allows."""

    def __init__(  # noqa: PLR0913, PLR0917 - separate facts
        self,
        uri: str,
        slices: Sequence[str],
        counts: tuple[int, int, int],
        reasons: Sequence[str],
        quarantine: str,
        where: str,
    ) -> None:
        failed, rows, allowed = counts
        reason = reasons[0] if reasons else "no error"
        advice = "fix them, or raise max_errors or max_error_fraction"
        failure = f"{failed} of {rows} rows, but only {allowed} may fail: {reason}"
        if failed == rows and len(reasons) == 1:
            failure = f"any of {rows} rows, all for one reason: {reason}"
            advice = "fix the cause in the table or in the model: until then, no row can be scored"
        super().__init__(
            f"{uri} could not score {failure}; "
            f"no prediction of {listed(slices, most=4)} was published; the failed rows are in "
            f"{quarantine} where {where}; {advice}"
        )
        self.facts = {
            "rows_in": rows,
            "rows_quarantined": failed,
            "quarantine": {"table": quarantine},
        }


@dataclass(frozen=True)
class SliceOutcome:
    """The result of a run for one slice."""

    run: SliceRun
    status: Literal["scored", "unchanged", "empty", "skipped"]
    rows_in: int
    rows_scored: int
    rows_quarantined: int
    output_version: int | None

    def facts(self) -> dict[str, Any]:
        """Return the outcome as in the receipt."""
        return {
            "slice": self.run.slice,
            "status": self.status,
            "run_id": self.run.run_id,
            "rows_in": self.rows_in,
            "rows_scored": self.rows_scored,
            "rows_quarantined": self.rows_quarantined,
            "output_version": self.output_version,
        }


@dataclass(frozen=True)
class PublishedSlice:
    """The rows that one run wrote of one slice."""

    run_id: str
    model_version: int | None
    """The version's number; None if each segment has its own version."""
    table: str
    input_version: int
    rows: int


class Publisher:
    """The writer of a job's table of predictions, which need not exist yet, and its quarantine.

    Raises:
        SchemaDrift: the table exists, but is not a table of predictions.
        ColumnsCollide, ColumnsUnfit: the quarantine cannot hold its columns.
    """

    def __init__(self, config: ScoreJob, source: Snapshot) -> None:
        self._runner, self._config, self._source = source.runner, config, source
        self._address = address = config.output.address
        self._commits: dict[tuple[str, str], SliceCommit] | None = None
        self._written: list[dict[str, Any]] = []
        """The facts of each commit."""
        quarantine_columns = [
            *config.quarantine_columns_of(source.schema.names),
            *ERROR_COLUMNS,
        ]
        signature.check_names(source.address, "quarantine", quarantine_columns)
        existing = self._existing
        if existing is None:
            return
        missing = set(COLUMNS) - set(existing.schema.names)
        if missing:
            raise SchemaDrift(
                address, f"it lacks {listed(sorted(missing))}, so it is not an output"
            )
        partition_columns = tables.partitioned_by(self._runner, address)
        if partition_columns != list(PARTITIONED_BY):
            expected = listed(PARTITIONED_BY)
            raise SchemaDrift(
                address, f"it is partitioned by {listed(partition_columns)}, not by {expected}"
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

    @property
    def _existing(self) -> Snapshot | None:
        return _find_snapshot(self._runner, self._address)

    @cached_property
    def _left_out(self) -> tuple[str, ...]:
        return self._config.left_out(self._source.schema.names)

    def _is_published(self) -> bool:
        """Return whether the table can hold rows to merge with."""
        exists = self._existing is not None
        return exists and tables.is_published(self._runner, self._address)

    def find_done(self, runs: Sequence[SliceRun], sizes: Mapping[str, int]) -> list[SliceOutcome]:
        """Return the outcomes of the slices that need no scoring: empty or already published.

        The function looks at the published rows themselves. So a slice is due again if another
        version replaced it, and an expired Delta log loses no information.

        Args:
            runs: one for each requested slice.
            sizes: rows of the input by slice; a slice without rows can be missing.

        Raises:
            RunIdReused: a slice holds rows of other inputs with the run id of the job's file.
        """
        if not runs:
            return []
        self._commits = None
        published = _earlier_slices(self._existing, runs)
        quarantined = _earlier_slices(
            _find_snapshot(self._runner, self._config.quarantine_address), runs
        )
        for name, attempts in quarantined.items():  # all rows failed, within the budget
            if name not in published:
                without_rows = [
                    replace(attempt, rows=0)
                    for attempt in attempts
                    if (name, attempt.run_id) in self._newest_commits
                ]
                published |= {name: without_rows} if without_rows else {}
        is_due = self._make_due_check(published) if self._config.due else self._differs
        # The rows that a run appended are complete, even if a later run replaced the quarantine.
        appends = self._config.write_mode == "append"
        settled = []
        for run in runs:
            rows, earlier = sizes.get(run.slice, 0), published.get(run.slice, [])
            if rows == 0:
                left_out = run.assigned.skipped(run.slice) > 0
                outcome = SliceOutcome(run, "skipped" if left_out else "empty", 0, 0, 0, None)
                settled.append(outcome)
                continue
            quarantined_rows = {
                attempt.run_id: attempt.rows for attempt in quarantined.get(run.slice, [])
            }
            complete = [
                part
                for part in earlier
                if (appends or part.rows + quarantined_rows.get(part.run_id, 0) == rows)
                and not is_due(run, part)
            ]
            if complete and (len(earlier) == 1 or self._config.write_mode != "replace"):
                failed = quarantined_rows.get(complete[0].run_id, 0)
                settled.append(SliceOutcome(run, "unchanged", rows, 0, failed, None))
        return settled

    def _differs(self, run: SliceRun, earlier: PublishedSlice) -> bool:
        """Return whether *run* would write other rows than *earlier*."""
        return earlier.run_id != run.run_id or not self._has_same_inputs(run)

    def _make_due_check(
        self, published: Mapping[str, Sequence[PublishedSlice]]
    ) -> Callable[[SliceRun, PublishedSlice], bool]:
        """Return a function that checks if a slice is due, by published rows and changed input."""
        source, table = self._source, self._source.address
        read = {
            part.input_version
            for parts in published.values()
            for part in parts
            if part.table == table
        }
        since = min(read, default=source.version)
        changed = changes.last_changed(source, self._config.slice_by, since)

        def is_due(run: SliceRun, earlier: PublishedSlice) -> bool:
            if earlier.table != table or changed is None or earlier.input_version > source.version:
                return self._differs(run, earlier)
            commit = self._newest_commits.get((run.slice, earlier.run_id))
            earlier_fingerprint = run.fingerprint_of(replace(source, version=earlier.input_version))
            same_inputs = earlier_fingerprint in {
                earlier.run_id,
                commit.part.fingerprint if commit else None,
            }
            # If the log no longer holds the commit, only the row's version is known.
            same_table = commit is None or commit.record.input_id == source.table_id
            is_known = same_inputs or same_table
            if not is_known or changed.get(run.slice, -1) > earlier.input_version:
                return True
            if run.assigned.by is not None and not same_inputs and _has_other_segments(run, commit):
                return True
            if self._config.on_new_version == "forward_only":
                return False
            newer = earlier.model_version is None or earlier.model_version != run.version
            return not same_inputs and (commit is not None or newer)

        return is_due

    @property
    def _newest_commits(self) -> Mapping[tuple[str, str], SliceCommit]:
        """The newest commit of each slice and run, while the log holds it."""
        if self._commits is None:
            exists = self._existing is not None
            commits = tables.commits(self._runner, self._address) if exists else []
            self._commits = provenance.newest(commits)
        return self._commits

    def commits(self, runs: Sequence[SliceRun], names: Sequence[str]) -> list[list[SliceRun]]:
        """Return *runs* grouped by commit: all in one commit, or one slice a commit.

        Args:
            runs: the runs of the slices that need scoring.
            names: the names of all requested slices.

        Raises:
            KeysInTwoSlices: rows are merged by keys, and slices share keys.
        """
        config = self._config
        if runs and config.write_mode == "merge":
            self._runner.start("write_mode merge needs Spark")
        if runs and config.write_mode == "merge" and config.slice_by and len(names) > 1:
            requested = slicing.cut(self._source.rows, config.slice_by, names)
            slicing.check_across(requested, self._source.address, config.id_columns)
        if self._config.commits == "slice" and not self._config.plan:
            return [[run] for run in runs]
        return [list(runs)] if runs else []

    @contextmanager
    def annotate_errors(self, outcomes: Sequence[SliceOutcome]) -> Iterator[None]:
        """Add to an error the *outcomes* that earlier commits published.

        Raises:
            LakescoreError: any error, with these slices in its message and facts.
            FilesGone, FileUnreadable: Spark cannot read a file of the input.
        """
        try:
            with scanning.reading(self._source):
                yield
        except LakescoreError as error:
            scored = [outcome for outcome in outcomes if outcome.status == "scored"]
            if scored:
                facts = [outcome.facts() for outcome in scored]
                error.add([outcome.run.slice for outcome in scored], {"slices": facts})
            raise

    def publish(
        self, execution: Execution, runs: Sequence[SliceRun], sizes: Mapping[str, int]
    ) -> list[SliceOutcome]:
        """Score the rows of a plan and publish them as the slices of *runs*, in one commit.

        Rows that the model cannot score are quarantined, even if the others are not published.

        Args:
            execution: runs the plan, which keeps the keys, the columns to write and `SLICE`.
            runs: the runs of its slices.
            sizes: rows of the input by slice. Published and quarantined rows must add up to them.

        Raises:
            AnotherRunWon, SchemaDrift: nothing was published.
            TooManyErrors: more rows failed than the job allows; nothing was published.
            RowsLost: there are too few or too many rows; nothing was published.
        """
        quarantine = self._config.quarantine_address if self._config.quarantine else None
        publishing = _Publishing(execution, runs, sizes, lineage.now(), quarantine)
        try:
            if self._config.write_mode == "merge" and self._is_published():
                failed, version = self._merge(publishing)
            else:
                failed, version = self._write(publishing)
        except AnotherRunWon:
            settled = self.find_done(runs, sizes)
            if len(settled) < len(runs):
                raise
            return settled
        return [
            SliceOutcome(
                run,
                "scored",
                size,
                size - failed.get(run.slice, 0),
                failed.get(run.slice, 0),
                version,
            )
            for run in runs
            for size in [sizes[run.slice]]
        ]

    def _scored_rows(self, publishing: _Publishing) -> DataFrame:
        """Return the rows to publish as a frame that Spark gets from the workers."""
        scored = scoring.tried(publishing.planned).drop(*self._left_out)
        return lineage.stamp(scored, publishing.runs, scored_at=publishing.scored_at)

    def _output_columns(self, publishing: _Publishing) -> StructType:
        """Return the columns of `_scored_rows`."""
        fields = [
            field for field in publishing.planned.output_columns if field.name not in self._left_out
        ]
        return lineage.stamped(StructType(fields), publishing.runs)

    def _write(self, publishing: _Publishing) -> tuple[dict[str, int], int]:
        """Write and commit; return the number of failed rows by slice, and the commit's version."""
        with tables.begin(
            self._runner,
            self._output_columns(publishing),
            self._address,
            where=lineage.place(publishing.runs),
            metadata=publishing.metadata,
            find_by=self._config.id_columns if self._config.writes_keys else (),
            append=self._config.write_mode != "replace",
            made_with=provenance.name_quarantine(publishing.quarantine),
        ) as written:
            self._write_files(written, publishing)
            failed = self._check_counts(publishing, written.counts("slice"))
            appends = self._config.write_mode == "append"
            if appends and self.find_done(publishing.runs, publishing.sizes):
                raise AnotherRunWon(self._address, listed(run.slice for run in publishing.runs))
            began = time.monotonic()
            version = written.commit()
            seconds = time.monotonic() - began
        self._written.append(written.facts() | {"seconds_to_commit": seconds})
        return failed, version

    def _write_files(self, written: Transaction, publishing: _Publishing) -> None:
        """Score into files that are not visible yet. Workers write them if they can, or Spark."""
        with publishing.evaluated():
            sink = self._sink(written, publishing) if self._config.write == "direct" else None
            if sink is not None:
                written.add(publishing.execution.write_files(sink), sink)
            else:
                self._runner.start(f"Spark writes the rows: {written.reason or 'write: spark'}")
                rows = self._scored_rows(publishing)
                if len(publishing.runs) > 1:  # otherwise each task writes a file a slice
                    # SQL, since hint() of Spark 3.5 takes no column.
                    sql = "SELECT /*+ REBALANCE(slice) */ * FROM {rows}"
                    rows = rows.sparkSession.sql(sql, rows=rows)
                written.write(rows, self._config.write)
        publishing.execution.add_reports(written.said)

    def _sink(self, written: Transaction, publishing: _Publishing) -> executor.Sink | None:
        """Return the sink for the workers; None if Spark writes the rows."""
        planned, constants = publishing.planned, publishing.constants
        rows = sum(publishing.sizes[run.slice] for run in publishing.runs)
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

    def _merge(self, publishing: _Publishing) -> tuple[dict[str, int], int]:
        """Merge, and return as `_write` does. Spark caches the rows, since it reads them twice."""
        kept = self._scored_rows(publishing).persist(StorageLevel.DISK_ONLY)
        try:
            with publishing.evaluated():
                scored = publishing.execution.collect_reports(kept)
                counts = dict(map(tuple, scored.groupBy("slice").count().collect()))
            failed = self._check_counts(publishing, counts)
            began = time.monotonic()
            version = tables.merge(
                scored,
                self._address,
                keys=self._config.id_columns,
                within={"model_name": publishing.runs[0].assigned.name},
                metadata=publishing.metadata,
            )
            seconds = time.monotonic() - began
        finally:
            kept.unpersist()
        facts = tables.added(self._runner, self._address, version)
        self._written.append(facts | {"write": "spark", "seconds_to_commit": seconds})
        return failed, version

    def _check_counts(
        self, publishing: _Publishing, published: Mapping[str, int]
    ) -> dict[str, int]:
        """Compare scored rows with the input; quarantine failed rows, and count them by slice."""
        runs, sizes = publishing.runs, publishing.sizes
        failed = self._quarantine_failed(publishing)
        total, rows = publishing.execution.failed, sum(sizes[run.slice] for run in runs)
        complete = sum(failed.values()) == total
        for run in runs if complete else []:
            counts_of_slice = published.get(run.slice, 0), failed.get(run.slice, 0)
            if sum(counts_of_slice) != sizes[run.slice]:
                raise RowsLost(run.slice, sizes[run.slice], *counts_of_slice)
        if sum(published.values()) + total != rows:
            raise RowsLost(listed(run.slice for run in runs), rows, sum(published.values()), total)
        allowed = self._config.allowed_errors(rows)
        if total > allowed or not complete:
            reasons = publishing.execution.first_errors()
            if not complete:
                reasons = [*reasons[:1], "others, which are not listed"]
            where = f"scoring_run_id is {listed([run.run_id for run in runs], most=2)}"
            counts = total, rows, allowed
            slices = [run.slice for run in runs]
            raise TooManyErrors(
                runs[0].assigned.uri,
                slices,
                counts,
                reasons,
                self._config.quarantine_address,
                where,
            )
        return failed

    def _quarantine_failed(self, publishing: _Publishing) -> dict[str, int]:
        """Replace the slices in the quarantine by their failed rows; return the counts by slice."""
        address, runs, place = (
            self._config.quarantine_address,
            publishing.runs,
            lineage.place(publishing.runs),
        )
        failed = publishing.execution.failed_rows()
        if failed is None:
            existing = _find_snapshot(self._runner, address)
            if existing is not None and _count_rows(existing, ("slice",), runs):
                tables.clear(self._runner, address, where=place, metadata={"slices": []})
            return {}
        why = pc.list_element(failed.column(scoring.ERRORS), 0)
        keys = failed.select([*self._config.id_columns, SLICE])
        for part, name in zip(("type", "message"), ERROR_COLUMNS, strict=True):
            keys = keys.append_column(name, pc.struct_field(why, part))
        counts = Counter(keys.column(SLICE).to_pylist())
        keys = publishing.add_versions(keys, failed)
        if self._config.quarantine_columns == "all":
            reason = "quarantine_columns: all reads the input again"
            failed_rows = frame(self._runner.start(reason), keys)
            version_columns = [field.name for field in publishing.planned.version_columns]
            rows = _join_input(
                failed_rows, publishing.planned.rows, self._config.id_columns, version_columns
            )
            tables.replace(
                lineage.stamp(rows, runs, scored_at=publishing.scored_at),
                address,
                where=place,
                metadata=publishing.metadata,
                find_by=self._config.id_columns,
            )
            return dict(counts)
        with tables.begin(
            self._runner,
            self._quarantine_columns(publishing),
            address,
            where=place,
            metadata=publishing.metadata,
            find_by=self._config.id_columns,
        ) as written:
            try:
                written.put(keys, publishing.constants, SLICE)
            except NotEligible as not_eligible:
                failed_rows = frame(
                    self._runner.start(f"Spark quarantines rows: {not_eligible}"), keys
                )
                written.write(lineage.stamp(failed_rows, runs, scored_at=publishing.scored_at))
            written.commit()
        return dict(counts)

    def _quarantine_columns(self, publishing: _Publishing) -> StructType:
        """Return the columns of a quarantine of keys."""
        schema = publishing.planned.schema
        keys = [StructField(name, schema[name].dataType) for name in self._config.id_columns]
        errors = [StructField(name, StringType()) for name in ERROR_COLUMNS]
        fields = [*keys, *errors, *publishing.planned.version_columns]
        return lineage.stamped(StructType(fields), publishing.runs)

    def _has_same_inputs(self, run: SliceRun) -> bool:
        """Return whether rows with this run's id come from its inputs; a derived id proves it."""
        if run.run_id == run.fingerprint:
            return True
        commit = self._newest_commits.get((run.slice, run.run_id))
        if commit is not None and commit.part.fingerprint != run.fingerprint:
            raise RunIdReused(run.run_id, run.slice)
        return commit is not None


@dataclass(frozen=True)
class _Publishing:
    """The slices of one commit."""

    execution: Execution
    runs: Sequence[SliceRun]
    sizes: Mapping[str, int]
    scored_at: datetime
    quarantine: str | None
    """The address of the quarantine, if the job's file names one."""

    @property
    def planned(self) -> Plan:
        """The plan."""
        return self.execution.planned

    @property
    def constants(self) -> dict[str, dict[str, Any]]:
        """The constant values of the rows, by slice and column."""
        return {r.slice: lineage.carried(r, scored_at=self.scored_at) for r in self.runs}

    @property
    def metadata(self) -> dict[str, Any]:
        """The commit metadata."""
        return lineage.commit_record(
            self.runs, scored_at=self.scored_at, quarantine=self.quarantine
        ).metadata()

    def add_versions(self, quarantined: pa.Table, failed: pa.Table) -> pa.Table:
        """Return *quarantined* with the columns of the versions that could not score the rows.

        If one version scores all rows, these columns are constants.
        """
        if (assigned := self.planned.shown_family) is None:
            return quarantined
        segments = failed.column(str(assigned.by)).to_pylist()
        names = [None if segment is None else str(segment) for segment in segments]
        facts = [assigned.facts(assigned.model_of(segment)) for segment in names]
        for column in self.planned.version_columns:
            values = pa.array([row[column.name] for row in facts], arrow_type(column.dataType))
            quarantined = quarantined.append_column(column.name, values)
        return quarantined

    def evaluated(self) -> AbstractContextManager[None]:
        """Return the context for scoring the rows; see `scoring.evaluated`."""
        return scoring.evaluated(self.planned, [run.slice for run in self.runs])


def _has_other_segments(run: SliceRun, commit: SliceCommit | None) -> bool:
    """Return whether segments of the slice got or lost a version since the slice was scored."""
    segments = run.assigned.rows.get(run.slice, {})
    pins = commit.record.pins if commit is not None and commit.record.segment_by else ()
    earlier = {pin.segment for pin in pins if pin.uri and pin.segment in segments}
    return earlier != {name for name in segments if run.assigned.model_of(name) is not None}


def _check_file_sizes(planned: Plan, slices: int, rows: int) -> None:
    if planned.slice_at is None:
        raise NotEligible("nothing in the rows names their slice")
    files = planned.tasks * slices
    if files > _FEW_FILES and rows < _FEWEST_ROWS_A_FILE * files:
        raise NotEligible(f"{planned.tasks} tasks would write small files of {slices} slices")


def _find_snapshot(runner: Runner, address: str) -> Snapshot | None:
    try:
        return tables.snapshot(runner, address)
    except TableNotFound:
        return None


def _earlier_slices(
    table: Snapshot | None, runs: Sequence[SliceRun]
) -> dict[str, list[PublishedSlice]]:
    """Return, by slice, the rows that earlier runs wrote."""
    columns = ["slice", "scoring_run_id", "input_table", "input_version"]
    if runs[0].assigned.by is None:
        columns.append("model_version")
    earlier: dict[str, list[PublishedSlice]] = {}
    counts = _count_rows(table, columns, runs) if table is not None else {}
    for (name, run_id, input_table, input_version, *version), rows in counts.items():
        published = PublishedSlice(
            run_id, version[0] if version else None, input_table, input_version, rows
        )
        earlier.setdefault(name, []).append(published)
    return earlier


def _count_rows(
    table: Snapshot, by: Sequence[str], runs: Sequence[SliceRun]
) -> dict[tuple[Any, ...], int]:
    """Return the number of rows in the partitions of *runs*, by their values in columns *by*."""
    place = lineage.place(runs)
    try:
        return scanning.tallied(table, by, place)
    except NotEligible as not_eligible:
        table.runner.start(str(not_eligible))
        conditions = [F.col(name).isin(values) for name, values in place.items()]
        counts = table.rows.where(reduce(and_, conditions)).groupBy(*by).count().collect()
        return {tuple(values): rows for *values, rows in counts}


def _join_input(
    failed: DataFrame, rows: DataFrame, keys: Sequence[str], more: Sequence[str]
) -> DataFrame:
    """Return *failed* with all columns of the input's *rows*, which are read again.

    The columns of errors and *more* come from *failed*.
    """
    columns, failed_columns = [*keys, SLICE], [*ERROR_COLUMNS, *more]
    failed_keys = failed.dropDuplicates(columns).select(
        *[F.col(f"`{name}`").alias(f"{RESERVED_PREFIX}k{n}") for n, name in enumerate(columns)],
        *failed_columns,
    )
    equal = [
        F.col(f"`{name}`").eqNullSafe(F.col(f"{RESERVED_PREFIX}k{n}"))
        for n, name in enumerate(columns)
    ]
    names = [F.col(f"`{name}`") for name in rows.columns]
    return rows.join(F.broadcast(failed_keys), reduce(and_, equal)).select(*names, *failed_columns)
