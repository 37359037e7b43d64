"""Charts of a comparison: Vega-Lite specifications that name the document's data and hold none."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import altair as alt
import vl_convert

if TYPE_CHECKING:
    from collections.abc import Mapping

Chart = alt.Chart | alt.LayerChart | alt.FacetChart
TITLES = {
    "ranking": "The metric that ranks",
    "differences": "Difference to the baseline",
    "slices": "By slice",
    "residuals": "Residuals (label less prediction)",
    "predictions": "Predictions",
    "scores": "Scores, of rows of the class and of others",
    "roc": "ROC curve",
    "precision_recall": "Precision and recall",
    "calibration": "Calibration",
}
_WIDE = "container"
_VERSION = "replace(datum.uri, 'models:/', '')"
_SMALLEST = 0.3


def scripts() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script that asks no network."""
    return _bundle()


@cache
def _bundle() -> str:
    bundle: str = vl_convert.javascript_bundle()  # type: ignore[call-arg]  # its stub errs
    return bundle


def of(document: Mapping[str, Any]) -> dict[str, Chart]:
    """Return the charts for which the document has data, by name; `TITLES` has their headings."""
    problem = document["problem"]
    versions = [each["uri"].removeprefix("models:/") for each in document["versions"]]
    colour = alt.Color("version:N", sort=versions, title=None)
    found: dict[str, Chart] = {"ranking": _ranking(problem["rank_by"], versions)}
    if len(versions) > 1:
        found["differences"] = _differences(problem["rank_by"], versions)
    if any(line["slice_by"] for line in document["metrics"]):
        found["slices"] = _slices(problem["rank_by"], colour)
    kinds = {bar["kind"] for bar in document["histograms"]}
    for name, kind in (("residuals", "residual"), ("predictions", "prediction")):
        if kind in kinds:
            found[name] = _histogram(kind, colour)
    if "score" in kinds:
        found["scores"] = _scores(colour)
    if document["curves"]:
        classes = len({point["class"] for point in document["curves"]})
        found["roc"] = _curve("false_positive_rate", "true_positive_rate", colour, classes)
        found["precision_recall"] = _curve("recall", "precision", colour, classes)
    if document["calibration"]:
        found["calibration"] = _calibration(colour)
    return found


def _lines(metric: str, *conditions: str) -> alt.Chart:
    tests = [f"datum.metric === {_text(metric)}", "datum.scope === 'common'", *conditions]
    return (
        alt.Chart(alt.NamedData("metrics"))
        .transform_filter(" && ".join(tests))
        .transform_calculate(version=_VERSION)
    )


def _text(value: str) -> str:
    """Return *value* as a text of Vega's expressions."""
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _interval(base: alt.Chart, x: str, low: str, high: str, title: str) -> alt.LayerChart:
    scale = alt.Scale(zero=False)
    bars = base.mark_rule(strokeWidth=2).encode(
        x=alt.X(f"{low}:Q", scale=scale, title=title), x2=high
    )
    points = base.mark_point(filled=True, size=80, opacity=1).encode(
        x=alt.X(f"{x}:Q", scale=scale, title=title)
    )
    return bars + points


def _ranking(metric: str, versions: list[str]) -> alt.LayerChart:
    base = _lines(metric, "datum.slice_by === null").encode(
        y=alt.Y("version:N", sort=versions, title=None),
        color=alt.Color("rank:N", title="rank"),
        tooltip=["version:N", "rank:Q", "value:Q", "low:Q", "high:Q", "rows:Q"],
    )
    chart = _interval(base, "value", "low", "high", metric)
    return chart.properties(width=_WIDE, height=alt.Step(28))


