"""Outcomes: the result of a run for each slice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from lakescore.lineage import SliceRun


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
