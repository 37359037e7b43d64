"""Evaluating: all metrics of all versions over all rows, with intervals, ranks and counts.

Workers add up the rows in one pass. Metrics that need sorted rows take a second pass over the held
columns: labels and predictions.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from pyspark import cloudpickle
from pyspark.sql import DataFrame

from lakescore import metrics
from lakescore.comparing import (
    batches,
    binning,
    bootstrapping,
    formulas,
    gathering,
    matching,
    ordering,
    passes,
    ranking,
    terms,
)
from lakescore.comparing.errors import MetricUndefined, TooManySlices, WeightsInvalid
from lakescore.comparing.gathering import PART, Spec
from lakescore.metrics import Metric
from lakescore.scanning import skip_batch_size_check

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from lakescore.comparing.batches import Floats
    from lakescore.comparing.pairing import Paired
    from lakescore.comparing.ranking import Standing

for _module in (batches, binning, bootstrapping, gathering, matching, ordering, terms):
    cloudpickle.register_pickle_by_value(_module)  # type: ignore[no-untyped-call]

ALL = (-1, None)
"""The place of all rows; the other places are slices: (column, value)."""
_SIGMAS = 6.0
"""How far, in standard errors, a bootstrap's quantile can lie from the quantile and be exact."""
_MOST_CURVES = 20
"""If there are more classes, there are no areas under curves."""

Place = tuple[int, str | None]


@dataclass(frozen=True)
class Part:
    """Standings of all versions on some of the rows."""

    by: str | None
    """The column of the slice; None if the part is all rows."""
    value: str | None
    scope: str
    """`common`: rows that every version could score; `own`: for each version its scored rows."""
    rows: Mapping[str, int]
    """By version."""
    standings: Mapping[str, Standing]
    """By metric."""


@dataclass(frozen=True)
class Evaluation:
    """The results of several versions over all rows."""

    rows: int
    """The number of labelled rows, with those that versions could not score."""
    parts: Sequence[Part]
    """All rows first, in both scopes; then the slices, the largest first."""
    histograms: Mapping[tuple[str, str], Floats]
    """By version and name: weights by bin, over the common rows."""
    cells: Mapping[str, Mapping[tuple[str, str], float]]
    """By version, the confusion matrix: (true, predicted) -> weight."""
    classes: Sequence[str] = field(default=())
    calibration: Mapping[str, Sequence[tuple[float, float, float]]] = field(default_factory=dict)
    """By version and bin of scores: weight, sum of scores, weight of the correct rows."""

    @property
    def whole(self) -> Part:
        """All rows that every version could score."""
        return self.parts[0]

    @property
    def own(self) -> Part:
        """For each version, all rows that it could score."""
        return self.parts[1]


@contextmanager
def cached(paired: Paired) -> Iterator[Paired]:
    """Keep the rows while they are read again, so that each row is predicted once."""
    with passes.cached(paired.rows) as kept:
        yield replace(paired, rows=kept)


