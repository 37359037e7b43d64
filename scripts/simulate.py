"""The simulation behind the intervals: how often they hold the truth, and how often luck wins.

Draws holdouts from a known world, again and again, and lets the compare job's own code (without
Spark) compute intervals of metrics and of differences; docs/benchmark/coverage.* is what it writes.
"""

import argparse
import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
import pyarrow as pa
import vl_convert
from rich.console import Console

from lakescore import metrics
from lakescore.comparing import bootstrapping, formulas, gathering, ordering, ranking

FOLDER = Path(__file__).parents[1] / "docs" / "benchmark"
SIZES = (100, 1_000, 10_000)
LEVEL = 0.95
BOOTSTRAPS = 400
TRUTH_ROWS = 4_000_000
CLASSES = ("0", "1")
PLAIN = {"regression": ("rmse", "mae", "r2", "bias"), "binary": ("log_loss", "accuracy", "f1")}
WALKED = {"regression": ("median_absolute_error",), "binary": ("roc_auc", "average_precision")}
Array = np.ndarray[Any, Any]

console = Console(highlight=False)


@dataclass(frozen=True)
class World:
    """Where holdouts come from: labels, and the predictions of two versions, one a bit better."""

    kind: str

    def draw(self, rows: int, random: np.random.Generator) -> tuple[Array, list[Array]]:
        """Return labels, and by version numbers or scores of the class 1."""
        if self.kind == "regression":
            label = random.gamma(2.0, 10.0, rows)  # skewed, as delays are
            shared = random.standard_t(6, rows) * (1 + label / 40)
            return label, [label + shared + random.normal(0.2, s, rows) for s in (1.0, 1.3)]
        hidden = random.normal(-1.5, 1.5, rows)
        label = (random.random(rows) < _expit(hidden)).astype(np.int64)
        return label, [_expit(hidden + random.normal(0, s, rows)) for s in (0.5, 0.8)]


def main() -> None:
    """Run it and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1000)
    asked = parser.parse_args()
    draws = bootstrapping.draws(BOOTSTRAPS, 0)
    lines = []
    for kind in PLAIN:
        world = World(kind)
        truth = measured(world, TRUTH_ROWS, np.random.default_rng(1), draws[:, :1])
        for rows in SIZES:
            hits: dict[tuple[str, str], list[bool]] = defaultdict(list)
            for trial in range(asked.trials):
                random = np.random.default_rng([rows, trial])
                for key, hit in tried(measured(world, rows, random, draws), truth).items():
                    hits[key].append(hit)
            for (metric, quantity), every in hits.items():
                share = float(np.mean(every))
                line = {"metric": metric, "of": quantity, "rows": rows, "coverage": share}
                lines.append(line)
            console.print(f"simulate: {kind}, {rows:,} rows, {asked.trials} trials")
    equals = [false_winners(versions, asked.trials, draws) for versions in (2, 4, 8)]
    write(lines, equals, asked.trials)


def measured(
    world: World,
    rows: int,
    random: np.random.Generator,
    draws: Array,
) -> dict[str, list[Any]]:
    """Return each metric of both versions, as vectors over the bootstraps."""
    label, predictions = world.draw(rows, random)
    bucket = random.integers(0, bootstrapping.BUCKETS, rows)
    values: dict[str, list[Any]] = {}
    for version in evaluated(world.kind, label, predictions, bucket, draws):
        for name in (*PLAIN[world.kind], *WALKED[world.kind]):
            values.setdefault(name, []).append(version[name])
    return values


def evaluated(
    kind: str,
    label: Array,
    predictions: list[Array],
    bucket: Array,
    draws: Array,
) -> list[dict[str, Any]]:
    """Return the metrics of each version, by what the job's workers run."""
    regression = kind == "regression"
    spec = gathering.Spec(
        task="regression" if regression else "scores",
        versions=len(predictions),
        slices=0,
        draws=draws,
        shift=float(np.median(label)) if regression else 0.0,
        classes=() if regression else CLASSES,
        of_interest=() if regression else (1,),
    )
    columns = [pa.array(p) if regression else _pairs(p) for p in predictions]
    labels = pa.array(label) if regression else pa.array(label).cast(pa.string())
    names = ["bucket", "label", "weight", *[f"v{n}" for n in range(len(columns))]]
    arrays = [pa.array(bucket), labels, pa.array(np.ones(len(label))), *columns]
    sums = gathering.Sums(spec)
    sums.take(pa.RecordBatch.from_arrays(arrays, names=names))
    by_version: dict[int, dict[str, Any]] = defaultdict(dict)
    for batch in sums.given():
        for row in batch.to_pylist():
            if row["scope"] == "common" and row["bins"] is None:
                by_version[row["version"]][row["name"]] = np.frombuffer(row["sums"])
    results = []
    for n, predicted in enumerate(predictions):
        positive = None if regression else "1"
        values = formulas.metrics_from_sums(spec.task, by_version[n], positive=positive, width=2)
        results.append(values | _walked(kind, label, predicted, bucket, draws))
    return results


