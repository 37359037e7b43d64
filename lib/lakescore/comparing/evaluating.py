"""Evaluating: all metrics of all versions over all rows, with intervals, ranks and counts.

The rows are added up where they are, in one pass; metrics that need an order take a second pass
over what is held of them: labels and predictions.
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

from lakescore.comparing import gathering, matching, metrics, ordering, passes, ranking
from lakescore.comparing.gathering import PART, Spec
from lakescore.errors import MetricUndefined, TooManySlices, WeightsInvalid
from lakescore.scanning import skip_batch_size_check

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from lakescore.comparing.gathering import Floats
    from lakescore.comparing.pairing import Paired
    from lakescore.comparing.ranking import Standing

for _module in (gathering, matching, ordering):
    cloudpickle.register_pickle_by_value(_module)  # type: ignore[no-untyped-call]

ALL = (-1, None)
"""The place of all rows, where others are slices: (column, value)."""
_SIGMAS = 6.0
"""How far from its quantile a bootstrap's may lie and still be found exactly."""
_MOST_CURVES = 20
"""Of more classes, areas under curves are left out."""

Place = tuple[int, str | None]


@dataclass(frozen=True)
class Part:
    """Standings of all versions on some of the rows."""

    by: str | None
    """The column of the slice; None where these are all rows."""
    value: str | None
    scope: str
    """`common`: the rows that every version could score; `own`: those that each could."""
    rows: Mapping[str, int]
    """By version."""
    standings: Mapping[str, Standing]
    """By metric."""


@dataclass(frozen=True)
class Evaluation:
    """What is known of several versions after all rows were seen."""

    rows: int
    """Labelled rows, whether versions could score them or not."""
    parts: Sequence[Part]
    """All rows first, in both scopes; then slices, the largest first."""
    histograms: Mapping[tuple[str, str], Floats]
    """By version and name: weights by bin, over the common rows."""
    cells: Mapping[str, Mapping[tuple[str, str], float]]
    """By version, the confusion matrix: (true, predicted) -> weight."""
    classes: Sequence[str] = field(default=())
    calibration: Mapping[str, Sequence[tuple[float, float, float]]] = field(default_factory=dict)
    """By version and bin of scores: weight, sum of scores, weight of those that are right."""

    @property
    def whole(self) -> Part:
        """All rows that every version could score."""
        return self.parts[0]

    @property
    def own(self) -> Part:
        """All rows, for each version those that it could score."""
        return self.parts[1]


