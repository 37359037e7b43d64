"""Gating: whether the judged units meet the conditions of the job's file, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lakescore.errors import ConfigError
from lakescore.metrics import find
from lakescore.monitoring.errors import DriftNotAccepted
from lakescore.monitoring.realised import is_worse
from lakescore.notation import number
from lakescore.wording import counted, listed, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lakescore.config import MonitorJob
    from lakescore.monitoring.columns import Column
    from lakescore.monitoring.judging import Judged, Verdict
    from lakescore.monitoring.quality import Evaluated

_ANY = "any"


def check_names(config: MonitorJob, columns: Sequence[Column]) -> None:
    """Check that the gates name monitored columns.

    Raises:
        ConfigError: they name another column, whose gate would always be met.
    """
    if config.gates is None:
        return
    known = [column.name for column in columns]
    for key, names in (("alarms", config.gates.alarms), ("limits", tuple(config.gates.limits))):
        for name in names:
            if name != _ANY and name not in known:
                raise ConfigError(
                    f"gates.{key}: {name!r} is not monitored{nearest(name, known)}; monitored are: "
                    f"{listed(known, most=40)}"
                )


def check_metrics(config: MonitorJob, evaluated: Sequence[Evaluated]) -> None:
    """Check that the gates name metrics of the predictions.

    Raises:
        ConfigError: they name another metric, whose gate would always be met.
    """
    names = {name for result in evaluated for name in result.whole}
    tasks = {metric.task for name in names if (metric := find(name)) is not None}
    for name in () if config.gates is None else config.gates.quality:
        metric = find(name)
        if names and metric is not None and metric.task not in tasks:
            raise ConfigError(
                f"gates.quality: {name!r} is no metric of these predictions; there are: "
                f"{listed(sorted(names), most=40)}"
            )


def evaluate_gates(
    config: MonitorJob, verdicts: Sequence[Verdict], evaluated: Sequence[Evaluated] = ()
) -> dict[str, Any] | None:
    """Return whether all units meet the gates, and the sentences of those that do not.

    Metrics of quality are checked in slices whose labels are final. `unknown` are those without a
    value, such as a slice without labels; they do not fail.

    The result is None if the job's file has no gates.
    """
    if config.gates is None:
        return None
    failures, unknown = _check_quality(config.gates.quality, evaluated)
    for verdict in verdicts:
        for cell in verdict.cells:
            place = _place(verdict, cell)
            if cell.alarm and {cell.column.name, _ANY} & set(config.gates.alarms):
                failures.append(f"{place} alarms ({alarm_text(cell)})")
            for name in (cell.column.name, _ANY):
                for measure, most in config.gates.limits.get(name, {}).items():
                    measured = cell.measures.get(measure)
                    if measured is not None and not measured.value <= most:
                        failures.append(
                            f"{place} has {measure} {number(measured.value)}, above {number(most)}"
                        )
    return {
        "mode": config.gates.mode,
        "passed": not failures,
        "failures": failures,
        **({"unknown": unknown} if unknown else {}),
    }


def _check_quality(
    limits: Mapping[str, float], evaluated: Sequence[Evaluated]
) -> tuple[list[str], list[str]]:
    """Return the sentences of metrics that are worse than *limits*, and of unknown ones."""
    failures, unknown = [], []
    for result in evaluated:
        for name, limit in limits.items() if result.final else ():
            facts = result.whole.get(name, {"value": None, "low": None, "high": None})
            place, worse = f"{name} of {result.unit.slice}", is_worse(name, facts, limit)
            if worse is None:
                unknown.append(f"{place} has no value: {counted(result.labelled, 'label')}")
            elif worse:
                failures.append(
                    f"{place} is {number(facts['value'])}, and at worst {number(limit)} is accepted"
                )
    return failures, unknown


def require_passed(report: Mapping[str, Any]) -> None:
    """Raise an error if gates that the job's file enforces are not met.

    Raises:
        DriftNotAccepted: they are not; the report is in the error's facts.
    """
    gates = report["gates"]
    if gates is not None and gates["mode"] == "enforce" and not gates["passed"]:
        raise DriftNotAccepted(gates["failures"], report)


def alarm_text(cell: Judged) -> str:
    """Return how far a column is from the baseline, and what chance explains."""
    measured = cell.measures["jensen_shannon"]
    return f"Jensen-Shannon {number(measured.value)}, and chance explains {number(measured.chance)}"


def _place(verdict: Verdict, cell: Judged) -> str:
    group = cell.group
    segment = "" if group.by is None else f" where {group.by} is {group.value}"
    return f"{cell.column.name} of {verdict.unit.slice}{segment}"
