"""Publishing: slices of predictions become visible in one commit, once for the same inputs."""

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

from lakescore import changes, lineage, scanning, scoring, signature, slicing, tables
from lakescore.arrow import arrow_type, frame
from lakescore.errors import (
    AnotherRunWon,
    LakescoreError,
    RowsLost,
    RunIdReused,
    SchemaDrift,
    TableNotFound,
    TooManyErrors,
    listed,
)
from lakescore.logs import NotEligible
from lakescore.slicing import RESERVED_PREFIX, SLICE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime

    from pyspark.sql import DataFrame

    from lakescore import executor
    from lakescore.config import ScoreJob
    from lakescore.lineage import SliceRun
    from lakescore.runner import Runner
    from lakescore.scoring import Plan
    from lakescore.snapshots import Snapshot
    from lakescore.tables import Transaction

PARTITIONED_BY = ("model_name", "slice")
"""What divides a table of predictions, and its quarantine."""
_FEW_FILES = 8
_FEWEST_ROWS_A_FILE = 50_000
"""Each task would write a file for each slice: of smaller ones Spark had better make fewer."""


@dataclass(frozen=True)
class SliceOutcome:
    """What became of one slice."""

    run: SliceRun
    status: Literal["scored", "unchanged", "empty", "skipped"]
    rows_in: int
    rows_scored: int
    rows_quarantined: int
    output_version: int | None

    def facts(self) -> dict[str, Any]:
        """Return the outcome as it stands in the receipt."""
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
    """What one run wrote of one slice."""

    run_id: str
    model_version: int | None
    """None where each segment has its own."""
    table: str
    input_version: int
    rows: int


