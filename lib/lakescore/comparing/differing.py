"""Differing: the rows that versions disagree on or fail on, labels that flip, and shifts."""

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
from lakescore.comparing import gathering, matching, passes
from lakescore.comparing.gathering import PART
from lakescore.comparing.matching import DISAGREEMENT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lakescore.comparing.evaluating import Evaluation
    from lakescore.comparing.gathering import Floats
    from lakescore.comparing.pairing import Paired
    from lakescore.snapshots import Snapshot

_DECILES = 10
_LEAST_SHARE = 1e-4
"""What an empty bin counts as, so that the logarithm has a value."""


def disagreements(
    paired: Paired, holdout: Snapshot | DataFrame, *, most: int, inputs: Sequence[str], label: str
) -> pa.Table:
    """Return the rows on which versions disagree most.

    Columns: the keys, `disagreement`, the label, `prediction_<name>_<version>` (for probabilities
    a struct of the classes; `_` for what Delta takes in no name), and the inputs. The disagreement
    is the largest less the smallest prediction; of probabilities that of the class where it is
    largest; of labels how many different ones there are, less one.

    Args:
        paired: held rows, with keys.
        holdout: the snapshot, from which the inputs of these few rows are fetched.
        most: how many rows.
        inputs: columns of *holdout*.
        label: the label's column.
    """
    keys, versions = len(paired.keys), len(paired.uris)
    function = matching.disagreeing(keys, versions, paired.problem.task, most)
    held = passes.select(
        paired.rows, [*[f"k{n}" for n in range(keys)], *[f"v{n}" for n in range(versions)]]
    )
    schema = _schema_of(held)
    given = [*list(schema)[:keys], pa.field(DISAGREEMENT, pa.float64()), *list(schema)[keys:]]
    found = passes.fetch(passes.mapped(held, function, pa.schema(given)))
    few = matching.greatest(found, keys, most)
    names = _column_names([f"prediction_{uri.removeprefix('models:/')}" for uri in paired.uris])
    shown = {
        **{name: few.column(f"k{n}") for n, name in enumerate(paired.keys)},
        DISAGREEMENT: few.column(DISAGREEMENT),
        **{name: _shown(paired, few.column(f"v{n}")) for n, name in enumerate(names)},
    }
    wanted = [name for name in dict.fromkeys([label, *inputs]) if name not in shown]
    rows = scanning.matching(holdout, pa.table(shown), paired.keys, wanted)
    return rows.select([*paired.keys, DISAGREEMENT, *wanted[:1], *names, *wanted[1:]])


def failures(paired: Paired) -> passes.Rows:
    """Return the rows that versions could not score: keys, `model_uri`, `error_type`, `error`.

    One row for each version that could not; a prediction that is null, or NaN, without an error is
    `NoPrediction`.
    """
    keys = len(paired.keys)
    rows = _failed(paired, keys)
    names = [*paired.keys, "model_uri", "error_type", "error"]
    if isinstance(rows, DataFrame):
        uris = F.create_map(*[F.lit(e) for pair in enumerate(paired.uris) for e in pair])
        told = rows.withColumn("version", F.element_at(uris, F.col("version")))
        return told.toDF(*names)
    uris_here = pa.array(paired.uris, pa.string()).take(rows.column("version").combine_chunks())
    return rows.set_column(keys, "version", uris_here).rename_columns(names)


def count_failures(paired: Paired) -> dict[str, dict[str, int]]:
    """Return by version and type of error how many rows it could not score."""
    rows = passes.select(_failed(paired, 0), ["version", "error_type"])
    if isinstance(rows, DataFrame):
        counts = [tuple(row) for row in rows.groupBy("version", "error_type").count().collect()]
    else:
        counts = passes.tuples(rows.group_by(rows.column_names).aggregate([([], "count_all")]))
    found: dict[str, dict[str, int]] = {}
    for version, kind, count in counts:
        found.setdefault(paired.uris[version], {})[kind] = count
    return found


def flips(paired: Paired, baseline: str) -> list[dict[str, Any]]:
    """Return for each version how many labels it gives otherwise than the baseline.

    Of these `mended` are right where the baseline is wrong, and `broken` the other way round.
    Nothing for numbers.
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

    The sum of (p - q) ln(p / q) over ten bins that hold about a tenth of the baseline's predictions
    each; for labels and several classes over the predicted classes. Below 0.1 is usually called
    stable, above 0.25 a shift (Siddiqi: Credit Risk Scorecards, 2006).
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
    found = {}
    for uri, counts in counted.items():
        if uri != baseline and counts.sum() > 0:
            q, p = (np.add.reduceat(each, [0, *edges]) / each.sum() for each in (base, counts))
            q, p = np.maximum(q, _LEAST_SHARE), np.maximum(p, _LEAST_SHARE)
            found[uri] = float(((p - q) * np.log(p / q)).sum())
    return found


def _distribution(evaluation: Evaluation, paired: Paired, uri: str) -> Floats:
    if paired.problem.task == "regression":
        return evaluation.histograms.get((uri, "prediction"), np.zeros(gathering.BINS))
    positive = paired.problem.positive
    if positive in paired.problem.classes:
        names = [PART.join(["score", str(positive), truth]) for truth in "01"]
        found: Floats = np.zeros(gathering.BINS)
        for name in names:
            found = found + evaluation.histograms.get((uri, name), 0.0)
        return found
    counts = dict.fromkeys(evaluation.classes, 0.0)
    for (_, predicted), weight in evaluation.cells.get(uri, {}).items():
        counts[predicted] += weight
    return np.array(list(counts.values()))


def _failed(paired: Paired, keys: int) -> passes.Rows:
    """Return a row for each row and version that could not score it, with so many *keys*."""
    regression = paired.problem.task == "regression"
    named = [f"k{n}" for n in range(keys)]
    versions = [f"v{n}" for n in range(len(paired.uris))]
    held = passes.select(paired.rows, [*named, *versions, "errors"])
    fields = [*list(_schema_of(held))[:keys], *matching.FAILURES]
    function = matching.failing(keys, paired.uris, regression=regression)
    return passes.mapped(held, function, pa.schema(fields))


def _schema_of(rows: passes.Rows) -> pa.Schema:
    if isinstance(rows, DataFrame):
        return pa.schema([(each.name, arrow_type(each.dataType)) for each in rows.schema])
    return rows.schema


def _shown(paired: Paired, values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return predictions as a table has them: a struct of probabilities."""
    if paired.problem.task != "scores":
        return values
    names = _column_names([f"p_{name}" for name in paired.problem.classes])
    lists = values.combine_chunks()
    cells = [pc.list_element(lists, n) for n in range(len(names))]
    return pa.chunked_array([pa.StructArray.from_arrays(cells, names=names)])


def _column_names(texts: Sequence[str]) -> list[str]:
    """Return names that Delta takes for columns without column mapping, each another one."""
    names = [re.sub(r"[/ ,;{}()\n\t=]", "_", text) for text in texts]
    lower = [name.lower() for name in names]  # as Spark tells columns apart
    return [
        name if lower.count(name.lower()) == 1 else f"{name}_{n}" for n, name in enumerate(names)
    ]
