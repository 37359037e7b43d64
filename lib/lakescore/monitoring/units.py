"""Units: what one run published of one slice, and the input that it read, from the lineage."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lakescore import provenance, slicing, tables
from lakescore.monitoring.errors import LineageMissing, ModelUnclear, NothingScored

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lakescore.provenance import CommitRecord
    from lakescore.snapshots import Snapshot

_BY = ("model_name", "slice", "scoring_run_id")


@dataclass(frozen=True, kw_only=True, eq=False)
class Unit:
    """What one run published of one slice."""

    slice: str
    run_id: str
    record: CommitRecord
    """What the commit says of the run."""
    rows: int
    """The published rows."""

    @property
    def model(self) -> str:
        """The name of the registered model."""
        return self.record.model_name

    @property
    def version(self) -> int | None:
        """The number of the version; None if each segment had its own."""
        number = self.record.version.get("model_version")
        return None if number is None else int(number)

    @property
    def settings(self) -> Mapping[str, Any]:
        """The settings of the score job."""
        return self.record.settings or {}

    @property
    def slice_by(self) -> str | None:
        """The column that divides the input into slices."""
        column: str | None = self.settings.get("slice_by")
        return column

    @property
    def input(self) -> tuple[str, int]:
        """The input table and its version."""
        return self.record.input_table, self.record.input_version

    def fingerprint(self, baseline: str, settings: Mapping[str, object]) -> str:
        """Return the id of monitoring this unit: equal ids mean equal rows of drift."""
        return digest([self.model, self.slice, self.run_id, self.input, baseline, settings])


def digest(facts: object) -> str:
    """Return 16 hex digits, equal for equal *facts*, which are plain values."""
    text = json.dumps(facts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def find(
    predictions: Snapshot, model: str | None, names: Sequence[str] = (), *, all_of_them: bool = True
) -> tuple[list[Unit], list[str]]:
    """Return the units of slices in a table of predictions, and the slices without predictions.

    Args:
        predictions: the table.
        model: the name of the model; None if the table has only one.
        names: the slices; without any, all.
        all_of_them: whether all *names* must have predictions. A range can have days without rows.

    Raises:
        ModelUnclear: the table has predictions of several models, and *model* is none of them.
        NothingScored: the table has no predictions of one of the slices, or of none.
        LineageMissing: the log does not say how a slice was scored.
    """
    by_slice = slicing.tally(predictions, ("model_name", "slice"), {})  # the log knows it
    models = sorted({name for name, _ in by_slice})
    if model is None and len(models) == 1:
        model = models[0]
    if model is None or model not in models:
        raise ModelUnclear(predictions.address, model, models)
    existing = sorted(slice_ for name, slice_ in by_slice if name == model)
    unscored = [name for name in names if name not in existing]
    if unscored and (all_of_them or len(unscored) == len(names)):
        raise NothingScored(predictions.address, unscored, existing)
    asked = [name for name in existing if not names or name in names]
    counts = slicing.tally(predictions, _BY, {"model_name": [model], "slice": asked})
    wanted = {(slice_, run): rows for (_, slice_, run), rows in counts.items()}
    commits = [
        (version, metadata)
        for version, metadata in tables.commits(predictions.runner, predictions.address)
        if metadata.get("model_name") == model
    ]
    newest = provenance.newest(commits)
    if unknown := sorted({place[0] for place in wanted if not _is_known(newest.get(place))}):
        raise LineageMissing(predictions.address, unknown)
    units = [
        Unit(slice=place[0], run_id=place[1], record=newest[place].record, rows=rows)
        for place, rows in sorted(wanted.items())
    ]
    return units, unscored


def _is_known(commit: provenance.SliceCommit | None) -> bool:
    return commit is not None and commit.record.settings is not None
