"""The document: all that a comparison found, as one JSON value; docs/report.md lists its keys.

The report's page embeds it and draws from nothing else.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import yaml

from lakescore.comparing import gathering
from lakescore.comparing.gathering import PART
from lakescore.encoding import REPORT_FORMAT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from lakescore.assignment import Assignment
    from lakescore.comparing.candidates import Candidates
    from lakescore.comparing.comparison import Comparison
    from lakescore.comparing.evaluating import Part
    from lakescore.comparing.gathering import Floats
    from lakescore.comparing.ranking import Interval, Standing

_OF_THE_RUN = ("run_id", "holdout", "label", "where", "engine", "tables", "gates")
_OF_ONE = ("version", "run_id", "run_name", "logged_model_id", "digest")
"""What a family has none of."""
_AGAIN = "again.yaml"
_BARS = 60
_POINTS = 200
_MANY = 0.005
"""The share of rows on either side that a histogram's last bars gather."""

_TEXTS = ("model_uri", "metric", "slice_by", "slice", "scope")
_NUMBERS = ("value", "low", "high", "difference", "difference_low", "difference_high")
_LINES = pa.schema(
    [
        ("rank", pa.int32()),
        ("model_name", pa.string()),
        ("model_version", pa.int32()),
        *[(name, pa.string()) for name in _TEXTS],
        ("rows", pa.int64()),
        *[(name, pa.float64()) for name in _NUMBERS],
    ]
)


def lines(comparison: Comparison) -> list[dict[str, Any]]:
    """Return the metrics in long form: a mapping a version, metric, slice and scope.

    `rank` is by that metric in that slice; `difference` is to the baseline, null for itself. Both
    are null over each version's own rows, since these are not the same.
    """
    return [
        {
            "uri": uri,
            "metric": metric,
            "slice_by": part.by,
            "slice": _slice(part),
            "scope": part.scope,
            "rows": part.rows[uri],
            "small": part.rows[uri] < comparison.small,
            "rank": standing.ranks[uri] if part.scope == "common" else None,
            **standing.estimates[uri].facts(),
            **_difference(part, standing, (uri, comparison.candidates.baseline)),
        }
        for part in comparison.evaluation.parts
        for metric, standing in part.standings.items()
        for uri in comparison.paired.uris
    ]


def long_form(comparison: Comparison) -> pa.Table:
    """Return the metrics as rows of a table: those of `lines`; families have no model_version."""
    rows = []
    for line in lines(comparison):
        assigned = comparison.candidates.assigned[line["uri"]]
        version = assigned.models[0].version if assigned.by is None else None
        rows.append(
            (
                line["rank"], assigned.name, version, assigned.uri, line["metric"],
                line["slice_by"], line["slice"], line["scope"], line["rows"],
                *[line[name] for name in _NUMBERS],
            )
        )  # fmt: skip
    columns = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in _LINES]
    return pa.table(
        [pa.array(c, f.type) for c, f in zip(columns, _LINES, strict=True)], schema=_LINES
    )


def headline(comparison: Comparison) -> str:
    """Say in a sentence which version is best, by how much, how sure, on how many rows."""
    standing = comparison.evaluation.whole.standings[comparison.rank_by]
    ordered, rank_by = list(standing.ordered), comparison.rank_by
    names = {uri: uri.removeprefix("models:/") for uri in ordered}
    rows = comparison.evaluation.whole.rows[ordered[0]]
    best = f"{rank_by} {_said(standing.estimates[ordered[0]])} on {rows:,} rows"
    if len(ordered) == 1:
        return f"{names[ordered[0]]} alone has a value: {best}."
    leaders = [uri for uri in ordered if standing.ranks[uri] == 1]
    others = [uri for uri in ordered if standing.ranks[uri] != 1]
    if len(leaders) > 1:
        who = f"{', '.join(names[uri] for uri in leaders[:-1])} and {names[leaders[-1]]}"
        sentence = f"Too close to call between {who}: {names[leaders[0]]} has {best}"
    else:
        sentence = f"{names[leaders[0]]} is best: {best}"
    if others:
        gap = standing.differences[ordered[0], others[0]]
        less, more = sorted((abs(gap.low), abs(gap.high)))
        sentence += (
            f", better than {names[others[0]]} by {abs(gap.value):.4g} ({less:.4g} to {more:.4g})"
        )
    return sentence + "."