@contextmanager
def held(paired: Paired) -> Iterator[Paired]:
    """Keep the rows while they are read again, so that each is predicted once."""
    with passes.held(paired.rows) as kept:
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
        paired: the rows, `held` since they are read again.
        replicates: how many bootstraps are drawn.
        seed: of the bootstraps.
        level: the confidence of intervals.
        custom: functions (labels, predictions) -> a number a row (or several), whose weighted mean
            is the metric (or what the function's `value` makes of the means). An attribute
            `greater_is_better` gives its direction; less is better without.

    Raises:
        MetricUndefined: no version has a value by the metric that ranks.
        WeightsInvalid: weights are missing or negative.
        TooManySlices: a column divides the rows into too many slices.
    """
    functions = dict(custom or {})
    draws = gathering.draws(replicates, seed)
    spec = _spec(paired, draws, functions)
    with _explained(paired):
        sums, counts = _gathered(paired.numbers, spec)
    rows = int(sums.get((ALL, -1, "", "rows"), np.zeros(1))[0])
    wrong = int(sums.get((ALL, -1, "", "wrong weights"), np.zeros(1))[0])
    if wrong:
        raise WeightsInvalid(wrong, rows)
    by_place = _arranged(sums, len(paired.uris))
    _check_slices(paired, by_place)
    ordered = _ordered(paired, spec, by_place, counts)
    parts = []
    for scope in ("common", "own"):
        places = sorted(by_place, key=lambda place: _order(by_place, place))
        for place in places if scope == "common" else [ALL]:
            found = _values(paired, by_place[place], ordered, place, scope, functions)
            parts.append(_part(paired, found, place, scope, level, functions))
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
        _by_value(function)
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


def _by_value(function: Callable[..., Any]) -> None:
    """Pickle a custom metric's own module by value: executors need not have it."""
    import sys  # noqa: PLC0415

    module = sys.modules.get(getattr(function, "__module__", ""))
    if module is not None and module.__name__.partition(".")[0] not in {
        "builtins",
        "numpy",
        "sklearn",
    }:
        cloudpickle.register_pickle_by_value(module)  # type: ignore[no-untyped-call]


@contextmanager
def _explained(paired: Paired) -> Iterator[None]:
    from pyspark.errors import PySparkException  # noqa: PLC0415

    try:
        yield
    except (PySparkException, ValueError) as error:
        found = re.search(r"slices by column (\d+) have more than (\d+) values", str(error))
        if found:
            raise TooManySlices(paired.slices[int(found[1])], int(found[2])) from error
        if "have more than" in str(error) and "classes" in str(error):
            reason = f"there are more than {gathering.MOST_CLASSES} classes"
            raise MetricUndefined(paired.problem.rank_by, reason) from error
        raise


def _gathered(rows: passes.Rows, spec: Spec) -> tuple[Summed, Summed]:
    """Return sums, and counts by bin; each by (place, version, scope, name)."""
    partial = passes.mapped(rows, gathering.gather(spec), gathering.SCHEMA)
    # Summed up once more by workers: thousands of tasks would be too much for the driver.
    alike = passes.together(partial, ["slice_by", "slice", "version", "name"])
    merged = passes.mapped(alike, gathering.merge, gathering.SCHEMA)
    sums: Summed = {}
    counts: Summed = {}
    for by, value, version, scope, name, bins, vector in passes.tuples(merged):
        key = ((by, value), version, scope, name)
        numbers = np.frombuffer(vector)
        if bins is None:
            sums[key] = numbers
        else:
            counts[key] = np.zeros(gathering.BINS)
            counts[key][np.frombuffer(bins, np.int64)] = numbers
    return sums, counts


def _arranged(sums: Summed, versions: int) -> Arranged:
    """Return sums by place, version and scope, `own` being those of all rows of a version."""
    by_place: Arranged = {ALL: {}}
    for (place, version, scope, name), vector in sums.items():
        if version >= 0 and not name.startswith("cell"):
            scopes = by_place.setdefault(place, {}).setdefault(version, {})
            scopes.setdefault(scope, {})[name] = vector
    for of_version in by_place.values():
        for version in range(versions):
            scopes = of_version.setdefault(version, {})
            common, extra = scopes.get("common", {}), scopes.pop("extra", {})
            own = dict(common)
            for name, vector in extra.items():
                together = np.maximum if name == "max_error" else np.add
                own[name] = together(own[name], vector) if name in own else vector
            scopes["common"], scopes["own"] = common, own
    return by_place


def _check_slices(paired: Paired, places: Iterable[Place]) -> None:
    """See that there are no more slices than one task may have: each task sees but some."""
    counts = Counter(by for by, _ in places)
    for by, name in enumerate(paired.slices):
        if counts[by] > gathering.MOST_SLICES:
            raise TooManySlices(name, gathering.MOST_SLICES)


def _order(by_place: Arranged, place: Place) -> tuple[int, float, str]:
    """Put all rows first, then slices column by column, the largest first."""
    rows = max((_rows(scopes, "common") for scopes in by_place[place].values()), default=0)
    return (place[0], -rows, str(place[1]))


def _rows(scopes: Mapping[str, Mapping[str, Any]], scope: str) -> int:
    return int(scopes.get(scope, {}).get("n", np.zeros(1))[0])


Ordered = dict[tuple[Place, int, str], dict[int | None, dict[str, Any]]]


def _ordered(paired: Paired, spec: Spec, by_place: Arranged, counts: Summed) -> Ordered:
    """Return what the walks along sorted rows found, by place, version, scope, and class."""
    groups = _groups(paired, spec, by_place, counts)
    if not groups:
        return {}
    layout = ordering.Layout(
        slices=len(paired.slices), versions=len(paired.uris), classes=paired.problem.classes
    )
    rows = passes.mapped(paired.numbers, ordering.expand(layout, groups), ordering.ROWS)
    with _skip_batch_size_check(rows):
        if paired.problem.classes:
            found = _areas(rows, spec)
        else:
            weights = {
                number: by_place[group.by, group.value][group.version][group.scope]["w"]
                for number, group in enumerate(groups)
            }
            found = _quantiles(rows, spec, weights)
    result: Ordered = defaultdict(dict)
    for number, vectors in found.items():
        group = groups[number]
        key = ((group.by, group.value), group.version, group.scope)
        result[key][group.class_] = vectors
    return result


@contextmanager
def _skip_batch_size_check(rows: passes.Rows) -> Iterator[None]:
    """Spare Spark to measure *rows*: labels and slices are few, so short, and else are numbers."""
    if not isinstance(rows, DataFrame):
        yield
        return
    with skip_batch_size_check(rows.sparkSession, lambda: [each.dataType for each in rows.schema]):
        yield


def _quantiles(
    rows: passes.Rows, spec: Spec, weights: Mapping[int, Floats]
) -> dict[int, dict[str, Any]]:
    """Return by group the values around each quantile; see `ordering.cross`."""
    cross = ordering.cross(spec.draws, weights, metrics.QUANTILES)
    walked = passes.mapped(passes.in_order(rows, whole=True), cross, ordering.FOUND)
    found: dict[int, dict[str, Any]] = defaultdict(dict)
    for _, number, name, vector in passes.tuples(walked):
        found[number][name] = np.frombuffer(vector)
    return found


def _areas(rows: passes.Rows, spec: Spec) -> dict[int, dict[str, Any]]:
    """Return by group the areas under its curves; see `ordering.walk`."""
    found: dict[int, dict[str, Any]] = defaultdict(dict)
    with passes.held(passes.in_order(rows, whole=False)) as ordered:
        totals = passes.mapped(ordered, ordering.add_up(spec.draws), ordering.FOUND)
        before, whole = _before(passes.tuples(totals))
        walked = passes.mapped(ordered, ordering.walk(spec.draws, before), ordering.FOUND)
        for _, number, name, vector in passes.tuples(walked):
            held_already = found[number].get(name, 0.0)
            found[number][name] = held_already + np.frombuffer(vector)
    for number, vectors in found.items():
        vectors["first"], vectors["second"] = whole[number]
    return found


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
            rows = _rows(scopes, scope)
            if not rows or (scope == "own" and rows == _rows(scopes, "common")):
                continue
            windows: tuple[float, ...] = ()
            if task == "regression":
                counted = [
                    counts.get((place, version, s, "absolute error")) for s in ("common", "extra")
                ]
                of_scope = [c for c in counted[: 1 if scope == "common" else 2] if c is not None]
                windows = _windows(np.sum(of_scope, axis=0), scopes[scope])
            group = ordering.Group(
                version=version, scope=scope, by=place[0], value=place[1], windows=windows
            )
            groups += [replace(group, class_=class_) for class_ in spec.of_interest or (None,)]
    return tuple(groups)


def _windows(counted: Floats, sums: Mapping[str, Floats]) -> tuple[float, ...]:
    """Return where errors must be sorted one by one: around each quantile, as far as it varies.

    The last window may have no end.
    """
    weight, squares = sums["w"][0], sums["ww"][0]
    below = np.cumsum(counted) / counted.sum()
    upper = gathering.edges()[1:]
    effective = weight * weight / squares
    found: list[tuple[float, float]] = []
    for q in metrics.QUANTILES.values():
        reach = _SIGMAS * math.sqrt(q * (1 - q) / effective) + _SIGMAS / effective
        first = int(np.searchsorted(below, q - reach))
        last = int(np.searchsorted(below, min(q + reach, 1.0)))
        low = upper[first - 1] if first else -np.inf
        high = upper[min(last, len(upper) - 1)]
        if found and found[-1][1] >= low:
            low = found.pop()[0]
        found.append((max(low, 0.0), high))
    edges = [edge for window in found for edge in window]
    return tuple(edges[:-1] if math.isinf(edges[-1]) else edges)


def _before(totals: Sequence[Any]) -> tuple[dict[tuple[int, int], Any], dict[int, Any]]:
    """Return by partition and group what comes before it, and by group the whole."""
    sums: dict[tuple[int, int], dict[str, Any]] = defaultdict(dict)
    for partition, number, name, vector in totals:
        sums[partition, number][name] = np.frombuffer(vector)
    before: dict[tuple[int, int], Any] = {}
    whole: dict[int, Any] = {}
    for partition, number in sorted(sums):
        own = sums[partition, number]
        first, second = whole.get(
            number, (np.zeros_like(own["first"]), np.zeros_like(own["second"]))
        )
        before[partition, number] = (first, second)
        whole[number] = (first + own["first"], second + own["second"])
    return before, whole


def _values(  # noqa: PLR0913, PLR0917 - a place has these coordinates
    paired: Paired,
    of_version: Mapping[int, Mapping[str, Mapping[str, Any]]],
    ordered: Ordered,
    place: Place,
    scope: str,
    functions: Mapping[str, Callable[..., Any]],
) -> dict[str, tuple[int, dict[str, Floats]]]:
    """Return by version how many rows there are, and each metric as a vector."""
    problem = paired.problem
    found: dict[str, tuple[int, dict[str, Floats]]] = {}
    for version, uri in enumerate(paired.uris):
        sums = of_version[version][scope]
        if not sums:
            found[uri] = (0, {})
            continue
        positive = problem.positive or _usual_positive(problem.task, problem.problem_type, sums)
        values = metrics.metrics_from_sums(
            problem.task, sums, positive=positive, width=len(problem.classes)
        )
        walked = ordered.get((place, version, scope)) or ordered.get((place, version, "common"))
        if walked and problem.task == "regression":
            values |= metrics.metrics_from_order(walked[None])
        elif walked:
            curves = {problem.classes[n]: walked[n] for n in walked if n is not None}
            values |= metrics.metrics_from_curves(curves, problem.positive)
        values |= metrics.custom_metrics(sums, functions)
        found[uri] = (int(sums["n"][0]), values)
    return found


def _usual_positive(task: str, problem_type: str, sums: Mapping[str, Any]) -> str | None:
    """Return 1 or true where labels and predictions are 0 and 1, or booleans."""
    if task != "labels" or problem_type == "multiclass":
        return None
    classes = set(metrics.classes_of(sums))
    if classes <= {"0", "1"}:
        return "1"
    return "true" if classes <= {"false", "true"} else None


def _part(  # noqa: PLR0913, PLR0917 - a place has these coordinates
    paired: Paired,
    found: Mapping[str, tuple[int, Mapping[str, Floats]]],
    place: Place,
    scope: str,
    level: float,
    functions: Mapping[str, Callable[..., Any]],
) -> Part:
    names = dict.fromkeys(name for _, values in found.values() for name in values)
    standings = {}
    for name in names:
        size = next(len(v[name]) for _, v in found.values() if name in v)
        vectors = {uri: v.get(name, np.full(size, np.nan)) for uri, (_, v) in found.items()}
        high = metrics.greater_is_better(name)
        if name in functions:
            high = bool(getattr(functions[name], "greater_is_better", False))
        standings[name] = ranking.stand(
            vectors, better_high=high, bounds=metrics.bounds(name), level=level
        )
    by = None if place[0] < 0 else paired.slices[place[0]]
    return Part(by, place[1], scope, {uri: rows for uri, (rows, _) in found.items()}, standings)


def _histograms(paired: Paired, counts: Summed) -> dict[tuple[str, str], Floats]:
    return {
        (paired.uris[version], name): vector
        for (place, version, scope, name), vector in counts.items()
        if place == ALL and scope == "common"
    }


def _cells(paired: Paired, sums: Summed) -> dict[str, dict[tuple[str, str], float]]:
    found: dict[str, dict[tuple[str, str], float]] = defaultdict(dict)
    for (_, version, scope, name), vector in sums.items():
        if name.startswith("cell" + PART) and scope == "common":
            _, true, predicted = name.split(PART)
            found[paired.uris[version]][true, predicted] = float(vector[0])
    return dict(found)


def _calibration(paired: Paired, by_place: Arranged) -> dict[str, list[tuple[float, float, float]]]:
    found = {}
    for version, uri in enumerate(paired.uris):
        sums = by_place[ALL][version]["common"]
        if paired.problem.task == "scores" and sums:
            names = [f"bin {what}{PART}" for what in ("weight", "score", "right")]
            found[uri] = [
                (float(sums[f"{names[0]}{n}"][0]), float(sums[f"{names[1]}{n}"][0]),
                 float(sums[f"{names[2]}{n}"][0]))
                for n in range(gathering.BINS_OF_CALIBRATION)
            ]  # fmt: skip
    return found


def _classes(paired: Paired, by_place: Arranged) -> list[str]:
    found = dict.fromkeys(paired.problem.classes)
    for scopes in by_place[ALL].values():
        if scopes["own"]:
            found |= dict.fromkeys(metrics.classes_of(scopes["own"]))
    return list(found)


def _check_ranked(paired: Paired, evaluation: Evaluation) -> None:
    rank_by = paired.problem.rank_by
    standing = evaluation.whole.standings.get(rank_by)
    if standing is not None and any(not math.isnan(v.value) for v in standing.estimates.values()):
        return
    labels = passes.different(paired.rows, "label")
    scored = max(evaluation.whole.rows.values(), default=0)
    if evaluation.rows and not scored:
        reason = f"no row of {evaluation.rows} could be scored by every version"
    else:
        reason = f"{evaluation.rows} labelled rows with {labels} different labels"
    raise MetricUndefined(rank_by, reason)
