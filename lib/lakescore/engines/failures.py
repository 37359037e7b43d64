"""Failures: an error of a model or of a read in a worker becomes one line."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pyspark.sql import functions as F  # noqa: N812 - the name that everyone reads at once
from pyspark.sql.types import TimestampNTZType, TimestampType

from lakescore import classic, executor, scanning, storage
from lakescore.errors import InputContractError, LakescoreError, ScoringFailed
from lakescore.runner import FAILURES
from lakescore.wording import counted, listed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lakescore.engines.plan import Plan

OF_SPARK = "model.transform(X).select('prediction')"
"""The output of a pipeline of Spark ML, from which a signature is inferred."""
UNFIT_ERRORS = {executor.Misshapen.__name__, executor.Truncated.__name__}
"""The types of errors of predictions that do not fit the signature."""
_TRACE = "Traceback (most recent call last)"
_LOST_TASK = re.compile(r"Lost task .*?\(TID \d+\).*?: (?:[\w.$]+: )?(.+)")
"""Spark's reason for a lost task. It is used without a trace of Python: if a worker died."""
_WORKER_LOST = re.compile(r"^(a worker (?:was ended|ended) .+)")
_UNFIT_LINE = re.compile(rf"\b(?:{'|'.join(sorted(UNFIT_ERRORS))}): (.+)")
_OWN_PROCESS = re.compile(rf"^.*\b{executor.ModelFailed.__name__}: ")
"""The start of an error of a model that runs in a separate process."""
_OUT_OF_BOUNDS = re.compile(r"out of bounds (?:nanosecond )?timestamp", re.IGNORECASE)
_TIMES_OF_PANDAS = ("1677-09-21 00:12:44", "2262-04-11 23:47:16")
_OF_A_STAGE = (
    "[FAILED_EXECUTE_UDF]",
    "[NOT_NULL_ASSERT_VIOLATION]",
    "[USER_RAISED_EXCEPTION]",
)
"""The kinds of Spark's errors that a stage of Spark ML causes, and the check of its results."""
_NO_MODULE = re.compile(r"ModuleNotFoundError: No module named '([^']+)'(?:, for (models:/\S+))?")


class ResultUnfit(InputContractError):
    """The model gives other predictions than its signature says."""

    def __init__(self, uri: str, reason: str, output: str = "model.predict(X)") -> None:
        super().__init__(
            f"{uri} cannot score the rows: {reason}; log it with the signature of its real "
            f"output: infer_signature(X, {output})"
        )


class FeaturesLeftOut(InputContractError):
    """The model fails on every row, and the table lacks some of its optional features."""

    def __init__(self, uri: str, features: Sequence[str], reason: str) -> None:
        super().__init__(
            f"{uri} could not score any row: {reason}; the table lacks its optional features "
            f"{listed(repr(name) for name in features)}; add them, or map other names in the "
            "table with columns: {feature: column}"
        )


@contextmanager
def evaluated(planned: Plan, slices: Sequence[str]) -> Iterator[None]:
    """Turn an error of a model in a worker into one line while *planned* is evaluated.

    Raises:
        ScoringFailed: a model failed. The message has the error's line of the worker's trace.
        ResultUnfit: the predictions of a model do not fit its signature.
        ModuleMissing: a model imports a module that is not installed.
        FilesGone, FileUnreadable: Spark did not find, or could not read, a file.
        StorageUnavailable, StorageRefused: an object store failed.
    """
    try:
        with scanning.skip_batch_size_check(planned.runner, lambda: planned.sent):
            yield
    except FAILURES as error:
        if (known := _reading_error(planned, error)) is not None:
            raise known from error
        reason = _stage_reason(planned, error) or _find_reason(str(error))
        if reason is None:
            raise
        raise _explain_failure(planned, slices, reason) from error


def _reading_error(planned: Plan, error: Exception) -> LakescoreError | None:
    """Return the error of a file or an object store, if Spark met it while it read the rows."""
    if (known := scanning.unread(error, lambda: planned.rows)) is not None:
        return known
    # With a trace of Python, the object store's error is the model's.
    return None if _TRACE in str(error) else storage.explain_error(error)


def _stage_reason(planned: Plan, error: Exception) -> str | None:
    """Return why a stage of a pipeline failed, if Spark itself applies it."""
    is_known = planned.engine == "spark_ml" and any(kind in str(error) for kind in _OF_A_STAGE)
    return classic.reason(error) if is_known else None


def _find_reason(error: str) -> str | None:
    """Return the last line of the worker's trace, or why the worker was lost, if *error* says it.

    The innermost trace comes last.
    """
    lines = error.splitlines()
    traces = [n for n, line in enumerate(lines) if _TRACE in line]
    if traces:
        ends = [line for line in lines[traces[-1] + 1 :] if line and not line[0].isspace()]
        return _OWN_PROCESS.sub("", ends[0] if ends else lines[-1])
    lost = _LOST_TASK.search(error) or _WORKER_LOST.search(error)
    return lost[1] if lost else None


def _explain_failure(planned: Plan, slices: Sequence[str], reason: str) -> LakescoreError:
    """Return the error of the models of *planned* that failed on *slices* for this *reason*."""
    if _OUT_OF_BOUNDS.search(reason):
        reason = f"{_describe_times(planned) or 'a time is out of bounds'} ({reason})"
    loadables = {contract.loadable.model.uri: contract.loadable for contract in planned.contracts}
    uris = listed((contract.loadable.model.uri for contract in planned.contracts), most=5)
    if (unfit := _UNFIT_LINE.search(reason)) is not None:
        return ResultUnfit(uris, unfit[1], *([OF_SPARK] if planned.engine == "spark_ml" else []))
    if (missing := _NO_MODULE.match(reason)) is not None:
        uri = missing[2] or (next(iter(loadables)) if len(loadables) == 1 else None)
        if uri in loadables:
            return loadables[uri].explain_missing(ModuleNotFoundError(name=missing[1]))
    return ScoringFailed(uris, f"all of {listed(slices)}", reason)


def _describe_times(planned: Plan) -> str:
    """Return a sentence on feature columns with times that pandas cannot hold as nanoseconds."""
    if not planned.runner.is_started:  # do not start Spark only for details of an error
        return ""
    times = sorted(
        column.name
        for column in planned.feature_columns
        if isinstance(planned.schema[column.name].dataType, (TimestampType, TimestampNTZType))
    )
    sentences = []
    for name in dict.fromkeys(times):
        value = F.col(f"`{name}`")
        first, last = (F.lit(time).cast("timestamp") for time in _TIMES_OF_PANDAS)
        outside = planned.rows.where((value < first) | (value > last))
        row = outside.agg(F.count("*"), F.min(value).cast("string")).head()
        if row is not None and row[0]:
            sentences.append(
                f"column {name!r} holds a time such as {row[1]} in {counted(row[0], 'row')}"
            )
    limits = "and pandas knows only times from 1677-09-21 to 2262-04-11"
    advice = "fix these rows, or remove them"
    return f"{listed(sentences)}, {limits}; {advice}" if sentences else ""