class Publisher:
    """The table of predictions of a job, which may not exist yet, and its quarantine.

    Raises:
        SchemaDrift: there is a table, and it is not one of predictions.
        ColumnsCollide, ColumnsUnfit: the quarantine could not hold the columns that it shall.
    """

    def __init__(self, config: ScoreJob, source: Snapshot) -> None:
        self._runner, self._config, self._source = source.runner, config, source
        self._address = address = config.output.address
        self._told: dict[tuple[str, str], dict[str, Any]] | None = None
        self._written: list[dict[str, Any]] = []
        """What each commit wrote."""
        aside = [*config.quarantine_columns_of(source.schema.names), *lineage.ERROR_COLUMNS]
        signature.check_names(source.address, "quarantine", aside)
        there = self._there
        if there is None:
            return
        missing = set(lineage.COLUMNS) - set(there.schema.names)
        if missing:
            raise SchemaDrift(address, f"it lacks {listed(sorted(missing))}, so it is no output")
        by = tables.partitioned_by(self._runner, address)
        if by != list(PARTITIONED_BY):
            asked = listed(PARTITIONED_BY)
            raise SchemaDrift(address, f"it is partitioned by {listed(by)}, not by {asked}")

    @property
    def facts(self) -> dict[str, Any]:
        """What all commits wrote, for the receipt; how and why are those of the last one."""
        if not self._written:
            return {}
        sums = ("bytes_written", "files_written", "seconds_to_commit")
        known = [name for name in sums if all(name in facts for facts in self._written)]
        totals = {name: sum(facts[name] for facts in self._written) for name in known}
        if "seconds_to_commit" in totals:
            totals["seconds_to_commit"] = round(totals["seconds_to_commit"], 2)
        return {k: v for k, v in self._written[-1].items() if k not in sums} | totals

    @property
    def _there(self) -> Snapshot | None:
        return _snapshot(self._runner, self._address)

    @cached_property
    def _left_out(self) -> tuple[str, ...]:
        return self._config.left_out(self._source.schema.names)

    def _is_published(self) -> bool:
        """Tell whether there may be rows to merge with."""
        there = self._there is not None
        return there and tables.is_published(self._runner, self._address)

    def find_done(self, runs: Sequence[SliceRun], sizes: Mapping[str, int]) -> list[SliceOutcome]:
        """Return the outcomes of the slices that need no scoring: empty, or published already.

        What is there is read from the rows themselves, so a slice that another version replaced
        since is due again, and an expired Delta log loses nothing.

        Args:
            runs: the slices asked for.
            sizes: rows of the input by slice; a slice without rows may be missing.

        Raises:
            RunIdReused: a slice holds rows of the same given run id and other inputs.
        """
        if not runs:
            return []
        self._told = None
        published = _earlier(self._there, runs)
        aside = _earlier(_snapshot(self._runner, self._config.quarantine_address), runs)
        for name, tried in aside.items():  # nothing but bad rows was published, within the budget
            if name not in published:
                alone = [replace(e, rows=0) for e in tried if (name, e.run_id) in self._said]
                published |= {name: alone} if alone else {}
        is_due = self._due(published) if self._config.due else self._is_another
        # What a run appended is whole, whoever set rows of the slice aside since.
        appends = self._config.write_mode == "append"
        settled = []
        for run in runs:
            rows, there = sizes.get(run.slice, 0), published.get(run.slice, [])
            if rows == 0:
                left_out = run.assigned.skipped(run.slice) > 0
                outcome = SliceOutcome(run, "skipped" if left_out else "empty", 0, 0, 0, None)
                settled.append(outcome)
                continue
            failed = {each.run_id: each.rows for each in aside.get(run.slice, [])}
            whole = [
                each
                for each in there
                if (appends or each.rows + failed.get(each.run_id, 0) == rows)
                and not is_due(run, each)
            ]
            if whole and (len(there) == 1 or self._config.write_mode != "replace"):
                aside_then = failed.get(whole[0].run_id, 0)
                settled.append(SliceOutcome(run, "unchanged", rows, 0, aside_then, None))
        return settled

    def _is_another(self, run: SliceRun, earlier: PublishedSlice) -> bool:
        """Tell whether *earlier* is not what *run* would write again."""
        return earlier.run_id != run.run_id or not self._same_inputs(run)

    def _due(
        self, published: Mapping[str, Sequence[PublishedSlice]]
    ) -> Callable[[SliceRun, PublishedSlice], bool]:
        """Return whether a slice is due, by what was published of it and its input since then."""
        source, table = self._source, self._source.address
        read = {e.input_version for each in published.values() for e in each if e.table == table}
        since = min(read, default=source.version)
        changed = changes.last_changed(source, self._config.slice_by, since)

        def is_due(run: SliceRun, earlier: PublishedSlice) -> bool:
            if earlier.table != table or changed is None or earlier.input_version > source.version:
                return self._is_another(run, earlier)
            said = self._said.get((run.slice, earlier.run_id), {})
            then = run.fingerprint_of(replace(source, version=earlier.input_version))
            same = then in {earlier.run_id, said.get("fingerprint")}
            # Where the commit is gone from the log, the row's own version has to do.
            known = same or (said["input_id"] == source.table_id if said else True)
            if not known or changed.get(run.slice, -1) > earlier.input_version:
                return True
            if run.assigned.by is not None and not same and _has_others(run, said):
                return True
            if self._config.on_new_version == "forward_only":
                return False
            newer = earlier.model_version is None or earlier.model_version != run.version
            return not same and (bool(said) or newer)

        return is_due

    @property
    def _said(self) -> Mapping[tuple[str, str], Mapping[str, Any]]:
        """What the newest commit of each slice and run says of them, while the log holds it."""
        if self._told is None:
            self._told = {}
            found = tables.commits(self._runner, self._address) if self._there is not None else []
            for _, said in found:
                for each in said.get("slices", []):
                    facts = {**each, **{k: said.get(k) for k in ("input_id", "segments")}}
                    self._told.setdefault((each["slice"], each["scoring_run_id"]), facts)
        return self._told

    def commits(self, runs: Sequence[SliceRun], names: Sequence[str]) -> list[list[SliceRun]]:
        """Return *runs* by the commits that publish them: all at once, or slice by slice.

        Args:
            runs: of the slices that need scoring.
            names: of all slices that were asked for.

        Raises:
            KeysInTwoSlices: rows are merged by keys, and slices would take rows from each other.
        """
        config = self._config
        if runs and config.write_mode == "merge":
            self._runner.start("write_mode merge is Spark's")
        if runs and config.write_mode == "merge" and config.slice_by and len(names) > 1:
            asked = slicing.cut(self._source.rows, config.slice_by, names)
            slicing.check_across(asked, self._source.address, config.id_columns)
        if self._config.commits == "slice" and not self._config.plan:
            return [[run] for run in runs]
        return [list(runs)] if runs else []

    @contextmanager
    def annotate_errors(self, outcomes: Sequence[SliceOutcome]) -> Iterator[None]:
        """Let an error say which of *outcomes* were published before it, in commits of their own.

        Raises:
            LakescoreError: any, with these in its sentence and facts.
            FilesGone, FileUnreadable: Spark cannot read a file of the input.
        """
        try:
            with scanning.reading(self._source):
                yield
        except LakescoreError as error:
            done = [each for each in outcomes if each.status == "scored"]
            if done:
                slices = [each.facts() for each in done]
                error.add([each.run.slice for each in done], {"slices": slices})
            raise

    def publish(
        self, planned: Plan, runs: Sequence[SliceRun], sizes: Mapping[str, int]
    ) -> list[SliceOutcome]:
        """Score *planned* and let everybody see it as the slices of *runs*, in one commit.

        Rows that the model cannot score go to the quarantine, whatever comes of the others.

        Args:
            planned: what keeps the keys, the columns to be written and `SLICE`.
            runs: the slices that it holds.
            sizes: rows of the input by slice: what is published and set aside must add up to.

        Raises:
            AnotherRunWon, SchemaDrift: nothing was published.
            TooManyErrors: more rows failed than the job allows; nothing was published.
            RowsLost: rows are missing, or there are too many; nothing was published.
        """
        own = {"quarantine": self._config.quarantine_address} if self._config.quarantine else {}
        publishing = _Publishing(planned, runs, sizes, lineage.now(), own)
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

    def _scored(self, publishing: _Publishing) -> DataFrame:
        """Return the rows that are published, as Spark gets them from the workers that score."""
        scored = scoring.tried(publishing.planned).drop(*self._left_out)
        return lineage.stamp(scored, publishing.runs, scored_at=publishing.scored_at)

    def _columns(self, publishing: _Publishing) -> StructType:
        """Return the columns of `_scored`."""
        given = [each for each in publishing.planned.given if each.name not in self._left_out]
        return lineage.stamped(StructType(given), publishing.runs)

    def _write(self, publishing: _Publishing) -> tuple[dict[str, int], int]:
        """Return how many rows of each slice failed, and the commit's version."""
        with tables.begin(
            self._runner,
            self._columns(publishing),
            self._address,
            where=lineage.place(publishing.runs),
            metadata=publishing.metadata,
            find_by=self._config.id_columns if self._config.writes_keys else (),
            append=self._config.write_mode != "replace",
            made_with=publishing.own_quarantine or None,
        ) as written:
            self._fill(written, publishing)
            failed = self._check(publishing, written.counts("slice"))
            appends = self._config.write_mode == "append"
            if appends and self.find_done(publishing.runs, publishing.sizes):
                raise AnotherRunWon(self._address, listed(run.slice for run in publishing.runs))
            began = time.monotonic()
            version = written.commit()
            seconds = time.monotonic() - began
        self._written.append(written.facts() | {"seconds_to_commit": seconds})
        return failed, version

    def _fill(self, written: Transaction, publishing: _Publishing) -> None:
        """Score into files that nobody sees: by workers, who write them too where they may."""
        planned = publishing.planned
        with publishing.evaluated():
            sink = self._sink(written, publishing) if self._config.write == "direct" else None
            if sink is not None:
                written.add(scoring.file(planned, sink), sink)
            else:
                self._runner.start(f"Spark writes the rows: {written.reason or 'write: spark'}")
                rows = self._scored(publishing)
                if len(publishing.runs) > 1:  # else each task would write a file for each slice
                    # By SQL: hint() of Spark 3.5 takes no column.
                    sql = "SELECT /*+ REBALANCE(slice) */ * FROM {rows}"
                    rows = rows.sparkSession.sql(sql, rows=rows)
                written.write(rows, self._config.write)
        planned.totals.add(written.said)

    def _sink(self, written: Transaction, publishing: _Publishing) -> executor.Sink | None:
        """Return where the workers that score write, or none where Spark hands rows to others."""
        planned, constants = publishing.planned, publishing.constants
        rows = sum(publishing.sizes[run.slice] for run in publishing.runs)
        many = len(constants) > 1
        try:
            places = planned.places()
            if many and self._runner.is_started:  # who could make fewer
                _check_sizes(planned, len(constants), rows)
            by = planned.slice_at if many else None
            # A constant of the slice comes before a column that is so called.
            given = {each.name for each in planned.said_of_versions}
            constant = set(lineage.COLUMNS) - given
            own = {name: place for name, place in places.items() if name not in constant}
            return written.sink(own, constants, by)
        except NotEligible as not_eligible:
            written.reason = str(not_eligible)
            return None

    def _merge(self, publishing: _Publishing) -> tuple[dict[str, int], int]:
        """Return what `_write` does; Spark reads the rows again, so they are held meanwhile."""
        kept = self._scored(publishing).persist(StorageLevel.DISK_ONLY)
        try:
            with publishing.evaluated():
                heard = publishing.planned.heard(kept)
                found = dict(map(tuple, heard.groupBy("slice").count().collect()))
            failed = self._check(publishing, found)
            began = time.monotonic()
            version = tables.merge(
                heard,
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

    def _check(self, publishing: _Publishing, found: Mapping[str, int]) -> dict[str, int]:
        """Hold what was scored against the input, set rows aside; return how many by slice."""
        runs, sizes = publishing.runs, publishing.sizes
        failed = self._set_aside(publishing)
        total, rows = publishing.planned.failed, sum(sizes[run.slice] for run in runs)
        complete = sum(failed.values()) == total
        for run in runs if complete else []:
            there = found.get(run.slice, 0), failed.get(run.slice, 0)
            if sum(there) != sizes[run.slice]:
                raise RowsLost(run.slice, sizes[run.slice], *there)
        if sum(found.values()) + total != rows:
            raise RowsLost(listed(run.slice for run in runs), rows, sum(found.values()), total)
        allowed = self._config.allowed_errors(rows)
        if total > allowed or not complete:
            reasons = publishing.planned.first_errors()
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

    def _set_aside(self, publishing: _Publishing) -> dict[str, int]:
        """Let the quarantine hold what failed of the slices, and nothing else of them."""
        address, runs, place = (
            self._config.quarantine_address,
            publishing.runs,
            lineage.place(publishing.runs),
        )
        failed = publishing.planned.set_aside()
        if failed is None:
            there = _snapshot(self._runner, address)
            if there is not None and _counted(there, ("slice",), runs):
                tables.clear(self._runner, address, where=place, metadata={"slices": []})
            return {}
        why = pc.list_element(failed.column(scoring.ERRORS), 0)
        own = failed.select([*self._config.id_columns, SLICE])
        for part, name in zip(("type", "message"), lineage.ERROR_COLUMNS, strict=True):
            own = own.append_column(name, pc.struct_field(why, part))
        counts = Counter(own.column(SLICE).to_pylist())
        own = publishing.told_of_versions(own, failed)
        if self._config.quarantine_columns == "all":
            reason = "quarantine_columns: all reads the input once more"
            few = frame(self._runner.start(reason), own)
            more = [each.name for each in publishing.planned.said_of_versions]
            rows = _joined(few, publishing.planned.rows, self._config.id_columns, more)
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
            self._columns_aside(publishing),
            address,
            where=place,
            metadata=publishing.metadata,
            find_by=self._config.id_columns,
        ) as written:
            try:
                written.put(own, publishing.constants, SLICE)
            except NotEligible as not_eligible:
                few = frame(self._runner.start(f"Spark sets rows aside: {not_eligible}"), own)
                written.write(lineage.stamp(few, runs, scored_at=publishing.scored_at))
            written.commit()
        return dict(counts)

    def _columns_aside(self, publishing: _Publishing) -> StructType:
        """Return the columns of a quarantine of keys."""
        there = publishing.planned.schema
        keys = [StructField(name, there[name].dataType) for name in self._config.id_columns]
        errors = [StructField(name, StringType()) for name in lineage.ERROR_COLUMNS]
        fields = [*keys, *errors, *publishing.planned.said_of_versions]
        return lineage.stamped(StructType(fields), publishing.runs)

    def _same_inputs(self, run: SliceRun) -> bool:
        """Tell whether the rows of this run's id came from its inputs: a derived id says so."""
        if run.run_id == run.fingerprint:
            return True
        found = self._said.get((run.slice, run.run_id))
        if found is not None and found["fingerprint"] != run.fingerprint:
            raise RunIdReused(run.run_id, run.slice)
        return found is not None


