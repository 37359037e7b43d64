"""The document in a few lines of Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lakescore.reporting.templating import environment, number, short

if TYPE_CHECKING:
    from collections.abc import Mapping

_TEMPLATES = environment("templates")
_MARKDOWN = str.maketrans({c: f"\\{c}" for c in "\\`*_{}[]()#+!|~"} | {"\n": " ", "\r": " "})
_MOST_METRICS = 12


def summary(document: Mapping[str, Any]) -> str:
    """Return a few lines of Markdown about a comparison, for a pull request.

    Args:
        document: as `comparing.document` gives it.
    """
    table = _table(document)
    return _TEMPLATES.get_template("summary.md.j2").render(
        document=document,
        table=table,
        metrics=_first(document, list(table)),
        short=short,
        number=number,
        plain=lambda text: str(text).translate(_MARKDOWN),
    )


def _table(document: Mapping[str, Any]) -> dict[str, dict[str, Mapping[str, Any]]]:
    """Return the metrics over the common rows: by metric and version; the one that ranks first."""
    found: dict[str, dict[str, Mapping[str, Any]]] = {document["problem"]["rank_by"]: {}}
    for line in document["metrics"]:
        if line["slice_by"] is None and line["scope"] == "common":
            found.setdefault(line["metric"], {})[line["uri"]] = line
    return found


def _first(document: Mapping[str, Any], names: list[str]) -> list[str]:
    plain = [name for name in names if "/" not in name]
    return plain[:_MOST_METRICS] or [document["problem"]["rank_by"]]
