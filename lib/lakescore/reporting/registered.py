"""The document from what the registry holds: no Spark, no holdout, nothing scored anew."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from lakescore.encoding import REPORT_FORMAT
from lakescore.registry.difference import compatibility
from lakescore.reporting.templating import number, short

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from lakescore.registry import VersionRecord

_OF_A_COMPARISON = (
    "run_id", "holdout", "label", "engine", "tables", "gates", "rows", "uncertainty",
)  # fmt: skip
_ROWS_OF_A_COMPARISON = (
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
    """Return the document of versions as the registry holds them: plain JSON values.

    Args:
        name: the registered model's name.
        records: its versions, in the order that they shall be shown in; those without a value
            of the metric that the verdict is about come last in it anyway.
        where: the filter that chose them.
        order_by: what sorted them; a metric in it is what the verdict is about.
        limit: how many were asked for.
    """
    lines = [line for record in records for line in _lines(record)]
    metric, greater = _main_metric(lines, order_by)
    baseline = next((each for each in records if _CHAMPION in each.aliases), None)
    return {
        **dict.fromkeys(_OF_A_COMPARISON),
        **{key: [] for key in _ROWS_OF_A_COMPARISON},
        "format": REPORT_FORMAT,
        "source": "registry",
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "where": where,
        "verdict": _verdict(name, lines, metric, greater=greater),
        "problem": {"rank_by": metric, "greater_is_better": greater},
        "baseline": baseline.uri if baseline else None,
        "versions": [_version(record, baseline) for record in records],
        "metrics": lines,
        "datasets": _datasets(lines),
        "repeat": [
            {
                "what": "The same page, from what the registry holds by then",
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
    """Return the metric that the verdict is about, and whether more of it is better, if known.

    It is the one that the versions were sorted by; else, of those whose direction their name
    tells, the one that most versions have with an interval, or else at all.
    """
    asked = _SORTED_BY.fullmatch(order_by.strip()) if order_by else None
    if asked:
        way = asked["way"]
        known = way.lower() == "desc" if way else _direction(asked["metric"])
        return asked["metric"], known
    has_value = [line for line in lines if line["value"] is not None]
    counted = Counter(line["metric"] for line in has_value)
    bounded = Counter(line["metric"] for line in has_value if line["low"] is not None)
    known_ones = [metric for metric in counted if _direction(metric) is not None]
    best = max(known_ones, key=lambda metric: (bounded[metric], counted[metric]), default=None)
    return best, None if best is None else _direction(best)


def _direction(metric: str) -> bool | None:
    """Return whether more of a metric is better, from its name; None where that tells nothing."""
    if _LESS.search(metric):
        return False
    return True if _MORE.search(metric) else None


def _verdict(
    name: str, lines: Sequence[Mapping[str, Any]], metric: str | None, *, greater: bool | None
) -> str:
    """Say in a sentence what the stored values say, and whether they may be held together."""
    found = [line for line in lines if line["metric"] == metric and line["value"] is not None]
    if metric is None or not found:
        return f"No stored metric tells which version of {name} is best."
    found.sort(key=lambda line: line["value"], reverse=bool(greater))
    first = found[0]
    words = {None: "has the least", True: "has the best", False: "has the best"}[greater]
    sentence = f"{short(first['uri'])} {words} stored {metric}: {_said(first)}"
    if len(found) == 1:
        return f"{sentence}; no other version has one."
    second = found[1]
    sentence += f", before {short(second['uri'])} with {_said(second)}"
    digests = {line["digest"] for line in found}
    if len(digests) == 1 and None not in digests:
        return f"{sentence}; all {len(found)} values are of {first['dataset']}."
    if None in digests and len(digests) == 1:
        return f"{sentence}; they may be of different data, since none was recorded."
    return f"{sentence}; the values are of different data, so do not take this for a comparison."


def _said(line: Mapping[str, Any]) -> str:
    value = number(line["value"])
    if line["low"] is None or line["high"] is None:
        return value
    return f"{value} ({number(line['low'])} to {number(line['high'])})"


def _datasets(lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return on which data the stored values were measured, those with most of them first."""
    counted = Counter((line["dataset"], line["digest"]) for line in lines)
    return [
        {"dataset": dataset, "digest": digest, "metrics": count}
        for (dataset, digest), count in counted.most_common()
    ]


def _command(name: str, **options: object) -> str:
    given = [
        part
        for key, value in options.items()
        if value is not None
        for part in (f"--{key.replace('_', '-')}", str(value))
    ]
    return shlex.join(["lakescore", "report", name, *given])
