"""Quality: the units whose labels have arrived or changed, and the table of their metrics."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakescore import changes, lineage, slicing, tables
from lakescore.monitoring import gating, labels, realised, tracing
from lakescore.monitoring.errors import RowsNotCounted
from lakescore.monitoring.labels import LabelSource
from lakescore.monitoring.realised import WHOLE
from lakescore.monitoring.units import digest
from lakescore.provenance import COLUMNS
from lakescore.storage import TableNotFound

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from lakescore.config import MonitorJob
    from lakescore.monitoring.reading import Inputs
    from lakescore.monitoring.realised import Metrics, Segment
    from lakescore.monitoring.units import Unit
    from lakescore.snapshots import Snapshot

SHARE = "labelled_share"
"""The measure of a unit that every evaluated unit has: the share of its rows with a label."""
QUALITY = pa.schema(
    {
        "model_name": pa.string(),
        "slice": pa.string(),
        "model_version": pa.int32(),
        "scoring_run_id": pa.string(),
        "segment_by": pa.string(),
        "segment": pa.string(),
        "metric": pa.string(),
        "value": pa.float64(),
        "low": pa.float64(),
        "high": pa.float64(),
        "rows": pa.int64(),
        "labelled_rows": pa.int64(),
        "labelled_share": pa.float64(),
        "evaluated_rows": pa.int64(),
        "final": pa.bool_(),
        "first_arrival": pa.timestamp("us", "UTC"),
        "last_arrival": pa.timestamp("us", "UTC"),
        "label_table": pa.string(),
        "label_version": pa.int64(),
        "label_id": pa.string(),
        "quality_run_id": pa.string(),
        "settings_id": pa.string(),
        "evaluated_at": pa.timestamp("us", "UTC"),
    }
)
"""The columns of the table of quality: one row a unit, segment and metric."""


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """A unit with the labels that have arrived, and its metrics."""

    unit: Unit
    labelled: int
    """The rows with a label."""
    final: bool
    first: datetime | None
    """The first arrival of a label, and below the last."""
    last: datetime | None
    metrics: Mapping[Segment, Metrics] = field(default_factory=dict)
    sizes: Mapping[Segment, int] = field(default_factory=dict)
    """By segment, the labelled rows that have a prediction."""

    @property
    def share(self) -> float:
        """The share of the rows that have a label."""
        return self.labelled / self.unit.rows if self.unit.rows else 0.0

    @property
    def whole(self) -> Metrics:
        """The metrics of all labelled rows."""
        return self.metrics.get(WHOLE, {})


@dataclass(frozen=True, kw_only=True)
class _Known:
    """What the table of quality says of a unit."""

    label_version: int
    label_id: str
    final: bool


class Quality:
    """The labels of a monitor job, and the units whose metrics they change.

    Args:
        predictions: the table of predictions.
        config: the job, whose file has `labels`.
        units: the units that are monitored, sorted by slice.
        inputs: their inputs.

    Raises:
        ColumnsMissing: one of the tables lacks a column that the job's file names.
        KeysUnfit, ArrivalUnfit: such a column has another type.
    """

    def __init__(
        self,
        predictions: Snapshot,
        config: MonitorJob,
        units: Sequence[Unit],
        inputs: Inputs,
    ) -> None:
        assert config.labels is not None  # noqa: S101 - narrows for mypy
        self._predictions, self._config, self._asked = predictions, config, config.labels
        self._units, self._inputs = units, inputs
        asked = config.labels
        self.source = LabelSource(
            snapshot=tables.snapshot(predictions.runner, asked.address, asked.version),
            label=asked.column,
            keys=asked.keys or tuple(units[0].settings.get("id_columns", ())),
            slice_by=asked.slice_by,
            arrived_at=asked.arrived_at,
        )
        self.source.check(predictions, config.by)

    @cached_property
    def settings_id(self) -> str:
        """An id of the job's settings that decide the rows."""
        return digest([self._asked.model_dump(mode="json"), self._config.by])

    def remaining(self) -> list[Unit]:
        """Return the units to evaluate: new ones, and those whose labels may have changed.

        A unit is left out if the labels have not changed since it was evaluated. If it is final,
        and no column of the labels names slices, it is left out for good, unless the job's file
        names its slice.
        """
        known = self._read_known()
        places = [(unit.slice, unit.run_id) for unit in self._units]
        versions = [known[place].label_version for place in places if place in known]
        changed = self._changed_since(min(versions)) if versions else None
        due = {unit.slice for unit in self._units if self._is_due(unit, known, changed)}
        return [unit for unit in self._units if unit.slice in due]

    def _changed_since(self, version: int) -> Mapping[str, int] | None:
        table = self.source.snapshot
        if self.source.slice_by is None or version > table.version:
            return None
        return changes.last_changed(table, self.source.slice_by, version)

    def _is_due(
        self,
        unit: Unit,
        known: Mapping[tuple[str, str], _Known],
        changed: Mapping[str, int] | None,
    ) -> bool:
        entry, table = known.get((unit.slice, unit.run_id)), self.source.snapshot
        if entry is None or entry.label_id != table.table_id:
            return True
        if not entry.final and self._is_old(unit):
            return True  # nothing else has changed, but the unit is final now
        if entry.label_version == table.version:
            return False
        if changed is None:  # nobody knows which slices changed
            knows_slices = self.source.slice_by is not None
            return knows_slices or not entry.final or not self._config.due
        return changed.get(unit.slice, -1) > entry.label_version

    def _read_known(self) -> dict[tuple[str, str], _Known]:
        """Return what the table of quality has, by slice and run, of these settings."""
        by = ("slice", "scoring_run_id", "settings_id", "label_version", "label_id", "final")
        try:
            table = tables.snapshot(self._predictions.runner, self._config.quality_address)
        except TableNotFound:
            return {}
        entries = slicing.tally(table, by, {"model_name": [self._units[0].model]})
        return {
            (name, run): _Known(label_version=version, label_id=label_id, final=final)
            for name, run, settings, version, label_id, final in entries
            if settings == self.settings_id
        }

    def _is_old(self, unit: Unit) -> bool:
        scored_at = unit.record.scored_at
        if scored_at is None:
            return False
        age = datetime.now(UTC) - datetime.fromisoformat(scored_at)
        return age >= timedelta(days=self._asked.final_days)

    def evaluate(self, remaining: Sequence[Unit]) -> list[Evaluated]:
        """Match the predictions of *remaining* units with their labels, and evaluate them.

        Raises:
            LabelsRepeated, KeysInSlices: as in `labels.match`.
            LabelsUnfit, MetricUndefined: the predictions cannot be compared with the labels.
            RowsNotCounted: the table has other rows of a unit than its run published.
            ConfigError: the gates name another metric.
        """
        groups: dict[tuple[Any, ...], list[Unit]] = {}
        for unit in remaining:
            how = (unit.settings.get("threshold"), unit.settings.get("prediction"))
            groups.setdefault(how, []).append(unit)
        evaluated = [result for units in groups.values() for result in self._evaluate(units)]
        gating.check_metrics(self._config, evaluated)
        return sorted(evaluated, key=lambda result: (result.unit.slice, result.unit.run_id))

    def _evaluate(self, units: Sequence[Unit]) -> list[Evaluated]:
        """Evaluate units whose outputs mean the same."""
        address, config, settings = self._predictions.address, self._config, units[0].settings
        outputs = realised.choose_outputs(
            address, self._outputs(units), self._asked.prediction,
            proba=settings.get("prediction") == "proba",
        )  # fmt: skip
        matched = labels.match(self._predictions, self.source, units, outputs, config.by)
        counts = labels.count(matched)
        named = {labels.unit_name(unit): unit for unit in units}
        for name, unit in named.items():
            if (rows := counts[name]["rows"] if name in counts else 0) != unit.rows:
                raise RowsNotCounted(address, unit.slice, rows, unit.rows)
        metrics: dict[str, dict[Segment, Metrics]] = {}
        sizes: dict[str, dict[Segment, int]] = {}
        labelled = [name for name in named if counts[name]["labelled"]]
        for name, segment, values, rows in realised.evaluate(
            matched, outputs, labelled, config, settings.get("threshold")
        ):
            metrics.setdefault(name, {})[segment] = values
            sizes.setdefault(name, {})[segment] = rows
        return [
            Evaluated(
                unit=unit,
                labelled=counts[name]["labelled"],
                final=self._is_final(unit, counts[name]["labelled"]),
                first=counts[name]["first"],
                last=counts[name]["last"],
                metrics=metrics.get(name, {}),
                sizes=sizes.get(name, {}),
            )
            for name, unit in named.items()
        ]

    def _outputs(self, units: Sequence[Unit]) -> list[str]:
        """Return the columns of predictions that are outputs of the model."""
        settings, names = units[0].settings, self._predictions.schema.names
        others = {*COLUMNS, *settings.get("id_columns", ())}
        if (passed := settings.get("passthrough")) == "all":
            others |= set(self._inputs.input_of(units[-1]).schema.names)
        elif not isinstance(passed, str):
            others |= set(passed or ())
        return [name for name in names if name not in others]

    def _is_final(self, unit: Unit, labelled: int) -> bool:
        return labelled >= self._asked.final_share * unit.rows or self._is_old(unit)

    def write(self, evaluated: Sequence[Evaluated]) -> None:
        """Write the rows of the units, which replace those of their slices."""
        table, now = self.source.snapshot, lineage.now()
        shared = {
            "label_table": table.address,
            "label_version": table.version,
            "label_id": table.table_id,
            "settings_id": self.settings_id,
            "evaluated_at": now,
        }
        rows = [
            {**row, **shared, "quality_run_id": self._run_id(result.unit)}
            for result in evaluated
            for row in _rows(result)
        ]
        metadata = {
            "evaluates": self._predictions.address,
            "version": self._predictions.version,
            "labels": table.address,
            "label_version": table.version,
        }
        tracing.write(
            self._predictions.runner, pa.Table.from_pylist(rows, QUALITY),
            self._config.quality_address, metadata,
        )  # fmt: skip

    def _run_id(self, unit: Unit) -> str:
        table = self.source.snapshot
        place = f"{table.address}@{table.version}#{table.table_id}"
        return self._config.run_id or unit.fingerprint(place, {"labels": self.settings_id})

    def facts(self, evaluated: Sequence[Evaluated]) -> dict[str, Any]:
        """Return the results as plain values for the receipt."""
        table = self.source.snapshot
        return {
            "table": self._config.quality_address,
            "labels": {"table": table.address, "version": table.version},
            "slices": [
                {
                    "slice": result.unit.slice,
                    "model_version": result.unit.version,
                    "scoring_run_id": result.unit.run_id,
                    "rows": result.unit.rows,
                    "labelled_rows": result.labelled,
                    "final": result.final,
                    "metrics": {name: facts["value"] for name, facts in result.whole.items()},
                }
                for result in evaluated
            ],
        }

    def metrics(self, evaluated: Sequence[Evaluated]) -> dict[str, dict[str, float]]:
        """Return, by logged model, the metrics of its newest slice that is final, for MLflow."""
        by_model: dict[str, dict[str, float]] = {}
        for result in sorted(evaluated, key=lambda result: result.unit.slice):
            model_id = result.unit.record.version.get("logged_model_id")
            if model_id is not None and result.final:
                by_model[model_id] = {
                    f"realised {name}": facts["value"]
                    for name, facts in result.whole.items()
                    if facts["value"] is not None
                }
        return by_model


def _rows(result: Evaluated) -> Iterator[dict[str, Any]]:
    """Yield the rows of a unit in the table of quality, first its share of labelled rows."""
    unit = result.unit
    place = {
        "model_name": unit.model,
        "slice": unit.slice,
        "model_version": unit.version,
        "scoring_run_id": unit.run_id,
        "rows": unit.rows,
        "labelled_rows": result.labelled,
        "labelled_share": result.share,
        "final": result.final,
        "first_arrival": result.first,
        "last_arrival": result.last,
    }
    yield {**place, "metric": SHARE, "value": result.share}
    for segment, metrics in result.metrics.items():
        by, value = segment
        for name, facts in metrics.items():
            rows = {"evaluated_rows": result.sizes[segment]}
            yield {**place, "segment_by": by, "segment": value, "metric": name, **facts, **rows}