@dataclass(frozen=True)
class _Publishing:
    """What is published at once."""

    planned: Plan
    runs: Sequence[SliceRun]
    sizes: Mapping[str, int]
    scored_at: datetime
    own_quarantine: Mapping[str, str]
    """`quarantine`: where the job's file names a table for it."""

    @property
    def constants(self) -> dict[str, dict[str, Any]]:
        """What the rows of each slice carry."""
        return {r.slice: lineage.carried(r, scored_at=self.scored_at) for r in self.runs}

    @property
    def metadata(self) -> dict[str, Any]:
        """What the commit says."""
        return {**lineage.commit(self.runs, scored_at=self.scored_at), **self.own_quarantine}

    def told_of_versions(self, own: pa.Table, failed: pa.Table) -> pa.Table:
        """Return *own* with what the *failed* rows say of the versions that could not score them.

        Where one version scores all rows, that is a constant of theirs.
        """
        if (assigned := self.planned.tells) is None:
            return own
        segments = failed.column(str(assigned.by)).to_pylist()
        named = [None if each is None else str(each) for each in segments]
        of_rows = [assigned.facts(assigned.model_of(segment)) for segment in named]
        for column in self.planned.said_of_versions:
            values = pa.array([row[column.name] for row in of_rows], arrow_type(column.dataType))
            own = own.append_column(column.name, values)
        return own

    def evaluated(self) -> AbstractContextManager[None]:
        """Hold while the rows are scored; see `scoring.evaluated`."""
        return scoring.evaluated(self.planned, [run.slice for run in self.runs])


