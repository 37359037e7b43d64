"""Replaying: the predictions of a run are made again and compared with the published ones."""

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

from lakescore import executor, provenance, scanning, slicing, tables
from lakescore.arrow import arrow_type, collected, legible, struct
from lakescore.assignment import assign_all, assign_by_segment
from lakescore.config import ScoreJob, Segments
from lakescore.errors import InputContractError, IntegrityError, RegistryError
from lakescore.logs import NotEligible
from lakescore.registry import resolve_all
from lakescore.slicing import SLICE
from lakescore.trust import DigestDiffers
from lakescore.wording import counted, listed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lakescore.assignment import Assignment
    from lakescore.config import ReplayJob
    from lakescore.provenance import CommitRecord, Pin
    from lakescore.runner import Runner
    from lakescore.scanning import Selection
    from lakescore.scoring import Execution
    from lakescore.trust import Trust

_EXAMPLES = 5
_MOST_ROWS_HERE = 2_000_000
"""If more rows were published, Spark reads them."""
_ROWS_A_TASK = 500_000
"""About the number of rows that a task of Spark compares; it must hold all rows of a key."""


class ReplayDiffers(IntegrityError):
    """A replay of a run gives other predictions than the run published."""

    def __init__(self, run: str, counts: Mapping[str, Any]) -> None:
        example = counts["examples"][0] if counts["examples"] else "none"
        super().__init__(
            f"the replay differs from run {run}: of {counted(counts['rows'], 'row')}, "
            f"{counts['same']} the same, {counts['different']} different, "
            f"{counts['only_published']} only in the table, {counts['only_replayed']} only in the "
            f"replay; an example: {example}; check if the model depends on more than its input, or "
            "set a tolerance"
        )
        self.facts = {**counts, "status": "different", "run": run}


class RunNotPublished(InputContractError):
    """No commit of the table belongs to that run."""

    def __init__(self, address: str, run: str) -> None:
        super().__init__(
            f"no commit in the log of {address} belongs to run {run}; look for a scoring_run_id in "
            "the table's rows; if the log no longer has the commit, keep it longer "
            "(delta.logRetentionDuration)"
        )


class RunNotOne(InputContractError):
    """The slices of a run were scored with different inputs or settings."""

    def __init__(self, run: str, first: Sequence[str], others: Sequence[str]) -> None:
        super().__init__(
            f"run {run} scored {listed(first)} with other inputs or settings than "
            f"{listed(others)}, so it cannot be replayed as one run; give each run its own id"
        )


class KeysNotPublished(InputContractError):
    """The rows of a run have no keys that identify them."""

    def __init__(self, address: str, run: str) -> None:
        super().__init__(
            f"run {run} wrote no keys into {address} (passthrough: none), so its rows cannot be "
            "compared with the rows of a replay"
        )


@dataclass(frozen=True)
class Recorded:
    """The rows that a run published, and the inputs of the run."""

    run_values: Mapping[str, str]
    """The values, by column, that all rows of the run hold, and no other rows."""
    parts: tuple[Selection, ...]
    """By version of the table, the slices of the run. They can also hold rows of other runs."""
    job: ScoreJob
    """The job, with the version and the input that the run used."""
    pins: tuple[Pin, ...]
    """The versions that the run used: one without a segment, or one a segment."""

    def published(self, names: Sequence[str], runner: Runner) -> DataFrame | pa.Table:
        """Return columns of the rows that the run published, with their slice as `SLICE`.

        Args:
            names: the columns.
            runner: the runner. If Spark runs, or has to start, the rows are a frame of Spark.
        """
        try:
            if runner.is_started:
                raise NotEligible("it runs already")  # noqa: TRY301 - as all others
            read = [*names, *self.run_values]
            tables_read = [scanning.read(part, read, _MOST_ROWS_HERE) for part in self.parts]
        except NotEligible as not_eligible:
            runner.start(f"Spark reads the published rows: {not_eligible}")
            of_run = reduce(and_, [F.col(name) == value for name, value in self.run_values.items()])
            frames = [part.rows.where(of_run) for part in self.parts]
            wanted = [F.col(f"`{name}`") for name in names]
            return reduce(DataFrame.unionByName, [rows.select(wanted) for rows in frames])
        rows = pa.concat_tables(tables_read, promote_options="permissive")
        for name, value in self.run_values.items():
            rows = rows.filter(pc.equal(rows.column(name), value))
        return rows.select(list(names))

    def assign(self, trust: Trust) -> Assignment:
        """Pin the versions that the run used again.

        Raises:
            DigestDiffers: the files of a version differ from the files that the run used.
            Also the errors of `registry.resolve`.
        """
        uris = list(dict.fromkeys(pin.uri for pin in self.pins if pin.uri is not None))
        resolved = resolve_all(uris, trust=trust)
        models = []
        for uri in uris:
            if isinstance(model := resolved[uri], RegistryError):
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


