"""The document of a model's drift: what its page shows, from the tables that runs wrote."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc

from lakescore import tables
from lakescore.arrow import collected
from lakescore.logs import NotEligible
from lakescore.monitoring.quality import QUALITY, SHARE
from lakescore.monitoring.realised import rank_metric
from lakescore.monitoring.tracing import BASELINE, DRIFT, PROFILES
from lakescore.notation import number, percent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa

    from lakescore.config import MonitorJob
    from lakescore.runner import Runner

    Row = Mapping[str, Any]

FORMAT = "lakescore-drift/1"
_MOST_SLICES = 90
"""The newest slices that the page shows."""
_MOST_ALARMS = 200
_MOST_DISTRIBUTIONS = 12
_PSI_LIMITS = (0.1, 0.25)
"""Siddiqi: Credit Risk Scorecards, 2006: a change that is worth a look, and a large one."""
_NOTICEABLE = 0.01
"""A change of a share that is worth a word."""


def document(runner: Runner, config: MonitorJob, receipt: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document, in plain JSON values.

    Args:
        runner: the runner.
        config: the job.
        receipt: the receipt of the run, whose tables are read.

    Returns:
        `slices` are the newest, in order. `columns` have their distance by slice. `alarms` are the
        newest first, each with what has changed, in words. `distributions` show, for each column
        that alarms, the baseline and the slice with the clearest alarm. `quality` has the metric
        that ranks in each slice; None if the job has no labels.
    """
    name = receipt["model"]["name"]
    drift = _of_model(_read(runner, config.output.address, DRIFT), name)
    profiles = _of_model(_read(runner, config.profile_address, PROFILES), name)
    slices = sorted(set(drift.column("slice").to_pylist()))[-_MOST_SLICES:]
    rows = [row for row in drift.to_pylist() if row["slice"] in slices]
    distances = [row for row in rows if row["measure"] == "jensen_shannon"]
    counted = {
        (row["slice"], row["scoring_run_id"], row["segment_by"], row["segment"], row["column"]): row
        for row in profiles.to_pylist()
    }
    newest = max(rows, key=lambda row: row["monitored_at"])
    alarms = [row for row in distances if row["alarm"]]
    alarms.sort(key=lambda row: (row["adjusted_p_value"], -row["value"]))
    alarms.sort(key=lambda row: str(row["slice"]), reverse=True)
    return {
        "format": FORMAT,
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": name,
        "verdict": _verdict(slices, alarms),
        "receipt": dict(receipt),
        "level": config.level,
        "baseline": newest["baseline"],
        "explained_by": newest["explained_by"],
        "slices": slices,
        "columns": _columns(distances),
        "fixed_limits": _fixed_limits(rows),
        "alarms": [_alarm(row, counted) for row in alarms[:_MOST_ALARMS]],
        "more_alarms": max(0, len(alarms) - _MOST_ALARMS),
        "distributions": _distributions(alarms, counted),
        "quality": _quality(runner, config, name),
    }


def _quality(runner: Runner, config: MonitorJob, name: str) -> dict[str, Any] | None:
    """Return the metric that ranks by slice and version, and the labels that have arrived."""
    if config.labels is None:
        return None
    rows = _of_model(_read(runner, config.quality_address, QUALITY), name)
    whole = rows.filter(rows.column("segment_by").is_null()).to_pylist()
    slices = sorted({row["slice"] for row in whole})[-_MOST_SLICES:]
    metric = rank_metric(config, {row["metric"]: {} for row in whole})
    by_place = {(row["slice"], row["scoring_run_id"], row["metric"]): row for row in whole}
    points = []
    for (slice_name, run, measure), row in sorted(by_place.items()):
        if measure == SHARE and slice_name in slices:
            value = by_place.get((slice_name, run, metric), {})
            kept = ("slice", "model_version", "rows", "labelled_rows", "labelled_share", "final")
            numbers = {key: value.get(key) for key in ("value", "low", "high")}
            points.append({**{key: row[key] for key in kept}, **numbers})
    newest = max(whole, key=lambda row: row["evaluated_at"])
    return {
        "metric": metric,
        "points": points,
        "table": config.quality_address,
        "labels": f"{newest['label_table']}@{newest['label_version']}",
    }


def _read(runner: Runner, address: str, schema: pa.Schema) -> pa.Table:
    """Return all rows of a table that a monitor job wrote."""
    snapshot = tables.snapshot(runner, address)
    try:
        return snapshot.log.dataset().to_table(columns=schema.names)
    except NotEligible as not_eligible:
        runner.start(f"Spark reads {address}: {not_eligible}")
        return collected(snapshot.rows.select(*schema.names))


def _of_model(rows: pa.Table, name: str) -> pa.Table:
    return rows.filter(pc.equal(rows.column("model_name"), name))


def _verdict(slices: Sequence[str], alarms: Sequence[Row]) -> str:
    """Return what has happened, in one sentence."""
    if not alarms:
        return f"No alarm in {len(slices)} slices: they differ by no more than chance explains."
    alarming = sorted({row["slice"] for row in alarms})
    columns: dict[str, int] = {}
    for row in alarms:
        columns[row["column"]] = columns.get(row["column"], 0) + 1
    most = max(columns, key=lambda name: columns[name])
    quiet = [name for name in slices if name > alarming[-1]]
    since = f"; {len(quiet)} quiet since then" if quiet else ", the newest"
    return (
        f"{len(alarming)} of {len(slices)} slices alarm, most often for {most}. "
        f"The last is {alarming[-1]}{since}."
    )


