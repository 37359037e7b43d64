"""Totals: the sums of all rows, which workers add up in one pass, by place, version and scope."""

from __future__ import annotations

import re
import sys
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from pyspark import cloudpickle

from lakescore.comparing import (
    batches,
    binning,
    bootstrapping,
    gathering,
    matching,
    ordering,
    passes,
    terms,
)
from lakescore.comparing.errors import MetricUndefined, TooManySlices
from lakescore.comparing.gathering import Spec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from lakescore.comparing.pairing import Paired

# What workers run: executors do not have lakescore.
for _module in (batches, binning, bootstrapping, gathering, matching, ordering, terms):
    cloudpickle.register_pickle_by_value(_module)  # type: ignore[no-untyped-call]

_MOST_CURVES = 20
"""If there are more classes, there are no areas under curves."""
Place = tuple[int, str | None]
ALL = (-1, None)
"""The place of all rows; the other places are slices: (column, value)."""
Summed = dict[tuple[Place, int, str, str], Any]
Arranged = dict[Place, dict[int, dict[str, dict[str, Any]]]]


def make_spec(paired: Paired, draws: Any, functions: Mapping[str, Callable[..., Any]]) -> Spec:  # noqa: ANN401 - an array
    """Return the description of the sums that the metrics of *paired* need."""
    problem = paired.problem
    shift = 0.0
    if problem.task == "regression":
        sample = passes.first(passes.select(paired.rows, ["label"]), 200).column(0).to_numpy()
        shift = float(np.median(sample)) if len(sample) else 0.0
    interest: tuple[int, ...] = ()
    if problem.positive in problem.classes:
        interest = (problem.classes.index(str(problem.positive)),)
    elif len(problem.classes) <= _MOST_CURVES:
        interest = tuple(range(len(problem.classes)))
    for function in functions.values():
        _pickle_by_value(function)
    return Spec(
        task=problem.task,
        versions=len(paired.uris),
        slices=len(paired.slices),
        draws=draws,
        shift=shift,
        classes=problem.classes,
        of_interest=interest,
        threshold=problem.threshold,
        custom=tuple(functions.items()),
    )


def _pickle_by_value(function: Callable[..., Any]) -> None:
    """Pickle the module of a custom metric by value, because executors may not have it."""
    module = sys.modules.get(getattr(function, "__module__", ""))
    if module is not None and module.__name__.partition(".")[0] not in {
        "builtins",
        "numpy",
        "sklearn",
    }:
        cloudpickle.register_pickle_by_value(module)  # type: ignore[no-untyped-call]


def gather_sums(paired: Paired, spec: Spec) -> tuple[Summed, Summed]:
    """Return sums, and counts by bin; each by (place, version, scope, name).

    Raises:
        TooManySlices, MetricUndefined: a task has too many slices or classes.
    """
    with _explain_errors(paired):
        return _gather_sums(paired.numbers, spec)


def _gather_sums(rows: passes.Rows, spec: Spec) -> tuple[Summed, Summed]:
    partial = passes.mapped(rows, gathering.gather(spec), gathering.SCHEMA)
    # Workers merge the sums, because the sums of thousands of tasks are too much for the driver.
    grouped = passes.together(partial, ["slice_by", "slice", "version", "name"])
    merged = passes.mapped(grouped, gathering.merge, gathering.SCHEMA)
    sums: Summed = {}
    counts: Summed = {}
    for by, value, version, scope, name, bins, vector in passes.tuples(merged):
        key = ((by, value), version, scope, name)
        numbers = np.frombuffer(vector)
        if bins is None:
            sums[key] = numbers
        else:
            counts[key] = np.zeros(binning.BINS)
            counts[key][np.frombuffer(bins, np.int64)] = numbers
    return sums, counts


@contextmanager
def _explain_errors(paired: Paired) -> Iterator[None]:
    from pyspark.errors import PySparkException  # noqa: PLC0415

    try:
        yield
    except (PySparkException, ValueError) as error:
        match = re.search(r"slices by column (\d+) have more than (\d+) values", str(error))
        if match:
            raise TooManySlices(paired.slices[int(match[1])], int(match[2])) from error
        if "have more than" in str(error) and "classes" in str(error):
            reason = f"there are more than {gathering.MOST_CLASSES} classes"
            raise MetricUndefined(paired.problem.rank_by, reason) from error
        raise


def arrange_sums(sums: Summed, versions: int) -> Arranged:
    """Return sums by place, version and scope; `own` has all rows that the version could score."""
    by_place: Arranged = {ALL: {}}
    for (place, version, scope, name), vector in sums.items():
        if version >= 0 and not name.startswith("cell"):
            scopes = by_place.setdefault(place, {}).setdefault(version, {})
            scopes.setdefault(scope, {})[name] = vector
    for by_version in by_place.values():
        for version in range(versions):
            scopes = by_version.setdefault(version, {})
            common, extra = scopes.get("common", {}), scopes.pop("extra", {})
            own = dict(common)
            for name, vector in extra.items():
                if name in own:
                    own[name] = gathering.combine(name, own[name], vector)
                else:
                    own[name] = vector
            scopes["common"], scopes["own"] = common, own
    return by_place


def check_slices(paired: Paired, places: Iterable[Place]) -> None:
    """Check the number of slices over all tasks, because each task sees only some of the rows."""
    counts = Counter(by for by, _ in places)
    for by, name in enumerate(paired.slices):
        if counts[by] > gathering.MOST_SLICES:
            raise TooManySlices(name, gathering.MOST_SLICES)


def place_order(by_place: Arranged, place: Place) -> tuple[int, float, str]:
    """Return the sort key: all rows first, then slices column by column, the largest first."""
    rows = max((row_count(scopes, "common") for scopes in by_place[place].values()), default=0)
    return (place[0], -rows, str(place[1]))


def row_count(scopes: Mapping[str, Mapping[str, Any]], scope: str) -> int:
    """Return the number of rows of *scope*."""
    return int(scopes.get(scope, {}).get("n", np.zeros(1))[0])
