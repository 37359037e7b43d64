"""Publisher: groups the runs of a job into commits, and publishes each of them once."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lakescore import lineage, scanning, slicing
from lakescore.errors import LakescoreError
from lakescore.logs import AnotherRunWon
from lakescore.publishing.batch import Batch
from lakescore.publishing.outcomes import SliceOutcome
from lakescore.publishing.output import Output
from lakescore.publishing.published import PublishedSlices
from lakescore.publishing.quarantine import Quarantine

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from lakescore.config import ScoreJob
    from lakescore.lineage import SliceRun
    from lakescore.scoring import Execution
    from lakescore.snapshots import Snapshot


class Publisher:
    """The writer of a job's table of predictions, which need not exist yet, and its quarantine.

    Raises:
        SchemaDrift: the table exists, but is not a table of predictions.
        ColumnsCollide, ColumnsUnfit: the quarantine cannot hold its columns.
    """

    def __init__(self, config: ScoreJob, source: Snapshot) -> None:
        self._runner, self._config, self._source = source.runner, config, source
        self._published = PublishedSlices(config, source)
        quarantine = Quarantine(config, source)
        self._output = Output(config, source, self._published, quarantine)

    @property
    def facts(self) -> dict[str, Any]:
        """The totals of all commits for the receipt, and other facts of the last commit."""
        return self._output.facts

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
        return self._published.find_done(runs, sizes)

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
        batch = Batch(execution, runs, sizes, lineage.now(), quarantine)
        try:
            failed, version = self._output.publish(batch)
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
