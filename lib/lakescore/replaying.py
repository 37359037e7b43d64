"""Replaying: the predictions of a run are made once more, and held against what it published."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import reduce
from operator import and_
from typing import TYPE_CHECKING, Any

from pyspark import StorageLevel
from pyspark.sql import functions as F  # noqa: N812 - the name that everyone reads at once
from pyspark.sql.types import DoubleType, FloatType

from lakescore import tables
from lakescore.config import ScoreJob
from lakescore.errors import DigestDiffers, ReplayDiffers, RunNotPublished
from lakescore.slicing import SLICE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyspark.sql import Column, DataFrame, SparkSession

    from lakescore.config import ReplayJob
    from lakescore.registry import ModelVersion

_EXAMPLES = 5


@dataclass(frozen=True)
class Recorded:
    """What a run published, and out of what."""

    rows: DataFrame
    """Its rows, with their slice as `_slice`."""
    job: ScoreJob
    """The job, with the version and the input that it used."""
    digest: str

    def check(self, model: ModelVersion) -> None:
        """Hold the files of *model* against those that the run used.

        Raises:
            DigestDiffers: they are others.
        """
        if model.digest != self.digest:
            raise DigestDiffers(model.uri, self.digest, model.digest, "the commit of the run")


def recorded(spark: SparkSession, todo: ReplayJob) -> Recorded:
    """Read what the run published.

    Raises:
        RunNotPublished: no commit that the log still holds says that it is of the run.
    """
    address = todo.output.address
    commits = tables.commits(spark, address).where("userMetadata IS NOT NULL")
    for commit in commits.orderBy(F.col("version").desc()).toLocalIterator():
        said = json.loads(commit["userMetadata"])
        names = [
            each["slice"] for each in said.get("slices", []) if each["scoring_run_id"] == todo.run
        ]
        if names and "settings" in said:
            break
    else:
        raise RunNotPublished(address, todo.run)
    there = tables.snapshot(spark, address, commit["version"]).rows
    rows = there.where((F.col("scoring_run_id") == todo.run) & F.col("slice").isin(names))
    source = said["input_table"]
    where = {"path" if "/" in source else "table": source, "version": said["input_version"]}
    by = said["settings"].get("slice_by")
    job = ScoreJob.model_validate(
        {
            **said["settings"],
            "model": said["model_uri"],
            "input": where,
            "output": todo.output,
            "slices": names if by else None,
        }
    )
    return Recorded(rows.withColumn(SLICE, F.col("slice")), job, said["model_digest"])


def compare(
    replayed: DataFrame,
    published: DataFrame,
    *,
    keys: Sequence[str],
    columns: Sequence[str],
    tolerance: float,
) -> dict[str, Any]:
    """Return how the predictions of a run differ from what it published.

    Args:
        replayed: *keys*, *columns* and `_slice`.
        published: the same.
        keys: columns that name a row of its slice.
        columns: the predictions.
        tolerance: by how much of the larger one two numbers may differ and still be the same.

    Returns:
        `rows`, `same`, `different`, `only_published`, `only_replayed`, and `examples`.
    """
    by = [*keys, SLICE]
    one, other = (
        rows.select(
            *[F.col(f"`{name}`").alias(f"k{n}_{side}") for n, name in enumerate(by)],
            F.struct(*[F.col(f"`{name}`") for name in columns]).alias(side),
        )
        for rows, side in ((published, "published"), (replayed, "replayed"))
    )
    same_key = [
        F.col(f"k{n}_published").eqNullSafe(F.col(f"k{n}_replayed")) for n in range(len(by))
    ]
    joined = one.join(other, reduce(and_, same_key), "full_outer")
    both = F.col("published").isNotNull() & F.col("replayed").isNotNull()
    kinds = published.schema
    equal = reduce(and_, [_equal(name, kinds[name].dataType, tolerance) for name in columns])
    held = joined.withColumn("same", both & equal).persist(StorageLevel.DISK_ONLY)
    try:
        counts = held.agg(
            F.count("*").alias("rows"),
            F.count_if("same").alias("same"),
            F.count_if(both & ~F.col("same")).alias("different"),
            F.count_if(F.col("replayed").isNull()).alias("only_published"),
            F.count_if(F.col("published").isNull()).alias("only_replayed"),
        ).head()
        assert counts is not None  # noqa: S101 - an aggregate has a row
        shown = held.where("NOT same").limit(_EXAMPLES).drop("same").collect()
    finally:
        held.unpersist()
    return {**counts.asDict(), "examples": [row.asDict(recursive=True) for row in shown]}


def hold(run: str, found: Mapping[str, Any]) -> None:
    """Raise where a replay differs.

    Raises:
        ReplayDiffers: with the counts as its facts.
    """
    if found["same"] != found["rows"]:
        raise ReplayDiffers(run, found)


def _equal(name: str, kind: object, tolerance: float) -> Column:
    one, other = F.col("published")[name], F.col("replayed")[name]
    same = one.eqNullSafe(other)
    if not tolerance or not isinstance(kind, (DoubleType, FloatType)):
        return same
    near = F.abs(one - other) <= tolerance * F.greatest(F.abs(one), F.abs(other))
    return same | F.coalesce(near, F.lit(False))  # noqa: FBT003
