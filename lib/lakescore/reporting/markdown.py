"""The document as a few lines of Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lakescore.reporting.templating import environment

if TYPE_CHECKING:
    from collections.abc import Mapping

_TEMPLATES = environment("templates")
_MARKDOWN = str.maketrans({c: f"\\{c}" for c in "\\`*_{}[]()#+!|~"} | {"\n": " ", "\r": " "})
_MOST_METRICS = 12


def summary(document: Mapping[str, Any]) -> str:
    """Return a few lines of Markdown about a comparison, for a pull request.

    Args:
        document: the result of `comparing.document`.
    """
    table = _metric_table(document)
    return _TEMPLATES.get_template("summary.md.j2").render(
        document=document,
        table=table,
        metrics=_metric_names(document, list(table)),
        plain=lambda text: str(text).translate(_MARKDOWN),
    )


def _metric_table(document: Mapping[str, Any]) -> dict[str, dict[str, Mapping[str, Any]]]:
    """Return the metrics over the common rows, by metric and version; the ranking metric first."""
    table: dict[str, dict[str, Mapping[str, Any]]] = {document["problem"]["rank_by"]: {}}
    for line in document["metrics"]:
        if line["slice_by"] is None and line["scope"] == "common":
            table.setdefault(line["metric"], {})[line["uri"]] = line
    return table


def _metric_names(document: Mapping[str, Any], names: list[str]) -> list[str]:
    left_out = set(document["left_out"]) - {document["problem"]["rank_by"]}
    names_without_class = [name for name in names if "/" not in name and name not in left_out]
    return names_without_class[:_MOST_METRICS] or [document["problem"]["rank_by"]]