def document(
    comparison: Comparison, report: Mapping[str, Any], again: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the whole comparison as plain JSON values, which `docs/report.md` describes.

    Args:
        comparison: what was found.
        report: the receipt, of which `_OF_THE_RUN` are taken.
        again: a job's file that gives the same results, with all of it pinned.
    """
    evaluation, problem = comparison.evaluation, comparison.paired.problem
    standing = evaluation.whole.standings[problem.rank_by]
    uris = comparison.paired.uris
    return {
        "format": REPORT_FORMAT,
        "source": "compare",
        "made_at": report["compared_at"],
        **{key: report.get(key) for key in _OF_THE_RUN},
        "verdict": _on_which_data(comparison, report["holdout"]),
        "problem": {
            "type": problem.problem_type,
            "predictions": problem.task,
            "rank_by": problem.rank_by,
            "greater_is_better": standing.better_high,
            "classes": list(evaluation.classes),
            "positive_class": problem.positive,
            "threshold": problem.threshold,
        },
        "rows": {"labelled": evaluation.rows, "common": max(evaluation.whole.rows.values())},
        "uncertainty": {
            "confidence": comparison.confidence,
            "bootstraps": comparison.bootstraps,
            "seed": comparison.seed,
            "pairs": len(uris) * (len(uris) - 1) // 2,
            "standard_errors": _known(standing.width),
            "correction": _correction(len(uris), standing.width, comparison.confidence),
        },
        "baseline": comparison.candidates.baseline,
        "versions": [_version(comparison, uri) for uri in comparison.ordered],
        "metrics": lines(comparison),
        "histograms": list(_histograms(comparison)),
        "curves": list(_curves(comparison)),
        "calibration": list(_calibration(comparison)),
        "confusion": [
            {"uri": uri, "true": true, "predicted": predicted, "weight": weight}
            for uri, cells in evaluation.cells.items()
            for (true, predicted), weight in sorted(cells.items())
        ],
        "flips": [dict(each) for each in comparison.flips],
        "shifts": [{"uri": uri, "psi": psi} for uri, psi in comparison.shifts.items()],
        "repeat": _repeat(again, comparison.candidates),
    }


def _on_which_data(comparison: Comparison, holdout: Mapping[str, Any]) -> str:
    """Return the verdict with the data that it is about, and how sure it is."""
    table = str(holdout["table"]).rstrip("/").rsplit("/", 1)[-1]
    sure = f"{comparison.confidence:.0%} confidence"
    return f"{headline(comparison)[:-1]}, with {sure}, on {table}@v{holdout['version']}."


def _repeat(again: Mapping[str, Any], candidates: Candidates) -> list[dict[str, str]]:
    file = yaml.safe_dump(dict(again), sort_keys=False, allow_unicode=True)
    pinned = (
        "all of it pinned" if not candidates.columns else "all but the models of segments pinned"
    )
    return [
        {"what": f"The job's file, with {pinned}; save it as {_AGAIN}", "command": file},
        {
            "what": "The job; the same versions, rows and seed give the same numbers",
            "command": f"./spark-submit.sh compare {_AGAIN}",
        },
    ]


def _version(comparison: Comparison, uri: str) -> dict[str, Any]:
    evaluation, own = comparison.evaluation, comparison.evaluation.own.rows[uri]
    return {
        **_facts(comparison.candidates.assigned[uri]),
        "rank": evaluation.whole.standings[comparison.rank_by].ranks[uri],
        "is_baseline": uri == comparison.candidates.baseline,
        "rows_scored": own,
        "rows_failed": evaluation.rows - own,
        "errors": dict(comparison.failures.get(uri, {})),
        "rows_per_second": comparison.costs.get(uri),
        **_compatibility(comparison.candidates, uri),
    }


def _facts(assigned: Assignment) -> dict[str, Any]:
    """Return what a version says of itself; of a family its name, and the version a segment."""
    if assigned.by is None:
        return assigned.models[0].facts()
    return {
        "name": assigned.name,
        **dict.fromkeys(_OF_ONE),
        "uri": assigned.uri,
        "reference": assigned.reference,
        "segment_by": assigned.by,
        "segments": assigned.segments,
    }


def _compatibility(candidates: Candidates, uri: str) -> dict[str, Any]:
    """Return whether what works with the baseline works with a candidate; nothing for itself."""
    if uri == candidates.baseline:
        return {}
    said, reasons = candidates.fit(uri)
    return {"compatibility": {"with": candidates.baseline, "verdict": said, "reasons": reasons}}


def _correction(versions: int, width: float, level: float) -> str:
    pairs = versions * (versions - 1) // 2
    if pairs == 0:
        return "One version: nothing is compared."
    reach = f"{width:.2f}" if width == width else "no"  # noqa: PLR0124 - NaN alone differs from itself
    return (
        f"Intervals of differences hold for all {pairs} pairs of versions at once, with "
        f"{level:.0%} confidence: they reach {reach} standard errors (single-step max-T over the "
        "bootstraps), where one difference alone would need about "
        f"{NormalDist().inv_cdf((1 + level) / 2):.2f}. Intervals of values are each for itself."
    )


def _difference(part: Part, standing: Standing, pair: tuple[str, str]) -> dict[str, float | None]:
    interval = standing.differences.get(pair) if part.scope == "common" else None
    found = interval.facts() if interval else dict.fromkeys(("value", "low", "high"))
    return {
        "difference": found["value"],
        "difference_low": found["low"],
        "difference_high": found["high"],
    }


def _slice(part: Part) -> str:
    if part.by is None:
        return "all"
    return f"{part.by} is null" if part.value is None else f"{part.by}={part.value}"


def _said(interval: Interval) -> str:
    if math.isnan(interval.low):
        return f"{interval.value:.4g}"
    return f"{interval.value:.4g} ({interval.low:.4g} to {interval.high:.4g})"


def _histograms(comparison: Comparison) -> Iterator[dict[str, Any]]:
    """Yield bars: residuals and predictions of a regression, scores of classes."""
    evaluation = comparison.evaluation
    names = dict.fromkeys(name for _, name in evaluation.histograms)
    for name in names:
        kind, _, rest = name.partition(PART)
        if kind == "absolute error":
            continue
        found = {u: c for (u, each), c in evaluation.histograms.items() if each == name}
        edges = gathering.thresholds() if kind == "score" else gathering.edges()
        ends = _ends(kind, list(found.values()), edges)
        class_, _, truth = rest.partition(PART)
        for uri, counted in found.items():
            centres = np.searchsorted(ends, _middles(edges, len(counted)), side="right") - 1
            bars = np.bincount(np.clip(centres, 0, len(ends) - 2), counted, len(ends) - 1)
            for low, high, weight in zip(ends, ends[1:], bars, strict=False):
                bar = {"uri": uri, "kind": kind, "from": float(low), "to": float(high)}
                of_class = {"class": class_, "is_class": truth == "1"} if rest else {}
                yield {**bar, "weight": float(weight), **of_class}


def _middles(edges: Floats, bins: int) -> Floats:
    """Return a value inside of each bin; bins beyond the last edge are empty."""
    inner = np.clip(edges, -(2.0**60), 2.0**60)
    middles = (inner[:-1] + inner[1:]) / 2
    return np.append(middles, np.full(max(0, bins - len(middles)), 1.0))[:bins]


def _ends(kind: str, found: Sequence[Floats], edges: Floats) -> Floats:
    """Return the bars' ends: equal widths over all but the outermost rows."""
    if kind == "score":
        return np.linspace(0.0, 1.0, _BARS // 3 + 1)
    counted = np.sum(found, axis=0)
    below = np.cumsum(counted) / max(counted.sum(), 1e-300)
    inner = np.clip(edges, -(2.0**60), 2.0**60)
    low = inner[int(np.searchsorted(below, _MANY))]
    high = inner[min(int(np.searchsorted(below, 1 - _MANY)) + 1, len(inner) - 1)]
    return np.linspace(low, high if high > low else low + 1.0, _BARS + 1)


def _curves(comparison: Comparison) -> Iterator[dict[str, Any]]:
    """Yield points of the ROC and precision-recall curves, exact at their thresholds."""
    evaluation, starts = comparison.evaluation, gathering.thresholds()
    for (uri, name), hits in evaluation.histograms.items():
        kind, _, rest = name.partition(PART)
        class_, _, truth = rest.partition(PART)
        if kind != "score" or truth != "1":
            continue
        misses = evaluation.histograms.get(
            (uri, PART.join(["score", class_, "0"])), np.zeros_like(hits)
        )
        (there,) = np.nonzero(hits + misses)
        there = (
            there[np.unique(np.linspace(0, len(there) - 1, _POINTS).astype(int))]
            if len(there)
            else there
        )
        above_hits, above_misses = np.cumsum(hits[::-1])[::-1], np.cumsum(misses[::-1])[::-1]
        for n in there:
            right, wrong = float(above_hits[n]), float(above_misses[n])
            yield {
                "uri": uri, "class": class_, "threshold": float(starts[min(n, len(starts) - 1)]),
                "true_positive_rate": _share(right, above_hits[0]),
                "false_positive_rate": _share(wrong, above_misses[0]),
                "precision": _share(right, right + wrong),
                "recall": _share(right, above_hits[0]),
            }  # fmt: skip


def _calibration(comparison: Comparison) -> Iterator[dict[str, Any]]:
    bins = gathering.BINS_OF_CALIBRATION
    for uri, sums in comparison.evaluation.calibration.items():
        for n, (weight, score, right) in enumerate(sums):
            if weight > 0:
                yield {
                    "uri": uri, "from": n / bins, "to": (n + 1) / bins, "weight": float(weight),
                    "mean_score": float(score / weight), "share": float(right / weight),
                }  # fmt: skip


def _share(part: float, whole: float) -> float | None:
    return float(part / whole) if whole else None


def _known(number: float) -> float | None:
    return number if math.isfinite(number) else None
