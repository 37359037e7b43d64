"""Reporting: a comparison's document as one page that needs no network, and as Markdown.

The page embeds the document, and its charts draw from nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from lakescore.errors import ReportNotWritten
from lakescore.reporting import charts

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_TEMPLATES = Environment(
    loader=PackageLoader("lakescore.reporting", "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_MARKDOWN = str.maketrans({c: f"\\{c}" for c in "\\`*_{}[]()#+!|~"} | {"\n": " ", "\r": " "})
_MOST_METRICS = 12
_WHOLE, _HUGE = 1e5, 1e12
"""Numbers between these are written without a fraction, in full."""


def write(document: Mapping[str, Any], folder: Path) -> dict[str, Path]:
    """Write the page and the summary of a comparison, and return their paths.

    Args:
        document: as `comparing.document` gives it.
        folder: made when missing; the files are named by the comparison's run id.

    Returns:
        `html` and `markdown`.

    Raises:
        ReportNotWritten: the folder cannot be written to.
    """
    name = f"compare-{document['run_id']}".replace(":", "-")
    made = {"html": (f"{name}.html", page), "markdown": (f"{name}.md", summary)}
    files = {}
    for kind, (file, render) in made.items():
        files[kind] = folder / file
        text = render(document)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            unfinished = folder / f".{file}"
            unfinished.write_text(text, encoding="utf-8")
            unfinished.replace(files[kind])
        except OSError as error:
            raise ReportNotWritten(folder, error.strerror or str(error)) from error
    return files


def page(document: Mapping[str, Any]) -> str:
    """Return the page: HTML with its data, styles and scripts in it."""
    return _TEMPLATES.get_template("page.html.j2").render(
        document=document,
        whole=_table(document, "common"),
        own=_table(document, "own"),
        slices=_slices(document),
        specs={name: spec.to_dict() for name, spec in charts.of(document).items()},
        titles=charts.TITLES,
        scripts=charts.scripts(),
        short=short,
        number=number,
    )


def summary(document: Mapping[str, Any]) -> str:
    """Return a few lines of Markdown, for a pull request."""
    table = _table(document, "common")
    return _TEMPLATES.get_template("summary.md.j2").render(
        document=document,
        table=table,
        metrics=_first(document, list(table)),
        short=short,
        number=number,
        plain=lambda text: str(text).translate(_MARKDOWN),
    )


def short(uri: str) -> str:
    """Return `name/3` of `models:/name/3`."""
    return uri.removeprefix("models:/")


def number(value: float | None) -> str:
    """Return a number with five digits that matter; a dash for none."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if _WHOLE <= abs(value) < _HUGE else f"{value:,.5g}"


def _table(document: Mapping[str, Any], scope: str) -> dict[str, dict[str, Mapping[str, Any]]]:
    """Return the metrics over all rows: by metric and version; the one that ranks first."""
    found: dict[str, dict[str, Mapping[str, Any]]] = {document["problem"]["rank_by"]: {}}
    for line in document["metrics"]:
        if line["slice_by"] is None and line["scope"] == scope:
            found.setdefault(line["metric"], {})[line["uri"]] = line
    return found


def _slices(document: Mapping[str, Any]) -> dict[str, dict[str, Mapping[str, Any]]]:
    """Return the metric that ranks by slice and version."""
    found: dict[str, dict[str, Mapping[str, Any]]] = {}
    for line in document["metrics"]:
        if line["slice_by"] is not None and line["metric"] == document["problem"]["rank_by"]:
            found.setdefault(line["slice"], {})[line["uri"]] = line
    return found


def _first(document: Mapping[str, Any], names: list[str]) -> list[str]:
    plain = [name for name in names if "/" not in name]
    return plain[:_MOST_METRICS] or [document["problem"]["rank_by"]]
