"""Comparison: score versions side by side and evaluate them on the same rows."""

from __future__ import annotations

import hashlib
import importlib
import json
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from pyspark.sql.types import ArrayType, MapType, StructType

from lakescore import scoring
from lakescore.comparing import costing, differing, evaluating, gathering, pairing, passes
from lakescore.comparing.document import long_form
from lakescore.comparing.errors import TooManySlices
from lakescore.comparing.holdout import count_unlabelled
from lakescore.comparing.problem import infer
from lakescore.errors import ConfigError
from lakescore.signature import ColumnsUnfit
from lakescore.slicing import WHOLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from lakescore.assignment import Assignment
    from lakescore.comparing.candidates import Candidates
    from lakescore.comparing.evaluating import Evaluation
    from lakescore.comparing.pairing import Paired
    from lakescore.comparing.problem import Problem
    from lakescore.options import CompareOptions
    from lakescore.scoring import Execution, Plan
    from lakescore.snapshots import Snapshot


_MOST_ROWS_HERE = 2_000_000
"""The most rows of a holdout that this process holds without Spark."""
_MOST_SCORES_HERE = 10_000_000
_NESTED = (ArrayType, MapType, StructType)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A finished comparison: its candidates, its rows and its results."""

    execution: Execution
    """The run of the plan that scored the holdout."""
    candidates: Candidates
    paired: Paired
    evaluation: Evaluation
    failures: Mapping[str, Mapping[str, int]]
    """By version and type of error, the number of rows that the version could not score."""
    flips: Sequence[Mapping[str, Any]]
    shifts: Mapping[str, float]
    """By version, the stability index against the baseline."""
    costs: Mapping[str, float | None]
    """By version, rows per second of one core; None if they are not measured."""
    inputs: Sequence[str]
    """The holdout's columns that the versions read."""
    options: CompareOptions

    @property
    def rank_by(self) -> str:
        """The metric that ranks the versions."""
        return self.paired.problem.rank_by

    @property
    def ordered(self) -> list[str]:
        """The versions, the best first; versions without a value come last."""
        ranked = list(self.evaluation.whole.standings[self.rank_by].ordered)
        return [*ranked, *(uri for uri in self.paired.uris if uri not in ranked)]

    def logged(self) -> dict[str, dict[str, float]]:
        """Return by logged model the metrics over the common rows, with `.low` and `.high`.

        The result leaves out versions that were registered without a logged model. It also leaves
        out families, because no version of a family predicts all of these rows.
        """
        by_logged_model: dict[str, dict[str, float]] = {}
        for uri, assigned in self.candidates.assigned.items():
            model = assigned.models[0]
            if assigned.by is not None or model.logged_model_id is None:
                continue
            numbers: dict[str, float | None] = {}
            for name, standing in self.evaluation.whole.standings.items():
                facts = standing.estimates[uri].facts()
                numbers |= {name: facts["value"], f"{name}.low": facts["low"]}
                numbers[f"{name}.high"] = facts["high"]
            by_logged_model[model.logged_model_id] = {
                name: value for name, value in numbers.items() if value is not None
            }
        return by_logged_model

    def table(self, name: str, holdout: Snapshot) -> passes.Rows:
        """Return the rows of an output: `metrics`, `disagreements` or `quarantine`.

        Args:
            name: the output; see `document.long_form`, `differing.disagreements` and
                `differing.failures`.
            holdout: the snapshot that the inputs are fetched from.
        """
        match name:
            case "metrics":
                return long_form(self)
            case "disagreements":
                return differing.disagreements(
                    self.paired, holdout, inputs=self.inputs,
                    most=self.options.most_disagreements, label=self.options.label,
                )  # fmt: skip
            case _:
                return differing.failures(self.paired)

    def count_unlabelled(self, holdout: Snapshot, where: str | None) -> int | None:
        """Return the number of rows of the holdout without a label; None if it is unknown."""
        return count_unlabelled(holdout, self.evaluation.rows, where)

    def digest(self, holdout_digest: str) -> str:
        """Return the digest of the rows of `logged`: metrics of equal digests can be compared.

        It is the digest of the holdout's labelled rows, unless a version could not score some of
        them. Then the digest also depends on the versions, because they decide which rows remain.
        """
        if max(self.evaluation.whole.rows.values(), default=0) == self.evaluation.rows:
            return holdout_digest
        candidates = self.candidates.assigned.values()
        versions = sorted(_decisive_text(assigned) for assigned in candidates)
        return hashlib.sha256(" ".join([holdout_digest, *versions]).encode()).hexdigest()[:16]

    @staticmethod
    def place(comparing_run_id: str, **_: object) -> dict[str, list[str]]:
        """Return the run id that selects the rows of an output that this comparison replaces."""
        return {"comparing_run_id": [comparing_run_id]}


