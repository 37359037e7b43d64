"""Replaying: the predictions of a run are made once more, and held against what it published."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import reduce
from operator import and_
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812 - the name that everyone reads at once

from lakescore import executor, scanning, scoring, slicing, tables
from lakescore.arrow import arrow_type, collected, legible, struct
from lakescore.assignment import assign_all, assign_by_segment
from lakescore.config import ScoreJob, Segments
from lakescore.errors import (
    DigestDiffers,
    KeysNotPublished,
    RegistryError,
    ReplayDiffers,
    RunNotOne,
    RunNotPublished,
)
from lakescore.logs import NotEligible
from lakescore.registry import resolve_all
from lakescore.slicing import SLICE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lakescore.assignment import Assignment
    from lakescore.config import ReplayJob
    from lakescore.runner import Runner
    from lakescore.scanning import Selection
    from lakescore.scoring import Plan
    from lakescore.trust import Trust

_EXAMPLES = 5
_INPUTS = (
    "model_name",
    "model_uri",
    "model_digest",
    "segment_by",
    "input_table",
    "input_version",
    "settings",
)
"""What is one and the same for all slices of a run."""
_MOST_ROWS_HERE = 2_000_000
"""Of more published rows Spark holds them."""
_ROWS_A_TASK = 500_000
"""What a task of Spark compares at once, about, since it must hold all rows of a key."""


@dataclass(frozen=True)
class Recorded:
    """What a run published, and out of what."""

    own: Mapping[str, str]
    """What all of its rows hold, and no others, by column."""
    parts: tuple[Selection, ...]
    """Of the table's versions, the slices that it published; they may hold rows of others."""
    job: ScoreJob
    """The job, with the version and the input that it used."""
    pins: tuple[Pin, ...]
    """The versions that it used: one of no segment, or one a segment."""

    def published(self, names: Sequence[str], runner: Runner) -> DataFrame | pa.Table:
        """Return columns of the rows that the run published, with their slice as `SLICE`.

        Args:
            names: the columns.
            runner: where it is Spark, or has to become so, the rows are a frame of Spark's.
        """
        try:
            if runner.is_started:
                raise NotEligible("it runs already")  # noqa: TRY301 - as all others
            read = [*names, *self.own]
            held = [scanning.read(part, read, _MOST_ROWS_HERE) for part in self.parts]
        except NotEligible as not_eligible:
            runner.start(f"Spark reads what was published: {not_eligible}")
            is_own = reduce(and_, [F.col(name) == value for name, value in self.own.items()])
            frames = [part.rows.where(is_own) for part in self.parts]
            wanted = [F.col(f"`{name}`") for name in names]
            return reduce(DataFrame.unionByName, [rows.select(wanted) for rows in frames])
        rows = pa.concat_tables(held, promote_options="permissive")
        for name, value in self.own.items():
            rows = rows.filter(pc.equal(rows.column(name), value))
        return rows.select(list(names))

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
            return assign_all(models[0])
        return assign_by_segment(
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


def recorded(runner: Runner, config: ReplayJob) -> Recorded:
    """Read what commits say of the run.

    Raises:
        RunNotPublished: no commit that the log still holds says that it is of the run.
        RunNotOne: slices of it were scored with different inputs or settings.
        KeysNotPublished: its rows cannot be told from each other.
    """
    address = config.output.address
    newest: dict[tuple[str, str], tuple[int, dict[str, Any]]] = {}  # by slice and model's name
    for version, said in tables.commits(runner, address):
        for each in said.get("slices", []) if "settings" in said else []:
            if each["scoring_run_id"] == config.run:
                newest.setdefault((each["slice"], said["model_name"]), (version, said))
    if not newest:
        raise RunNotPublished(address, config.run)
    said = newest[min(newest)][1]
    pins = {pin.segment: pin for _, each in newest.values() for pin in _pins(each)}
    others = [
        place
        for place, (_, each) in newest.items()
        if any(each.get(key) != said.get(key) for key in _INPUTS)
        or any(pins[pin.segment] != pin for pin in _pins(each))
    ]
    if others:
        same = sorted(newest.keys() - set(others))
        told = [[f"{name} of {model}" for name, model in part] for part in (same, sorted(others))]
        raise RunNotOne(config.run, *told)
    names = sorted(name for name, _ in newest)
    versions = {name: version for (name, _), (version, _) in newest.items()}
    if said["settings"].get("passthrough") == "none":
        raise KeysNotPublished(address, config.run)
    parts = [
        replace(
            slicing.select(
                tables.snapshot(runner, address, version),
                "slice",
                [name for name in names if versions[name] == version],
            ),
            within={"model_name": (said["model_name"],)},
        )
        for version in sorted(set(versions.values()))
    ]
    source = said["input_table"]
    where = {"path" if "/" in source else "table": source, "version": said["input_version"]}
    by = said["settings"].get("slice_by")
    segments = {"by": said.get("segment_by"), "name": said["model_reference"]}
    job = ScoreJob.model_validate(
        {
            **said["settings"],
            "model": segments if "segments" in said else said["model_uri"],
            "input": where,
            "output": config.output,
            "slices": names if by else None,
        }
    )
    own = {"scoring_run_id": config.run, "model_name": said["model_name"]}
    return Recorded(own, tuple(parts), job, tuple(pins.values()))


def _pins(said: Mapping[str, Any]) -> list[Pin]:
    """Return the versions that a commit says were used."""
    if "segments" not in said:
        return [Pin(None, said["model_uri"], said["model_digest"])]
    return [Pin(*each) for each in said["segments"]]


def compare(planned: Plan, recorded: Recorded, *, tolerance: float) -> dict[str, Any]:
    """Score what the run scored once more, and return how it differs from what it published.

    Args:
        planned: how the rows are scored.
        recorded: the run.
        tolerance: as for `reconcile`.

    Returns:
        What `reconcile` does.
    """
    keys = recorded.job.id_columns
    # First, since it may start Spark, which then scores too.
    published = recorded.published([*keys, SLICE, *planned.decisive], planned.runner)
    with scoring.held(planned) as replayed:
        return reconcile(
            published, replayed, keys=keys, columns=planned.decisive, tolerance=tolerance
        )


def reconcile(
    published: DataFrame | pa.Table,
    replayed: DataFrame | pa.Table,
    *,
    keys: Sequence[str],
    columns: Sequence[str],
    tolerance: float,
) -> dict[str, Any]:
    """Return how the predictions of a run differ from what it published.

    Args:
        published: *keys*, *columns* and `SLICE`.
        replayed: the same, held likewise: by Spark, or by this process.
        keys: columns that name a row of its slice. Rows that share them are told apart by their
            predictions.
        columns: the predictions.
        tolerance: by how much of the larger one two numbers may differ and still be the same.

    Returns:
        `rows`, `same`, `different`, `only_published`, `only_replayed`, and `examples`, which have
        `key`, `slice`, and the predictions `published` and `replayed`, null where there is no row.
    """
    named = [*keys, SLICE, *columns]
    how = {"keys": len(keys) + 1, "tolerance": tolerance, "most": _EXAMPLES}
    if isinstance(published, pa.Table):
        found = _here(published, replayed, named, how)
    else:
        found = _by_spark(published, replayed, named, how)
    is_count = found.column(executor.COUNTS.names[0]).is_valid()
    counts = found.filter(is_count).select(executor.COUNTS.names)
    same, different, only_published, only_replayed = (sum(c.to_pylist()) for c in counts.columns)
    pairs = legible(found.filter(pc.invert(is_count)).slice(0, _EXAMPLES)).to_pylist()
    return {
        "rows": same + different + only_published + only_replayed,
        "same": same,
        "different": different,
        "only_published": only_published,
        "only_replayed": only_replayed,
        "examples": [_example(pair, keys, columns) for pair in pairs],
    }


def _example(
    pair: Mapping[str, Any], keys: Sequence[str], columns: Sequence[str]
) -> dict[str, Any]:
    sides = {
        name: {column: pair[f"{side}_{n}"] for n, column in enumerate(columns)}
        if pair[f"has_{side}"]
        else None
        for name, side in (("published", "left"), ("replayed", "right"))
    }
    key = {name: pair[f"key_{n}"] for n, name in enumerate(keys)}
    return {"key": key, "slice": pair[f"key_{len(keys)}"], **sides}


def _here(
    published: pa.Table, replayed: pa.Table, named: Sequence[str], how: Mapping[str, Any]
) -> pa.Table:
    names = [f"c{n}" for n in range(len(named))]
    sides = [rows.select(named).rename_columns(names) for rows in (published, replayed)]
    kinds = pa.unify_schemas([side.schema for side in sides], promote_options="permissive")
    marked = [
        side.cast(kinds).append_column(executor.LEFT, pa.repeat(pa.scalar(is_left), side.num_rows))
        for side, is_left in zip(sides, (True, False), strict=True)
    ]
    batches = executor.reconcile(kinds, **how)(iter(pa.concat_tables(marked).to_batches()))
    return pa.Table.from_batches(batches)


def _by_spark(
    published: DataFrame, replayed: DataFrame, named: Sequence[str], how: Mapping[str, Any]
) -> pa.Table:
    left, right = (
        rows.select(
            *[F.col(f"`{name}`").alias(f"c{n}") for n, name in enumerate(named)],
            F.lit(is_left).alias(executor.LEFT),
        )
        for rows, is_left in ((published, True), (replayed, False))
    )
    both = left.unionByName(right)
    kinds = pa.schema([(f.name, arrow_type(f.dataType)) for f in both.schema.fields[:-1]])
    usual = int(published.sparkSession.conf.get("spark.sql.shuffle.partitions") or 1)
    partitions = max(usual, math.ceil(published.count() / _ROWS_A_TASK))
    # Spark's adaptive execution changes no number that is given, nor the room that tasks take.
    dealt = both.repartition(partitions, *kinds.names[: how["keys"]])
    schema = struct(executor.reconciled(kinds, how["keys"]))
    return collected(dealt.mapInArrow(executor.reconcile(kinds, **how), schema))


def require_same(report: Mapping[str, Any]) -> None:
    """Raise where a replay differs, as its *report* says.

    Raises:
        ReplayDiffers: with the report as its facts.
    """
    if report["same"] != report["rows"]:
        raise ReplayDiffers(report["run"], report)
