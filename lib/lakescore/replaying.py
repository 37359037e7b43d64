"""Replaying: the predictions of a run are made once more, and held against what it published."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import and_
from typing import TYPE_CHECKING, Any

from pyspark import StorageLevel
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F  # noqa: N812 - the name that everyone reads at once
from pyspark.sql.types import DoubleType, FloatType

from lakescore import tables
from lakescore.arrow import readable
from lakescore.config import ScoreJob
from lakescore.errors import (
    DigestDiffers,
    KeysNotPublished,
    ReplayDiffers,
    RunNotOne,
    RunNotPublished,
)
from lakescore.slicing import OURS, SLICE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyspark.sql import Column, SparkSession

    from lakescore.config import ReplayJob
    from lakescore.registry import ModelVersion

_EXAMPLES = 5
_ORDINAL = f"{OURS}ordinal"


@dataclass(frozen=True)
class Recorded:
    """What a run published, and out of what."""

    rows: DataFrame
    """Its rows, with their slice as `SLICE`."""
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
        RunNotOne: slices of it were scored with different inputs or settings.
        KeysNotPublished: its rows cannot be told from each other.
    """
    address = todo.output.address
    newest: dict[str, tuple[int, dict[str, Any]]] = {}  # by slice
    for version, said in tables.commits(spark, address):
        for each in said.get("slices", []) if "settings" in said else []:
            if each["scoring_run_id"] == todo.run:
                newest.setdefault(each["slice"], (version, said))
    if not newest:
        raise RunNotPublished(address, todo.run)
    names = sorted(newest)
    said = newest[names[0]][1]
    inputs = ("model_uri", "model_digest", "input_table", "input_version", "settings")
    others = [n for n, (_, each) in newest.items() if any(each[k] != said[k] for k in inputs)]
    if others:
        raise RunNotOne(todo.run, [name for name in names if name not in others], others)
    if said["settings"].get("passthrough") == "none":
        raise KeysNotPublished(address, todo.run)
    parts = [
        tables.snapshot(spark, address, version).rows.where(
            (F.col("scoring_run_id") == todo.run)
            & F.col("slice").isin([name for name in names if newest[name][0] == version])
        )
        for version in sorted({version for version, _ in newest.values()})
    ]
    rows = reduce(DataFrame.unionByName, parts)
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
        replayed: *keys*, *columns* and `SLICE`.
        published: the same.
        keys: columns that name a row of its slice.
        columns: the predictions.
        tolerance: by how much of the larger one two numbers may differ and still be the same.

    Returns:
        `rows`, `same`, `different`, `only_published`, `only_replayed`, and `examples`.
    """
    by = [*keys, SLICE, _ORDINAL]
    one, other = (
        _numbered(rows, keys, columns).select(
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
        others = held.where("NOT same").limit(_EXAMPLES).drop("same")
        shown = readable(others).collect()
    finally:
        held.unpersist()
    return {**counts.asDict(), "examples": [row.asDict(recursive=True) for row in shown]}


def _numbered(rows: DataFrame, keys: Sequence[str], columns: Sequence[str]) -> DataFrame:
    """Number the rows that share a key, which may be, by their predictions."""
    of_key = Window.partitionBy(*[F.col(f"`{name}`") for name in (*keys, SLICE)])
    ordered = of_key.orderBy(*[F.col(f"`{name}`").cast("string") for name in columns])
    return rows.withColumn(_ORDINAL, F.row_number().over(ordered))


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