def evaluate(
    paired: Paired,
    *,
    replicates: int,
    seed: int = 0,
    level: float = 0.95,
    custom: Mapping[str, Callable[..., Any]] | None = None,
) -> Evaluation:
    """Return all metrics of all versions, over all rows and over each slice.

    Args:
        paired: the rows, kept by `held` because they are read again.
        replicates: the number of bootstraps.
        seed: the seed of the bootstraps.
        level: the confidence of intervals.
        custom: functions (labels, predictions) -> one number for each row, or several. Their
            weighted mean is the metric. If the function has an attribute `value`, that function
            computes the metric from the means. An attribute `greater_is_better` gives the
            direction; without it, less is better.

    Raises:
        MetricUndefined: no version has a value of the metric that ranks.
        WeightsInvalid: weights are missing or negative.
        TooManySlices: a column divides the rows into too many slices.
    """
    functions = dict(custom or {})
    draws = bootstrapping.draws(replicates, seed)
    spec = _spec(paired, draws, functions)
    with _explain_errors(paired):
        sums, counts = _gather_sums(paired.numbers, spec)
    rows = int(sums.get((ALL, -1, "", "rows"), np.zeros(1))[0])
    invalid_weights = int(sums.get((ALL, -1, "", "wrong weights"), np.zeros(1))[0])
    if invalid_weights:
        raise WeightsInvalid(invalid_weights, rows)
    by_place = _arrange_sums(sums, len(paired.uris))
    _check_slices(paired, by_place)
    walked = _walk_sorted_rows(paired, spec, by_place, counts)
    parts = []
    for scope in ("common", "own"):
        places = sorted(by_place, key=lambda place: _place_order(by_place, place))
        for place in places if scope == "common" else [ALL]:
            vectors = _metric_vectors(paired, by_place[place], walked, place, scope, functions)
            parts.append(_part(paired, vectors, place, scope, level, functions))
    parts.sort(key=lambda part: part.by is not None)
    evaluation = Evaluation(
        rows=rows,
        parts=parts,
        histograms=_histograms(paired, counts),
        cells=_cells(paired, sums),
        classes=_classes(paired, by_place),
        calibration=_calibration(paired, by_place),
    )
    _check_ranked(paired, evaluation)
    return evaluation


Summed = dict[tuple[Place, int, str, str], Any]
Arranged = dict[Place, dict[int, dict[str, dict[str, Any]]]]


def _spec(paired: Paired, draws: Any, functions: Mapping[str, Callable[..., Any]]) -> Spec:  # noqa: ANN401 - an array
    problem = paired.problem
    shift = 0.0
    if problem.task == "regression":
        sample = passes.first(passes.select(paired.rows, ["label"]), 200).column(0).to_numpy()
        shift = float(np.median(sample)) if len(sample) else 0.0
    interest: tuple[int, ...] = ()
    if problem.positive in problem.classes:
        interest = (problem.classes.index(str(problem.positive)),)
    elif len(problem.classes) <= _MOST_CURVES:
        interest = tuple(range(len(problem.classes)))
    for function in functions.values():
        _pickle_by_value(function)
    return Spec(
        task=problem.task,
        versions=len(paired.uris),
        slices=len(paired.slices),
        draws=draws,
        shift=shift,
        classes=problem.classes,
        of_interest=interest,
        threshold=problem.threshold,
        custom=tuple(functions.items()),
    )


def _pickle_by_value(function: Callable[..., Any]) -> None:
    """Pickle the module of a custom metric by value, because executors may not have it."""
    import sys  # noqa: PLC0415

    module = sys.modules.get(getattr(function, "__module__", ""))
    if module is not None and module.__name__.partition(".")[0] not in {
        "builtins",
        "numpy",
        "sklearn",
    }:
        cloudpickle.register_pickle_by_value(module)  # type: ignore[no-untyped-call]


@contextmanager
def _explain_errors(paired: Paired) -> Iterator[None]:
    from pyspark.errors import PySparkException  # noqa: PLC0415

    try:
        yield
    except (PySparkException, ValueError) as error:
        match = re.search(r"slices by column (\d+) have more than (\d+) values", str(error))
        if match:
            raise TooManySlices(paired.slices[int(match[1])], int(match[2])) from error
        if "have more than" in str(error) and "classes" in str(error):
            reason = f"there are more than {gathering.MOST_CLASSES} classes"
            raise MetricUndefined(paired.problem.rank_by, reason) from error
        raise


def _gather_sums(rows: passes.Rows, spec: Spec) -> tuple[Summed, Summed]:
    """Return sums, and counts by bin; each by (place, version, scope, name)."""
    partial = passes.mapped(rows, gathering.gather(spec), gathering.SCHEMA)
    # Workers merge the sums, because the sums of thousands of tasks are too much for the driver.
    grouped = passes.together(partial, ["slice_by", "slice", "version", "name"])
    merged = passes.mapped(grouped, gathering.merge, gathering.SCHEMA)
    sums: Summed = {}
    counts: Summed = {}
    for by, value, version, scope, name, bins, vector in passes.tuples(merged):
        key = ((by, value), version, scope, name)
        numbers = np.frombuffer(vector)
        if bins is None:
            sums[key] = numbers
        else:
            counts[key] = np.zeros(binning.BINS)
            counts[key][np.frombuffer(bins, np.int64)] = numbers
    return sums, counts