def _columns(distances: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the columns with their distance in each slice, those that alarm first."""
    columns: dict[str, dict[str, Any]] = {}
    for row in sorted(distances, key=lambda row: (row["slice"], row["model_version"] or 0)):
        if row["segment_by"] is not None:
            continue
        column = columns.setdefault(
            row["column"],
            {"name": row["column"], "role": row["role"], "alarms": 0, "points": []},
        )
        column["alarms"] += row["alarm"]
        kept = ("slice", "model_version", "value", "chance", "alarm")
        column["points"].append({name: row[name] for name in kept})
    return sorted(columns.values(), key=lambda column: (-column["alarms"], column["name"]))


def _fixed_limits(rows: Sequence[Row]) -> dict[str, int]:
    """Return the number of slices that would alarm by the published limits of the PSI."""
    largest: dict[str, float] = {}
    for row in rows:
        if row["measure"] == "psi":
            largest[row["slice"]] = max(row["value"], largest.get(row["slice"], 0.0))
    return {str(limit): sum(v > limit for v in largest.values()) for limit in _PSI_LIMITS}


def _alarm(row: Row, counted: Mapping[tuple[Any, ...], Row]) -> dict[str, Any]:
    before, now = _pair(row, counted)
    kept = (
        "slice", "model_version", "scoring_run_id", "column", "role", "segment_by", "segment",
        "value", "low", "high", "chance", "adjusted_p_value", "rows", "explained_by",
    )  # fmt: skip
    words = describe(before, now) if before and now else []
    return {**{name: row[name] for name in kept}, "changes": words}


def _pair(row: Row, counted: Mapping[tuple[Any, ...], Row]) -> tuple[Row | None, Row | None]:
    """Return the distributions of the baseline and of a row of drift.

    There is none of the baseline if the slice was compared with another one, in other bins.
    """
    group = (row["segment_by"], row["segment"], row["column"])
    now = counted.get((row["slice"], row["scoring_run_id"], *group))
    before = counted.get((BASELINE, None, *group))
    same_bins = before and now and all(before[name] == now[name] for name in ("edges", "values"))
    return before if same_bins else None, now


def describe(before: Row, now: Row) -> list[str]:
    """Return what has changed between two distributions, in words, the largest changes first."""
    changes: list[tuple[float, str]] = []

    def add(what: str, old: float, new: float) -> None:
        if abs(new - old) >= _NOTICEABLE:
            changes.append((abs(new - old), f"{what}: {percent(new)} (baseline {percent(old)})"))

    shares = [{name: (row[name] or 0) / row["rows"] for name in _SPECIAL} for row in (before, now)]
    for name, words in _SPECIAL.items():
        add(words, shares[0][name], shares[1][name])
    if now["kind"] == "number" and now["mean"] is not None and before["mean"] is not None:
        scale = before["deviation"] or abs(before["mean"]) or 1.0
        moved = abs(now["mean"] - before["mean"]) / scale
        width = before["deviation"] or None
        words = f"mean: {number(now['mean'], width)} (baseline {number(before['mean'], width)})"
        changes.append((moved, words))
        outside = [(row["counts"][0] + row["counts"][-1]) / row["rows"] for row in (before, now)]
        add("outside of the baseline's range", *outside)
    if now["kind"] == "category":
        add("values that the baseline does not have", 0.0, (now["new"] or 0) / now["rows"])
        for value, old, new in zip(now["values"], before["counts"], now["counts"], strict=True):
            add(value, old / before["rows"], new / now["rows"])
    return [words for _, words in sorted(changes, key=lambda change: -change[0])[:3]]


_SPECIAL = {"nulls": "missing", "nans": "NaN", "infinite": "infinite"}


def _distributions(
    alarms: Sequence[Row], counted: Mapping[tuple[Any, ...], Row]
) -> list[dict[str, Any]]:
    """Return the distribution of each column that alarms, in the slice with the clearest alarm."""
    clearest: dict[str, Row] = {}
    for row in sorted(alarms, key=lambda row: (row["adjusted_p_value"], -row["value"])):
        if row["segment_by"] is None:
            clearest.setdefault(row["column"], row)
    shown = []
    for column, row in list(clearest.items())[:_MOST_DISTRIBUTIONS]:
        before, now = _pair(row, counted)
        if before and now and now["kind"] != "time":
            shown.append({"column": column, "slice": row["slice"], "bins": _bins(before, now)})
    return shown


def _bins(before: Row, now: Row) -> list[dict[str, Any]]:
    labels = _edges(now["edges"]) if now["kind"] == "number" else list(now["values"])
    counts = [list(before["counts"]), list(now["counts"])]
    for name, words in (("others", "other values"), ("new", "new values"), *_SPECIAL.items()):
        pair = [row[name] or 0 for row in (before, now)]
        if any(pair):
            labels.append(words)
            for side, count in zip(counts, pair, strict=True):
                side.append(count)
    return [
        {"label": label, "baseline": old / before["rows"], "now": new / now["rows"]}
        for label, old, new in zip(labels, *counts, strict=True)
    ]


def _edges(edges: Sequence[float]) -> list[str]:
    """Return the bins of numbers, in words."""
    first = math.nextafter(edges[0], math.inf)  # the smallest number of the baseline
    pairs = [(number(low), number(high)) for low, high in pairwise([first, *edges[1:]])]
    inner = [low if low == high else f"{low} to {high}" for low, high in pairs]
    return [f"below {number(first)}", *inner, f"above {number(edges[-1])}"]
