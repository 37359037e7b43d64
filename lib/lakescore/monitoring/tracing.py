"""Tracing: the tables of profiles and of drift, and which units they hold already."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakescore import slicing, tables
from lakescore.monitoring import measuring
from lakescore.storage import TableNotFound

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from lakescore.monitoring.columns import Column
    from lakescore.monitoring.judging import Verdict
    from lakescore.monitoring.profiles import Profile
    from lakescore.monitoring.units import Unit
    from lakescore.runner import Runner

BASELINE = "(baseline)"
"""The slice, in the table of profiles, of the whole baseline."""
_UNIT = {
    "model_name": pa.string(),
    "slice": pa.string(),
    "model_version": pa.int32(),
    "scoring_run_id": pa.string(),
    "segment_by": pa.string(),
    "segment": pa.string(),
    "column": pa.string(),
    "role": pa.string(),
}
_RUN = {
    "monitoring_run_id": pa.string(),
    "settings_id": pa.string(),
    "baseline": pa.string(),
    "monitored_at": pa.timestamp("us", "UTC"),
}
DRIFT = pa.schema(
    {
        **_UNIT,
        "measure": pa.string(),
        "value": pa.float64(),
        "baseline_value": pa.float64(),
        "low": pa.float64(),
        "high": pa.float64(),
        "chance": pa.float64(),
        "p_value": pa.float64(),
        "adjusted_p_value": pa.float64(),
        "alarm": pa.bool_(),
        "rows": pa.int64(),
        "baseline_rows": pa.int64(),
        "explained_by": pa.string(),
        "input_table": pa.string(),
        "input_version": pa.int64(),
        **_RUN,
    }
)
"""The columns of the table of drift: one row a unit, segment, column and measure."""
PROFILES = pa.schema(
    {
        **_UNIT,
        "kind": pa.string(),
        "rows": pa.int64(),
        "nulls": pa.int64(),
        "nans": pa.int64(),
        "infinite": pa.int64(),
        "mean": pa.float64(),
        "deviation": pa.float64(),
        "others": pa.int64(),
        "new": pa.int64(),
        "edges": pa.list_(pa.float64()),
        "values": pa.list_(pa.string()),
        "counts": pa.list_(pa.int64()),
        **_RUN,
    }
)
"""The columns of the table of profiles: one row a unit, segment and column."""


def monitored(runner: Runner, address: str) -> set[tuple[str, str, str, str, str]]:
    """Return model, slice, scoring run, settings and monitoring run of the units in the table."""
    by = ("model_name", "slice", "scoring_run_id", "settings_id", "monitoring_run_id")
    try:
        table = tables.snapshot(runner, address)
    except TableNotFound:
        return set()
    return set(slicing.tally(table, by, {}))


def drift_rows(
    verdicts: Iterable[Verdict], runs: Mapping[Unit, Mapping[str, Any]], explained_by: str
) -> pa.Table:
    """Return the rows of `DRIFT`.

    Args:
        verdicts: the judged units.
        runs: the values of the last columns, for each unit.
        explained_by: what explains differences.
    """
    rows = [
        {
            **_unit_facts(verdict.unit, cell.group.by, cell.group.value, cell.column),
            "measure": name,
            "value": measured.value,
            "baseline_value": measured.baseline,
            "low": measured.low,
            "high": measured.high,
            "chance": measured.chance,
            "p_value": cell.p,
            "adjusted_p_value": cell.adjusted,
            "alarm": cell.alarm,
            "rows": cell.rows,
            "baseline_rows": cell.baseline_rows,
            "explained_by": explained_by,
            "input_table": verdict.unit.input[0],
            "input_version": verdict.unit.input[1],
            **runs[verdict.unit],
        }
        for verdict in verdicts
        for cell in verdict.cells
        for name, measured in cell.measures.items()
    ]
    return pa.Table.from_pylist(rows, DRIFT)


def profile_rows(
    columns: Sequence[Column],
    profiled: Mapping[Unit, Profile],
    runs: Mapping[Unit, Mapping[str, Any]],
    total: Profile,
) -> pa.Table:
    """Return the rows of `PROFILES`, those of the baseline as the slice `BASELINE`."""
    rows = []
    first = next(iter(profiled))
    for column in columns:
        for unit, profile in [*profiled.items(), (None, total)]:
            for group, cell in profile.cells.get(column.name, {}).items():
                facts = _unit_facts(unit or first, group.by, group.value, column)
                if unit is None:
                    facts |= {"slice": BASELINE, "model_version": None, "scoring_run_id": None}
                rows.append(
                    {
                        **facts,
                        "kind": column.kind,
                        **measuring.facts(cell, profile.bins[column.name]),
                        **runs[unit or first],
                    }
                )
    return pa.Table.from_pylist(rows, PROFILES)


def _unit_facts(unit: Unit, by: str | None, value: str | None, column: Column) -> dict[str, Any]:
    return {
        "model_name": unit.model,
        "slice": unit.slice,
        "model_version": unit.version,
        "scoring_run_id": unit.run_id,
        "segment_by": by,
        "segment": value,
        "column": column.name,
        "role": column.role,
    }


def write(runner: Runner, rows: pa.Table, address: str, metadata: Mapping[str, Any]) -> int:
    """Replace the rows of the slices in *rows* in one commit; return the table's version."""
    where = {name: sorted(set(rows.column(name).to_pylist())) for name in ("model_name", "slice")}
    return tables.put_parts(runner, rows, address, where=where, metadata=metadata)
