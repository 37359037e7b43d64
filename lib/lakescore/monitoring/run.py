"""One monitoring run: which units, against which baseline, judged and reported."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from lakescore import lineage, tables
from lakescore.monitoring import gating, judging, reading, tracing, units
from lakescore.monitoring.errors import BaselineUnfit
from lakescore.monitoring.profiles import Profile
from lakescore.monitoring.quality import Quality

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lakescore.config import MonitorJob
    from lakescore.monitoring.columns import Column
    from lakescore.monitoring.judging import Judged, Reference, Verdict
    from lakescore.monitoring.quality import Evaluated
    from lakescore.monitoring.units import Unit
    from lakescore.snapshots import Snapshot

_MOST_ALARMS = 10
"""The alarms of a slice that the receipt lists; the table of drift has all."""


class Monitoring:
    """The units that a job monitors, and their baseline.

    Args:
        predictions: the table of predictions.
        config: the job.

    Raises:
        ModelUnclear, NothingScored, LineageMissing: as in `units.find`.
        BaselineUnfit: a slice is its own baseline.
        ColumnsMissing: the labels, or the predictions, lack a column that the job's file names.
    """

    def __init__(self, predictions: Snapshot, config: MonitorJob) -> None:
        self._predictions, self._config = predictions, config
        self._runner = predictions.runner
        self.inputs = reading.Inputs(predictions, config)
        self.earlier = self._baseline_units()
        named, missing = units.find(
            predictions, config.model, config.slice_names, all_of_them=not config.is_range
        )
        self.missing = missing
        """The days of a range that have no predictions."""
        own = {(unit.slice, unit.run_id) for unit in self.earlier}
        self.units = [unit for unit in named if (unit.slice, unit.run_id) not in own]
        if not config.due and len(self.units) < len(named):
            slices = sorted({unit.slice for unit in named} & {slice_ for slice_, _ in own})
            raise BaselineUnfit(", ".join(slices[:3]), "is itself monitored; name other slices")
        self.quality = self._prepare_quality()
        """The quality of the units; None if the job's file has no labels, or there is no unit."""

    def _baseline_units(self) -> list[Unit]:
        baseline = self._config.baseline
        if baseline.source is not None:
            return []
        earlier, _ = units.find(
            self._predictions,
            self._config.model,
            baseline.slice_names or (),
            all_of_them=not baseline.is_range,
        )
        return earlier

    def _prepare_quality(self) -> Quality | None:
        if self._config.labels is None or not self.units:
            return None
        return Quality(self._predictions, self._config, self.units, self.inputs)

    @cached_property
    def settings_id(self) -> str:
        """An id of the job's settings that decide the rows."""
        return units.digest(self._config.settings)

    @cached_property
    def _table(self) -> Snapshot | None:
        """The baseline's table, pinned once: ids and profiles are of the same version."""
        table = self._config.baseline.source
        if table is None:
            return None
        return tables.snapshot(self._runner, table.address, table.version)

    @cached_property
    def _baseline_id(self) -> str:
        if (table := self._table) is not None:
            return f"{table.address}@{table.version}#{table.table_id}"
        return " ".join(sorted(unit.run_id for unit in self.earlier))

    def run_id(self, unit: Unit) -> str:
        """Return the id of monitoring *unit*: from the job's file, or derived from the inputs."""
        derived = unit.fingerprint(self._baseline_id, self._config.settings)
        return self._config.run_id or derived

    def remaining(self) -> list[Unit]:
        """Return the units of the slices that the table of drift does not hold yet.

        A slice that is due was not monitored, with these settings, since it was scored. A slice
        that the job's file names was not monitored with this version of the baseline either.
        """
        known = tracing.monitored(self._runner, self._config.output.address)
        done = {(model, name, run, settings) for model, name, run, settings, _ in known}
        exact = {(model, name, run, monitoring) for model, name, run, _, monitoring in known}

        def is_known(unit: Unit) -> bool:
            place = (unit.model, unit.slice, unit.run_id)
            if self._config.due:
                return (*place, self.settings_id) in done
            return (*place, self.run_id(unit)) in exact

        due = {unit.slice for unit in self.units if not is_known(unit)}
        return [unit for unit in self.units if unit.slice in due]

    def judge(self, remaining: Sequence[Unit]) -> Judgement:
        """Profile *remaining* units and the baseline, and compare them."""
        config = self._config
        reference, columns, name = reading.read_baseline(
            self._table, self.inputs, config, remaining, self.earlier
        )
        gating.check_names(config, columns)
        sources = self.inputs.sources(remaining)
        unknown = {
            c.name for source in sources for c in source.columns
        } - reference.profile.bins.keys()
        self.inputs.left_out.update(
            {name: "the baseline does not have it" for name in unknown
             if name not in self.inputs.left_out}
        )  # fmt: skip
        profiled = reading.profile_units(sources, reference.profile.bins, config.by, config.scan)
        kind, reason = reference.explain(config.chance, config.level, name)
        verdicts = [
            judging.judge(
                unit,
                profiled.get(unit, Profile({})),
                reference,
                columns,
                explained_by=kind,
                level=config.level,
            )
            for unit in remaining
        ]
        return Judgement(
            columns=columns, baseline=name, reference=reference, profiled=profiled,
            verdicts=verdicts, explained_by=kind, reason=reason,
        )  # fmt: skip

    def metrics(
        self, judgement: Judgement | None, evaluated: Sequence[Evaluated]
    ) -> dict[str, dict[str, float]]:
        """Return, by logged model, the distances and the realised metrics, for MLflow."""
        logged = judgement.metrics() if judgement else {}
        for model_id, values in (self.quality.metrics(evaluated) if self.quality else {}).items():
            logged[model_id] = {**logged.get(model_id, {}), **values}
        return logged

    def write(self, judgement: Judgement) -> None:
        """Write the profiles, and then the drift, which says that a slice is monitored."""
        monitored_at = lineage.now()
        runs = {
            verdict.unit: {
                "monitoring_run_id": self.run_id(verdict.unit),
                "settings_id": self.settings_id,
                "baseline": judgement.baseline,
                "monitored_at": monitored_at,
            }
            for verdict in judgement.verdicts
        }
        metadata = {
            "monitors": self._predictions.address,
            "version": self._predictions.version,
            "baseline": judgement.baseline,
            "slices": sorted({unit.slice for unit in runs}),
        }
        profiles = tracing.profile_rows(
            judgement.columns, judgement.profiled, runs, judgement.reference.total
        )
        tracing.write(self._runner, profiles, self._config.profile_address, metadata)
        drift = tracing.drift_rows(judgement.verdicts, runs, judgement.explained_by)
        tracing.write(self._runner, drift, self._config.output.address, metadata)


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """All units of a run, compared with the baseline."""

    columns: Sequence[Column]
    baseline: str
    reference: Reference
    profiled: Mapping[Unit, Profile]
    verdicts: Sequence[Verdict]
    explained_by: str
    reason: str

    def facts(self) -> dict[str, Any]:
        """Return what was compared, as plain values."""
        return {
            "baseline": {"name": self.baseline, "slices": len(self.reference.slices)},
            "columns": [column.name for column in self.columns],
            "chance": {"explained_by": self.explained_by, "reason": self.reason},
        }

    def metrics(self) -> dict[str, dict[str, float]]:
        """Return, by logged model, the largest distance of each column, for MLflow."""
        largest: dict[str, dict[str, float]] = {}
        for verdict in self.verdicts:
            if (model_id := verdict.unit.record.version.get("logged_model_id")) is None:
                continue
            values = largest.setdefault(model_id, {})
            for cell in verdict.cells:
                if cell.group.by is None:
                    name = f"drift {cell.column.name}"
                    distance = cell.measures["jensen_shannon"].value
                    values[name] = max(distance, values.get(name, 0.0))
        return largest


def alarm_facts(cell: Judged) -> dict[str, Any]:
    """Return an alarm as plain values."""
    measured = cell.measures["jensen_shannon"]
    return {
        "column": cell.column.name,
        "segment_by": cell.group.by,
        "segment": cell.group.value,
        "jensen_shannon": measured.value,
        "chance": measured.chance,
        "p_value": cell.adjusted,
    }


def slice_facts(verdict: Verdict) -> dict[str, Any]:
    """Return a judged unit as plain values."""
    alarms = verdict.alarms
    return {
        "slice": verdict.unit.slice,
        "status": "alarm" if alarms else "quiet",
        "model_version": verdict.unit.version,
        "scoring_run_id": verdict.unit.run_id,
        "rows": verdict.unit.rows,
        "alarms": len(alarms),
        "clearest": [alarm_facts(cell) for cell in alarms[:_MOST_ALARMS]],
        "new_segments": [f"{group.by}={group.value}" for group in verdict.new],
        "gone_segments": [f"{group.by}={group.value}" for group in verdict.gone],
    }