def _has_others(run: SliceRun, said: Mapping[str, Any]) -> bool:
    """Tell whether other segments of the slice have a version than had one when it was scored."""
    of_slice = run.assigned.rows.get(run.slice, {})
    then = {name for name, uri, _ in said.get("segments") or () if uri and name in of_slice}
    return then != {name for name in of_slice if run.assigned.model_of(name) is not None}


def _check_sizes(planned: Plan, slices: int, rows: int) -> None:
    if planned.slice_at is None:
        raise NotEligible("nothing in the rows names their slice")
    files = planned.tasks * slices
    if files > _FEW_FILES and rows < _FEWEST_ROWS_A_FILE * files:
        raise NotEligible(f"{planned.tasks} tasks would write small files of {slices} slices")


def _snapshot(runner: Runner, address: str) -> Snapshot | None:
    try:
        return tables.snapshot(runner, address)
    except TableNotFound:
        return None


def _earlier(there: Snapshot | None, runs: Sequence[SliceRun]) -> dict[str, list[PublishedSlice]]:
    """Return, by slice, what earlier runs wrote."""
    by = ["slice", "scoring_run_id", "input_table", "input_version"]
    if runs[0].assigned.by is None:
        by.append("model_version")
    found: dict[str, list[PublishedSlice]] = {}
    counts = _counted(there, by, runs) if there is not None else {}
    for (name, run_id, table, input_version, *version), rows in counts.items():
        earlier = PublishedSlice(
            run_id, version[0] if version else None, table, input_version, rows
        )
        found.setdefault(name, []).append(earlier)
    return found


