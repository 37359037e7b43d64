"""Evaluating: all metrics of all versions over all rows, with intervals, ranks and counts.

Workers add up the rows in one pass (`totals`). Metrics that need sorted rows take a second pass
over the held columns, labels and predictions (`walking`).
"""

from __future__ import annotations

import math
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lakescore import metrics
from lakescore.comparing import binning, bootstrapping, formulas, passes, ranking
from lakescore.comparing.errors import MetricUndefined, WeightsInvalid
from lakescore.comparing.gathering import PART
from lakescore.comparing.totals import (
    ALL,
    Arranged,
    Place,
    Summed,
    arrange_sums,
    check_slices,
    gather_sums,
    make_spec,
    place_order,
    row_count,
)
from lakescore.comparing.walking import Walked, walk_sorted_rows
from lakescore.metrics import Metric

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from lakescore.comparing.batches import Floats
    from lakescore.comparing.formulas import Rate
    from lakescore.comparing.pairing import Paired
    from lakescore.comparing.ranking import Standing


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
    scored: Mapping[str, int] = field(default_factory=dict)
    """By version, the number of rows that it could score, whether the others could or not."""
    vectors: Mapping[str, Mapping[str, Floats]] = field(default_factory=dict)
    """By metric that is kept and by version, its values over all rows and over each bootstrap."""
    rates: Mapping[str, Mapping[str, Rate]] = field(default_factory=dict)
    """By version, the rates of a group of rows; see `formulas.group_rates`."""

    @property
    def text(self) -> str:
        """The part in words: `all`, or a slice such as `origin=JFK`."""
        if self.by is None:
            return "all"
        return f"{self.by} is null" if self.value is None else f"{self.by}={self.value}"


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


def evaluate(  # noqa: PLR0913 - all but one by keyword
    paired: Paired,
    *,
    replicates: int,
    seed: int = 0,
    level: float = 0.95,
    custom: Mapping[str, Callable[..., Any]] | None = None,
    kept: Collection[str] = (),
    grouped: Collection[str] = (),
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
        kept: the metrics whose bootstraps are kept for each part.
        grouped: the columns of slices that get rates.

    Raises:
        MetricUndefined: no version has a value of the metric that ranks.
        WeightsInvalid: weights are missing or negative.
        TooManySlices: a column divides the rows into too many slices.
    """
    functions = dict(custom or {})
    draws = bootstrapping.draws(replicates, seed)
    spec = make_spec(paired, draws, functions)
    sums, counts = gather_sums(paired, spec)
    rows = int(sums.get((ALL, -1, "", "rows"), np.zeros(1))[0])
    invalid_weights = int(sums.get((ALL, -1, "", "wrong weights"), np.zeros(1))[0])
    if invalid_weights:
        raise WeightsInvalid(invalid_weights, rows)
    by_place = arrange_sums(sums, len(paired.uris))
    check_slices(paired, by_place)
    walked = walk_sorted_rows(paired, spec, by_place, counts)
    parts = []
    for scope in ("common", "own"):
        places = sorted(by_place, key=lambda place: place_order(by_place, place))
        for place in places if scope == "common" else [ALL]:
            vectors = _metric_vectors(paired, by_place[place], walked, place, scope, functions)
            part = _part(paired, vectors, place, scope, level, functions, kept)
            scored = {
                uri: row_count(by_place[place][version], "own")
                for version, uri in enumerate(paired.uris)
            }
            rates = _rates(paired, by_place, place) if part.by in grouped else {}
            parts.append(replace(part, scored=scored, rates=rates))
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


def _rates(paired: Paired, by_place: Arranged, place: Place) -> dict[str, dict[str, Rate]]:
    """Return the rates by version; nothing if the whole holdout has no positive class."""
    problem = paired.problem
    by_uri = {}
    for version, uri in enumerate(paired.uris):
        sums, whole = (by_place[where][version]["common"] for where in (place, ALL))
        if problem.task == "regression" or not sums:
            continue
        positive = problem.positive or _default_positive(problem.task, problem.problem_type, whole)
        if positive is not None:
            by_uri[uri] = formulas.group_rates(sums, positive)
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
    kept: Collection[str],
) -> Part:
    names = dict.fromkeys(name for _, values in vectors_by_uri.values() for name in values)
    standings, kept_vectors = {}, {}
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
        if name in kept:
            kept_vectors[name] = vectors
    return Part(
        by=None if place[0] < 0 else paired.slices[place[0]],
        value=place[1],
        scope=scope,
        rows={uri: rows for uri, (rows, _) in vectors_by_uri.items()},
        standings=standings,
        vectors=kept_vectors,
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
