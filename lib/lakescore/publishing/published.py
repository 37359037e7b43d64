"""Published slices: the rows that earlier runs wrote, and the slices that need no scoring."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lakescore import changes, lineage, provenance, slicing, tables
from lakescore.errors import ConfigError
from lakescore.publishing.outcomes import SliceOutcome
from lakescore.storage import TableNotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lakescore.config import ScoreJob
    from lakescore.lineage import SliceRun
    from lakescore.provenance import SliceCommit
    from lakescore.runner import Runner
    from lakescore.snapshots import Snapshot


class RunIdReused(ConfigError):
    """The requested run id already belongs to a run with other inputs."""

    def __init__(self, run_id: str, slice_name: str) -> None:
        super().__init__(
            f"run_id {run_id!r} has already scored slice {slice_name!r} with other inputs or "
            "settings; give another run_id, or leave it out: the run then derives one"
        )


@dataclass(frozen=True)
class PublishedSlice:
    """The rows that one run wrote of one slice."""

    run_id: str
    model_version: int | None
    """The version's number; None if each segment has its own version."""
    table: str
    input_version: int
    rows: int


class PublishedSlices:
    """The slices in a job's table of predictions and in its quarantine, which need not exist."""

    def __init__(self, config: ScoreJob, source: Snapshot) -> None:
        self._runner, self._config, self._source = source.runner, config, source
        self._commits: dict[tuple[str, str], SliceCommit] | None = None

    @property
    def table(self) -> Snapshot | None:
        """The newest version of the table of predictions."""
        return find_snapshot(self._runner, self._config.output.address)

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
        published = _earlier_slices(self.table, runs)
        quarantined = _earlier_slices(
            find_snapshot(self._runner, self._config.quarantine_address), runs
        )
        published |= self._find_rowless(published, quarantined)
        is_due = self._make_due_check(published) if self._config.due else self._differs
        done = []
        for run in runs:
            name = run.slice
            rows, earlier = sizes.get(name, 0), published.get(name, [])
            if rows == 0:
                left_out = run.assigned.skipped(name) > 0
                done.append(SliceOutcome(run, "skipped" if left_out else "empty", 0, 0, 0, None))
                continue
            failed = {part.run_id: part.rows for part in quarantined.get(name, [])}
            complete = [
                part
                for part in earlier
                if self._is_complete(part, failed, rows) and not is_due(run, part)
            ]
            if complete and (len(earlier) == 1 or self._config.write_mode != "replace"):
                failed_rows = failed.get(complete[0].run_id, 0)
                done.append(SliceOutcome(run, "unchanged", rows, 0, failed_rows, None))
        return done

    def _find_rowless(
        self,
        published: Mapping[str, Sequence[PublishedSlice]],
        quarantined: Mapping[str, Sequence[PublishedSlice]],
    ) -> dict[str, list[PublishedSlice]]:
        """Return the published slices whose rows all failed, within the budget of errors."""
        slices = {
            name: [
                replace(part, rows=0)
                for part in parts
                if (name, part.run_id) in self._newest_commits
            ]
            for name, parts in quarantined.items()
            if name not in published
        }
        return {name: parts for name, parts in slices.items() if parts}

    def _is_complete(self, part: PublishedSlice, failed: Mapping[str, int], rows: int) -> bool:
        """Return whether a run published or quarantined all *rows* of the slice.

        The rows that a run appended are complete, even if a later run replaced the quarantine.
        """
        appends = self._config.write_mode == "append"
        return appends or part.rows + failed.get(part.run_id, 0) == rows

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
            exists = self.table is not None
            commits = tables.commits(self._runner, self._config.output.address) if exists else []
            self._commits = provenance.newest(commits)
        return self._commits

    def _has_same_inputs(self, run: SliceRun) -> bool:
        """Return whether rows with this run's id come from its inputs; a derived id proves it."""
        if run.run_id == run.fingerprint:
            return True
        commit = self._newest_commits.get((run.slice, run.run_id))
        if commit is not None and commit.part.fingerprint != run.fingerprint:
            raise RunIdReused(run.run_id, run.slice)
        return commit is not None


def _has_other_segments(run: SliceRun, commit: SliceCommit | None) -> bool:
    """Return whether segments of the slice got or lost a version since the slice was scored."""
    segments = run.assigned.rows.get(run.slice, {})
    pins = commit.record.pins if commit is not None and commit.record.segment_by else ()
    earlier = {pin.segment for pin in pins if pin.uri and pin.segment in segments}
    return earlier != {name for name in segments if run.assigned.model_of(name) is not None}


def find_snapshot(runner: Runner, address: str) -> Snapshot | None:
    """Return the newest version of the table at *address*, if there is one."""
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
    counts = {} if table is None else slicing.tally(table, columns, lineage.place(runs))
    for (name, run_id, input_table, input_version, *version), rows in counts.items():
        published = PublishedSlice(
            run_id, version[0] if version else None, input_table, input_version, rows
        )
        earlier.setdefault(name, []).append(published)
    return earlier
