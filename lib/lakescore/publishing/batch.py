"""Batch: the slices that one commit publishes, with their plan and metadata."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakescore import lineage, scoring
from lakescore.arrow import arrow_type

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime

    from lakescore.lineage import SliceRun
    from lakescore.scoring import Execution, Plan


@dataclass(frozen=True)
class Batch:
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
