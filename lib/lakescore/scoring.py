"""Scoring: apply pinned versions to rows, and return the predictions as columns.

`plan` chooses the engine. An `Execution` is one run of a plan; it knows the work that tasks did.
"""

from __future__ import annotations

import copy
import errno
import os
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from pyspark import StorageLevel
from pyspark.sql import functions as F  # noqa: N812 - the name that everyone reads at once
from pyspark.sql.types import StructField, StructType

from lakescore import executor, scanning, signature
from lakescore.arrow import legible, readable
from lakescore.engines import local
from lakescore.engines.arrow import ArrowPlan
from lakescore.engines.choosing import plan
from lakescore.engines.failures import evaluated
from lakescore.engines.plan import ERRORS, PREDICTED, SHOWN_COLUMN, Plan, decision_type
from lakescore.executor import SAID
from lakescore.filing import FilesUnwritten
from lakescore.runner import FAILURES
from lakescore.slicing import SLICE
from lakescore.storage import StorageFull

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    import pyarrow as pa
    from pyspark.sql import Column, DataFrame


__all__ = [
    "ERRORS",
    "SAID",
    "Execution",
    "Plan",
    "evaluated",
    "plan",
    "preview",
    "score",
    "side_by_side",
    "side_by_side_columns",
    "tried",
]

_ERROR = "error"
"""The column of `score` with the reason why a row could not be scored."""
_UNWRITTEN = re.compile(rf"\b{executor.Unwritten.__name__}: (.+)")


def score(
    planned: Plan, *, failing: Literal["raise", "null"] = "raise", into: str | None = None
) -> DataFrame:
    """Return the columns that *planned* keeps, and the outputs of its only version.

    The result has one row for each row of the plan, and each row is predicted once.

    Args:
        planned: the plan.
        failing: how to treat rows that the model cannot score. `raise`: the first one ends the
            query. `null`: their outputs are null, and a last column, `error`, has the reason.
            MLflow's own function always ends the query.
        into: the name of one column for all outputs, which is a struct if there are several;
            default: a column for each output.

    Raises:
        ColumnsCollide: the rows already have a column `error`, or the column *into*.
    """
    applied = planned.apply(failing)
    return _select_outputs(planned, applied, says_why=failing == "null", into=into)


def tried(planned: Plan) -> DataFrame:
    """Return the result of `score` for the rows that could be scored, and task reports in `SAID`.

    Each task adds a last row. There `SAID` holds the report of the task, with its work and the rows
    that it could not score, and all other columns are null. In all other rows `SAID` is null.
    `Execution.collect_reports` reads the reports. If the engine does not count its work, the result
    has no such column.
    """
    return _select_outputs(planned, planned.apply("aside"), says_why=False)


def preview(planned: Plan, most: int = 100) -> list[dict[str, Any]]:
    """Return at most *most* of the rows that the job would write; score them separately."""
    if isinstance(planned, ArrowPlan) and planned.direct is not None:
        rows = local.preview(planned, most)
        names = ["slice" if name == SLICE else name for name in planned.keep]
        return list(legible(rows.rename_columns([*names, *planned.decisive])).to_pylist())
    few = planned.limit(most)
    scored = tried(few)
    if planned.counts_work:
        scored = scored.where(F.col(SAID).isNull()).drop(SAID)
    hidden = [column.name for column in few.version_columns if column.name != SHOWN_COLUMN]
    shown = readable(scored.drop(*hidden)).withColumnRenamed(SLICE, "slice")
    return [row.asDict() for row in shown.collect()]


def side_by_side(planned: Plan, *, says: bool = False) -> DataFrame:
    """Return the columns that *planned* keeps, one column a version, and `ERRORS`.

    If *says* is true, `SAID` comes last, as in `tried`, if the engine counts its work.

    A version's column has the version's URI as its name. It holds the prediction, or a struct if
    the version has several outputs, and is null if the version could not score the row. `ERRORS`
    is a list of structs of version, type and message; null if all versions could score the row.
    """
    renamed = {f"{PREDICTED}{n}": uri for n, uri in enumerate(planned.uris)}
    applied = planned.apply("null", says=says).withColumnsRenamed(renamed)
    if planned.sets_rows_aside:
        return applied
    kind = "array<struct<version: string, type: string, message: string>>"
    return applied.withColumn(ERRORS, F.lit(None).cast(kind))


def side_by_side_columns(planned: Plan) -> StructType:
    """Return the columns of `side_by_side`, except `ERRORS` and `SAID`."""
    kept = [planned.schema[name] for name in planned.keep]
    kinds = zip(planned.uris, planned.result_types, strict=True)
    return StructType([*kept, *[StructField(uri, kind) for uri, kind in kinds]])


def _select_outputs(
    planned: Plan, applied: DataFrame, *, says_why: bool, into: str | None = None
) -> DataFrame:
    contract = planned.contract
    names = contract.outputs.names
    kept = [F.col(f"`{name}`") for name in planned.keep]
    predicted = F.col(f"{PREDICTED}0")
    values = [predicted] if len(names) == 1 else [predicted[name] for name in names]
    outputs = dict(zip(names, values, strict=True))
    if into is not None:
        signature.check_names("the rows", "result", [*planned.keep, into], beside=())
        outputs = {into: predicted}
    elif contract.decision is not None:
        outputs[signature.DECISION] = _decision_column(contract.decision, outputs)
    columns = [*kept, *[output.alias(name) for name, output in outputs.items()]]
    columns += [F.col(column.name) for column in planned.version_columns]
    if says_why:
        shown = [*planned.keep, *outputs, _ERROR]
        signature.check_names("the rows", "result", shown, beside=())
        columns.append(_first_error(applied).alias(_ERROR))
    if SAID in applied.columns:
        columns.append(F.col(SAID))
    return applied.select(*columns)


