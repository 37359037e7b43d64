"""The page of a model's drift: one HTML file without scripts, with drawings that Vega made."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import vl_convert
from markupsafe import escape

from lakescore.reporting.files import save
from lakescore.reporting.rendering import style
from lakescore.reporting.templating import environment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_FONT = "Inter, system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
_ALARM, _QUIET, _BAND = "#d1495b", "#5b7fd6", "#8d99ae"
_INK = "#777e89"
"""A grey that can be read on white and on black."""
_CONFIG: dict[str, Any] = {
    "background": None,
    "font": _FONT,
    "view": {"stroke": None},
    "axis": {
        "labelColor": _INK, "titleColor": _INK, "domainColor": _INK, "tickColor": _INK,
        "gridColor": _INK, "gridOpacity": 0.25, "labelFontSize": 11, "titleFontSize": 11,
    },
    "header": {"labelColor": _INK, "labelFontSize": 12, "labelFontWeight": "bold"},
    "legend": {"labelColor": _INK, "titleColor": _INK, "orient": "top"},
    "title": {"color": _INK},
}  # fmt: skip
_WIDE, _HIGH = 250, 90
_MOST_COLUMNS = 60
_FEW_SLICES = 3
_NAME = re.compile(r"[^\w.-]+")


def write_drift(document: Mapping[str, Any], folder: Path) -> Path:
    """Write the page of a model's drift, and return its path.

    Args:
        document: the result of `monitoring.document`.
        folder: the folder, which is created if it is missing. The model names the file.

    Raises:
        ReportNotWritten: the folder cannot be written to.
    """
    name = _NAME.sub("-", document["model"])
    return save(drift_page(document), folder / f"monitor-{name}.html")


def drift_page(document: Mapping[str, Any]) -> str:
    """Return the page."""
    return (
        environment("page")
        .get_template("drift.html.j2")
        .render(
            document=document,
            style=style(),
            grid=_grid(document),
            over_time=_over_time(document),
            quality_over_time=_quality_over_time(document["quality"]),
            distributions=[(shown, _distribution(shown)) for shown in document["distributions"]],
        )
    )


def _grid(document: Mapping[str, Any]) -> list[tuple[Mapping[str, Any], list[list[Any]]]]:
    """Return the columns with their points in each slice; a slice can have several versions."""
    return [
        (
            column,
            [
                [point for point in column["points"] if point["slice"] == name]
                for name in document["slices"]
            ],
        )
        for column in document["columns"]
    ]


def _over_time(document: Mapping[str, Any]) -> str | None:
    """Return the drawing of all columns by slice; None for a few slices, which the table shows."""
    if len(document["slices"]) < _FEW_SLICES:
        return None
    columns = document["columns"][:_MOST_COLUMNS]
    points = [
        {
            "column": column["name"],
            "order": order,
            **point,
            "what": "alarm" if point["alarm"] else "no alarm",
        }
        for order, column in enumerate(columns)
        for point in column["points"]
    ]
    x = _slice_axis(document["slices"])
    y = {"type": "quantitative", "title": None, "axis": {"tickCount": 3}, "scale": {"domainMin": 0}}
    layers = [
        {"mark": {"type": "area", "color": _BAND, "opacity": 0.22, "interpolate": "step"},
         "encoding": {"x": x, "y": {**y, "field": "chance"}}},
        {"mark": {"type": "line", "color": _QUIET, "strokeWidth": 1, "opacity": 0.6},
         "encoding": {"x": x, "y": {**y, "field": "value"},
                      "detail": {"field": "model_version", "type": "nominal"}}},
        {"mark": {"type": "point", "filled": True, "size": 28, "opacity": 1},
         "encoding": {
             "x": x, "y": {**y, "field": "value"},
             "color": {"field": "what", "type": "nominal", "title": None,
                       "scale": {"domain": ["alarm", "no alarm"], "range": [_ALARM, _QUIET]}},
             "shape": {"field": "what", "type": "nominal", "title": None,
                       "scale": {"domain": ["alarm", "no alarm"], "range": ["diamond", "circle"]}},
         }},
    ]  # fmt: skip
    facet = {
        "field": "column", "type": "nominal", "title": None,
        "sort": {"field": "order", "op": "min"},  # names would become part of an expression
    }  # fmt: skip
    return _drawn(
        {
            "data": {"values": points},
            "facet": facet,
            "columns": 4,
            "spec": {"width": _WIDE, "height": _HIGH, "layer": layers},
            "resolve": {"scale": {"y": "independent"}},
        },
        "Jensen-Shannon distance from the baseline by slice, for each column; grey is what chance "
        "explains",
    )


def _slice_axis(slices: Sequence[str]) -> dict[str, Any]:
    return {
        "field": "slice", "type": "nominal", "sort": None, "title": None,
        "axis": {"labelAngle": -90, "labelOverlap": True, "labelLimit": 90, "ticks": False},
        "scale": {"domain": slices},
    }  # fmt: skip


def _quality_over_time(quality: Mapping[str, Any] | None) -> str | None:
    """Return the drawing of the metric by slice and version; None for a few slices."""
    known = [] if quality is None else [p for p in quality["points"] if p["value"] is not None]
    slices = list(dict.fromkeys(point["slice"] for point in known))
    if quality is None or len(slices) < _FEW_SLICES:
        return None
    points = [
        {
            **point,
            "version": "by segment" if point["model_version"] is None else
            f"version {point['model_version']}",
            "labels": "final" if point["final"] else "not final",
        }
        for point in known
    ]  # fmt: skip
    x = _slice_axis(slices)
    y = {"type": "quantitative", "title": quality["metric"], "scale": {"zero": False}}
    color = {
        "field": "version", "type": "nominal", "title": None, "scale": {"scheme": "tableau10"},
    }  # fmt: skip
    layers = [
        {"mark": {"type": "rule", "opacity": 0.5},
         "encoding": {"x": x, "y": {**y, "field": "low"}, "y2": {"field": "high"},
                      "color": color}},
        {"mark": {"type": "point", "filled": True, "size": 36, "opacity": 1},
         "encoding": {
             "x": x, "y": {**y, "field": "value"}, "color": color,
             "shape": {"field": "labels", "type": "nominal", "title": None,
                       "legend": {"symbolFillColor": _INK, "symbolStrokeColor": _INK},
                       "scale": {"domain": ["final", "not final"],
                                 "range": ["circle", "triangle-up"]}},
         }},
    ]  # fmt: skip
    return _drawn(
        {"data": {"values": points}, "width": 860, "height": 220, "layer": layers},
        f"{quality['metric']} of labelled predictions by slice and version, with intervals",
    )


def _distribution(shown: Mapping[str, Any]) -> str:
    bars = [
        {"label": part["label"], "share": part[side], "of": name}
        for part in shown["bins"]
        for side, name in (("baseline", "baseline"), ("now", "slice"))
    ]
    return _drawn(
        {
            "data": {"values": bars},
            "width": {"step": 9},
            "height": 130,
            "mark": "bar",
            "encoding": {
                "x": {"field": "label", "type": "nominal", "sort": None, "title": None,
                      "axis": {"labelAngle": -40, "labelLimit": 130}},
                "xOffset": {"field": "of", "sort": ["baseline", "slice"]},
                "y": {"field": "share", "type": "quantitative", "title": "share of rows",
                      "axis": {"format": ".0%", "tickCount": 4}},
                "color": {"field": "of", "type": "nominal", "title": None,
                          "scale": {"domain": ["baseline", "slice"], "range": [_BAND, _ALARM]}},
            },
        },
        f"Distribution of {shown['column']} in the baseline and in {shown['slice']}",
    )  # fmt: skip


def _drawn(spec: dict[str, Any], label: str) -> str:
    """Return a drawing as SVG, with a text for readers who do not see it."""
    svg = vl_convert.vegalite_to_svg({**spec, "config": _CONFIG})
    return svg.replace("<svg ", f'<svg role="img" aria-label="{escape(label)}" ', 1)