def _counted(
    there: Snapshot, by: Sequence[str], runs: Sequence[SliceRun]
) -> dict[tuple[Any, ...], int]:
    """Return how many rows stand in the place of *runs*, by their values in the columns *by*."""
    place = lineage.place(runs)
    try:
        return scanning.tallied(there, by, place)
    except NotEligible as not_eligible:
        there.runner.start(str(not_eligible))
        held = [F.col(name).isin(values) for name, values in place.items()]
        counts = there.rows.where(reduce(and_, held)).groupBy(*by).count().collect()
        return {tuple(values): rows for *values, rows in counts}


def _joined(
    failed: DataFrame, rows: DataFrame, keys: Sequence[str], more: Sequence[str]
) -> DataFrame:
    """Return *failed* with all columns of the input's *rows*, which are read once more.

    Of *failed* the columns of errors stay, and *more* besides.
    """
    by, told = [*keys, SLICE], [*lineage.ERROR_COLUMNS, *more]
    once = failed.dropDuplicates(by).select(
        *[F.col(f"`{name}`").alias(f"{RESERVED_PREFIX}k{n}") for n, name in enumerate(by)], *told
    )
    equal = [
        F.col(f"`{name}`").eqNullSafe(F.col(f"{RESERVED_PREFIX}k{n}")) for n, name in enumerate(by)
    ]
    names = [F.col(f"`{name}`") for name in rows.columns]
    return rows.join(F.broadcast(once), reduce(and_, equal)).select(*names, *told)