def _first_error(applied: DataFrame) -> Column:
    """Return the type and message of the error of each row that has one."""
    if ERRORS not in applied.columns:  # the engine ends the query instead
        return F.lit(None).cast("string")
    first = F.get(F.col(ERRORS), F.lit(0))
    return F.when(first.isNotNull(), F.concat(first["type"], F.lit(": "), first["message"]))


def _decision_column(decision: signature.Decision, outputs: Mapping[str, Column]) -> Column:
    below, reached = (
        F.lit(value).cast(decision_type(value)) for value in (decision.below, decision.reached)
    )
    score = outputs[decision.score]
    return F.when(score >= decision.threshold, reached).when(score.isNotNull(), below)


class Execution:
    """One run of a plan, and the work that its tasks reported.

    Args:
        planned: the plan.
    """

    def __init__(self, planned: Plan) -> None:
        self.planned = planned
        self._totals = executor.TaskTotals(checked=copy.deepcopy(dict(planned.checked)))

    def add_reports(self, reports: Iterable[bytes]) -> None:
        """Add up *reports* of tasks."""
        self._totals.add(reports)

    def collect_reports(self, rows: DataFrame) -> DataFrame:
        """Return *rows* of `tried` without task reports; add them up. The rows must be cached."""
        if SAID not in rows.columns:
            return rows
        reports = rows.where(F.col(SAID).isNotNull()).select(SAID)
        self.add_reports(bytes(row[0]) for row in reports.collect())
        return rows.where(F.col(SAID).isNull()).drop(SAID)

    @contextmanager
    def cached(self) -> Iterator[DataFrame | pa.Table]:
        """Cache the rows that could be scored, to read them several times.

        Yields:
            A frame of `tried`; or a table of `Request.keep` and `Request.decisive`, if workers of
            this machine score the rows.
        """
        planned = self.planned
        if isinstance(planned, ArrowPlan) and planned.is_here:
            scored, reports = local.score(planned)
            self.add_reports(reports)
            yield scored
            return
        kept = tried(planned).persist(StorageLevel.DISK_ONLY)
        try:
            yield self.collect_reports(kept)
        finally:
            kept.unpersist()

    def write_files(self, sink: executor.Sink) -> list[dict[str, Any]]:
        """Let workers write the rows that could be scored; return the files, as `executor.FILES`.

        Raises:
            StorageFull, FilesUnwritten: workers cannot write into the sink's folder.
        """
        try:
            return list(self._arrow_plan.write_files(sink).to_pylist())
        except FAILURES as error:
            unwritten = _UNWRITTEN.search(str(error))
            if unwritten is None:
                raise
            if os.strerror(errno.ENOSPC) in unwritten[1]:
                raise StorageFull(sink.folder) from error
            raise FilesUnwritten(sink.folder, unwritten[1]) from error

    def side_by_side_places(self) -> dict[str, int]:
        """Return, by name, the positions of `side_by_side`'s columns in workers of this machine."""
        return local.side_by_side_places(self._arrow_plan)

    def map_side_by_side(
        self, make_next: Callable[[int], executor.Task], schema: pa.Schema
    ) -> pa.Table:
        """Apply further tasks to the result of `side_by_side`, on workers of this machine.

        Args:
            make_next: makes, from a task's number, the function for the batches of that task.
            schema: the schema of that function's result, with the reports of tasks in `SAID`.

        Returns:
            The rows without the reports, which are added up.
        """
        rows, reports = local.map_side_by_side(self._arrow_plan, make_next, schema)
        self.add_reports(reports)
        return rows

    @property
    def _arrow_plan(self) -> ArrowPlan:
        assert isinstance(self.planned, ArrowPlan)  # noqa: S101 - only its workers act themselves
        return self.planned

    @property
    def failed(self) -> int:
        """The number of failed rows that tasks reported."""
        return self._totals.failed

    @property
    def checked(self) -> dict[str, Any]:
        """The facts of `executor.Checks` about the rows; empty without rules for them."""
        return self._totals.checked

    def first_errors(self) -> list[str]:
        """Return the distinct types and messages of the errors of listed failed rows, sorted.

        The same rows give the same messages. The list is empty if no row failed.
        """
        failed = self._totals.listed()
        if failed is None:
            return []
        reasons = [why[0] for why in failed.column("why").to_pylist()]
        return sorted({f"{reason['type']}: {reason['message']}" for reason in reasons})

    def failed_rows(self) -> pa.Table | None:
        """Return the failed rows that tasks reported: the kept columns and `ERRORS`.

        If there are too many to list, only a few are returned. `failed` counts all of them.
        """
        failed = self._totals.listed()
        if failed is None:
            return None
        planned = self.planned
        rows = failed.rename_columns([*planned.carried, ERRORS])
        if planned.direct is None:
            return rows
        return scanning.named(rows, planned.direct, planned.keep)

    def facts(self) -> dict[str, Any]:
        """Return the plan's choices and the work that tasks reported, for the receipt.

        If the engine does not count its work, there are only the choices.
        """
        facts, done = self.planned.facts(), self._totals
        if environments := self.planned.environments:
            facts = facts | {"environments": environments}
        if not self.planned.counts_work:
            return facts
        return facts | {
            "rows_predicted": done.rows,
            "rows_aligned": done.aligned,
            "loads": done.loads,
            "workers": len(done.workers),
            "memory_bytes": sum(done.memory.values()) or None,
        }