def _arrange_sums(sums: Summed, versions: int) -> Arranged:
    """Return sums by place, version and scope; `own` has all rows that the version could score."""
    by_place: Arranged = {ALL: {}}
    for (place, version, scope, name), vector in sums.items():
        if version >= 0 and not name.startswith("cell"):
            scopes = by_place.setdefault(place, {}).setdefault(version, {})
            scopes.setdefault(scope, {})[name] = vector
    for by_version in by_place.values():
        for version in range(versions):
            scopes = by_version.setdefault(version, {})
            common, extra = scopes.get("common", {}), scopes.pop("extra", {})
            own = dict(common)
            for name, vector in extra.items():
                if name in own:
                    own[name] = gathering.combine(name, own[name], vector)
                else:
                    own[name] = vector
            scopes["common"], scopes["own"] = common, own
    return by_place


def _check_slices(paired: Paired, places: Iterable[Place]) -> None:
    """Check the number of slices over all tasks, because each task sees only some of the rows."""
    counts = Counter(by for by, _ in places)
    for by, name in enumerate(paired.slices):
        if counts[by] > gathering.MOST_SLICES:
            raise TooManySlices(name, gathering.MOST_SLICES)


def _place_order(by_place: Arranged, place: Place) -> tuple[int, float, str]:
    """Return the sort key: all rows first, then slices column by column, the largest first."""
    rows = max((_row_count(scopes, "common") for scopes in by_place[place].values()), default=0)
    return (place[0], -rows, str(place[1]))


def _row_count(scopes: Mapping[str, Mapping[str, Any]], scope: str) -> int:
    return int(scopes.get(scope, {}).get("n", np.zeros(1))[0])


Walked = dict[tuple[Place, int, str], dict[int | None, dict[str, Any]]]


def _walk_sorted_rows(paired: Paired, spec: Spec, by_place: Arranged, counts: Summed) -> Walked:
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
            rows = _row_count(scopes, scope)
            if not rows or (scope == "own" and rows == _row_count(scopes, "common")):
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


def _metric_vectors(  # noqa: PLR0913, PLR0917 - a place has these coordinates
    paired: Paired,
    by_version: Mapping[int, Mapping[str, Mapping[str, Any]]],
    ordered: Walked,
    place: Place,
    scope: str,
    functions: Mapping[str, Callable[..., Any]],
) -> dict[str, tuple[int, dict[str, Floats]]]:
    """Return by version the number of rows and a vector for each metric."""
    problem = paired.problem
    by_uri: dict[str, tuple[int, dict[str, Floats]]] = {}
    for version, uri in enumerate(paired.uris):
        sums = by_version[version][scope]
        if not sums:
            by_uri[uri] = (0, {})
            continue
        positive = problem.positive or _default_positive(problem.task, problem.problem_type, sums)
        values = formulas.metrics_from_sums(
            problem.task, sums, positive=positive, width=len(problem.classes)
        )
        walked = ordered.get((place, version, scope)) or ordered.get((place, version, "common"))
        if walked and problem.task == "regression":
            values |= formulas.metrics_from_order(walked[None])
        elif walked:
            curves = {problem.classes[n]: walked[n] for n in walked if n is not None}
            values |= formulas.metrics_from_curves(curves, problem.positive)
        values |= formulas.custom_metrics(sums, functions)
        by_uri[uri] = (int(sums["n"][0]), values)
    return by_uri


def _default_positive(task: str, problem_type: str, sums: Mapping[str, Any]) -> str | None:
    """Return the class 1 or true if labels and predictions are 0 and 1, or booleans."""
    if task != "labels" or problem_type == "multiclass":
        return None
    classes = set(formulas.classes_of(sums))
    if classes <= {"0", "1"}:
        return "1"
    return "true" if classes <= {"false", "true"} else None


