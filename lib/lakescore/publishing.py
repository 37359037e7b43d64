"""Publishing: a slice's predictions become visible in one commit, once for the same inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from lakescore import lineage, tables
from lakescore.errors import RowsLost, RunIdReused

if TYPE_CHECKING:
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
    """The table of predictions, which may not exist yet."""

    def __init__(self, spark: SparkSession, address: str, model_name: str) -> None:
        self._spark, self._address = spark, address
        self._published: dict[str, list[tuple[str, int]]] = {}
        if tables.exists(spark, address):
            predictions = tables.snapshot(spark, address).rows
            for row in lineage.published(predictions, model_name).collect():
                self._published.setdefault(row["slice"], []).append(
                    (row["scoring_run_id"], row["rows"])
                )

    def settled(self, run: Run, rows_in: int) -> Outcome | None:
        """Return the outcome of a slice that needs no scoring: empty, or published already.

        What is there is read from the rows themselves, so a slice that another version replaced
        since is due again, and an expired Delta log loses nothing.

        Raises:
            RunIdReused: the slice holds rows of the same given run id and other inputs.
        """
        if rows_in == 0:
            return Outcome(run, "empty", 0, 0, None)
        there = self._published.get(run.slice, [])
        if [run_id for run_id, _ in there] != [run.run_id]:
            return None
        if run.run_id != run.fingerprint and not self._same_inputs(run):
            return None
        return Outcome(run, "unchanged", rows_in, 0, None) if there[0][1] == rows_in else None

    def publish(self, scored: DataFrame, run: Run, rows_in: int) -> Outcome:
        """Write *scored* as the slice of *run*, in the place of what the slice held before.

        Raises:
            AnotherRunWon, SchemaDrift: nothing was written.
            RowsLost: the commit holds another number of rows than *rows_in*.
        """
        scored_at = lineage.now()
        commit = tables.replace(
            lineage.stamp(scored, run, scored_at=scored_at),
            self._address,
            where=run.place,
            metadata=run.commit(scored_at),
            transaction=f"{run.run_id}/{run.slice}",
        )
        if commit.rows != rows_in:
            raise RowsLost(run.slice, rows_in, commit.rows, commit.version)
        return Outcome(run, "scored", rows_in, commit.rows, commit.version)

    def _same_inputs(self, run: Run) -> bool:
        commits = tables.commits(self._spark, self._address)
        found = lineage.fingerprints(commits, run_id=run.run_id, slice_name=run.slice).head()
        if found is not None and found["fingerprint"] != run.fingerprint:
            raise RunIdReused(run.run_id, run.slice)
        return found is not None