def _walked(
    kind: str, label: Array, predicted: Array, bucket: Array, draws: Array
) -> dict[str, Any]:
    """Return the metrics of sorted rows, all of them in one partition."""
    regression = kind == "regression"
    value = np.abs(label - predicted) if regression else -predicted
    order = np.argsort(value, kind="stable")
    first = np.ones(len(value)) if regression else label.astype(np.float64)
    second = np.zeros(len(value)) if regression else 1.0 - label
    columns = [np.zeros(len(value), np.int32), value, bucket, first, second]
    names = ["part", "value", "bucket", "first", "second"]
    batch = pa.RecordBatch.from_arrays([pa.array(c[order]) for c in columns], names=names)
    (totals,) = ordering.add_up(draws)(iter([batch]))
    whole = {r["name"]: np.frombuffer(r["sums"]) for r in totals.to_pylist()}
    zeros = np.zeros(draws.shape[1])
    walk = (
        ordering.cross(draws, {0: whole["first"]}, formulas.QUANTILES)
        if regression
        else ordering.walk(draws, {(0, 0): (zeros, zeros)})
    )
    (sums,) = walk(iter([batch]))
    vectors = {r["name"]: np.frombuffer(r["sums"]) for r in sums.to_pylist()}
    if regression:
        return formulas.metrics_from_order(vectors)
    return formulas.metrics_from_curves({"1": {**whole, **vectors}}, "1")


def tried(
    vectors_by_metric: dict[str, list[Any]], truth: dict[str, list[Any]]
) -> dict[tuple[str, str], bool]:
    """Tell which intervals hold the truth."""
    hits = {}
    for name, vectors in vectors_by_metric.items():
        metric = next(known for known in metrics.METRICS if known.name == name)
        standing = ranking.stand(
            dict(zip("ab", vectors, strict=True)),
            better_high=metric.greater_is_better, bounds=(metric.least, metric.most), level=LEVEL,
        )  # fmt: skip
        own, gap = standing.estimates["a"], standing.differences["a", "b"]
        a, b = (vector[0] for vector in truth[name])
        hits[name, "the metric"] = bool(own.low <= a <= own.high)
        hits[name, "the difference"] = bool(gap.low <= a - b <= gap.high)
    return hits


def false_winners(versions: int, trials: int, draws: Array) -> dict[str, Any]:
    """Return how often any of equally good versions is said to be better than another."""
    luck = 0
    for trial in range(trials):
        random = np.random.default_rng([versions, trial])
        label = random.normal(0, 10, 1000)
        predictions = [label + random.normal(0, 1, 1000) for _ in range(versions)]
        bucket = random.integers(0, bootstrapping.BUCKETS, 1000)
        values = evaluated("regression", label, predictions, bucket, draws)
        vectors = {str(n): version["rmse"] for n, version in enumerate(values)}
        standing = ranking.stand(vectors, better_high=False, bounds=(0, np.inf), level=LEVEL)
        luck += any(not gap.holds_zero for gap in standing.differences.values())
    return {"versions": versions, "false_winners": luck / trials}


def write(lines: list[dict[str, Any]], equals: list[dict[str, Any]], trials: int) -> None:
    """Write the figures, a table and a plot of them."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    facts = {"level": LEVEL, "bootstraps": BOOTSTRAPS, "trials": trials}
    text = json.dumps({**facts, "coverage": lines, "equal_versions": equals}, indent=1)
    (FOLDER / "coverage.json").write_text(text + "\n", encoding="utf-8")
    chance = 1.96 * np.sqrt(LEVEL * (1 - LEVEL) / trials)
    caption = (
        f"`python scripts/simulate.py --trials {trials}`: {trials} holdouts of each size, "
        f"{BOOTSTRAPS} bootstraps, intervals of {LEVEL:.0%}. Chance alone moves a figure by "
        f"{chance:.1%}."
    )
    rows = [
        "# How often intervals hold the truth",
        "",
        caption,
        "",
        "| metric | of | " + " | ".join(f"{n:,} rows" for n in SIZES) + " |",
        "|---|---|" + "---|" * len(SIZES),
    ]
    by_line: dict[tuple[str, str], list[str]] = defaultdict(list)
    for line in lines:
        by_line[line["metric"], line["of"]].append(f"{line['coverage']:.1%}")
    rows += [f"| {m} | {of} | {' | '.join(shares)} |" for (m, of), shares in by_line.items()]
    rows += ["", "Equally good versions on 1,000 rows: how often any is called better than another"]
    rows += ["", "| versions | called better |", "|---|---|"]
    rows += [f"| {line['versions']} | {line['false_winners']:.1%} |" for line in equals]
    (FOLDER / "coverage.md").write_text("\n".join(rows) + "\n", encoding="utf-8")
    shown = alt.Scale(domain=[0.85, 1], zero=False)
    points = (
        alt.Chart()
        .mark_point(filled=True, size=60)
        .encode(
            x=alt.X("coverage:Q", scale=shown, axis=alt.Axis(format="%")),
            y=alt.Y("metric:N", title=None),
            color=alt.Color("rows:O"),
        )
    )
    nominal = alt.Chart().mark_rule(strokeDash=[4, 4]).encode(x=alt.XDatum(LEVEL, scale=shown))
    chart = alt.layer(nominal, points, data=alt.InlineData(lines)).properties(width=300)
    chart = chart.facet(column=alt.Column("of:N", title="95 % intervals of"))
    svg = vl_convert.vegalite_to_svg(chart.to_dict())
    (FOLDER / "coverage.svg").write_text(svg, encoding="utf-8")


def _expit(values: Array) -> Array:
    return 1 / (1 + np.exp(-values))


def _pairs(scores: Array) -> pa.Array:
    flat = np.column_stack([1 - scores, scores]).reshape(-1)
    offsets = np.arange(0, len(flat) + 1, 2, dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(flat))


if __name__ == "__main__":
    main()