def _part(  # noqa: PLR0913, PLR0917 - a place has these coordinates
    paired: Paired,
    vectors_by_uri: Mapping[str, tuple[int, Mapping[str, Floats]]],
    place: Place,
    scope: str,
    level: float,
    functions: Mapping[str, Callable[..., Any]],
) -> Part:
    names = dict.fromkeys(name for _, values in vectors_by_uri.values() for name in values)
    standings = {}
    for name in names:
        size = next(len(values[name]) for _, values in vectors_by_uri.values() if name in values)
        vectors = {
            uri: values.get(name, np.full(size, np.nan))
            for uri, (_, values) in vectors_by_uri.items()
        }
        metric = _metric(name, functions)
        if len(paired.problem.classes) == 2:  # noqa: PLR2004 - classes
            metric = metric.of_two_classes()
        standings[name] = ranking.stand(
            vectors,
            better_high=metric.greater_is_better,
            bounds=(metric.least, metric.most),
            level=level,
        )
    by = None if place[0] < 0 else paired.slices[place[0]]
    return Part(
        by, place[1], scope, {uri: rows for uri, (rows, _) in vectors_by_uri.items()}, standings
    )


def _metric(name: str, functions: Mapping[str, Callable[..., Any]]) -> Metric:
    """Return the metric *name*; of a custom one, what its function says."""
    if name not in functions and (known := metrics.find(name)) is not None:
        return known
    better = bool(getattr(functions[name], "greater_is_better", False))
    return Metric(name=name, task="regression", greater_is_better=better, least=-math.inf)


def _histograms(paired: Paired, counts: Summed) -> dict[tuple[str, str], Floats]:
    return {
        (paired.uris[version], name): vector
        for (place, version, scope, name), vector in counts.items()
        if place == ALL and scope == "common"
    }


def _cells(paired: Paired, sums: Summed) -> dict[str, dict[tuple[str, str], float]]:
    by_uri: dict[str, dict[tuple[str, str], float]] = defaultdict(dict)
    for (_, version, scope, name), vector in sums.items():
        if name.startswith("cell" + PART) and scope == "common":
            _, true, predicted = name.split(PART)
            by_uri[paired.uris[version]][true, predicted] = float(vector[0])
    return dict(by_uri)


def _calibration(paired: Paired, by_place: Arranged) -> dict[str, list[tuple[float, float, float]]]:
    by_uri = {}
    for version, uri in enumerate(paired.uris):
        sums = by_place[ALL][version]["common"]
        if paired.problem.task == "scores" and sums:
            names = [f"bin {quantity}{PART}" for quantity in ("weight", "score", "right")]
            by_uri[uri] = [
                (float(sums[f"{names[0]}{n}"][0]), float(sums[f"{names[1]}{n}"][0]),
                 float(sums[f"{names[2]}{n}"][0]))
                for n in range(binning.BINS_OF_CALIBRATION)
            ]  # fmt: skip
    return by_uri


def _classes(paired: Paired, by_place: Arranged) -> list[str]:
    classes = dict.fromkeys(paired.problem.classes)
    for scopes in by_place[ALL].values():
        if scopes["own"]:
            classes |= dict.fromkeys(formulas.classes_of(scopes["own"]))
    return list(classes)


def _check_ranked(paired: Paired, evaluation: Evaluation) -> None:
    rank_by = paired.problem.rank_by
    standing = evaluation.whole.standings.get(rank_by)
    if standing is not None and any(
        not math.isnan(estimate.value) for estimate in standing.estimates.values()
    ):
        return
    labels = passes.different(paired.rows, "label")
    scored = max(evaluation.whole.rows.values(), default=0)
    if evaluation.rows and not scored:
        reason = f"no row of {evaluation.rows} could be scored by every version"
    else:
        reason = f"{evaluation.rows} labelled rows with {labels} different labels"
    raise MetricUndefined(rank_by, reason)
