"""Walking: the passes over sorted rows, for the metrics that need an order.

Their rows are the held columns, labels and predictions. The sums of the first pass tell which rows
must be sorted.
"""

from __future__ import annotations

import math
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from pyspark.sql import DataFrame

from lakescore.comparing import binning, formulas, ordering, passes
from lakescore.comparing.totals import ALL, Arranged, Place, Summed, row_count
from lakescore.scanning import skip_batch_size_check

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from lakescore.comparing.batches import Floats
    from lakescore.comparing.gathering import Spec
    from lakescore.comparing.pairing import Paired

_SIGMAS = 6.0
"""How far, in standard errors, a bootstrap's quantile can lie from the quantile and be exact."""
Walked = dict[tuple[Place, int, str], dict[int | None, dict[str, Any]]]


def walk_sorted_rows(paired: Paired, spec: Spec, by_place: Arranged, counts: Summed) -> Walked:
    """Walk along the sorted rows; return the vectors by place, version and scope, and by class."""
    groups = _groups(paired, spec, by_place, counts)
    if not groups:
        return {}
    layout = ordering.Layout(
        slices=len(paired.slices), versions=len(paired.uris), classes=paired.problem.classes
    )
    rows = passes.mapped(paired.numbers, ordering.expand(layout, groups), ordering.ROWS)
    with _skip_batch_size_check(rows):
        if paired.problem.classes:
            by_group = _areas(rows, spec)
        else:
            weights = {
                number: by_place[group.by, group.value][group.version][group.scope]["w"]
                for number, group in enumerate(groups)
            }
            by_group = _quantiles(rows, spec, weights)
    result: Walked = defaultdict(dict)
    for number, vectors in by_group.items():
        group = groups[number]
        key = ((group.by, group.value), group.version, group.scope)
        result[key][group.class_] = vectors
    return result


@contextmanager
def _skip_batch_size_check(rows: passes.Rows) -> Iterator[None]:
    """Spare Spark to measure *rows*, whose columns are numbers and a few short texts."""
    if not isinstance(rows, DataFrame):
        yield
        return
    with skip_batch_size_check(
        rows.sparkSession, lambda: [field.dataType for field in rows.schema]
    ):
        yield


def _quantiles(
    rows: passes.Rows, spec: Spec, weights: Mapping[int, Floats]
) -> dict[int, dict[str, Any]]:
    """Return by group the values around each quantile; see `ordering.cross`."""
    cross = ordering.cross(spec.draws, weights, formulas.QUANTILES)
    walked = passes.mapped(passes.in_order(rows, one_partition=True), cross, ordering.RESULTS)
    by_group: dict[int, dict[str, Any]] = defaultdict(dict)
    for _, number, name, vector in passes.tuples(walked):
        by_group[number][name] = np.frombuffer(vector)
    return by_group


def _areas(rows: passes.Rows, spec: Spec) -> dict[int, dict[str, Any]]:
    """Return by group the areas under its curves; see `ordering.walk`."""
    by_group: dict[int, dict[str, Any]] = defaultdict(dict)
    with passes.cached(passes.in_order(rows, one_partition=False)) as ordered:
        totals = passes.mapped(ordered, ordering.add_up(spec.draws), ordering.RESULTS)
        before, totals_by_group = _weights_before(passes.tuples(totals))
        walked = passes.mapped(ordered, ordering.walk(spec.draws, before), ordering.RESULTS)
        for _, number, name, vector in passes.tuples(walked):
            so_far = by_group[number].get(name, 0.0)
            by_group[number][name] = so_far + np.frombuffer(vector)
    for number, vectors in by_group.items():
        vectors["first"], vectors["second"] = totals_by_group[number]
    return by_group


def _groups(
    paired: Paired, spec: Spec, by_place: Arranged, counts: Summed
) -> tuple[ordering.Group, ...]:
    task = paired.problem.task
    if task == "labels" or (task == "scores" and not spec.of_interest):
        return ()
    groups: list[ordering.Group] = []
    for place, version in product(by_place, range(len(paired.uris))):
        scopes = by_place[place][version]
        for scope in ("common", "own") if place == ALL else ("common",):
            rows = row_count(scopes, scope)
            if not rows or (scope == "own" and rows == row_count(scopes, "common")):
                continue
            windows: tuple[float, ...] = ()
            if task == "regression":
                scope_bins = [
                    counts.get((place, version, part_scope, "absolute error"))
                    for part_scope in ("common", "extra")
                ]
                present = [
                    bins for bins in scope_bins[: 1 if scope == "common" else 2] if bins is not None
                ]
                windows = _windows(np.sum(present, axis=0), scopes[scope])
            group = ordering.Group(
                version=version, scope=scope, by=place[0], value=place[1], windows=windows
            )
            groups += [replace(group, class_=class_) for class_ in spec.of_interest or (None,)]
    return tuple(groups)


def _windows(counted: Floats, sums: Mapping[str, Floats]) -> tuple[float, ...]:
    """Return the windows around the quantiles, in which errors must be sorted one by one.

    A window is wide enough for the quantile in each bootstrap. The last window can have no end.
    """
    weight, squares = sums["w"][0], sums["ww"][0]
    below = np.cumsum(counted) / counted.sum()
    upper = binning.edges()[1:]
    effective = weight * weight / squares
    windows: list[tuple[float, float]] = []
    for q in formulas.QUANTILES.values():
        reach = _SIGMAS * math.sqrt(q * (1 - q) / effective) + _SIGMAS / effective
        first = int(np.searchsorted(below, q - reach))
        last = int(np.searchsorted(below, min(q + reach, 1.0)))
        low = upper[first - 1] if first else -np.inf
        high = upper[min(last, len(upper) - 1)]
        if windows and windows[-1][1] >= low:
            low = windows.pop()[0]
        windows.append((max(low, 0.0), high))
    edges = [edge for window in windows for edge in window]
    return tuple(edges[:-1] if math.isinf(edges[-1]) else edges)


def _weights_before(totals: Sequence[Any]) -> tuple[dict[tuple[int, int], Any], dict[int, Any]]:
    """Return by partition and group the weights before it, and by group the weights in all."""
    sums: dict[tuple[int, int], dict[str, Any]] = defaultdict(dict)
    for partition, number, name, vector in totals:
        sums[partition, number][name] = np.frombuffer(vector)
    before: dict[tuple[int, int], Any] = {}
    total_weights: dict[int, Any] = {}
    for partition, number in sorted(sums):
        group_sums = sums[partition, number]
        first, second = total_weights.get(
            number, (np.zeros_like(group_sums["first"]), np.zeros_like(group_sums["second"]))
        )
        before[partition, number] = (first, second)
        total_weights[number] = (first + group_sums["first"], second + group_sums["second"])
    return before, total_weights
