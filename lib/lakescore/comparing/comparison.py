"""Comparison: versions that were scored side by side, evaluated as a whole."""

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
from lakescore.comparing.document import headline, long_form
from lakescore.errors import ColumnsUnfit, ConfigError, TooManySlices
from lakescore.slicing import WHOLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from lakescore.assignment import Assignment
    from lakescore.comparing.candidates import Candidates
    from lakescore.comparing.evaluating import Evaluation
    from lakescore.comparing.pairing import Paired, Problem, ProblemType
    from lakescore.scoring import Plan
    from lakescore.snapshots import Snapshot


_MOST_ROWS_HERE = 2_000_000
"""Of a holdout that this process holds, where no Spark runs."""
_MOST_SCORES_HERE = 10_000_000
_NESTED = (ArrayType, MapType, StructType)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A comparison that is done: who took part, on what, and what was found."""

    candidates: Candidates
    paired: Paired
    evaluation: Evaluation
    failures: Mapping[str, Mapping[str, int]]
    """By version and type of error, the rows that it could not score."""
    flips: Sequence[Mapping[str, Any]]
    shifts: Mapping[str, float]
    """By version, the stability index against the baseline."""
    costs: Mapping[str, float | None]
    """By version, rows a second of one core; None where nobody measured."""
    label: str
    """The label's column."""
    inputs: Sequence[str]
    """The holdout's columns that the versions read."""
    confidence: float
    bootstraps: int
    seed: int
    small: int
    """Slices with fewer rows are marked."""
    most: int
    """How many rows the table of disagreements has."""

    @property
    def rank_by(self) -> str:
        """The metric that ranks."""
        return self.paired.problem.rank_by

    @property
    def headline(self) -> str:
        """Which version is best, by how much, how sure, in a sentence."""
        return headline(self)

    @property
    def ordered(self) -> list[str]:
        """The versions, best first; those without a value last."""
        first = list(self.evaluation.whole.standings[self.rank_by].ordered)
        return [*first, *(uri for uri in self.paired.uris if uri not in first)]

    def logged(self) -> dict[str, dict[str, float]]:
        """Return by logged model the metrics over the common rows, with `.low` and `.high`.

        Versions that were registered without a logged model are left out, and families: no version
        of one predicted all of these rows.
        """
        found: dict[str, dict[str, float]] = {}
        for uri, assigned in self.candidates.assigned.items():
            model = assigned.models[0]
            if assigned.by is not None or model.logged_model_id is None:
                continue
            numbers: dict[str, float | None] = {}
            for name, standing in self.evaluation.whole.standings.items():
                facts = standing.estimates[uri].facts()
                numbers |= {name: facts["value"], f"{name}.low": facts["low"]}
                numbers[f"{name}.high"] = facts["high"]
            found[model.logged_model_id] = {n: v for n, v in numbers.items() if v is not None}
        return found

    def table(self, name: str, holdout: Snapshot) -> passes.Rows:
        """Return the rows of an output: `metrics`, `disagreements` or `quarantine`.

        Args:
            name: which; see `document.long_form`, `differing.disagreements`, `differing.failures`.
            holdout: the snapshot, from which inputs are fetched.
        """
        match name:
            case "metrics":
                return long_form(self)
            case "disagreements":
                return differing.disagreements(
                    self.paired, holdout, most=self.most, inputs=self.inputs, label=self.label
                )
            case _:
                return differing.failures(self.paired)

    def digest(self, of_holdout: str) -> str:
        """Return the digest of the rows that `logged` is over: equal ones can be compared.

        That of the holdout's labelled rows, unless a version could not score some of them: then
        the versions decide which rows are left.
        """
        if max(self.evaluation.whole.rows.values(), default=0) == self.evaluation.rows:
            return of_holdout
        candidates = self.candidates.assigned.values()
        versions = sorted(_decisive_text(assigned) for assigned in candidates)
        return hashlib.sha256(" ".join([of_holdout, *versions]).encode()).hexdigest()[:16]

    @staticmethod
    def place(comparing_run_id: str, **_: object) -> dict[str, list[str]]:
        """Return which rows of an output this comparison replaces: those of its run."""
        return {"comparing_run_id": [comparing_run_id]}


def _decisive_text(assigned: Assignment) -> str:
    """Return a text that tells a candidate from others that score other rows, or otherwise."""
    if assigned.by is None:
        return assigned.models[0].digest
    return json.dumps(assigned.pins(WHOLE), sort_keys=True)


