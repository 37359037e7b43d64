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
from lakescore.assignment import of_one, of_segments
from lakescore.config import ScoreJob, Segments
from lakescore.errors import (
    DigestDiffers,
    KeysNotPublished,
    RegistryError,
    ReplayDiffers,
    RunNotOne,
    RunNotPublished,
)
from lakescore.registry import resolve_all
from lakescore.slicing import OURS, SLICE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyspark.sql import Column, SparkSession

    from lakescore.assignment import Assignment
    from lakescore.config import ReplayJob
    from lakescore.trust import Trust

_EXAMPLES = 5
_ORDINAL = f"{OURS}ordinal"


@dataclass(frozen=True)
class Recorded:
    """What a run published, and out of what."""

    rows: DataFrame
    """Its rows, with their slice as `SLICE`."""
    job: ScoreJob
    """The job, with the version and the input that it used."""
    pins: tuple[Pin, ...]
    """The versions that it used: one of no segment, or one a segment."""

    def assign(self, trust: Trust) -> Assignment:
        """Pin what the run used once more.

        Raises:
            DigestDiffers: the files of a version are others than those that the run used.
            As `registry.resolve` besides.
        """
        uris = list(dict.fromkeys(pin.uri for pin in self.pins if pin.uri is not None))
        found = resolve_all(uris, trust=trust)
        models = []
        for uri in uris:
            if isinstance(model := found[uri], RegistryError):
                raise model
            models.append(model)
        digests = {pin.uri: pin.digest for pin in self.pins if pin.digest is not None}
        for model in models:
            if model.digest != (digest := digests[model.uri]):
                raise DigestDiffers(model.uri, digest, model.digest, "the commit of the run")
        if not isinstance(self.job.model, Segments):
            return of_one(models[0])
        return of_segments(
            self.job.model,
            models,
            {pin.segment: uris.index(pin.uri) if pin.uri else None for pin in self.pins},
        )


@dataclass(frozen=True)
class Pin:
    """A version that a run used, for the rows of a segment or for all."""

    segment: str | None
    uri: str | None
    """None where the rows of the segment were left out."""
    digest: str | None


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
    inputs = ("model_uri", "model_digest", "segment_by", "input_table", "input_version", "settings")
    pins = {pin.segment: pin for _, each in newest.values() for pin in _pins(each)}
    others = [
        name
        for name, (_, each) in newest.items()
        if any(each.get(key) != said.get(key) for key in inputs)
        or any(pins[pin.segment] != pin for pin in _pins(each))
    ]
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
    segments = {"by": said.get("segment_by"), "name": said["model_reference"]}
    job = ScoreJob.model_validate(
        {
            **said["settings"],
            "model": segments if "segments" in said else said["model_uri"],
            "input": where,
            "output": todo.output,
            "slices": names if by else None,
        }
    )
    return Recorded(rows.withColumn(SLICE, F.col("slice")), job, tuple(pins.values()))


def _pins(said: Mapping[str, Any]) -> list[Pin]:
    """Return the versions that a commit says were used."""
    if "segments" not in said:
        return [Pin(None, said["model_uri"], said["model_digest"])]
    return [Pin(*each) for each in said["segments"]]


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
