"""Differing: the rows that versions disagree on or fail on, labels that flip, and shifts."""

from __future__ import annotations

import re
from functools import reduce
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from pyspark.sql import functions as F  # noqa: N812 - the name that everyone reads at once

from lakescore.comparing import gathering
from lakescore.comparing.gathering import PART

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyspark.sql import Column, DataFrame

    from lakescore.comparing.evaluating import Evaluation
    from lakescore.comparing.gathering import Floats
    from lakescore.comparing.pairing import Paired

_DECILES = 10
_LEAST_SHARE = 1e-4
"""What an empty bin counts as, so that the logarithm has a value."""


def disagreements(
    paired: Paired, holdout: DataFrame, *, most: int, inputs: Sequence[str], label: str
) -> DataFrame:
    """Return the rows on which versions disagree most, the most first.

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
    keys = [F.col(f"k{n}").alias(name) for n, name in enumerate(paired.keys)]
    versions = [F.col(f"v{n}") for n in range(len(paired.uris))]
    measure = _disagreement(paired, versions)
    both = reduce(lambda a, b: a & b, [each.isNotNull() for each in versions])
    names = _column_names([f"prediction_{uri.removeprefix('models:/')}" for uri in paired.uris])
    few = (
        paired.rows.where(both)
        .select(*keys, measure.alias("disagreement"), *[
            _shown(paired, each).alias(name) for each, name in zip(versions, names, strict=True)
        ])
        .where(F.col("disagreement") > 0)
        .orderBy(F.col("disagreement").desc(), *paired.keys)
        .limit(most)
    )  # fmt: skip
    taken = {*paired.keys, "disagreement", *names}
    wanted = [name for name in dict.fromkeys([label, *inputs]) if name not in taken]
    rows = holdout.select(*[F.col(f"`{name}`") for name in [*paired.keys, *wanted]])
    joined = rows.join(F.broadcast(few), list(paired.keys))
    columns = [*paired.keys, "disagreement", *wanted[:1], *names, *wanted[1:]]
    return joined.select(*[F.col(f"`{name}`") for name in columns])


def failures(paired: Paired) -> DataFrame:
    """Return the rows that versions could not score: keys, `model_uri`, `error_type`, `error`.

    One row for each version that could not; a prediction that is null, or NaN, without an error is
    `NoPrediction`.
    """
    keys = [F.col(f"k{n}").alias(name) for n, name in enumerate(paired.keys)]
    return _failed(paired, keys).select(*paired.keys, "model_uri", "error_type", "error")


def count_failures(paired: Paired) -> dict[str, dict[str, int]]:
    """Return by version and type of error how many rows it could not score."""
    rows = _failed(paired, []).groupBy("model_uri", "error_type").count().collect()
    found: dict[str, dict[str, int]] = {}
    for uri, kind, count in rows:
        found.setdefault(uri, {})[kind] = count
    return found


def flips(paired: Paired, baseline: str) -> list[dict[str, Any]]:
    """Return for each version how many labels it gives otherwise than the baseline.

    Of these `mended` are right where the baseline is wrong, and `broken` the other way round.
    Nothing for numbers.
    """
    others = [uri for uri in paired.uris if uri != baseline]
    if paired.problem.task == "regression" or not others:
        return []
    decided = {uri: _decided(paired, F.col(f"v{n}")) for n, uri in enumerate(paired.uris)}
    label, base = F.col("label"), decided[baseline]
    cells = []
    for uri in others:
        differs = decided[uri] != base
        counts = {"flips": differs, "mended": differs & (decided[uri] == label),
                  "broken": differs & (base == label)}  # fmt: skip
        cells += [F.count_if(each).alias(f"{uri} {name}") for name, each in counts.items()]
        cells.append(F.count_if(differs.isNotNull()).alias(f"{uri} rows"))
    found = paired.rows.agg(*cells).collect()[0]
    names = ("rows", "flips", "mended", "broken")
    return [{"uri": uri, **{name: found[f"{uri} {name}"] for name in names}} for uri in others]


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


def _failed(paired: Paired, keys: Sequence[Column]) -> DataFrame:
    """Return a row for each row and version that could not score it."""
    missing = []
    for n, uri in enumerate(paired.uris):
        own = F.filter("errors", _is_of(uri))
        known = F.when(F.size(own) > 0, own[0])
        cell = F.struct(
            F.lit(uri).alias("model_uri"),
            F.coalesce(known["type"], F.lit("NoPrediction")).alias("error_type"),
            F.coalesce(known["message"], F.lit("the model gave no value")).alias("error"),
        )
        lacks = F.col(f"v{n}").isNull()
        if paired.problem.task == "regression":
            lacks |= F.isnan(f"v{n}")
        missing.append(F.when(lacks, cell))
    cells = F.filter(F.array(*missing), lambda cell: cell.isNotNull())
    return paired.rows.select(*keys, F.inline(cells))


def _is_of(uri: str) -> Callable[[Column], Column]:
    return lambda error: error["version"] == uri


def _disagreement(paired: Paired, versions: Sequence[Column]) -> Column:
    if len(versions) == 1:
        return F.lit(0.0)
    if paired.problem.task == "regression":
        return F.greatest(*versions) - F.least(*versions)
    if paired.problem.task == "labels":
        return F.size(F.array_distinct(F.array(*versions))).cast("double") - 1
    classes = range(len(paired.problem.classes))
    gaps = [F.abs(a[n] - b[n]) for a, b in combinations(versions, 2) for n in classes]
    return F.greatest(*gaps) if len(gaps) > 1 else gaps[0]


def _shown(paired: Paired, value: Column) -> Column:
    if paired.problem.task != "scores":
        return value
    names = _column_names([f"p_{name}" for name in paired.problem.classes])
    return F.struct(*[value[n].alias(name) for n, name in enumerate(names)])


def _column_names(texts: Sequence[str]) -> list[str]:
    """Return names that Delta takes for columns without column mapping, each another one."""
    names = [re.sub(r"[/ ,;{}()\n\t=]", "_", text) for text in texts]
    lower = [name.lower() for name in names]  # as Spark tells columns apart
    return [
        name if lower.count(name.lower()) == 1 else f"{name}_{n}" for n, name in enumerate(names)
    ]


def _decided(paired: Paired, value: Column) -> Column:
    """Return the predicted class as a text: that of the first highest score, or by threshold."""
    if paired.problem.task != "scores":
        return value
    if paired.problem.threshold is not None:
        below, reached = map(F.lit, paired.problem.classes)
        return F.when(value[1] >= paired.problem.threshold, reached).when(value.isNotNull(), below)
    names = F.array(*[F.lit(name) for name in paired.problem.classes])
    # By name: array_position() of Spark 3.5 takes no column.
    at = F.call_function("array_position", value, F.array_max(value))
    found = F.element_at(names, at.cast("int"))
    return F.when(value.isNotNull(), found)  # Spark takes an element of known texts for never null