def recorded(runner: Runner, config: ReplayJob) -> Recorded:
    """Read the commit metadata of the run.

    Raises:
        RunNotPublished: the log holds no commit of the run, or holds it no longer.
        RunNotOne: slices of the run were scored with different inputs or settings.
        KeysNotPublished: the rows of the run have no keys that identify them.
    """
    address = config.output.address
    newest: dict[tuple[str, str], tuple[int, CommitRecord]] = {}  # by slice and model's name
    for version, record in provenance.records(tables.commits(runner, address)):
        for part in record.slices if record.settings is not None else ():
            if part.run_id == config.run:
                newest.setdefault((part.name, record.model_name), (version, record))
    if not newest:
        raise RunNotPublished(address, config.run)
    first = newest[min(newest)][1]
    pins = {pin.segment: pin for _, record in newest.values() for pin in record.pins}
    differing = [
        place
        for place, (_, record) in newest.items()
        if record.inputs != first.inputs or any(pins[pin.segment] != pin for pin in record.pins)
    ]
    if differing:
        same = sorted(newest.keys() - set(differing))
        slices = [
            [f"{name} of {model}" for name, model in part] for part in (same, sorted(differing))
        ]
        raise RunNotOne(config.run, *slices)
    names = sorted(name for name, _ in newest)
    versions = {name: version for (name, _), (version, _) in newest.items()}
    if (first.settings or {}).get("passthrough") == "none":
        raise KeysNotPublished(address, config.run)
    parts = [
        replace(
            slicing.select(
                tables.snapshot(runner, address, version),
                "slice",
                [name for name in names if versions[name] == version],
            ),
            within={"model_name": (first.model_name,)},
        )
        for version in sorted(set(versions.values()))
    ]
    run_values = {"scoring_run_id": config.run, "model_name": first.model_name}
    job = _read_job(first, config, names)
    return Recorded(run_values, tuple(parts), job, tuple(pins.values()))


def _read_job(record: CommitRecord, config: ReplayJob, slices: Sequence[str]) -> ScoreJob:
    """Return the job that a commit's *record* is of, with its input pinned."""
    settings = dict(record.settings or {})
    if config.environment is not None:
        settings["environment"] = config.environment
    address = "path" if "/" in record.input_table else "table"
    family = {"by": record.segment_by, "name": record.model_reference}
    return ScoreJob.model_validate(
        {
            **settings,
            "model": record.pins[0].uri if record.segment_by is None else family,
            "input": {address: record.input_table, "version": record.input_version},
            "output": config.output,
            "slices": list(slices) if settings.get("slice_by") else None,
        }
    )


def compare(execution: Execution, recorded: Recorded, *, tolerance: float) -> dict[str, Any]:
    """Score the rows of the run again, and return the differences from its predictions.

    Args:
        execution: scores the rows.
        recorded: the run.
        tolerance: as for `reconcile`.

    Returns:
        The report of `reconcile`.
    """
    keys, planned = recorded.job.id_columns, execution.planned
    # This comes first, since it can start Spark, which then also scores.
    published = recorded.published([*keys, SLICE, *planned.decisive], planned.runner)
    with execution.cached() as replayed:
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
    """Return the differences between replayed and published predictions.

    Args:
        published: *keys*, *columns* and `SLICE`.
        replayed: the same columns, as a frame or a table like *published*.
        keys: columns that identify a row in its slice. Rows with equal keys are matched by their
            predictions.
        columns: the predictions.
        tolerance: the largest difference of two numbers that count as the same, as a part of the
            larger one.

    Returns:
        `rows`, `same`, `different`, `only_published`, `only_replayed`, and `examples`, which have
        `key`, `slice`, and the predictions `published` and `replayed`, null if the row is missing.
    """
    named = [*keys, SLICE, *columns]
    options = {"keys": len(keys) + 1, "tolerance": tolerance, "most": _EXAMPLES}
    if isinstance(published, pa.Table):
        rows = _reconcile_here(published, replayed, named, options)
    else:
        rows = _reconcile_in_spark(published, replayed, named, options)
    is_count = rows.column(executor.COUNTS.names[0]).is_valid()
    counts = rows.filter(is_count).select(executor.COUNTS.names)
    same, different, only_published, only_replayed = (sum(c.to_pylist()) for c in counts.columns)
    pairs = legible(rows.filter(pc.invert(is_count)).slice(0, _EXAMPLES)).to_pylist()
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


def _reconcile_here(
    published: pa.Table, replayed: pa.Table, named: Sequence[str], options: Mapping[str, Any]
) -> pa.Table:
    names = [f"c{n}" for n in range(len(named))]
    sides = [rows.select(named).rename_columns(names) for rows in (published, replayed)]
    kinds = pa.unify_schemas([side.schema for side in sides], promote_options="permissive")
    marked = [
        side.cast(kinds).append_column(executor.LEFT, pa.repeat(pa.scalar(is_left), side.num_rows))
        for side, is_left in zip(sides, (True, False), strict=True)
    ]
    batches = executor.reconcile(kinds, **options)(iter(pa.concat_tables(marked).to_batches()))
    return pa.Table.from_batches(batches)


def _reconcile_in_spark(
    published: DataFrame, replayed: DataFrame, named: Sequence[str], options: Mapping[str, Any]
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
    # Spark's adaptive execution does not change an explicit number, nor the memory of tasks.
    repartitioned = both.repartition(partitions, *kinds.names[: options["keys"]])
    schema = struct(executor.reconciled(kinds, options["keys"]))
    return collected(repartitioned.mapInArrow(executor.reconcile(kinds, **options), schema))


def require_same(report: Mapping[str, Any]) -> None:
    """Raise an error if the *report* of a replay shows differences.

    Raises:
        ReplayDiffers: rows differ; the report is in the error's facts.
    """
    if report["same"] != report["rows"]:
        raise ReplayDiffers(report["run"], report)
