"""Rowwise: the proof that a pipeline of Spark ML gives one row for each row, in Spark's own plan.

A pipeline can hold filters, joins and any SELECT, so its stages prove nothing. Spark shows how it
would apply the pipeline. If each step computes columns, sorts or filters, then no row is added, and
each prediction stays with the columns of its row. Filters can drop rows, so these must be counted.
Only the filters of Spark's own stages are allowed: they drop the same rows each time.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lakescore.errors import InputContractError
from lakescore.wording import shortened

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

_BEGIN, _END = "== Analyzed Logical Plan ==\n", "\n== Optimized Logical Plan =="
_STEP = re.compile(r"^ *\+- (.*)")
_KEEPING = re.compile(r"(?:Project|Sort|SubqueryAlias|View)\b")
_DROPPING = re.compile(r"Filter (?:UDF|atleastnnonnulls)\(")
"""The filters of stages whose `handleInvalid` is `skip`."""
_SOURCE = re.compile(r"Range\b")
_NUMBERS = re.compile(r"#\d+")
"""Spark's numbers of columns."""


class PipelineUnfit(InputContractError):
    """A pipeline of Spark ML does more than compute columns of each row."""

    def __init__(self, uri: str, reason: str) -> None:
        super().__init__(
            f"{uri} does not give one prediction for each row: {reason}; log a pipeline whose "
            "stages only add columns to each row, and keep the others (SQL: `*` and more columns)"
        )


def can_drop_rows(uri: str, transformed: DataFrame) -> bool:
    """Return whether a filter is among the steps of *transformed*, a pipeline's result.

    Args:
        uri: the version.
        transformed: its pipeline applied to a selection of columns of `spark.range`.

    Raises:
        PipelineUnfit: a step could add rows, or lose the row of a prediction.
    """
    steps = _steps(transformed)
    dropping = [step for step in steps if _DROPPING.match(step)]
    for step in steps[:-1]:
        if not _KEEPING.match(step) and step not in dropping:
            shown = shortened(_NUMBERS.sub("", step))
            raise PipelineUnfit(uri, f"Spark's plan of its pipeline has the step {shown}")
    if not (steps and _SOURCE.match(steps[-1])):
        raise PipelineUnfit(uri, "Spark's plan of its pipeline does not end at the given rows")
    return bool(dropping)


def _steps(transformed: DataFrame) -> list[str]:
    """Return the steps in Spark's plan, the last one first; none if the text is not understood.

    A line that is no single next step, such as one side of a join, is a step too.
    """
    spark = transformed.sparkSession
    explained = spark.sql("EXPLAIN EXTENDED SELECT * FROM {transformed}", transformed=transformed)
    text = str(explained.collect()[0][0])
    if text.count(_BEGIN.strip()) != 1 or text.count(_END.strip()) != 1:
        return []
    _columns, first, *others = text.partition(_BEGIN)[2].partition(_END)[0].splitlines()
    matches = [(_STEP.match(line), line) for line in others]
    return [first, *[line if match is None else match[1] for match, line in matches]]