def _differences(metric: str, versions: list[str]) -> alt.LayerChart:
    base = _lines(metric, "datum.slice_by === null", "datum.difference !== null").encode(
        y=alt.Y("version:N", sort=versions, title=None),
        tooltip=["version:N", "difference:Q", "difference_low:Q", "difference_high:Q"],
    )
    title = f"difference in {metric}"
    zero = alt.Chart(alt.NamedData("zero")).mark_rule(strokeDash=[4, 4]).encode(x="at:Q")
    chart = zero + _interval(base, "difference", "difference_low", "difference_high", title)
    return chart.properties(width=_WIDE, height=alt.Step(28))


def _slices(metric: str, colour: alt.Color) -> alt.LayerChart:
    base = _lines(metric, "datum.slice_by !== null").encode(
        y=alt.Y("slice:N", sort=None, title=None),
        yOffset="version:N",
        color=colour,
        opacity=alt.condition("datum.small", alt.value(_SMALLEST), alt.value(1)),
        tooltip=["slice:N", "version:N", "value:Q", "low:Q", "high:Q", "rows:Q", "rank:Q"],
    )
    chart = _interval(base, "value", "low", "high", metric)
    return chart.properties(width=_WIDE, height=alt.Step(10))


def _histogram(kind: str, colour: alt.Color) -> alt.Chart:
    return (
        alt.Chart(alt.NamedData("histograms"))
        .transform_filter(f"datum.kind === '{kind}'")
        .transform_calculate(version=_VERSION)
        .mark_line(interpolate="step-after")
        .encode(
            x=alt.X("from:Q", title=kind),
            y=alt.Y("weight:Q", title="rows"),
            color=colour,
            tooltip=["version:N", "from:Q", "to:Q", "weight:Q"],
        )
        .properties(width=_WIDE, height=220)
    )


def _scores(colour: alt.Color) -> alt.FacetChart:
    line = (
        alt.Chart()
        .mark_line(interpolate="step-after")
        .encode(
            x=alt.X("from:Q", title="score"),
            y=alt.Y("weight:Q", title="rows"),
            color=colour,
            strokeDash=alt.StrokeDash("is_class:N", title="is of the class"),
            tooltip=["version:N", "class:N", "is_class:N", "from:Q", "to:Q", "weight:Q"],
        )
        .properties(width=420, height=200)
    )
    return (
        line.facet(
            facet=alt.Facet("class:N", title="class"), columns=2, data=alt.NamedData("histograms")
        )
        .transform_filter("datum.kind === 'score'")
        .transform_calculate(version=_VERSION)
    )


def _curve(x: str, y: str, colour: alt.Color, classes: int) -> Chart:
    base = alt.Chart() if classes > 1 else alt.Chart(alt.NamedData("curves"))
    line = base.mark_line().encode(
        x=alt.X(f"{x}:Q", title=x.replace("_", " ")),
        y=alt.Y(f"{y}:Q", title=y.replace("_", " ")),
        order="threshold:Q",
        color=colour,
        tooltip=["version:N", "class:N", "threshold:Q", f"{x}:Q", f"{y}:Q"],
    )
    if classes == 1:
        return line.transform_calculate(version=_VERSION).properties(width=420, height=320)
    small = line.properties(width=240, height=200)
    facet = small.facet(facet=alt.Facet("class:N"), columns=3, data=alt.NamedData("curves"))
    return facet.transform_calculate(version=_VERSION)


def _calibration(colour: alt.Color) -> alt.LayerChart:
    base = alt.Chart(alt.NamedData("calibration")).transform_calculate(version=_VERSION)
    line = base.mark_line(point=True).encode(
        x=alt.X("mean_score:Q", title="mean score", scale=alt.Scale(domain=[0, 1])),
        y=alt.Y("share:Q", title="share that is right", scale=alt.Scale(domain=[0, 1])),
        color=colour,
        tooltip=["version:N", "mean_score:Q", "share:Q", "weight:Q"],
    )
    ideal = (
        alt.Chart(alt.NamedData("diagonal"))
        .mark_line(strokeDash=[4, 4], color="gray")
        .encode(x="at:Q", y="at:Q")
    )
    return (ideal + line).properties(width=420, height=320)
