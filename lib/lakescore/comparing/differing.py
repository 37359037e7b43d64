"""Differing: rows on which versions disagree or fail, labels that flip, and shifts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812 - the name that everyone reads at once

from lakescore import scanning
from lakescore.arrow import arrow_type
from lakescore.comparing import binning, matching, passes
from lakescore.comparing.gathering import PART
from lakescore.comparing.matching import DISAGREEMENT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lakescore.comparing.batches import Floats
    from lakescore.comparing.evaluating import Evaluation
    from lakescore.comparing.pairing import Paired
    from lakescore.snapshots import Snapshot

_DECILES = 10
_LEAST_SHARE = 1e-4
"""The share of an empty bin, so that the logarithm has a value."""


def disagreements(
    paired: Paired, holdout: Snapshot | DataFrame, *, most: int, inputs: Sequence[str], label: str
) -> pa.Table:
    """Return the rows on which versions disagree most.

    Columns: the keys, `disagreement`, the label, `prediction_<name>_<version>`, and the inputs. A
    prediction of probabilities is a struct of the classes. In the names, `_` replaces characters
    that Delta does not allow. The disagreement is the largest prediction minus the smallest. For
    probabilities, it is that of the class where it is largest. For labels, it is the number of
    different labels minus one.

    Args:
        paired: held rows, with keys.
        holdout: the snapshot that the inputs of these rows are fetched from.
        most: the maximum number of rows.
        inputs: columns of *holdout*.
        label: the label's column.
    """
    keys, versions = len(paired.keys), len(paired.uris)
    function = matching.disagreeing(keys, versions, paired.problem.task, most)
    predictions = passes.select(
        paired.rows, [*[f"k{n}" for n in range(keys)], *[f"v{n}" for n in range(versions)]]
    )
    schema = _schema_of(predictions)
    fields = [*list(schema)[:keys], pa.field(DISAGREEMENT, pa.float64()), *list(schema)[keys:]]
    gathered = passes.fetch(passes.mapped(predictions, function, pa.schema(fields)))
    most_differing = matching.greatest(gathered, keys, most)
    names = _column_names([f"prediction_{uri.removeprefix('models:/')}" for uri in paired.uris])
    columns = {
        **{name: most_differing.column(f"k{n}") for n, name in enumerate(paired.keys)},
        DISAGREEMENT: most_differing.column(DISAGREEMENT),
        **{
            name: _output_predictions(paired, most_differing.column(f"v{n}"))
            for n, name in enumerate(names)
        },
    }
    wanted = [name for name in dict.fromkeys([label, *inputs]) if name not in columns]
    rows = scanning.matching(holdout, pa.table(columns), paired.keys, wanted)
    return rows.select([*paired.keys, DISAGREEMENT, *wanted[:1], *names, *wanted[1:]])


def failures(paired: Paired) -> passes.Rows:
    """Return the rows that versions could not score: keys, `model_uri`, `error_type`, `error`.

    There is one row for each version that could not score a row. If a prediction is null or NaN
    without an error, the error type is `NoPrediction`.
    """
    keys = len(paired.keys)
    rows = _failure_rows(paired, keys)
    names = [*paired.keys, "model_uri", "error_type", "error"]
    if isinstance(rows, DataFrame):
        uris = F.create_map(*[F.lit(item) for pair in enumerate(paired.uris) for item in pair])
        named = rows.withColumn("version", F.element_at(uris, F.col("version")))
        return named.toDF(*names)
    uris_here = pa.array(paired.uris, pa.string()).take(rows.column("version").combine_chunks())
    return rows.set_column(keys, "version", uris_here).rename_columns(names)


def count_failures(paired: Paired) -> dict[str, dict[str, int]]:
    """Return by version and type of error how many rows the version could not score."""
    rows = passes.select(_failure_rows(paired, 0), ["version", "error_type"])
    if isinstance(rows, DataFrame):
        counts = [tuple(row) for row in rows.groupBy("version", "error_type").count().collect()]
    else:
        counts = passes.tuples(rows.group_by(rows.column_names).aggregate([([], "count_all")]))
    by_version: dict[str, dict[str, int]] = {}
    for version, kind, count in counts:
        by_version.setdefault(paired.uris[version], {})[kind] = count
    return by_version


def flips(paired: Paired, baseline: str) -> list[dict[str, Any]]:
    """Return for each version how many of its labels differ from the baseline's.

    `mended` counts the rows where the version is right and the baseline is wrong, and `broken` the
    rows where it is the other way round. The result is empty for a regression.
    """
    others = [n for n, uri in enumerate(paired.uris) if uri != baseline]
    problem = paired.problem
    if problem.task == "regression" or not others:
        return []
    classes = problem.classes if problem.task == "scores" else ()
    function = matching.flipping(others, paired.uris.index(baseline), classes, problem.threshold)
    counted = passes.mapped(paired.numbers, function, matching.FLIPS)
    sums: dict[int, Any] = {n: np.zeros(len(matching.FLIPS) - 1, np.int64) for n in others}
    for n, *counts in passes.tuples(counted):
        sums[n] = sums[n] + np.array(counts)
    names = matching.FLIPS.names[1:]
    return [
        {"uri": paired.uris[n], **dict(zip(names, sums[n].tolist(), strict=True))} for n in others
    ]


def shifts(evaluation: Evaluation, paired: Paired, baseline: str) -> dict[str, float]:
    """Return the population stability index of each version's predictions against the baseline's.

    The index is the sum of (p - q) ln(p / q) over ten bins, each with about a tenth of the
    baseline's predictions. For labels and for several classes, it is the sum over the predicted
    classes. A value below 0.1 is usually called stable, and a value above 0.25 a shift (Siddiqi:
    Credit Risk Scorecards, 2006).
    """
    counted = {uri: _distribution(evaluation, paired, uri) for uri in paired.uris}
    base = counted[baseline]
    if base.sum() == 0:
        return {}
    edges = np.arange(1, len(base))
    if paired.problem.task == "regression" or paired.problem.positive in paired.problem.classes:
        below = np.cumsum(base) / base.sum()
        edges = np.unique(np.searchsorted(below, np.arange(1, _DECILES) / _DECILES) + 1)
        edges = edges[edges < len(base)]
    indices = {}
    for uri, counts in counted.items():
        if uri != baseline and counts.sum() > 0:
            q, p = (np.add.reduceat(bins, [0, *edges]) / bins.sum() for bins in (base, counts))
            q, p = np.maximum(q, _LEAST_SHARE), np.maximum(p, _LEAST_SHARE)
            indices[uri] = float(((p - q) * np.log(p / q)).sum())
    return indices


def _distribution(evaluation: Evaluation, paired: Paired, uri: str) -> Floats:
    if paired.problem.task == "regression":
        return evaluation.histograms.get((uri, "prediction"), np.zeros(binning.BINS))
    positive = paired.problem.positive
    if positive in paired.problem.classes:
        names = [PART.join(["score", str(positive), truth]) for truth in "01"]
        weights: Floats = np.zeros(binning.BINS)
        for name in names:
            weights = weights + evaluation.histograms.get((uri, name), 0.0)
        return weights
    counts = dict.fromkeys(evaluation.classes, 0.0)
    for (_, predicted), weight in evaluation.cells.get(uri, {}).items():
        counts[predicted] += weight
    return np.array(list(counts.values()))


def _failure_rows(paired: Paired, keys: int) -> passes.Rows:
    """Return a row for each row that a version could not score, with the first *keys* keys."""
    regression = paired.problem.task == "regression"
    key_names = [f"k{n}" for n in range(keys)]
    versions = [f"v{n}" for n in range(len(paired.uris))]
    rows = passes.select(paired.rows, [*key_names, *versions, "errors"])
    fields = [*list(_schema_of(rows))[:keys], *matching.FAILURES]
    function = matching.failing(keys, paired.uris, regression=regression)
    return passes.mapped(rows, function, pa.schema(fields))


def _schema_of(rows: passes.Rows) -> pa.Schema:
    if isinstance(rows, DataFrame):
        return pa.schema([(field.name, arrow_type(field.dataType)) for field in rows.schema])
    return rows.schema


def _output_predictions(paired: Paired, values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return predictions as they stand in a table: probabilities become a struct."""
    if paired.problem.task != "scores":
        return values
    names = _column_names([f"p_{name}" for name in paired.problem.classes])
    lists = values.combine_chunks()
    cells = [pc.list_element(lists, n) for n in range(len(names))]
    return pa.chunked_array([pa.StructArray.from_arrays(cells, names=names)])


def _column_names(texts: Sequence[str]) -> list[str]:
    """Return different names that Delta allows for columns without column mapping."""
    names = [re.sub(r"[/ ,;{}()\n\t=]", "_", text) for text in texts]
    lower = [name.lower() for name in names]  # Spark ignores case in names
    return [
        name if lower.count(name.lower()) == 1 else f"{name}_{n}" for n, name in enumerate(names)
    ]
