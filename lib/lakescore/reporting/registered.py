"""The document from the registry's content: without Spark, a holdout or new predictions."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from lakescore import metrics
from lakescore.encoding import REPORT_FORMAT
from lakescore.notation import interval
from lakescore.registry.difference import compatibility
from lakescore.reporting.templating import short

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from lakescore.registry import VersionRecord

_COMPARISON_KEYS = (
    "run_id", "holdout", "label", "engine", "tables", "gates", "rows", "uncertainty", "decision",
)  # fmt: skip
_COMPARISON_LISTS = (
    "histograms", "curves", "calibration", "confusion", "flips", "shifts",
)  # fmt: skip
_CHAMPION = "champion"
_BOUNDS = (".low", ".high")
_LESS = re.compile(r"rmse|mae|mape|mse|error|loss|brier|deviance|perplexity|pinball", re.IGNORECASE)
_MORE = re.compile(r"r2|accuracy|auc|precision|recall|f1|score|kappa|mcc|ndcg", re.IGNORECASE)
_SORTED_BY = re.compile(r"metrics\.`?(?P<metric>[^`]+?)`?(?:\s+(?P<way>asc|desc))?", re.IGNORECASE)


def registry_document(
    name: str,
    records: Sequence[VersionRecord],
    *,
    where: str | None = None,
    order_by: str | None = None,
    limit: int | None = None,
) -> dict[str, Any]:
    """Return the document about versions from the registry's content, as plain JSON values.

    Args:
        name: the registered model's name.
        records: its versions in the order of the page. Versions without a value of the verdict's
            metric come last in this order.
        where: the filter that selected the versions.
        order_by: the sort order of the versions; a metric in it is the verdict's metric.
        limit: the requested maximum number of versions.
    """
    lines = [line for record in records for line in _lines(record)]
    metric, greater = _main_metric(lines, order_by)
    baseline = next((record for record in records if _CHAMPION in record.aliases), None)
    champion = None if baseline is None else baseline.uri
    return {
        **dict.fromkeys(_COMPARISON_KEYS),
        **{key: [] for key in _COMPARISON_LISTS},
        "left_out": metrics.left_out({short(record.uri): record.metrics for record in records}),
        "format": REPORT_FORMAT,
        "source": "registry",
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "where": where,
        "verdict": _verdict(name, lines, metric, champion, greater=greater),
        "problem": {"rank_by": metric, "greater_is_better": greater},
        "baseline": champion,
        "versions": [_version(record, baseline) for record in records],
        "metrics": lines,
        "datasets": _datasets(lines),
        "repeat": [
            {
                "what": "The same page, from the registry's content at that time",
                "command": _command(name, where=where, order_by=order_by, limit=limit),
            }
        ],
    }


def _version(record: VersionRecord, baseline: VersionRecord | None) -> dict[str, Any]:
    facts = {**record.facts(), "is_baseline": record is baseline}
    if baseline is None or record is baseline or not (record.signature and baseline.signature):
        return facts
    return {**facts, "compatibility": compatibility(baseline, record)}


def _lines(record: VersionRecord) -> Iterable[dict[str, Any]]:
    """Yield the stored metrics as lines; `x.low` and `x.high` become the interval of `x`."""
    facts = record.facts()
    stored: Mapping[str, float | None] = facts["metrics"]
    for metric, value in stored.items():
        if any(metric.endswith(end) and metric.removesuffix(end) in stored for end in _BOUNDS):
            continue
        data = facts["measured_on"].get(metric, {})
        yield {
            "uri": record.uri, "metric": metric, "slice_by": None, "slice": "all",
            "scope": "stored", "rows": None, "small": False, "rank": None, "value": value,
            "low": stored.get(f"{metric}.low"), "high": stored.get(f"{metric}.high"),
            "difference": None, "difference_low": None, "difference_high": None,
            "dataset": data.get("dataset"), "digest": data.get("digest"),
        }  # fmt: skip


def _main_metric(
    lines: Sequence[Mapping[str, Any]], order_by: str | None
) -> tuple[str | None, bool | None]:
    """Return the verdict's metric, and whether a greater value is better, if known.

    It is the metric that the versions are sorted by. Otherwise it is one of the metrics whose name
    shows their direction: the one that most versions have with an interval, then the one that most
    versions have.
    """
    match = _SORTED_BY.fullmatch(order_by.strip()) if order_by else None
    if match:
        direction = match["way"]
        greater_is_better = (
            direction.lower() == "desc" if direction else _direction(match["metric"])
        )
        return match["metric"], greater_is_better
    has_value = [line for line in lines if line["value"] is not None]
    counts = Counter(line["metric"] for line in has_value)
    interval_counts = Counter(line["metric"] for line in has_value if line["low"] is not None)
    with_direction = [metric for metric in counts if _direction(metric) is not None]
    best = max(
        with_direction, key=lambda metric: (interval_counts[metric], counts[metric]), default=None
    )
    return best, None if best is None else _direction(best)


def _direction(metric: str) -> bool | None:
    """Return whether a greater value is better, by the name; None if the name does not show it."""
    if (known := metrics.find(metric)) is not None:
        return known.greater_is_better
    if _LESS.search(metric):
        return False
    return True if _MORE.search(metric) else None


def _verdict(
    name: str,
    lines: Sequence[Mapping[str, Any]],
    metric: str | None,
    champion: str | None,
    *,
    greater: bool | None,
) -> str:
    """Return a sentence: the best stored value, and whether the values can be compared.

    Stored values decide nothing, because their intervals are not those of differences. So the
    sentence never says that a version should be promoted.
    """
    with_value = [line for line in lines if line["metric"] == metric and line["value"] is not None]
    if metric is None or not with_value:
        return f"No stored metric tells which version of {name} is best."
    with_value.sort(key=lambda line: line["value"], reverse=bool(greater))
    first = with_value[0]
    words = {None: "has the least", True: "has the best", False: "has the best"}[greater]
    title = "The champion " if first["uri"] == champion else ""
    sentence = f"{title}{short(first['uri'])} {words} stored {metric}: {_value(first)}"
    if len(with_value) == 1:
        return f"{sentence}; no other version has one."
    second = next((line for line in with_value[1:] if line["uri"] == champion), with_value[1])
    title = "the champion " if second["uri"] == champion else ""
    sentence += f", before {title}{short(second['uri'])} with {_value(second)}"
    digests = {line["digest"] for line in with_value}
    if len(digests) == 1 and None not in digests:
        data = f"all {len(with_value)} values are from {first['dataset']}"
        decides = "" if first["uri"] == champion else ", and compare decides whether it is better"
        return f"{sentence}; {data}{decides}."
    if None in digests and len(digests) == 1:
        return f"{sentence}; they may be from different data, because no data was recorded."
    return f"{sentence}; the values are from different data, so this is not a comparison."


def _value(line: Mapping[str, Any]) -> str:
    return interval(line["value"], line["low"], line["high"])


def _datasets(lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the datasets of the stored values, those with the most values first."""
    counts = Counter((line["dataset"], line["digest"]) for line in lines)
    return [
        {"dataset": dataset, "digest": digest, "metrics": count}
        for (dataset, digest), count in counts.most_common()
    ]


def _command(name: str, **options: object) -> str:
    arguments = [
        part
        for key, value in options.items()
        if value is not None
        for part in (f"--{key.replace('_', '-')}", str(value))
    ]
    return shlex.join(["lakescore", "report", name, *arguments])
