"""Documents of the report, small and whole, without Spark; docs/report.md lists their keys."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

HOSTILE = (
    "</script><script>window.ran=1</script>",
    "<img src=x onerror=window.ran=1>",
    "\"'`${window.ran=1}{{7*7}}",
    "مرحبا \u202ereversed\u202c שלום",
    "🚀👩‍👩‍👧‍👦 emoji",
    "x" * 5000,
    "__proto__",
    "constructor",
    '=HYPERLINK("http://example.invalid","x")',
    "@SUM(1+1)",
    "two\nlines\r\nand\ttabs",
    "a.b['c'].d\\",
    "datum.value",
    "  ",
)
"""Names and values that people could use, by chance or on purpose."""

_WORDS = ("linear", "forest", "boosting")
_COLUMNS = ("distance", "hour", "carrier")


def of_regression(versions: int = 3, *, names: Sequence[str] = ()) -> dict[str, Any]:
    """Return a comparison of a regression.

    Args:
        versions: how many; the last one is the baseline, the first one the best.
        names: further names, each of which is a param, a tag, a metric, a slice, an input column,
            an alias and a run's name of some version, and a tag's value.
    """
    name = names[0] if names else "flight-delay"
    uris = [f"models:/{name}/{n}" for n in range(versions, 0, -1)]
    metrics = ["rmse", "mae", "r2", *names]
    slices = [("origin", value) for value in ("JFK", "LGA", "EWR", *names)]
    lines = [
        _line(uris, n, metric, by, value)
        for by, value in [(None, "all"), *slices]
        for metric in (metrics if by is None else metrics[:2])
        for n in range(versions)
    ]
    own = [
        {**line, "scope": "own", "rank": None, "difference": None}
        for line in lines
        if line["slice_by"] is None
    ]
    return {
        **_frame(uris, name),
        "problem": {
            "type": "regression", "predictions": "regression", "rank_by": "rmse",
            "greater_is_better": False, "classes": [], "positive_class": None,
        },
        "versions": [_version(uris, n, names) for n in range(versions)],
        "metrics": [*lines, *own],
        "histograms": [
            {
                "uri": uri, "kind": kind, "from": float(low), "to": float(low + 1),
                "weight": 100 * math.exp(-((low - n / 9) ** 2) / 20),
            }
            for kind in ("residual", "prediction")
            for n, uri in enumerate(uris)
            for low in range(-10, 10)
        ],
        "shifts": [{"uri": uri, "psi": 0.01 * n} for n, uri in enumerate(uris[:-1])],
    }  # fmt: skip


def of_classes() -> dict[str, Any]:
    """Return a comparison of two classifiers of two classes, with curves and matrices."""
    uris = ["models:/late/2", "models:/late/1"]
    classes = ["no", "yes"]
    steps = [n / 20 for n in range(21)]
    lines = [
        _line(uris, n, metric, by, value)
        for by, value in [(None, "all"), ("origin", "JFK"), ("origin", "LGA")]
        for metric in ("roc_auc", "accuracy", "log_loss")
        for n in range(2)
    ]
    return {
        **_frame(uris, "late"),
        "problem": {
            "type": "binary", "predictions": "scores", "rank_by": "roc_auc",
            "greater_is_better": True, "classes": classes, "positive_class": "yes",
        },
        "versions": [_version(uris, n, ()) for n in range(2)],
        "metrics": lines,
        "histograms": [
            {
                "uri": uri, "kind": "score", "class": "yes", "is_class": truth, "from": low,
                "to": low + 0.05, "weight": 10 + 90 * (low if truth else 1 - low) + 5 * n,
            }
            for n, uri in enumerate(uris)
            for truth in (False, True)
            for low in steps[:-1]
        ],
        "curves": [
            {
                "uri": uri, "class": "yes", "threshold": 1 - t, "false_positive_rate": t ** (2 + n),
                "true_positive_rate": t ** 0.5, "precision": 1 - t / 2, "recall": t,
            }
            for n, uri in enumerate(uris)
            for t in steps
        ],
        "calibration": [
            {"uri": uri, "from": t, "to": t + 0.1, "weight": 50.0, "mean_score": t, "share": t**1.1}
            for uri in uris
            for t in (0.1, 0.3, 0.5, 0.7, 0.9)
        ],
        "confusion": [
            {"uri": uri, "true": true, "predicted": predicted,
             "weight": 90.0 if true == predicted else 10.0}
            for uri in uris
            for true in classes
            for predicted in classes
        ],
        "flips": [{"uri": uris[0], "rows": 1000, "flips": 40, "mended": 30, "broken": 10}],
        "shifts": [{"uri": uris[0], "psi": 0.02}],
    }  # fmt: skip


def _frame(uris: Sequence[str], name: str) -> dict[str, Any]:
    check = {
        "gate": "threshold", "metric": "rmse", "asked": 12, "found": 11.5, "passed": True,
        "sentence": "rmse must be at most 12: it is 10 (9 to 11.5)",
    }  # fmt: skip
    losses = [
        _loss(f"origin={name}", "not known", 0.2, -0.4, 0.8),
        _loss("origin=EWR", "not known", 0.1, None, None, reason="fewer than 100 rows"),
        _loss("origin=JFK", "safe", -1.0, -1.4, -0.6),
    ]
    by_slice = {
        "gate": "max_loss", "metric": "rmse", "asked": 0.5, "found": -0.4, "passed": True,
        "sentence": f"rmse must not rise by more than 0.5 in any slice: 2 are not known ({name})",
        "slices": losses,
    }  # fmt: skip
    return {
        "format": "lakescore-report/1", "source": "compare", "made_at": "2026-01-01T06:00:00+00:00",
        "run_id": "0123abcd", "label": "arr_delay", "where": f"carrier <> '{name}'",
        "holdout": {"table": f"/lake/{name}/holdout", "version": 3, "digest": "5eed"},
        "engine": {"name": "arrow", "reason": "equal to MLflow's on 200 rows"},
        "tables": {"metrics": "/lake/ranking", "disagreements": "/lake/disagreements"},
        "gates": {
            "mode": "enforce", "candidate": uris[0], "baseline": uris[-1], "passed": True,
            "on_pass": None, "checks": [check, by_slice],
        },
        "verdict": f"{name}/{len(uris)} beats the champion (version 1) by 2 rmse: promote it.",
        "decision": {
            "action": "promote", "candidate": uris[0],
            "sentence": f"{name}/{len(uris)} beats the champion (version 1) by 2 rmse: promote it.",
            "further": ["rmse is 10 (9 to 11) for the first version, on 9,000 rows."],
        },
        "left_out": {},
        "rows": {"labelled": 9001, "common": 9000, "unlabelled": 99},
        "uncertainty": {
            "confidence": 0.95, "bootstraps": 400, "seed": 0, "pairs": 3,
            "standard_errors": 2.3, "correction": "Intervals hold for all pairs at once.",
        },
        "baseline": uris[-1], "curves": [], "calibration": [], "confusion": [], "flips": [],
        "repeat": [
            {"what": "The job's file", "command": f"label: arr_delay\nwhere: {name}"},
            {"what": "The job", "command": "./spark-submit.sh compare again.yaml"},
        ],
    }  # fmt: skip


def _loss(
    name: str, verdict: str, *numbers: float | None, reason: str | None = None
) -> dict[str, Any]:
    loss, low, high = numbers
    return {
        "slice_by": "origin", "slice": name, "rows": 900, "verdict": verdict, "max_loss": 0.5,
        "loss": loss, "low": low, "high": high, "unscored": 0, "reason": reason,
    }  # fmt: skip


def _line(uris: Sequence[str], n: int, metric: str, by: str | None, value: str) -> dict[str, Any]:
    size = 10.0 + n + (len(value) % 7 if by else 0)
    is_baseline = n == len(uris) - 1
    gap = None if is_baseline else float(n + 1 - len(uris)) / 2
    return {
        "uri": uris[n], "metric": metric, "slice_by": by, "slice": f"{by}={value}" if by else "all",
        "scope": "common", "rows": 90 if value == "EWR" else 3000, "small": value == "EWR",
        "rank": n + 1, "value": size, "low": size - 1, "high": size + 1, "difference": gap,
        "difference_low": None if gap is None else gap - 0.25,
        "difference_high": None if gap is None else gap + 0.25,
    }  # fmt: skip


def _version(uris: Sequence[str], n: int, names: Sequence[str]) -> dict[str, Any]:
    number, is_baseline = len(uris) - n, n == len(uris) - 1
    kind = _WORDS[n % len(_WORDS)]
    hostile = names[n % len(names)] if names else None
    extra = {name: f"{name} {n}" for name in names}
    inputs = [
        {"name": column, "type": "double", "required": True}
        for column in [*_COLUMNS[: 3 if n else 2], *names]
    ]
    facts = {
        "name": uris[n].removeprefix("models:/").rpartition("/")[0], "version": number,
        "uri": uris[n], "status": "READY", "description": hostile,
        "created_at": f"2026-01-{1 + n % 28:02}T06:00:00+00:00",
        "updated_at": f"2026-02-{1 + n % 28:02}T06:00:00+00:00",
        "aliases": ["champion"] if is_baseline else [hostile] if hostile else [],
        "tags": {"team": "ops", "kind": kind, **extra}, "run_id": f"{n:032x}",
        "run_name": hostile or kind, "source": f"models:/m-{n:032x}",
        "logged_model_id": f"m-{n:032x}", "params": {"depth": str(4 + n), "loss": "l2", **extra},
        "metrics": {"training_rmse": 9.0 + n}, "measured_on": {},
        "flavours": ["sklearn"], "formats": ["skops"], "mlflow_version": "3.17.2",
        "python_version": "3.11.9", "size": 1000 * (n + 1), "digest": f"sha256:{n:064x}",
        "signature": {
            "inputs": inputs, "outputs": [{"type": "double", "required": True}], "params": None,
        },
        "files": [{"path": "MLmodel", "size": 500 + n}], "reference": f"{uris[n]}",
        "rank": n + 1, "is_baseline": is_baseline, "rows_scored": 9001 - n, "rows_failed": n,
        "errors": {hostile or "ValueError": n} if n else {}, "rows_per_second": 1e5 + n,
    }  # fmt: skip
    compatibility = {
        "with": uris[-1],
        "verdict": "compatible",
        "reasons": ["the signatures are equal"],
    }
    return facts if is_baseline else {**facts, "compatibility": compatibility}
