"""Checking: the rows of a commit add up to the input, and few enough of them failed."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from lakescore.errors import InputContractError, IntegrityError, RequirementNotMet
from lakescore.wording import counted, listed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lakescore.config import ScoreJob
    from lakescore.publishing.batch import Batch


class RowsLost(IntegrityError):
    """The scored and quarantined rows do not add up to the input rows."""

    def __init__(
        self, slices: str, rows_in: int, scored: int, failed: int, *, engine: str = "arrow"
    ) -> None:
        advice = "try again with engine=spark_udf, and report" if engine == "arrow" else "report"
        super().__init__(
            f"the rows of slice {slices} do not add up: {rows_in} in the input, {scored} scored, "
            f"{failed} quarantined; the slice was not published; {advice} this error"
        )


class NullsUnexpected(InputContractError):
    """Columns of slices have more nulls than the job's file allows."""

    def __init__(self, shares: Sequence[tuple[str, str, float, float]]) -> None:
        texts = [
            f"{column!r} is null in {share:.1%} of slice {name}, but {limit:.1%} are allowed"
            for name, column, share, limit in shares
        ]
        super().__init__(
            f"the input is not as expected: {listed(texts, most=3)}; nothing was published; "
            "complete the input, or change expect.nulls"
        )


class TooManyErrors(RequirementNotMet):
    """More rows failed than the job's file allows."""

    def __init__(  # noqa: PLR0913, PLR0917 - separate facts
        self,
        uri: str,
        slices: Sequence[str],
        counts: tuple[int, int, int],
        reasons: Sequence[str],
        quarantine: str,
        where: str,
        broken: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        failed, rows, allowed = counts
        reason = reasons[0] if reasons else "no error"
        advice = "fix them, or raise max_errors or max_error_fraction"
        failure = f"{failed} of {counted(rows, 'row')}, but only {allowed} may fail: {reason}"
        if failed == rows and len(reasons) == 1:
            failure = f"any of {counted(rows, 'row')}, all for one reason: {reason}"
            advice = "fix the cause in the table or in the model: until then, no row can be scored"
        super().__init__(
            f"{uri} could not score {failure}; "
            f"no prediction of {listed(slices, most=4)} was published; the failed rows are in "
            f"{quarantine} where {where}; {advice}"
        )
        self.facts = {
            "rows_in": rows,
            "rows_quarantined": failed,
            "quarantine": {"table": quarantine},
            **({"expect": {"broken": dict(broken)}} if broken else {}),
        }


def check_counts(
    config: ScoreJob, batch: Batch, published: Mapping[str, int], failed: Mapping[str, int]
) -> None:
    """Check that the rows that were scored and that failed are those of the input.

    Args:
        config: the job's file, with the number of rows that may fail.
        batch: the slices.
        published: the scored rows by slice.
        failed: the quarantined rows by slice, as far as their slices are known.

    Raises:
        RowsLost: there are too few or too many rows.
        NullsUnexpected: a slice has more nulls than the job allows.
        TooManyErrors: more rows failed than the job allows.
    """
    runs, sizes = batch.runs, batch.sizes
    total, rows = batch.execution.failed, sum(sizes[run.slice] for run in runs)
    engine = batch.planned.engine
    complete = sum(failed.values()) == total
    for run in runs if complete else []:
        counts_of_slice = published.get(run.slice, 0), failed.get(run.slice, 0)
        if sum(counts_of_slice) != sizes[run.slice]:
            raise RowsLost(run.slice, sizes[run.slice], *counts_of_slice, engine=engine)
    if sum(published.values()) + total != rows:
        names = listed(run.slice for run in runs)
        raise RowsLost(names, rows, sum(published.values()), total, engine=engine)
    _check_nulls(config, batch)
    allowed = config.allowed_errors(rows)
    if total <= allowed and complete:
        return
    reasons = batch.execution.first_errors()
    if not complete:
        reasons = [*reasons[:1], "others, which are not listed"]
    raise TooManyErrors(
        runs[0].assigned.uri,
        [run.slice for run in runs],
        (total, rows, allowed),
        reasons,
        config.quarantine_address,
        f"scoring_run_id is {listed([run.run_id for run in runs], most=2)}",
        batch.execution.checked.get("broken", {}),
    )


def _check_nulls(config: ScoreJob, batch: Batch) -> None:
    """Check that no slice has a larger share of nulls in a column than the job allows."""
    nulls = batch.execution.checked.get("nulls", {})
    shares = [
        (run.slice, column, counts.get(column, 0) / batch.sizes[run.slice], limit)
        for run in batch.runs
        # Workers that read the files do not name the only slice of a table that is not divided.
        for counts in [nulls.get(run.slice) or nulls.get("", {})]
        for column, limit in config.expecting.nulls.items()
    ]
    if beyond := [share for share in shares if share[2] > share[3]]:
        raise NullsUnexpected(beyond)