def _decisive_text(assigned: Assignment) -> str:
    """Return a text that two candidates share only if they score the same rows alike."""
    if assigned.by is None:
        return assigned.models[0].digest
    return json.dumps(assigned.pins(WHOLE), sort_keys=True)


@contextmanager
def compare(planned: Plan, candidates: Candidates, options: CompareOptions) -> Iterator[Comparison]:
    """Score and evaluate the candidates, and keep the rows for the body of the `with` statement.

    Args:
        planned: the plan, which keeps the columns `_label` and those that *options* name.
        candidates: versions or families. The segments of families become slices too, unless there
            are too many of them.
        options: how they are compared.

    Raises:
        MetricUndefined, WeightsInvalid, TooManySlices: as `evaluating.evaluate`.
        ConfigError: a custom metric cannot be imported.
    """
    uris, slices = planned.uris, options.slices
    every_slice = _add_segment_columns(slices, candidates)
    custom = {name: _import_metric(name, path) for name, path in options.custom_metrics.items()}
    decision = planned.contracts[0].decision
    _check_columns(planned, [*options.keys, *every_slice])
    problem = infer(
        scoring.side_by_side_columns(planned), uris, problem_type=options.problem_type,
        rank_by=options.rank_by, positive=options.positive_class,
        threshold=decision.threshold if decision else None, custom=list(custom),
        classes={side.uri: side.contracts[0].loadable.classes for side in planned.sides},
    )  # fmt: skip
    _check_size(planned, problem, len(uris), 1 + len(every_slice))
    execution, is_here = scoring.Execution(planned), planned.is_here
    with scoring.evaluated(planned, ["the holdout"]):
        scored = execution if is_here else scoring.side_by_side(planned, says=True)
        pairs = pairing.pair(
            scored, uris, problem, keys=options.keys, weight=options.weight, slices=every_slice
        )
    with scoring.evaluated(planned, ["the holdout"]), evaluating.cached(pairs) as kept:
        paired = kept if is_here else replace(kept, rows=execution.collect_reports(kept.rows))
        evaluate = partial(
            evaluating.evaluate, replicates=options.bootstraps, seed=options.seed,
            level=options.confidence, custom=custom, kept=options.protected,
            grouped=options.grouped,
        )  # fmt: skip
        try:
            evaluation = evaluate(paired)
        except TooManySlices:
            if len(every_slice) == len(slices):
                raise
            paired = replace(paired, slices=tuple(slices))  # nobody asked for segments as slices
            evaluation = evaluate(paired)
        failed = any(rows < evaluation.rows for rows in evaluation.own.rows.values())
        yield Comparison(
            execution=execution,
            candidates=candidates,
            paired=paired,
            evaluation=evaluation,
            failures=differing.count_failures(paired) if failed else {},
            flips=differing.flips(paired, candidates.baseline),
            shifts=differing.shifts(evaluation, paired, candidates.baseline),
            costs=costing.costs(planned),
            options=options,
            inputs=list(
                dict.fromkeys(
                    source for contract in planned.contracts for source in contract.sources.values()
                )
            ),
        )


def _add_segment_columns(slices: Sequence[str], candidates: Candidates) -> list[str]:
    """Return *slices* and the columns of segments, unless there are too many segments."""
    most_segments = max(
        (len(assigned.numbers) for assigned in candidates.assigned.values()), default=0
    )
    columns = candidates.columns if most_segments <= gathering.MOST_SLICES else []
    return list(dict.fromkeys([*slices, *columns]))


def _check_columns(planned: Plan, names: Sequence[str]) -> None:
    """Check that workers can hash and write the columns that identify rows and slices.

    Raises:
        ColumnsUnfit: a column holds lists, objects or maps.
    """
    nested = [name for name in names if isinstance(planned.schema[name].dataType, _NESTED)]
    if nested:
        raise ColumnsUnfit("the holdout", nested, "a key or a slice must be one plain value")


def _check_size(planned: Plan, problem: Problem, versions: int, places: int) -> None:
    """Start Spark if the holdout takes more memory than this process may use.

    Scores are sorted by class, version and slice. Each takes about 140 bytes.
    """
    if not planned.is_here or planned.direct is None:
        return
    rows = planned.direct.rows
    scores = rows * versions * places * len(problem.classes)
    if rows > _MOST_ROWS_HERE or scores > _MOST_SCORES_HERE:
        planned.runner.start(f"Spark holds a holdout of {rows} rows")


def _import_metric(name: str, path: str) -> Callable[..., Any]:
    module, _, function = path.partition(":")
    try:
        metric: Callable[..., Any] = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"the custom metric {name!r} cannot be imported: {error}") from error
    return metric