@contextmanager
def compare(  # noqa: PLR0913 - the parts of a job's file, all by name
    planned: Plan,
    candidates: Candidates,
    *,
    label: str,
    keys: Sequence[str] = (),
    weight: str | None = None,
    slices: Sequence[str] = (),
    small: int = 100,
    problem_type: ProblemType | None = None,
    rank_by: str | None = None,
    positive_class: str | None = None,
    custom_metrics: Mapping[str, str] | None = None,
    confidence: float = 0.95,
    bootstraps: int = 400,
    seed: int = 0,
    most: int = 100,
) -> Iterator[Comparison]:
    """Score, evaluate, and keep the rows while the body asks for some of them.

    Args:
        planned: how the versions are applied; `_label`, *keys*, *weight* and *slices* are kept.
        candidates: the versions, or families of them, whose segments are slices too where they are
            not too many for that.
        label: the label's column, for those who read rows.
        keys: columns that name a row.
        weight: the column of weights.
        slices: columns that divide the rows.
        small: slices with fewer rows are marked.
        problem_type: as `pairing.infer`.
        rank_by: as `pairing.infer`.
        positive_class: as `pairing.infer`.
        custom_metrics: by name, `package.module:function`.
        confidence: of intervals.
        bootstraps: how many are drawn.
        seed: of the bootstraps.
        most: how many rows the table of disagreements shall have.

    Raises:
        MetricUndefined, WeightsInvalid, TooManySlices: as `evaluating.evaluate`.
        ConfigError: a custom metric cannot be imported.
    """
    uris = planned.uris
    every_slice = _with_segments(slices, candidates)
    custom = {name: _imported(name, path) for name, path in (custom_metrics or {}).items()}
    decision = planned.contracts[0].decision
    _check_columns(planned, [*keys, *every_slice])
    problem = pairing.infer(
        scoring.side_of(planned), uris, problem_type=problem_type, rank_by=rank_by,
        positive=positive_class, threshold=decision.threshold if decision else None,
        custom=list(custom),
        classes={side.uri: side.contracts[0].loadable.classes for side in planned.sides},
    )  # fmt: skip
    _check_size(planned, problem, len(uris), 1 + len(every_slice))
    with scoring.evaluated(planned, ["the holdout"]):
        scored = planned if planned.is_here else scoring.side_by_side(planned, says=True)
        pairs = pairing.pair(scored, uris, problem, keys=keys, weight=weight, slices=every_slice)
    with scoring.evaluated(planned, ["the holdout"]), evaluating.held(pairs) as kept:
        paired = replace(kept, rows=planned.heard(kept.rows))
        evaluate = partial(
            evaluating.evaluate, replicates=bootstraps, seed=seed, level=confidence, custom=custom
        )
        try:
            evaluation = evaluate(paired)
        except TooManySlices:
            if len(every_slice) == len(slices):
                raise
            paired = replace(paired, slices=tuple(slices))  # nobody asked for segments as slices
            evaluation = evaluate(paired)
        failed = any(rows < evaluation.rows for rows in evaluation.own.rows.values())
        yield Comparison(
            candidates=candidates,
            paired=paired,
            evaluation=evaluation,
            failures=differing.count_failures(paired) if failed else {},
            flips=differing.flips(paired, candidates.baseline),
            shifts=differing.shifts(evaluation, paired, candidates.baseline),
            costs=costing.costs(planned),
            label=label,
            inputs=list(dict.fromkeys(s for c in planned.contracts for s in c.sources.values())),
            confidence=confidence,
            bootstraps=bootstraps,
            seed=seed,
            small=small,
            most=most,
        )


def _with_segments(slices: Sequence[str], candidates: Candidates) -> list[str]:
    """Return *slices* and the columns of segments, but for those with too many to be slices."""
    most = max((len(each.numbers) for each in candidates.assigned.values()), default=0)
    columns = candidates.columns if most <= gathering.MOST_SLICES else []
    return list(dict.fromkeys([*slices, *columns]))


def _check_columns(planned: Plan, names: Sequence[str]) -> None:
    """See that workers know how to hash and to write what names rows and slices.

    Raises:
        ColumnsUnfit: a column holds lists, objects or maps.
    """
    odd = [name for name in names if isinstance(planned.schema[name].dataType, _NESTED)]
    if odd:
        raise ColumnsUnfit("the holdout", odd, "what names a row, or a slice, is one plain value")


def _check_size(planned: Plan, problem: Problem, versions: int, places: int) -> None:
    """Start Spark for a holdout that takes more room than this process shall give it.

    Scores are sorted by class, version and slice, at some 140 bytes each.
    """
    if not planned.is_here or planned.direct is None:
        return
    rows = planned.direct.rows
    scores = rows * versions * places * len(problem.classes)
    if rows > _MOST_ROWS_HERE or scores > _MOST_SCORES_HERE:
        planned.runner.start(f"a holdout of {rows} rows is held by Spark")


def _imported(name: str, path: str) -> Callable[..., Any]:
    module, _, function = path.partition(":")
    try:
        found: Callable[..., Any] = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"the custom metric {name!r} cannot be imported: {error}") from error
    return found
