"""Publishing: slices of predictions become visible in one commit, once for the same inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from lakescore import lineage, scanning, tables
from lakescore.errors import RowsLost, RunIdReused, SchemaDrift, listed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyspark.sql import DataFrame, SparkSession

    from lakescore.lineage import Run


@dataclass(frozen=True)
class Outcome:
    """What became of one slice."""

    run: Run
    status: Literal["scored", "unchanged", "empty"]
    rows_in: int
    rows_scored: int
    output_version: int | None

    def facts(self) -> dict[str, Any]:
        """Return the outcome as it stands in the receipt."""
        return {
            "slice": self.run.slice,
            "status": self.status,
            "run_id": self.run.run_id,
            "rows_in": self.rows_in,
            "rows_scored": self.rows_scored,
            "output_version": self.output_version,
        }


class Target:
    """The table of predictions, which may not exist yet; its rows are found by *keys*.

    Raises:
        SchemaDrift: there is a table, and it is not one of predictions.
    """

    def __init__(self, spark: SparkSession, address: str, keys: Sequence[str]) -> None:
        self._spark, self._address, self._keys = spark, address, keys
        self._rows = tables.snapshot(spark, address).rows if tables.exists(spark, address) else None
        missing = set(lineage.COLUMNS) - set(self._rows.columns if self._rows else lineage.COLUMNS)
        if missing:
            raise SchemaDrift(address, f"it lacks {listed(sorted(missing))}, so it is no output")

    def settle(self, runs: Sequence[Run], sizes: Mapping[str, int]) -> list[Outcome]:
        """Return the outcomes of the slices that need no scoring: empty, or published already.

        What is there is read from the rows themselves, so a slice that another version replaced
        since is due again, and an expired Delta log loses nothing.

        Args:
            runs: the slices asked for.
            sizes: rows of the input by slice; a slice without rows may be missing.

        Raises:
            RunIdReused: a slice holds rows of the same given run id and other inputs.
        """
        there = self._published(self._rows, runs) if self._rows is not None else {}
        settled = []
        for run in runs:
            rows = sizes.get(run.slice, 0)
            if rows == 0:
                settled.append(Outcome(run, "empty", 0, 0, None))
            elif there.get(run.slice) == {run.run_id: rows} and self._same_inputs(run):
                settled.append(Outcome(run, "unchanged", rows, 0, None))
        return settled

    def publish(
        self, scored: DataFrame, runs: Sequence[Run], sizes: Mapping[str, int]
    ) -> list[Outcome]:
        """Write *scored* as the slices of *runs*, in the place of what these held before.

        Args:
            scored: keys, predictions and `_slice`.
            runs: the slices that *scored* holds.
            sizes: rows of the input by slice: what the commit must hold.

        Raises:
            AnotherRunWon, SchemaDrift: nothing was written.
            RowsLost: the commit holds another number of rows of a slice than *sizes* says.
        """
        scored_at = lineage.now()
        rows = lineage.stamp(scored, runs, scored_at=scored_at)
        if len(runs) > 1:  # else each task would write a file of its own for each slice
            rows = rows.hint("rebalance", "slice")
        version = tables.replace(
            rows,
            self._address,
            where={"model_name": [runs[0].model.name], "slice": [run.slice for run in runs]},
            metadata=lineage.commit(runs, scored_at=scored_at),
            find_by=self._keys,
        )
        there = self._committed(version, runs)
        for run in runs:
            if there.get(run.slice, 0) != sizes[run.slice]:
                raise RowsLost(run.slice, sizes[run.slice], there.get(run.slice, 0), version)
        return [Outcome(r, "scored", sizes[r.slice], sizes[r.slice], version) for r in runs]

    def _committed(self, version: int, runs: Sequence[Run]) -> dict[str, int]:
        """Return the rows of each slice at *version*: from the log, or else from the table."""
        written = lineage.of_runs(tables.snapshot(self._spark, self._address, version).rows, runs)
        try:
            return scanning.counted(written, "slice", within=["model_name"])
        except scanning.Declined:
            return dict(map(tuple, written.groupBy("slice").count().collect()))

    def _published(self, predictions: DataFrame, runs: Sequence[Run]) -> dict[str, dict[str, int]]:
        """Return the rows of each slice by the run that wrote them."""
        found: dict[str, dict[str, int]] = {}
        for row in lineage.published(predictions, runs).collect():
            found.setdefault(row["slice"], {})[row["scoring_run_id"]] = row["rows"]
        return found

    def _same_inputs(self, run: Run) -> bool:
        """Tell whether the rows of this run's id came from its inputs: a derived id says so."""
        if run.run_id == run.fingerprint:
            return True
        commits = tables.commits(self._spark, self._address)
        found = lineage.fingerprints(commits, run).head()
        if found is not None and found["fingerprint"] != run.fingerprint:
            raise RunIdReused(run.run_id, run.slice)
        return found is not None
