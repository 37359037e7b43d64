"""The document: all results of a comparison as one JSON value; docs/report.md lists its keys.

The report's page embeds the document and has no other data.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import yaml

from lakescore.comparing import binning
from lakescore.comparing.deciding import left_out
from lakescore.comparing.gathering import PART
from lakescore.encoding import REPORT_FORMAT
from lakescore.notation import percent

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from lakescore.assignment import Assignment
    from lakescore.comparing.batches import Floats
    from lakescore.comparing.candidates import Candidates
    from lakescore.comparing.comparison import Comparison
    from lakescore.comparing.evaluating import Part
    from lakescore.comparing.ranking import Standing

_RECEIPT_KEYS = (
    "run_id", "verdict", "decision", "holdout", "label", "where", "engine", "tables", "gates",
)  # fmt: skip
_VERSION_KEYS = ("version", "run_id", "run_name", "logged_model_id", "digest")
"""The facts of a version that a family does not have."""
_REPEAT_FILE = "again.yaml"
_BARS = 60
_POINTS = 200
_TAIL = 0.005
"""The share of rows at either end that the outermost bars of a histogram collect."""

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
    """Return the metrics in long form: one mapping for each version, metric, slice and scope.

    `rank` is the rank by that metric in that slice. `difference` is the difference to the baseline,
    and null for the baseline itself. Both are null in the scope `own`, because there the versions
    have different rows.
    """
    return [
        {
            "uri": uri,
            "metric": metric,
            "slice_by": part.by,
            "slice": part.text,
            "scope": part.scope,
            "rows": part.rows[uri],
            "small": part.rows[uri] < comparison.options.small,
            "rank": standing.ranks[uri] if part.scope == "common" else None,
            **standing.estimates[uri].facts(),
            **_difference(part, standing, (uri, comparison.candidates.baseline)),
        }
        for part in comparison.evaluation.parts
        for metric, standing in part.standings.items()
        for uri in comparison.paired.uris
    ]


def long_form(comparison: Comparison) -> pa.Table:
    """Return `lines` as a table; `model_version` is null for families."""
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


def document(
    comparison: Comparison, report: Mapping[str, Any], again: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the comparison as plain JSON values; docs/report.md describes them.

    Args:
        comparison: the comparison.
        report: the receipt; the document takes the keys `_RECEIPT_KEYS` from it.
        again: the content of a job's file that repeats the comparison with everything pinned.
    """
    evaluation, problem = comparison.evaluation, comparison.paired.problem
    standing = evaluation.whole.standings[problem.rank_by]
    uris = comparison.paired.uris
    return {
        "format": REPORT_FORMAT,
        "source": "compare",
        "made_at": report["compared_at"],
        **{key: report.get(key) for key in _RECEIPT_KEYS},
        "left_out": left_out(evaluation.whole.standings),
        "problem": {
            "type": problem.problem_type,
            "predictions": problem.task,
            "rank_by": problem.rank_by,
            "greater_is_better": standing.better_high,
            "classes": list(evaluation.classes),
            "positive_class": problem.positive,
            "threshold": problem.threshold,
        },
        "rows": {
            "labelled": evaluation.rows,
            "common": max(evaluation.whole.rows.values()),
            "unlabelled": report["rows_unlabelled"],
        },
        "uncertainty": {
            "confidence": comparison.options.confidence,
            "bootstraps": comparison.options.bootstraps,
            "seed": comparison.options.seed,
            "pairs": len(uris) * (len(uris) - 1) // 2,
            "standard_errors": _finite(standing.width),
            "correction": _correction(len(uris), standing.width, comparison.options.confidence),
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
        "flips": [dict(counts) for counts in comparison.flips],
        "shifts": [{"uri": uri, "psi": psi} for uri, psi in comparison.shifts.items()],
        "repeat": _repeat(again, comparison.candidates),
    }


def _repeat(again: Mapping[str, Any], candidates: Candidates) -> list[dict[str, str]]:
    job_file = yaml.safe_dump(dict(again), sort_keys=False, allow_unicode=True)
    pinned = (
        "everything pinned"
        if not candidates.columns
        else "everything but the models of segments pinned"
    )
    return [
        {"what": f"The job's file, with {pinned}; save it as {_REPEAT_FILE}", "command": job_file},
        {
            "what": "Run the job; the same versions, rows and seed give the same numbers",
            "command": f"./spark-submit.sh compare {_REPEAT_FILE}",
        },
    ]


def _version(comparison: Comparison, uri: str) -> dict[str, Any]:
    evaluation, rows_scored = comparison.evaluation, comparison.evaluation.own.rows[uri]
    return {
        **_facts(comparison.candidates.assigned[uri]),
        "rank": evaluation.whole.standings[comparison.rank_by].ranks[uri],
        "is_baseline": uri == comparison.candidates.baseline,
        "rows_scored": rows_scored,
        "rows_failed": evaluation.rows - rows_scored,
        "errors": dict(comparison.failures.get(uri, {})),
        "rows_per_second": comparison.costs.get(uri),
        **_compatibility(comparison.candidates, uri),
    }


def _facts(assigned: Assignment) -> dict[str, Any]:
    """Return the facts of a version; for a family, its name and the version of each segment."""
    if assigned.by is None:
        return assigned.models[0].facts()
    return {
        "name": assigned.name,
        **dict.fromkeys(_VERSION_KEYS),
        "uri": assigned.uri,
        "reference": assigned.reference,
        "segment_by": assigned.by,
        "segments": assigned.segments,
    }


def _compatibility(candidates: Candidates, uri: str) -> dict[str, Any]:
    """Return whether a candidate can take the baseline's place; nothing for the baseline."""
    if uri == candidates.baseline:
        return {}
    verdict, reasons = candidates.fit(uri)
    return {"compatibility": {"with": candidates.baseline, "verdict": verdict, "reasons": reasons}}


def _correction(versions: int, width: float, level: float) -> str:
    pairs = versions * (versions - 1) // 2
    if pairs == 0:
        return "One version: nothing is compared."
    reach = f"{width:.2f}" if width == width else "no"  # noqa: PLR0124 - only NaN differs from itself
    return (
        f"Intervals of differences hold for all {pairs} pairs of versions at once, with "
        f"{percent(level)} confidence: they reach {reach} standard errors (single-step max-T over "
        "the bootstraps), where one difference alone would need about "
        f"{NormalDist().inv_cdf((1 + level) / 2):.2f}. The interval of a value holds for that "
        "value alone."
    )


def _difference(part: Part, standing: Standing, pair: tuple[str, str]) -> dict[str, float | None]:
    interval = standing.differences.get(pair) if part.scope == "common" else None
    bounds = interval.facts() if interval else dict.fromkeys(("value", "low", "high"))
    return {
        "difference": bounds["value"],
        "difference_low": bounds["low"],
        "difference_high": bounds["high"],
    }


def _histograms(comparison: Comparison) -> Iterator[dict[str, Any]]:
    """Yield histogram bars: residuals and predictions of a regression, or scores of classes."""
    evaluation = comparison.evaluation
    names = dict.fromkeys(name for _, name in evaluation.histograms)
    for name in names:
        kind, _, class_part = name.partition(PART)
        if kind == "absolute error":
            continue
        by_version = {
            version: bins
            for (version, histogram), bins in evaluation.histograms.items()
            if histogram == name
        }
        edges = binning.thresholds() if kind == "score" else binning.edges()
        ends = _bar_ends(kind, list(by_version.values()), edges)
        class_, _, truth = class_part.partition(PART)
        for uri, weights in by_version.items():
            centres = np.searchsorted(ends, _bin_middles(edges, len(weights)), side="right") - 1
            bars = np.bincount(np.clip(centres, 0, len(ends) - 2), weights, len(ends) - 1)
            for low, high, weight in zip(ends, ends[1:], bars, strict=False):
                bar = {"uri": uri, "kind": kind, "from": float(low), "to": float(high)}
                class_fields = {"class": class_, "is_class": truth == "1"} if class_part else {}
                yield {**bar, "weight": float(weight), **class_fields}


def _bin_middles(edges: Floats, bins: int) -> Floats:
    """Return a value inside each bin; bins beyond the last edge are empty."""
    inner = np.clip(edges, -(2.0**60), 2.0**60)
    middles = (inner[:-1] + inner[1:]) / 2
    return np.append(middles, np.full(max(0, bins - len(middles)), 1.0))[:bins]


def _bar_ends(kind: str, histograms: Sequence[Floats], edges: Floats) -> Floats:
    """Return the ends of the bars: equal widths over all rows except the outermost."""
    if kind == "score":
        return np.linspace(0.0, 1.0, _BARS // 3 + 1)
    weights = np.sum(histograms, axis=0)
    below = np.cumsum(weights) / max(weights.sum(), 1e-300)
    inner = np.clip(edges, -(2.0**60), 2.0**60)
    low = inner[int(np.searchsorted(below, _TAIL))]
    high = inner[min(int(np.searchsorted(below, 1 - _TAIL)) + 1, len(inner) - 1)]
    return np.linspace(low, high if high > low else low + 1.0, _BARS + 1)


def _curves(comparison: Comparison) -> Iterator[dict[str, Any]]:
    """Yield points of the ROC and precision-recall curves, which are exact at their thresholds."""
    evaluation, starts = comparison.evaluation, binning.thresholds()
    for (uri, name), hits in evaluation.histograms.items():
        kind, _, class_part = name.partition(PART)
        class_, _, truth = class_part.partition(PART)
        if kind != "score" or truth != "1":
            continue
        misses = evaluation.histograms.get(
            (uri, PART.join(["score", class_, "0"])), np.zeros_like(hits)
        )
        (filled,) = np.nonzero(hits + misses)
        filled = (
            filled[np.unique(np.linspace(0, len(filled) - 1, _POINTS).astype(int))]
            if len(filled)
            else filled
        )
        above_hits, above_misses = np.cumsum(hits[::-1])[::-1], np.cumsum(misses[::-1])[::-1]
        for n in filled:
            true_positives, false_positives = float(above_hits[n]), float(above_misses[n])
            yield {
                "uri": uri, "class": class_, "threshold": float(starts[min(n, len(starts) - 1)]),
                "true_positive_rate": _share(true_positives, above_hits[0]),
                "false_positive_rate": _share(false_positives, above_misses[0]),
                "precision": _share(true_positives, true_positives + false_positives),
                "recall": _share(true_positives, above_hits[0]),
            }  # fmt: skip


def _calibration(comparison: Comparison) -> Iterator[dict[str, Any]]:
    bins = binning.BINS_OF_CALIBRATION
    for uri, sums in comparison.evaluation.calibration.items():
        for n, (weight, score, right_weight) in enumerate(sums):
            if weight > 0:
                yield {
                    "uri": uri, "from": n / bins, "to": (n + 1) / bins, "weight": float(weight),
                    "mean_score": float(score / weight), "share": float(right_weight / weight),
                }  # fmt: skip


def _share(part: float, total: float) -> float | None:
    return float(part / total) if total else None


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
